//! Inspects and hashes all files under the given paths, and all given objects. Registers the new and the changed
//! ones.
//!
//! Registration is durable and done in batches. Memory holds only one batch, so a folder of a million files needs no
//! more memory than a folder of ten. The dispatcher reads the pending work from the control store and not from
//! intake.
//!
//! An object is not read again if its tag is the same as at its registration.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use docweir_core::documents::{DocumentId, MediaType, Sha256Hex};
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_core::files::open_resolved;
use docweir_extract::{HEAD_BYTES, detect};
use docweir_stores::control::{ControlError, ControlStore, DocumentStatus, Intent, NewDocument, Registered};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::actors::outages::Outages;
use crate::actors::outcomes::control;
use crate::actors::prune::{Prune, short_hash};
use crate::actors::retry_while_busy::retry_in_outage;
use crate::intake::left_alone::LeftAlone;
use crate::intake::originals::{Listed, Original, Originals, is_quarantined};
use crate::intake::walk::{Reason, on_another_thread};
use crate::intake::{IntakeOptions, Walk, WalkEntry, source};
use crate::messages::event::{Event, EventSink};
use crate::supervisors::RetryOptions;

/// Registers files and objects as documents.
#[derive(Clone)]
pub struct Intake {
    pub control: Arc<dyn ControlStore>,
    pub originals: Arc<dyn Originals>,
    pub events: Arc<dyn EventSink>,
    pub options: IntakeOptions,
    pub fingerprint: Sha256Hex,
    pub retry: RetryOptions,
    /// Wakes the dispatcher after every batch, because there may be new work.
    pub wake: Arc<tokio::sync::Notify>,
    pub outages: Arc<Outages>,
}

/// Part of the process that reads files and objects and registers them.
pub const INTAKE: &str = "intake";

/// Describes the paths and objects that one run of intake inspects.
pub struct Request {
    pub walk: Walk,
    /// URIs of the objects to ingest. A URI that ends with a slash stands for all objects whose keys begin with it.
    pub objects: Vec<String>,
    pub prune: Prune,
}

impl Intake {
    /// Inspects and registers everything that is requested. If the future is dropped, nothing that was registered is
    /// lost, because registrations are durable.
    pub async fn run(&self, request: Request) -> Result<(), StageError> {
        let mut seen = HashSet::new();
        let limit = self.options.max_file_bytes;
        let skipped = RefCell::new(LeftAlone::default());
        let found = on_another_thread(request.walk).filter_map(|found| {
            std::future::ready(match found {
                WalkEntry::Unreadable { path, reason } => Some((path, Some(reason))),
                WalkEntry::File(path) => Some((path, None)),
                WalkEntry::LeftAlone(reason) => {
                    skipped.borrow_mut().add(reason);
                    None
                }
            })
        });
        let looked_at = found
            .map(|(path, unreadable)| async move {
                let source = source::of_path(&path);
                if let Some(reason) = unreadable {
                    return (source, Err(LookError::Unreadable(reason)));
                }
                let look = tokio::task::spawn_blocking(move || look_at(&path, limit)).await;
                let look =
                    look.unwrap_or_else(|e| Err(LookError::Unreadable(format!("inspecting the file failed: {e}"))));
                (source, look.map(Inspection::New))
            })
            .buffered(self.options.hashers);
        let remember = |source: &str| {
            if !request.prune.folders.is_empty() {
                seen.insert(short_hash(source));
            }
        };
        let (mut files, blind) = self.take_in(looked_at, remember, &skipped).await.map_err(control)?;
        if !request.prune.folders.is_empty() {
            if blind {
                let text = "no documents were removed by `--prune`, because some files or folders could not be read"
                    .to_owned();
                self.events.emit(Event::Notice { text });
            } else {
                self.prune(&request.prune, &Arc::new(seen)).await.map_err(control)?;
            }
        }
        for uri in &request.objects {
            files += self.objects(uri, &skipped).await?;
        }
        self.events.emit(Event::IntakeFinished { files, left_alone: skipped.take() });
        Ok(())
    }

    /// Registers inspected files in batches, and reports unreadable files. Calls `each` with the source of every
    /// readable file. Returns the number of files, and whether any file was unreadable.
    pub(super) async fn take_in(
        &self,
        looked_at: impl Stream<Item = (String, Result<Inspection, LookError>)>,
        mut each: impl FnMut(&str),
        left_alone: &RefCell<LeftAlone>,
    ) -> Result<(u64, bool), ControlError> {
        let (mut files, mut blind) = (0, false);
        let mut looked_at = std::pin::pin!(looked_at);
        let wait = Duration::from_millis(self.options.register_wait_milliseconds);
        loop {
            let batch = batch(&mut looked_at, self.options.register_batch, wait).await;
            if batch.is_empty() {
                return Ok((files, blind));
            }
            let mut documents = Vec::with_capacity(batch.len());
            for (source, look) in batch {
                files += 1;
                match look {
                    Ok(Inspection::New(look)) => {
                        each(&source);
                        documents.push(self.document(source, look));
                    }
                    Ok(Inspection::Known(document, status)) => {
                        each(&source);
                        self.tell_unchanged(document, source, status);
                    }
                    Err(error) => {
                        blind = true;
                        if matches!(error, LookError::TooLarge(_)) {
                            left_alone.borrow_mut().add(Reason::Size);
                        }
                        self.events.emit(Event::Unreadable { source, reason: error.to_string() });
                    }
                }
            }
            self.register(documents).await?;
        }
    }

