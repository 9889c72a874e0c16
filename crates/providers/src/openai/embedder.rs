//! Embeds texts through calls to an endpoint.
//!
//! Texts are packed into requests within the limits on texts and tokens. The model's own tokenizer counts the tokens.
//! Each request waits for admission, and money is reserved before the request is sent. A request that is refused
//! because of its content is split in halves until the refused text is alone. The vectors of the other texts are still
//! returned. A throttled request waits and is sent again. If the wait is too long, the document returns to the pool
//! without using up an attempt. The pool retries all other failures. An outage of the endpoint, and answers that cannot be
//! read, use up no attempt either.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use docweir_admission::{Admission, Ask, CallOutcome, Refused, Shut, Turn};
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::{Metric, ModelIdentity};
use docweir_core::money::Nanodollars;
use docweir_stages::embed::{Call, EmbedBatch, Embedder, packed};
use tokio::time::Instant;

use super::answer::Vectors;
use super::blame::Blame;
use super::call_error::CallError;
use super::client::{Answered, Client};
use super::options::{OpenAiOptions, OverLong};
use super::tokens;
use crate::account::{Account, HeldReservation};
use crate::prices::Price;

/// Minimum length of a vector. A shorter vector has no usable direction.
const SHORTEST: f32 = 1e-6;

/// Short text that every model accepts.
const PROBE: &str = "word";

pub struct OpenAiEmbedder {
    client: Client,
    admission: Arc<Admission>,
    options: OpenAiOptions,
    identity: ModelIdentity,
    /// Fair-queue key of calls that name no collection. Such calls embed documents, so the key is the name of the
    /// documents' collection.
    lane: Arc<str>,
    /// Account that pays; `None` for a preview, whose calls are not recorded in a ledger.
    account: Option<Account>,
    price: Price,
    /// True after the endpoint has accepted a request. A later refusal is then caused by the content of the refused
    /// request, and not by the configuration.
    accepted: AtomicBool,
    /// Maximum number of texts that the endpoint accepts in one request, as far as it is known.
    most_texts: AtomicUsize,
    blame: Blame,
    /// Description of the last answer that could not be read.
    unreadable: Mutex<String>,
}

impl OpenAiEmbedder {
    pub fn new(
        client: Client,
        admission: Arc<Admission>,
        options: OpenAiOptions,
        lane: &str,
        account: Option<Account>,
        price: Price,
    ) -> Self {
        let identity = identity(&options);
        Self {
            client,
            admission,
            identity,
            lane: lane.into(),
            account,
            price,
            accepted: AtomicBool::new(false),
            most_texts: AtomicUsize::new(options.max_inputs),
            blame: Blame::default(),
            unreadable: Mutex::default(),
            options,
        }
    }

