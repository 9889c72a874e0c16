//! Tests records: live calls, batches, changes and failures. A record that fails must not affect the others.

use std::fmt::Write;
use std::time::Duration;

use docweir_mock_provider::{Act, vector};
use serde_json::json;

use crate::kit::{Ran, results};
use crate::shop::*;

#[test]
fn what_is_refused_for_itself_fails_alone_and_can_be_tried_again() {
    let shop = batches(vec![outcome(Act::ErrorLines).share(0.1).code(400).times(1)]);
    shop.records(20, plain);
    let ran = shop.ingest_records(&["--wait"]);
    assert_eq!(ran.code(3).summary()["records"]["failed"], 2, "{}", ran.out);
    assert_eq!((&shop.items("products")["success"], &shop.items("products")["failed"]), (&json!(18), &json!(2)));
    // A second ingest does not retry the failed records, but `batch retry` does.
    let again = shop.ingest_records(&["--wait"]);
    assert_eq!(again.code(3).summary()["records"]["still_failed"], 2, "{}", again.out);
    assert_eq!(shop.items("products")["failed"], 2);
    shop.run(&["batch", "retry"]).code(0);
    shop.run(&["batch", "submit", "--wait", "--progress", "none"]).code(0);
    shop.assert_rows(20, plain);
    shop.assert_ledger_agree();
}

#[test]
fn a_bad_record_costs_its_line_and_no_other() {
    let shop = batches(Vec::new());
    shop.records(3, plain);
    let path = shop.place.path().join("products.jsonl");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{{\"sku\": 7}}\nnonsense\n{good}[1]\n{{\"sku\":\"n\",\"description\":\" \"}}\n"))
        .unwrap();
    let ran = shop.ingest_records(&["--wait"]);
    let summary = ran.code(3).summary();
    let lines: Vec<_> = summary["records"]["refused"].as_array().unwrap().iter().map(|r| r["line"].clone()).collect();
    assert_eq!(lines, [json!(1), json!(2), json!(6)], "{summary}");
    assert_eq!((&summary["records"]["new"], &summary["records"]["noise"]), (&json!(4), &json!(1)));
    shop.assert_rows(3, plain);
}

#[test]
fn what_changed_or_was_deleted_since_it_was_sent_is_not_stored() {
    let shop = BatchTest::new(|o| o.pace.validate = Duration::from_secs(5));
    shop.records(20, plain);
    shop.ingest_records(&[]).code(0);
    // Two records change after they were sent, and a third is deleted.
    let changed = |i: usize| if i < 2 { format!("quite another thing {i}") } else { plain(i) };
    shop.records(20, changed);
    shop.ingest_records(&[]).code(0);
    shop.run(&["delete", "--collection", "products", "P-0005"]).code(0);
    let ran = shop.run(&["batch", "poll", "--wait", "--json", "--progress", "none"]);
    let summary = ran.code(0).summary();
    assert_eq!(summary["batches"]["stale"], 3, "{summary}");
    let rows = shop.rows("products");
    assert_eq!(rows.len(), 19);
    assert!(!rows.contains_key("P-0005"));
    assert_eq!(rows["P-0001"].0, changed(1));
    shop.assert_ledger_agree();
    // A stored record disappears when it is deleted, and reappears when it is ingested again.
    shop.run(&["delete", "--collection", "products", "P-0006"]).code(0);
    assert_eq!(shop.rows("products").len(), 18);
    shop.ingest_records(&["--wait"]).code(0);
    shop.assert_rows(20, changed);
}

