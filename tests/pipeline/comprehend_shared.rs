//! Tests enrichment by Amazon Comprehend with state in AWS, where replicas share one ledger. Only work that a process
//! held when it died or stalled may be paid for twice.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use docweir_mock_provider::{Act, MockProvider, On, Options, Rule};
use rustix::process::Signal;
use serde_json::Value;

use crate::account::{Account, dynamo, seaweedfs};
use crate::aws::INGEST;
use crate::kit::{Ran, Running, TestFolder, eventually, file_name};

const DOCUMENTS: usize = 24;

/// Maps the file name of each document to its cost in nanodollars.
type Costs = BTreeMap<String, u64>;

struct SharedComprehendTest {
    account: Account,
    mock: MockProvider,
}

fn nanos(line: &Value, name: &str) -> u64 {
    (line[name].as_f64().unwrap() * 1e9).round() as u64
}

fn costs(records: &[Value], lines: &[Value]) -> Costs {
    let source =
        |id: &Value| records.iter().find(|r| r["document_id"] == *id).map(|r| file_name(&r["source"])).unwrap();
    lines.iter().map(|line| (source(&line["name"]), nanos(line, "usd"))).collect()
}

/// Writes documents that have no sentence in common. Each machine has its own cache of findings, so several machines
/// would pay for a common sentence.
fn write_documents(place: &TestFolder) {
    for seed in 0..DOCUMENTS as u64 {
        let paragraph = |n: usize| {
            let marker = docweir_testkit::marker(seed, n);
            let sentence = format!("The terrible loss of the {marker} was told by the captain of the {marker}. ");
            format!("# The {marker}\n\n{}\n\n", sentence.repeat(8))
        };
        place.write(format!("{seed:04}.md"), (1..=5).map(paragraph).collect::<String>());
    }
}

fn mock() -> MockProvider {
    MockProvider::start(Options { charges_by_text: true, ..Options::default() }).unwrap()
}

fn enriched_by<'c>(command: &'c mut Command, mock: &MockProvider) -> &'c mut Command {
    command
        .env("DOCWEIR__ENRICH__OPTIONS__PROVIDER", "comprehend")
        .env("DOCWEIR__ENRICH__OPTIONS__COMPREHEND__ENDPOINT", mock.comprehend_url())
        .env("DOCWEIR__ENRICH__OPTIONS__COMPREHEND__REQUESTS_PER_SECOND", "1000")
}

impl SharedComprehendTest {
    /// Creates an account and a mock provider. Returns `None` if a server is not installed.
    fn new(dynoxide: bool) -> Option<Self> {
        let mut account = Account::new(seaweedfs(), dynamo(dynoxide), false)?;
        // Each replica processes only a few documents at a time, so that every replica gets some documents.
        account.more = vec![
            ("DOCWEIR__INTAKE__CLAIM_BATCH", "2".into()),
            ("DOCWEIR__EXTRACT__QUEUE_DOCUMENTS", "1".into()),
            ("DOCWEIR__CHUNK__QUEUE_DOCUMENTS", "1".into()),
            ("DOCWEIR__ENRICH__QUEUE_DOCUMENTS", "1".into()),
            ("DOCWEIR__ENRICH__WORKERS__MAX", "2".into()),
            ("DOCWEIR__DYNAMODB__LEDGER_LEASE_SECONDS", "6".into()),
        ];
        write_documents(&account.place);
        let mock = mock();
        mock.set_faults(vec![Rule::new(On::Detect, Act::Slow).seconds(0.15)]).unwrap();
        Some(Self { account, mock })
    }

    fn command(&self, replica: &str, args: &[&str]) -> Command {
        let mut command = self.account.command(replica, args);
        enriched_by(&mut command, &self.mock);
        command
    }

    fn spawn(&self, replica: &str) -> Running {
        let mut command = self.command(replica, &INGEST);
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        Ran::of(self.command("reader", args).output().unwrap()).code(0).json()
    }

    fn charged(&self) -> u64 {
        self.mock.charges().analysis.all.nanodollars
    }

    /// Returns three sums from the ledger in nanodollars: the settled amount, the reserved amount and the amount in
    /// doubt.
    fn sums(&self) -> (u64, u64, u64) {
        let lines = self.json(&["cost", "--by", "stage", "--json"]);
        let sum = |name: &str| lines.iter().map(|line| nanos(line, name)).sum();
        (sum("usd"), sum("reserved_usd"), sum("in_doubt_usd"))
    }

