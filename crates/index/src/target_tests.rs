//! Runs the conformance tests of targets for the index.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::clock::ManualClock;
use docweir_objects::memory::{Faults, MemoryObjects};
use docweir_target::conformance::World;
use docweir_target::{Capabilities, Target};

use crate::{VectorOptions, VectorStore};

struct Memory(Arc<MemoryObjects>);

impl Memory {
    fn with(&self, options: VectorOptions) -> Arc<dyn Target> {
        Arc::new(VectorStore::new(self.0.clone(), "chunks", self.0.clock(), options).unwrap())
    }
}

#[async_trait]
impl World for Memory {
    async fn open(&self) -> Arc<dyn Target> {
        self.with(VectorOptions::default())
    }

    async fn limited(&self, limits: Capabilities) -> Arc<dyn Target> {
        self.with(VectorOptions {
            max_commit_documents: limits.max_documents,
            max_commit_rows: limits.max_rows,
            max_commit_bytes: limits.max_bytes,
            ..VectorOptions::default()
        })
    }

    fn lose_replies(&self, lose: bool) -> bool {
        self.0.set_faults(Faults { lost_reply: if lose { 1.0 } else { 0.0 }, ..Faults::default() });
        true
    }
}

fn objects(faults: Faults) -> Arc<MemoryObjects> {
    Arc::new(MemoryObjects::with_faults(Arc::new(ManualClock::at(1_700_000_000_000_000)), 7, faults))
}

mod quiet {
    use super::*;

    docweir_target::target_conformance!(async { Some(Memory(objects(Faults::default()))) });
}

/// Uses a store that sometimes loses replies and reports false conflicts.
mod faulty {
    use super::*;

    fn faults() -> Faults {
        Faults { lost_request: 0.2, lost_reply: 0.3, false_conflict: 0.2, ..Faults::default() }
    }

    docweir_target::target_conformance!(async { Some(Memory(objects(faults()))) });
}
