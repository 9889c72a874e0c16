//! Who may call next. Pure: time is an argument, nothing waits here.
//!
//! A call goes when the requests and the tokens of a minute allow it, a place is free, and it is its turn. Turns are those
//! of start-time fair queueing: a lane (a collection, a tenant) that asks for much does not hold up one that asks for
//! little, and among those that wait each gets tokens by its weight. A budget that the other side reports is believed
//! over our own count, less what may not have been counted yet when it wrote the report.
//!
//! Refusals by the other side close the gate for as long as it says. An endpoint that is down, or an account without
//! money, shuts it: everyone is sent away with the reason, and after a while one call is let through to see.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use docweir_core::backoff::Backoff;
use tokio::time::Instant;

use super::AdmissionOptions;
use super::bucket::Bucket;

/// Strikes beyond which a pause grows no more.
const MOST_STRIKES: u32 = 20;

/// A call that waits or runs.
pub type Ticket = u64;

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whose turn it is counted as.
    pub lane: Arc<str>,
    /// Of the lane among the lanes, 1 or more.
    pub weight: u32,
    pub tokens: u64,
    /// The turn of a call that was refused by the other side and comes again.
    pub turn: Option<Turn>,
}

/// A place in the order: virtual time in thousandths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u128);

/// How a call ended, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CallOutcome {
    /// The endpoint is alive, whatever it said.
    Answered(Option<Observed>),
    /// Refused for its rate; the time is what the other side asked for.
    Throttled(Option<Duration>, Option<Observed>),
    /// The account has no money left.
    QuotaSpent,
    /// No answer, or one that tells of a failure over there.
    Failed,
    /// Nobody waited for the end.
    Dropped,
}

/// What the other side says of a budget, per minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    pub request_limit: Option<f64>,
    pub requests_left: Option<f64>,
    pub token_limit: Option<f64>,
    pub tokens_left: Option<f64>,
}

/// Why nobody may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    QuotaSpent,
    Down,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This one may call now.
    Go(Ticket),
    /// Nobody before then, unless a call ends.
    Wait(Instant),
    /// Nobody waits, or only for a call to end.
    Idle,
}

struct Waiter {
    ticket: Ticket,
    ask: Ask,
    since: Instant,
    /// What its lane was charged for the place.
    cost: u128,
}

struct Running {
    since: Instant,
    tokens: u64,
    /// Tokens let through before and with this call.
    through: u64,
}

/// Refusals and failures in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Strikes {
    throttled: u32,
    failed: u32,
    shut: u32,
}

pub struct Gate {
    options: AdmissionOptions,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    next_ticket: Ticket,
    waiting: BTreeMap<(Turn, Ticket), Waiter>,
    /// Where each lane's next turn begins.
    lanes: HashMap<Arc<str>, u128>,
    virtual_now: u128,
    running: BTreeMap<Ticket, Running>,
    /// Tokens let through so far.
    through: u64,
    strikes: Strikes,
    /// Some call was, or its refusal told the limits.
    answered: bool,
    /// When a call's end closed the gate the last time.
    struck: Option<Instant>,
    closed_until: Option<Instant>,
    shut: Option<(Shut, Instant)>,
    random: fastrand::Rng,
}

impl Gate {
    pub fn new(options: AdmissionOptions, random: fastrand::Rng, now: Instant) -> Self {
        let burst = Duration::from_secs_f64(options.burst_seconds);
        let bucket = |limit: u64| (limit > 0).then(|| Bucket::new(limit as f64, burst, now));
        Self {
            requests: bucket(options.requests_per_minute),
            tokens: bucket(options.tokens_per_minute),
            options,
            next_ticket: 0,
            waiting: BTreeMap::new(),
            lanes: HashMap::new(),
            virtual_now: 0,
            running: BTreeMap::new(),
            through: 0,
            strikes: Strikes::default(),
            answered: false,
            struck: None,
            closed_until: None,
            shut: None,
            random,
        }
    }

