//! Writes of artefacts by who may have lost the document meanwhile.
//!
//! Artefacts lie under the document's id alone, as the former system has them. A process that was stopped for longer
//! than its lease would write over what its successor has left there, of this version or of a newer one. So an object
//! is put where there is none, or in the place of the very one that was there *before* the claim was found to be
//! valid:
//!
//! ```text
//! put if absent ── there is one ──▶ its tag ──▶ is the claim valid? ──▶ put if it still has that tag
//! ```
//! Whoever took the document over since has a later claim. What they have put changes the tag, and the late put is
//! refused; what they put later replaces it.
//!
//! The first artefact of a key costs no request more; where there is one, two, and a look at the record for all
//! objects of a stage. An endpoint that does not know conditional puts (`buckets.register = "dynamodb"`) has the look
//! alone: a process that is stopped between look and put is found out by the hash in the record when the artefact is
//! read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use docweir_core::backoff::Backoff;
use docweir_core::error::StageError;
use docweir_objects::{Durability, ObjectError, ObjectStore, Precondition};
use docweir_stores::control::{ClaimKey, ControlError, ControlStore, rules};
use futures_util::TryStreamExt;
use futures_util::stream::{self, StreamExt};
use tokio::time::sleep;

use crate::actors::outcomes::control;
use crate::actors::outcomes::storage;

/// Times that an object may change under the hands of who holds the claim: each time somebody else has written who
/// held it before.
const MOST_CHANGES: u32 = 5;
/// Waits after failures; their number is bounded, and so are they.
const BACKOFF: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::MAX).with_jitter(0.0, 1.0);

pub struct Fence {
    pub objects: Arc<dyn ObjectStore>,
    pub control: Arc<dyn ControlStore>,
    /// Whether the objects' place enforces conditions of puts.
    pub is_conditional: bool,
    /// Objects that are put at once.
    pub parallel_puts: usize,
    /// Attempts at what the network or the service fails: no client repeats a conditional put by itself.
    pub attempts: u32,
}

/// An object on its way, and when it may be put.
struct Put {
    key: String,
    body: Bytes,
    when: Precondition,
    failed: Option<ObjectError>,
}

impl Fence {
    /// Puts objects of a claimed document; the last one only if all others are there.
    pub async fn put_all(&self, claim: &ClaimKey, mut objects: Vec<(String, Bytes)>) -> Result<(), StageError> {
        if !self.is_conditional {
            self.demand(claim).await?;
            return self.objects.put_all(objects, Durability::Rebuildable).await.map_err(storage);
        }
        let last = objects.pop();
        for part in [objects, last.into_iter().collect()] {
            self.put_part(claim, part).await?;
        }
        Ok(())
    }

    /// Whether the claim is still the newest one on its document.
    pub async fn holds(&self, claim: &ClaimKey) -> Result<bool, StageError> {
        match self.control.record(&claim.id).await {
            Ok(record) => Ok(rules::check_claim(Some(&record), claim).is_ok()),
            Err(ControlError::NotFound(_)) => Ok(false),
            Err(error) => Err(control(error)),
        }
    }

    /// Fails where it is not. The pool drops the work in silence then: whoever holds the document now answers for it.
    pub async fn demand(&self, claim: &ClaimKey) -> Result<(), StageError> {
        match self.holds(claim).await? {
            true => Ok(()),
            false => Err(StageError::transient("claim_lost", "the claim on the document is no longer valid")),
        }
    }

    async fn put_part(&self, claim: &ClaimKey, objects: Vec<(String, Bytes)>) -> Result<(), StageError> {
        let absent = |(key, body)| Put { key, body, when: Precondition::Absent, failed: None };
        let mut left: Vec<Put> = objects.into_iter().map(absent).collect();
        let (mut changes, mut failures) = (0, 0);
        loop {
            let put = self.at_once(left, |put| self.put(put)).await?;
            left = put.into_iter().flatten().collect();
            let Some(first) = left.first() else { return Ok(()) };
            match left.iter().find_map(|put| put.failed.clone()) {
                Some(error) => {
                    failures += 1;
                    if failures >= self.attempts {
                        return Err(storage(error));
                    }
                    tracing::debug!(%error, failures, "an artefact may not have been written; it is looked at");
                    sleep(BACKOFF.wait(failures - 1, fastrand::f64())).await;
                }
                None => {
                    changes += 1;
                    if changes >= MOST_CHANGES {
                        let text = format!("`{}` changed {changes} times while it was to be written", first.key);
                        return Err(StageError::transient("artefact_contended", text));
                    }
                }
            }
            // What is there now, and then the claim: in this order.
            left = self.at_once(left, |put| self.look(put)).await?;
            self.demand(claim).await?;
        }
    }

    /// Gives back what was not put, or may not have been.
    async fn put(&self, put: Put) -> Result<Option<Put>, ObjectError> {
        match self.objects.put(&put.key, put.body.clone(), put.when.clone(), Durability::Rebuildable).await {
            Ok(_) => Ok(None),
            Err(ObjectError::Conflict(_)) => Ok(Some(put)),
            Err(error @ (ObjectError::Unknown { .. } | ObjectError::Transient { .. })) => {
                Ok(Some(Put { failed: Some(error), ..put }))
            }
            Err(error) => Err(error),
        }
    }

    async fn look(&self, put: Put) -> Result<Put, ObjectError> {
        let when = match self.objects.tag(&put.key).await {
            Ok(tag) => Precondition::Matches(tag),
            Err(ObjectError::NotFound(_)) => Precondition::Absent,
            Err(error) => return Err(error),
        };
        Ok(Put { when, failed: None, ..put })
    }

    async fn at_once<T, F>(&self, puts: Vec<Put>, op: impl Fn(Put) -> F) -> Result<Vec<T>, StageError>
    where
        F: Future<Output = Result<T, ObjectError>>,
    {
        let done = stream::iter(puts).map(op).buffer_unordered(self.parallel_puts.max(1)).try_collect();
        done.await.map_err(storage)
    }
}

#[cfg(test)]
#[path = "fence_tests.rs"]
mod tests;
