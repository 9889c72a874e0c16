//! What the batch services share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use docweir_core::clock::{SharedClock, UnixMicros};
use docweir_core::documents::DocumentId;
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;
use docweir_core::money::Nanodollars;
use docweir_objects::ObjectStore;
use docweir_providers::account::Account;
use docweir_providers::batched::wake_word;
use docweir_providers::openai::{BatchObject, CallError, Client, OpenAiOptions};
use docweir_stores::batches::{Batch, Batches, Space, Waiting};
use docweir_stores::control::{ControlError, ControlStore, DocumentStatus, RecordFilter, Resume};
use docweir_stores::ledger::{Asked, Budget, Mode, Spend};
use docweir_target::{OpenTarget, Target};
use tokio::sync::Notify;

use super::batch_progress::BatchProgress;
use super::lease_deadline::LeaseDeadline;
use super::once_notifier::OnceNotifier;
use super::options::{BatchOptions, EmbedMode};
use super::write_back::WriteBack;
use crate::actors::outcomes::control;
use crate::actors::retry_while_busy::retry_while_busy;
use crate::messages::event::EventSink;
use crate::supervisors::RetryOptions;

/// In a batch's metadata: our id.
pub const TAG: &str = "docweir_batch";

/// How much earlier than our clock says a provider's clock may have a batch begin.
const SKEW_SECONDS: u64 = 3_600;

pub struct BatchContext {
    pub batches: Arc<dyn Batches>,
    pub client: Client,
    pub account: Account,
    pub endpoint: OpenAiOptions,
    pub options: BatchOptions,
    pub mode: EmbedMode,
    /// Whether new batches are made of what waits.
    pub packs: bool,
    pub model: ModelIdentity,
    pub objects: Arc<dyn ObjectStore>,
    /// Where results lie until they are taken in.
    pub folder: PathBuf,
    pub control: Arc<dyn ControlStore>,
    pub events: Arc<dyn EventSink>,
    pub clock: SharedClock,
    pub retry: RetryOptions,
    pub notifier: Rc<OnceNotifier>,
    pub batch_progress: Arc<BatchProgress>,
    /// Documents may go on.
    pub wake: Arc<Notify>,
    pub collections: Rc<Collections>,
    /// Tells tables what became of their items.
    pub write_back: Rc<WriteBack>,
    /// How long this process may look after batches, where several share them.
    pub lease_deadline: Option<Rc<LeaseDeadline>>,
}

/// The collections that records come into, opened once.
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

    /// Returns the names of those that something came into.
    pub fn used(&self) -> Vec<String> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

impl BatchContext {
    /// Whose ledger a space's batches are in.
    pub fn collection(&self, space: &Space) -> String {
        match space {
            Space::Texts(_) => self.account.collection.clone(),
            Space::Records(collection) => collection.clone(),
        }
    }

    /// Where a batch's requests lie.
    pub fn input_key(batch: &str) -> String {
        format!("batches/{batch}/input.jsonl")
    }

