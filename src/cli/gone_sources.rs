//! Counts the documents whose files no longer exist, for `docweir status`.

use docweir_core::documents::DocumentId;
use docweir_stores::control::{ControlStore, DocumentStatus, RecordFilter};
use serde::Serialize;

use crate::actors::prune::has_left;
use crate::exit::Failure;

/// Maximum number of documents whose files are looked for, so that a status of a large index does not take long.
const CHECKED: usize = 5_000;
/// Maximum number of control records per page.
const PAGE: usize = 1_000;

/// Counts documents of the index whose files no longer exist. Objects in buckets are not looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GoneSources {
    pub gone: u64,
    /// Number of documents that were checked: the completed ones, at most 5,000. Zero if the state is shared.
    pub checked: u64,
}

impl GoneSources {
    pub async fn count(control: &dyn ControlStore) -> Result<Self, Failure> {
        let filter = RecordFilter { status: Some(DocumentStatus::Completed), ..RecordFilter::default() };
        let (mut counted, mut after) = (Self::default(), None::<DocumentId>);
        while counted.checked < CHECKED as u64 {
            let page = control.list(&filter, after.as_ref(), PAGE).await?;
            let Some(last) = page.last().map(|record| record.document_id.clone()) else { break };
            after = Some(last);
            counted.checked += page.len() as u64;
            let look = tokio::task::spawn_blocking(move || page.iter().filter(|r| has_left(&r.source)).count());
            counted.gone += look.await.map_err(|e| Failure::system(format!("looking for files failed: {e}")))? as u64;
        }
        Ok(counted)
    }
}