    /// Takes a place in the queue.
    pub fn ask(&mut self, ask: Ask, now: Instant) -> (Ticket, Turn) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (turn, cost) = match ask.turn {
            Some(turn) => (turn, 0),
            None => {
                let begin = self.lanes.get(&ask.lane).copied().unwrap_or_default().max(self.virtual_now);
                let cost = u128::from(ask.tokens.max(1)) * 1_000 / u128::from(ask.weight.max(1));
                self.lanes.insert(ask.lane.clone(), begin + cost);
                (Turn(begin), cost)
            }
        };
        self.waiting.insert((turn, ticket), Waiter { ticket, ask, since: now, cost });
        (ticket, turn)
    }

    /// Gives the place up; what it would have cost is the lane's again.
    pub fn leave(&mut self, ticket: Ticket) {
        let place = self.waiting.iter().find_map(|(place, waiter)| (waiter.ticket == ticket).then_some(*place));
        let Some(waiter) = place.and_then(|place| self.waiting.remove(&place)) else { return };
        if let Some(next) = self.lanes.get_mut(&waiter.ask.lane) {
            *next = next.saturating_sub(waiter.cost);
        }
    }

    /// Why nobody may call, and until when.
    pub fn shut(&self, now: Instant) -> Option<(Shut, Duration)> {
        let (why, until) = self.shut?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then_some((why, left))
    }

    /// Lets the next one through, if it may. To be asked until it says something else than [`Next::Go`].
    pub fn next(&mut self, now: Instant) -> Next {
        let Some((&key, waiter)) = self.waiting.first_key_value() else {
            // Nobody is owed anything: lanes begin anew.
            if self.running.is_empty() {
                self.lanes.clear();
            }
            return Next::Idle;
        };
        let places = match self.shut {
            Some((_, until)) if until > now => return Next::Wait(until),
            // One, to see.
            Some(_) => 1,
            // The first call's answer tells how much is allowed.
            None if !self.answered => 1,
            None => self.options.concurrency,
        };
        if self.running.len() >= places {
            return Next::Idle;
        }
        if let Some(until) = self.closed_until.filter(|until| *until > now) {
            return Next::Wait(until);
        }
        let tokens = waiter.ask.tokens;
        let wait = |bucket: &Option<Bucket>, amount: f64| bucket.map_or(Duration::ZERO, |b| b.wait_for(amount, now));
        let wait = wait(&self.requests, 1.0).max(wait(&self.tokens, tokens as f64));
        // The very first goes at once, however large.
        if !wait.is_zero() && self.through > 0 {
            return Next::Wait(now + wait);
        }
        let ticket = waiter.ticket;
        self.waiting.remove(&key);
        self.virtual_now = self.virtual_now.max(key.0.0);
        if let Some(bucket) = &mut self.requests {
            bucket.take(1.0, now);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.take(tokens as f64, now);
        }
        self.through += tokens;
        self.running.insert(ticket, Running { since: now, tokens, through: self.through });
        Next::Go(ticket)
    }

    /// A call has ended.
    pub fn end(&mut self, ticket: Ticket, outcome: &CallOutcome, now: Instant) {
        let Some(ended) = self.running.remove(&ticket) else { return };
        self.answered |= matches!(outcome, CallOutcome::Answered(_) | CallOutcome::Throttled(_, Some(_)));
        // Of calls that ran together only one tells something new: the others went before it was known.
        let news = self.struck.is_none_or(|at| ended.since > at);
        match *outcome {
            CallOutcome::Answered(observed) => {
                self.strikes = Strikes::default();
                self.shut = None;
                self.correct(&ended, observed, now);
            }
            CallOutcome::Throttled(after, observed) => {
                self.strikes.failed = 0;
                self.shut = None;
                self.correct(&ended, observed, now);
                let own = match news {
                    true => self.backoff(self.options.backoff_initial_seconds, self.strikes.throttled),
                    false => Duration::ZERO,
                };
                let until = now + after.map_or(own, |asked| asked.min(self.longest()));
                self.closed_until = self.closed_until.max(Some(until));
                if news {
                    self.strikes.throttled += 1;
                    self.struck = Some(now);
                    // A report says what is left; without one nothing is.
                    if observed.is_none() {
                        [&mut self.requests, &mut self.tokens].into_iter().flatten().for_each(|b| b.empty(now));
                    }
                }
            }
            CallOutcome::QuotaSpent | CallOutcome::Failed if !news => {}
            CallOutcome::QuotaSpent => self.close(Shut::QuotaSpent, self.options.quota_pause_seconds, now),
            CallOutcome::Failed => {
                self.strikes.failed += 1;
                if self.strikes.failed >= self.options.failures || self.shut.is_some() {
                    self.close(Shut::Down, self.options.down_seconds, now);
                }
            }
            // It may be that a call that was to see how things are was given up: the next one sees.
            CallOutcome::Dropped => {}
        }
    }

    fn close(&mut self, why: Shut, seconds: f64, now: Instant) {
        let pause = self.backoff(seconds, self.strikes.shut);
        self.strikes.shut += 1;
        self.struck = Some(now);
        self.shut = Some((why, now + pause));
    }

    /// Returns a pause: twice as long with each strike, up to the limit, and between three quarters of that and all.
    fn backoff(&mut self, first: f64, strikes: u32) -> Duration {
        let longest = self.options.backoff_max_seconds.max(first);
        let backoff = Backoff::doubling_seconds(first, longest).with_jitter(0.75, 1.0);
        backoff.wait(strikes.min(MOST_STRIKES), self.random.f64())
    }

    fn longest(&self) -> Duration {
        Duration::from_secs_f64(self.options.backoff_max_seconds)
    }

    /// Believes the report of a call, less what the other side may not have counted when it wrote it: what was let
    /// through after that call, and what was still running then.
    fn correct(&mut self, ended: &Running, observed: Option<Observed>, now: Instant) {
        let Some(observed) = observed else { return };
        let later = self.through - ended.through;
        let earlier: u64 = self.running.values().filter(|r| r.through < ended.through).map(|r| r.tokens).sum();
        if let (Some(bucket), Some(left)) = (&mut self.tokens, observed.tokens_left) {
            bucket.correct(observed.token_limit, left - (later + earlier) as f64, now);
        }
        if let (Some(bucket), Some(left)) = (&mut self.requests, observed.requests_left) {
            bucket.correct(observed.request_limit, left - self.running.len() as f64, now);
        }
    }

    /// `None` where there is no limit.
    pub fn tokens_per_minute(&self) -> Option<f64> {
        self.tokens.map(|bucket| bucket.per_minute())
    }

    pub fn status(&self, now: Instant) -> GateStatus {
        let mut waiting: BTreeMap<Arc<str>, (u64, Duration)> = BTreeMap::new();
        for waiter in self.waiting.values() {
            let lane = waiting.entry(waiter.ask.lane.clone()).or_default();
            lane.0 += 1;
            lane.1 = lane.1.max(now.saturating_duration_since(waiter.since));
        }
        let budget = |b: &Option<Bucket>| b.map(|b| Budget { left: b.level(now), per_minute: b.per_minute() });
        GateStatus {
            requests: budget(&self.requests),
            tokens: budget(&self.tokens),
            running: self.running.len(),
            waiting,
            closed_for: self.closed_until.map(|until| until.saturating_duration_since(now)).unwrap_or_default(),
            shut: self.shut(now),
        }
    }
}

/// How a gate stands.
#[derive(Clone, Debug, PartialEq)]
pub struct GateStatus {
    /// `None` where there is no limit.
    pub requests: Option<Budget>,
    pub tokens: Option<Budget>,
    pub running: usize,
    /// Of each lane, how many wait, and the longest time that one has.
    pub waiting: BTreeMap<Arc<str>, (u64, Duration)>,
    /// Refused by the other side: nobody calls for so long.
    pub closed_for: Duration,
    pub shut: Option<(Shut, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub left: f64,
    pub per_minute: f64,
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
