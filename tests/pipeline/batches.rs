//! Tests embedding by batches, with the real binary and a mock provider that speaks OpenAI's protocol.

use std::time::Duration;

use docweir_mock_provider::Act;
use serde_json::json;

use crate::kit::{Ran, eventually, results};
use crate::shop::*;

#[test]
fn documents_are_embedded_by_batches_at_half_the_price() {
    // The provider validates a batch for four seconds, so the run that sends the batch ends before that, even on a
    // busy machine.
    let shop = BatchTest::new(|o| o.pace.validate = Duration::from_secs(4));
    shop.place.generate(12);
    let ingest = ["ingest", "docs", "--json", "--progress", "none"];
    // The run parks the documents, which wait for the batch, and ends.
    let summary = shop.run(&ingest).code(0).summary();
    assert_eq!((&summary["parked"], &summary["completed"]), (&json!(12), &json!(0)), "{summary}");
    assert_eq!(summary["batches"]["submitted"], 1, "{summary}");
    assert_eq!(
        shop.place.records()[0]["parked_reason"].as_str().unwrap().split(" that").next(),
        Some("waits for a batch")
    );
    // The documents continue with the results of the batch.
    let summary = shop.run(&["batch", "poll", "--wait", "--json", "--progress", "none"]).code(0).summary();
    assert_eq!(summary["completed"], 12, "{summary}");
    shop.place.assert_complete(12);
    let charges = shop.mock.charges();
    assert_eq!((charges.live.requests, charges.texts_paid_twice().len()), (0, 0), "{charges:?}");
    assert_eq!(summary["tokens"], charges.batch.tokens);
    assert_eq!((summary["cost_usd"].as_f64().unwrap() * 1e9).round() as u64, charges.batch.nanodollars);
    shop.assert_ledger_agree();
    shop.assert_all_ended();
    // `cost` lists each document. A second ingest pays nothing, because no document has changed.
    let by_document = shop.run(&["cost", "--by", "document", "--json"]);
    assert_eq!(by_document.code(0).json().len(), 12);
    shop.run(&ingest).code(0);
    assert_eq!(shop.mock.charges().batch.tokens, charges.batch.tokens);
    let marker = docweir_testkit::marker(7, 1);
    let found = shop.run(&["search", &marker, "--json"]);
    assert!(found.code(0).out.contains("0007.pdf"), "{}", found.out);
}

#[test]
fn with_wait_one_command_does_it_all() {
    let shop = batches(Vec::new());
    shop.place.generate(5);
    let ran = shop.run(&["ingest", "docs", "--wait", "--progress", "plain"]);
    ran.code(0);
    shop.place.assert_complete(5);
    assert!(ran.err.contains("sent: batch_") && ran.err.contains("completed: batch_"), "{}", ran.err);
    shop.assert_ledger_agree();
}

#[test]
fn vectors_that_come_as_numbers_are_those_that_come_as_base64() {
    let shop = BatchTest::new(|o| o.floats = true);
    shop.records(50, plain);
    shop.ingest_records(&["--wait"]).code(0);
    shop.assert_rows(50, plain);
    shop.assert_ledger_agree();
}

#[test]
fn a_spent_budget_pauses_and_says_so() {
    let shop = batches(Vec::new());
    shop.records(60, plain);
    let ran = shop.run(&[RECORDS, &["--wait", "--set", "budget.run_usd=0.000004"]].concat());
    ran.code(6);
    let told = |what: &str| -> Vec<_> {
        ran.json().iter().filter(|e| e["event"] == what).map(|e| e["text"].to_string()).collect()
    };
    assert!(told("budget_spent").iter().any(|text| text.contains("budget.run_usd")), "{}", ran.out);
    assert!(ran.summary()["budget_spent"].as_str().unwrap().contains("budget.run_usd"), "{}", ran.out);
    let notices = told("notice");
    assert!(notices.iter().any(|n| n.contains("% of the budget")), "{notices:?}");
    assert!(shop.mock.charges().nanodollars() <= 4_000);
    let left = shop.items("products");
    assert_eq!(left["pending"], 0, "all paid results must be imported");
    assert!(left["none"].as_u64().unwrap() > 0 && left["success"].as_u64().unwrap() > 0, "{left}");
    shop.run(&["batch", "submit", "--wait", "--progress", "none"]).code(0);
    shop.assert_rows(60, plain);
    shop.assert_ledger_agree();
}

