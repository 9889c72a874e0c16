//! Recognises files that were moved since they were ingested, so that a document keeps its id and its vectors.

use std::collections::{HashMap, HashSet};

use docweir_core::documents::{DocumentId, Sha256Hex};
use docweir_stores::control::{ControlError, ControlRecord, DocumentStatus, NewDocument};

use crate::actors::intake::Intake;
use crate::actors::prune::has_left;
use crate::actors::retry_while_busy::retry_in_outage;
use crate::intake::source;
use crate::messages::event::Event;

impl Intake {
    /// Gives documents their new sources if their files were moved, and returns the ids of these documents. A file was
    /// moved if another document has the same content and no longer has a file, and no document has the new source.
    pub(super) async fn follow_moves(&self, files: &[NewDocument]) -> Result<HashSet<DocumentId>, ControlError> {
        let contents: HashSet<&Sha256Hex> = files.iter().map(|file| &file.content).collect();
        let contents: Vec<Sha256Hex> = contents.into_iter().cloned().collect();
        let found = retry_in_outage(&self.retry, || self.control.with_contents(&contents)).await?;
        let mut moved = HashSet::new();
        if found.is_empty() {
            return Ok(moved);
        }
        let mut same: HashMap<Sha256Hex, Vec<ControlRecord>> = HashMap::new();
        for record in found {
            same.entry(record.content_sha256.clone()).or_default().push(record);
        }
        for file in files.iter().filter(|file| file.source.starts_with("file://") && file.parent.is_none()) {
            let Some(records) = same.get_mut(&file.content) else { continue };
            if records.iter().any(|record| record.source == file.source) {
                continue;
            }
            let Some(index) = without_file(records).await else { continue };
            let record = records.remove(index);
            match retry_in_outage(&self.retry, || self.control.by_source(&file.source)).await? {
                None => {
                    let id = &record.document_id;
                    match retry_in_outage(&self.retry, || self.control.relocate(id, &file.source, file.media_type))
                        .await
                    {
                        // The document was deleted, or the source was registered, after the records were read.
                        Err(ControlError::Refused(_) | ControlError::NotFound(_)) => continue,
                        relocated => drop(relocated?),
                    }
                    moved.insert(id.clone());
                    let (from, to) = (record.source, file.source.clone());
                    self.events.emit(Event::Moved { document: record.document_id, from, to });
                }
                // The source belongs to another document, which gets the content. The moved one is removed, because the
                // same passages would be found twice. If its folder is gone or empty, it may be on a disk that is not
                // mounted, and stays.
                Some(target) if target.status != DocumentStatus::Deleted && target.content_sha256 != file.content => {
                    if folder_is_there(&record.source).await {
                        self.remove(&record).await?;
                    }
                }
                Some(_) => {}
            }
        }
        Ok(moved)
    }
}

/// Returns whether the folder of a source exists and is not empty.
async fn folder_is_there(source: &str) -> bool {
    let Some(path) = source::to_path(source) else { return false };
    let look = tokio::task::spawn_blocking(move || {
        path.parent()
            .and_then(|folder| std::fs::read_dir(folder).ok())
            .is_some_and(|mut entries| entries.next().is_some())
    });
    look.await.unwrap_or_default()
}

/// Returns the position of the first record whose file is gone.
async fn without_file(records: &[ControlRecord]) -> Option<usize> {
    let sources: Vec<String> = records.iter().map(|record| record.source.clone()).collect();
    let look = tokio::task::spawn_blocking(move || sources.iter().position(|source| has_left(source))).await;
    look.unwrap_or_default()
}
