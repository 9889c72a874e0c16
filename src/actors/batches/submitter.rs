//! Packs waiting items into batches and submits the batches to the provider. A crash at any moment neither loses a
//! batch nor makes the provider charge for a batch twice.
//!
//! ```text
//! packed ─▶ file written ─▶ uploaded ─▶ asked ─────▶ taken
//! (items, money, record:                 │ no answer
//!  one step)                             └─▶ in the provider's list? ─▶ taken
//!                                            not after a while ─▶ uploaded
//! ```
//! The diagram shows the states of a batch. Each new state is stored durably before the next step begins. Uploading a
//! file twice costs nothing, but creating a batch cannot be repeated safely. The record therefore states *before* the
//! call that the provider may know the batch, and the batch at the provider carries Docweir's id. If no answer
//! arrives, the provider's list is searched for the batch. The batch is created again only if the list does not
//! contain it after some time.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use docweir_core::backoff::Backoff;
use docweir_core::clock::parse_timestamp;
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_objects::ObjectError;
use docweir_providers::account::refused;
use docweir_providers::openai::{BatchObject, CallError, RequestLines, TransferError};
use docweir_stores::batches::{Batch, BatchStatus, Order, Packed, Space};
use docweir_stores::ledger::{Mode, Spend};
use docweir_stores::paid::PaidError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::batch_progress::Left;
use super::context::{BatchContext, TAG};
use super::options::EmbedMode;
use super::{forbidden, unkeyed, untrusted};
use crate::messages::event::Event;

/// Minimum pause between two rounds.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// Maximum pause between two rounds, however long a round takes.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Maximum number of requests that are read from the store at a time.
const PAGE: usize = 2_000;

/// Packs waiting items into batches and sends the batches to the provider.
pub struct Submitter {
    pub context: Rc<BatchContext>,
}

/// Describes the state of a batch's submission.
enum Step {
    /// Nothing is left to submit: the provider has received the batch, or the batch has already ended.
    Done,
    /// The submission must be continued later.
    Later(Later),
}

/// Selects when the next attempt is made.
#[derive(Clone, Copy)]
enum Later {
    At(Duration),
    /// The next attempt is made after this wait, and the attempt counts as a failure.
    Unpaid(Duration),
    /// The next attempt is made after a wait. The wait doubles with every consecutive failure.
    Failed,
}

impl Later {
    fn sooner(one: Option<Self>, other: Self) -> Self {
        match (one, other) {
            (Some(Later::At(a)), Later::At(b)) => Later::At(a.min(b)),
            (Some(Later::Failed), _) | (_, Later::Failed) => Later::Failed,
            (Some(Later::Unpaid(wait)), _) | (_, Later::Unpaid(wait)) => Later::Unpaid(wait),
            (None, other) => other,
        }
    }
}

/// Waits until this process holds no claim on any document.
async fn quiet_now(held: &mut watch::Receiver<usize>) {
    while held.changed().await.is_ok() {
        if *held.borrow_and_update() == 0 {
            return;
        }
    }
}

