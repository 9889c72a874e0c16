//! Tests that batches survive failures of the provider, of the network and of the process.

use std::time::Duration;

use docweir_mock_provider::{Act, On, Pace, Rule};
use serde_json::json;

use crate::kit::eventually;
use crate::shop::*;

#[test]
fn whatever_becomes_of_a_batch_each_record_is_stored_once_and_each_cent_is_known() {
    // Each entry has a fault and the maximum number of rows that are paid for twice because of that fault.
    let table = [
        (outcome(Act::Expire).share(0.5).times(2), 0),
        (outcome(Act::Fail).times(2), 0),
        (outcome(Act::Cancel).share(0.3).times(1), 0),
        (outcome(Act::Shuffled), 0),
        (outcome(Act::BadLine).share(0.1).times(2), 4),
        (outcome(Act::DuplicateLines).share(0.5), 0),
        (outcome(Act::ErrorLines).share(0.25).code(500).times(2), 0),
        (outcome(Act::Truncated).times(1), 1),
        (outcome(Act::LateFiles).times(2), 0),
        (outcome(Act::MissingLines).share(0.1).times(2), 4),
        (outcome(Act::WrongDimension).share(0.1).times(1), 2),
        (outcome(Act::Nan).share(0.1).times(1), 2),
    ];
    for (rule, twice) in table {
        let shop = batches(vec![rule.clone()]);
        shop.records(60, plain);
        let ran = shop.ingest_records(&["--wait"]);
        let summary = ran.code(0).summary();
        assert_eq!(summary["records"]["stored"], 60, "{rule:?} {summary}");
        shop.assert_rows(60, plain);
        shop.assert_all_ended();
        let charges = shop.mock.charges();
        // The provider did not embed the rows of missing lines. Repeating these rows therefore does not pay for them
        // twice.
        let most = if rule.act == Act::MissingLines { 0 } else { twice };
        assert!(charges.custom_ids_paid_twice().len() <= most, "{rule:?} {:?}", charges.custom_ids_paid_twice());
        shop.assert_ledger_agree();
    }
}

/// Lists the failpoints at which the process is killed, in order: from storing the records to importing the results.
const PLACES: [&str; 15] = [
    "records.put",
    "batch.packed",
    "batch.written",
    "batch.sent",
    "batch.uploaded",
    "batch.asked",
    "batch.created",
    "batch.taken",
    "harvest.fetched",
    "harvest.committed",
    "harvest.marked",
    "harvest.stored",
    "harvest.ended",
    "records.taken",
    "records.committed",
];

#[test]
fn killed_at_each_step_nothing_is_lost_and_nothing_is_paid_twice() {
    for place in PLACES {
        let shop = batches(Vec::new());
        shop.records(50, plain);
        let live = place.starts_with("records.") && place != "records.put";
        let mode = format!("embed.mode={}", if live { "live" } else { "batch" });
        let args = [RECORDS, &["--wait", "--set", &mode]].concat();
        let killed = shop.command(&args).env("DOCWEIR_FAILPOINT", format!("{place}=1")).output().unwrap();
        assert_eq!(killed.status.code(), None, "{place}: {}", String::from_utf8_lossy(&killed.stderr));
        let ran = shop.run(&args);
        ran.code(0);
        shop.assert_rows(50, plain);
        shop.assert_all_ended();
        let charges = shop.mock.charges();
        assert_eq!(charges.custom_ids_paid_twice(), Vec::<&str>::new(), "{place}");
        let (settled, reserved, doubt) = shop.cost();
        let charged = charges.nanodollars();
        assert!(
            reserved == 0 && settled <= charged && charged <= settled + doubt,
            "{place}: {settled} {charged} {doubt}"
        );
        if !live {
            assert_eq!((settled, doubt), (charged, 0), "{place}");
        }
    }
}

#[test]
fn a_reply_that_was_lost_is_looked_for_before_anything_is_sent_again() {
    for act in [Act::CutAfter, Act::CutMiddle, Act::CutBefore, Act::Garbage] {
        let shop = batches(vec![Rule::new(On::Batches, act).times(2)]);
        shop.records(20, plain);
        shop.ingest_records(&["--wait"]).code(0);
        shop.assert_rows(20, plain);
        assert_eq!(shop.mock.charges().batches.len(), 1, "{act:?}");
        shop.assert_ledger_agree();
    }
}

