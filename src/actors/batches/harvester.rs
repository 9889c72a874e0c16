//! Imports the results of ended batches. The output file and the error file are read line by line, in constant
//! memory.
//!
//! Results are imported in groups. First, the vectors of a group are stored. Vectors of records go to the collection
//! of the records, and vectors of texts go to the documents that wait for these texts. Then the items of the group
//! are marked as done. If the process dies between these two steps, the batch is imported again from the start.
//! Results that are already stored are then stored again under the same version, and results of finished items are
//! ignored. Last, the store marks the batch as ended and settles its reservation in the ledger.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::rc::Rc;

use docweir_core::error::{ErrorClass, StageError};
use docweir_core::failpoint;
use docweir_providers::openai::{
    CallError, ItemResult, NO_BASE64, ReadOptions, TransferError, open_results, read_results,
};
use docweir_stores::batches::{Batch, BatchStatus, Ending, Refusal, Sent, Space, StoredVector, result_files};
use docweir_target::TargetWriter;
use tokio::sync::mpsc;

use super::context::BatchContext;
use super::named_lines::named_items;
use super::rows::rows;
use super::{forbidden, unkeyed, untrusted};
use crate::supervisors::service::Inbox;

/// Maximum number of groups of result lines that were read and are not yet stored.
const GROUPS: usize = 4;

/// Number of downloads after which the content of a damaged result file counts as lost.
const MAX_DOWNLOADS: u32 = 3;

/// Imports the results of ended batches.
pub struct Harvester {
    pub context: Rc<BatchContext>,
    /// Number of downloads of each result file that were damaged.
    pub damaged: HashMap<String, u32>,
    /// Writer of each collection, by the collection's name.
    pub writers: HashMap<String, Box<dyn TargetWriter>>,
}

/// Holds the totals over a batch's result files, such as the number of tokens and the number of unreadable lines.
#[derive(Default)]
struct Sums {
    tokens: u64,
    bad_lines: u64,
    /// True if items failed because the provider named their lines in the input file.
    blamed: bool,
    /// Reason why results are missing; `None` if all results are available.
    lost: Option<String>,
}

/// Holds the result for an item of a batch.
struct Fresh {
    /// Key of the item in the provider's files.
    key: String,
    sent: Sent,
    vector: Vec<f32>,
    tokens: u64,
}

/// Splits results into groups of at most `most_bytes`. A larger result forms a group of its own.
fn parts(fresh: Vec<Fresh>, most_bytes: usize) -> Vec<Vec<Fresh>> {
    let mut parts: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for one in fresh {
        let more = one.sent.bytes + 4 * one.vector.len();
        match parts.last_mut().filter(|_| bytes + more <= most_bytes) {
            Some(part) => {
                bytes += more;
                part.push(one);
            }
            None => {
                bytes = more;
                parts.push(vec![one]);
            }
        }
    }
    parts
}

/// Returns whether an error means that compressed data are invalid or incomplete.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

