//! Tests the store's behaviour: the life of a document, concurrent writers, damaged files and failing disks.

mod faults;
mod life;
mod processes;

use std::path::PathBuf;
use std::sync::Arc;

use docweir_core::clock::ManualClock;

use super::*;
use crate::control::conformance::{self, *};

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

    /// Runs an SQL statement directly on the file, as a person with a shell would.
    fn raw(&self, sql: &str) -> usize {
        rusqlite::Connection::open(self.path()).unwrap().execute(sql, []).unwrap()
    }

    fn number(&self, sql: &str) -> f64 {
        rusqlite::Connection::open(self.path()).unwrap().query_row(sql, [], |r| r.get(0)).unwrap()
    }

    async fn register_one(&self, source: &str) -> DocumentKey {
        conformance::register_one(self, source).await
    }

    async fn claim_one(&self) -> Claim {
        conformance::claim_one(self).await
    }
}

#[async_trait(?Send)]
impl World for Fixture {
    fn store(&self) -> &dyn ControlStore {
        &self.store
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn set_by_hand(&self, id: &DocumentId, status: &str) {
        let set = format!("UPDATE document_processing_control SET status = '{status}', retry_count = 0");
        assert_eq!(self.raw(&format!("{set} WHERE document_id = '{id}'")), 1);
    }

    async fn metric(&self, metric: &str) -> f64 {
        let select = "SELECT value FROM pipeline_metrics_daily WHERE date = '2025-11-21' AND metric_type = ";
        self.number(&format!("{select}'{metric}'"))
    }

    async fn reopen(&mut self) {
        self.store = open(&self.path(), &self.clock).await;
    }
}

crate::control_conformance!(async { Some(Fixture::new().await) });

#[test]
fn the_store_does_what_the_model_does() {
    does_what_the_model_does(48, Fixture::new);
}

async fn open(path: &Path, clock: &Arc<ManualClock>) -> SqliteControlStore {
    SqliteControlStore::open(path, SqliteControlOptions::default(), clock.clone()).await.unwrap()
}
