//! Tests replicas with state in AWS, some of which are killed or stopped again and again. Each document must still be
//! processed exactly once.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use arrow_array::{RecordBatch, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::account::{Account, dynoxide, ministack, seaweedfs};
use crate::audit_log::{AuditSummary, replay};
use crate::kit::{Running, eventually, file_name};
use crate::network::number;

const REPLICAS: usize = 4;
/// Duration of a claim's lease in seconds, the shortest that can be configured.
const LEASE: u64 = 3;
/// Maximum number of documents that are registered at once. The next group is registered when few documents of the
/// previous groups still wait. In a long test, there are therefore always waiting documents, but never all of them wait
/// together.
const WAVE: usize = 40;
/// Maximum time from one completed document to the next. The test fails if no document is completed within this time.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(120);

/// Represents a machine that runs one process at a time. A new process uses the files that the previous one has left.
struct Replica {
    name: String,
    running: Running,
}

/// Runs the replicas, and counts how often they are killed, stopped and restarted.
struct Fleet<'a> {
    account: &'a Account,
    replicas: Vec<Replica>,
    kills: u32,
    stops: u32,
    /// Number of processes that ended without being killed, because they could not renew their claims.
    ended: u32,
}

impl<'a> Fleet<'a> {
    fn start(account: &'a Account) -> Self {
        let names = (0..REPLICAS).map(|n| format!("r{n}"));
        let replicas = names.map(|name| Replica { running: serve(account, &name), name }).collect();
        Self { account, replicas, kills: 0, stops: 0, ended: 0 }
    }

    /// Kills the process of a replica that holds documents, and starts a new process.
    fn kill(&mut self, victim: usize) {
        let replica = &mut self.replicas[victim];
        replica.running.signal(Signal::KILL);
        replica.running = serve(self.account, &replica.name);
        self.kills += 1;
    }

    /// Stops a replica that holds documents, and continues it when others have taken over all of its documents.
    fn stop(&mut self, victim: usize) {
        let replica = &self.replicas[victim];
        replica.running.signal(Signal::STOP);
        self.stops += 1;
        eventually("a stopped process has lost its documents", || held_by(replica, &records(self.account)) == 0);
        replica.running.signal(Signal::CONT);
    }

    /// Restarts replicas whose process has ended, as a process manager would. A process ends if it cannot renew its
    /// claims.
    fn restart(&mut self) {
        for replica in self.replicas.iter_mut().filter_map(|r| (!r.running.is_running()).then_some(r)) {
            let ended = std::mem::replace(&mut replica.running, serve(self.account, &replica.name)).finish();
            let log = log(self.account, &replica.name, "err");
            assert!(ended.status.code().is_some_and(|code| code != 101), "{:?}\n{log}", ended.status);
            self.ended += 1;
        }
    }

    /// Returns the index of each replica with the number of documents that the replica holds, the highest number first.
    fn busiest(&self, records: &[Value]) -> Vec<(usize, usize)> {
        let held = self.replicas.iter().enumerate().map(|(n, replica)| (n, held_by(replica, records)));
        let mut all: Vec<_> = held.collect();
        fastrand::shuffle(&mut all);
        all.sort_by_key(|(_, held)| std::cmp::Reverse(*held));
        all
    }

    /// Ends all replicas with SIGTERM and waits until they have exited. Any late writes of replicas that were stopped
    /// earlier have then been made. Returns the output of all replicas.
    fn end(self) -> String {
        for replica in &self.replicas {
            replica.running.signal(Signal::TERM);
        }
        let mut told = String::new();
        for replica in self.replicas {
            replica.running.finish().code(143);
            told += &log(self.account, &replica.name, "out");
        }
        told
    }
}

fn records(account: &Account) -> Vec<Value> {
    account.run("reader", &["status", "--all", "--json"]).code(0).json()
}

/// Returns the number of documents whose lease names the replica's process, even if that process died or is stopped.
fn held_by(replica: &Replica, records: &[Value]) -> usize {
    let process = format!("-{}-", replica.running.id());
    let held = |record: &&Value| record["lease_owner"].as_str().is_some_and(|owner| owner.contains(&process));
    records.iter().filter(held).count()
}

