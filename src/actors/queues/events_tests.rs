//! Tests bucket events with a control store in a folder and a bucket in memory.

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use docweir_core::clock::ManualClock;
use docweir_core::documents::{Sha256Hex, Stage};
use docweir_stores::control::sqlite::SqliteControlStore;
use docweir_stores::control::{ControlRecord, ControlStore, RecordFilter, Transition};

use super::*;
use crate::actors::outages::Outages;
use crate::intake::IntakeOptions;
use crate::intake::originals::{LOCAL_DISK, Original, Originals};
use crate::supervisors::RetryOptions;

/// Changes a bucket in the middle of an operation.
type Then = Box<dyn FnOnce(&Bucket) + Send>;

/// Holds objects by source. Runs an action after the next read.
#[derive(Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Errors that the next calls of `open` return, in reverse order.
    failures: Mutex<Vec<StageError>>,
    /// Action that runs after the next read of an object.
    after_reading: Mutex<Option<Then>>,
    read: Mutex<u32>,
}

impl Bucket {
    fn put(&self, source: &str, content: &str) {
        self.objects.lock().unwrap().insert(source.to_owned(), content.as_bytes().to_vec());
    }

    fn remove(&self, source: &str) {
        self.objects.lock().unwrap().remove(source);
    }

    fn get(&self, source: &str) -> Option<Vec<u8>> {
        self.objects.lock().unwrap().get(source).cloned()
    }
}

fn tag(content: &[u8]) -> String {
    Sha256Hex::of(content).to_string()
}

#[async_trait]
impl Originals for Bucket {
    async fn open(&self, source: &str) -> Result<Original, StageError> {
        if let Some(error) = self.failures.lock().unwrap().pop() {
            return Err(error);
        }
        *self.read.lock().unwrap() += 1;
        let content = self.get(source).ok_or_else(|| StageError::permanent(GONE, "gone"))?;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        file.rewind().unwrap();
        if let Some(then) = self.after_reading.lock().unwrap().take() {
            then(self);
        }
        Ok(Original { file, tag: Some(tag(&content)) })
    }

    async fn look(&self, source: &str) -> Result<Option<Listed>, StageError> {
        let listed = |content: Vec<u8>| {
            let (bytes, tag) = (content.len() as u64, tag(&content));
            Listed { source: source.to_owned(), bytes, tag }
        };
        Ok(self.get(source).map(listed))
    }
}

struct World {
    _dir: tempfile::TempDir,
    bucket: Arc<Bucket>,
    control: Arc<SqliteControlStore>,
    told: Arc<Mutex<Vec<Event>>>,
    events: BucketEvents,
}

impl World {
    async fn new(follow_removals: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_763_718_000_000_000));
        let control = SqliteControlStore::open(&dir.path().join("control.db"), Default::default(), clock.clone()).await;
        let (control, bucket) = (Arc::new(control.unwrap()), Arc::new(Bucket::default()));
        let told: Arc<Mutex<Vec<Event>>> = Arc::default();
        let tell = told.clone();
        let intake = Intake {
            control: control.clone(),
            originals: bucket.clone(),
            events: Arc::new(move |event| tell.lock().unwrap().push(event)),
            options: IntakeOptions { max_file_bytes: 1_000, ..IntakeOptions::default() },
            fingerprint: Sha256Hex::of(b"configuration"),
            retry: RetryOptions::default(),
            wake: Arc::default(),
            outages: Arc::new(Outages::new(Arc::default(), Arc::new(|_| {}), clock, dir.path().into())),
        };
        let watched = vec![("papers".to_owned(), "input/".to_owned())];
        Self { _dir: dir, bucket, control, told, events: BucketEvents { intake, watched, follow_removals } }
    }

    async fn records(&self) -> Vec<ControlRecord> {
        self.control.list(&RecordFilter::default(), None, 100).await.unwrap()
    }

    async fn only(&self) -> ControlRecord {
        let mut records = self.records().await;
        assert_eq!(records.len(), 1);
        records.remove(0)
    }

    async fn done(&self, body: &str) {
        let outcome = self.events.handle(body).await.unwrap();
        assert!(matches!(outcome, MessageOutcome::Done | MessageOutcome::Ignored), "{body}: {outcome:?}");
    }
}

