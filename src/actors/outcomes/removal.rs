//! Deletes the objects of documents that were deleted from the index.

use docweir_core::documents::{DocumentId, Version};
use docweir_core::error::StageError;
use docweir_stores::control::{Claim, ControlError, DocumentStatus, Intent, Transition};

use super::context::StageContext;
use super::errors::control;
use crate::actors::outcomes::storage;
use crate::messages::event::Event;

impl StageContext {
    /// Deletes all objects of a document, once the manifest contains the document's tombstone. Then records the
    /// document as deleted. Returns `false` if the claim is no longer valid.
    pub async fn deleted(&self, claim: &Claim) -> Result<bool, StageError> {
        if !self.artefacts.are_ours(&claim.key).await? {
            self.superseded(claim);
            return Ok(false);
        }
        self.artefacts.purge(&claim.key.id).await?;
        if let Some(batches) = &self.batches {
            batches.taken(claim.key.id.as_str()).await?;
        }
        self.quarantine.forget_all(&claim.key.id, claim.key.version).await.map_err(storage)?;
        // The children must be removed before the document is recorded as deleted, because no later run would remove
        // them.
        if !self.remove_children(claim).await? {
            return Ok(false);
        }
        let ours = self.apply(claim, Transition::Deleted).await?;
        if ours {
            self.claims.end(&claim.key);
            self.events.emit(Event::Deleted { document: claim.key.id.clone(), source: claim.source.clone() });
        }
        Ok(ours)
    }

    /// Deletes the objects of a document that another process has deleted. This process may have written some of
    /// these objects after its own claim had become invalid, because writes of objects are not always fenced.
    pub(super) async fn leave_nothing_of_a_deleted_one(&self, id: &DocumentId) -> Result<(), StageError> {
        let version = match self.control.record(id).await {
            Ok(record) if record.intent == Intent::Delete || record.status == DocumentStatus::Deleted => record.version,
            Ok(_) => return Ok(()),
            Err(ControlError::NotFound(_)) => Version::MAX,
            Err(error) => return Err(control(error)),
        };
        self.artefacts.purge(id).await?;
        self.quarantine.forget_all(id, version).await.map_err(storage)
    }
}
