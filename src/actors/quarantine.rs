//! Stores the evidence about a document that could not be processed. The evidence consists of a failure artefact with
//! the error and the number of attempts, and a copy of the original. A person can inspect both, and a replay can
//! resume at the failed stage.
//!
//! The object `errors/{document}/v{version}/{stage}_{epoch}.json` describes the failure without the document's text.
//! The object `input/_quarantine/{document}/v{version}/{name}` is the copy of the original. Both objects are durable
//! before the control record becomes `QUARANTINED`. Objects of an earlier quarantine are deleted only after the
//! record has changed. The write to the record is fenced, but a deletion is not, so an earlier deletion could harm a
//! newer claim. If a process dies before this deletion, the next run deletes the remaining objects
//! ([`QuarantineStore::sweep`]).

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use docweir_core::clock::{SharedClock, timestamp};
use docweir_core::documents::{DocumentId, Sha256Hex, Stage, Version};
use docweir_core::error::StageError;
use docweir_objects::{Durability, ObjectError, ObjectStore, Pages, Precondition};
use docweir_stores::control::{Claim, ClaimKey, ControlError, ControlStore, StageOutput};
use serde::{Deserialize, Serialize};

use crate::actors::outcomes;
use crate::actors::outcomes::storage;
use crate::intake::originals::Originals;
use crate::intake::source;

/// Key prefix of copies of originals. Intake never ingests objects with this prefix.
pub const ORIGINALS: &str = "input/_quarantine";
/// Key prefix of failure artefacts.
const FAILURES: &str = "errors";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineOptions {
    /// If true, a copy of the original of each quarantined document is kept in `input/_quarantine/`.
    pub copy_original: bool,
    /// Maximum size of an original that is copied to the quarantine, in bytes. For a larger original, the failure
    /// artefact states why there is no copy.
    pub max_original_bytes: u64,
}

impl Default for QuarantineOptions {
    fn default() -> Self {
        Self { copy_original: true, max_original_bytes: 256 << 20 }
    }
}

/// Describes a failure, as it is stored in the failure artefact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub document_id: DocumentId,
    pub version: Version,
    pub source: String,
    pub content_sha256: Sha256Hex,
    pub stage: Stage,
    pub error: StageError,
    /// Number of failed attempts at the stage, including the last attempt.
    pub attempts: u32,
    pub quarantined_at: String,
    /// Input artefact of the failed stage. A replay resumes from this artefact. `None` if the stage's input was the
    /// original.
    pub input: Option<StageOutput>,
    pub original: Option<String>,
    /// Reason why no copy of the original exists; `None` if a copy exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_missing: Option<String>,
}

/// Names the objects that the quarantine keeps for a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineKeys {
    pub artefact: String,
    pub original: Option<String>,
}

impl QuarantineKeys {
    pub fn holds(&self, key: &str) -> bool {
        self.artefact == key || self.original.as_deref() == Some(key)
    }

    /// Returns the document that a key belongs to. `prefix` is `errors/` or `input/_quarantine/`.
    fn document(key: &str, prefix: &str) -> Option<DocumentId> {
        DocumentId::parse(key.strip_prefix(prefix)?.split('/').next()?)
    }

    /// Returns the document version that a key belongs to. `prefix` includes the document id.
    fn version(key: &str, prefix: &str) -> Option<Version> {
        key.strip_prefix(prefix)?.split('/').next()?.strip_prefix('v')?.parse().ok()
    }
}

/// Stores failure artefacts and copies of originals.
pub struct QuarantineStore {
    objects: Arc<dyn ObjectStore>,
    originals: Arc<dyn Originals>,
    clock: SharedClock,
    options: QuarantineOptions,
}

