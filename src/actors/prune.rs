//! Removes the documents whose files are no longer in a folder (`--prune`).
//!
//! An unmounted or emptied folder must not empty the index. Before anything is removed, the documents below each folder
//! are counted. If none of them would be kept, or if too large a share would be removed, the folder is refused.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docweir_stores::control::{ControlError, ControlRecord, DocumentStatus, RecordFilter};
use sha2::{Digest, Sha256};

use crate::actors::intake::Intake;
use crate::actors::retry_while_busy::retry_in_outage;
use crate::intake::source;
use crate::messages::event::Event;

/// Number of documents that may be removed whatever share of the folder they are.
const FEW: u64 = 10;
/// Maximum number of control records per page.
const PAGE: usize = 1_000;

/// Selects what `--prune` does with documents whose files are gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prune {
    /// Folders in which documents without files are removed. Empty without `--prune`.
    pub folders: Vec<PathBuf>,
    /// If true, documents are removed however many they are.
    pub force: bool,
}

/// Counts the documents below a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneCounts {
    /// Number of documents whose files are gone.
    pub gone: u64,
    /// Number of all documents.
    pub all: u64,
}

/// Returns why documents of a folder are not removed, or `None` if they may be removed. `percent` is the largest share
/// that may be removed.
pub fn refusal(counts: PruneCounts, percent: u64) -> Option<String> {
    let PruneCounts { gone, all } = counts;
    let text = if gone > 0 && gone == all {
        format!("none of its {all} documents has a file any more")
    } else if gone >= FEW && gone.saturating_mul(100) > all.saturating_mul(percent) {
        format!(
            "{gone} of its {all} documents have no file any more, which is more than intake.prune_percent ({percent})"
        )
    } else {
        return None;
    };
    Some(format!("{text}; check that the folder is complete and mounted, then use `--prune=force` to remove them"))
}

impl Intake {
    /// Removes the documents whose files are gone, folder by folder. `seen` holds the [`short_hash`] of each source that
    /// was just inspected.
    pub(super) async fn prune(&self, prune: &Prune, seen: &Arc<HashSet<u64>>) -> Result<(), ControlError> {
        for folder in &prune.folders {
            let mut counts = PruneCounts::default();
            self.below(folder, seen, async |_, gone| {
                counts.all += 1;
                counts.gone += u64::from(gone);
                Ok(())
            })
            .await?;
            let refused = refusal(counts, self.options.prune_percent).filter(|_| !prune.force);
            if let Some(reason) = refused {
                let folder = source::of_path(folder);
                self.events.emit(Event::PruneRefused { folder, gone: counts.gone, documents: counts.all, reason });
                continue;
            }
            if counts.gone > 0 {
                self.below(folder, seen, async |record, gone| {
                    // Earlier removals may have waited for the end of an outage, so the file is looked for again.
                    if gone && self.is_still_gone(&record.source).await { self.remove(record).await } else { Ok(()) }
                })
                .await?;
            }
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Calls `each` with every document below a folder, and with whether its file is gone. Documents that are deleted,
    /// or that another document contains, are omitted. The latter are removed together with the document that contains
    /// them.
    async fn below(
        &self,
        folder: &Path,
        seen: &Arc<HashSet<u64>>,
        mut each: impl AsyncFnMut(&ControlRecord, bool) -> Result<(), ControlError>,
    ) -> Result<(), ControlError> {
        let filter = RecordFilter { source_prefix: Some(source::of_folder(folder)), ..Default::default() };
        let mut after = None;
        loop {
            let page = retry_in_outage(&self.retry, || self.control.list(&filter, after.as_ref(), PAGE)).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|r| r.document_id.clone());
            let seen = seen.clone();
            // Files are looked for on another thread, because a file system that hangs must delay no actor.
            let look = tokio::task::spawn_blocking(move || {
                let files = page.into_iter().filter(|r| r.parent.is_none() && r.status != DocumentStatus::Deleted);
                files.map(|record| (is_gone(&record.source, &seen), record)).collect::<Vec<_>>()
            });
            let looked_at = look.await.map_err(|e| {
                let reason = format!("looking for the files of documents failed: {e}");
                ControlError::Storage { location: source::of_path(folder), reason, hint: "run the command again" }
            })?;
            for (gone, record) in &looked_at {
                each(record, *gone).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn is_still_gone(&self, source: &str) -> bool {
        let source = source.to_owned();
        tokio::task::spawn_blocking(move || has_left(&source)).await.unwrap_or(false)
    }

    /// Requests the removal of a document, and reports it.
    pub(super) async fn remove(&self, record: &ControlRecord) -> Result<(), ControlError> {
        match retry_in_outage(&self.retry, || self.control.request_delete(&record.document_id)).await {
            // The document was deleted meanwhile.
            Err(ControlError::Refused(_)) => return Ok(()),
            requested => drop(requested?),
        }
        let (document, source) = (record.document_id.clone(), record.source.clone());
        self.events.emit(Event::RemovalRequested { document, source });
        Ok(())
    }
}

/// Returns whether a document has no file any more. A file that the walk skipped (because of its name or `--exclude`)
/// still exists, so its document is kept.
fn is_gone(source: &str, seen: &HashSet<u64>) -> bool {
    !seen.contains(&short_hash(source)) && has_left(source)
}

/// Returns whether the file of a source no longer exists. A file that cannot be inspected counts as existing, and so
/// does a source that is not a file of this machine.
pub fn has_left(source: &str) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let Some(path) = source::to_path(source) else { return false };
    std::fs::metadata(path).is_err_and(|e| matches!(e.kind(), NotFound | NotADirectory))
}

/// Returns the first eight bytes of the hash of a source. For `--prune`, intake remembers the sources of all files.
/// With eight bytes each, millions of sources fit in a few megabytes. If two sources have the same eight bytes, a
/// document without a file may remain in the index until the next `--prune`. For a million files, the probability is
/// one in 10^12.
pub(super) fn short_hash(source: &str) -> u64 {
    Sha256::digest(source.as_bytes()).iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_lost_all_or_too_much_is_refused() {
        // The number of documents without a file, the number of all documents, and whether the folder is refused.
        let table = [
            (0, 0, false),
            (0, 100, false),
            (1, 1, true),
            (1, 2, false),
            (9, 10, false),
            (10, 10, true),
            (10, 20, true),
            (30, 100, false),
            (31, 100, true),
            (300_000, 1_000_000, false),
            (300_001, 1_000_000, true),
            (u64::MAX, u64::MAX, true),
        ];
        for (gone, all, refused) in table {
            let reason = refusal(PruneCounts { gone, all }, 30);
            assert_eq!(reason.is_some(), refused, "{gone} of {all}: {reason:?}");
            assert!(reason.is_none_or(|r| r.contains(&all.to_string()) && r.contains("--prune=force")));
        }
        assert_eq!(refusal(PruneCounts { gone: 99, all: 100 }, 100), None);
        assert!(refusal(PruneCounts { gone: 10, all: 1_000 }, 0).is_some());
    }
}
