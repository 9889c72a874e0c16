//! Implements a target that keeps one collection in a file of JSON lines.
//!
//! This example shows all parts of a custom target: an implementation of `docweir_target::Target`, the conformance
//! tests (`tests/conformance.rs`), and a program that passes the target to the pipeline (`src/main.rs`). The code is
//! short rather than fast: each query reads the whole file.
//!
//! The first line of the file holds the model, and each further line holds one write. The highest version of a
//! document counts. If a crash has cut the last line short, the line is ignored, and the next write overwrites it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::documents::DocumentId;
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;
use docweir_target::{Capabilities, LoadedVersion, Row, Target, TargetWriter, Write, Written, gather};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Stores one collection in one file.
pub struct JsonlTarget {
    path: PathBuf,
    collection: String,
    capabilities: Capabilities,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Model(ModelIdentity),
    Write(Write),
}

/// Holds the parsed content of the file.
#[derive(Default)]
struct Content {
    model: Option<ModelIdentity>,
    documents: BTreeMap<DocumentId, Write>,
    /// Total size of the complete lines, in bytes.
    length: u64,
}

impl JsonlTarget {
    /// Opens `COLLECTION.jsonl` in a folder, and creates the folder if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created.
    pub fn open(folder: &Path, collection: &str, capabilities: Capabilities) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{collection}.jsonl"));
        Ok(Self { path, collection: collection.to_owned(), capabilities })
    }

    /// Opens, locks and reads the file. Other readers and writers wait until the returned file is dropped.
    fn read(&self) -> Result<(File, Content), StageError> {
        let failed = |e: std::io::Error| self.failed(&e);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path).map_err(failed)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| self.failed(&e))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let mut content = Content::default();
        for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            match serde_json::from_slice(line).map_err(|e| self.failed(&e))? {
                Line::Model(model) => content.model = Some(model),
                Line::Write(write) => content.take(write),
            }
            content.length += line.len() as u64;
        }
        Ok((file, content))
    }

    fn append(&self, mut file: File, from: u64, lines: &[Line]) -> Result<(), StageError> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|e| self.failed(&e))?;
            text.push(b'\n');
        }
        let written = file.set_len(from).and_then(|()| file.seek(SeekFrom::Start(from)));
        // The lines must be durable before the write is acknowledged.
        written.and_then(|_| file.write_all(&text)).and_then(|()| file.sync_data()).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> StageError {
        StageError::system("jsonl_file", format!("cannot read or write {}: {error}", self.path.display()))
    }

    fn check(&self, stored: Option<&ModelIdentity>, model: &ModelIdentity) -> Result<(), StageError> {
        match stored {
            Some(stored) if stored != model => {
                let text =
                    format!("`{}` holds vectors of model `{}`, not of `{}`", self.collection, stored.id, model.id);
                Err(StageError::system("model_mismatch", text))
            }
            _ => Ok(()),
        }
    }
}

impl Content {
    fn take(&mut self, write: Write) {
        let newer = |held: &Write| (write.version(), write.is_delete()) >= (held.version(), held.is_delete());
        if self.documents.get(write.document_id()).is_none_or(newer) {
            self.documents.insert(write.document_id().clone(), write);
        }
    }
}

fn held(write: &Write) -> Option<LoadedVersion> {
    let rows = u32::try_from(write.rows().len()).unwrap_or(u32::MAX);
    (!write.is_delete()).then_some(LoadedVersion { version: write.version(), rows })
}

#[async_trait]
impl Target for JsonlTarget {
    fn kind(&self) -> &'static str {
        "jsonl"
    }

    fn collection(&self) -> &str {
        &self.collection
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn model(&self) -> Result<Option<ModelIdentity>, StageError> {
        Ok(self.read()?.1.model)
    }

    async fn check_model(&self, model: &ModelIdentity) -> Result<(), StageError> {
        self.check(self.read()?.1.model.as_ref(), model)
    }

    fn writer(self: Arc<Self>) -> Box<dyn TargetWriter> {
        Box::new(JsonlWriter(self))
    }

    async fn held(&self, documents: &[DocumentId]) -> Result<Vec<Option<LoadedVersion>>, StageError> {
        let (_, content) = self.read()?;
        Ok(documents.iter().map(|id| content.documents.get(id).and_then(held)).collect())
    }

    async fn list(
        &self,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, LoadedVersion)>, StageError> {
        let (_, content) = self.read()?;
        let all = content.documents.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        Ok(all.filter_map(|(id, write)| Some((id.clone(), held(write)?))).take(limit).collect())
    }

    async fn rows(&self, documents: &[DocumentId]) -> Result<Vec<Vec<Row>>, StageError> {
        let (_, content) = self.read()?;
        let rows = |id| content.documents.get(id).map(|write| write.rows().to_vec()).unwrap_or_default();
        Ok(documents.iter().map(rows).collect())
    }
}

struct JsonlWriter(Arc<JsonlTarget>);

#[async_trait]
impl TargetWriter for JsonlWriter {
    /// Does nothing. The highest version of a document always wins, so a write does not depend on an earlier state.
    async fn begin(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    async fn write(&mut self, writes: Vec<Write>, model: &ModelIdentity) -> Result<Written, StageError> {
        let target = &self.0;
        let writes = gather(writes, model, &target.capabilities)?;
        let (file, content) = target.read()?;
        let has_vectors = writes.iter().any(|write| !write.rows().is_empty());
        if has_vectors {
            target.check(content.model.as_ref(), model)?;
        }
        let first = (has_vectors && content.model.is_none()).then(|| Line::Model(model.clone()));
        let lines: Vec<Line> = first.into_iter().chain(writes.into_iter().map(Line::Write)).collect();
        target.append(file, content.length, &lines)?;
        Ok(Written::default())
    }
}