impl QuarantineStore {
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        originals: Arc<dyn Originals>,
        clock: SharedClock,
        options: QuarantineOptions,
    ) -> Self {
        Self { objects, originals, clock, options }
    }

    /// Durably writes the failure artefact and the copy of the original. If the original cannot be copied, the
    /// failure artefact states the reason.
    pub async fn keep(
        &self,
        claim: &Claim,
        stage: Stage,
        error: &StageError,
        attempts: u32,
    ) -> Result<QuarantineKeys, ObjectError> {
        let (original, original_missing) = match self.copy_original(claim).await {
            Ok(key) => (Some(key), None),
            Err(Copy::Skipped(reason)) => (None, Some(reason)),
            Err(Copy::Failed(error)) => return Err(error),
        };
        let previous = Stage::ALL.iter().copied().take_while(|s| *s != stage).last();
        let failure = Failure {
            document_id: claim.key.id.clone(),
            version: claim.key.version,
            source: claim.source.clone(),
            content_sha256: claim.content.clone(),
            stage,
            error: error.clone(),
            attempts,
            quarantined_at: timestamp(self.clock.now()),
            input: previous.and_then(|s| claim.outputs.get(&s).cloned()),
            original: original.clone(),
            original_missing,
        };
        // The epoch in the key prevents a process with a superseded claim from overwriting the newer artefact.
        let ClaimKey { id, version, epoch } = &claim.key;
        let artefact = format!("{FAILURES}/{id}/v{version}/{}_{epoch}.json", stage.name());
        let body = serde_json::to_vec_pretty(&failure).unwrap_or_default();
        self.objects.put(&artefact, Bytes::from(body), Precondition::None, Durability::Durable).await?;
        Ok(QuarantineKeys { artefact, original })
    }

    /// Deletes the objects with the given keys. No control record refers to these keys any more. A failed deletion is
    /// only logged, because the sweep of the next run repeats it.
    pub async fn forget<'k>(&self, keys: impl IntoIterator<Item = &'k String>) {
        for key in keys {
            if let Err(error) = self.objects.delete(key).await {
                // The last part of the key is the file's name, which must not be logged.
                let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
                let error = error.to_string().replace(key.as_str(), folder);
                tracing::warn!(folder, error, "quarantine object not deleted; the next run retries");
            }
        }
    }

    /// Deletes the quarantine objects of a deleted document. Covers all document versions up to and including
    /// `through`.
    pub async fn forget_all(&self, id: &DocumentId, through: Version) -> Result<(), ObjectError> {
        for prefix in [format!("{FAILURES}/{id}/"), format!("{ORIGINALS}/{id}/")] {
            let mut pages = Pages::new(self.objects.as_ref(), prefix.as_str());
            while let Some(page) = pages.next().await? {
                for object in
                    page.iter().filter(|o| QuarantineKeys::version(&o.key, &prefix).is_none_or(|v| v <= through))
                {
                    self.objects.delete(&object.key).await?;
                }
            }
        }
        Ok(())
    }

    /// Deletes objects that no control record refers to, and returns the number of deleted objects. Such objects
    /// remain if a process dies after it has written an object and before it has written the control record. They
    /// also remain if it dies after it has changed the record and before it has deleted the object. The caller must
    /// hold the lock of the state folder, and no work may have begun yet.
    pub async fn sweep(&self, control: &dyn ControlStore) -> Result<u64, StageError> {
        let mut swept = 0;
        for prefix in [format!("{FAILURES}/"), format!("{ORIGINALS}/")] {
            let mut pages = Pages::new(self.objects.as_ref(), prefix.as_str());
            while let Some(page) = pages.next().await.map_err(storage)? {
                for key in page.into_iter().map(|o| o.key) {
                    let Some(id) = QuarantineKeys::document(&key, &prefix) else { continue };
                    let spoken_of = match control.record(&id).await {
                        Ok(record) => {
                            [record.quarantine_artefact, record.quarantine_original].contains(&Some(key.clone()))
                        }
                        Err(ControlError::NotFound(_)) => false,
                        Err(error) => return Err(outcomes::control(error)),
                    };
                    if !spoken_of {
                        self.objects.delete(&key).await.map_err(storage)?;
                        swept += 1;
                    }
                }
            }
        }
        Ok(swept)
    }

    async fn copy_original(&self, claim: &Claim) -> Result<String, Copy> {
        if !self.options.copy_original {
            return Err(Copy::Skipped("`quarantine.copy_original` is off".into()));
        }
        let limit = self.options.max_original_bytes;
        if claim.bytes > limit {
            let text =
                format!("the original has {} bytes, more than quarantine.max_original_bytes ({limit})", claim.bytes);
            return Err(Copy::Skipped(text));
        }
        let name = object_name(&source_path(&claim.source));
        let key = format!("{ORIGINALS}/{}/v{}/{name}", claim.key.id, claim.key.version);
        let file = self.originals.open(&claim.source).await;
        let file = file.map_err(|e| Copy::Skipped(format!("the original can't be read: {e}")))?.file;
        let read = tokio::task::spawn_blocking(move || read_limited(file, limit)).await;
        let body = match read {
            Ok(Ok(body)) => body,
            Ok(Err(e)) => return Err(Copy::Skipped(format!("the original can't be read: {e}"))),
            Err(_) => return Err(Copy::Skipped("reading the original was interrupted".into())),
        };
        let put = self.objects.put(&key, Bytes::from(body), Precondition::None, Durability::Durable).await;
        put.map(|_| key).map_err(Copy::Failed)
    }
}

