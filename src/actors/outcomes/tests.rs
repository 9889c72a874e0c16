use std::sync::Arc;
use std::time::Duration;

use docweir_core::clock::{ManualClock, SharedClock};
use docweir_core::documents::Stage;
use docweir_core::error::StageError;
use docweir_core::model::{Metric, ModelIdentity};
use docweir_objects::memory::MemoryObjects;
use docweir_objects::{Durability, ObjectStore, Precondition};
use docweir_stores::control::conformance::document;
use docweir_stores::control::sqlite::SqliteControlStore;
use docweir_stores::control::{Claim, ControlStore, NewDocument};

use super::*;
use crate::actors::artefacts::Artefacts;
use crate::actors::outages::Outages;
use crate::actors::quarantine::QuarantineStore;
use crate::intake::originals::LocalOriginals;
use crate::messages::event::Event;
use crate::messages::job::{Input, Job, StageResult};
use crate::supervisors::{OutcomeSink, Persisted, Verdict};

const LEASE: Duration = Duration::from_secs(60);

struct Fixture {
    _dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    objects: Arc<MemoryObjects>,
    context: Arc<StageContext>,
}

impl Fixture {
    /// Creates a control store with one document.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_763_718_000_000_000));
        let shared: SharedClock = clock.clone();
        let control =
            SqliteControlStore::open(&dir.path().join("control.db"), Default::default(), shared.clone()).await.unwrap();
        let original = dir.path().join("a.pdf");
        std::fs::write(&original, "content").unwrap();
        let new = NewDocument { source: crate::intake::source::of_path(&original), ..document("", "content") };
        control.register(vec![new]).await.unwrap();
        let objects = Arc::new(MemoryObjects::new(clock.clone()));
        let model = ModelIdentity { id: "m".into(), weights: "w".into(), dimension: 2, metric: Metric::Cosine };
        let outages = Outages::new(Arc::default(), Arc::new(|_: Event| {}), shared.clone(), dir.path().into());
        let outages = Arc::new(outages);
        let context = Arc::new(StageContext {
            control: Arc::new(control),
            artefacts: Artefacts::new(objects.clone(), Default::default(), model),
            quarantine: QuarantineStore::new(objects.clone(), Arc::new(LocalOriginals), shared, Default::default()),
            batches: None,
            events: Arc::new(|_: Event| {}),
            claims: Arc::default(),
            outages,
        });
        Self { _dir: dir, clock, objects, context }
    }

    async fn claim(&self, owner: &str) -> Claim {
        self.context.control.claim(owner, LEASE, 1, None).await.unwrap().remove(0)
    }

    async fn quarantine(&self, claim: &Claim, code: &str) -> bool {
        let error = StageError::permanent(code, "can't be read");
        self.context.quarantine(claim, Stage::Extraction, &error, 1).await.unwrap()
    }

    async fn objects(&self) -> Vec<String> {
        self.objects.list("", None, 100).await.unwrap().into_iter().map(|o| o.key).collect()
    }

    /// Returns the keys that the control record refers to, sorted.
    async fn spoken_of(&self, claim: &Claim) -> Vec<String> {
        let record = self.context.control.record(&claim.key.id).await.unwrap();
        [record.quarantine_artefact, record.quarantine_original].into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn a_superseded_claim_takes_nothing_away_that_its_successor_keeps() {
    let f = Fixture::new().await;
    let stalled = f.claim("stalled").await;
    f.clock.advance(2 * LEASE);
    let successor = f.claim("successor").await;
    assert!(f.quarantine(&successor, "damaged").await);
    let kept = f.objects().await;
    assert_eq!(kept, f.spoken_of(&successor).await);

    assert!(!f.quarantine(&stalled, "late").await);
    assert_eq!(f.objects().await, kept, "only the objects of the late process are deleted");
    let failure = f.objects.get(&kept[0]).await.unwrap().0;
    assert!(String::from_utf8_lossy(&failure).contains("damaged"));
}

#[tokio::test]
async fn a_superseded_claim_that_completes_takes_nothing_away() {
    let f = Fixture::new().await;
    let first = f.claim("first").await;
    assert!(f.quarantine(&first, "damaged").await);
    f.context.control.reset(&first.key.id, None).await.unwrap();
    let stalled = f.claim("stalled").await;
    assert_eq!(stalled.kept.len(), 2);
    f.clock.advance(2 * LEASE);
    let successor = f.claim("successor").await;
    assert!(f.quarantine(&successor, "damaged").await);
    let kept = f.objects().await;
    assert_eq!(kept, f.spoken_of(&successor).await, "the evidence of the first quarantine is deleted");

    let outcomes = StageOutcomes { context: f.context.clone(), stage: Stage::Loading, next: None };
    let job = Arc::new(Job { input: Input::Original, claim: Arc::new(stalled) });
    let done = StageResult {
        output: None,
        metrics: Default::default(),
        duration: Duration::ZERO,
        next: None,
        children: Vec::new(),
    };
    let persisted = outcomes.persist(&job, &Verdict::Done(done)).await.unwrap();
    assert!(matches!(persisted, Persisted::Fenced));
    assert_eq!(f.objects().await, kept);
}

#[tokio::test]
async fn what_no_record_speaks_of_is_swept_away_and_nothing_else() {
    let f = Fixture::new().await;
    let claim = f.claim("one").await;
    assert!(f.quarantine(&claim, "damaged").await);
    let kept = f.objects().await;
    let id = &claim.key.id;
    for key in [format!("errors/{id}/v1/extraction_99.json"), "input/_quarantine/doc_unknown/v1/a.pdf".into()] {
        let put = f.objects.put(&key, "x".into(), Precondition::None, Durability::Durable);
        put.await.unwrap();
    }
    assert_eq!(f.context.quarantine.sweep(f.context.control.as_ref()).await.unwrap(), 2);
    assert_eq!(f.objects().await, kept);
}
