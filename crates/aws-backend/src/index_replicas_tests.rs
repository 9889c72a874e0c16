//! Tests several processes that share one collection in S3 and DynamoDB. The processes commit to the collection and
//! merge its files. Meanwhile, the test kills, pauses and resumes the processes.
//!
//! The test runs its own executable once for each process. Each process logs which writes it tries and which were
//! acknowledged. Meanwhile, the test reads the collection and compares it with the logs. `DOCWEIR_TEST_ROUNDS=1000`
//! sets the number of merges.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::control::tables;
use crate::dynamo_objects::DynamoObjects;
use crate::s3::S3Objects;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use docweir_aws::DynamoOptions;
use docweir_aws::dynamo::Dynamo;
use docweir_aws::s3::S3;
use docweir_aws::{Aws, AwsOptions, S3Options};
use docweir_core::cancel::Cancel;
use docweir_core::clock::{SharedClock, SystemClock};
use docweir_core::error::ErrorClass;
use docweir_index::CollectionScope;
use docweir_index::compaction::{CompactionOptions, Compactor, Installed, Mode};
use docweir_index::retention::RetentionOptions;
use docweir_index::testing::content;
use docweir_index::testing::{delete, document, id, model};
use docweir_index::{VectorOptions, VectorStore, View};
use docweir_objects::ObjectStore;
use docweir_objects::cached::{CachedObjects, CopyOptions};
use docweir_objects::lease::LeaseRegister;
use docweir_objects::routed::RoutedObjects;
use docweir_testkit::servers::{Server, shared_dynoxide, shared_ministack, shared_seaweedfs};

const PROCESSES: u64 = 4;
/// Number of documents of each process. No other process writes them, so the last acknowledged write must be visible.
const DOCUMENTS_EACH: u8 = 2;
/// Duration of the compactor's lease, which is shorter than most pauses of a process.
const LEASE: Duration = Duration::from_millis(1_500);
const PROCESS: &str = "DOCWEIR_TEST_PROCESS";

/// Describes the location of the collection and the identity of a process.
#[derive(Clone, Serialize, Deserialize)]
struct Place {
    s3: (String, String, String),
    dynamo: (String, String, String),
    prefix: String,
    table: String,
    /// If true, manifests are swapped in DynamoDB instead of S3.
    manifests: bool,
    folder: PathBuf,
    process: u64,
    /// Number of times that this process was restarted.
    life: u64,
}

fn access(server: &Server) -> (String, String, String) {
    (server.endpoint().to_owned(), server.access_key().to_owned(), server.secret_key().to_owned())
}

impl Place {
    async fn aws((endpoint, access_key, secret_key): &(String, String, String)) -> Aws {
        let options = AwsOptions { region: "eu-central-1".into(), endpoint: endpoint.clone(), ..AwsOptions::default() };
        Aws::find(options).await.with_keys(access_key, secret_key)
    }

    async fn s3(&self) -> S3 {
        S3::new(&Self::aws(&self.s3).await, &S3Options { path_style: true, ..S3Options::default() })
    }

    /// Opens the stores as the engine does.
    async fn objects(&self) -> Arc<dyn ObjectStore> {
        let clock: SharedClock = Arc::new(SystemClock);
        let s3 = S3Objects::new(&self.s3().await, "docweir-replicas", &self.prefix).unwrap();
        let dynamo = Dynamo::new(&Self::aws(&self.dynamo).await, "");
        let copies = self.folder.join(format!("copies-{}", self.process));
        let vectors =
            CachedObjects::open(Arc::new(s3.clone()), &copies, CopyOptions::default(), clock.clone()).unwrap();
        Arc::new(RoutedObjects {
            vectors: Arc::new(vectors),
            registers: Arc::new(DynamoObjects::new(dynamo, &self.table, &self.prefix, clock)),
            manifests: self.manifests,
            others: Arc::new(s3),
        })
    }

    fn store(&self, objects: &Arc<dyn ObjectStore>) -> Arc<VectorStore> {
        let store = VectorStore::new(objects.clone(), "chunks", Arc::new(SystemClock), VectorOptions::default());
        Arc::new(store.unwrap())
    }

    /// Appends one line to the log of this process in a single write, so that a kill never leaves a partial line.
    fn note(&self, line: &str) {
        let path = self.folder.join(format!("notes-{}", self.process));
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn documents(&self) -> std::ops::Range<u8> {
        let first = self.process as u8 * DOCUMENTS_EACH;
        first..first + DOCUMENTS_EACH
    }
}

/// Returns whether an error is temporary. The test fails if a process meets any other error.
fn passes(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Transient | ErrorClass::Throttled)
}

/// Runs one of the processes until it is killed. Does nothing unless `DOCWEIR_TEST_PROCESS` is set.
#[tokio::test]
async fn one_of_the_processes() {
    let Ok(place) = std::env::var(PROCESS) else { return };
    let place: Place = serde_json::from_str(&place).unwrap();
    let objects = place.objects().await;
    tokio::join!(write(&place, &objects), merge(&place, &objects));
}

