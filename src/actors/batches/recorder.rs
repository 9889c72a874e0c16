//! Embeds records by live calls, and removes the rows of deleted records.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::failpoint;
use docweir_core::model::{ModelIdentity, Usage};
use docweir_providers::account::BUDGET_SPENT;
use docweir_records::document_id;
use docweir_stages::embed::{Call, deciding, embed_texts};
use docweir_stores::batches::{Sent, Space, StoredVector};
use docweir_target::{Target, TargetWriter};
use tokio::sync::Mutex;

use super::RecorderConfig;
use super::rows::{rows, tombstones};
use crate::messages::event::Event;

/// Maximum number of records in one call, even if the embedder accepts more. Also the maximum number of tombstones in
/// one commit.
const MOST: usize = 2_048;
/// Maximum number of tokens in one call, even if the embedder accepts more.
const MOST_TOKENS: u64 = 100_000;
/// Maximum size, in bytes, of the text and metadata that are stored for the records of one call.
const MOST_BYTES: usize = 16 << 20;
/// Maximum wait between two attempts, in seconds.
const LONGEST_WAIT: u64 = 60;

/// Holds one writer per collection for the whole run of the recorder. Each writer takes an entry in the manifest of its
/// collection, so the recorder must not begin a new writer in each round. Lanes of one collection share the writer.
type Writers = HashMap<String, Mutex<Box<dyn TargetWriter>>>;

/// Embeds the records of all collections by live calls, and removes the rows of deleted records.
pub struct Recorder {
    pub recording: RecorderConfig,
    pub cancel: Cancel,
}