const A: &str = "s3://papers/input/a.pdf";

fn event(name: &str, bucket: &str, key: &str) -> String {
    let object = serde_json::json!({"key": key, "size": 3, "eTag": "x", "sequencer": "01"});
    let record = serde_json::json!({"eventName": name, "s3": {"bucket": {"name": bucket}, "object": object}});
    serde_json::json!({ "Records": [record] }).to_string()
}

fn created() -> String {
    event("ObjectCreated:Put", "papers", "input/a.pdf")
}

fn removed() -> String {
    event("ObjectRemoved:Delete", "papers", "input/a.pdf")
}

#[tokio::test]
async fn an_object_is_registered_once_however_often_and_in_whatever_order_it_is_told_of() {
    let world = World::new(false).await;
    world.bucket.put(A, "one");
    for _ in 0..50 {
        world.done(&created()).await;
        world.done(&removed()).await;
    }
    let first = world.only().await;
    assert_eq!((first.source.as_str(), first.version, first.status), (A, 1, DocumentStatus::Pending));
    world.bucket.put(A, "two");
    // An old event also leads to the current state.
    world.done(&removed()).await;
    world.done(&created()).await;
    let second = world.only().await;
    assert_eq!((&second.document_id, second.version), (&first.document_id, 2));
    assert_eq!(second.content_sha256, Sha256Hex::of(b"two"));
}