#[test]
fn a_batch_that_appears_late_is_found_before_the_results_are_imported() {
    let shop = batches(vec![Rule::new(On::Batches, Act::Hide).times(1)]);
    shop.records(20, plain);
    let ran = shop.ingest_records(&["--wait"]);
    assert!(ran.code(0).out.contains("was created twice at the provider"), "{}", ran.out);
    shop.assert_rows(20, plain);
    let charges = shop.mock.charges();
    assert_eq!(charges.batches.len(), 2, "{charges:?}");
    // The charge of the late batch is in doubt.
    let cost = shop.run(&["cost", "--by", "stage", "--json"]);
    let line = cost.code(0).json().remove(0);
    assert_eq!(line["in_doubt_calls"], 1, "{line}");
    shop.assert_all_ended();
}

/// The provider never confirms the batch and refuses to create it again. The batch is cancelled, and what appeared at
/// the provider meanwhile is cancelled too.
#[test]
fn a_batch_that_appears_late_is_found_before_a_cancelled_batch_ends() {
    let hides = Rule::new(On::Batches, Act::Hide).seconds(1.5).times(1);
    let shop = BatchTest::new(|o| {
        o.faults = vec![hides, Rule::new(On::Batches, Act::Status).code(429)];
        o.pace.items_per_second = Some(1.0);
    });
    shop.records(20, plain);
    let running = shop.spawn(&[RECORDS, &["--wait"]].concat());
    eventually("the batch is created again", || {
        let faults = shop.mock.charges().faults;
        faults.get("batches:status").is_some_and(|times| *times > 0)
    });
    std::thread::sleep(Duration::from_secs(2));
    let list = shop.run(&["batch", "list", "--json"]).code(0).json();
    let id = list.iter().find_map(|line| line["batch_id"].as_str()).unwrap().to_owned();
    shop.run(&["batch", "cancel", &id]).code(0);
    let in_doubt = || {
        let lines = shop.run(&["cost", "--by", "stage", "--json"]).code(0).json();
        lines.iter().filter_map(|line| line["in_doubt_calls"].as_u64()).sum::<u64>()
    };
    eventually("the cost of the late batch is in doubt", || in_doubt() == 1);
    eventually("the late batch is cancelled", || {
        shop.mock.charges().batches.iter().any(|batch| batch.status.starts_with("cancel"))
    });
    drop(running);
    assert_eq!((in_doubt(), shop.mock.charges().batches.len()), (1, 1));
}

/// A damaged result file is downloaded again. If each download is damaged, the results are lost, and the items are sent
/// again.
#[test]
fn a_damaged_result_file_is_downloaded_again_and_finally_given_up() {
    for (times, batches_made) in [(1, 1), (3, 2)] {
        let shop = batches(vec![Rule::new(On::Content, Act::DamagedGzip).times(times)]);
        shop.records(20, plain);
        let ran = shop.ingest_records(&["--wait"]);
        assert_eq!(ran.code(0).summary()["records"]["stored"], 20, "{}", ran.out);
        shop.assert_rows(20, plain);
        assert_eq!(shop.mock.charges().batches.len(), batches_made);
        shop.assert_all_ended();
    }
}