#[test]
fn documents_wait_for_money_and_go_on_with_it() {
    let shop = batches(Vec::new());
    shop.place.generate(10);
    let ingest = ["ingest", "docs", "--json", "--progress", "none", "--set", "embed.mode=live"];
    let ran = shop.run(&[&ingest[..], &["--set", "budget.day_usd=0.000012"]].concat());
    let summary = ran.code(6).summary();
    let (done, parked) = (summary["completed"].as_u64().unwrap(), summary["parked"].as_u64().unwrap());
    assert!(done > 0 && parked > 0 && done + parked == 10, "{summary}");
    assert!(shop.mock.charges().nanodollars() <= 12_000);
    // A second run on the same day with the same budget spends nothing and loses nothing.
    let again = shop.run(&[&ingest[..], &["--set", "budget.day_usd=0.000012"]].concat());
    assert_eq!(again.code(6).summary()["parked"], parked, "{}", again.out);
    // A budget that is too small for the first call is no success either, and the reason is told.
    let shown = shop.run(&[
        "ingest",
        "docs",
        "--progress",
        "none",
        "--set",
        "embed.mode=live",
        "--set",
        "budget.run_usd=0.000000001",
    ]);
    shown.code(6);
    assert!(shown.out.starts_with("Stopped at the budget after"), "{}", shown.out);
    assert!(shown.out.contains("raise `budget.run_usd`"), "{}", shown.out);
    shop.run(&ingest).code(0);
    shop.place.assert_complete(10);
    shop.assert_ledger_agree();
}

#[test]
fn a_batch_is_called_off_and_its_items_wait_again() {
    let shop = BatchTest::new(|o| o.pace.items_per_second = Some(1.0));
    shop.records(20, plain);
    shop.ingest_records(&[]).code(0);
    let list = shop.run(&["batch", "list", "--json"]).code(0).json();
    let id = list.iter().find_map(|l| l["batch_id"].as_str()).unwrap().to_owned();
    let shown = shop.run(&["batch", "show", &id]);
    assert!(shown.code(0).out.contains("products"), "{}", shown.out);
    shop.run(&["batch", "cancel", &id]).code(0);
    eventually("the batch is cancelled", || {
        shop.run(&["batch", "poll", "--progress", "none"]).code(0);
        let list = shop.run(&["batch", "list", "--json"]).code(0).json();
        list.iter().any(|l| l["batch_id"] == *id && l["status"] == "CANCELLED" && l["ended_at"].is_string())
    });
    shop.assert_ledger_agree();
    assert_ne!(shop.items("products")["success"], 20);
    shop.run(&["batch", "cancel", &id]).code(1);
    shop.run(&["batch", "show", "batch_nobody"]).code(1);
}

#[test]
fn only_what_is_embedded_has_to_be_paid_again() {
    let shop = batches(Vec::new());
    shop.records(20, plain);
    shop.ingest_records(&["--wait"]).code(0);
    let charged = shop.mock.charges().nanodollars();
    // The changed file renames a metadata field and keeps all texts.
    let text = std::fs::read_to_string(shop.place.path().join("products.jsonl")).unwrap();
    std::fs::write(shop.place.path().join("products.jsonl"), text.replace("\"price\":", "\"cost\":")).unwrap();
    // This slice of `RECORDS` has the arguments for the file, the fields and the collection.
    let estimate = shop.run(&[&["estimate"], &RECORDS[1..11]].concat());
    assert_eq!((&estimate.code(0).json()[0]["tokens"], &estimate.json()[0]["batch_usd"]), (&json!(0), &json!(0.0)));
    let summary = shop.ingest_records(&["--wait"]).code(0).summary();
    assert_eq!((&summary["records"]["changed"], &summary["records"]["stored"]), (&json!(20), &json!(20)), "{summary}");
    assert_eq!(shop.mock.charges().nanodollars(), charged);
    shop.assert_rows(20, plain);
    let search = ["search", "--collection", "products", "--json", "--filter", "metadata.cost=3", "product"];
    assert_eq!(shop.run(&search).json().iter().flat_map(results).count(), 1);
    shop.assert_ledger_agree();
}