    /// Sends one request. A throttled request is sent again until the maximum wait has passed.
    async fn request(&self, texts: &[&str], tokens: u64, call: Call<'_>) -> Result<Made, Failure> {
        let began = Instant::now();
        let max_wait = Duration::from_secs_f64(self.options.limits.max_wait_seconds);
        let mut turn: Option<Turn> = None;
        loop {
            let lane: Arc<str> = call.collection.map_or_else(|| self.lane.clone(), Arc::from);
            let ask = Ask { weight: self.options.limits.weight(&lane), lane, tokens, turn };
            let entered = self.admission.enter(ask, call.cancel).await;
            let permit = entered.map_err(|refused| Failure::Stage(self.shut(refused)))?;
            turn = Some(permit.turn());
            let held = match &self.account {
                Some(account) => {
                    Some(account.reserve(call.subject, call.collection, tokens).await.map_err(Failure::Stage)?)
                }
                None => None,
            };
            let embedding = self.client.embeddings(&self.options.model, self.options.asked_dimensions(), texts);
            let answer = tokio::select! {
                answer = embedding => answer,
                error = call.cancel.cancelled() => {
                    release_or_doubt(held, true).await;
                    return Err(Failure::Stage(error));
                }
            };
            match answer {
                Ok(Answered { value: Vectors { vectors, tokens: charged }, observed }) => {
                    permit.end(&CallOutcome::Answered(observed));
                    self.accepted.store(true, Ordering::Relaxed);
                    // Servers that report no usage charge nothing, or the tokens that we count.
                    let tokens = charged.unwrap_or(tokens);
                    let cost = match held {
                        Some(held) => held.settle(tokens).await,
                        None => Nanodollars::of_tokens(tokens, self.price.live),
                    };
                    return Ok(Made { vectors, tokens, cost });
                }
                Err(error) => {
                    permit.end(&outcome(&error));
                    release_or_doubt(held, error.may_be_charged()).await;
                    match error {
                        // The request exceeds the budget of a whole minute, so it would always be throttled.
                        CallError::Throttled { observed, .. }
                            if observed.and_then(|o| o.token_limit).is_some_and(|limit| tokens as f64 > limit) =>
                        {
                            return Err(Failure::Refused("the text has more tokens than the limit per minute".into()));
                        }
                        CallError::Throttled { .. } if began.elapsed() < max_wait => {}
                        CallError::Refused(what) | CallError::Encoding(what) => return Err(Failure::Refused(what)),
                        CallError::TooLarge(what) => return Err(Failure::TooLarge(what)),
                        CallError::Failed(_) | CallError::Lost(_) | CallError::Garbled(_) => {
                            return Err(Failure::Failed(self.told(error)));
                        }
                        error => return Err(Failure::Stage(self.told(error))),
                    }
                }
            }
        }
    }

    /// Checks that the endpoint does not refuse every request. Called after a refusal. If no request was accepted
    /// before, a probe is sent. Fails if the endpoint refuses the probe too.
    async fn takes_anything(&self, call: Call<'_>) -> Result<Made, StageError> {
        if self.accepted.load(Ordering::Relaxed) { Ok(Made::default()) } else { self.probe(call).await }
    }

    /// Sends a request with a text that every model accepts.
    async fn probe(&self, call: Call<'_>) -> Result<Made, StageError> {
        match self.request(&[PROBE], tokens::count(PROBE) as u64, call).await {
            Ok(made) => Ok(made),
            Err(Failure::Refused(what) | Failure::TooLarge(what)) => Err(self.told(CallError::Refused(what))),
            Err(Failure::Failed(error) | Failure::Stage(error)) => Err(error),
        }
    }