async fn write(place: &Place, objects: &Arc<dyn ObjectStore>) {
    let mut writer = place.store(objects).writer();
    let mut version = place.life * 1_000_000;
    loop {
        version += 1;
        let n = fastrand::u8(place.documents());
        let name = format!("doc_{n}");
        let one = match content(n, version) {
            Some(texts) => document(&name, version, &texts.iter().map(String::as_str).collect::<Vec<_>>()),
            None => delete(&name, version),
        };
        place.note(&format!("try {n} {version}"));
        match writer.commit(vec![one], &model(3)).await {
            Ok(_) => place.note(&format!("ack {n} {version}")),
            Err(error) if passes(error.class()) => {}
            Err(error) => place.note(&format!("violation commit: {error}")),
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..150))).await;
    }
}

async fn merge(place: &Place, objects: &Arc<dyn ObjectStore>) {
    let register = LeaseRegister::new(objects.clone(), "vectors/chunks/LEASE".into(), Arc::new(SystemClock));
    let options =
        CompactionOptions { deltas: 2, tier_factor: 2, smallest_tier_rows: 2, ..CompactionOptions::default() };
    let mut compactor = Compactor::new(place.store(objects), options);
    let holder = format!("{}-{}", place.process, place.life);
    loop {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..60))).await;
        let mode = if fastrand::u8(..3) == 0 { Mode::All } else { Mode::Due };
        let Ok(Some((manifest, inputs, why))) = compactor.due(mode).await else { continue };
        // The lease is not renewed during the merge, so a process that is paused for too long loses it.
        let Ok(Some(lease)) = register.acquire(&holder, LEASE, manifest.epoch).await else { continue };
        let outcome = match compactor.merge(&manifest, &inputs, why, &Cancel::default()).await {
            Ok(staged) => match compactor.install(&staged, lease.record.epoch).await {
                Ok(Installed::Yes(_)) => "merged".to_owned(),
                Ok(Installed::Superseded(_)) => "superseded".to_owned(),
                Err(error) if passes(error.class()) => format!("failed {error}"),
                Err(error) => format!("violation install: {error}"),
            },
            // The inputs of an outdated plan may have been deleted.
            Err(error) => format!("failed {error}"),
        };
        place.note(&format!("round {outcome}"));
        if fastrand::bool() {
            let _ = register.release(&lease).await;
        }
    }
}

/// Holds the logs of all processes.
#[derive(Default)]
struct Notes {
    /// Highest acknowledged version of each document.
    acknowledged: BTreeMap<u8, u64>,
    /// All versions that a process tried to commit, grouped by document.
    tried: BTreeMap<u8, Vec<u64>>,
    rounds: BTreeMap<String, usize>,
    violations: Vec<String>,
}

impl Notes {
    fn read(folder: &Path) -> Self {
        let mut notes = Self::default();
        for process in 0..PROCESSES {
            let text = std::fs::read_to_string(folder.join(format!("notes-{process}"))).unwrap_or_default();
            for line in text.lines() {
                let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
                let of = || rest.split_once(' ').map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
                match kind {
                    "try" => {
                        let (n, version): (u8, u64) = of().unwrap();
                        notes.tried.entry(n).or_default().push(version);
                    }
                    "ack" => {
                        let (n, version): (u8, u64) = of().unwrap();
                        let highest = notes.acknowledged.entry(n).or_default();
                        *highest = version.max(*highest);
                    }
                    "round" if rest.starts_with("violation") => notes.violations.push(line.to_owned()),
                    "round" => {
                        let outcome = rest.split(' ').next().unwrap_or_default().to_owned();
                        *notes.rounds.entry(outcome).or_default() += 1;
                    }
                    _ => notes.violations.push(line.to_owned()),
                }
            }
        }
        notes
    }

    fn rounds(&self) -> usize {
        self.rounds.values().sum()
    }
}

/// Checks a view against the logs. The view must contain all writes that were acknowledged before the read began, and
/// only writes that were tried before the read ended.
#[track_caller]
fn judge(view: &View, before: &Notes, after: &Notes) {
    for n in 0..PROCESSES as u8 * DOCUMENTS_EACH {
        let name = id(&format!("doc_{n}"));
        let least = before.acknowledged.get(&n).copied().unwrap_or_default();
        let tried = after.tried.get(&n).map(Vec::as_slice).unwrap_or_default();
        match view.version_of(&name) {
            Some((version, _)) => {
                assert!(version >= least && tried.contains(&version), "doc_{n} shows {version}, after {least}");
                let texts: Vec<String> = view.rows_of(&name).into_iter().map(|row| row.text).collect();
                assert_eq!(Some(texts), content(n, version), "doc_{n} version {version}");
            }
            None => {
                let deleted = |version: &u64| *version >= least && content(n, *version).is_none();
                assert!(least == 0 || tried.iter().any(deleted), "doc_{n} is gone, after {least}");
            }
        }
    }
}

