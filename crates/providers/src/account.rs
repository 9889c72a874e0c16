//! Pays for calls: reserves money within the budget before a call, and settles the reservation afterwards.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use docweir_core::error::StageError;
use docweir_core::money::Nanodollars;
use docweir_core::ranges::out_of_range;
use docweir_stores::ledger::{Budget, EntryId, Ledger, Mode, Period, Reservation, ReservationOutcome, Spend};
use docweir_stores::paid::PaidError;
use serde::{Deserialize, Serialize};

use crate::prices::Price;

/// Code of the error that is returned when a budget is used up. The error is not a failure but a reason to wait.
pub const BUDGET_SPENT: &str = "budget_spent";

/// Limits the money that is spent at providers. Work that would exceed a limit waits and is not lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetOptions {
    /// Maximum US dollars that one run may spend; 0 means no limit.
    pub run_usd: f64,
    /// Maximum US dollars that all runs together may spend on one day (UTC); 0 means no limit.
    pub day_usd: f64,
    /// Percentages of a budget at which an alert is reported.
    pub alert_percents: Vec<u32>,
    /// Number of days for which single ledger entries are kept. The sums of deleted entries are kept permanently.
    pub entry_days: u32,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self { run_usd: 0.0, day_usd: 0.0, alert_percents: vec![50, 80, 95, 100], entry_days: 180 }
    }
}

impl BudgetOptions {
    /// Returns each invalid field, with the reason.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for (field, usd) in [("run_usd", self.run_usd), ("day_usd", self.day_usd)] {
            found.extend(out_of_range(field, usd, 0.0, 1e9));
        }
        if self.alert_percents.len() > 100 || self.alert_percents.iter().any(|p| !(1..=100).contains(p)) {
            found.push(("alert_percents", "must be at most 100 numbers, each from 1 to 100".into()));
        }
        found.extend(out_of_range("entry_days", self.entry_days, 1, 36_500));
        found
    }

    pub fn budget(&self) -> Budget {
        let limit = |usd: f64| (usd > 0.0).then(|| Nanodollars::of_usd(usd));
        Budget { run: limit(self.run_usd), day: limit(self.day_usd) }
    }
}

/// Callback that reports a message to the user.
pub type ReportFn = Arc<dyn Fn(String) + Send + Sync>;

/// Pays for the calls of one model: reserves money in the ledger and settles the reservations.
pub struct Account {
    pub ledger: Arc<dyn Ledger>,
    pub run: String,
    pub stage: &'static str,
    pub model: String,
    pub collection: String,
    pub price: Price,
    pub options: BudgetOptions,
    pub alerts: Arc<Alerts>,
}

/// Holds the reservation for one call. If this value is dropped without being settled, the reservation stays open,
/// and the next run marks the reservation as in doubt.
pub struct HeldReservation<'a> {
    account: &'a Account,
    id: EntryId,
}

impl Account {
    /// Reserves money for a live call of `tokens` tokens.
    ///
    /// # Errors
    /// Fails with code [`BUDGET_SPENT`] if the call would exceed the budget, and with an error of class system if the
    /// ledger fails.
    pub async fn reserve(
        &self,
        subject: &str,
        collection: Option<&str>,
        tokens: u64,
    ) -> Result<HeldReservation<'_>, StageError> {
        let mut spend = self.spend(Mode::Live, subject, tokens, self.cost(tokens));
        if let Some(collection) = collection {
            collection.clone_into(&mut spend.collection);
        }
        match self.ledger.reserve(spend, self.options.budget()).await? {
            ReservationOutcome::Given(reservation) => {
                self.alerts.reached(&self.options, &reservation);
                Ok(HeldReservation { account: self, id: reservation.id })
            }
            ReservationOutcome::Refused { period, spent, limit } => Err(refused(period, spent, limit)),
        }
    }

    pub fn spend(&self, mode: Mode, subject: &str, tokens: u64, cost: Nanodollars) -> Spend {
        Spend {
            run: self.run.clone(),
            mode,
            stage: self.stage.to_owned(),
            model: self.model.clone(),
            collection: self.collection.clone(),
            subject: subject.to_owned(),
            tokens,
            cost,
        }
    }

    /// Returns the cost of a live call.
    pub fn cost(&self, tokens: u64) -> Nanodollars {
        Nanodollars::of_tokens(tokens, self.price.live)
    }
}