    /// Lets go on every document whose texts are there.
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
        let resumed = retry_while_busy(&self.retry, || store.resume(Some(&word))).await.map_err(control)?;
        if resumed > 0 {
            return Ok(resumed);
        }
        // Parking, or on its way; or no longer in need of them. What is quarantined may be tried again.
        let needless = match DocumentId::parse(document) {
            None => true,
            Some(id) => match retry_while_busy(&self.retry, || store.record(&id)).await {
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

    /// Documents that wait for what nobody knows of any more ask anew.
    pub async fn wake_the_forgotten(&self) -> Result<(), StageError> {
        const PAGE: usize = 500;
        let store = &self.control;
        let filter = RecordFilter { status: Some(DocumentStatus::Parked), ..RecordFilter::default() };
        let mut after = None;
        loop {
            let page =
                retry_while_busy(&self.retry, || store.list(&filter, after.as_ref(), PAGE)).await.map_err(control)?;
            for record in &page {
                let word = wake_word(record.document_id.as_str());
                let waits = record.parked_resume == Some(Resume::On(word.clone()));
                if waits && !self.batches.is_waiting(record.document_id.as_str()).await? {
                    retry_while_busy(&self.retry, || store.resume(Some(&word))).await.map_err(control)?;
                }
            }
            after = page.last().map(|r| r.document_id.clone());
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Whether a batch is of the model and at the endpoint that are configured now. Others wait until they are again.
    pub fn is_ours(&self, batch: &Batch) -> bool {
        let ours = batch.model == self.model && batch.endpoint == self.endpoint.base_url;
        if !ours {
            self.notifier.tell_once(format!(
                "batch {} is of model {} at {}: it is looked at when `embed.options.openai` says so again",
                batch.id, batch.model.id, batch.endpoint
            ));
        }
        ours
    }

    /// Open batches that this run can do something about.
    pub async fn open(&self) -> Result<Vec<Batch>, StageError> {
        Ok(self.batches.open().await?.into_iter().filter(|b| self.is_ours(b)).collect())
    }

    /// Spaces with items to send that are of the model that is configured now.
    pub async fn waiting(&self) -> Result<Vec<(Space, Waiting)>, StageError> {
        let bound: HashMap<String, ModelIdentity> = self.batches.collections().await?.into_iter().collect();
        let texts = Space::texts(&self.model);
        let ours = |space: &Space, waiting: &Waiting| {
            let ours = match space {
                Space::Texts(_) => *space == texts,
                Space::Records(name) => bound.get(name) == Some(&self.model),
            };
            if !ours {
                self.notifier.tell_once(format!("{} items of {} wait for another model", waiting.items, space.name()));
            }
            ours
        };
        Ok(self.batches.waiting().await?.into_iter().filter(|(space, waiting)| ours(space, waiting)).collect())
    }

    /// Looks for a batch in the provider's list, which has the newest first, by our id in its metadata. One that stands
    /// there twice, because a process that had been stopped sent it after another had, is the first of them; the others are
    /// cancelled.
    pub async fn find(&self, batch: &Batch, asked: UnixMicros) -> Result<Option<BatchObject>, CallError> {
        let from = u64::try_from(asked / 1_000_000).unwrap_or_default().saturating_sub(SKEW_SECONDS);
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
        let mut found = found.into_iter();
        let first = found.next();
        for twin in found {
            self.cancel_twin(batch, &twin).await;
        }
        Ok(first)
    }

    /// A batch that the provider has twice. What the second one has cost until now, nobody here can know.
    pub async fn cancel_twin(&self, batch: &Batch, twin: &BatchObject) {
        if let Err(error) = self.client.cancel_batch(&twin.id).await {
            tracing::warn!(batch = batch.id, twin = twin.id, %error, "the provider does not cancel a batch that it has twice");
        }
        if !self.notifier.tell_once(format!("the provider had batch {} twice: {} is cancelled", batch.id, twin.id)) {
            return;
        }
        let cost = Nanodollars::of_tokens(batch.tokens, self.account.price.batch);
        let spend = self.account.spend(Mode::Batch, &batch.id, batch.tokens, cost);
        let spend = Spend { collection: self.collection(&batch.space), ..spend };
        let ledger = &self.account.ledger;
        // It is charged whatever the budget says.
        let doubted = match ledger.reserve(spend, Budget::default()).await {
            Ok(Asked::Given(reservation)) => ledger.doubt(&reservation.id).await,
            Ok(Asked::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = doubted {
            tracing::error!(batch = batch.id, %error, "what a second batch may cost can't be written to the ledger");
        }
    }

    /// Whether a call that takes its full time still falls into this process's turn.
    pub fn has_time_for_a_call(&self) -> bool {
        let call = Duration::from_secs_f64(self.endpoint.request_seconds);
        self.lease_deadline.as_ref().is_none_or(|lease_deadline| lease_deadline.has(call))
    }

    /// How long a batch has to appear in the provider's list.
    pub fn settling(&self) -> Duration {
        Duration::from_secs_f64(self.options.settle_seconds)
    }
}
