//! Decides how ledger entries change, without access to a database.
//!
//! ```text
//!   RESERVED ──settle──▶ SETTLED
//!    │    │                 ▲
//!    │    └──doubt──▶ IN_DOUBT
//!    └──release──▶ (deleted; also possible from IN_DOUBT)
//! ```
//! The outcome of an entry is written once. A store reads an entry, calls a rule for the new state, and writes the new
//! state together with the changed sums in one atomic step.

use docweir_core::money::Nanodollars;

use super::{Amount, Budget, Period, Share, Spend};

/// Lists the states of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Reserved,
    Settled,
    InDoubt,
    /// The reservation was refused, but an earlier attempt to write the same reservation may still arrive. The void
    /// entry blocks this late write. Only stores whose writes can arrive late use this state.
    Void,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Settled, Self::InDoubt, Self::Void];
    /// States that have sums, in the order of the amounts in a line of a report.
    pub const COUNTED: [Self; 3] = [Self::Settled, Self::Reserved, Self::InDoubt];

    /// Returns the stored name of the state.
    pub fn name(self) -> &'static str {
        match self {
            State::Reserved => "RESERVED",
            State::Settled => "SETTLED",
            State::InDoubt => "IN_DOUBT",
            State::Void => "VOID",
        }
    }

    /// Returns whether the outcome of the entry is still unknown.
    pub fn is_open(self) -> bool {
        matches!(self, State::Reserved | State::InDoubt)
    }
}

/// Identifies the entries that share one sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    pub day: String,
    pub run: String,
    pub mode: String,
    pub stage: String,
    pub model: String,
    pub collection: String,
}

impl Group {
    /// Returns the group of an entry created on `day`.
    pub fn of(spend: &Spend, day: &str) -> Self {
        Self {
            day: day.to_owned(),
            run: spend.run.clone(),
            mode: spend.mode.name().to_owned(),
            stage: spend.stage.clone(),
            model: spend.model.clone(),
            collection: spend.collection.clone(),
        }
    }
}

/// Returns the UTC day of a timestamp, in the form `YYYY-MM-DD`.
pub fn day(at: &str) -> &str {
    at.get(..10).unwrap_or(at)
}

/// Holds the amounts spent in a run and on a day, including open amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub run: Nanodollars,
    pub day: Nanodollars,
}

impl Spent {
    /// Returns the amount that a budget still allows, or `None` if the budget has no limit.
    pub fn room(self, budget: Budget) -> Option<Nanodollars> {
        let left = [budget.run.map(|limit| limit - self.run), budget.day.map(|limit| limit - self.day)];
        left.into_iter().flatten().min()
    }

    /// Decides whether a cost fits a budget. The run's limit is checked first.
    pub fn reserve(self, cost: Nanodollars, budget: Budget) -> Fit {
        for (period, limit, spent) in [(Period::Run, budget.run, self.run), (Period::Day, budget.day, self.day)] {
            if let Some(limit) = limit.filter(|limit| spent + cost > *limit) {
                return Fit::Exceeds { period, spent, limit };
            }
        }
        Fit::Fits(Self { run: self.run + cost, day: self.day + cost })
    }
}

/// Reports whether a cost fits a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The cost fits. Holds the amounts spent, including the new cost.
    Fits(Spent),
    Exceeds {
        period: Period,
        spent: Nanodollars,
        limit: Nanodollars,
    },
}

/// Holds the state and amount of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryState {
    pub state: State,
    pub amount: Amount,
}

impl EntryState {
    /// Returns the state and amount of a new reservation.
    pub fn reserved(tokens: u64, cost: Nanodollars) -> Self {
        Self { state: State::Reserved, amount: Amount { calls: 1, tokens, cost } }
    }

    /// Settles an open entry at the actual charge. Returns `None` if the outcome of the entry was already written.
    pub fn settle(self, tokens: u64, cost: Nanodollars) -> Option<Self> {
        let amount = Amount { calls: self.amount.calls, tokens, cost };
        self.state.is_open().then_some(Self { state: State::Settled, amount })
    }

    /// Marks a reservation as in doubt. Returns `None` if the entry is not a reservation.
    pub fn doubt(self) -> Option<Self> {
        (self.state == State::Reserved).then_some(Self { state: State::InDoubt, ..self })
    }

