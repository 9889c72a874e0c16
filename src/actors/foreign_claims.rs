//! Tracks the documents that are still claimed by other processes when this run has no work left.
//!
//! If this run ended and one of those processes then died, no process would take over the documents of the dead
//! process. The run therefore waits until each of these documents is finished or claimed by this run. Documents that
//! other processes claim later are not awaited, so the run ends even if another process always has work.

use std::collections::HashSet;

use docweir_core::documents::DocumentId;
use docweir_stores::control::{ControlError, ControlStore, DocumentStatus, RecordFilter};

use crate::actors::retry_while_busy::retry_in_outage;
use crate::messages::event::{Event, EventSink};
use crate::supervisors::RetryOptions;

/// Number of control records that are read in one call.
const PAGE: usize = 500;

/// Holds the documents of other processes that this run waits for; `None` before the first check.
#[derive(Default)]
pub struct ForeignClaims(Option<HashSet<DocumentId>>);

impl ForeignClaims {
    /// Returns the number of documents that this run must still wait for. The first call remembers all documents that
    /// other processes hold. Later calls count how many of these documents other processes still hold.
    pub async fn left(
        &mut self,
        control: &dyn ControlStore,
        owner: &str,
        retry: &RetryOptions,
        events: &dyn EventSink,
    ) -> Result<usize, ControlError> {
        let mut now = in_other_hands(control, owner, retry).await?;
        if let Some(awaited) = &self.0 {
            now.retain(|id| awaited.contains(id));
        } else if !now.is_empty() {
            let text = format!("waiting for {} documents that other processes have claimed", now.len());
            events.emit(Event::Notice { text });
        }
        let left = now.len();
        self.0 = Some(now);
        Ok(left)
    }
}

async fn in_other_hands(
    control: &dyn ControlStore,
    owner: &str,
    retry: &RetryOptions,
) -> Result<HashSet<DocumentId>, ControlError> {
    let filter = RecordFilter { status: Some(DocumentStatus::InProgress), ..Default::default() };
    let (mut found, mut after) = (HashSet::new(), None);
    loop {
        let page = retry_in_outage(retry, || control.list(&filter, after.as_ref(), PAGE)).await?;
        let others = page.iter().filter(|r| r.lease_owner.as_deref().is_some_and(|holder| holder != owner));
        found.extend(others.map(|r| r.document_id.clone()));
        after = page.last().map(|r| r.document_id.clone());
        if page.len() < PAGE {
            return Ok(found);
        }
    }
}

#[cfg(test)]
#[path = "foreign_claims_tests.rs"]
mod tests;
