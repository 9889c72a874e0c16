//! Deletes the objects of a deleted document.

use docweir_core::documents::{DocumentId, Version};
use docweir_core::error::StageError;
use docweir_stores::control::{Claim, ControlError, DocumentStatus, Intent, Transition};

use super::context::StageContext;
use super::errors::control;
use crate::actors::outcomes::storage;
use crate::messages::event::Event;

impl StageContext {
    /// Deletes everything else of a document whose tombstone is in the manifest, then records the document as
    /// deleted. Returns `false` if another process holds the claim now.
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
        // Do this before the record says that the document is deleted; no later run would remove the children.
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

    /// Deletes objects that were written under a void claim, if another process has deleted the document meanwhile.
    /// Objects are not fenced, so some may have been written after the document's artefacts were deleted.
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
