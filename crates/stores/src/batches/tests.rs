//! Tests the store of items and batches in SQLite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::clock::ManualClock;
use docweir_core::documents::Sha256Hex;

use super::conformance::{self, NOW, World};
use super::*;
use crate::ledger::{Ledger, SqliteLedger};
use crate::paid;
use crate::sqlite::OpenOptions;

const OPTIONS: OpenOptions = OpenOptions::durable(Duration::from_secs(5), 1_000, 512);

struct InAFile {
    batches: SqliteBatches,
    ledger: SqliteLedger,
    _folder: tempfile::TempDir,
}

fn in_a_file() -> InAFile {
    let folder = tempfile::tempdir().unwrap();
    let database = paid::open(&folder.path().join("paid.db"), &OPTIONS).unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let ledger = SqliteLedger::new(database.clone(), clock.clone());
    InAFile { batches: SqliteBatches::new(database, clock), ledger, _folder: folder }
}

#[async_trait(?Send)]
impl World for InAFile {
    fn batches(&self) -> &dyn Batches {
        &self.batches
    }

    fn ledger(&self) -> &dyn Ledger {
        &self.ledger
    }

    fn text_key(&self, _: &str, text: &str) -> String {
        Sha256Hex::of(text.as_bytes()).to_string()
    }

    fn shares_texts(&self) -> bool {
        true
    }
}

async fn world() -> Option<InAFile> {
    Some(in_a_file())
}

crate::batches_conformance!(world());

#[test]
fn nothing_is_lost_doubled_or_stale() {
    conformance::nothing_is_lost_doubled_or_stale(32, async || in_a_file());
}