    fn told(&self, error: CallError) -> StageError {
        let (name, options) = (self.admission.name(), &self.options);
        match error {
            CallError::Throttled { after, .. } => StageError::throttled(format!("{name} throttles requests"), after),
            CallError::QuotaSpent => {
                let wait = Duration::from_secs_f64(options.limits.quota_pause_seconds);
                Refused::Shut(Shut::QuotaSpent, wait).into_error(name)
            }
            CallError::Forbidden(status) => StageError::system(
                "provider_key",
                format!("{name} answered {status}: check the key in {} and its permissions", options.key_place()),
            ),
            CallError::Untrusted(what) => StageError::system("provider_certificate", what),
            CallError::Unkeyed(why) => {
                StageError::system("provider_key", format!("no usable API key for {name}: {why}"))
            }
            CallError::Missing(what) | CallError::Unknown(what) => StageError::system(
                "provider_path",
                format!(
                    "there is no model `{}` at {} ({what}): correct `embed.options.openai`",
                    options.model, options.base_url
                ),
            ),
            CallError::Refused(what) | CallError::TooLarge(what) | CallError::Encoding(what) => StageError::system(
                "provider_refused",
                format!("{name} refuses every request ({what}): check `embed.options.openai`"),
            ),
            CallError::Failed(what) | CallError::Lost(what) => {
                StageError::unavailable("provider_failed", format!("{name} failed: {what}"))
            }
            CallError::Garbled(what) => {
                self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&what);
                let text = format!("{name} sent an answer that cannot be read: {what}");
                self.admission.shut().map_or(StageError::unavailable("provider_garbled", text), |shut| self.shut(shut))
            }
        }
    }

    /// Returns the error of a call that was not admitted. If the endpoint sends answers that cannot be read, the error
    /// quotes the last one, and ends the run unless the process waits.
    fn shut(&self, refused: Refused) -> StageError {
        let unreadable = matches!(refused, Refused::Shut(Shut::Unreadable, _));
        let error = refused.into_error(self.admission.name());
        if !unreadable {
            return error;
        }
        let last = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let message = format!("{}: {last}; check `embed.options.openai.base_url`", error.message);
        let class = if self.options.waits_if_unreadable { error.class } else { ErrorClass::System };
        StageError { class, message, ..error }
    }

    /// Records that a request with this number of texts was too large. Later requests have at most half as many texts.
    fn learn(&self, texts: usize, what: &str) {
        let most = (texts / 2).max(1);
        if self.most_texts.fetch_min(most, Ordering::Relaxed) > most {
            tracing::info!(texts, most, what, "endpoint refused a request as too large; sending fewer texts at once");
        }
    }

    /// Scales the vector to unit length. Fails if the dimension is wrong or the vector has no valid length.
    fn unit(&self, mut vector: Vec<f32>) -> Result<Vec<f32>, StageError> {
        let (name, wanted) = (self.admission.name(), self.identity.dimension as usize);
        if vector.len() != wanted && !vector.is_empty() {
            let text = format!(
                "{name} returns vectors of {} numbers, not {wanted}: correct `embed.options.openai.dimensions`",
                vector.len()
            );
            return Err(StageError::system("wrong_dimension", text));
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !length.is_finite() || length < SHORTEST {
            return Err(StageError::transient(
                "bad_vector",
                format!("{name} sent no valid vector for a text (its length is {})", length.abs()),
            ));
        }
        vector.iter_mut().for_each(|x| *x /= length);
        Ok(vector)
    }
}

/// Returns the identity of the vectors: the model and its dimensions. The version of the weights is always `served`,
/// because an endpoint does not report a version.
pub fn identity(options: &OpenAiOptions) -> ModelIdentity {
    let dimension = options.dimension().unwrap_or_default();
    ModelIdentity { id: options.model.clone(), weights: "served".into(), dimension, metric: Metric::Cosine }
}

/// Holds the result of one request.
#[derive(Default)]
struct Made {
    vectors: Vec<Vec<f32>>,
    tokens: u64,
    cost: Nanodollars,
}

/// Returns the halves of a request, the first one last, so that it is on top of the stack.
fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [middle..range.end, range.start..middle]
}

fn refused(name: &str, what: &str) -> StageError {
    StageError::permanent("provider_refused", format!("{name} refused a text ({what})"))
}

async fn release_or_doubt(held: Option<HeldReservation<'_>>, may_be_charged: bool) {
    match held {
        Some(held) if may_be_charged => held.doubt().await,
        Some(held) => held.release().await,
        None => {}
    }
}

enum Failure {
    /// The request was refused. The cause is either a single text of the request, or the request as a whole.
    Refused(String),
    /// The request has too many texts.
    TooLarge(String),
    /// There was no answer, the answer could not be read, or the endpoint reported a failure.
    Failed(StageError),
    Stage(StageError),
}

fn outcome(error: &CallError) -> CallOutcome {
    match error {
        CallError::Throttled { after, observed } => CallOutcome::Throttled(*after, *observed),
        CallError::QuotaSpent => CallOutcome::QuotaSpent,
        CallError::Failed(_) | CallError::Lost(_) => CallOutcome::Failed,
        CallError::Garbled(_) => CallOutcome::Unreadable,
        CallError::Unkeyed(_)
        | CallError::Untrusted(_)
        | CallError::Forbidden(_)
        | CallError::Missing(_)
        | CallError::Unknown(_)
        | CallError::Refused(_)
        | CallError::TooLarge(_)
        | CallError::Encoding(_) => CallOutcome::Answered(None),
    }
}

#[async_trait]
impl Embedder for OpenAiEmbedder {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    fn window(&self) -> usize {
        self.options.max_input_tokens
    }

