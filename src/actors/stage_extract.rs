//! Connects the extraction stage to its pool. Each worker has its own child process.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use dashmap::DashMap;
use docweir_core::documents::DocumentId;
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_extract::{ChildProgram, ExtractOptions, Extractor, InputHint, detect};
use docweir_stores::control::{Claim, NewDocument, Resume};

use crate::actors::artefacts::Artefacts;
use crate::actors::intake::rehash;
use crate::actors::outcomes::{StageContext, control};
use crate::actors::timer::Timer;
use crate::intake::originals::{Original, Originals};
use crate::intake::source;
use crate::messages::job::{Input, Job, StageResult};
use crate::supervisors::{AttemptOutcome, Cancel, Stage, Work};

/// Configures the extraction pool and creates its workers.
pub struct ExtractStage {
    pub context: Arc<StageContext>,
    pub originals: Arc<dyn Originals>,
    pub options: ExtractOptions,
    pub program: ChildProgram,
    pub wake: Arc<tokio::sync::Notify>,
    /// Maximum number of times per run that a document's file may turn out to have changed between its registration
    /// and its reading.
    pub max_changes: u32,
    /// Number of times that each document's file has changed in this run.
    pub changes: Arc<DashMap<DocumentId, u32>>,
}

impl Stage for ExtractStage {
    type Job = Job;
    type Done = StageResult;
    type Park = Resume;

    fn finished_bytes(&self, job: &Job, done: &StageResult) -> usize {
        job.finished_bytes(done)
    }

    fn worker(&self) -> Result<Box<dyn Work<Job, StageResult, Resume>>, StageError> {
        Ok(Box::new(ExtractWorker {
            context: self.context.clone(),
            originals: self.originals.clone(),
            extractor: Extractor::new(self.options.clone(), self.program.clone()),
            wake: self.wake.clone(),
            max_changes: self.max_changes,
            changes: self.changes.clone(),
        }))
    }

    /// Returns whether a dropped attempt may leave a running thread behind. Always `false`, because the child process
    /// is killed when the attempt is dropped.
    fn may_leave_threads(&self) -> bool {
        false
    }
}

struct ExtractWorker {
    context: Arc<StageContext>,
    originals: Arc<dyn Originals>,
    extractor: Extractor,
    wake: Arc<tokio::sync::Notify>,
    max_changes: u32,
    changes: Arc<DashMap<DocumentId, u32>>,
}

#[async_trait]
impl Work<Job, StageResult, Resume> for ExtractWorker {
    async fn run(&mut self, job: &Arc<Job>, cancel: &Cancel) -> AttemptOutcome<StageResult, Resume> {
        failpoint::reach("extraction.work", &job.claim.source);
        if !matches!(job.input, Input::Original) {
            return AttemptOutcome::Failed(StageError::permanent(
                "wrong_input",
                "the extraction stage received no file",
            ));
        }
        match self.extract(&job.claim, cancel).await {
            Ok(result) => AttemptOutcome::Done(result),
            Err(error) => AttemptOutcome::Failed(error),
        }
    }
}

impl ExtractWorker {
    async fn extract(&mut self, claim: &Claim, cancel: &Cancel) -> Result<StageResult, StageError> {
        let timer = Timer::start();
        let (file, head) = self.open(claim).await?;
        let name = source::file_name(&claim.source);
        let media_type = detect(&head, name.as_deref())?;
        let document = self.extractor.extract(file, InputHint { media_type: Some(media_type), name }, cancel).await?;
        let artefacts: &Artefacts = &self.context.artefacts;
        let output = artefacts.put_extracted(claim, &document, cancel).await?;
        // Images are not extracted yet, but readers of the former system's records expect the number of images.
        let metrics = [("pages_extracted", document.pages.len() as f64), ("images_extracted", 0.0)];
        let metrics = metrics.into_iter().map(|(name, number)| (name.to_owned(), number)).collect();
        let next = Some(Input::Extracted(Arc::new(document)));
        Ok(StageResult { output: Some(output), metrics, duration: timer.elapsed(), next, children: Vec::new() })
    }

    /// Opens the file if it still has the registered content. A changed file is registered again, which invalidates
    /// this claim. Content is therefore never indexed under the hash of other content.
    async fn open(&self, claim: &Claim) -> Result<(File, Vec<u8>), StageError> {
        let Original { mut file, tag } = self.originals.open(&claim.source).await?;
        let opened = tokio::task::spawn_blocking(move || {
            let (content, bytes, head) = rehash(&mut file)?;
            Ok::<_, StageError>((file, head, content, bytes))
        });
        let (file, head, content, bytes) =
            opened.await.map_err(|_| StageError::crash("unreadable", "reading the file was interrupted"))??;
        if content != claim.content {
            let document = NewDocument {
                source: claim.source.clone(),
                content,
                fingerprint: claim.fingerprint.clone(),
                bytes,
                media_type: claim.media_type,
                tenant: claim.tenant.clone(),
                weight: claim.weight,
                tag,
                parent: claim.parent.clone(),
            };
            let changes = {
                let mut changes = self.changes.entry(claim.key.id.clone()).or_default();
                *changes += 1;
                *changes
            };
            if changes > self.max_changes {
                let text = format!("the file changed {changes} times before it was read; ingest it once it is stable");
                return Err(StageError::permanent("source_unstable", text));
            }
            // Under the claim, so that a deletion that was requested meanwhile is not undone.
            self.context.control.register_changed(&claim.key, document).await.map_err(control)?;
            self.wake.notify_one();
            return Err(StageError::transient(
                "source_changed",
                "the file changed after its registration; it was registered again",
            ));
        }
        Ok((file, head))
    }
}
