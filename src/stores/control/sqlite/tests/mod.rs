//! The store by behaviour: the life of a document, everybody else who writes, what can go wrong.

mod faults;
mod life;
mod model;
mod processes;

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::clock::{ManualClock, UnixMicros};
use crate::documents::MediaType;

const NOW: UnixMicros = 1_763_718_000_000_000;
const LEASE: Duration = Duration::from_secs(60);

struct Fixture {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    store: SqliteControlStore,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let store = open(&dir.path().join("control.db"), &clock).await;
        Self { dir, clock, store }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("control.db")
    }

    /// What somebody does with a shell.
    fn raw(&self, sql: &str) -> usize {
        rusqlite::Connection::open(self.path()).unwrap().execute(sql, []).unwrap()
    }

    fn number(&self, sql: &str) -> f64 {
        rusqlite::Connection::open(self.path()).unwrap().query_row(sql, [], |r| r.get(0)).unwrap()
    }

    async fn register_one(&self, source: &str) -> DocumentKey {
        match self.store.register(vec![document(source, "one")]).await.unwrap().remove(0) {
            Registered::New(key) => key,
            other => panic!("{other:?}"),
        }
    }

    async fn claim_one(&self) -> Claim {
        let mut claims = self.store.claim("owner", LEASE, 1, None).await.unwrap();
        assert_eq!(claims.len(), 1);
        claims.remove(0)
    }
}

async fn open(path: &Path, clock: &Arc<ManualClock>) -> SqliteControlStore {
    SqliteControlStore::open(path, SqliteControlOptions::default(), clock.clone()).await.unwrap()
}

fn document(source: &str, content: &str) -> NewDocument {
    NewDocument {
        source: format!("file:///{source}"),
        content: Sha256Hex::of(content.as_bytes()),
        fingerprint: Sha256Hex::of(b"configuration"),
        bytes: 10,
        media_type: MediaType::Pdf,
        tenant: "default".into(),
        weight: 1,
    }
}

fn started(stage: Stage) -> Transition {
    Transition::StageStarted { stage }
}

fn completed(stage: Stage) -> Transition {
    let output = Some(StageOutput { key: format!("{stage}/x"), sha256: Sha256Hex::of(b"artefact") });
    let metrics = StageMetrics::from([("tokens_processed".into(), 10.0)]);
    Transition::StageCompleted { stage, output, metrics, duration: Duration::from_millis(1500) }
}

fn done() -> Transition {
    let metrics = StageMetrics::from([("vectors_uploaded".into(), 3.0)]);
    Transition::Completed { metrics, duration: Duration::from_millis(500) }
}

/// Takes a claim through what is left of its stages.
async fn finish(store: &SqliteControlStore, claim: &Claim) -> Result<(), ControlError> {
    if claim.intent == Intent::Delete {
        return store.apply(&claim.key, Transition::Deleted).await;
    }
    for stage in Stage::ALL.into_iter().filter(|s| *s >= claim.stage) {
        store.apply(&claim.key, started(stage)).await?;
        store.apply(&claim.key, if stage == Stage::Loading { done() } else { completed(stage) }).await?;
    }
    Ok(())
}