/// The file that was sent cannot be read back, so that the lines that the provider names have no items. The batch ends
/// nevertheless.
#[test]
fn a_sent_file_that_cannot_be_read_back_stops_no_import() {
    let shop = names_lines(vec![Rule::new(On::Content, Act::Status).code(403)]);
    let running = shop.spawn(&[RECORDS, &["--wait", "--set", "batch.max_attempts=1"]].concat());
    eventually("the batch is created", || !shop.mock.charges().batches.is_empty());
    for at in ["batches", "objects/batches"] {
        crate::kit::files(&shop.place.state().join(at)).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
    let ran = running.finish();
    assert_eq!(ran.code(3).summary()["records"]["failed"], 20, "{}", ran.out);
}

#[test]
fn a_provider_without_base64_is_asked_for_lists_in_the_next_batch() {
    let shop = BatchTest::new(|o| o.dialects = vec![docweir_mock_provider::Dialect::NoBase64]);
    shop.records(20, plain);
    shop.ingest_records(&["--wait"]).code(0);
    shop.assert_rows(20, plain);
    assert_eq!(shop.mock.charges().batches.len(), 2);
    shop.assert_ledger_agree();
}

/// The provider refuses a whole batch and names the line of one text, whose item fails alone.
#[test]
fn an_item_on_a_line_that_the_provider_names_fails_alone() {
    let shop = names_lines(Vec::new());
    let ran = shop.ingest_records(&["--wait"]);
    assert_eq!(ran.code(3).summary()["records"]["failed"], 1, "{}", ran.out);
    let items = shop.items("products");
    assert_eq!((&items["success"], &items["failed"]), (&json!(19), &json!(1)), "{items}");
    assert_eq!(shop.mock.charges().batches.len(), 2);
    shop.assert_ledger_agree();
}

/// Creates 20 records, of which one is too long. The provider refuses their batch and names the line.
fn names_lines(faults: Vec<Rule>) -> BatchTest {
    let shop = BatchTest::new(|o| {
        o.limits.tokens_per_input = 50;
        o.dialects = vec![docweir_mock_provider::Dialect::NamedLines];
        o.faults = faults;
        o.pace.validate = Duration::from_secs(2);
    });
    shop.records(20, |i| if i == 11 { "word ".repeat(60) } else { plain(i) });
    shop
}

/// Kills the process at random moments while the provider fails now and then. `DOCWEIR_TEST_KILLS` sets the number of
/// kills (default 12).
#[test]
fn killed_at_random_moments_with_a_provider_that_fails_nothing_is_lost_or_doubled() {
    let kills: u64 = std::env::var("DOCWEIR_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let faults = vec![
        Rule::new(On::Batches, Act::CutAfter).probability(0.1),
        Rule::new(On::Batches, Act::Status).code(503).probability(0.1),
        Rule::new(On::Files, Act::CutAfter).probability(0.1),
        Rule::new(On::Files, Act::Status).code(429).retry_after(0.05).probability(0.1),
        Rule::new(On::Content, Act::CutMiddle).probability(0.1),
        outcome(Act::Expire).share(0.5).probability(0.1),
        outcome(Act::Cancel).share(0.5).probability(0.05),
        outcome(Act::ErrorLines).share(0.1).code(500).probability(0.1),
        outcome(Act::DuplicateLines).share(0.3).probability(0.1),
    ];
    let shop = BatchTest::new(|o| {
        o.faults = faults;
        o.pace = Pace { items_per_second: Some(600.0), ..o.pace.clone() };
    });
    let mut random = fastrand::Rng::with_seed(7);
    let (mut killed, mut round) = (0, 0);
    let text = |round: usize| {
        move |i: usize| if i % 10 == round % 10 { format!("{} anew {round}", plain(i)) } else { plain(i) }
    };
    while killed < kills {
        // In each round, a tenth of the records get a new text, even if their old text was already sent.
        shop.records(150, text(round));
        let args = [RECORDS, &["--wait"]].concat();
        let mut running = shop.spawn(&args);
        std::thread::sleep(Duration::from_millis(random.u64(30..1_200)));
        let hit = running.is_running();
        if hit {
            running.signal(rustix::process::Signal::KILL);
        }
        let ran = running.finish();
        assert!(hit || ran.status.code() == Some(0), "{}", ran.err);
        killed += u64::from(hit);
        round += usize::from(!hit || killed % 4 == 0);
    }
    shop.records(150, text(round));
    shop.mock.set_faults(Vec::new()).unwrap();
    let ran = shop.ingest_records(&["--wait"]);
    ran.code(0);
    shop.assert_rows(150, text(round));
    shop.assert_all_ended();
    shop.assert_ledger_agree();
}

#[test]
fn a_provider_that_fails_now_and_then_loses_no_record_that_is_embedded_at_once() {
    let on = |act| Rule::new(On::Embeddings, act).probability(0.2);
    let shop = batches(vec![on(Act::Status).code(500), on(Act::CutBefore)]);
    shop.records(400, plain);
    let ran =
        shop.run(&[RECORDS, &["--set", "embed.mode=live", "--set", "embed.options.openai.max_inputs=10"]].concat());
    assert_eq!(ran.code(0).summary()["records"]["stored"], 400, "{}", ran.out);
    shop.assert_rows(400, plain);
    let (settled, reserved, doubt) = shop.cost();
    let charged = shop.mock.charges().nanodollars();
    assert!(reserved == 0 && settled <= charged && charged <= settled + doubt, "{settled} {charged} {doubt}");
    let by = shop.run(&["cost", "--by", "collection", "--json"]).code(0).json();
    assert_eq!(by.iter().map(|line| line["name"].clone()).collect::<Vec<_>>(), [json!("products")]);
}
