//! Decides how a command changes an entry of the ledger, without I/O.
//!
//! The [`rules`] apply to every ledger. This module adds the cases that arise because DynamoDB may apply a write late:
//! - A reservation may be repeated under an id that is known in advance.
//! - The charge of a batch is divided into shares, one for each document. They are settled in several steps.
//! - A reservation may be refused or undone while DynamoDB may still apply an attempt to reserve. A void entry then
//!   blocks this attempt.

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::money::Nanodollars;
use docweir_stores::ledger::rules::{self, EntryState, Fit, Group, Spent, State, Sums};
use docweir_stores::ledger::{Amount, Budget, EntryId, Mode, Period, Reservation, ReservationOutcome, Share, Spend};

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: EntryId,
    pub group: Group,
    pub at: String,
    pub subject: String,
    pub state: State,
    pub amount: Amount,
    /// Process whose live call created the entry; `None` for batches.
    pub process: Option<String>,
    /// Number of shares that have already been settled. A share is the part of a batch's charge that belongs to one
    /// document.
    pub parts: u64,
    /// Id of the write that produced this state of the entry.
    pub write_id: String,
}

impl Entry {
    pub fn standing(&self) -> EntryState {
        EntryState { state: self.state, amount: self.amount }
    }

    fn with(&self, after: EntryState, write_id: &str) -> Self {
        Self { state: after.state, amount: after.amount, write_id: write_id.to_owned(), ..self.clone() }
    }
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
    /// Settles several shares of a batch's charge, each for one document. The first of these shares has the number
    /// `from`. `last` is true if no further shares follow.
    Parts {
        from: u64,
        shares: Vec<Share>,
        last: bool,
    },
    /// Releases a reservation, and blocks its id.
    Void,
    /// Marks a reservation as in doubt. If `of` names a process, only a reservation of the named process is changed.
    Doubt {
        of: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum LedgerReply {
    Reserved(ReservationOutcome),
    /// Reports whether the command changed anything.
    Done(bool),
}

#[derive(Clone, Debug, PartialEq)]
pub enum After {
    Same,
    Is(Box<Entry>),
    Gone,
}

/// Holds the effect of a command on an entry, and the conditions of the write.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    pub after: After,
    /// Entries of the settled shares, which are written in addition to the changed entry.
    pub shares: Vec<Entry>,
    pub answer: LedgerReply,
    /// Budget that the totals must stay within; `None` if no budget applies.
    pub within: Option<Budget>,
}

impl Decided {
    fn nothing(answer: LedgerReply) -> Self {
        Self { after: After::Same, shares: Vec::new(), answer, within: None }
    }

    fn is(entry: Entry, answer: LedgerReply) -> Self {
        Self { after: After::Is(Box::new(entry)), shares: Vec::new(), answer, within: None }
    }
}

/// Holds the context of a command: the id of the entry, the calling process and the time.
pub struct Asking<'a> {
    pub id: &'a EntryId,
    pub process: &'a str,
    pub now: UnixMicros,
    pub write_id: &'a str,
    /// True if the outcome of an earlier attempt to write this command is unknown. DynamoDB may apply that attempt
    /// even after this decision.
    pub uncertain: bool,
}

/// Decides how a command changes an entry. `entry` and `spent` are the values that were read from the table.
pub fn decide(command: &Command, entry: Option<&Entry>, spent: Spent, asking: &Asking<'_>) -> Decided {
    match (command, entry) {
        (Command::Reserve { spend, budget }, entry) => reserve(spend, *budget, entry, spent, asking),
        (Command::Void, entry) => void(entry, asking),
        // Released entries do not exist any more.
        (_, None) => Decided::nothing(LedgerReply::Done(false)),
        (Command::Settle { tokens, cost }, Some(entry)) => {
            becomes(entry, entry.standing().settle(*tokens, *cost), asking)
        }
        (Command::Parts { from, shares, last }, Some(entry)) => parts(*from, shares, *last, entry, asking),
        (Command::Doubt { of }, Some(entry)) => {
            let theirs = of.is_none() || *of == entry.process;
            becomes(entry, entry.standing().doubt().filter(|_| theirs), asking)
        }
    }
}

