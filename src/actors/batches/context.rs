//! Holds the stores, clients and options that the batch services share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use docweir_core::clock::{SharedClock, UnixMicros, parse_timestamp};
use docweir_core::documents::DocumentId;
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;
use docweir_core::money::Nanodollars;
use docweir_objects::ObjectStore;
use docweir_providers::account::Account;
use docweir_providers::batched::wake_word;
use docweir_providers::openai::{BatchObject, CallError, Client, OpenAiOptions, RemoteBatchStatus};
use docweir_stores::batches::{Batch, Batches, Space, Waiting};
use docweir_stores::control::{ControlError, ControlStore, DocumentStatus, RecordFilter, Resume};
use docweir_stores::ledger::{Budget, Mode, ReservationOutcome, Spend};
use docweir_stores::paid::PaidError;
use docweir_target::{OpenTarget, Target};
use tokio::sync::Notify;

use super::batch_progress::BatchProgress;
use super::lease_deadline::LeaseDeadline;
use super::once_notifier::OnceNotifier;
use super::options::{BatchOptions, EmbedMode};
use super::write_back::WriteBack;
use crate::actors::outcomes::control;
use crate::actors::retry_while_busy::retry_in_outage;
use crate::messages::event::EventSink;
use crate::supervisors::RetryOptions;

/// Key under which a batch's metadata at the provider contains Docweir's id of the batch.
pub const TAG: &str = "docweir_batch";

/// Maximum number of seconds by which the provider's clock may be behind the clock of this process.
const SKEW_SECONDS: u64 = 3_600;

/// Holds the stores, clients and options that the batch services share.
pub struct BatchContext {
    pub batches: Arc<dyn Batches>,
    pub client: Client,
    pub account: Account,
    pub endpoint: OpenAiOptions,
    pub options: BatchOptions,
    pub mode: EmbedMode,
    /// True if waiting items are packed into new batches. If false, the run only polls the open batches.
    pub packs: bool,
    pub model: ModelIdentity,
    pub objects: Arc<dyn ObjectStore>,
    /// Local folder for result files that were downloaded and are not yet imported.
    pub folder: PathBuf,
    pub control: Arc<dyn ControlStore>,
    pub events: Arc<dyn EventSink>,
    pub clock: SharedClock,
    pub retry: RetryOptions,
    pub notifier: Rc<OnceNotifier>,
    pub batch_progress: Arc<BatchProgress>,
    /// Wakes the dispatcher when parked documents can continue.
    pub wake: Arc<Notify>,
    pub collections: Rc<Collections>,
    /// Writes the outcomes of records back to their tables.
    pub write_back: Rc<WriteBack>,
    /// Time until which this process may act as leader for batches; `None` if the state is not shared.
    pub lease_deadline: Option<Rc<LeaseDeadline>>,
}

/// Opens the collections of records. Each collection is opened only once.
pub struct Collections {
    open: OpenTarget,
    opened: Mutex<HashMap<String, Arc<dyn Target>>>,
}

impl Collections {
    pub fn new(open: OpenTarget) -> Self {
        Self { open, opened: Mutex::default() }
    }

    pub fn get(&self, name: &str) -> Result<Arc<dyn Target>, StageError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = opened.get(name) {
            return Ok(target.clone());
        }
        let target = (self.open)(name)?;
        opened.insert(name.to_owned(), target.clone());
        Ok(target)
    }

    /// Returns the names of the collections that have been opened.
    pub fn used(&self) -> Vec<String> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

impl BatchContext {
    /// Returns the name of a collection. The ledger charges the batches of the given space to this collection. A
    /// space is a group of items that may share a batch: the texts for one model, or the records of one collection.
    pub fn collection(&self, space: &Space) -> String {
        match space {
            Space::Texts(_) => self.account.collection.clone(),
            Space::Records(collection) => collection.clone(),
        }
    }

    /// Returns the object key of a batch's request file.
    pub fn input_key(batch: &str) -> String {
        format!("batches/{batch}/input.jsonl")
    }