enum Copy {
    Skipped(String),
    Failed(ObjectError),
}

/// Reads a file up to the limit. The file may have grown since its registration.
fn read_limited(file: std::fs::File, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut body = Vec::new();
    file.take(limit).read_to_end(&mut body)?;
    Ok(body)
}

/// Returns the path of a file, or the key of an object in a bucket.
fn source_path(uri: &str) -> PathBuf {
    let object = || source::to_object(uri).map(|(_, key)| PathBuf::from(key));
    source::to_path(uri).or_else(object).unwrap_or_default()
}

/// Returns the name of a file for use in an object key. Characters that a key must not contain are percent-encoded. A
/// long name is replaced by `original` and the extension.
fn object_name(path: &Path) -> String {
    let name = path.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
    let encoded = source::of_path(Path::new(std::ffi::OsStr::from_bytes(&name)));
    let encoded = encoded.trim_start_matches("file://").replace('~', "%7E");
    if encoded.len() <= 160 {
        return if encoded.is_empty() { "original".into() } else { encoded };
    }
    let extension = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
    let safe = extension.len() <= 8 && extension.bytes().all(|b| b.is_ascii_alphanumeric()) && !extension.is_empty();
    if safe { format!("original.{extension}") } else { "original".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_document_and_version() {
        let key = "errors/doc_1/v12/stage_1_extraction_3.json";
        assert_eq!(QuarantineKeys::document(key, "errors/").unwrap().as_str(), "doc_1");
        assert_eq!(QuarantineKeys::version(key, "errors/doc_1/"), Some(12));
        assert_eq!(QuarantineKeys::version("errors/doc_1/other.json", "errors/doc_1/"), None);
        assert_eq!(QuarantineKeys::document("input/x", "errors/"), None);
    }

    #[test]
    fn any_file_name_makes_an_object_key() {
        let long = format!("/x/{}.pdf", "ü".repeat(120));
        let table: [(&[u8], &str); 5] = [
            (b"/a/report.pdf", "report.pdf"),
            (b"/a/a b~c.pdf", "a%20b%7Ec.pdf"),
            (b"/a/\xff\xfe.pdf", "%FF%FE.pdf"),
            (long.as_bytes(), "original.pdf"),
            (b"/", "original"),
        ];
        for (path, name) in table {
            assert_eq!(object_name(Path::new(std::ffi::OsStr::from_bytes(path))), name);
        }
    }
}