impl Submitter {
    /// Runs until the future is dropped.
    pub async fn run(&self) -> Result<(), StageError> {
        let context = &self.context;
        while let Err(error) = self.begin().await {
            if !error.class.is_temporary() {
                return Err(error);
            }
            tracing::warn!(%error, "batches could not be read; retrying");
            tokio::time::sleep(self.after(1)).await;
        }
        let mut held = context.batch_progress.claims.watch();
        let mut back_off: Option<Instant> = None;
        // Number of consecutive failures that caused a wait, and the time of the first one.
        let (mut failures, mut failing): (u32, Option<Instant>) = (0, None);
        loop {
            let began = Instant::now();
            let (asks, quiet) = (context.batch_progress.asks(), context.batch_progress.is_quiet());
            let mut stopped = false;
            let due = back_off.is_none_or(|until| until <= began);
            let mut items = true;
            if due {
                back_off = None;
                match self.round(&mut items, quiet).await {
                    Ok(Round::Sent) => failures = 0,
                    Ok(Round::Stopped) => stopped = true,
                    Ok(Round::Later(Later::At(wait))) => back_off = Some(Instant::now() + wait),
                    Ok(Round::Later(Later::Unpaid(wait))) => {
                        failures += 1;
                        back_off = Some(Instant::now() + wait);
                    }
                    Ok(Round::Later(Later::Failed)) => {
                        failures += 1;
                        back_off = Some(Instant::now() + self.after(failures));
                    }
                    Err(error) if error.class.is_temporary() => {
                        tracing::warn!(%error, "batches not sent; retrying");
                        failures += 1;
                        back_off = Some(Instant::now() + self.after(failures));
                    }
                    Err(error) => return Err(error),
                }
            }
            failing = if failures == 0 { None } else { failing.or(Some(began)) };
            let longest = Duration::from_secs(context.retry.outage_seconds);
            if failing.is_some_and(|since| since.elapsed() >= longest) {
                let text = "the provider has accepted no batch for longer than `retry.outage_seconds`; no work is lost";
                return Err(StageError::system("provider_failed", text));
            }
            let open = match context.open().await {
                Ok(open) => !open.is_empty(),
                // The open batches are read again in the next round.
                Err(error) if error.class.is_temporary() => true,
                Err(error) => return Err(error),
            };
            let left = Left { batches: open, items };
            context.batch_progress.sent(asks, quiet && back_off.is_none(), stopped, left);
            // Always pause, because a query over millions of items takes some time.
            tokio::time::sleep((began.elapsed() * 4).clamp(LEAST_PAUSE, LONGEST_PAUSE)).await;
            let poll = Duration::from_secs_f64(context.options.poll_seconds);
            let wait = back_off.map_or(poll, |until| poll.min(until.saturating_duration_since(Instant::now())));
            tokio::select! {
                () = context.batch_progress.submit.notified(), if back_off.is_none() => {}
                () = quiet_now(&mut held), if back_off.is_none() && !quiet => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Returns the wait after the given number of consecutive failures. The wait doubles with each failure.
    fn after(&self, failures: u32) -> Duration {
        let limits = &self.context.endpoint.limits;
        let backoff = Backoff::doubling_seconds(limits.backoff_initial_seconds, limits.backoff_max_seconds);
        backoff.limit(failures.saturating_sub(1))
    }

    /// Deletes the files that a dead process left behind, and resumes parked documents that need not wait any longer.
    async fn begin(&self) -> Result<(), StageError> {
        self.context.sweep().await?;
        self.context.wake_the_forgotten().await?;
        self.context.resume().await
    }

    /// Runs one round: sends the items that can be sent now. Sets `items` to whether any items waited at the start of
    /// the round. `quiet` is true if no more items are expected.
    async fn round(&self, items: &mut bool, quiet: bool) -> Result<Round, StageError> {
        let context = &self.context;
        let waiting = if context.packs { context.waiting().await? } else { Vec::new() };
        *items = !waiting.is_empty();
        let mut later: Option<Later> = None;
        for batch in context.open().await? {
            if let Step::Later(more) = self.hand_over(batch).await? {
                later = Some(Later::sooner(later, more));
            }
        }
        // Further batches would fail for the same reason.
        if let Some(later) = later {
            return Ok(Round::Later(later));
        }
        let mut stopped = false;
        for (space, waiting) in waiting {
            match self.way(waiting.tokens, quiet) {
                EmbedDecision::Batch => {}
                EmbedDecision::Wait => continue,
                EmbedDecision::Live => {
                    match &space {
                        Space::Records(collection) => context.batch_progress.go_live(collection),
                        Space::Texts(_) if context.batches.send_live(&space).await? > 0 => context.resume().await?,
                        Space::Texts(_) => {}
                    }
                    continue;
                }
            }
            let mut left = waiting.items;
            loop {
                let most = self.most_requests(&space);
                // Make only full batches while more items may arrive.
                if !quiet && left < most as u64 {
                    break;
                }
                match self.pack(&space, most).await? {
                    Packed::Nothing | Packed::Full => break,
                    Packed::Refused { period, spent, limit } => {
                        context.notifier.tell_budget_spent(refused(period, spent, limit).message);
                        stopped = true;
                        break;
                    }
                    Packed::Batch(batch, reservation) => {
                        left = left.saturating_sub(batch.items);
                        context.account.alerts.reached(&context.account.options, &reservation);
                        failpoint::reach("batch.packed", &batch.id);
                        if let Step::Later(later) = self.hand_over(*batch).await? {
                            return Ok(Round::Later(later));
                        }
                    }
                }
            }
        }
        Ok(if stopped { Round::Stopped } else { Round::Sent })
    }

    /// Decides how the waiting items are embedded. `tokens` is the total number of tokens in these items.
    fn way(&self, tokens: u64, quiet: bool) -> EmbedDecision {
        let (price, options) = (self.context.account.price, &self.context.options);
        let saving = tokens as f64 * (price.live - price.batch) / 1e6;
        match self.context.mode {
            EmbedMode::Live => EmbedDecision::Live,
            EmbedMode::Batch => EmbedDecision::Batch,
            // The total is known only when no more items are being enqueued.
            EmbedMode::Auto if !quiet => EmbedDecision::Wait,
            EmbedMode::Auto if saving < options.min_saving_usd => EmbedDecision::Live,
            EmbedMode::Auto => EmbedDecision::Batch,
        }
    }

    fn most_requests(&self, space: &Space) -> usize {
        let options = &self.context.options;
        match (space, options.record_items) {
            (Space::Records(_), items @ 1..) => items.min(options.max_requests),
            _ => options.max_requests,
        }
    }

    async fn pack(&self, space: &Space, most_requests: usize) -> Result<Packed, StageError> {
        let context = &self.context;
        let queued = context.batches.queued_tokens().await?;
        let (model, dimensions) = (context.endpoint.model.clone(), context.endpoint.asked_dimensions());
        let encoding = context.client.encoding();
        let account = &context.account;
        let spend = account.spend(Mode::Batch, "", 0, Default::default());
        let order = Order {
            id: format!("batch_{}", ulid::Ulid::from_parts((context.clock.now() / 1_000) as u64, fastrand::u128(..))),
            space: space.clone(),
            model: context.model.clone(),
            endpoint: context.endpoint.base_url.clone(),
            most_requests,
            most_bytes: context.options.max_file_bytes,
            most_tokens: context.options.max_enqueued_tokens.saturating_sub(queued),
            line_bytes: Arc::new(move |key, input| {
                RequestLines { model: &model, dimensions, encoding }.size(key, input)
            }),
            spend: Spend { collection: context.collection(space), ..spend },
            usd_per_million_tokens: account.price.batch,
            budget: account.options.budget(),
        };
        Ok(context.batches.pack(order).await?)
    }

    /// Continues the submission of a batch from its current step.
    async fn hand_over(&self, batch: Batch) -> Result<Step, StageError> {
        if batch.provider_id.is_some() {
            return Ok(Step::Done);
        }
        if let Some(asked_at) = batch.asked_at.as_deref() {
            return self.look_for(&batch, asked_at).await;
        }
        if batch.cancel {
            return self.give_up(&batch, BatchStatus::Cancelled, None).await;
        }
        let file = match batch.input_file_id.clone() {
            Some(file) => file,
            None => match self.upload(&batch).await? {
                Ok(file) => file,
                Err(step) => return Ok(step),
            },
        };
        self.create(&batch, &file).await
    }

    async fn upload(&self, batch: &Batch) -> Result<Result<String, Step>, StageError> {
        let context = &self.context;
        let key = BatchContext::input_key(&batch.id);
        self.write(batch, &key).await?;
        failpoint::reach("batch.written", &batch.id);
        let storage = |text: String| StageError::system("batch_file", text);
        let copy = context.folder.join(format!("{}.input.jsonl", batch.id));
        let path = match context.objects.local_path(&key) {
            Some(path) => path,
            None => {
                let file = std::fs::File::create(&copy).map_err(|e| storage(format!("{}: {e}", copy.display())))?;
                context.objects.read_into(&key, file).await.map_err(|e| storage(e.to_string()))?;
                copy.clone()
            }
        };
        let name = format!("{}.jsonl", batch.id);
        let uploaded = context.client.upload(&path, &name, &context.options.transfer).await;
        if path == copy {
            let _ = std::fs::remove_file(&copy);
        }
        let file = match uploaded {
            Ok(file) => file,
            Err(TransferError::Call(error)) => return self.failed(batch, "upload", error).await.map(Err),
            Err(error @ TransferError::Local { .. }) => return Err(storage(error.to_string())),
        };
        failpoint::reach("batch.sent", &batch.id);
        context.batches.uploaded(&batch.id, &file).await?;
        failpoint::reach("batch.uploaded", &batch.id);
        Ok(Ok(file))
    }

    /// Writes a batch's requests to a file, in the order in which they are sent. A request is left out if its item
    /// has changed since the batch was packed.
    async fn write(&self, batch: &Batch, key: &str) -> Result<(), StageError> {
        let context = &self.context;
        let storage = |e: ObjectError| StageError::system("batch_file", e.to_string());
        let mut upload = context.objects.create(key).await.map_err(storage)?;
        let mut after = 0;
        loop {
            let requests = context.batches.requests(&batch.id, after, PAGE).await?;
            let Some(last) = requests.last().map(|r| r.at) else { break };
            after = last;
            let (model, dimensions) = (context.endpoint.model.clone(), context.endpoint.asked_dimensions());
            let encoding = context.client.encoding();
            let written = tokio::task::spawn_blocking(move || {
                let lines = RequestLines { model: &model, dimensions, encoding };
                let mut to = BufWriter::with_capacity(1 << 20, &mut upload);
                for request in &requests {
                    lines.write(&request.key, &request.input, &mut to)?;
                }
                to.flush()?;
                drop(to);
                Ok::<_, std::io::Error>(upload)
            });
            let written = written.await.map_err(|e| StageError::system("batch_file", e.to_string()))?;
            upload = written.map_err(|e| storage(docweir_objects::write_failure(key, &e)))?;
        }
        upload.finish().await.map_err(storage)
    }

    async fn create(&self, batch: &Batch, file: &str) -> Result<Step, StageError> {
        let context = &self.context;
        context.batches.asked(&batch.id).await?;
        failpoint::reach("batch.asked", &batch.id);
        // The provider cannot check the lease, and a new leader waits only for the maximum duration of one call. No
        // call may therefore start so late that it could end after the lease.
        if !context.has_time_for_a_call() {
            context.batches.not_taken(&batch.id).await?;
            return Ok(Step::Later(Later::Failed));
        }
        let metadata = BTreeMap::from([(TAG.to_owned(), batch.id.clone())]);
        match context.client.create_batch(file, &metadata).await {
            Ok(object) => {
                failpoint::reach("batch.created", &batch.id);
                self.taken(batch, &object).await
            }
            // A refused call had no effect. After any other error, the provider may have created the batch.
            Err(
                error @ (CallError::Throttled { .. }
                | CallError::QuotaSpent
                | CallError::Unkeyed(_)
                | CallError::Untrusted(_)
                | CallError::Forbidden(_)
                | CallError::Missing(_)
                | CallError::Unknown(_)
                | CallError::Refused(_)
                | CallError::TooLarge(_)
                | CallError::Encoding(_)),
            ) => {
                context.batches.not_taken(&batch.id).await?;
                self.failed(batch, "create", error).await
            }
            Err(error) => {
                tracing::warn!(batch = batch.id, %error, "creation of a batch not confirmed; searching for it");
                Ok(Step::Later(Later::At(context.confirm_time())))
            }
        }
    }

    async fn taken(&self, batch: &Batch, object: &BatchObject) -> Result<Step, StageError> {
        let context = &self.context;
        if let Err(error) = context.batches.taken_over(&batch.id, &object.id).await {
            if matches!(error, PaidError::Fenced(_)) {
                self.disown(batch, object).await?;
            }
            return Err(error.into());
        }
        failpoint::reach("batch.taken", &batch.id);
        context.events.emit(Event::BatchSubmitted {
            batch: batch.id.clone(),
            space: batch.space.shown().to_owned(),
            items: batch.items,
            tokens: batch.tokens,
        });
        context.batch_progress.poll.notify_one();
        Ok(Step::Done)
    }

    /// Handles a batch that this process created after another process had become the leader. The new leader finds
    /// the batch by Docweir's id. If the new leader has created the batch too, this duplicate is cancelled.
    async fn disown(&self, batch: &Batch, object: &BatchObject) -> Result<(), StageError> {
        let now = self.context.batches.batch(&batch.id).await?;
        let theirs = now.and_then(|now| now.provider_id).filter(|theirs| *theirs != object.id);
        if theirs.is_some() {
            self.context.cancel_twins(batch, std::slice::from_ref(object)).await;
        }
        Ok(())
    }

    /// Searches the provider's list for a batch whose creation the provider did not confirm.
    async fn look_for(&self, batch: &Batch, asked_at: &str) -> Result<Step, StageError> {
        let context = &self.context;
        let asked = parse_timestamp(asked_at).unwrap_or_default();
        match context.find(batch, asked).await {
            Ok(Some(object)) => {
                tracing::info!(batch = batch.id, provider = object.id, "batch found in the provider's list");
                self.taken(batch, &object).await
            }
            Ok(None) => {
                let since = Duration::from_micros(u64::try_from(context.clock.now() - asked).unwrap_or_default());
                match context.confirm_time().checked_sub(since) {
                    Some(left) if !left.is_zero() => Ok(Step::Later(Later::At(left))),
                    _ => {
                        context.batches.unconfirmed(&batch.id).await?;
                        Ok(Step::Later(Later::At(Duration::ZERO)))
                    }
                }
            }
            Err(error) => self.failed(batch, "find", error).await,
        }
    }

    /// Handles the error of a call that certainly did not create a batch. Returns the time at which the submission
    /// continues. Returns an error instead if the endpoint cannot be used.
    async fn failed(&self, batch: &Batch, what: &str, error: CallError) -> Result<Step, StageError> {
        let (context, limits) = (&self.context, &self.context.endpoint.limits);
        let pause = Duration::from_secs_f64(limits.quota_pause_seconds);
        match error {
            CallError::Throttled { after: Some(after), .. } => {
                let longest = Duration::from_secs_f64(limits.backoff_max_seconds);
                Ok(Step::Later(Later::At(after.min(longest))))
            }
            CallError::Throttled { after: None, .. } => Ok(Step::Later(Later::Failed)),
            CallError::QuotaSpent => {
                let text = "the provider's account has no credit left; add credit or raise its limit, and work resumes";
                context.notifier.tell_once(text.into());
                Ok(Step::Later(Later::Unpaid(pause)))
            }
            CallError::Forbidden(what) => Err(forbidden(context, &what)),
            CallError::Unkeyed(why) => Err(unkeyed(&why)),
            CallError::Untrusted(what) => Err(untrusted(what)),
            // The provider may no longer have the file. If the batch is also refused with a new file, the batch
            // itself is the reason.
            CallError::Refused(_) | CallError::Missing(_) if what == "create" && batch.input_file_id.is_some() => {
                context.batches.file_lost(&batch.id).await?;
                Ok(Step::Later(Later::At(Duration::ZERO)))
            }
            CallError::Missing(what) | CallError::Unknown(what) => {
                let text =
                    format!("{} has no Batch API ({what}); set `embed.mode` to `live`", context.endpoint.base_url);
                Err(StageError::system("provider_path", text))
            }
            // The provider may refuse every other batch for the same reason, so this does not count as an attempt of
            // the items.
            CallError::Refused(why) | CallError::TooLarge(why) | CallError::Encoding(why) => {
                let error = format!("the provider refused the batch: {why}");
                context
                    .notifier
                    .tell_once(format!("the provider refused a batch ({why}); its items are sent again later"));
                self.give_up(batch, BatchStatus::Failed, Some(error)).await?;
                Ok(Step::Later(Later::Failed))
            }
            CallError::Failed(why) | CallError::Lost(why) | CallError::Garbled(why) => {
                tracing::warn!(batch = batch.id, why, "call `{what}` for the batch failed; retrying");
                Ok(Step::Later(Later::Failed))
            }
        }
    }

    /// Ends a batch that the provider never received. If the provider did not confirm an earlier creation, the batch may
    /// have appeared at the provider meanwhile.
    async fn give_up(&self, batch: &Batch, status: BatchStatus, error: Option<String>) -> Result<Step, StageError> {
        let context = &self.context;
        context.cancel_late_twins(batch).await?;
        context.batches.end(&batch.id, context.ending(status, Some(0), true, error)).await?;
        context.ended(&batch.id).await?;
        Ok(Step::Done)
    }
}

enum EmbedDecision {
    Live,
    Batch,
    Wait,
}

enum Round {
    Sent,
    /// Nothing more can be sent, because the budget is spent.
    Stopped,
    Later(Later),
}
