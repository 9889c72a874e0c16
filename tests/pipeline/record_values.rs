//! Tests that records keep their values: ids, numbers, texts that look like numbers, and what comes twice.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::kit::{Ran, TestFolder, results};

/// Ingests a file of records with the fields `no` and `words` into the collection `things`.
fn ingest(place: &TestFolder, file: &str) -> Ran {
    let shape = ["--as", "records", "--id", "no", "--text", "words", "--collection", "things"];
    place.run([&["ingest", file], &shape[..], &["--json", "--progress", "none"]].concat())
}

fn search(place: &TestFolder, filters: &[&str]) -> Ran {
    let mut args = vec!["search", "--collection", "things", "--json", "-k", "50", "--mode", "full-text"];
    args.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    args.push("thing");
    place.run(args)
}

/// Returns the sorted ids of the records that a search with these filters finds.
fn found(place: &TestFolder, filters: &[&str]) -> Vec<String> {
    let ran = search(place, filters);
    let id = |hit: &Value| hit["metadata"]["no"].to_string().trim_matches('"').to_owned();
    let mut ids: Vec<String> = ran.json().iter().flat_map(results).map(|hit| id(&hit)).collect();
    ids.sort();
    ids
}

const THINGS: &str = r#"{"no":"a","words":"thing","post":"00501","order":9007199254740993,"code":"7E2","v":"2.10","who":"Ruiz, Eva"}
{"no":"b","words":"thing","post":"501","order":9007199254740992,"code":"700","v":"2.1","who":"Ruiz"}
{"no":"c","words":"thing","post":501,"order":"9007199254740993","code":7E2,"v":2.1,"who":"Eva"}
{"no":"0d","words":"thing","long":314159265358979323846264338327,"tel":"+0033144","tags":["x=1","y"],"a=b":{"c d":true}}
{"no":36893488147419103232,"words":"thing","long":314159265358979323846264338328,"price":19.90}
{"no":"6 ","words":"thing","day":"2024-02-29","price":20}
"#;

#[test]
fn filters_find_values_as_they_are_written() {
    let place = TestFolder::new();
    std::fs::write(place.path().join("things.jsonl"), THINGS).unwrap();
    let ran = ingest(&place, "things.jsonl");
    assert_eq!(ran.code(0).summary()["records"]["new"], 6, "{}", ran.out);
    let all = ["0d", "36893488147419103232", "6 ", "a", "b", "c"];
    for (filters, expected) in [
        (&["metadata.post=00501"][..], &["a"][..]),
        (&["metadata.post=501"], &["b", "c"]),
        (&["metadata.post=\"501\""], &["b"]),
        (&["metadata.post!=501"], &["0d", "36893488147419103232", "6 ", "a"]),
        (&["metadata.order=9007199254740993"], &["a", "c"]),
        (&["metadata.order='9007199254740993'"], &["c"]),
        (&["metadata.order=9007199254740992"], &["b"]),
        (&["metadata.order>9007199254740992"], &["a"]),
        (&["metadata.code=7E2"], &["a", "c"]),
        (&["metadata.code=700"], &["b", "c"]),
        (&["metadata.v=2.10"], &["a"]),
        (&["metadata.v=2.1"], &["b", "c"]),
        (&["metadata.who=Ruiz, Eva"], &["b", "c"]),
        (&["metadata.who=\"Ruiz, Eva\""], &["a"]),
        (&["metadata.who='Ruiz, Eva', Eva"], &["a", "c"]),
        (&["metadata.long=314159265358979323846264338327"], &["0d"]),
        (&["metadata.long>=314159265358979323846264338328"], &["36893488147419103232"]),
        (&["metadata.long=3.14159265358979323846264338327e29"], &[]),
        (&["metadata.tel=+0033144"], &["0d"]),
        (&["metadata.tags=\"x=1\""], &["0d"]),
        (&["metadata.\"a=b\".\"c d\"=true"], &["0d"]),
        (&["metadata.price=19.90"], &["36893488147419103232"]),
        (&["metadata.price>=19.9", "metadata.price<20.0"], &["36893488147419103232"]),
        (&["metadata.day>2024-02-28"], &["6 "]),
        (&["document=36893488147419103232"], &["36893488147419103232"]),
        (&["document=0d"], &["0d"]),
        (&["document='6 '"], &["6 "]),
        (&["metadata.v=2.10 or (metadata.price>=20 and not metadata.day^=2023)"], &["6 ", "a"]),
        (&["not document=a and not document=b, c"], &["0d", "36893488147419103232", "6 "]),
        (&["metadata.nowhere!=1"], &all),
    ] {
        assert_eq!(found(&place, filters), expected, "{filters:?}");
    }
    // All digits come back.
    let out = search(&place, &["metadata.long>0"]).out;
    for digits in ["314159265358979323846264338327", "314159265358979323846264338328", "36893488147419103232", "19.90"]
    {
        assert!(out.contains(&format!(":{digits},")) || out.contains(&format!(":{digits}}}")), "{digits}: {out}");
    }
    let ran = search(&place, &["metadata.who=\"Ruiz"]);
    let message = "--filter 'metadata.who=\"Ruiz', column 14: this quote is not closed";
    assert!(ran.code(2).err.contains(message), "{}", ran.err);
    let ran = search(&place, &["metadata.who=Ruiz Eva,nobody"]);
    assert!(ran.code(1).out.contains("\"results\":[]"), "{}", ran.out);
    let shown = place.run(["search", "--collection", "things", "--filter", "metadata.who=x,y", "thing"]);
    assert!(shown.code(1).err.contains("commas in a filter separate alternatives"), "{}", shown.err);
}