fn void(entry: Option<&Entry>, asking: &Asking<'_>) -> Decided {
    let void = |entry: Entry| Entry { state: State::Void, amount: Amount::default(), process: None, ..entry };
    match entry {
        Some(entry) if entry.state.is_open() => {
            let entry = void(Entry { write_id: asking.write_id.to_owned(), ..entry.clone() });
            Decided::is(entry, LedgerReply::Done(true))
        }
        Some(_) => Decided::nothing(LedgerReply::Done(false)),
        None => {
            let group = Group { day: super::items::day_of(asking.id).to_owned(), ..Group::default() };
            let entry = Entry {
                id: asking.id.clone(),
                group,
                at: timestamp(asking.now),
                subject: String::new(),
                state: State::Void,
                amount: Amount::default(),
                process: None,
                parts: 0,
                write_id: asking.write_id.to_owned(),
            };
            Decided::is(entry, LedgerReply::Done(true))
        }
    }
}

fn becomes(entry: &Entry, after: Option<EntryState>, asking: &Asking<'_>) -> Decided {
    match after {
        None => Decided::nothing(LedgerReply::Done(false)),
        Some(after) => Decided::is(entry.with(after, asking.write_id), LedgerReply::Done(true)),
    }
}

fn reserve(spend: &Spend, budget: Budget, entry: Option<&Entry>, spent: Spent, asking: &Asking<'_>) -> Decided {
    let given = |spent: Spent| {
        LedgerReply::Reserved(ReservationOutcome::Given(Reservation {
            id: asking.id.clone(),
            run: spent.run,
            day: spent.day,
        }))
    };
    // The amount was reserved earlier, either by this process, which did not get the reply, or by another process
    // that executed the same step.
    if entry.is_some_and(|entry| entry.state != State::Void) {
        return Decided::nothing(given(spent));
    }
    let EntryState { state, amount } = EntryState::reserved(spend.tokens, spend.cost);
    let new = Entry {
        id: asking.id.clone(),
        group: Group::of(spend, super::items::day_of(asking.id)),
        at: timestamp(asking.now),
        subject: spend.subject.clone(),
        state,
        amount,
        process: (spend.mode == Mode::Live).then(|| asking.process.to_owned()),
        parts: 0,
        write_id: asking.write_id.to_owned(),
    };
    let after = match spent.reserve(spend.cost, budget) {
        Fit::Fits(after) => after,
        Fit::Exceeds { period, spent, limit } => {
            let answer = LedgerReply::Reserved(ReservationOutcome::Refused { period, spent, limit });
            return match asking.uncertain && entry.is_none() {
                true => {
                    let amount = Amount::default();
                    Decided::is(Entry { state: State::Void, amount, process: None, ..new }, answer)
                }
                false => Decided::nothing(answer),
            };
        }
    };
    if entry.is_some() {
        // The reservation was refused earlier, and its void entry blocks this id.
        let limit = budget.run.or(budget.day).unwrap_or_default();
        let refused = ReservationOutcome::Refused { period: Period::Day, spent: spent.day, limit };
        return Decided::nothing(LedgerReply::Reserved(refused));
    }
    Decided { within: Some(budget), ..Decided::is(new, given(after)) }
}

fn parts(from: u64, shares: &[Share], last: bool, entry: &Entry, asking: &Asking<'_>) -> Decided {
    let count = shares.len() as u64;
    // These shares were settled earlier, and the reply was lost. Only the last step may come without shares.
    let before = entry.parts > from || (entry.parts == from && count == 0 && !last);
    if before || !entry.state.is_open() {
        return Decided::nothing(LedgerReply::Done(false));
    }
    let settled = (from..).zip(shares).map(|(nth, share)| Entry {
        id: super::items::share_id(&entry.id, nth),
        subject: share.subject.clone(),
        process: None,
        parts: 0,
        ..entry.with(rules::share(nth, share), asking.write_id)
    });
    let after = match last {
        true => After::Gone,
        false => {
            let left = entry.with(entry.standing().less(shares), asking.write_id);
            After::Is(Box::new(Entry { parts: from + count, ..left }))
        }
    };
    Decided { after, shares: settled.collect(), answer: LedgerReply::Done(true), within: None }
}

/// Returns the amounts that a decision adds to the sums of the entry's group, or subtracts from them.
pub fn change(before: Option<&Entry>, decided: &Decided) -> Sums {
    let after = match &decided.after {
        After::Same => return Sums::default(),
        After::Is(entry) => Some(entry.standing()),
        After::Gone => None,
    };
    let shares = decided.shares.iter().map(Entry::standing);
    Sums::change(before.map(Entry::standing), after.into_iter().chain(shares))
}
