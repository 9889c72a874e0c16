//! Sends a request to Comprehend: waits for admission, reserves the money, and records the outcome.

use std::sync::Arc;
use std::time::Duration;

use docweir_admission::{Admission, AdmissionOptions, Ask, CallOutcome, Turn};
use docweir_core::error::StageError;
use docweir_core::money::Nanodollars;
use docweir_stages::enrich::comprehend::{Api, ComprehendOptions};
use docweir_stages::enrich::{Call, Usage};
use tokio::time::Instant;

use super::{CallError, Items, Remote, units};
use crate::account::{Account, HeldReservation};
use crate::prices::Price;

/// Fair-queue key that all requests share. With only one key, the queue serves requests in the order of their
/// arrival, and all documents have equal priority.
const LANE: &str = "documents";

/// Admits and pays for the requests of one API. Each API has its own quota.
pub struct MeteredApi {
    pub api: Api,
    pub admission: Arc<Admission>,
    /// Account that pays; `None` for a preview, whose calls are not recorded in a ledger.
    pub account: Option<Account>,
    pub max_wait: Duration,
    /// Price of a unit in US dollars, used if there is no account.
    pub price: f64,
}

/// Holds the unsettled cost of an answered request until the answers are stored. If this value is dropped without being
/// settled, the reservation stays open. The next run then marks the reservation as in doubt.
pub struct PendingSettlement<'d> {
    units: u64,
    held: Option<HeldReservation<'d>>,
    price: Price,
}

impl PendingSettlement<'_> {
    /// Settles the cost. Call this after the answers are stored. Failed texts are not charged.
    pub async fn settle(self) -> Usage {
        let cost = match self.held {
            Some(held) if self.units == 0 => {
                held.release().await;
                Nanodollars::ZERO
            }
            Some(held) => held.settle(self.units).await,
            None => Nanodollars::of_tokens(self.units, self.price.live),
        };
        Usage { calls: 1, units: self.units, cost }
    }
}

/// Explains why a request was not answered.
#[derive(Debug)]
pub enum Unanswered {
    /// The request was refused because of its content. Holds the error code of the service.
    Refused(String),
    Stage(StageError),
}

/// Returns one [`MeteredApi`] for each API. Calls of an API are recorded in a ledger only if `accounts` has an account
/// for the API. The service charges for the calls in either case.
pub fn metered_apis(
    options: &ComprehendOptions,
    usd_per_unit: f64,
    mut accounts: Vec<(Api, Account)>,
) -> Vec<MeteredApi> {
    let limits = AdmissionOptions {
        requests_per_minute: (options.requests_per_second * 60.0).ceil() as u64,
        tokens_per_minute: 0,
        concurrency: options.concurrency,
        // One second's worth, because Comprehend counts its quotas per second.
        burst_seconds: 1.0,
        weights: Vec::new(),
        max_wait_seconds: options.max_wait_seconds,
        backoff_initial_seconds: options.backoff_initial_seconds,
        backoff_max_seconds: options.backoff_max_seconds,
        failures: options.failures,
        down_seconds: options.down_seconds,
        ..AdmissionOptions::default()
    };
    let mut account = |api: Api| {
        let at = accounts.iter().position(|(of, _)| *of == api)?;
        Some(accounts.swap_remove(at).1)
    };
    let metered_api = |api: Api| MeteredApi {
        api,
        admission: Admission::new(super::model(api), limits.clone(), fastrand::Rng::new()),
        account: account(api),
        max_wait: Duration::from_secs_f64(options.max_wait_seconds),
        price: usd_per_unit,
    };
    Api::ALL.into_iter().map(metered_api).collect()
}