/// Runs a process of the test, and kills it when dropped.
struct Process {
    place: Place,
    child: Child,
    /// End of the pause, if the process is paused.
    stopped: Option<Instant>,
}

impl Process {
    fn start(place: Place) -> Self {
        let name = "index_replicas_tests::one_of_the_processes";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(PROCESS, serde_json::to_string(&place).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { place, child, stopped: None }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills and restarts the process, or pauses it.
    fn trouble(&mut self) -> &'static str {
        if self.stopped.is_some() {
            return "";
        }
        if fastrand::bool() {
            self.kill();
            *self = Self::start(Place { life: self.place.life + 1, ..self.place.clone() });
            return "killed";
        }
        self.signal(Signal::STOP);
        self.stopped = Some(Instant::now() + Duration::from_millis(fastrand::u64(100..3_000)));
        "stopped"
    }

    fn go_on(&mut self) {
        if self.stopped.take_if(|until| *until <= Instant::now()).is_some() {
            self.signal(Signal::CONT);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn processes_that_die_and_stall_change_nothing(s3: &Server, dynamo: &Server, manifests: bool) {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("r{:08x}", fastrand::u32(..));
    let table = format!("{name}-state");
    let place = Place {
        s3: access(s3),
        dynamo: access(dynamo),
        prefix: name,
        table: table.clone(),
        manifests,
        folder: folder.path().to_owned(),
        process: PROCESSES,
        life: 0,
    };
    place.s3().await.bucket("docweir-replicas").create().await.unwrap();
    let client = Dynamo::new(&Place::aws(&place.dynamo).await, "");
    let options = DynamoOptions { state_table: table.clone(), ..DynamoOptions::default() };
    let wanted = tables::tables(&options).into_iter().find(|wanted| wanted.name == table).unwrap();
    client.create(&wanted, Duration::from_secs(30)).await.unwrap();

    let store = place.store(&place.objects().await);
    let start = |process| Process::start(Place { process, ..place.clone() });
    let mut processes: Vec<Process> = (0..PROCESSES).map(start).collect();
    let rounds: usize = std::env::var("DOCWEIR_TEST_ROUNDS").map_or(25, |n| n.parse().unwrap());
    let retention = RetentionOptions {
        snapshots: 1,
        merged_seconds: 5,
        max_files: 200,
        staged_seconds: 60,
        ..RetentionOptions::default()
    };
    let (began, mut looks, mut troubles) = (Instant::now(), 0, BTreeMap::<&str, u32>::new());
    let (mut last_version, mut last_trouble) = (0, Instant::now());
    loop {
        processes.iter_mut().for_each(Process::go_on);
        if last_trouble.elapsed() > Duration::from_millis(700) {
            let one = fastrand::usize(..processes.len());
            *troubles.entry(processes[one].trouble()).or_default() += 1;
            last_trouble = Instant::now();
        }
        let before = Notes::read(folder.path());
        match store.view().await {
            Ok(view) => {
                judge(&view, &before, &Notes::read(folder.path()));
                assert!(view.version() >= last_version, "{} after {last_version}", view.version());
                (last_version, looks) = (view.version(), looks + 1);
            }
            Err(error) => assert!(passes(error.class()), "view: {error}"),
        }
        if fastrand::u8(..10) == 0 {
            match store.collect(CollectionScope::Due(retention)).await {
                Ok(collected) => assert_eq!(collected.unreadable, [] as [String; 0]),
                Err(error) => assert!(passes(error.class()), "collect: {error}"),
            }
        }
        assert_eq!(before.violations, [] as [&str; 0]);
        if before.rounds() >= rounds && looks > 10 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120 + 4 * rounds as u64), "{:?}", before.rounds);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    processes.iter_mut().for_each(Process::kill);
    let notes = Notes::read(folder.path());
    let view = store.view().await.unwrap();
    judge(&view, &notes, &notes);
    assert_eq!(store.verify().await.unwrap().findings, []);
    assert!(notes.rounds["merged"] > 0 && !troubles.is_empty());
    let commits: usize = notes.tried.values().map(Vec::len).sum();
    println!(
        "{:?}: {:?}, {commits} commits tried, {looks} reads, {troubles:?}, version {}",
        began.elapsed(),
        notes.rounds,
        view.version()
    );
}

#[tokio::test]
async fn processes_that_die_and_stall_change_nothing_on_seaweedfs_and_dynoxide() {
    let (Some(s3), Some(dynamo)) = (shared_seaweedfs(), shared_dynoxide()) else { return };
    processes_that_die_and_stall_change_nothing(s3, dynamo, false).await;
}

#[tokio::test]
async fn processes_that_die_and_stall_change_nothing_on_ministack_with_manifests_in_dynamodb() {
    let Some(server) = shared_ministack() else { return };
    processes_that_die_and_stall_change_nothing(server, server, true).await;
}
