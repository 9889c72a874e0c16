//! Tests the ledger in SQLite.

use std::sync::Arc;
use std::time::Duration;

use docweir_core::clock::ManualClock;

use super::conformance::{NOW, World};
use super::*;
use crate::paid;
use crate::sqlite::{Database, OpenOptions};

const OPTIONS: OpenOptions = OpenOptions::durable(Duration::from_secs(5), 1_000, 512);

struct LedgerFixture {
    ledger: SqliteLedger,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
}

fn open(folder: &tempfile::TempDir) -> Database {
    paid::open(&folder.path().join("paid.db"), &OPTIONS).unwrap()
}

fn fixture() -> LedgerFixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let ledger = SqliteLedger::new(open(&folder), clock.clone());
    LedgerFixture { ledger, clock, folder }
}

#[async_trait(?Send)]
impl World for LedgerFixture {
    fn ledger(&self) -> &dyn Ledger {
        &self.ledger
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn another(&self) -> Box<dyn Ledger> {
        Box::new(SqliteLedger::new(open(&self.folder), self.clock.clone()))
    }
}

async fn world() -> Option<LedgerFixture> {
    Some(fixture())
}

crate::ledger_conformance!(world());

#[test]
fn sums_are_what_entries_add_up_to() {
    conformance::sums_are_what_entries_add_up_to(24, async || fixture());
}
