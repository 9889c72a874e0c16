//! The account that calls are paid from: money is set aside before a call, within the budget, and settled after it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use docweir_core::error::StageError;
use docweir_core::money::Nanodollars;
use docweir_stores::ledger::{Asked, Budget, EntryId, Ledger, Mode, Period, Reservation, Spend};
use docweir_stores::paid::PaidError;
use serde::{Deserialize, Serialize};

use crate::prices::Price;

/// The code of the error that says that a budget is used up: no failure, but a reason to wait.
pub const BUDGET_SPENT: &str = "budget_spent";

/// What may be spent at providers. What would be more waits, and is not lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetOptions {
    /// US dollars that one run may spend; 0 is no limit. Default 0.
    pub run_usd: f64,
    /// US dollars that may be spent on one day (UTC), by all runs; 0 is no limit. Default 0.
    pub day_usd: f64,
    /// Shares of a budget, in per cent, at which a notice is given. Default 50, 80, 95, 100.
    pub alert_percents: Vec<u32>,
    /// Days that single entries of the ledger are kept; their sums stay. Default 180.
    pub entry_days: u32,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self { run_usd: 0.0, day_usd: 0.0, alert_percents: vec![50, 80, 95, 100], entry_days: 180 }
    }
}

impl BudgetOptions {
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for (field, usd) in [("run_usd", self.run_usd), ("day_usd", self.day_usd)] {
            if !(0.0..=1e9).contains(&usd) {
                found.push((field, format!("must lie between 0 and 1000000000, not {usd}")));
            }
        }
        if self.alert_percents.len() > 100 || self.alert_percents.iter().any(|p| !(1..=100).contains(p)) {
            found.push(("alert_percents", "must be at most a hundred numbers between 1 and 100".into()));
        }
        if !(1..=36_500).contains(&self.entry_days) {
            found.push(("entry_days", format!("must lie between 1 and 36500, not {}", self.entry_days)));
        }
        found
    }

    pub fn budget(&self) -> Budget {
        let limit = |usd: f64| (usd > 0.0).then(|| Nanodollars::of_usd(usd));
        Budget { run: limit(self.run_usd), day: limit(self.day_usd) }
    }
}

/// Tells a person.
pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// Who pays for the calls of one model.
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

/// Money that is set aside for one call. Dropped without a word it stays set aside, and the next run calls it in doubt.
pub struct HeldReservation<'a> {
    account: &'a Account,
    id: EntryId,
}

impl Account {
    /// Sets money aside for a live call of so many tokens.
    ///
    /// # Errors
    /// [`BUDGET_SPENT`] where it would be more than the budget; the ledger's failure, which is the system's.
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
            Asked::Given(reservation) => {
                self.alerts.reached(&self.options, &reservation);
                Ok(HeldReservation { account: self, id: reservation.id })
            }
            Asked::Refused { period, spent, limit } => Err(refused(period, spent, limit)),
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

    /// Of a live call.
    pub fn cost(&self, tokens: u64) -> Nanodollars {
        Nanodollars::of_tokens(tokens, self.price.live)
    }
}

impl HeldReservation<'_> {
    /// Writes down what was charged, and returns what it cost. What can't be written stays set aside: it is not lost.
    pub async fn settle(self, tokens: u64) -> Nanodollars {
        let cost = self.account.cost(tokens);
        logged(self.account.ledger.settle(&self.id, tokens, cost).await);
        cost
    }

    /// Nothing was charged.
    pub async fn release(self) {
        logged(self.account.ledger.release(&self.id).await);
    }

    /// Nobody knows whether it was charged.
    pub async fn doubt(self) {
        logged(self.account.ledger.doubt(&self.id).await);
    }
}

fn logged(written: Result<(), PaidError>) {
    if let Err(error) = written {
        tracing::error!(%error, "what became of a call can't be written to the ledger; its money counts as open");
    }
}

pub fn refused(period: Period, spent: Nanodollars, limit: Nanodollars) -> StageError {
    let (whose, key) = match period {
        Period::Run => ("this run", "budget.run_usd"),
        Period::Day => ("today", "budget.day_usd"),
    };
    let text = format!(
        "the budget of {whose} is used up ({spent} of {limit}): raise `{key}` or wait, and run again; nothing is lost"
    );
    StageError::throttled(text, None).with_code(BUDGET_SPENT)
}

/// Says once when a share of a budget is reached.
pub struct Alerts {
    tell: Tell,
    told: Mutex<HashSet<(&'static str, u32)>>,
}

impl Alerts {
    pub fn new(tell: Tell) -> Arc<Self> {
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
            (self.tell)(format!("{percent} % of the budget of {whose} is spent or set aside: {spent} of {limit}"));
        }
    }
}

/// The highest share that is reached.
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