impl Harvester {
    /// Imports batches, one after the other, until every sender is dropped.
    pub async fn run(&mut self, inbox: &Inbox<String>) -> Result<(), StageError> {
        // If this service was restarted, some imports may be unfinished. The poller finds those batches again.
        self.context.batch_progress.harvest_anew();
        while let Some(id) = inbox.receive().await {
            let harvested = self.batch(&id).await;
            // The documents must be resumed before the import counts as ended. Otherwise, the run might end before
            // they are resumed.
            let harvested = match harvested {
                Ok(()) => self.context.resume().await,
                failed => failed,
            };
            self.context.batch_progress.harvest_ends(&id);
            match harvested {
                Ok(()) => {}
                // The next poll of the open batches finds the batch again.
                Err(error) if error.class != ErrorClass::System => {
                    tracing::warn!(batch = id, %error, "batch could not be imported; retrying at the next poll");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn batch(&mut self, id: &str) -> Result<(), StageError> {
        let context = self.context.clone();
        let Some(batch) = context.batches.batch(id).await?.filter(|b| b.ended_at.is_none()) else { return Ok(()) };
        let mut sums = Sums::default();
        context.cancel_late_twins(&batch).await?;
        if batch.status == BatchStatus::Failed && !batch.error_lines.is_empty() {
            let error = batch.error.clone().unwrap_or_default();
            let keys = named_items(&context, &batch).await?;
            sums.blamed = !keys.is_empty();
            let refusals = keys.into_iter().map(|key| Refusal { key, error: error.clone(), again: false }).collect();
            context.batches.refused(id, refusals, context.options.max_attempts).await?;
        }
        let [output, errors] = result_files(&context.folder, id);
        for (file, path) in [(&batch.output_file_id, output), (&batch.error_file_id, errors)] {
            if let Some(file) = file {
                if !self.fetch(&batch, file, &path).await? {
                    sums.lost = Some("the provider no longer has the results of the batch".into());
                    continue;
                }
                failpoint::reach("harvest.fetched", id);
                if let Err(error) = self.file(&batch, &path, &mut sums).await? {
                    self.discard(&path, file, error)?;
                    sums.lost = Some("the results of the batch are damaged".into());
                }
            }
        }
        let has_no_file = batch.output_file_id.is_none() && batch.error_file_id.is_none();
        if batch.status == BatchStatus::Cancelled && batch.done > 0 && has_no_file {
            // The rows may be paid, so their charge is unknown.
            sums.lost = Some("the batch was cancelled, and its results never became available".into());
        }
        if sums.bad_lines > 0 {
            tracing::warn!(batch = id, lines = sums.bad_lines, "the results of a batch contain unreadable lines");
        }
        failpoint::reach("harvest.stored", id);
        context.batches.end(id, self.ending(&batch, &sums)).await?;
        failpoint::reach("harvest.ended", id);
        context.ended(id).await
    }

    fn ending(&self, batch: &Batch, sums: &Sums) -> Ending {
        // If the provider's queue was full or the batch was cancelled, this does not count as an attempt.
        let full = batch.error.as_deref().is_some_and(|e| e.contains("token_limit_exceeded"));
        if full {
            let text = "`batch.max_enqueued_tokens` exceeds the provider's limit on queued tokens; lower the value";
            self.context.notifier.tell_once(text.into());
        }
        // If the provider named the invalid lines, all other items count as not sent.
        let undone = full || sums.blamed || batch.status == BatchStatus::Cancelled;
        // If the results are missing, only the provider's own count of tokens is known.
        let charged = batch.charged_tokens.or_else(|| sums.lost.is_none().then_some(sums.tokens));
        self.context.ending(batch.status, charged, undone, sums.lost.clone())
    }

    /// Downloads a result file. Returns `false` if the provider no longer has the file. The results are then lost,
    /// and the items are sent again.
    async fn fetch(&self, batch: &Batch, file: &str, to: &Path) -> Result<bool, StageError> {
        if to.exists() {
            return Ok(true);
        }
        let context = &self.context;
        match context.client.download(file, to, &context.options.transfer).await {
            Ok(_) => Ok(true),
            Err(error @ TransferError::Local { .. }) => Err(StageError::system("batch_file", error.to_string())),
            Err(TransferError::Call(CallError::Missing(what))) => {
                tracing::error!(batch = batch.id, what, "the provider no longer has the results of a batch");
                Ok(false)
            }
            Err(TransferError::Call(CallError::Forbidden(what))) => Err(forbidden(context, &what)),
            Err(TransferError::Call(CallError::Unkeyed(why))) => Err(unkeyed(&why)),
            Err(TransferError::Call(CallError::Untrusted(what))) => Err(untrusted(what)),
            Err(TransferError::Call(CallError::Refused(what))) => {
                context.notifier.tell_once(format!(
                    "cannot download the results of batch {}: {what} (see `batch.transfer`)",
                    batch.id
                ));
                Err(StageError::transient("batch_file", what))
            }
            Err(TransferError::Call(error)) => Err(StageError::transient("batch_file", error.to_string())),
        }
    }

    /// Deletes a damaged result file, so that it is downloaded again. Returns an error if the import must be retried,
    /// and `Ok` if the file was damaged after each download.
    fn discard(&mut self, path: &Path, file: &str, error: io::Error) -> Result<(), StageError> {
        let downloads = self.damaged.entry(file.to_owned()).or_default();
        *downloads += 1;
        tracing::error!(file, %error, downloads, "result file of a batch is damaged");
        if *downloads < MAX_DOWNLOADS {
            let broken = |e| StageError::system("batch_file", format!("{}: {e}", path.display()));
            std::fs::remove_file(path).map_err(broken)?;
            return Err(StageError::transient("batch_file", format!("result file {file} is damaged: {error}")));
        }
        self.damaged.remove(file);
        Ok(())
    }

    /// Imports a result file. Returns an inner error if the file is damaged; results before the damage are imported.
    async fn file(&mut self, batch: &Batch, path: &Path, sums: &mut Sums) -> Result<Result<(), io::Error>, StageError> {
        let context = self.context.clone();
        let broken = |e: &dyn std::fmt::Display| StageError::system("batch_file", format!("{}: {e}", path.display()));
        let file = open_results(path).map_err(|e| broken(&e))?;
        let options = ReadOptions { max_line_bytes: context.options.max_line_bytes, ..ReadOptions::default() };
        let dimension = context.model.dimension as usize;
        let (give, mut groups) = mpsc::channel::<Vec<ItemResult>>(GROUPS);
        let reading = tokio::task::spawn_blocking(move || {
            let gone = || std::io::Error::other("the import of the results has ended");
            read_results(file, dimension, options, |group| give.blocking_send(group).map_err(|_| gone()))
        });
        let per_row = dimension * 4 + 512;
        let most = context.options.harvest_items.min((context.options.harvest_bytes / per_row).max(1));
        let mut held = Vec::new();
        while let Some(group) = groups.recv().await {
            for outcome in group {
                match outcome {
                    ItemResult::Bad { line, why } => {
                        tracing::debug!(batch = batch.id, line, why, "unreadable line in the results");
                        sums.bad_lines += 1;
                    }
                    outcome => held.push(outcome),
                }
                if held.len() >= most {
                    self.group(batch, std::mem::take(&mut held), sums).await?;
                }
            }
        }
        self.group(batch, held, sums).await?;
        match reading.await.map_err(|e| broken(&e))? {
            Err(error) if is_damage(&error) => Ok(Err(error)),
            read => read.map(Ok).map_err(|e| broken(&e)),
        }
    }

    async fn group(&mut self, batch: &Batch, outcomes: Vec<ItemResult>, sums: &mut Sums) -> Result<(), StageError> {
        let context = self.context.clone();
        let (mut vectors, mut refusals) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                ItemResult::Row { custom_id, vector, tokens } => {
                    sums.tokens += tokens;
                    vectors.push((custom_id, vector, tokens));
                }
                ItemResult::Unusable { custom_id, why, tokens } => {
                    sums.tokens += tokens;
                    let error = format!("the vector is unusable: {why}");
                    refusals.push(Refusal { key: custom_id, error, again: true });
                }
                ItemResult::Refused { custom_id, code, retryable } => {
                    if code == NO_BASE64 {
                        context.client.asks_for_lists();
                    }
                    refusals.push(Refusal { key: custom_id, error: code, again: retryable });
                }
                ItemResult::Bad { .. } => {}
            }
        }
        if !vectors.is_empty() {
            let keys = vectors.iter().map(|(key, ..)| key.clone()).collect();
            let sent = context.batches.sent(&batch.id, keys).await?;
            // If an item occurs in several lines, only the first result counts.
            let mut seen = HashSet::new();
            let fresh: Vec<Fresh> = sent
                .into_iter()
                .zip(vectors)
                .filter_map(|(sent, (key, vector, tokens))| Some(Fresh { key, sent: sent?, vector, tokens }))
                .filter(|fresh| seen.insert(fresh.sent.item.clone()))
                .collect();
            for part in parts(fresh, context.options.harvest_bytes) {
                self.keep(batch, part).await?;
            }
        }
        if !refusals.is_empty() {
            // If the batch was cancelled, this does not count as an attempt.
            let most = if batch.status == BatchStatus::Cancelled { u32::MAX } else { context.options.max_attempts };
            context.batches.refused(&batch.id, refusals, most).await?;
        }
        Ok(())
    }

    async fn keep(&mut self, batch: &Batch, mut fresh: Vec<Fresh>) -> Result<(), StageError> {
        let context = self.context.clone();
        if let Space::Records(collection) = &batch.space {
            // The state of the target is recorded before the check, so a deletion after the check is newer than this
            // state.
            self.writer(collection)?.begin().await?;
            let sent = context.batches.sent(&batch.id, fresh.iter().map(|one| one.key.clone()).collect()).await?;
            let still = |one: &Fresh, now: Option<Sent>| now.is_some_and(|now| now.version == one.sent.version);
            fresh = fresh.into_iter().zip(sent).filter_map(|(one, now)| still(&one, now).then_some(one)).collect();
        }
        let fresh = context.write_back.fresh(fresh, |one| &one.sent).await?;
        if fresh.is_empty() {
            return Ok(());
        }
        let made = match &batch.space {
            Space::Texts(_) => fresh
                .into_iter()
                .map(|Fresh { sent, vector, tokens, .. }| StoredVector {
                    item: sent.item,
                    version: sent.version,
                    tokens,
                    vector: Some(vector),
                })
                .collect(),
            Space::Records(collection) => {
                let made = fresh
                    .iter()
                    .map(|one| StoredVector {
                        item: one.sent.item.clone(),
                        version: one.sent.version,
                        tokens: one.tokens,
                        vector: None,
                    })
                    .collect();
                let writes = rows(fresh.into_iter().map(|one| (one.sent, one.vector)));
                let writer = self.writer(collection)?;
                writer.write(writes, &context.model).await?;
                failpoint::reach("harvest.committed", &batch.id);
                made
            }
        };
        context.batches.made(&batch.id, made).await?;
        failpoint::reach("harvest.marked", &batch.id);
        Ok(())
    }

    fn writer(&mut self, collection: &str) -> Result<&mut Box<dyn TargetWriter>, StageError> {
        let target = self.context.collections.get(collection)?;
        Ok(self.writers.entry(collection.to_owned()).or_insert_with(|| target.writer()))
    }
}