impl MeteredApi {
    /// Sends a request. A throttled request is sent again until the maximum wait has passed.
    pub async fn request(
        &self,
        remote: &dyn Remote,
        language: &str,
        texts: &[&str],
        call: Call<'_>,
    ) -> Result<(Items, PendingSettlement<'_>), Unanswered> {
        let asked: u64 = texts.iter().map(|text| units(text)).sum();
        let (began, name) = (Instant::now(), self.admission.name());
        let lane: Arc<str> = Arc::from(LANE);
        let mut turn: Option<Turn> = None;
        loop {
            let ask = Ask { weight: 1, lane: lane.clone(), tokens: asked, turn };
            let entered = self.admission.enter(ask, call.cancel).await;
            let permit = entered.map_err(|refused| Unanswered::Stage(refused.into_error(name)))?;
            turn = Some(permit.turn());
            let held = match &self.account {
                Some(account) => Some(account.reserve(call.subject, None, asked).await.map_err(Unanswered::Stage)?),
                None => None,
            };
            let sent = texts.iter().map(|text| (*text).to_owned()).collect();
            let answer = tokio::select! {
                answer = remote.call(self.api, language, sent) => answer,
                error = call.cancel.cancelled() => {
                    release_or_doubt(held, true).await;
                    return Err(Unanswered::Stage(error));
                }
            };
            match answer {
                Ok(items) => {
                    permit.end(&CallOutcome::Answered(None));
                    let answered = texts.iter().zip(&items).filter(|(_, item)| item.is_ok());
                    let units: u64 = answered.map(|(text, _)| units(text)).sum();
                    let price = super::price(self.price);
                    return Ok((items, PendingSettlement { units, held, price }));
                }
                Err(error) => {
                    permit.end(&outcome(&error));
                    release_or_doubt(held, matches!(error, CallError::Lost(_))).await;
                    match error {
                        CallError::Throttled if began.elapsed() < self.max_wait => {}
                        CallError::Refused(what) => return Err(Unanswered::Refused(what)),
                        error => return Err(Unanswered::Stage(self.told(error))),
                    }
                }
            }
        }
    }

    fn told(&self, error: CallError) -> StageError {
        let name = self.admission.name();
        match error {
            CallError::Throttled => StageError::throttled(format!("{name} throttles requests"), None),
            CallError::Denied(what) => StageError::unavailable(
                "comprehend",
                format!("calls to {name} are denied ({what}): check the credentials and the IAM policy"),
            ),
            CallError::Misconfigured(what) => StageError::system(
                "comprehend_refused",
                format!("calls to {name} fail ({what}): check `aws`, `enrich.options.comprehend` and the IAM policy"),
            ),
            CallError::Refused(what) => refused(name, &what),
            // No text is the reason if there is no answer at all.
            CallError::Unreachable(what) | CallError::Lost(what) => {
                StageError::unavailable("comprehend", format!("{name} does not answer: {what}"))
            }
            CallError::Failed(what) => {
                let error = StageError::transient("comprehend_failed", format!("{name} failed: {what}"));
                // An outage of the service must not count against a document.
                self.admission.shut().map_or(error, |shut| shut.into_error(name))
            }
        }
    }
}

/// Returns the error for a text that the service refused with an unknown error code.
pub fn refused(name: &str, what: &str) -> StageError {
    let text = format!(
        "{name} refused a text ({what}): remove the API from `enrich.options.comprehend.apis`, or report a bug"
    );
    StageError::permanent("comprehend_refused", text)
}

async fn release_or_doubt(held: Option<HeldReservation<'_>>, may_be_charged: bool) {
    match held {
        Some(held) if may_be_charged => held.doubt().await,
        Some(held) => held.release().await,
        None => {}
    }
}

fn outcome(error: &CallError) -> CallOutcome {
    match error {
        CallError::Throttled => CallOutcome::Throttled(None, None),
        CallError::Unreachable(_) | CallError::Lost(_) | CallError::Failed(_) => CallOutcome::Failed,
        CallError::Denied(_) | CallError::Misconfigured(_) | CallError::Refused(_) => CallOutcome::Answered(None),
    }
}