    fn costs(&self) -> Costs {
        costs(&self.json(&["status", "--all", "--json"]), &self.json(&["cost", "--by", "document", "--json"]))
    }

    /// Returns the cost of each document if a single process enriches all documents.
    fn alone(&self) -> Costs {
        let (place, mock) = (TestFolder::new(), mock());
        write_documents(&place);
        let run = |args: &[&str]| {
            let mut command = place.command(args);
            command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x").env("AWS_REGION", "eu-central-1");
            Ran::of(enriched_by(&mut command, &mock).output().unwrap())
        };
        run(&INGEST).code(0);
        let costs = costs(&place.records(), &run(&["cost", "--by", "document", "--json"]).code(0).json());
        assert_eq!((costs.len(), costs.values().sum::<u64>()), (DOCUMENTS, mock.charges().analysis.all.nanodollars));
        costs
    }

    /// Returns how often the enrichment of each document was begun, by file name.
    fn begun(&self) -> BTreeMap<String, u64> {
        let mut times: BTreeMap<String, u64> = BTreeMap::new();
        for entry in self.account.items("audit") {
            if entry["event_type"] == "STAGE_IN_PROGRESS" && entry["stage"] == "enrichment" {
                *times.entry(entry["document_id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        let records = self.json(&["status", "--all", "--json"]);
        let named = |record: &Value| (file_name(&record["source"]), times[record["document_id"].as_str().unwrap()]);
        records.iter().map(named).collect()
    }
}

#[test]
fn two_replicas_pay_for_each_text_once_and_keep_one_set_of_ledger() {
    let Some(shop) = SharedComprehendTest::new(false) else { return };
    for replica in [shop.spawn("one"), shop.spawn("two")] {
        replica.finish().code(0);
    }
    shop.account.assert_complete(DOCUMENTS);
    assert_eq!(shop.sums(), (shop.charged(), 0, 0));
    assert_eq!(shop.mock.charges().analysis.texts_paid_twice(), Vec::<&str>::new());
    assert_eq!(shop.costs(), shop.alone());
    let runs = shop.json(&["cost", "--by", "run", "--json"]);
    assert!(runs.len() == 2 && runs.iter().all(|run| nanos(run, "usd") > 0), "both runs must have costs: {runs:?}");
}

fn what_was_in_hand_is_paid_again_and_nothing_else(dynoxide: bool) {
    let Some(shop) = SharedComprehendTest::new(dynoxide) else { return };
    let (killed, stopped) = (shop.spawn("killed"), shop.spawn("stopped"));
    let have_both = || {
        let runs = shop.json(&["cost", "--by", "run", "--json"]);
        runs.iter().filter(|run| nanos(run, "usd") > 0).count() == 2
    };
    eventually("both processes have paid for something", have_both);
    killed.signal(Signal::KILL);
    stopped.signal(Signal::STOP);
    let other = shop.spawn("other");
    let is_done = || {
        let records = shop.json(&["status", "--all", "--json"]);
        records.len() == DOCUMENTS && records.iter().all(|record| record["status"] == "COMPLETED")
    };
    eventually("the other process has completed all documents", is_done);
    stopped.signal(Signal::CONT);
    other.finish().code(0);
    stopped.finish().code(0);
    killed.finish();
    shop.account.assert_complete(DOCUMENTS);

    // When the lease of the killed process has ended, a later process marks its reservations as in doubt.
    let nothing_is_under_way = || {
        Ran::of(shop.command("last", &INGEST).output().unwrap()).code(0);
        shop.sums().1 == 0
    };
    eventually("no reservation is left", nothing_is_under_way);
    let ((settled, _, doubt), charged) = (shop.sums(), shop.charged());
    assert!(settled <= charged && charged <= settled + doubt, "{settled} settled, {charged} charged, {doubt} in doubt");
    let (alone, begun) = (shop.alone(), shop.begun());
    assert!(begun.values().any(|times| *times > 1), "no document was begun twice");
    for (name, cost) in shop.costs() {
        // Each process that began the document may have paid the document's full cost.
        assert!(cost <= alone[&name] * begun[&name], "{name} cost {cost}, but a single process pays {}", alone[&name]);
    }
}

#[test]
fn what_was_in_hand_is_paid_again_and_nothing_else_on_ministack() {
    what_was_in_hand_is_paid_again_and_nothing_else(false);
}

#[test]
fn what_was_in_hand_is_paid_again_and_nothing_else_on_dynoxide() {
    what_was_in_hand_is_paid_again_and_nothing_else(true);
}
