//! Tests batches and their costs with state in AWS, with one or more processes of the real binary and a mock provider
//! that records its charges.

use std::process::{Command, Stdio};
use std::time::Duration;

use docweir_mock_provider::{Act, MockProvider, On, Options, Rule};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::account::{Account, dynamo, seaweedfs};
use crate::kit::{Ran, Running, eventually, results};
use crate::shop::{RECORDS, plain, write_records};

/// Waiting time that is longer than the leader's lease on batches. The lease lasts 6 s, which is three times the time
/// limit of a request.
const OVER: Duration = Duration::from_secs(9);

/// Combines an account with a mock provider that accepts batches.
struct LedgerTest {
    account: Account,
    mock: MockProvider,
}

impl LedgerTest {
    /// Creates an account and a mock provider. Returns `None` if a server is not installed.
    fn new(dynoxide: bool, change: impl FnOnce(&mut Options)) -> Option<Self> {
        let account = Account::new(seaweedfs(), dynamo(dynoxide), false)?;
        let mut options = Options { charges_by_text: true, ..Options::default() };
        options.pace.validate = Duration::from_millis(10);
        options.pace.finalize = Duration::from_millis(10);
        change(&mut options);
        Some(Self { account, mock: MockProvider::start(options).unwrap() })
    }

    fn command(&self, replica: &str, args: &[&str]) -> Command {
        let mut command = self.account.command(replica, args);
        command
            .env("OPENAI_API_KEY", "test-key")
            .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", self.mock.base_url())
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__DIMENSIONS", "64")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__REQUEST_SECONDS", "2")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__LIMITS__BACKOFF_INITIAL_SECONDS", "0.05")
            .env("DOCWEIR__EMBED__MODE", "batch")
            .env("DOCWEIR__BATCH__POLL_SECONDS", "0.2")
            .env("DOCWEIR__BATCH__CONFIRM_SECONDS", "0.5")
            .env("DOCWEIR__BATCH__RECORD_ITEMS", "20")
            .env("DOCWEIR__BATCH__MAX_ATTEMPTS", "8");
        command
    }

    fn run(&self, replica: &str, args: &[&str]) -> Ran {
        Ran::of(self.command(replica, args).output().unwrap())
    }

    fn spawn(&self, replica: &str, args: &[&str]) -> Running {
        let mut command = self.command(replica, args);
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Asserts that each record is stored once with its current text, and that its vector belongs to this text.
    #[track_caller]
    fn assert_rows(&self, n: usize) {
        let found = self.run(
            "reader",
            &["search", "product number", "--collection", "products", "--mode", "full-text", "--top", "1000", "--json"],
        );
        let rows = results(&found.code(0).json()[0]);
        assert_eq!(rows.len(), n);
        let mut texts: Vec<(String, String)> = rows
            .iter()
            .map(|row| (row["chunk"].as_str().unwrap().to_owned(), row["text"].as_str().unwrap().to_owned()))
            .collect();
        texts.sort();
        let expected: Vec<_> = (0..n).map(|i| (format!("P-{i:04}"), plain(i))).collect();
        assert_eq!(texts, expected);
        for i in [0, n / 2, n - 1] {
            let asked = ["search", &plain(i), "--collection", "products", "--mode", "vector", "--exact", "--json"];
            let found = self.run("reader", &asked);
            let best = results(&found.code(0).json()[0])[0].clone();
            assert_eq!(best["chunk"], format!("P-{i:04}"), "{best}");
            assert!(best["vector_score"].as_f64().unwrap() > 0.999, "{best}");
        }
        self.run("reader", &["store", "verify"]).code(0);
    }

    /// Returns three sums that the program reports, in nanodollars: the settled amount, the reserved amount and the
    /// amount in doubt.
    #[track_caller]
    fn cost(&self) -> (u64, u64, u64) {
        let lines = self.run("reader", &["cost", "--by", "mode", "--json"]);
        let nanos = |line: &Value, name: &str| (line[name].as_f64().unwrap() * 1e9).round() as u64;
        lines.code(0).json().iter().fold((0, 0, 0), |(s, r, d), line| {
            (s + nanos(line, "usd"), r + nanos(line, "reserved_usd"), d + nanos(line, "in_doubt_usd"))
        })
    }

    /// Asserts that nothing is reserved, and that the provider charged at least the settled amount and at most the sum
    /// of the settled amount and the amount in doubt.
    #[track_caller]
    fn assert_ledger(&self) {
        let ((settled, reserved, doubt), charged) = (self.cost(), self.mock.charges().nanodollars());
        assert!(
            reserved == 0 && settled <= charged && charged <= settled + doubt,
            "{settled} {reserved} {doubt}, charged {charged}"
        );
    }

    #[track_caller]
    fn assert_ledger_agree(&self) {
        assert_eq!(self.cost(), (self.mock.charges().nanodollars(), 0, 0));
    }

    /// Asserts that every batch has ended in the store and at the provider.
    #[track_caller]
    fn assert_all_ended(&self) {
        let list = self.run("reader", &["batch", "list", "--json", "--top", "1000"]).code(0).json();
        for batch in list.iter().filter(|line| line.get("batch_id").is_some()) {
            assert!(batch["ended_at"].is_string(), "{batch}");
        }
        for batch in self.mock.charges().batches {
            let ended = matches!(batch.status.as_str(), "completed" | "failed" | "expired" | "cancelled");
            assert!(ended, "{batch:?}");
        }
    }

    fn items(&self, space: &str) -> Value {
        let list = self.run("reader", &["batch", "list", "--json"]).code(0).json();
        list.iter().map(|line| line["items"].clone()).find(|items| items["space"] == space).unwrap_or_default()
    }
}

