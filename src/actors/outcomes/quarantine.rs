//! Quarantines a document: stores the evidence of the failure, and then updates the control record.

use docweir_core::documents::Stage;
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_stores::control::{Claim, Transition};

use super::context::StageContext;
use crate::actors::outcomes::storage;
use crate::messages::event::Event;

impl StageContext {
    /// Quarantines a document. Stores the evidence of the failure first, and then updates the control record. Returns
    /// `false` if the claim is no longer valid.
    pub async fn quarantine(
        &self,
        claim: &Claim,
        stage: Stage,
        error: &StageError,
        attempts: u32,
    ) -> Result<bool, StageError> {
        let kept = self.quarantine.keep(claim, stage, error, attempts).await.map_err(storage)?;
        failpoint::reach("quarantine.kept", &claim.source);
        self.artefacts.forget_unredacted(claim).await?;
        let transition = Transition::Quarantined {
            stage,
            error: error.clone(),
            artefact: Some(kept.artefact.clone()),
            original: kept.original.clone(),
        };
        if !self.apply(claim, transition).await? {
            self.quarantine.forget([&kept.artefact]).await;
            return Ok(false);
        }
        failpoint::reach("quarantine.persisted", &claim.source);
        self.quarantine.forget(claim.kept.iter().filter(|key| !kept.holds(key))).await;
        self.events.emit(Event::Quarantined {
            document: claim.key.id.clone(),
            source: claim.source.clone(),
            stage,
            error: error.clone(),
        });
        self.claims.end(&claim.key);
        Ok(true)
    }
}
