//! Protects artefacts from writes of a process that has lost its claim on the document.
//!
//! The key of an artefact contains only the document id, as in the former system. A process that was stopped for
//! longer than its lease could therefore overwrite the artefacts of its successor. To prevent this, an object is put
//! only if the key is unused, or if the put replaces exactly the object that existed *before* the claim was checked:
//!
//! ```text
//! put if absent ── exists ──▶ read its tag ──▶ check the claim ──▶ put if the tag is unchanged
//! ```
//! Another process, the successor, may take over the document after that check. If the successor has already put its
//! object, the tag has changed, and the put of the stopped process is refused. If the successor puts its object
//! later, its object replaces the object of the stopped process.
//!
//! The first artefact under a key costs no additional request. An existing artefact costs two more requests, and one
//! read of the control record for all objects of a stage. If the endpoint has no conditional puts
//! (`buckets.register = "dynamodb"`), only the claim is checked. A process may then be stopped between the check and
//! its put. In this case, the hash in the control record exposes the wrong artefact when it is read.

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

/// Maximum number of times that an object may be changed by others while this process tries to put it. Each change is
/// a late put by a process with an earlier claim.
const MOST_CHANGES: u32 = 5;
/// Backoff after a failed put. The limit on attempts also limits the total wait.
const BACKOFF: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::MAX).with_jitter(0.0, 1.0);

/// Puts the artefacts of a document only while the claim on the document is valid.
pub struct Fence {
    pub objects: Arc<dyn ObjectStore>,
    pub control: Arc<dyn ControlStore>,
    /// True if the object store supports conditional puts.
    pub is_conditional: bool,
    /// Maximum number of objects that are put concurrently.
    pub parallel_puts: usize,
    /// Maximum number of attempts to put an object if the network or the service fails. The clients of object stores
    /// do not retry conditional puts themselves.
    pub attempts: u32,
}

/// Holds an object to put, and the condition under which it is put.
struct Put {
    key: String,
    body: Bytes,
    when: Precondition,
    failed: Option<ObjectError>,
}

impl Fence {
    /// Puts the objects of a claimed document. The last object is put only after all others have been put.
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

    /// Returns whether the claim is still the newest claim on its document.
    pub async fn holds(&self, claim: &ClaimKey) -> Result<bool, StageError> {
        match self.control.record(&claim.id).await {
            Ok(record) => Ok(rules::check_claim(Some(&record), claim).is_ok()),
            Err(ControlError::NotFound(_)) => Ok(false),
            Err(error) => Err(control(error)),
        }
    }

    /// Returns an error if the claim is no longer valid. The pool then drops the job without reporting an error. The
    /// process that holds the newer claim reports the outcome.
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
                    tracing::debug!(%error, failures, "artefact may not have been written; checking it");
                    sleep(BACKOFF.wait(failures - 1, fastrand::f64())).await;
                }
                None => {
                    changes += 1;
                    if changes >= MOST_CHANGES {
                        let text =
                            format!("object `{}` was changed {changes} times while it was being written", first.key);
                        return Err(StageError::unavailable("artefact_contended", text));
                    }
                }
            }
            // The current tag must be read before the claim is checked.
            left = self.at_once(left, |put| self.look(put)).await?;
            self.demand(claim).await?;
        }
    }

    /// Puts an object. Returns the object if the put was refused or its result is unknown, and otherwise `None`.
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