fn records_and_documents_are_embedded_by_batches(shop: &LedgerTest) {
    write_records(&shop.account.place, 50, plain);
    let summary = shop.run("one", &[RECORDS, &["--wait"]].concat()).code(0).summary();
    assert_eq!((&summary["records"]["stored"], &summary["batches"]["submitted"]), (&json!(50), &json!(3)), "{summary}");
    shop.assert_ledger_agree();
    shop.account.place.generate(6);
    let ingest = ["ingest", "docs", "--wait", "--json", "--progress", "none"];
    let summary = shop.run("two", &ingest).code(0).summary();
    assert_eq!(summary["completed"], 6, "{summary}");
    shop.account.assert_complete(6);
    shop.assert_ledger_agree();
    shop.assert_all_ended();
    let charges = shop.mock.charges();
    assert_eq!((charges.live.requests, charges.texts_paid_twice().len()), (0, 0), "{charges:?}");
    // A third process does not pay for the same texts again.
    shop.run("three", &ingest).code(0);
    shop.run("three", &[RECORDS, &["--wait"]].concat()).code(0);
    assert_eq!(shop.mock.charges().batch.tokens, charges.batch.tokens);
    // All commands that read or change batches succeed.
    assert_eq!(shop.items("products")["success"], 50);
    let documents = shop.run("reader", &["cost", "--by", "document", "--json"]).code(0).json();
    assert_eq!(documents.len(), 6 + 3, "6 documents and 3 batches of records: {documents:?}");
    let status = shop.run("reader", &["status", "--json"]).code(0).json();
    assert_eq!(status[0]["documents"]["COMPLETED"], 6, "{status:?}");
    let list = shop.run("reader", &["batch", "list", "--json"]).code(0).json();
    let id = list.iter().find_map(|line| line["batch_id"].as_str()).unwrap().to_owned();
    let shown = shop.run("reader", &["batch", "show", &id, "--json"]).code(0).json();
    assert_eq!(shown[0]["status"], "COMPLETED", "{shown:?}");
    shop.run("reader", &["batch", "cancel", &id]).code(1);
    shop.run("reader", &["batch", "retry"]).code(0);
    shop.run("reader", &["estimate", "docs", "--json"]).code(0);
    shop.run("reader", &["delete", "--collection", "products", "P-0005"]).code(0);
    assert_eq!(shop.items("products")["success"], 49);
    shop.run("three", &[RECORDS, &["--wait"]].concat()).code(0);
    shop.assert_rows(50);
    shop.run("one", &["infra", "check"]).code(0);
}

#[test]
fn records_and_documents_are_embedded_by_batches_on_ministack() {
    if let Some(shop) = LedgerTest::new(false, |_| {}) {
        records_and_documents_are_embedded_by_batches(&shop);
    }
}

#[test]
fn records_and_documents_are_embedded_by_batches_on_dynoxide() {
    if let Some(shop) = LedgerTest::new(true, |_| {}) {
        records_and_documents_are_embedded_by_batches(&shop);
    }
}

