//! Changes the control records of claimed documents. Holds the stores and claims that every stage needs for recording
//! the outcomes of its jobs.

use std::sync::Arc;

use docweir_core::documents::Stage;
use docweir_core::error::StageError;
use docweir_stores::batches::DocumentTexts;
use docweir_stores::control::{Claim, ControlError, ControlStore, Transition};

use super::claims::Claims;
use super::errors::control;
use crate::actors::artefacts::Artefacts;
use crate::actors::outages::Outages;
use crate::actors::quarantine::QuarantineStore;
use crate::messages::event::{Event, EventSink};

/// Holds the stores and claims that every stage needs for recording the outcomes of its jobs.
pub struct StageContext {
    pub control: Arc<dyn ControlStore>,
    pub artefacts: Artefacts,
    pub quarantine: QuarantineStore,
    /// Store of texts that wait for batches; `None` if the current state has never been used with batches.
    pub batches: Option<Arc<dyn DocumentTexts>>,
    pub events: Arc<dyn EventSink>,
    pub claims: Arc<Claims>,
    pub outages: Arc<Outages>,
}

impl StageContext {
    /// Applies a transition to the control record of a claimed document. Returns `false` if the claim is no longer
    /// valid.
    pub async fn apply(&self, claim: &Claim, transition: Transition) -> Result<bool, StageError> {
        match self.control.apply(&claim.key, transition).await {
            Ok(()) => Ok(true),
            Err(ControlError::Fenced(_)) => {
                self.lost(claim).await?;
                Ok(false)
            }
            Err(error) => Err(control(error)),
        }
    }

    /// Ends a claim that is no longer valid. If the document was deleted, also deletes the objects that this process
    /// wrote under the claim.
    pub(super) async fn lost(&self, claim: &Claim) -> Result<(), StageError> {
        self.superseded(claim);
        self.leave_nothing_of_a_deleted_one(&claim.key.id).await
    }

    /// Ends a claim that was lost because another process has taken over its document. Also reports this loss as an
    /// event.
    pub fn superseded(&self, claim: &Claim) {
        self.claims.end(&claim.key);
        self.events.emit(Event::Superseded { document: claim.key.id.clone() });
    }

    /// Releases an unfinished document, so that the document can be claimed again. Returns `false` if the claim was
    /// no longer valid.
    pub async fn release(&self, claim: &Claim, stage: Stage) -> Result<bool, StageError> {
        let released = self.apply(claim, Transition::Released { stage }).await?;
        self.claims.end(&claim.key);
        Ok(released)
    }
}
