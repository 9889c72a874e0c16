//! Tests the commands that no other file covers.

use crate::kit::{TestFolder, results};

fn place() -> TestFolder {
    let place = TestFolder::new();
    place.write(
        "leases.md",
        "# Leases\n\n## Fencing\n\nEvery write carries the epoch of its lease, and the store refuses an older epoch.\n\n\
         ## Renewal\n\nA heartbeat renews the lease before it ends.\n",
    );
    place.write("cats.txt", "Cats sleep for most of the day.\n\u{1f431} Caf\u{e9}s serve coffee.\n");
    place.ingest(&[]).code(0);
    place
}

#[test]
fn search_answers_with_the_passage_and_its_place() {
    let place = place();
    let ran = place.run(["search", "--json", "-k", "1", "which", "epoch", "does", "the", "store", "refuse"]);
    ran.code(0);
    let hit = results(&ran.json()[0])[0].clone();
    assert!(hit["source"].as_str().unwrap().ends_with("leases.md"), "{hit}");
    assert!(hit["text"].as_str().unwrap().contains("refuses an older epoch"));
    let source = std::fs::read_to_string(place.docs().join("leases.md")).unwrap();
    let (start, end) = (hit["span"]["start"].as_u64().unwrap() as usize, hit["span"]["end"].as_u64().unwrap() as usize);
    let verbatim: String = source.chars().skip(start).take(end - start).collect();
    assert_eq!(hit["text"], verbatim, "the span must select the text");
    let plain = place.run(["search", "--color", "always", "epoch"]);
    plain.code(0);
    assert!(plain.out.contains("\x1b["), "matched terms must be highlighted");
    place.run(["search", "--mode", "full-text", "zebra"]).code(1);
}

#[test]
fn filters_and_many_queries_at_once() {
    let place = place();
    let ran = place.run(["search", "--json", "--source", "docs/cats.txt", "lease", "coffee"]);
    ran.code(0);
    assert!(results(&ran.json()[0]).iter().all(|h| h["source"].as_str().unwrap().ends_with("cats.txt")));
    std::fs::write(place.path().join("queries.txt"), "lease epoch\n{\"question\": \"coffee\"}\n").unwrap();
    let ran = place.run(["search", "--json", "-k", "2", "--queries", "queries.txt"]);
    ran.code(0);
    let answers = ran.json();
    assert_eq!(answers.len(), 2);
    assert_eq!((&answers[0]["question"], &answers[1]["question"]), (&"lease epoch".into(), &"coffee".into()));
    assert!(results(&answers[1])[0]["source"].as_str().unwrap().ends_with("cats.txt"));
    let ran = place.run(["search", "--filter", "colour=red", "x"]);
    ran.code(2);
    assert!(ran.err.contains("colour"), "{}", ran.err);
}

#[test]
fn status_and_audit_tell_a_documents_story() {
    let place = place();
    let ran = place.run(["status"]);
    ran.code(0);
    let ran = place.run(["status", "docs/cats.txt"]);
    ran.code(0);
    assert!(ran.out.contains("COMPLETED") || ran.out.contains("completed"), "{}", ran.out);
    let ran = place.run(["audit", "docs/cats.txt", "--json"]);
    ran.code(0);
    let events: Vec<String> = ran.json().iter().map(|e| e["event_type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events.first().map(String::as_str), Some("DOCUMENT_RECEIVED"), "{events:?}");
    assert_eq!(events.iter().filter(|e| *e == "STAGE_COMPLETED").count(), 5, "{events:?}");
    assert!(events.iter().any(|e| e == "DOCUMENT_COMPLETED"));
    let ran = place.run(["audit", "docs/dogs.txt"]);
    ran.code(1);
    assert!(ran.err.contains("dogs.txt"), "{}", ran.err);
}

#[test]
fn a_stage_runs_alone_for_a_look() {
    let place = TestFolder::new();
    place.write("a.pdf", docweir_testkit::with_text(&["A page about herons."]));
    let text = place.run(["stage", "extract", "docs/a.pdf"]);
    text.code(0);
    assert!(text.out.contains("herons"), "{}", text.out);
    for stage in ["extract", "chunk", "enrich", "embed"] {
        let ran = place.run(["stage", stage, "docs/a.pdf", "--json"]);
        ran.code(0);
        assert!(!ran.json().is_empty(), "{stage}");
    }
    assert!(!place.state().exists(), "`stage` must not create a state folder");
}

#[test]
fn retry_runs_a_document_again_from_a_stage() {
    let place = place();
    place.run(["retry", "docs/cats.txt", "--from", "chunk"]).code(0);
    let ran = place.ingest(&[]);
    ran.code(0);
    assert_eq!(ran.summary()["completed"], 1);
    place.assert_complete(2);
}

#[test]
fn an_unknown_collection_is_named_with_those_that_exist() {
    let place = place();
    let commands: [&[&str]; 2] =
        [&["search", "apples", "--collection", "nope"], &["store", "info", "--set", "state.collection=nope"]];
    for command in commands {
        let ran = place.run(command);
        ran.code(1);
        assert!(ran.err.contains("has no collection `nope`; it has `chunks` (`state.collection`)"), "{}", ran.err);
    }
}

#[test]
fn without_an_index_the_commands_say_how_to_make_one() {
    let place = TestFolder::new();
    for args in [&["search", "x"][..], &["status"], &["quarantine", "list"]] {
        let ran = place.run(args);
        ran.code(1);
        assert!(ran.err.contains("docweir ingest"), "{}", ran.err);
    }
}

#[test]
fn vectors_of_two_models_are_never_mixed() {
    let place = place();
    let ran = place.ingest(&["--set", "embed.options.hashed_dimensions=64"]);
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.err.contains("384") && ran.err.contains("64"), "{}", ran.err);
    place.assert_complete(2);
}

#[test]
fn a_newer_state_folder_is_left_alone() {
    let place = place();
    let format = std::fs::read_to_string(place.state().join("format")).unwrap();
    std::fs::write(place.state().join("format"), format.replace('1', "999")).unwrap();
    let ran = place.run(["status"]);
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.err.contains("newer"), "{}", ran.err);
}

#[test]
fn the_configuration_shows_where_each_value_comes_from() {
    let place = TestFolder::new();
    std::fs::write(place.path().join("docweir.toml"), "[search]\ntop = 7\n").unwrap();
    let ran = place.run(["config", "print", "--changed"]);
    ran.code(0);
    assert!(ran.out.contains("top = 7") && ran.out.contains("docweir.toml:2"), "{}", ran.out);
    let whole = place.run(["config", "print"]);
    whole.code(0);
    let table: toml::Table = toml::from_str(&whole.out).expect("config print is TOML");
    assert_eq!(table["search"]["top"].as_integer(), Some(7));
    place.run(["completions", "bash"]).code(0);
    let help = place.run(["ingest", "--help"]);
    help.code(0);
    assert!(help.out.contains("Examples"), "{}", help.out);
}