#[test]
fn paths_with_commas_are_found() {
    let place = TestFolder::new();
    let names = ["plan, draft & 50%.md", "plan.md"];
    for name in names {
        place.write(name, "# Plan\n\nA lighthouse on the harbour wall.\n");
    }
    place.ingest(&[]).code(0);
    let sources = |filter: &str| -> Vec<String> {
        let ran = place.run(["search", "--json", "--filter", filter, "lighthouse"]);
        let name = |hit: Value| hit["source"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        ran.json().iter().flat_map(results).map(name).collect()
    };
    assert_eq!(sources("source=\"docs/plan, draft & 50%.md\""), [names[0]]);
    assert_eq!(sources("source='docs/plan, draft & 50%.md' and kind=text"), [names[0]]);
    assert_eq!(sources("source=docs/plan.md, docs/other.md"), [names[1]]);
}

/// Returns the lines of all notes of a run, and the text of each.
fn notes(summary: &Value) -> Vec<(u64, String)> {
    let notes = summary["records"]["notes"].as_array().cloned().unwrap_or_default();
    notes.iter().map(|note| (note["line"].as_u64().unwrap(), note["text"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn of_records_with_the_same_id_the_last_one_stays_whatever_the_run() {
    let place = TestFolder::new();
    let line = |no: &str, words: &str| format!("{{\"no\":{no},\"words\":\"{words}\"}}\n");
    // The repeated ids are far apart, so that the records are stored in different steps.
    let mut text = [line("1", "thing first"), line("\"x\"", "thing only"), line("2", "thing one")].concat();
    text.extend((0..5_000).map(|n| line(&format!("\"f{n}\""), "filler")));
    text += &[line("\"1\"", "thing second"), line("2", "thing two"), "[]\n".to_owned()].concat();
    text += &[line("1", "thing third"), "{\"no\":2}\n".to_owned()].concat();
    std::fs::write(place.path().join("things.jsonl"), &text).unwrap();
    let ran = ingest(&place, "things.jsonl");
    let summary = ran.code(3).summary();
    assert_eq!(
        (&summary["records"]["new"], &summary["records"]["stored"]),
        (&json!(5_003), &json!(5_003)),
        "{summary}"
    );
    let lines: Vec<u64> = notes(&summary).iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [5_004, 5_005, 5_007], "{summary}");
    assert!(notes(&summary)[2].1.starts_with("the id comes again after line 5004; "), "{summary}");
    let texts = || {
        let ran = search(&place, &["metadata.no=1,2,x"]);
        let text = |hit: Value| hit["text"].as_str().unwrap().to_owned();
        let mut texts: Vec<String> = ran.code(0).json().iter().flat_map(results).map(text).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(), ["thing only", "thing third", "thing two"]);
    for _ in 0..2 {
        let summary = ingest(&place, "things.jsonl").code(3).summary();
        let counts = ["new", "changed", "stored", "unchanged"].map(|name| summary["records"][name].as_u64().unwrap());
        assert_eq!(counts, [0, 0, 0, 5_003], "{summary}");
        assert_eq!(summary["tokens"], 0, "{summary}");
    }
    assert_eq!(texts(), ["thing only", "thing third", "thing two"]);
    // The summary for people names the place as well.
    let shape = ["--as", "records", "--id", "no", "--text", "words", "--collection", "things", "--progress", "none"];
    let shown = place.run([&["ingest", "things.jsonl"], &shape[..]].concat());
    assert!(shown.code(3).out.contains("things.jsonl:5007  the id comes again after line 5004"), "{}", shown.out);
    let estimate = place.run([&["estimate", "things.jsonl", "--json"], &shape[..8]].concat());
    assert_eq!(estimate.code(3).json()[0]["records"], 5_003, "{}", estimate.out);
}

#[test]
fn the_last_file_and_the_last_value_of_a_key_count() {
    let place = TestFolder::new();
    let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
    write("old.jsonl", "{\"no\":1,\"words\":\"thing of old\"}\n{\"no\":2,\"words\":\"thing\",\"n\":1,\"n\":2}\n");
    write("recent.jsonl", "{\"no\":1,\"words\":\"draft\",\"words\":\"thing of today\"}\n");
    let shape = ["--as", "records", "--id", "no", "--text", "words", "--collection", "things"];
    let files = ["old.jsonl", "recent.jsonl", "./old.jsonl"];
    let run = || place.run([&["ingest"], &files[..], &shape[..], &["--json", "--progress", "none"]].concat());
    let summary = run().code(0).summary();
    let expected = [
        (2, "the key `n` comes twice; its last value is stored"),
        (1, "the key `words` comes twice; its last value is stored"),
        (1, "the id comes again after old.jsonl:1; of all records with the same id, the last one is stored"),
    ];
    assert_eq!(notes(&summary), expected.map(|(line, text)| (line, text.to_owned())));
    let ran = search(&place, &[]);
    let texts: Vec<Value> = ran.json().iter().flat_map(results).map(|hit| hit["text"].clone()).collect();
    assert!(texts.len() == 2 && texts.contains(&json!("thing of today")), "{texts:?}");
    assert_eq!(found(&place, &["metadata.n=2"]), ["2"]);
    assert_eq!(run().code(0).summary()["records"]["unchanged"], 2);
}

#[test]
fn many_notes_are_counted() {
    let place = TestFolder::new();
    let text: String = (0..300).map(|n| format!("{{\"no\":\"i{}\",\"words\":\"thing {n}\"}}\n", n % 50)).collect();
    std::fs::write(place.path().join("things.jsonl"), text).unwrap();
    let summary = ingest(&place, "things.jsonl").code(0).summary();
    assert_eq!(summary["records"]["new"], 50, "{summary}");
    let notes = notes(&summary);
    assert_eq!(notes.len(), 101);
    assert_eq!(notes[100], (0, "150 further notes on repeated ids or keys are not listed".to_owned()));
}

#[test]
fn compressed_records_are_read_up_to_the_damage() {
    let place = TestFolder::new();
    let compressed = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let (first, rest) = THINGS.split_at(THINGS.find("{\"no\":\"0d\"").unwrap());
    let whole = [compressed(first), compressed(rest)].concat();
    std::fs::write(place.path().join("things.jsonl.gz"), &whole).unwrap();
    assert_eq!(ingest(&place, "things.jsonl.gz").code(0).summary()["records"]["new"], 6);
    assert_eq!(found(&place, &["metadata.long=314159265358979323846264338327"]), ["0d"]);
    std::fs::write(place.path().join("cut.ndjson.gz"), &whole[..compressed(first).len() + 30]).unwrap();
    let summary = ingest(&place, "cut.ndjson.gz").code(3).summary();
    let refused = &summary["records"]["refused"];
    assert_eq!((refused.as_array().unwrap().len(), &refused[0]["line"]), (1, &json!(4)), "{summary}");
    let reason = refused[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("the compressed data end too early"), "{reason}");
}