    /// Returns whether an object is ingested. An object that the user names directly is ingested with any extension.
    /// Below a prefix, only objects with a configured extension are ingested. Copies in the quarantine are never
    /// ingested.
    pub fn is_wanted(&self, uri: &str, source: &str) -> bool {
        let Some((_, key)) = source::to_object(source) else { return false };
        let extension = key.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, e)| e.to_lowercase());
        let known = extension.is_some_and(|e| self.options.extensions.iter().any(|known| known.to_lowercase() == e));
        !is_quarantined(key) && (known || uri == source)
    }

    /// Finds the objects that need not be read, because they are already registered with the same content and the
    /// same configuration. Returns a map from the source of each such object to its document.
    pub async fn known(
        &self,
        objects: &[Listed],
    ) -> Result<HashMap<String, (DocumentId, DocumentStatus)>, ControlError> {
        let tags: HashMap<&str, &str> = objects.iter().map(|o| (o.source.as_str(), o.tag.as_str())).collect();
        let sources: Vec<String> = objects.iter().map(|object| object.source.clone()).collect();
        let mut known = retry_in_outage(&self.retry, || self.control.seen(&sources)).await?;
        known.retain(|(seen, record)| {
            let same = tags.get(record.source.as_str()) == Some(&seen.tag.as_str())
                && record.content_sha256 == seen.content
                && record.fingerprint == self.fingerprint;
            same && record.intent == Intent::Process && record.status != DocumentStatus::Deleted
        });
        Ok(known.into_iter().map(|(_, record)| (record.source, (record.document_id, record.status))).collect())
    }

    /// Opens an object, hashes it and detects its media type.
    ///
    /// # Errors
    /// Returns the errors of [`Originals::open`], and a permanent error if the object is too large or unreadable.
    pub async fn look_at_object(&self, object: &Listed) -> Result<FileSummary, StageError> {
        let limit = self.options.max_file_bytes;
        if object.bytes > limit {
            return Err(too_large("object", object.bytes, limit).into());
        }
        let Original { mut file, tag } = self.originals.open(&object.source).await?;
        let name = source::file_name(&object.source);
        let look = tokio::task::spawn_blocking(move || look_at_file(&mut file, name.as_deref(), limit)).await;
        let look = look.map_err(|e| StageError::crash("unreadable", format!("inspecting the object failed: {e}")))?;
        Ok(FileSummary { tag, ..look? })
    }

    pub fn tell_unchanged(&self, document: DocumentId, source: String, status: DocumentStatus) {
        self.events.emit(Event::Unchanged { document, source, quarantined: status == DocumentStatus::Quarantined });
    }

    pub fn document(&self, source: String, look: FileSummary) -> NewDocument {
        NewDocument {
            source,
            content: look.content,
            fingerprint: self.fingerprint.clone(),
            bytes: look.bytes,
            media_type: look.media_type,
            tenant: "default".into(),
            weight: 1,
            tag: look.tag,
            parent: None,
        }
    }

    /// Registers documents in one write. Returns the number of new, changed and moved documents.
    pub async fn register(&self, documents: Vec<NewDocument>) -> Result<usize, ControlError> {
        if documents.is_empty() {
            return Ok(0);
        }
        let moved = self.follow_moves(&documents).await?;
        let sources: Vec<String> = documents.iter().map(|d| d.source.clone()).collect();
        let answers = retry_in_outage(&self.retry, || self.control.register(documents.clone())).await?;
        failpoint::reach("intake.registered", "");
        let mut to_be_done = moved.len();
        for (source, answer) in sources.into_iter().zip(answers) {
            let (key, replaces) = match answer {
                Registered::New(key) => (key, false),
                Registered::Replaces(key) => (key, true),
                Registered::Unchanged(key, status)
                    if status != DocumentStatus::Quarantined && moved.contains(&key.id) =>
                {
                    continue;
                }
                Registered::Unchanged(key, status) => {
                    self.tell_unchanged(key.id, source, status);
                    continue;
                }
            };
            to_be_done += 1;
            self.events.emit(Event::Registered { document: key.id, version: key.version, source, replaces });
        }
        self.wake.notify_one();
        Ok(to_be_done)
    }
}

/// Returns the next items, at most `most`. Returns fewer items if no more arrive within `wait` after the first one.
/// Returns no items at the end of the stream.
async fn batch<T>(items: &mut (impl Stream<Item = T> + Unpin), most: usize, wait: Duration) -> Vec<T> {
    let Some(first) = items.next().await else { return Vec::new() };
    let mut batch = vec![first];
    let until = Instant::now() + wait;
    while batch.len() < most
        && let Ok(Some(item)) = timeout_at(until, items.next()).await
    {
        batch.push(item);
    }
    batch
}

