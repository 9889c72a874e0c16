//! Tests the ingest of records from a user's DynamoDB table, with the real binary. Docweir finds the records through an
//! index of the table, embeds them, and writes each record's final status back to the table. This must succeed even if
//! a process dies or an item changes.

use std::process::Stdio;
use std::time::Duration;

use docweir_mock_provider::{Act as Fault, On, Rule};
use docweir_testkit::proxy::Act;
use rustix::process::Signal;
use serde_json::json;

use crate::account::{Account, dynamo, seaweedfs};
use crate::kit::{Ran, Running, eventually, results};
use crate::table::{IMAGE, LINES, NOISE, RECEIPTS, UserTable, WORDS, line, receipt_items, word};

const WAIT: &[&str] = &["--wait"];

fn items_are_embedded_by_batches_and_told_once(dynoxide: bool) {
    let Some(stall) = UserTable::new(dynoxide, |_| {}) else { return };
    stall.make(true);
    stall.stock();
    let summary = stall.receipts(WAIT).code(0).summary();
    assert_eq!(summary["records"]["stored"], 180, "{summary}");
    stall.assert_told();
    stall.assert_ledger();
    // Each item gets two statuses: `PENDING` when it is imported, and then its outcome. Noise gets only its outcome.
    let asked = stall.asked();
    assert_eq!(asked.written.len(), 200);
    for (sk, statuses) in &asked.written {
        let noise = sk.ends_with("WORD#00003");
        let expected: &[&str] = if noise { &["NOISE"] } else { &["PENDING", "SUCCESS"] };
        assert_eq!(statuses, expected, "{sk}");
    }
    assert_eq!((asked.times("Scan"), asked.times("PutItem"), asked.times("DeleteItem")), (0, 0, 0), "{asked:?}");
    // One query for each receipt and one query of the index are needed.
    assert!(asked.times("Query") <= RECEIPTS + 2, "{asked:?}");
    let paid = stall.mock.charges().batch.tokens;
    // A second run finds nothing, so it only describes the table and queries the index.
    let summary = stall.receipts(WAIT).code(0).summary();
    assert_eq!(summary.get("records"), None, "{summary}");
    let asked = stall.asked();
    let calls: Vec<_> = asked.calls.iter().map(|(operation, times)| (operation.as_str(), *times)).collect();
    assert_eq!(calls, [("DescribeTable", 1), ("Query", 1)]);
    assert_eq!(stall.mock.charges().batch.tokens, paid);
    // A word's neighbours come from the whole receipt, not only from the items that the index returned.
    let found = stall.run(&["search", "article2", "--collection", "receipt_words", "--mode", "full-text", "--json"]);
    assert!(found.code(0).out.contains(r#""right":"of"#), "{}", found.out);
}

#[test]
fn items_are_embedded_by_batches_and_told_once_on_ministack() {
    items_are_embedded_by_batches_and_told_once(false);
}

#[test]
fn items_are_embedded_by_batches_and_told_once_on_dynoxide() {
    items_are_embedded_by_batches_and_told_once(true);
}

/// Lists the failpoints at which a process is killed. With the number 1, it is killed when it first reaches the
/// failpoint; with 2, when it reaches the failpoint for the second time.
const PLACES: [(&str, u32); 12] = [
    ("table.found", 1),
    ("records.put", 1),
    ("records.put", 2),
    ("table.put", 1),
    ("table.marked", 1),
    ("batch.uploaded", 1),
    ("batch.created", 2),
    ("harvest.committed", 1),
    ("harvest.marked", 1),
    ("harvest.ended", 1),
    ("table.told", 1),
    ("table.told", 2),
];

#[test]
fn killed_at_each_step_each_item_is_told_and_nothing_is_paid_twice() {
    std::thread::scope(|scope| {
        for places in PLACES.chunks(6) {
            scope.spawn(move || {
                for (place, time) in places {
                    let Some(stall) = UserTable::new(true, |_| {}) else { return };
                    stall.make(true);
                    stall.stock();
                    let uri = stall.uri();
                    let args = ["ingest", &uri, "--as", "receipts", "--wait", "--json", "--progress", "none"];
                    let killed =
                        stall.command(&args).env("DOCWEIR_FAILPOINT", format!("{place}={time}")).output().unwrap();
                    assert_eq!(killed.status.code(), None, "{place}: {}", String::from_utf8_lossy(&killed.stderr));
                    stall.receipts(WAIT).code(0);
                    stall.assert_told();
                    stall.assert_ledger();
                    // Another run writes nothing to the table, so no write-back is pending.
                    stall.asked();
                    stall.receipts(WAIT).code(0);
                    assert_eq!(stall.asked().times("UpdateItem"), 0, "{place}");
                }
            });
        }
    });
}

#[test]
fn what_changed_or_was_deleted_since_it_was_sent_gets_no_stale_vector() {
    let Some(stall) = UserTable::new(true, |o| o.pace.validate = Duration::from_secs(4)) else { return };
    stall.make(true);
    stall.stock();
    stall.receipts(&[]).code(0);
    assert_eq!(stall.status(&line(1, 1)), "PENDING");
    // One item changes and asks to be embedded again. A second item changes but does not ask. A third item is deleted.
    // A fourth item asks to be embedded again but does not change.
    stall.set(&line(1, 1), &[("text", "quite another"), ("embedding_status", "NONE")]);
    stall.set(&line(2, 1), &[("text", "something else")]);
    stall.delete(&word(3, 1, 1));
    stall.set(&line(4, 1), &[("embedding_status", "NONE")]);
    stall.run(&["batch", "poll", "--wait", "--json", "--progress", "none"]).code(0);
    let (lines, words) = (stall.rows("receipt_lines"), stall.rows("receipt_words"));
    let key = |sk: String| format!("IMAGE#{IMAGE}#{sk}");
    assert_eq!((lines.len(), words.len()), (RECEIPTS * 3 - 2, RECEIPTS * WORDS - 1));
    for gone in [line(1, 1), line(2, 1)] {
        assert!(!lines.contains_key(&key(gone.clone())), "{gone}");
        assert_eq!(stall.status(&gone), "NONE", "{gone}");
    }
    assert!(!words.contains_key(&key(word(3, 1, 1))));
    // The write-back does not create the deleted item again.
    assert!(!stall.items().contains_key(&word(3, 1, 1)));
    assert_eq!(stall.status(&line(4, 1)), "SUCCESS", "its text is unchanged");
    let before = stall.mock.charges().batch.tokens;
    stall.receipts(WAIT).code(0);
    let lines = stall.rows("receipt_lines");
    assert_eq!(
        (lines[&key(line(1, 1))].as_str(), lines[&key(line(2, 1))].as_str()),
        ("quite another", "something else")
    );
    assert_eq!((stall.status(&line(1, 1)), stall.status(&line(2, 1))), (json!("SUCCESS"), json!("SUCCESS")));
    assert!(stall.mock.charges().batch.tokens > before);
    // If an embedded item asks to be embedded again, its outcome is written back again, but nothing is paid.
    let paid = stall.mock.charges().batch.tokens;
    stall.set(&line(5, 1), &[("embedding_status", "NONE")]);
    stall.receipts(WAIT).code(0);
    assert_eq!((stall.status(&line(5, 1)), stall.mock.charges().batch.tokens), (json!("SUCCESS"), paid));
    // If an embedded item changes and asks to be embedded again, its row is replaced. (If it is deleted from the table,
    // its row stays until the record is deleted in Docweir.)
    stall.set(&line(5, 2), &[("text", "now this"), ("embedding_status", "NONE")]);
    stall.receipts(WAIT).code(0);
    assert_eq!(stall.rows("receipt_lines")[&key(line(5, 2))], "now this");
    stall.run(&["store", "verify"]).code(0);
}

#[test]
fn lost_answers_and_throttling_lose_and_double_nothing() {
    for dynoxide in [false, true] {
        let Some(stall) = UserTable::new(dynoxide, |_| {}) else { return };
        stall.make(true);
        stall.stock();
        let mut random = fastrand::Rng::with_seed(3);
        stall.network(move |operation| match (random.u32(0..20), operation) {
            (0 | 1, "UpdateItem") => Act::LoseReply,
            (2, _) => Act::LoseRequest,
            (3, _) => {
                let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}"#;
                Act::Reply(format!(
                    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ))
            }
            (4, _) => Act::CutReply(10),
            _ => Act::Pass,
        });
        stall.receipts(WAIT).code(0);
        stall.assert_told();
        stall.assert_ledger();
    }
}

#[test]
fn what_is_refused_is_told_and_tried_again_when_it_asks_again() {
    let faults = vec![Rule::new(On::BatchOutcome, Fault::ErrorLines).share(0.1).code(400).times(2)];
    let Some(stall) = UserTable::new(false, |o| o.faults = faults) else { return };
    stall.make(true);
    stall.stock();
    // Receipt 7 cannot be imported, because one of its lines is malformed. In receipt 8, two words have no line.
    stall.set(&line(7, 1), &[("confidence", "high")]);
    stall.delete(&line(8, 2));
    let ran = stall.receipts(WAIT);
    let refused = ran.code(3).summary()["records"]["refused"].clone();
    let reasons: Vec<_> = refused.as_array().unwrap().iter().map(|r| r["reason"].as_str().unwrap()).collect();
    assert!(reasons.iter().any(|reason| reason.starts_with("`lines[0].confidence` must be")), "{reasons:?}");
    assert_eq!(
        reasons.iter().filter(|reason| reason.starts_with("the line of this word is missing")).count(),
        2,
        "{reasons:?}"
    );
    assert_eq!((stall.status(&line(7, 2)), stall.status(&word(8, 2, 1))), (json!("FAILED"), json!("NONE")));
    let failed: Vec<String> = stall
        .items()
        .into_iter()
        .filter(|(sk, item)| item["embedding_status"] == "FAILED" && !sk.starts_with("RECEIPT#00007"))
        .map(|(sk, _)| sk)
        .collect();
    assert!((10..=30).contains(&failed.len()), "{failed:?}");
    // The items are corrected and ask to be embedded again.
    for item in [receipt_items(7), receipt_items(8)].concat() {
        stall.put(item);
    }
    failed.iter().for_each(|sk| stall.set(sk, &[("embedding_status", "NONE")]));
    stall.receipts(WAIT).code(0);
    stall.assert_told();
}

#[test]
fn records_of_ones_own_shape_are_embedded_at_once_and_told() {
    let Some(stall) = UserTable::new(true, |_| {}) else { return };
    stall.make(true);
    let product = |n: usize, text: &str, revision: usize| {
        json!({
            "PK": format!("IMAGE#{IMAGE}"), "SK": format!("PRODUCT#{n}"), "sku": format!("P-{n:03}"), "rev": revision,
            "about": {"text": text}, "price": 1.5, "tags": ["a", "b"], "embedding_status": "NONE",
        })
    };
    for n in 0..150 {
        stall.put(product(n, &format!("product number {n}"), 1));
    }
    stall.put(json!({"PK": "other", "SK": "x", "embedding_status": "NONE"}));
    let args = [
        "ingest",
        &stall.uri(),
        "--as",
        "records",
        "--id",
        "sku",
        "--text",
        "about.text",
        "--collection",
        "products",
        "--json",
        "--progress",
        "none",
        "--set",
        "embed.mode=live",
        "--set",
        "records.table.version=rev",
    ];
    let summary = stall.run(&args).code(3).summary();
    assert_eq!(
        (&summary["records"]["stored"], summary["records"]["refused"].as_array().unwrap().len()),
        (&json!(150), 1)
    );
    for (sk, item) in stall.items() {
        let id = item["sku"].clone();
        assert_eq!((&item["embedding_status"], &item["embedding_id"]), (&json!("SUCCESS"), &id), "{sk}");
    }
    assert_eq!(stall.rows("products").len(), 150);
    let hit =
        stall.run(&["search", "number", "--collection", "products", "--mode", "full-text", "--json", "--top", "1"]);
    let hit = &results(&hit.code(0).json()[0])[0];
    assert_eq!((&hit["metadata"]["price"], hit["metadata"].get("embedding_status")), (&json!(1.5), None), "{hit}");
    // Only the price of a product changes. Its vector is kept and not paid for again.
    let paid = stall.mock.charges().nanodollars();
    let mut dearer = product(3, "product number 3", 2);
    dearer["price"] = json!(9.5);
    stall.put(dearer);
    stall.run(&args).code(0);
    assert_eq!((stall.status("PRODUCT#3"), stall.mock.charges().nanodollars()), (json!("SUCCESS"), paid));
}

#[test]
fn a_service_looks_into_the_table_of_the_environment_until_it_is_told_to_stop() {
    let Some(stall) = UserTable::new(true, |_| {}) else { return };
    stall.make(true);
    let mut serve =
        stall.command(&["serve", "--json", "--progress", "none", "--set", "records.table.poll_seconds=0.2"]);
    serve.env("DYNAMODB_TABLE_NAME", &stall.table).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A limit of 25 waiting items makes many polls necessary.
    serve.env("DOCWEIR__RECORDS__TABLE__MAX_WAITING", "25");
    let service = Running::of(serve.spawn().unwrap());
    let waiting = |stall: &UserTable| {
        stall
            .items()
            .values()
            .filter(|i| !["SUCCESS", "NOISE"].contains(&i["embedding_status"].as_str().unwrap()))
            .count()
    };
    stall.stock();
    eventually("all items have their outcomes", || waiting(&stall) == 0);
    stall.set(&line(1, 1), &[("text", "quite another"), ("embedding_status", "NONE")]);
    eventually("the changed item has its outcome", || stall.status(&line(1, 1)) == "SUCCESS");
    service.signal(Signal::TERM);
    let ended = service.finish();
    assert_eq!(ended.summary()["ended"], "interrupted", "{}{}", ended.out, ended.err);
    stall.assert_told();
    assert_eq!(stall.items().values().filter(|item| item["embedding_status"] == "NOISE").count(), RECEIPTS * NOISE);
}

#[test]
fn a_table_that_cannot_be_used_is_said_to_be_and_why() {
    let Some(stall) = UserTable::new(true, |_| {}) else { return };
    let ran = stall.receipts(&[]);
    assert!(ran.status.code() != Some(0) && ran.err.contains("no such table"), "{}", ran.err);
    stall.make(false);
    let ran = stall.receipts(&[]);
    let asks = "create a global secondary index `embedding-status-index` with the hash key `embedding_status`";
    assert!(ran.status.code() != Some(0) && ran.err.contains(asks), "{}", ran.err);
    // A collection contains either documents or records, so the service refuses to put records and documents into
    // one. A search does not depend on the kind.
    let mut serve = stall.command(&["serve"]);
    serve.env("DYNAMODB_TABLE_NAME", "receipts").env("DOCWEIR__STATE__COLLECTION", "records");
    for (key, value) in [("SHAPE", "records"), ("ID", "id"), ("TEXT", "text")] {
        serve.env(format!("DOCWEIR__RECORDS__TABLE__{key}"), value);
    }
    let refused = Ran::of(serve.output().unwrap());
    assert!(refused.code(4).err.contains("holds no documents"), "{}", refused.err);
    let searched = stall.run(&["search", "--collection", "records", "anything"]);
    assert!(!searched.err.contains("records.table"), "{}", searched.err);
    let uri = stall.uri();
    for wrong in [
        &["ingest", &uri] as &[&str],
        &["ingest", "dynamodb://", "--as", "receipts"],
        &["estimate", &uri, "--as", "receipts"],
    ] {
        let ran = stall.run(wrong);
        assert_eq!(ran.status.code(), Some(2), "{wrong:?}: {}", ran.err);
    }
}

/// Imports the same table with several processes and state in AWS. One process stalls until its lease has expired.
/// Another process is killed.
#[test]
fn replicas_share_a_table_and_one_that_dies_or_stalls_loses_and_doubles_nothing() {
    let Some(stall) = UserTable::new(true, |o| o.pace.items_per_second = Some(60.0)) else { return };
    let Some(account) = Account::new(seaweedfs(), dynamo(true), false) else { return };
    stall.make(true);
    stall.stock();
    let uri = stall.uri();
    let command = |replica: &str| {
        let mut command =
            account.command(replica, &["ingest", &uri, "--as", "receipts", "--wait", "--json", "--progress", "none"]);
        stall.configure(&mut command);
        command.env("DOCWEIR__EMBED__OPTIONS__OPENAI__REQUEST_SECONDS", "2").env("DOCWEIR__BATCH__RECORD_ITEMS", "20");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut running: Vec<Running> = (0..3).map(|n| Running::of(command(&format!("r{n}")).spawn().unwrap())).collect();
    eventually("a batch is at the provider", || !stall.mock.charges().batches.is_empty());
    running[0].signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(9));
    running[0].signal(Signal::CONT);
    std::thread::sleep(Duration::from_secs(1));
    running.remove(1).signal(Signal::KILL);
    for replica in running {
        replica.finish().code(0);
    }
    Running::of(command("last").spawn().unwrap()).finish().code(0);
    assert_eq!(stall.told().len(), RECEIPTS * (LINES + WORDS));
    assert_eq!(stall.mock.charges().custom_ids_paid_twice(), Vec::<&str>::new());
    account.run("last", &["store", "verify"]).code(0);
    // A further run writes nothing to the table, so no work is left.
    stall.asked();
    Running::of(command("last").spawn().unwrap()).finish().code(0);
    assert_eq!(stall.asked().times("UpdateItem"), 0);
}
