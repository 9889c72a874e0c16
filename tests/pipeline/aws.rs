//! State in AWS, on servers that speak its protocols: the real binary, any number of it at once.

use std::process::{Command, Stdio};
use std::time::Duration;

use docweir_testkit::servers::{Server, shared_dynoxide, shared_ministack, shared_seaweedfs};
use rustix::process::Signal;

use crate::kit::{Place, Ran, Running, eventually, results};

/// An account of its own: a bucket and tables that nobody else uses.
struct Account {
    place: Place,
    s3: &'static Server,
    dynamo: &'static Server,
    name: String,
    /// Whether its S3 moves objects to an archive.
    archives: bool,
}

impl Account {
    /// `None` where the servers are not installed.
    fn new(s3: Option<&'static Server>, dynamo: Option<&'static Server>, archives: bool) -> Option<Self> {
        let name = format!("t{:08x}", fastrand::u32(..));
        let account = Self { place: Place::new(), s3: s3?, dynamo: dynamo?, name, archives };
        account.run("one", &["infra", "check"]).code(1);
        account.run("one", &["infra", "apply"]).code(0);
        Some(account)
    }

    /// A process with a folder of its own, as on a machine of its own.
    fn command(&self, replica: &str, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        let table = |what: &str| format!("{}-{what}", self.name);
        command
            .env("AWS_ACCESS_KEY_ID", self.s3.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.s3.secret_key())
            .env("DOCWEIR__AWS__REGION", "eu-central-1")
            .env("DOCWEIR__STATE__BACKEND", "aws")
            .env("DOCWEIR__STATE__FOLDER", self.place.path().join(format!(".docweir-{replica}")))
            .env("DOCWEIR__BUCKETS__ARTEFACTS", format!("{}/docs", self.name))
            .env("DOCWEIR__BUCKETS__ARCHIVE_DAYS", if self.archives { "30" } else { "0" })
            .env("DOCWEIR__S3__ENDPOINT", self.s3.endpoint())
            .env("DOCWEIR__S3__PATH_STYLE", "true")
            .env("DOCWEIR__DYNAMODB__ENDPOINT", self.dynamo.endpoint())
            .env("DOCWEIR__DYNAMODB__CONTROL_TABLE", table("control"))
            .env("DOCWEIR__DYNAMODB__AUDIT_TABLE", table("audit"))
            .env("DOCWEIR__DYNAMODB__METRICS_TABLE", table("metrics"))
            .env("DOCWEIR__DYNAMODB__STATE_TABLE", table("state"))
            .env("DOCWEIR__LEASE__SECONDS", "6")
            .env("DOCWEIR__LEASE__HEARTBEAT_SECONDS", "2")
            .env("DOCWEIR__INTAKE__POLL_SECONDS", "1");
        command
    }

    fn run(&self, replica: &str, args: &[&str]) -> Ran {
        Ran::of(self.command(replica, args).output().unwrap())
    }

    fn spawn(&self, replica: &str, args: &[&str]) -> Running {
        let mut command = self.command(replica, args);
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Every document complete, searchable by its marker, with a trail that makes sense.
    #[track_caller]
    fn assert_complete(&self, documents: usize) {
        let all = self.run("reader", &["status", "--all", "--json"]).code(0).json();
        assert_eq!(all.len(), documents);
        for record in &all {
            assert_eq!(record["status"], "COMPLETED", "{record}");
            let id = record["document_id"].as_str().unwrap();
            let trail = self.run("reader", &["audit", id, "--json"]).code(0).json();
            let times = |event: &str| trail.iter().filter(|e| e["event_type"] == event).count();
            assert_eq!((times("DOCUMENT_RECEIVED"), times("DOCUMENT_COMPLETED")), (1, 1), "{trail:?}");
            assert!(trail.is_sorted_by_key(|e| e["timestamp"].as_str().unwrap().to_owned()), "{trail:?}");
            // Nothing of an epoch after a later one has begun.
            assert!(trail.is_sorted_by_key(|e| e["metadata"]["epoch"].as_u64().unwrap()), "{trail:?}");
        }
        self.run("reader", &["store", "verify"]).code(0);
    }
}

const INGEST: [&str; 5] = ["ingest", "docs", "--json", "--progress", "none"];

fn a_folder_becomes_searchable_with_all_state_in_aws(account: &Account) {
    account.place.generate(6);
    let summary = account.run("one", &INGEST).code(0).summary();
    assert_eq!((summary["completed"].as_u64(), summary["registered"].as_u64()), (Some(6), Some(6)), "{summary}");
    account.assert_complete(6);
    // Another machine, which has seen nothing of it, finds it.
    let marker = docweir_testkit::marker(3, 1);
    let found = account.run("two", &["search", &marker, "--mode", "full-text", "--json"]);
    assert!(results(&found.code(0).json()[0])[0]["source"].as_str().unwrap().ends_with("0003.pdf"), "{}", found.out);
    let summary = account.run("two", &INGEST).code(0).summary();
    assert_eq!(summary["unchanged"], 6, "{summary}");
    account.run("two", &["compact", "--all"]).code(0);
    account.run("one", &["infra", "check"]).code(0);
}

#[test]
fn a_folder_becomes_searchable_on_seaweedfs_and_ministack() {
    let (s3, dynamo) = (shared_seaweedfs(), shared_ministack());
    let Some(account) = Account::new(s3.map(|s| &**s), dynamo.map(|s| &**s), false) else { return };
    a_folder_becomes_searchable_with_all_state_in_aws(&account);
}

#[test]
fn a_folder_becomes_searchable_on_ministack_and_dynoxide() {
    let (s3, dynamo) = (shared_ministack(), shared_dynoxide());
    let Some(account) = Account::new(s3.map(|s| &**s), dynamo.map(|s| &**s), true) else { return };
    a_folder_becomes_searchable_with_all_state_in_aws(&account);
}

/// Four processes share the work; one is killed, one is stopped for longer than its leases last and goes on.
#[test]
fn replicas_share_the_work_and_one_that_dies_or_stalls_loses_nothing() {
    let (s3, dynamo) = (shared_seaweedfs(), shared_dynoxide());
    let Some(account) = Account::new(s3.map(|s| &**s), dynamo.map(|s| &**s), false) else { return };
    const DOCUMENTS: usize = 60;
    account.place.generate(DOCUMENTS as u64);
    let mut replicas: Vec<Running> = (0..4).map(|n| account.spawn(&format!("r{n}"), &INGEST)).collect();
    let begun = || {
        let status = account.run("reader", &["status", "--json"]);
        status.json().first().is_some_and(|s| s["documents"]["COMPLETED"].as_u64() >= Some(3))
    };
    eventually("some documents are complete", begun);
    replicas.remove(0).signal(Signal::KILL);
    replicas[0].signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(8));
    replicas[0].signal(Signal::CONT);
    for replica in replicas {
        replica.finish().code(0);
    }
    account.assert_complete(DOCUMENTS);
}
