//! What is asked of an entry, and what it comes to: without I/O.

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::money::Nanodollars;
use docweir_stores::ledger::{Amount, Asked, Budget, EntryId, Mode, Period, Reservation, Share, Spend};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Reserved,
    Settled,
    InDoubt,
    /// Refused while nobody knew whether an earlier try of it would still be written: it keeps that one out.
    Void,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Settled, Self::InDoubt, Self::Void];
    /// Those that sums are kept of, in the order of a report's line.
    pub const COUNTED: [Self; 3] = [Self::Settled, Self::Reserved, Self::InDoubt];

    pub fn name(self) -> &'static str {
        match self {
            State::Reserved => "RESERVED",
            State::Settled => "SETTLED",
            State::InDoubt => "IN_DOUBT",
            State::Void => "VOID",
        }
    }
}

/// What sums are kept by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    pub day: String,
    pub run: String,
    pub mode: String,
    pub stage: String,
    pub model: String,
    pub collection: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: EntryId,
    pub group: Group,
    pub at: String,
    pub subject: String,
    pub state: State,
    pub amount: Amount,
    /// Whose live call it is.
    pub process: Option<String>,
    /// Shares of it that are settled.
    pub parts: u64,
    /// Which write it is of.
    pub write_id: String,
}

#[derive(Clone, Debug)]
pub enum Command {
    Reserve {
        spend: Spend,
        budget: Budget,
    },
    Settle {
        tokens: u64,
        cost: Nanodollars,
    },
    /// Shares from a number on, and whether these are the last.
    Parts {
        from: u64,
        shares: Vec<Share>,
        last: bool,
    },
    /// Only while the process that is named has it reserved, if one is.
    Doubt {
        of: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Asked(Asked),
    /// Whether it changed anything.
    Done(bool),
}

/// What is spent in a run and on a day, open amounts included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub run: u64,
    pub day: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum After {
    Same,
    Is(Box<Entry>),
    Gone,
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    pub after: After,
    /// Entries that are new beside it.
    pub shares: Vec<Entry>,
    pub answer: Answer,
    /// What a budget says to it: its totals may be at most this before it.
    pub within: Option<Budget>,
}

impl Decided {
    fn nothing(answer: Answer) -> Self {
        Self { after: After::Same, shares: Vec::new(), answer, within: None }
    }

    fn is(entry: Entry, answer: Answer) -> Self {
        Self { after: After::Is(Box::new(entry)), shares: Vec::new(), answer, within: None }
    }
}

/// Who asks, and how.
pub struct Asking<'a> {
    pub id: &'a EntryId,
    pub process: &'a str,
    pub now: UnixMicros,
    pub write_id: &'a str,
    /// A try before this one may still be written.
    pub uncertain: bool,
}

/// `entry` and `spent` are as they were read.
pub fn decide(command: &Command, entry: Option<&Entry>, spent: Spent, asking: &Asking<'_>) -> Decided {
    match (command, entry) {
        (Command::Reserve { spend, budget }, entry) => reserve(spend, *budget, entry, spent, asking),
        // An outcome is written once; what was released is gone.
        (_, None) => Decided::nothing(Answer::Done(false)),
        (_, Some(entry)) if matches!(entry.state, State::Settled | State::Void) => {
            Decided::nothing(Answer::Done(false))
        }
        (Command::Settle { tokens, cost }, Some(entry)) => {
            let amount = Amount { calls: entry.amount.calls, tokens: *tokens, cost: *cost };
            let write_id = asking.write_id.to_owned();
            let settled = Entry { state: State::Settled, amount, write_id, ..entry.clone() };
            Decided::is(settled, Answer::Done(true))
        }
        (Command::Parts { from, shares, last }, Some(entry)) => parts(*from, shares, *last, entry, asking),
        (Command::Doubt { of }, Some(entry)) => {
            let theirs = of.is_none() || *of == entry.process;
            if entry.state != State::Reserved || !theirs {
                return Decided::nothing(Answer::Done(false));
            }
            let write_id = asking.write_id.to_owned();
            Decided::is(Entry { state: State::InDoubt, write_id, ..entry.clone() }, Answer::Done(true))
        }
    }
}