fn path(account: &Account, replica: &str, what: &str) -> std::path::PathBuf {
    account.place.path().join(format!("{replica}.{what}"))
}

fn log(account: &Account, replica: &str, what: &str) -> String {
    std::fs::read_to_string(path(account, replica, what)).unwrap()
}

/// Starts a service that appends its output to the output files of the replica's previous process.
fn serve(account: &Account, replica: &str) -> Running {
    let file = |what| File::options().create(true).append(true).open(path(account, replica, what)).unwrap();
    let mut command = account.command(replica, &["serve", "--json", "--progress", "none"]);
    Running::of(command.stdout(file("out")).stderr(file("err")).stdin(Stdio::null()).spawn().unwrap())
}

/// Configures slow replicas with short queues, so that each replica holds documents at any time.
fn account(account: Option<Account>) -> Option<Account> {
    let mut account = account?;
    account.more = vec![
        ("DOCWEIR__LEASE__SECONDS", LEASE.to_string()),
        ("DOCWEIR__LEASE__HEARTBEAT_SECONDS", "1".into()),
        ("DOCWEIR__INTAKE__CLAIM_BATCH", "2".into()),
        ("DOCWEIR__EMBED__OPTIONS__HASHED_MILLISECONDS", "150".into()),
        ("DOCWEIR__EMBED__WORKERS__MAX", "2".into()),
        ("DOCWEIR__LOAD__OPTIONS__MAX_WAIT_MILLISECONDS", "200".into()),
    ];
    for stage in ["EXTRACT", "CHUNK", "ENRICH", "EMBED"] {
        let name: &'static str = format!("DOCWEIR__{stage}__QUEUE_DOCUMENTS").leak();
        account.more.push((name, "1".into()));
    }
    Some(account)
}