#[tokio::test]
async fn what_is_not_to_become_a_document_is_not_even_looked_at() {
    let world = World::new(true).await;
    for (bucket, key) in [
        ("papers", "input/notes.bin"),
        ("papers", "input/_quarantine/doc_1/v1/a.pdf"),
        ("papers", "elsewhere/a.pdf"),
        ("papers", "input/folder/"),
        ("others", "input/a.pdf"),
    ] {
        world.bucket.put(&format!("s3://{bucket}/{key}"), "x");
        world.done(&event("ObjectCreated:Put", bucket, key)).await;
    }
    world.bucket.put("s3://papers/input/Ü b+.PDF", "x");
    world.done(&event("ObjectCreated:Put", "papers", "input/%C3%9C+b%2B.PDF")).await;
    assert_eq!(world.only().await.source, "s3://papers/input/Ü b+.PDF");
    assert_eq!(*world.bucket.read.lock().unwrap(), 1);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_without_quoting_it_and_a_try_is_done() {
    let world = World::new(false).await;
    world.done(r#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "papers"}"#).await;
    world.done(r#"{"Records": []}"#).await;
    for body in ["", "hunter2", r#"{"hunter2": 1}"#, r#"{"Records": [{"hunter2": 1}]}"#] {
        match world.events.handle(body).await.unwrap() {
            MessageOutcome::Refused(reason) => assert!(!reason.contains("hunter2"), "{reason}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    assert_eq!(world.records().await.len(), 0);
}

#[tokio::test]
async fn an_object_that_is_gone_leaves_the_index_where_that_is_wished() {
    for follows in [false, true] {
        let world = World::new(follows).await;
        world.done(&removed()).await;
        world.done(&created()).await;
        assert_eq!(world.records().await.len(), 0, "the document was never registered");
        world.bucket.put(A, "one");
        world.done(&created()).await;
        world.bucket.remove(A);
        // The type of an event does not matter, only the state of the bucket.
        world.done(&created()).await;
        let intent = world.only().await.intent;
        assert_eq!(intent, if follows { Intent::Delete } else { Intent::Process });
        world.done(&removed()).await;
        let told = world.told.lock().unwrap().clone();
        let asked = told.iter().filter(|e| matches!(e, Event::RemovalRequested { .. })).count();
        assert_eq!(asked, usize::from(follows), "{told:?}");
        world.bucket.put(A, "one");
        world.done(&created()).await;
        assert_eq!(world.only().await.intent, Intent::Process, "the document is wanted again");
    }
}

/// Tests an object that is deleted after this replica has read it and before this replica has registered it. Without
/// a second inspection, the document would stay forever.
#[tokio::test]
async fn what_goes_while_it_is_read_does_not_stay() {
    let world = World::new(true).await;
    world.bucket.put(A, "one");
    *world.bucket.after_reading.lock().unwrap() = Some(Box::new(|bucket| bucket.remove(A)));
    world.done(&created()).await;
    assert_eq!(world.only().await.intent, Intent::Delete);
}

#[tokio::test]
async fn what_changes_while_it_is_read_is_read_again() {
    let world = World::new(true).await;
    world.bucket.put(A, "one");
    *world.bucket.after_reading.lock().unwrap() = Some(Box::new(|bucket| bucket.put(A, "two")));
    world.done(&created()).await;
    let record = world.only().await;
    assert_eq!((record.content_sha256, record.version), (Sha256Hex::of(b"two"), 2));
}

#[tokio::test]
async fn an_outage_is_nobodys_fault_and_what_may_not_be_read_is_told() {
    let world = World::new(false).await;
    world.bucket.put(A, "one");
    for error in [
        StageError::throttled("less", None),
        StageError::transient("unreadable", "cut"),
        StageError::unavailable(LOCAL_DISK, "full"),
        StageError::unavailable(BUCKET, "ExpiredToken"),
    ] {
        world.bucket.failures.lock().unwrap().push(error);
        assert!(matches!(world.events.handle(&created()).await.unwrap(), MessageOutcome::Outage(_)));
    }
    world.bucket.failures.lock().unwrap().push(StageError::permanent("permission_denied", "not for you"));
    assert!(matches!(world.events.handle(&created()).await.unwrap(), MessageOutcome::Refused(_)));
    world.bucket.put(A, &"x".repeat(1_001));
    match world.events.handle(&created()).await.unwrap() {
        MessageOutcome::Refused(reason) => assert!(reason.contains("intake.max_file_bytes"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let told = world.told.lock().unwrap().clone();
    assert!(told.iter().all(|e| matches!(e, Event::Unreadable { source, .. } if source == A)), "{told:?}");
    assert_eq!((told.len(), world.records().await.len()), (2, 0));
}

/// Several records are one message. The good ones are registered, and only the bad one is left to the queue.
#[tokio::test]
async fn one_bad_record_of_a_message_does_not_keep_the_others_out() {
    let world = World::new(false).await;
    world.bucket.put(A, "one");
    world.bucket.put("s3://papers/input/large.pdf", &"x".repeat(1_001));
    let record = |body: &str| serde_json::from_str::<Value>(body).unwrap()["Records"][0].clone();
    let large = record(&event("ObjectCreated:Put", "papers", "input/large.pdf"));
    let bad = serde_json::json!({"eventName": "ObjectCreated:Put"});
    let body = serde_json::json!({"Records": [large, bad, record(&created())]}).to_string();
    let MessageOutcome::Split { bodies, reason } = world.events.handle(&body).await.unwrap() else { panic!() };
    assert!(reason.contains("intake.max_file_bytes"), "{reason}");
    let alone = |record: &Value| serde_json::json!({ "Records": [record] }).to_string();
    assert_eq!(bodies, [alone(&large), alone(&bad)]);
    assert_eq!(world.only().await.source, A);
    for body in bodies {
        assert!(matches!(world.events.handle(&body).await.unwrap(), MessageOutcome::Refused(_)), "{body}");
    }
}

/// During an outage of one object, the other records of the message are handled, and nothing is reported twice.
#[tokio::test]
async fn an_object_that_waits_does_not_keep_out_the_others_of_its_message() {
    let world = World::new(false).await;
    world.bucket.put(A, "one");
    world.bucket.put("s3://papers/input/b.pdf", "two");
    let record = |body: &str| serde_json::from_str::<Value>(body).unwrap()["Records"][0].clone();
    let b = record(&event("ObjectCreated:Put", "papers", "input/b.pdf"));
    let body = serde_json::json!({"Records": [b, record(&created())]}).to_string();
    world.bucket.failures.lock().unwrap().push(StageError::unavailable(ONE_OBJECT, "denied"));
    assert!(matches!(world.events.handle(&body).await.unwrap(), MessageOutcome::Alone(_)));
    assert_eq!(world.only().await.source, A);
    world.done(&body).await;
    assert_eq!(world.records().await.len(), 2);
}

#[tokio::test]
async fn events_are_counted_by_what_was_found() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new(false).await;
    world.bucket.put(A, "one");
    world.done(&created()).await;
    world.done(&event("ObjectCreated:Put", "papers", "input/none.pdf")).await;
    world.done(&event("ObjectCreated:Put", "others", "input/a.pdf")).await;
    world.done(&event("ObjectCreated:Put", "papers", "input/notes.bin")).await;
    let counted = handle.render();
    for outcome in ["present", "absent", "unwatched", "unwanted"] {
        let line = format!("docweir_bucket_events_total{{outcome=\"{outcome}\"}} 1");
        assert!(counted.contains(&line), "{line} in {counted}");
    }
}

/// A refused object was read, so the bucket is available.
#[tokio::test]
async fn a_refused_object_ends_an_outage() {
    let world = World::new(false).await;
    world.bucket.put(A, &"x".repeat(1_001));
    world.events.intake.outages.report(INTAKE, &StageError::unavailable(BUCKET, "ExpiredToken"));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(world.events.intake.outages.lasts(INTAKE).is_some());
    assert!(matches!(world.events.handle(&created()).await.unwrap(), MessageOutcome::Refused(_)));
    assert_eq!(world.events.intake.outages.lasts(INTAKE), None);
}

/// Some servers do not encode the keys of their events as S3 does.
#[tokio::test]
async fn an_object_is_found_under_the_key_of_a_server_that_does_not_encode() {
    let world = World::new(true).await;
    for key in ["a+b.pdf", "100%.pdf", "50%25.pdf"] {
        world.bucket.put(&format!("s3://papers/input/{key}"), key);
        world.done(&event("ObjectCreated:Put", "papers", &format!("input/{key}"))).await;
    }
    let sources: Vec<String> = world.records().await.into_iter().map(|record| record.source).collect();
    assert_eq!(sources.len(), 3, "{sources:?}");
    world.bucket.remove("s3://papers/input/a+b.pdf");
    world.done(&event("LifecycleExpiration:Delete", "papers", "input/a+b.pdf")).await;
    let removed = world.records().await.into_iter().filter(|record| record.intent == Intent::Delete);
    assert_eq!(removed.map(|record| record.source).collect::<Vec<_>>(), ["s3://papers/input/a+b.pdf"]);
}

#[tokio::test]
async fn both_keys_of_a_server_that_does_not_encode_are_looked_at() {
    let world = World::new(true).await;
    for key in ["a b.pdf", "a+b.pdf"] {
        world.bucket.put(&format!("s3://papers/input/{key}"), key);
    }
    let record = |key: &str| {
        let body = event("ObjectCreated:Put", "papers", &format!("input/{key}"));
        serde_json::from_str::<Value>(&body).unwrap()["Records"][0].clone()
    };
    world.done(&serde_json::json!({"Records": [record("a b.pdf"), record("a+b.pdf")]}).to_string()).await;
    let mut sources: Vec<String> = world.records().await.into_iter().map(|record| record.source).collect();
    sources.sort();
    assert_eq!(sources, ["s3://papers/input/a b.pdf", "s3://papers/input/a+b.pdf"]);
}

#[tokio::test]
async fn a_quarantined_document_is_not_started_again_by_an_event() {
    let world = World::new(true).await;
    world.bucket.put(A, "poison");
    world.done(&created()).await;
    let claim = world.control.claim("me", Duration::from_secs(60), 1, None).await.unwrap().remove(0);
    let (stage, error) = (Stage::Extraction, StageError::permanent("not_a_pdf", "no"));
    let quarantined = Transition::Quarantined { stage, error, artefact: None, original: None };
    world.control.apply(&claim.key, quarantined).await.unwrap();
    for _ in 0..10 {
        world.done(&created()).await;
    }
    let record = world.only().await;
    assert_eq!((record.status, record.version), (DocumentStatus::Quarantined, 1));
    world.bucket.put(A, "mended");
    world.done(&created()).await;
    assert_eq!(world.only().await.status, DocumentStatus::Pending);
}