    /// Returns the rest of an open entry after some shares of the entry became settled entries of their own. The first
    /// share counts the call, so the rest counts no call.
    pub fn less(self, shares: &[Share]) -> Self {
        let (tokens, cost) = shares.iter().fold((0, Nanodollars::ZERO), |(t, c), s| (t + s.tokens, c + s.cost));
        let left = self.amount.tokens.saturating_sub(tokens);
        Self { amount: Amount { calls: 0, tokens: left, cost: self.amount.cost - cost }, ..self }
    }
}

/// Returns the state and amount of the settled entry for one share. `nth` is the number of the share, counted from 0.
/// Only the first share counts the call, so all shares together count as one call.
pub fn share(nth: u64, share: &Share) -> EntryState {
    let amount = Amount { calls: u64::from(nth == 0), tokens: share.tokens, cost: share.cost };
    EntryState { state: State::Settled, amount }
}

/// Splits the charge of a batch into shares. `tokens` lists the subjects with texts in the batch, each with its number
/// of tokens. All other charged tokens are charged to the batch itself. These tokens belong to records, or to stale or
/// unusable results.
pub fn shares<'a>(
    batch: &str,
    tokens: impl IntoIterator<Item = (&'a str, u64)>,
    charged: u64,
    usd_per_million_tokens: f64,
) -> Vec<Share> {
    let price = |tokens: u64| Nanodollars::of_tokens(tokens, usd_per_million_tokens);
    let share = |(subject, tokens): (&str, u64)| Share { subject: subject.to_owned(), tokens, cost: price(tokens) };
    let mut shares: Vec<Share> = tokens.into_iter().map(share).collect();
    let known: u64 = shares.iter().map(|share| share.tokens).sum();
    let cost: Nanodollars = shares.iter().map(|share| share.cost).sum();
    if charged > known {
        shares.push(Share { subject: batch.to_owned(), tokens: charged - known, cost: price(charged) - cost });
    }
    shares
}

/// Holds the changes of a group's sums. Each row holds the calls, tokens and nanodollars of one state; the states are
/// in the order of [`State::COUNTED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub [[i64; 3]; 3]);

impl Sums {
    /// Returns the change of the sums when an entry in one state is replaced by entries in other states.
    pub fn change(before: Option<EntryState>, after: impl IntoIterator<Item = EntryState>) -> Self {
        let mut sums = Self::default();
        before.iter().for_each(|standing| sums.add(*standing, -1));
        after.into_iter().for_each(|standing| sums.add(standing, 1));
        sums
    }

    fn add(&mut self, standing: EntryState, sign: i64) {
        let Some(at) = State::COUNTED.into_iter().position(|state| state == standing.state) else { return };
        let amounts = [standing.amount.calls, standing.amount.tokens, standing.amount.cost.0];
        for (sum, amount) in self.0.get_mut(at).into_iter().flatten().zip(amounts) {
            *sum += sign * i64::try_from(amount).unwrap_or(i64::MAX);
        }
    }

    /// Returns the states whose sums change, with the changes.
    pub fn changed(&self) -> impl Iterator<Item = (State, [i64; 3])> {
        State::COUNTED.into_iter().zip(self.0).filter(|(_, sums)| *sums != [0; 3])
    }

