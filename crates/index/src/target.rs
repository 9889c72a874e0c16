//! Implements the trait [`Target`] for the index.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::documents::DocumentId;
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;
use docweir_target::{Capabilities, LoadedVersion, Row, Target, TargetWriter, Write, Written};

use crate::VectorStore;
use crate::view;
use crate::writer::{Base, CollectionWriter};

/// Holds a writer and a base for its next commit. The base is a manifest: `begin` reads and stores the manifest, and
/// the next `write` consumes it.
struct IndexWriter {
    writer: CollectionWriter,
    base: Option<Base>,
}

#[async_trait]
impl Target for VectorStore {
    fn kind(&self) -> &'static str {
        "index"
    }

    fn collection(&self) -> &str {
        VectorStore::collection(self)
    }

    fn capabilities(&self) -> Capabilities {
        self.options.capabilities()
    }

    async fn model(&self) -> Result<Option<ModelIdentity>, StageError> {
        Ok(self.manifest().await?.and_then(|manifest| manifest.model().cloned()))
    }

    async fn check_model(&self, model: &ModelIdentity) -> Result<(), StageError> {
        Ok(VectorStore::check_model(self, model).await?)
    }

    fn writer(self: Arc<Self>) -> Box<dyn TargetWriter> {
        Box::new(IndexWriter { writer: VectorStore::writer(&self), base: None })
    }

    async fn held(&self, documents: &[DocumentId]) -> Result<Vec<Option<LoadedVersion>>, StageError> {
        let inventory = self.inventory().await?;
        Ok(documents.iter().map(|id| inventory.documents.get(id).and_then(visible)).collect())
    }

    async fn list(
        &self,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, LoadedVersion)>, StageError> {
        let inventory = self.inventory().await?;
        let all = inventory.documents.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        Ok(all.filter_map(|(id, held)| Some((id.clone(), visible(held)?))).take(limit).collect())
    }

    async fn rows(&self, documents: &[DocumentId]) -> Result<Vec<Vec<Row>>, StageError> {
        let view = self.view().await?;
        Ok(documents.iter().map(|id| view.rows_of(id)).collect())
    }
}

fn visible(held: &view::WinningVersion) -> Option<LoadedVersion> {
    (!held.tombstone).then_some(LoadedVersion { version: held.version, rows: held.rows })
}

#[async_trait]
impl TargetWriter for IndexWriter {
    async fn begin(&mut self) -> Result<(), StageError> {
        self.base = Some(self.writer.begin().await?);
        Ok(())
    }

    async fn write(&mut self, writes: Vec<Write>, model: &ModelIdentity) -> Result<Written, StageError> {
        let committed = match self.base.take() {
            Some(base) => self.writer.commit_on(base, writes, model).await?,
            None => self.writer.commit(writes, model).await?,
        };
        Ok(Written { version: Some(committed.version) })
    }
}