impl HeldReservation<'_> {
    /// Settles the reservation for a call that was charged for `tokens` tokens, and returns the cost of these tokens.
    /// If the ledger cannot be written, the reservation stays open and is not lost.
    pub async fn settle(self, tokens: u64) -> Nanodollars {
        let cost = self.account.cost(tokens);
        logged(self.account.ledger.settle(&self.id, tokens, cost).await);
        cost
    }

    /// Releases the reservation of a call that was not charged.
    pub async fn release(self) {
        logged(self.account.ledger.release(&self.id).await);
    }

    /// Marks the reservation as in doubt, because the call may have been charged.
    pub async fn doubt(self) {
        logged(self.account.ledger.doubt(&self.id).await);
    }
}

fn logged(written: Result<(), PaidError>) {
    if let Err(error) = written {
        tracing::error!(%error, "call outcome not written to the ledger; the reservation stays open");
    }
}

pub fn refused(period: Period, spent: Nanodollars, limit: Nanodollars) -> StageError {
    let (whose, key) = match period {
        Period::Run => ("this run", "budget.run_usd"),
        Period::Day => ("today", "budget.day_usd"),
    };
    let text = format!(
        "the budget for {whose} is used up ({spent} of {limit}): raise `{key}` or wait, then run again; no work is lost"
    );
    StageError::throttled(text, None).with_code(BUDGET_SPENT)
}

/// Reports when spending reaches a configured percentage of a budget. Each percentage of a budget is reported at most
/// once. Reserved money counts as spent.
pub struct Alerts {
    tell: ReportFn,
    told: Mutex<HashSet<(&'static str, u32)>>,
}

impl Alerts {
    pub fn new(tell: ReportFn) -> Arc<Self> {
        Arc::new(Self { tell, told: Mutex::default() })
    }

    pub fn reached(&self, options: &BudgetOptions, reservation: &Reservation) {
        let budget = options.budget();
        for (whose, spent, limit) in [("this run", reservation.run, budget.run), ("today", reservation.day, budget.day)]
        {
            let Some(limit) = limit else { continue };
            let Some(percent) = reached(&options.alert_percents, spent, limit) else { continue };
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.iter().any(|(w, p)| *w == whose && *p >= percent) {
                continue;
            }
            told.insert((whose, percent));
            (self.tell)(format!("{percent} % of the budget for {whose} is spent or reserved: {spent} of {limit}"));
        }
    }
}

/// Returns the highest value in `percents` that `spent` has reached, as a percentage of `limit`. Returns `None` if
/// `spent` has reached no value.
fn reached(percents: &[u32], spent: Nanodollars, limit: Nanodollars) -> Option<u32> {
    let share = |percent: u32| u128::from(limit.0) * u128::from(percent) / 100;
    percents.iter().copied().filter(|percent| u128::from(spent.0) >= share(*percent)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_share_is_told_once() {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = told.clone();
        let alerts = Alerts::new(Arc::new(move |text| sink.lock().unwrap().push(text)));
        let options = BudgetOptions { run_usd: 1e-6, day_usd: 1e-5, ..BudgetOptions::default() };
        for spent in [100, 499, 500, 510, 790, 960, 1_000, 1_000] {
            let spent = Nanodollars(spent);
            alerts.reached(&options, &Reservation { id: EntryId::new("1"), run: spent, day: spent });
        }
        let percents: Vec<String> = told.lock().unwrap().iter().map(|t| t[..t.find('%').unwrap()].into()).collect();
        assert_eq!(percents, ["50 ", "95 ", "100 "], "80 was passed on the way to 95");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |options: BudgetOptions| options.problems().into_iter().map(|(f, _)| f).collect::<Vec<_>>();
        assert_eq!(of(BudgetOptions::default()), Vec::<&str>::new());
        assert_eq!(
            of(BudgetOptions { run_usd: -1.0, day_usd: f64::NAN, ..Default::default() }),
            ["run_usd", "day_usd"]
        );
        assert_eq!(of(BudgetOptions { alert_percents: vec![0], entry_days: 0, ..Default::default() }).len(), 2);
    }
}
