//! Documents that other processes have in hand when this one has nothing left to do.
//!
//! A run that ended beside them would leave behind what a process that dies has begun: nobody would be there to take it
//! over when its lease is over. So the run waits until each of them is done, or is its own. What others begin after
//! that is theirs to end: a run beside a service that never rests ends all the same.

use std::collections::HashSet;

use docweir_core::documents::DocumentId;
use docweir_stores::control::{ControlError, ControlStore, DocumentStatus, RecordFilter};

use crate::actors::retry_while_busy::retry_while_busy;
use crate::messages::event::{Event, EventSink};
use crate::supervisors::RetryOptions;

/// Records looked at together.
const PAGE: usize = 500;

/// `None` before the first look.
#[derive(Default)]
pub struct ForeignClaims(Option<HashSet<DocumentId>>);

impl ForeignClaims {
    /// How many of those that were in other hands at the first look still are.
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
            let text = format!("waiting for {} documents that other processes have in hand", now.len());
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
        let page = retry_while_busy(retry, || control.list(&filter, after.as_ref(), PAGE)).await?;
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