/// Describes the result of inspecting a file or object.
pub(super) enum Inspection {
    New(FileSummary),
    /// The object was not read, because its tag is the same as at its registration.
    Known(DocumentId, DocumentStatus),
}

/// Summarises the content of a file.
pub struct FileSummary {
    pub content: Sha256Hex,
    pub bytes: u64,
    pub media_type: MediaType,
    /// Tag of the object version that was read; `None` for a file.
    pub tag: Option<String>,
}

/// Describes why a file or object cannot be ingested.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Unreadable(String),
}

/// Error code for a file or object that is larger than `intake.max_file_bytes`.
const TOO_LARGE: &str = "too_large";

fn too_large(what: &str, bytes: u64, limit: u64) -> LookError {
    LookError::TooLarge(format!("the {what} has {bytes} bytes, more than intake.max_file_bytes ({limit})"))
}

impl LookError {
    pub(super) fn of(error: &StageError) -> Self {
        let text = error.to_string();
        if error.code == TOO_LARGE { LookError::TooLarge(text) } else { LookError::Unreadable(text) }
    }
}

impl From<std::io::Error> for LookError {
    fn from(error: std::io::Error) -> Self {
        LookError::Unreadable(error.to_string())
    }
}

impl From<LookError> for StageError {
    fn from(error: LookError) -> Self {
        let code = if matches!(error, LookError::TooLarge(_)) { TOO_LARGE } else { "unreadable" };
        StageError::permanent(code, error.to_string())
    }
}

/// Hashes a file in one pass with constant memory, and detects the media type from the file's first bytes. A file of
/// unknown type is registered too. The extraction stage then detects the type again and refuses the file, so that the
/// file's document appears in the quarantine.
pub fn look_at(path: &Path, limit: u64) -> Result<FileSummary, LookError> {
    let mut file = open_resolved(path)?;
    let name = path.file_name().map(|n| n.to_string_lossy());
    look_at_file(&mut file, name.as_deref(), limit)
}

fn look_at_file(file: &mut File, name: Option<&str>, limit: u64) -> Result<FileSummary, LookError> {
    let size = file.metadata()?.len();
    if size > limit {
        return Err(too_large("file", size, limit));
    }
    // The file may grow while it is read.
    let (content, bytes, head) = hash(&mut file.take(limit.saturating_add(1)), size)?;
    if bytes > limit {
        return Err(too_large("file", bytes, limit));
    }
    let media_type = detect(&head, name).unwrap_or(MediaType::Pdf);
    Ok(FileSummary { content, bytes, media_type, tag: None })
}

/// Reads a file from its current position to its end. Returns the SHA-256 of the bytes that were read, their number,
/// and the first few of these bytes. `size` is the expected number of bytes.
fn hash(file: &mut impl Read, size: u64) -> std::io::Result<(Sha256Hex, u64, Vec<u8>)> {
    // A file that is being written may have had no bytes yet.
    let buffer_bytes = size.saturating_add(1).clamp(8 * 1024, 128 * 1024);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; buffer_bytes as usize];
    let (mut bytes, mut head) = (0, Vec::new());
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let part = buffer.get(..n).unwrap_or_default();
        if head.len() < HEAD_BYTES {
            head.extend(part.iter().take(HEAD_BYTES - head.len()));
        }
        hasher.update(part);
        bytes += n as u64;
    }
    Ok((Sha256Hex::from_digest(&hasher.finalize()), bytes, head))
}

/// Returns the current hash of a file, its length and its first bytes, and moves the file's position back to its start.
pub fn rehash(file: &mut File) -> Result<(Sha256Hex, u64, Vec<u8>), StageError> {
    use std::io::Seek;
    let unreadable = |e: std::io::Error| StageError::transient("unreadable", format!("the file can't be read: {e}"));
    let size = file.metadata().map_err(unreadable)?.len();
    let hashed = hash(file, size).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    Ok(hashed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    /// Tests that files are registered in batches. Every registration is synced to disk, so registering each file
    /// alone would be slow.
    #[tokio::test(start_paused = true)]
    async fn files_are_registered_together_when_they_come_within_the_wait() {
        let every_10_ms = stream::iter(0..25).then(|n| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            n
        });
        let mut items = std::pin::pin!(every_10_ms);
        let mut sizes = Vec::new();
        loop {
            let batch = batch(&mut items, 8, Duration::from_millis(55)).await;
            if batch.is_empty() {
                break;
            }
            sizes.push(batch.len());
        }
        assert_eq!(sizes, [6, 6, 6, 6, 1]);
        let mut many = stream::iter(0..20);
        assert_eq!(
            batch(&mut many, 8, Duration::from_secs(1)).await.len(),
            8,
            "a batch has at most the requested size"
        );
    }
}