fn reserve(spend: &Spend, budget: Budget, entry: Option<&Entry>, spent: Spent, asking: &Asking<'_>) -> Decided {
    let given = |run, day| {
        let (run, day) = (Nanodollars(run), Nanodollars(day));
        Answer::Asked(Asked::Given(Reservation { id: asking.id.clone(), run, day }))
    };
    // Asked for before: by this process, whose answer was lost, or by one that took the same step.
    if entry.is_some_and(|entry| entry.state != State::Void) {
        return Decided::nothing(given(spent.run, spent.day));
    }
    let group = Group {
        day: super::items::day_of(asking.id).to_owned(),
        run: spend.run.clone(),
        mode: spend.mode.name().to_owned(),
        stage: spend.stage.clone(),
        model: spend.model.clone(),
        collection: spend.collection.clone(),
    };
    let new = Entry {
        id: asking.id.clone(),
        group,
        at: timestamp(asking.now),
        subject: spend.subject.clone(),
        state: State::Reserved,
        amount: Amount { calls: 1, tokens: spend.tokens, cost: spend.cost },
        process: (spend.mode == Mode::Live).then(|| asking.process.to_owned()),
        parts: 0,
        write_id: asking.write_id.to_owned(),
    };
    for (period, limit, before) in [(Period::Run, budget.run, spent.run), (Period::Day, budget.day, spent.day)] {
        if let Some(limit) = limit.filter(|limit| before.saturating_add(spend.cost.0) > limit.0) {
            let answer = Answer::Asked(Asked::Refused { period, spent: Nanodollars(before), limit });
            return match asking.uncertain && entry.is_none() {
                true => {
                    let amount = Amount::default();
                    Decided::is(Entry { state: State::Void, amount, process: None, ..new }, answer)
                }
                false => Decided::nothing(answer),
            };
        }
    }
    if entry.is_some() {
        // Refused before; the name is used up.
        let limit = budget.run.or(budget.day).unwrap_or_default();
        let refused = Asked::Refused { period: Period::Day, spent: Nanodollars(spent.day), limit };
        return Decided::nothing(Answer::Asked(refused));
    }
    let answer = given(spent.run.saturating_add(spend.cost.0), spent.day.saturating_add(spend.cost.0));
    Decided { within: Some(budget), ..Decided::is(new, answer) }
}

fn parts(from: u64, shares: &[Share], last: bool, entry: &Entry, asking: &Asking<'_>) -> Decided {
    let (count, write_id) = (shares.len() as u64, asking.write_id.to_owned());
    // Settled before, and the answer was lost; only the end may be asked for without shares.
    if entry.parts > from || (entry.parts == from && count == 0 && !last) {
        return Decided::nothing(Answer::Done(false));
    }
    let settled = (from..).zip(shares).map(|(nth, share)| Entry {
        id: super::items::share_id(&entry.id, nth),
        subject: share.subject.clone(),
        state: State::Settled,
        // One call all the same.
        amount: Amount { calls: u64::from(nth == 0), tokens: share.tokens, cost: share.cost },
        process: None,
        parts: 0,
        write_id: write_id.clone(),
        ..entry.clone()
    });
    let (tokens, cost) = shares.iter().fold((0, Nanodollars::ZERO), |(t, c), s| (t + s.tokens, c + s.cost));
    let left = Amount { calls: 0, tokens: entry.amount.tokens.saturating_sub(tokens), cost: entry.amount.cost - cost };
    let after = match last {
        true => After::Gone,
        false => {
            let entry = entry.clone();
            After::Is(Box::new(Entry { amount: left, parts: from + count, write_id: write_id.clone(), ..entry }))
        }
    };
    Decided { after, shares: settled.collect(), answer: Answer::Done(true), within: None }
}

/// Calls, tokens and nanodollars, settled, reserved and in doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub [[i64; 3]; 3]);

impl Sums {
    pub fn add(&mut self, entry: &Entry, sign: i64) {
        let Some(at) = State::COUNTED.into_iter().position(|state| state == entry.state) else { return };
        let amounts = [entry.amount.calls, entry.amount.tokens, entry.amount.cost.0];
        for (sum, amount) in self.0.get_mut(at).into_iter().flatten().zip(amounts) {
            *sum += sign * i64::try_from(amount).unwrap_or(i64::MAX);
        }
    }

    /// Nanodollars of all states.
    pub fn cost(&self) -> i64 {
        self.0.iter().map(|[_, _, cost]| cost).sum()
    }
}

/// What a change is to the sums of its group.
pub fn change(before: Option<&Entry>, decided: &Decided) -> Sums {
    let mut sums = Sums::default();
    match &decided.after {
        After::Same => return sums,
        After::Is(entry) => sums.add(entry, 1),
        After::Gone => {}
    }
    before.iter().for_each(|entry| sums.add(entry, -1));
    decided.shares.iter().for_each(|entry| sums.add(entry, 1));
    sums
}