#[test]
fn looking_sends_nothing() {
    let shop = BatchTest::new(|o| {
        o.faults = vec![outcome(Act::Expire).share(0.5).times(1)];
        o.pace.validate = Duration::from_secs(4);
    });
    shop.records(20, plain);
    shop.ingest_records(&[]).code(0);
    // Live mode is the default. Even in this mode, polling must not embed the failed half of the batch with live calls.
    shop.run(&["batch", "poll", "--wait", "--progress", "none", "--set", "embed.mode=live"]).code(0);
    assert_eq!((&shop.items("products")["none"], shop.mock.charges().live.requests), (&json!(10), 0));
    shop.run(&["batch", "submit", "--wait", "--progress", "none"]).code(0);
    shop.assert_rows(20, plain);
    shop.assert_ledger_agree();
}

#[test]
fn a_wrong_address_or_another_model_gives_up_no_batch() {
    let shop = BatchTest::new(|o| o.pace.validate = Duration::from_secs(4));
    shop.records(20, plain);
    shop.ingest_records(&[]).code(0);
    let poll = ["batch", "poll", "--wait", "--progress", "none"];
    let elsewhere = format!("embed.options.openai.base_url={}/nowhere", shop.mock.base_url());
    shop.run(&[&poll[..], &["--set", &elsewhere]].concat()).code(0);
    let other = "embed.options.openai.model=text-embedding-3-large";
    shop.run(&[&poll[..], &["--set", other]].concat()).code(0);
    // The collection belongs to one model, so records for another model are refused.
    let ran = shop.run(&[RECORDS, &["--set", other]].concat());
    assert!(ran.code(4).err.contains("text-embedding-3-small"), "{}", ran.err);
    Ran::of(shop.place.command(["ingest", "docs", "--progress", "none"]).output().unwrap()).code(0);
    assert_eq!(shop.items("products")["pending"], 20);
    shop.run(&poll).code(0);
    shop.assert_rows(20, plain);
    assert_eq!(shop.mock.charges().batches.len(), 1);
    shop.assert_ledger_agree();
}

#[test]
fn a_document_that_is_deleted_while_it_waits_is_not_sent() {
    let shop = batches(Vec::new());
    shop.place.generate(3);
    let ingest = ["ingest", "docs", "--json", "--progress", "none", "--set", "budget.run_usd=0.00000001"];
    assert_eq!(shop.run(&ingest).code(6).summary()["parked"], 3);
    shop.run(&["erase", "docs/0001.pdf"]).code(0);
    let left = shop.items("documents")["none"].as_u64().unwrap();
    shop.run(&["batch", "submit", "--wait", "--progress", "none"]).code(0);
    assert_eq!(shop.mock.charges().batch.inputs, left);
    assert_eq!(shop.place.records().iter().filter(|r| r["status"] == "COMPLETED").count(), 2);
    let erased = docweir_testkit::marker(1, 1);
    for file in ["paid.db", "paid.db-wal"] {
        let body = std::fs::read(shop.place.state().join(file)).unwrap_or_default();
        assert!(!body.windows(erased.len()).any(|w| w == erased.as_bytes()), "{file}");
    }
    shop.assert_ledger_agree();
}

#[test]
fn where_nobody_takes_batches_any_more_documents_go_on() {
    let shop = BatchTest::new(|o| o.pace.items_per_second = Some(0.1));
    shop.place.generate(3);
    let ingest = ["ingest", "docs", "--json", "--progress", "none"];
    assert_eq!(shop.run(&ingest).code(0).summary()["parked"], 3);
    let ran = Ran::of(shop.place.command(ingest).output().unwrap());
    assert_eq!(ran.code(0).summary()["completed"], 3, "{}", ran.out);
    shop.place.assert_complete(3);
}