#[test]
fn what_becomes_of_a_batch_is_the_same_with_state_in_aws() {
    let outcome = |act| Rule::new(On::BatchOutcome, act);
    let table = [
        outcome(Act::Expire).share(0.5).times(2),
        outcome(Act::Fail).times(1),
        outcome(Act::Cancel).share(0.3).times(1),
        outcome(Act::DuplicateLines).share(0.5),
        outcome(Act::ErrorLines).share(0.25).code(500).times(2),
        Rule::new(On::Batches, Act::CutAfter).times(2),
    ];
    for rule in table {
        let Some(shop) = LedgerTest::new(true, |o| o.faults = vec![rule.clone()]) else { return };
        write_records(&shop.account.place, 50, plain);
        shop.run("one", &[RECORDS, &["--wait"]].concat()).code(0);
        assert_eq!(shop.items("products")["success"], 50, "{rule:?}");
        assert!(shop.mock.charges().custom_ids_paid_twice().is_empty(), "{rule:?}");
        shop.assert_ledger_agree();
        shop.assert_all_ended();
        shop.assert_rows(50);
    }
}

/// Lists the failpoints at which a process is killed while it manages batches.
const PLACES: [&str; 13] = [
    "pack.recorded",
    "pack.reserved",
    "pack.listed",
    "pack.claiming",
    "pack.claimed",
    "batch.packed",
    "batch.uploaded",
    "batch.asked",
    "batch.created",
    "harvest.committed",
    "end.decided",
    "end.walked",
    "end.settled",
];

#[test]
fn killed_at_each_step_another_process_takes_over_and_nothing_is_lost_or_paid_twice() {
    std::thread::scope(|scope| {
        for places in PLACES.chunks(4) {
            scope.spawn(move || {
                for place in places {
                    let Some(shop) = LedgerTest::new(true, |_| {}) else { return };
                    write_records(&shop.account.place, 50, plain);
                    let args = [RECORDS, &["--wait"]].concat();
                    let killed =
                        shop.command("one", &args).env("DOCWEIR_FAILPOINT", format!("{place}=2")).output().unwrap();
                    assert_eq!(killed.status.code(), None, "{place}: {}", String::from_utf8_lossy(&killed.stderr));
                    shop.run("two", &args).code(0);
                    assert_eq!(shop.items("products")["success"], 50, "{place}");
                    assert_eq!(shop.mock.charges().custom_ids_paid_twice(), Vec::<&str>::new(), "{place}");
                    shop.assert_ledger_agree();
                    shop.assert_all_ended();
                    shop.assert_rows(50);
                }
            });
        }
    });
}

/// Ingests the same records with several processes. One process is stopped until its lease has expired, and then
/// continues. Another process is killed.
fn replicas_share_batches(replicas: usize, dynoxide: bool) {
    const RECORDS_OF_ALL: usize = 300;
    let Some(shop) = LedgerTest::new(dynoxide, |o| o.pace.items_per_second = Some(40.0)) else { return };
    write_records(&shop.account.place, RECORDS_OF_ALL, plain);
    let args = [RECORDS, &["--wait"]].concat();
    let mut running: Vec<Running> = (0..replicas).map(|n| shop.spawn(&format!("r{n}"), &args)).collect();
    eventually("a batch is at the provider", || !shop.mock.charges().batches.is_empty());
    // With two replicas, both are disturbed, so one of the disturbed processes is the leader.
    running[0].signal(Signal::STOP);
    std::thread::sleep(OVER);
    running[0].signal(Signal::CONT);
    std::thread::sleep(Duration::from_secs(1));
    running.remove(1).signal(Signal::KILL);
    for replica in running {
        replica.finish().code(0);
    }
    shop.run("last", &args).code(0);
    assert_eq!(shop.items("products")["success"], RECORDS_OF_ALL);
    shop.assert_all_ended();
    shop.assert_ledger();
    assert_eq!(shop.mock.charges().custom_ids_paid_twice(), Vec::<&str>::new());
    shop.assert_rows(RECORDS_OF_ALL);
}

#[test]
fn two_replicas_share_batches_and_one_that_dies_or_stalls_loses_and_doubles_nothing() {
    replicas_share_batches(2, false);
}

#[test]
fn four_replicas_share_batches_and_one_that_dies_or_stalls_loses_and_doubles_nothing() {
    replicas_share_batches(4, true);
}