impl Recorder {
    /// Runs until the run stops or the future is dropped.
    pub async fn run(&self) -> Result<(), StageError> {
        while let Err(busy) = self.recording.batches.forget_live().await {
            if !busy.is_busy() {
                return Err(busy.into());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut wait = Duration::ZERO;
        let mut writers = Writers::new();
        while !self.recording.batch_progress.is_stopping() {
            let asks = self.recording.batch_progress.asks();
            let mut stopped = false;
            match self.round(&mut writers).await {
                Ok(()) => wait = Duration::ZERO,
                Err(error) if error.code == BUDGET_SPENT => {
                    self.recording.notifier.tell_budget_spent(error.message);
                    stopped = true;
                }
                Err(error) if error.class == ErrorClass::System => return Err(error),
                Err(error) => {
                    let next = error.retry_after.unwrap_or(wait * 2).max(Duration::from_secs(1));
                    wait = next.min(Duration::from_secs(LONGEST_WAIT));
                    tracing::warn!(%error, wait_seconds = wait.as_secs_f64(), "records not embedded; retrying");
                }
            }
            let later = (!wait.is_zero()).then_some(wait);
            self.recording.batch_progress.recorded(asks, later.is_none(), stopped);
            tokio::select! {
                () = self.recording.batch_progress.record.notified() => {}
                () = tokio::time::sleep(later.unwrap_or(Duration::from_secs(LONGEST_WAIT))) => {}
            }
        }
        Ok(())
    }

    async fn round(&self, writers: &mut Writers) -> Result<(), StageError> {
        let collections = self.recording.batches.collections().await?;
        writers.retain(|name, _| collections.iter().any(|(collection, _)| collection == name));
        for (collection, model) in collections {
            let space = Space::Records(collection.clone());
            let done = self.collection(&collection, &space, &model, writers).await;
            // Outcomes are written back to their tables even if the collection failed.
            self.recording.write_back.pay_in_turn(&space).await?;
            done?;
            if self.recording.write_back.forgot.take() {
                self.collection(&collection, &space, &model, writers).await?;
            }
        }
        Ok(())
    }

    async fn collection(
        &self,
        collection: &str,
        space: &Space,
        model: &ModelIdentity,
        writers: &mut Writers,
    ) -> Result<(), StageError> {
        if *model != *self.recording.embedder.identity() {
            // Records that need another model wait until that model is configured again.
            if self.recording.batches.is_any_waiting(space).await? {
                self.recording
                    .notifier
                    .tell_once(format!("records of `{collection}` wait until model {} is configured", model.id));
            }
            return Ok(());
        }
        let target = self.recording.collections.get(collection)?;
        let writer: &Mutex<_> =
            writers.entry(collection.to_owned()).or_insert_with(|| Mutex::new(target.clone().writer()));
        loop {
            let removals = self.recording.batches.removals(space, MOST).await?;
            if removals.is_empty() {
                break;
            }
            writer.lock().await.write(tombstones(&removals), &self.model()).await?;
            self.recording.batches.removed(removals).await?;
        }
        self.refresh(space, target.as_ref(), writer).await?;
        if (self.recording.live || self.recording.batch_progress.is_live(collection))
            && self.recording.batches.is_any_waiting(space).await?
        {
            target.check_model(model).await?;
            let at_a_time = self.recording.embedder.at_a_time().unwrap_or(1);
            // If a lane fails, the other lanes stop before their next call, but never during a paid call.
            let stop = Cell::new(false);
            let lanes = (0..at_a_time).map(|_| self.lane(collection, space, writer, &stop));
            futures_util::future::join_all(lanes).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    /// Rewrites the rows of records whose text is the same but whose other fields have changed. The rows keep their
    /// vectors.
    async fn refresh(
        &self,
        space: &Space,
        target: &dyn Target,
        writer: &Mutex<Box<dyn TargetWriter>>,
    ) -> Result<(), StageError> {
        let batches = &self.recording.batches;
        loop {
            if batches.to_refresh(space, 1).await?.is_empty() {
                return Ok(());
            }
            // Recorded before the records are read, as in `keep`.
            writer.lock().await.begin().await?;
            let changed = batches.to_refresh(space, MOST).await?;
            let ids: Vec<_> = changed.iter().map(|sent| document_id(&sent.key)).collect();
            let held = target.rows(&ids).await?;
            let (mut written, mut lost) = (Vec::new(), Vec::new());
            for (sent, mut rows) in changed.into_iter().zip(held) {
                match rows.pop() {
                    Some(row) => written.push((sent, row.vector)),
                    // The row is missing, so the record must be embedded.
                    None => lost.push((sent.item, sent.version, false)),
                }
            }
            let done: Vec<_> = written.iter().map(|(sent, _)| (sent.item.clone(), sent.version, true)).collect();
            let items = done.len() as u64;
            if items > 0 {
                writer.lock().await.write(rows(written.into_iter()), &self.model()).await?;
            }
            batches.refreshed(done.into_iter().chain(lost).collect()).await?;
            let space = space.name();
            self.recording.events.emit(Event::RecordsStored { space, items, failed: 0, tokens: 0, cost_usd: 0.0 });
        }
    }

    fn model(&self) -> ModelIdentity {
        self.recording.embedder.identity().clone()
    }

    /// Claims records, embeds them and stores the results, until no record is left.
    async fn lane(
        &self,
        collection: &str,
        space: &Space,
        writer: &Mutex<Box<dyn TargetWriter>>,
        stop: &Cell<bool>,
    ) -> Result<(), StageError> {
        let (texts, tokens) = self.recording.embedder.most();
        let (texts, tokens) = (texts.min(MOST), tokens.min(MOST_TOKENS));
        while !stop.get() && !self.recording.batch_progress.is_stopping() {
            let name = format!("live:{}", ulid::Ulid::from_parts(0, fastrand::u128(..)));
            let taken = self.recording.batches.take_live(&name, space, texts, tokens, MOST_BYTES).await?;
            if taken.is_empty() {
                return Ok(());
            }
            failpoint::reach("records.taken", collection);
            let items = taken.iter().map(|(sent, _)| sent.item.clone()).collect();
            let are_owed = taken.iter().any(|(sent, _)| sent.origin.is_some());
            if let Err(error) = self.part(collection, &name, taken, writer).await {
                stop.set(true);
                self.recording.batches.give_back_live(&name, items).await?;
                return Err(error);
            }
            if are_owed {
                self.recording.write_back.pay(space).await?;
            }
        }
        Ok(())
    }

    /// Embeds some records. Successful results are stored even if other records failed.
    async fn part(
        &self,
        collection: &str,
        name: &str,
        taken: Vec<(Sent, String)>,
        writer: &Mutex<Box<dyn TargetWriter>>,
    ) -> Result<(), StageError> {
        let texts: Vec<&str> = taken.iter().map(|(_, input)| input.as_str()).collect();
        let call = Call { subject: collection, collection: Some(collection), cancel: &self.cancel };
        let (results, usage) = match embed_texts(self.recording.embedder.as_ref(), &texts, call).await {
            Ok(embedded) => embedded,
            Err(error) if error.class == ErrorClass::Permanent => (vec![Err(error); texts.len()], Usage::default()),
            Err(error) => return Err(error),
        };
        let (mut made, mut refused, mut tried, mut later) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((sent, _), result) in taken.into_iter().zip(results) {
            match result {
                Ok(vector) => made.push((sent, vector)),
                Err(error) if error.class == ErrorClass::Permanent => refused.push((sent, error)),
                // The failure of one record counts as an attempt. An outage does not.
                Err(error) if error.class == ErrorClass::Transient => tried.push((sent, error)),
                Err(error) => later.push(Err::<(), _>(error)),
            }
        }
        let items = self.keep(collection, name, made, writer).await?;
        let attempts = self.recording.attempts;
        let mut failed = 0;
        for (sent, error, most) in
            refused.iter().map(|(s, e)| (s, e, 0)).chain(tried.iter().map(|(s, e)| (s, e, attempts)))
        {
            failed += u64::from(self.recording.batches.fail_live(name, &sent.item, &error.code, most).await?);
        }
        later.extend(tried.into_iter().map(|(_, error)| Err(error)));
        let space = collection.to_owned();
        let (tokens, cost_usd) = (usage.tokens, usage.cost_usd);
        self.recording.events.emit(Event::RecordsStored { space, items, failed, tokens, cost_usd });
        deciding(&later).map_or(Ok(()), Err)
    }

    /// Stores the results that are still needed, and returns their number.
    async fn keep(
        &self,
        collection: &str,
        name: &str,
        made: Vec<(Sent, Vec<f32>)>,
        writer: &Mutex<Box<dyn TargetWriter>>,
    ) -> Result<u64, StageError> {
        if made.is_empty() {
            return Ok(0);
        }
        // The state of the target is recorded before the check, so a deletion after the check is newer than this state.
        // The other lanes wait, because their writes would record another one.
        let mut writer = writer.lock().await;
        writer.begin().await?;
        // The results of records that were changed or deleted in the meantime are not stored.
        let held =
            self.recording.batches.held_live(name, made.iter().map(|(sent, _)| sent.item.clone()).collect()).await?;
        let held = made.into_iter().zip(held).filter_map(|(made, held)| held.then_some(made)).collect();
        let fresh = self.recording.write_back.fresh(held, |(sent, _): &(Sent, Vec<f32>)| sent).await?;
        let items = fresh.len() as u64;
        if items > 0 {
            let done =
                |s: &Sent| StoredVector { item: s.item.clone(), version: s.version, tokens: s.tokens, vector: None };
            let done = fresh.iter().map(|(sent, _)| done(sent)).collect();
            writer.write(rows(fresh.into_iter()), &self.model()).await?;
            drop(writer);
            failpoint::reach("records.committed", collection);
            self.recording.batches.made(name, done).await?;
        }
        Ok(items)
    }
}