    /// Resumes each parked document once the results of all its texts are available.
    pub async fn resume(&self) -> Result<(), StageError> {
        const PAGE: usize = 500;
        let mut after = String::new();
        let mut resumed = 0;
        loop {
            let page = self.batches.ready(&after, PAGE).await?;
            for document in &page {
                resumed += self.resume_one(document).await?;
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE) else { break };
            after = last.clone();
        }
        if resumed > 0 {
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn resume_one(&self, document: &str) -> Result<u64, StageError> {
        let (store, word) = (&self.control, wake_word(document));
        let resumed = retry_in_outage(&self.retry, || store.resume(Some(&word))).await.map_err(control)?;
        if resumed > 0 {
            return Ok(resumed);
        }
        // The document is about to be parked, is running, or no longer needs its vectors. A quarantined document may
        // be retried and then needs its vectors.
        let needless = match DocumentId::parse(document) {
            None => true,
            Some(id) => match retry_in_outage(&self.retry, || store.record(&id)).await {
                Ok(record) => matches!(
                    record.status,
                    DocumentStatus::Completed | DocumentStatus::Failed | DocumentStatus::Deleted
                ),
                Err(ControlError::NotFound(_)) => true,
                Err(error) => return Err(control(error)),
            },
        };
        if needless {
            self.batches.taken(document).await?;
        }
        Ok(0)
    }

    /// Resumes parked documents that wait for results which can never arrive, because the store of batches does not
    /// contain the documents' texts. The resumed documents enqueue their texts again.
    pub async fn wake_the_forgotten(&self) -> Result<(), StageError> {
        const PAGE: usize = 500;
        let store = &self.control;
        let filter = RecordFilter { status: Some(DocumentStatus::Parked), ..RecordFilter::default() };
        let mut after = None;
        loop {
            let page =
                retry_in_outage(&self.retry, || store.list(&filter, after.as_ref(), PAGE)).await.map_err(control)?;
            for record in &page {
                let word = wake_word(record.document_id.as_str());
                let waits = record.parked_resume == Some(Resume::On(word.clone()));
                if waits && !self.batches.is_waiting(record.document_id.as_str()).await? {
                    retry_in_outage(&self.retry, || store.resume(Some(&word))).await.map_err(control)?;
                }
            }
            after = page.last().map(|r| r.document_id.clone());
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Returns whether a batch was created for the configured model and endpoint. A batch for another model or
    /// endpoint is left alone until that model and endpoint are configured again.
    pub fn is_ours(&self, batch: &Batch) -> bool {
        let ours = batch.model == self.model && batch.endpoint == self.endpoint.base_url;
        if !ours {
            self.notifier.tell_once(format!(
                "batch {} waits until `embed.options.openai` names its model ({}) and endpoint ({})",
                batch.id, batch.model.id, batch.endpoint
            ));
        }
        ours
    }

    /// Returns the open batches that were created for the configured model and endpoint.
    pub async fn open(&self) -> Result<Vec<Batch>, StageError> {
        Ok(self.batches.open().await?.into_iter().filter(|b| self.is_ours(b)).collect())
    }

    /// Returns the spaces (groups of items) of the configured model in which items wait to be sent. If items of other
    /// models wait, the user is informed once.
    pub async fn waiting(&self) -> Result<Vec<(Space, Waiting)>, StageError> {
        let bound: HashMap<String, ModelIdentity> = self.batches.collections().await?.into_iter().collect();
        let texts = Space::texts(&self.model);
        let ours = |space: &Space, waiting: &Waiting| {
            let ours = match space {
                Space::Texts(_) => *space == texts,
                Space::Records(name) => bound.get(name) == Some(&self.model),
            };
            if !ours {
                self.notifier.tell_once(format!(
                    "{} items of {} wait until their model is configured again",
                    waiting.items,
                    space.name()
                ));
            }
            ours
        };
        Ok(self.batches.waiting().await?.into_iter().filter(|(space, waiting)| ours(space, waiting)).collect())
    }

    /// Searches the provider's list for the batch whose metadata contains the given Docweir id. The list may contain
    /// two batches with this id, if both a former leader and the current leader created one. In this case, the batch
    /// that was created first is returned, and the others are cancelled.
    pub async fn find(&self, batch: &Batch, asked: UnixMicros) -> Result<Option<BatchObject>, CallError> {
        let found = self.tagged(batch, asked).await?.into_iter();
        let (mut twins, others): (Vec<_>, Vec<_>) = found.partition(|object| batch.twins.contains(&object.id));
        let mut others = others.into_iter();
        let first = others.next();
        twins.extend(others);
        // What cannot be cancelled now is tried again when the batch ends.
        self.cancel_twins(batch, &twins).await;
        Ok(first)
    }

    /// Cancels the duplicates of a batch at the provider, if there may be any: some are known, or the provider did not
    /// confirm the creation of the batch. Such a duplicate may appear only after the batch was created again.
    pub async fn cancel_late_twins(&self, batch: &Batch) -> Result<(), StageError> {
        if !batch.unconfirmed && batch.twins.is_empty() {
            return Ok(());
        }
        let created = parse_timestamp(&batch.created_at).unwrap_or_default();
        let mut found = match self.tagged(batch, created).await {
            Ok(found) => found,
            // A provider without a list of batches cannot be asked.
            Err(CallError::Missing(_) | CallError::Unknown(_)) => return Ok(()),
            Err(error) => return Err(StageError::unavailable("provider_failed", error.to_string())),
        };
        found.retain(|object| batch.provider_id.as_deref() != Some(object.id.as_str()));
        match self.cancel_twins(batch, &found).await {
            true => Ok(()),
            false => Err(StageError::unavailable("provider_failed", "a duplicate of the batch is not cancelled yet")),
        }
    }

    /// Returns the batches at the provider whose metadata contains Docweir's id of `batch`, the oldest first.
    async fn tagged(&self, batch: &Batch, asked: UnixMicros) -> Result<Vec<BatchObject>, CallError> {
        let from = u64::try_from(asked / 1_000_000).unwrap_or_default().saturating_sub(SKEW_SECONDS);
        // The provider's list is sorted from the newest batch to the oldest.
        let (mut after, mut found): (Option<String>, Vec<BatchObject>) = (None, Vec::new());
        loop {
            let page = self.client.list_batches(after.as_deref(), 100).await?;
            let older = page.items.last().is_some_and(|b| b.created_at.is_some_and(|at| at < from));
            let ours = |b: &BatchObject| b.metadata.get(TAG).is_some_and(|tag| *tag == batch.id);
            found.extend(page.items.into_iter().filter(ours));
            after = page.next;
            if older || after.is_none() {
                break;
            }
        }
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }

    /// Cancels duplicates of `batch` at the provider. It is unknown whether the provider charges for a duplicate, so its
    /// cost is recorded as in doubt. The cost is recorded once, because the batch's record names the duplicates. Returns
    /// whether all of them are cancelled and recorded.
    pub async fn cancel_twins(&self, batch: &Batch, twins: &[BatchObject]) -> bool {
        use RemoteBatchStatus::{Cancelled, Cancelling, Completed, Expired, Failed};
        let (mut known, mut all) = (batch.twins.clone(), true);
        for twin in twins {
            if !known.contains(&twin.id) {
                match self.doubt_twin(batch).await {
                    Ok(()) => known.push(twin.id.clone()),
                    Err(error) => {
                        tracing::error!(batch = batch.id, %error, "cost of the duplicate not recorded; retrying");
                        all = false;
                    }
                }
            }
            // A batch that has ended cannot be cancelled. If it ends just now, the next look at the list shows it.
            if matches!(twin.status, Completed | Failed | Expired | Cancelled | Cancelling) {
                continue;
            }
            match self.client.cancel_batch(&twin.id).await {
                Ok(_) | Err(CallError::Missing(_) | CallError::Unknown(_) | CallError::Refused(_)) => {}
                Err(error) => {
                    tracing::warn!(batch = batch.id, twin = twin.id, %error, "duplicate batch not cancelled; retrying");
                    all = false;
                }
            }
        }
        for twin in known.iter().skip(batch.twins.len()) {
            let text =
                format!("batch {} was created twice at the provider, as {twin} too; cancelling {twin}", batch.id);
            self.notifier.tell_once(text);
        }
        if known.len() > batch.twins.len()
            && let Err(error) = self.batches.twins(&batch.id, &known).await
        {
            tracing::warn!(batch = batch.id, %error, "duplicates of the batch not recorded");
        }
        all
    }

    /// Records the cost of a duplicate as in doubt.
    async fn doubt_twin(&self, batch: &Batch) -> Result<(), PaidError> {
        let cost = Nanodollars::of_tokens(batch.tokens, self.account.price.batch);
        let spend = self.account.spend(Mode::Batch, &batch.id, batch.tokens, cost);
        let spend = Spend { collection: self.collection(&batch.space), ..spend };
        let ledger = &self.account.ledger;
        // The provider may charge for the duplicate even if the budget is spent.
        match ledger.reserve(spend, Budget::default()).await? {
            ReservationOutcome::Given(reservation) => ledger.doubt(&reservation.id).await,
            ReservationOutcome::Refused { .. } => Ok(()),
        }
    }

    /// Returns whether a call of the maximum duration would end before the lease on batches expires.
    pub fn has_time_for_a_call(&self) -> bool {
        let call = Duration::from_secs_f64(self.endpoint.request_seconds);
        self.lease_deadline.as_ref().is_none_or(|lease_deadline| lease_deadline.has(call))
    }

    /// Returns how long to wait for a batch if the provider did not confirm its creation. After this time, the batch
    /// is created again.
    pub fn confirm_time(&self) -> Duration {
        Duration::from_secs_f64(self.options.confirm_seconds)
    }
}