/// Checks that the text of a deleted record leaves the store of records at once, also while another process has the
/// store open. Earlier versions of the index keep the text until `[retention]` or `store gc` deletes them.
#[test]
fn the_text_of_a_deleted_record_leaves_the_store_at_once() {
    let shop = batches(Vec::new());
    let text = |i: usize| if i == 5 { "xyzzy-plugh".to_owned() } else { plain(i) };
    shop.records(20, text);
    shop.ingest_records(&["--wait"]).code(0);
    let holders = || {
        let holds =
            |path: &std::path::PathBuf| std::fs::read(path).unwrap().windows(11).any(|window| window == b"xyzzy-plugh");
        let found = crate::kit::files(&shop.place.state()).into_iter().filter(holds);
        found.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let mut serve = shop.spawn(&["serve", "--progress", "none"]);
    crate::kit::eventually("the service has the store open", || shop.place.state().join("paid.db-wal").exists());
    assert!(holders().iter().any(|name| name.starts_with("paid.db")), "{:?}", holders());
    let ran = shop.run(&["delete", "--collection", "products", "P-0005"]);
    assert!(!ran.code(0).err.contains("stay in the log"), "{}", ran.err);
    let left = holders();
    assert!(!left.iter().any(|name| name.starts_with("paid.db")), "{left:?}");
    assert!(serve.is_running());
    drop(serve);
    shop.run(&["compact", "--all", "--set", "state.collection=products"]).code(0);
    shop.run(&["store", "gc", "--all", "--set", "state.collection=products"]).code(0);
    assert_eq!(holders(), Vec::<String>::new());
}

#[test]
fn what_saves_little_is_embedded_at_once() {
    let shop = batches(Vec::new());
    shop.place.generate(3);
    let auto = ["--wait", "--set", "embed.mode=auto", "--json", "--progress", "none"];
    shop.run(&[&["ingest", "docs"], &auto[..]].concat()).code(0);
    shop.place.assert_complete(3);
    let charges = shop.mock.charges();
    assert!(charges.batch.requests == 0 && charges.live.requests > 0, "{charges:?}");
    // If a batch saves enough, `auto` uses a batch.
    shop.records(20, plain);
    shop.run(&[RECORDS, &["--wait", "--set", "embed.mode=auto", "--set", "batch.min_saving_usd=0"]].concat()).code(0);
    assert_eq!(shop.mock.charges().batch.requests, 20);
    shop.assert_rows(20, plain);
    shop.assert_ledger_agree();
}

#[test]
fn receipts_become_lines_and_words_that_are_found_by_what_is_known_of_them() {
    let shop = batches(Vec::new());
    let word = |id: usize, text: &str, x: f64| {
        let bounding_box = json!({"x": x, "y": 0.5, "width": 0.1, "height": 0.03});
        json!({"word_id": id, "text": text, "bounding_box": bounding_box, "confidence": 0.9})
    };
    let mut lines = String::new();
    for n in 0..30 {
        let words = [word(1, "TOTAL", 0.1), word(2, &format!("{n}.50"), 0.7), word(3, "*", 0.9)];
        let bounding_box = json!({"x": 0.1, "y": 0.5, "width": 0.8, "height": 0.03});
        let text = format!("TOTAL {n}.50 *");
        let line = json!({"line_id": 1, "text": text, "bounding_box": bounding_box, "confidence": 0.9, "words": words});
        let image = format!("00000000-0000-4000-8000-{n:012}");
        let receipt = json!({"image_id": image, "receipt_id": 1, "source": format!("shop/{}", n % 3), "lines": [line]});
        writeln!(lines, "{receipt}").unwrap();
    }
    std::fs::write(shop.place.path().join("receipts.jsonl"), lines).unwrap();
    let ingest = ["ingest", "receipts.jsonl", "--as", "receipts", "--wait", "--json", "--progress", "none"];
    let summary = shop.run(&ingest).code(0).summary();
    assert_eq!(summary["records"]["stored"], 90, "{summary}");
    assert_eq!(summary["records"]["noise"], 30);
    assert_eq!((shop.rows("receipt_lines").len(), shop.rows("receipt_words").len()), (30, 60));
    let key = "IMAGE#00000000-0000-4000-8000-000000000007#RECEIPT#00001#LINE#00001#WORD#00002";
    let input = "<TARGET>7.50</TARGET> <POS>middle-right</POS> <CONTEXT>TOTAL *</CONTEXT>";
    let (text, made) = &shop.rows("receipt_words")[key];
    let near: f32 = made.iter().zip(vector(input, DIMENSIONS)).map(|(a, b)| a * b).sum();
    assert!(text == "7.50" && near > 0.999, "{text} {near}");
    let search = |more: &[&str]| {
        let base = ["search", "--collection", "receipt_words", "--json", "-k", "60", "total"];
        let ran = shop.run(&[&base[..], more].concat());
        ran.json().iter().flat_map(results).collect::<Vec<_>>()
    };
    let found = search(&["--filter", "metadata.source=shop/1", "--filter", "metadata.left=<EDGE>"]);
    assert_eq!(found.len(), 10, "{found:?}");
    assert!(found.iter().all(|hit| hit["text"] == "TOTAL"), "{found:?}");
    // A second run finds nothing new and pays nothing.
    let charged = shop.mock.charges().nanodollars();
    let summary = shop.run(&ingest).code(0).summary();
    assert_eq!((&summary["records"]["unchanged"], shop.mock.charges().nanodollars()), (&json!(120), charged));
    shop.assert_ledger_agree();
}

#[test]
fn records_need_no_provider() {
    let shop = batches(Vec::new());
    shop.records(40, plain);
    let ran = Ran::of(shop.place.command(RECORDS).output().unwrap());
    let summary = ran.code(0).summary();
    assert_eq!(summary["records"]["stored"], 40, "{summary}");
    assert_eq!(shop.rows("products").len(), 40);
    let search = ["search", "--collection", "products", "--json", "--filter", "metadata.price<=3", "product"];
    let found = Ran::of(shop.place.command(search).output().unwrap());
    assert_eq!(found.json().iter().flat_map(results).count(), 4, "{}", found.out);
    assert_eq!(shop.mock.charges().nanodollars(), 0);
    // Without a provider, batches are refused.
    let mode = shop.place.command([RECORDS, &["--set", "embed.mode=batch"]].concat()).output().unwrap();
    assert!(Ran::of(mode).code(2).err.contains("embed.mode"));
}

#[test]
fn records_that_are_refused_at_once_cost_their_neighbours_nothing() {
    let shop = BatchTest::new(|o| o.limits.tokens_per_input = 100);
    // The provider rejects three texts as too long, although Docweir accepts them. All three are in one call, and two
    // of them are adjacent.
    let text = |i: usize| format!("{} {}", plain(i), "word ".repeat(if [0, 57, 58].contains(&i) { 200 } else { 0 }));
    shop.records(200, text);
    let live = ["--set", "embed.mode=live"];
    let summary = shop.ingest_records(&live).code(3).summary();
    assert_eq!((&summary["records"]["stored"], &summary["records"]["failed"]), (&json!(197), &json!(3)), "{summary}");
    // Only the records that were shortened are embedded.
    shop.records(200, |i| if [0, 57, 58].contains(&i) { plain(i) } else { text(i) });
    let summary = shop.ingest_records(&live).code(0).summary();
    assert_eq!(summary["records"]["stored"], 3, "{summary}");
    let charges = shop.mock.charges();
    assert_eq!(charges.texts_paid_twice(), Vec::<&str>::new());
    assert_eq!(shop.rows("products").len(), 200);
    shop.assert_ledger_agree();
}

/// Checks the id and the vector of each of many records. `DOCWEIR_TEST_ITEMS` sets the number of records (default
/// 2,000).
#[test]
fn many_records_pass_a_few_batches_each_with_its_own_vector() {
    let items = std::env::var("DOCWEIR_TEST_ITEMS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let shop = BatchTest::new(|o| {
        (o.charges_by_text, o.faults) = (false, vec![outcome(Act::Shuffled)]);
        o.limits.enqueued_tokens = 1_000_000_000;
    });
    shop.records(items, plain);
    let limits = ["--set", "batch.record_items=0", "--set", "batch.max_enqueued_tokens=1000000000"];
    let ran = shop.ingest_records(&[&["--wait"], &limits[..]].concat());
    assert_eq!(ran.code(0).summary()["records"]["stored"], items, "{}", ran.out);
    shop.assert_rows(items, plain);
    shop.assert_ledger_agree();
}

#[test]
fn records_that_a_rollback_took_away_are_embedded_again() {
    let shop = batches(Vec::new());
    shop.records(20, plain);
    shop.ingest_records(&["--wait"]).code(0);
    let text = |i: usize| if i < 5 { format!("another text {i}") } else { plain(i) };
    shop.records(30, text);
    shop.ingest_records(&["--wait"]).code(0);
    let collection = ["--set", "state.collection=products"];
    let info = shop.run(&[&["store", "info", "--json"], &collection[..]].concat());
    let version = info.code(0).json()[0]["version"].as_u64().unwrap();
    let ran = shop.run(&[&["store", "rollback", "1"], &collection[..]].concat());
    assert!(ran.code(0).out.contains("15 records") || version > 2, "{}", ran.out);
    shop.ingest_records(&["--wait"]).code(0);
    shop.assert_rows(30, text);
    let verify = shop.run(&[&["store", "verify", "--json"], &collection[..]].concat());
    verify.code(0);
}