    /// Returns the sum of the nanodollars of all states.
    pub fn cost(&self) -> i64 {
        self.0.iter().map(|[_, _, cost]| cost).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::State::*;
    use super::*;

    fn usd(n: u64) -> Nanodollars {
        Nanodollars(n)
    }

    fn standing(state: State, calls: u64, tokens: u64, cost: u64) -> EntryState {
        EntryState { state, amount: Amount { calls, tokens, cost: usd(cost) } }
    }

    #[test]
    fn a_cost_fits_up_to_the_limit_of_each_period() {
        let spent = Spent { run: usd(70), day: usd(90) };
        let budget =
            |run: u64, day: u64| Budget { run: (run > 0).then_some(usd(run)), day: (day > 0).then_some(usd(day)) };
        let fits = Fit::Fits(Spent { run: usd(80), day: usd(100) });
        let exceeds = |period, spent, limit| Fit::Exceeds { period, spent: usd(spent), limit: usd(limit) };
        let table = [
            (budget(0, 0), None, fits),
            (budget(80, 0), Some(10), fits),
            (budget(79, 0), Some(9), exceeds(Period::Run, 70, 79)),
            (budget(0, 100), Some(10), fits),
            (budget(0, 99), Some(9), exceeds(Period::Day, 90, 99)),
            (budget(100, 95), Some(5), exceeds(Period::Day, 90, 95)),
            (budget(75, 95), Some(5), exceeds(Period::Run, 70, 75)),
            // The limit was lowered after the money was spent.
            (budget(50, 0), Some(0), exceeds(Period::Run, 70, 50)),
        ];
        for (budget, room, fit) in table {
            assert_eq!((spent.room(budget), spent.reserve(usd(10), budget)), (room.map(usd), fit), "{budget:?}");
        }
        let all = Spent { run: usd(u64::MAX), day: usd(0) };
        let limit = budget(u64::MAX, 0);
        assert_eq!(all.reserve(usd(1), limit), Fit::Fits(Spent { run: usd(u64::MAX), day: usd(1) }), "it saturates");
    }

    #[test]
    fn an_outcome_is_written_once() {
        let table = [
            (Reserved, Some(Settled), Some(InDoubt)),
            (InDoubt, Some(Settled), None),
            (Settled, None, None),
            (Void, None, None),
        ];
        for (state, settled, doubted) in table {
            let now = standing(state, 1, 9, 90);
            assert_eq!(now.settle(7, usd(70)), settled.map(|state| standing(state, 1, 7, 70)), "{state:?}");
            assert_eq!(now.doubt(), doubted.map(|state| standing(state, 1, 9, 90)), "{state:?}");
            assert_eq!(state.is_open(), settled.is_some());
        }
    }

    #[test]
    fn shares_are_one_call_and_leave_the_rest() {
        let parts = [("a", 3, 30), ("b", 4, 40)];
        let parts = parts.map(|(subject, tokens, cost)| Share { subject: subject.into(), tokens, cost: usd(cost) });
        assert_eq!(share(0, &parts[0]), standing(Settled, 1, 3, 30));
        assert_eq!(share(1, &parts[1]), standing(Settled, 0, 4, 40));
        assert_eq!(standing(InDoubt, 1, 10, 100).less(&parts), standing(InDoubt, 0, 3, 30));
        assert_eq!(standing(Reserved, 1, 5, 50).less(&parts), standing(Reserved, 0, 0, 0), "more than was reserved");
        assert_eq!(standing(Reserved, 0, 5, 50).less(&[]), standing(Reserved, 0, 5, 50));
    }

    #[test]
    fn what_was_charged_and_went_to_nobody_is_the_batches_own() {
        let of = |tokens: &[(&'static str, u64)], charged| {
            let shares = shares("batch", tokens.iter().copied(), charged, 10.0);
            shares.into_iter().map(|s| (s.subject, s.tokens, s.cost.0)).collect::<Vec<_>>()
        };
        let share = |subject: &str, tokens: u64| (subject.to_owned(), tokens, 10_000 * tokens);
        assert_eq!(of(&[], 0), []);
        assert_eq!(of(&[], 7), [share("batch", 7)]);
        assert_eq!(of(&[("a", 3), ("b", 4)], 7), [share("a", 3), share("b", 4)]);
        assert_eq!(of(&[("a", 3), ("b", 4)], 9), [share("a", 3), share("b", 4), share("batch", 2)]);
        assert_eq!(of(&[("a", 3)], 2), [share("a", 3)], "the provider counted less");
    }

    #[test]
    fn sums_change_by_what_comes_and_goes() {
        let (reserved, settled) = (standing(Reserved, 1, 9, 90), standing(Settled, 1, 7, 70));
        let table = [
            (None, vec![reserved], [[0; 3], [1, 9, 90], [0; 3]], 90),
            (Some(reserved), vec![settled], [[1, 7, 70], [-1, -9, -90], [0; 3]], -20),
            (Some(reserved), vec![standing(InDoubt, 1, 9, 90)], [[0; 3], [-1, -9, -90], [1, 9, 90]], 0),
            (Some(reserved), vec![], [[0; 3], [-1, -9, -90], [0; 3]], -90),
            (Some(settled), vec![settled], [[0; 3]; 3], 0),
            (None, vec![standing(Void, 0, 0, 0)], [[0; 3]; 3], 0),
        ];
        for (before, after, sums, cost) in table {
            let change = Sums::change(before, after);
            assert_eq!((change, change.cost()), (Sums(sums), cost), "{before:?}");
            assert_eq!(change.changed().count(), sums.iter().filter(|sums| **sums != [0; 3]).count());
        }
    }
}