/// Registers documents, lets replicas process them, kills and stops some replicas, and checks the result.
fn each_document_is_done_once(account: Option<Account>) {
    let Some(account) = self::account(account) else { return };
    let documents = number("DOCWEIR_TEST_REPLICA_DOCUMENTS", 24);
    account.place.generate(documents as u64);
    let input = format!("s3://{}/input/", account.name);
    account.aws(account.s3, &["s3", "cp", "docs", &input, "--recursive"]);
    let mut objects: Vec<String> = (0..documents).map(|n| format!("{input}{n:04}.pdf")).collect();

    let began = Instant::now();
    let mut fleet = Fleet::start(&account);
    let (mut complete, mut since) = (0, Instant::now());
    while complete < documents {
        let records = records(&account);
        let count = |status: &str| records.iter().filter(|record| record["status"] == status).count();
        if count("PENDING") < WAVE / 4 && !objects.is_empty() {
            let mut submit = vec!["submit".to_owned()];
            submit.extend(objects.drain(..WAVE.min(objects.len())));
            account.run("one", &submit.iter().map(String::as_str).collect::<Vec<_>>()).code(0);
        }
        let now = count("COMPLETED");
        if now > complete {
            (complete, since) = (now, Instant::now());
        }
        let last = || log(&account, "r0", "err");
        assert!(since.elapsed() < PROGRESS_TIMEOUT, "no progress after {complete} documents: {records:?}\n{}", last());
        fleet.restart();
        match fleet.busiest(&records)[..] {
            // The number of kills and stops grows with the number of documents.
            [(first, 1..), (second, 1..), ..] if fleet.kills as usize * 8 < documents => {
                fleet.kill(first);
                fleet.stop(second);
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    let (seconds, kills, stops, ended) = (began.elapsed().as_secs_f64(), fleet.kills, fleet.stops, fleet.ended);
    let superseded = fleet.end().lines().filter(|line| line.contains(r#""event":"superseded""#)).count();
    let told = assert_done_once(&account, documents);
    println!(
        "{documents} documents by {REPLICAS} replicas in {seconds:.0} s: {kills} killed, {stops} stopped, {ended} \
         ended without a kill; {superseded} claims were superseded; {told:?}"
    );
    assert!(kills > 0 && stops > 0 && told.takeovers > 0, "no replica lost a document");
}

/// Asserts that each document was processed once. The evidence is the control records and audit logs, which AWS's own
/// client reads, and the content of the index.
#[track_caller]
fn assert_done_once(account: &Account, documents: usize) -> AuditSummary {
    let mut audit_logs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in account.items("audit") {
        audit_logs.entry(entry["document_id"].as_str().unwrap().to_owned()).or_default().push(entry);
    }
    let records = account.items("control");
    assert_eq!((records.len(), audit_logs.len()), (documents, documents));
    let mut all = AuditSummary::default();
    for record in &records {
        let audit_log = audit_logs.get_mut(record["document_id"].as_str().unwrap()).unwrap();
        audit_log.sort_by_key(|entry| entry["timestamp"].as_str().unwrap().to_owned());
        let told = replay(audit_log, record).unwrap_or_else(|wrong| panic!("{wrong}\n{audit_log:#?}"));
        all.claims += told.claims;
        all.takeovers += told.takeovers;
        all.releases += told.releases;
        all.failures += told.failures;
    }
    assert_artefacts(account, &records);
    account.run("reader", &["store", "verify"]).code(0);
    // A single undisturbed process ingests the same documents for comparison.
    account.place.ingest(&[]).code(0);
    let expected = account.place.visible();
    assert_eq!(expected.len(), documents);
    assert_eq!(exported(account), expected);
    let uploaded = |record: &Value| record["stage_status"]["loading"]["vectors_uploaded"].as_f64().unwrap();
    let passages: usize = expected.values().map(Vec::len).sum();
    assert_eq!(records.iter().map(uploaded).sum::<f64>(), passages as f64);
    all
}

/// Asserts that the artefacts have the hashes in the control records. A process that lost a document must not have
/// overwritten its artefacts.
#[track_caller]
fn assert_artefacts(account: &Account, records: &[Value]) {
    let from = format!("s3://{}/docs/", account.name);
    account.aws(account.s3, &["s3", "cp", &from, "artefacts", "--recursive", "--quiet", "--exclude", "vectors/*"]);
    let read = |key: &str| std::fs::read(account.place.path().join("artefacts").join(key)).unwrap();
    for record in records {
        let id = record["document_id"].as_str().unwrap();
        for (stage, entry) in record["stage_status"].as_object().unwrap() {
            let Some(output) = entry["output_s3_key"].as_str() else { continue };
            let mut keys = Vec::new();
            if stage == "extraction" {
                let metadata: Value = serde_json::from_slice(&read(output)).unwrap();
                let pages = metadata["pages"].as_array().unwrap();
                keys.extend(pages.iter().map(|page| format!("extracted/{id}/{}", page["file"].as_str().unwrap())));
            }
            keys.push(output.to_owned());
            let mut hash = Sha256::new();
            for key in &keys {
                let body = read(key);
                hash.update(key.as_bytes());
                hash.update([0]);
                hash.update((body.len() as u64).to_le_bytes());
                hash.update(&body);
            }
            let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(entry["output_sha256"], hash, "{stage} of {id} was overwritten: {record}");
        }
    }
}

/// Exports the index and returns the texts of each document's passages, by file name.
#[track_caller]
fn exported(account: &Account) -> BTreeMap<String, Vec<String>> {
    account.run("reader", &["store", "export", "exported"]).code(0);
    let (mut texts, mut ids) = (BTreeMap::<String, Vec<String>>::new(), Vec::new());
    for part in crate::kit::files(&account.place.path().join("exported")) {
        for batch in read(&part) {
            let column = |name: &str| {
                batch.column_by_name(name).unwrap().as_any().downcast_ref::<StringArray>().unwrap().clone()
            };
            let (source, id, text) = (column("source"), column("chunk_id"), column("text"));
            for row in 0..batch.num_rows() {
                texts.entry(file_name(&source.value(row).into())).or_default().push(text.value(row).to_owned());
                ids.push((source.value(row).to_owned(), id.value(row).to_owned()));
            }
        }
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "each passage must occur once");
    texts
}

fn read(part: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(part).unwrap()).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

#[test]
fn killed_and_stopped_replicas_do_each_document_once_on_ministack() {
    each_document_is_done_once(Account::new(ministack(), ministack(), true));
}

#[test]
fn killed_and_stopped_replicas_do_each_document_once_on_seaweedfs_and_dynoxide() {
    each_document_is_done_once(Account::new(seaweedfs(), dynoxide(), false));
}
