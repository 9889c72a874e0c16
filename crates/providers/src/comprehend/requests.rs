//! One request: its turn, its money, and how it ended.

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

/// Documents come in their order: none is more to anybody than another.
const LANE: &str = "documents";

/// Where requests of one API go out, and who pays. Quotas are of each API by itself.
pub struct MeteredApi {
    pub api: Api,
    pub admission: Arc<Admission>,
    /// `None` for a look that is in nobody's ledger.
    pub account: Option<Account>,
    pub max_wait: Duration,
    /// Of a unit, for what has no account.
    pub price: f64,
}

/// What a request that was answered costs. Dropped without a word its money stays set aside, and the next run calls it in
/// doubt.
pub struct Bill<'d> {
    units: u64,
    held: Option<HeldReservation<'d>>,
    price: Price,
}

impl Bill<'_> {
    /// To be called when the answers are kept. Texts that failed are not charged.
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

/// Why a request came to nothing.
#[derive(Debug)]
pub enum Unanswered {
    /// Refused for what it holds: the service's word.
    Refused(String),
    Stage(StageError),
}

/// One metered_api for each API. Those that are in no account are paid all the same, and stand in no ledger.
pub fn metered_apis(
    options: &ComprehendOptions,
    usd_per_unit: f64,
    mut accounts: Vec<(Api, Account)>,
) -> Vec<MeteredApi> {
    let limits = AdmissionOptions {
        requests_per_minute: (options.requests_per_second * 60.0).ceil() as u64,
        tokens_per_minute: 0,
        concurrency: options.concurrency,
        // A second's worth: quotas are counted by the second.
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
    /// For as long as it is only throttled and the wait is short.
    pub async fn request(
        &self,
        remote: &dyn Remote,
        language: &str,
        texts: &[&str],
        call: Call<'_>,
    ) -> Result<(Items, Bill<'_>), Unanswered> {
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
                    return Ok((items, Bill { units, held, price }));
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
            CallError::Throttled => StageError::throttled(format!("{name} asks for less"), None),
            CallError::Misconfigured(what) => StageError::system(
                "comprehend_refused",
                format!("{name} can't be asked ({what}): look at `aws`, `enrich.options.comprehend` and the policy"),
            ),
            CallError::Refused(what) => refused(name, &what),
            CallError::Unreachable(what) | CallError::Lost(what) | CallError::Failed(what) => {
                let error = StageError::transient("comprehend_failed", format!("{name} failed: {what}"));
                // A service that is down is held against no document.
                self.admission.shut().map_or(error, |shut| shut.into_error(name))
            }
        }
    }
}

/// A text that the service takes no exception to tell about.
pub fn refused(name: &str, what: &str) -> StageError {
    let text =
        format!("{name} refuses a text ({what}): leave the API out of `enrich.options.comprehend.apis`, or tell us");
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
        CallError::Misconfigured(_) | CallError::Refused(_) => CallOutcome::Answered(None),
    }
}
