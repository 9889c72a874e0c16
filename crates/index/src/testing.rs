//! Provides small documents, models and stores for tests.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use docweir_core::clock::ManualClock;
use docweir_objects::memory::{Faults, MemoryObjects};
pub use docweir_target::testing::{delete, document, id, model, row, unit};

use super::delta::{DeltaHeader, FORMAT};
use super::{VectorOptions, VectorStore};

/// Returns the row texts of one document version; `None` if this version is a deletion. The same arguments always
/// give the same texts.
pub fn content(document: u8, version: u64) -> Option<Vec<String>> {
    let kind = (u64::from(document) * 7 + version * 3) % 5;
    (kind > 0).then(|| (1..kind).map(|i| format!("document {document} version {version} row {i}")).collect())
}

pub fn header(dimension: u32) -> DeltaHeader {
    DeltaHeader {
        format: FORMAT,
        collection: "chunks".into(),
        generation: 1,
        model: model(dimension),
        base_version: 4,
        writer: "w".into(),
        sequence: 5,
        commit_id: "c".into(),
        created_at: "2026-01-01T00:00:00.000000Z".into(),
    }
}

pub fn objects(seed: u64, faults: Faults) -> Arc<MemoryObjects> {
    Arc::new(MemoryObjects::with_faults(Arc::new(ManualClock::at(1_700_000_000_000_000)), seed, faults))
}

pub fn store(objects: &Arc<MemoryObjects>) -> Arc<VectorStore> {
    store_with(objects, VectorOptions::default())
}

pub fn store_with(objects: &Arc<MemoryObjects>, options: VectorOptions) -> Arc<VectorStore> {
    Arc::new(VectorStore::new(objects.clone(), "chunks", objects.clock(), options).unwrap())
}

/// Polls a future at most `polls` times. Returns the output of the future, or `None` if the future has not completed
/// by then.
pub fn poll_some<F: Future>(future: &mut Pin<&mut F>, polls: usize) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}

pub fn run<F: Future>(future: F) -> F::Output {
    poll_some(&mut pin!(future), 1_000_000).expect("the future did not complete")
}