    fn count_tokens(&self, text: &str) -> usize {
        tokens::count(text)
    }

    fn most(&self) -> (usize, u64) {
        let a_minute = self.admission.tokens_per_minute().unwrap_or(u64::MAX).max(1);
        (self.most_texts.load(Ordering::Relaxed), self.options.max_request_tokens.min(a_minute))
    }

    fn splits_long_texts(&self) -> bool {
        self.options.over_long == OverLong::Split
    }

    fn at_a_time(&self) -> Option<usize> {
        Some(self.options.limits.concurrency)
    }

    fn admission(&self) -> Option<Arc<Admission>> {
        Some(self.admission.clone())
    }

    async fn embed(&self, texts: Vec<String>, call: Call<'_>) -> Result<EmbedBatch, StageError> {
        let counts: Vec<u64> = texts.iter().map(|text| self.count_tokens(text) as u64).collect();
        let mut vectors: Vec<Option<Result<Vec<f32>, StageError>>> = vec![None; texts.len()];
        let (mut tokens, mut cost, mut ended, mut is_to_blame) = (0, Nanodollars::ZERO, None, false);
        // The next request is on top of the stack.
        let mut requests = packed(&counts, self.most());
        requests.reverse();
        while let Some(range) = requests.pop() {
            let asked: u64 = counts.get(range.clone()).unwrap_or_default().iter().sum();
            let part: Vec<&str> = texts.get(range.clone()).unwrap_or_default().iter().map(String::as_str).collect();
            let first = part.first().unwrap_or(&PROBE);
            let suspicious = is_to_blame || self.blame.is_suspicious(first);
            if suspicious {
                match self.probe(call).await {
                    Ok(probe) => {
                        tokens += probe.tokens;
                        cost += probe.cost;
                    }
                    Err(error) => {
                        ended = Some(error);
                        break;
                    }
                }
            }
            match self.request(&part, asked, call).await {
                Ok(made) => {
                    self.blame.answered(first);
                    tokens += made.tokens;
                    cost += made.cost;
                    for (place, vector) in vectors.iter_mut().skip(range.start).zip(made.vectors) {
                        *place = Some(self.unit(vector));
                    }
                }
                Err(Failure::Stage(error)) => {
                    ended = Some(error);
                    break;
                }
                Err(Failure::Failed(outage)) => {
                    self.blame.failed(first);
                    if !suspicious {
                        ended = Some(outage);
                        break;
                    }
                    // The endpoint has just answered another request.
                    if range.len() > 1 {
                        is_to_blame = true;
                        requests.extend(halves(range));
                        continue;
                    }
                    self.blame.accuse(first);
                    if let Some(place) = vectors.get_mut(range.start) {
                        *place = Some(Err(StageError { class: ErrorClass::Transient, ..outage }));
                    }
                }
                Err(Failure::Refused(what) | Failure::TooLarge(what)) if range.len() == 1 => {
                    match self.takes_anything(call).await {
                        Ok(probe) => {
                            tokens += probe.tokens;
                            cost += probe.cost;
                            if let Some(place) = vectors.get_mut(range.start) {
                                *place = Some(Err(refused(self.admission.name(), &what)));
                            }
                        }
                        Err(error) => {
                            ended = Some(error);
                            break;
                        }
                    }
                }
                Err(failure) => {
                    if let Failure::TooLarge(what) = failure {
                        self.learn(range.len(), &what);
                    }
                    requests.extend(halves(range));
                }
            }
        }
        match ended {
            Some(error) if vectors.iter().all(Option::is_none) => Err(error),
            ended => {
                let unmade =
                    ended.unwrap_or_else(|| self.told(CallError::Garbled("an answer without a vector".into())));
                let vectors = vectors.into_iter().map(|made| made.unwrap_or_else(|| Err(unmade.clone()))).collect();
                Ok(EmbedBatch { vectors, tokens, cost_usd: cost.usd() })
            }
        }
    }
}

#[cfg(test)]
#[path = "embedder_tests.rs"]
mod tests;
