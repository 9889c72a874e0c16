//! Decides which call may start next. The gate does no I/O and never waits; the caller passes in the time.
//!
//! A call starts when it is first in the queue, a concurrency slot is free, and the budgets of requests and tokens
//! suffice. The queue is ordered by start-time fair queueing. Each collection or tenant has its own lane in the
//! queue. A lane with many calls does not delay a lane with few calls, and lanes with waiting calls share the tokens
//! by weight.
//!
//! If the provider's answer states how much of the budget is left, the gate adopts this amount in place of its own
//! count. From the adopted amount, the gate subtracts the calls that the provider may not have counted yet.
//!
//! The gate stops calls in two ways:
//! - It *closes* if the provider throttles a call. All calls then wait for the time that the provider asks for.
//! - It *shuts* if the endpoint is down, sends answers that cannot be read, or the account has no credit. All calls are then refused with the reason.
//!   After a pause, one call is admitted as a probe.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use docweir_core::backoff::Backoff;
use tokio::time::Instant;

use super::AdmissionOptions;
use super::bucket::Bucket;

/// Number of consecutive refusals or failures after which the pause no longer grows.
const MOST_STRIKES: u32 = 20;

/// Number that identifies a waiting or running call.
pub type Ticket = u64;

/// Describes a call that asks for admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Fair-queue key that this call is charged to.
    pub lane: Arc<str>,
    /// Weight of the lane relative to other lanes, 1 or more.
    pub weight: u32,
    pub tokens: u64,
    /// Queue position that this call got in an earlier attempt. Set only if the provider refused the earlier attempt,
    /// so that the retried call keeps its position.
    pub turn: Option<Turn>,
}

/// Position of a call in the fair queue; the call with the lowest position starts first. A position is a virtual time.
/// Each call advances the virtual time of its lane by `1000 * tokens / weight`, where `tokens` belongs to the call and
/// `weight` to the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u128);

/// Describes how a call ended, as far as admission depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CallOutcome {
    /// The endpoint works. It returned either a result, or an error that was caused by the request or the
    /// configuration. The variant holds the budgets that the answer reports.
    Answered(Option<Observed>),
    /// The provider throttled the call. Holds the wait that the provider asked for, and the budgets that the answer
    /// reports.
    Throttled(Option<Duration>, Option<Observed>),
    /// The account has no credit left.
    QuotaSpent,
    /// The endpoint did not answer, or reported an internal failure.
    Failed,
    /// The endpoint sent an answer that cannot be read.
    Unreadable,
    /// The caller dropped the permit without an outcome.
    Dropped,
}

/// Holds the budgets that a provider reports. The two limits are per minute. The other two fields hold the remaining
/// amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    pub request_limit: Option<f64>,
    pub requests_left: Option<f64>,
    pub token_limit: Option<f64>,
    pub tokens_left: Option<f64>,
}

/// Explains why the gate refuses all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    QuotaSpent,
    Down,
    /// The endpoint sent several answers in a row that cannot be read.
    Unreadable,
}

/// Tells the caller whether the next call may start now. If it may not, also tells when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The call may start now.
    Go(Ticket),
    /// The next call may start at this time, or earlier if a running call ends.
    Wait(Instant),
    /// The queue is empty, or the next call waits for a running call to end.
    Idle,
}

struct Waiter {
    ticket: Ticket,
    ask: Ask,
    since: Instant,
    /// Amount by which this call advanced the virtual time of its lane (see [`Turn`]). 0 if the call keeps the position
    /// of an earlier attempt.
    cost: u128,
}

struct Running {
    since: Instant,
    tokens: u64,
    /// Sum of the tokens of this call and of all calls that were admitted before this call.
    through: u64,
}

/// Counts four kinds of consecutive events separately: throttled calls, failed calls, unreadable answers, and times that
/// the gate was shut.
#[derive(Clone, Copy, Debug, Default)]
struct Strikes {
    throttled: u32,
    failed: u32,
    unreadable: u32,
    shut: u32,
}

pub struct Gate {
    options: AdmissionOptions,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    next_ticket: Ticket,
    waiting: BTreeMap<(Turn, Ticket), Waiter>,
    /// Earliest queue position that the next call can get, by lane.
    lanes: HashMap<Arc<str>, u128>,
    virtual_now: u128,
    running: BTreeMap<Ticket, Running>,
    /// Total number of tokens that were admitted so far.
    through: u64,
    strikes: Strikes,
    /// True after the first answer, or after the first throttled call that reported budgets. Until then, only one
    /// call runs at a time, because its answer may report the limits.
    answered: bool,
    /// Time at which the gate last closed or shut. If a call that started before this time is throttled or fails
    /// afterwards, this is not counted as a further refusal or failure.
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

    /// Adds a call to the queue.
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

    /// Removes a waiting call from the queue. Also moves its lane back, so that the lane's later calls are not
    /// delayed by a call that never started.
    pub fn leave(&mut self, ticket: Ticket) {
        let place = self.waiting.iter().find_map(|(place, waiter)| (waiter.ticket == ticket).then_some(*place));
        let Some(waiter) = place.and_then(|place| self.waiting.remove(&place)) else { return };
        if let Some(next) = self.lanes.get_mut(&waiter.ask.lane) {
            *next = next.saturating_sub(waiter.cost);
        }
    }

    /// Returns why the gate refuses all calls and for how long, or `None` if the gate admits calls.
    pub fn shut(&self, now: Instant) -> Option<(Shut, Duration)> {
        let (why, until) = self.shut?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then_some((why, left))
    }

    /// Admits the next call, if possible. Call this method repeatedly until the result is no longer [`Next::Go`].
    pub fn next(&mut self, now: Instant) -> Next {
        let Some((&key, waiter)) = self.waiting.first_key_value() else {
            // No call is waiting or running, so the virtual times can start again.
            if self.running.is_empty() {
                self.lanes.clear();
            }
            return Next::Idle;
        };
        let places = match self.shut {
            Some((_, until)) if until > now => return Next::Wait(until),
            // One call is admitted as a probe.
            Some(_) => 1,
            // The answer of the first call reports the limits.
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
        // The very first call starts at once, however large it is.
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

    /// Records the outcome of a call that has ended.
    pub fn end(&mut self, ticket: Ticket, outcome: &CallOutcome, now: Instant) {
        let Some(ended) = self.running.remove(&ticket) else { return };
        self.answered |= matches!(outcome, CallOutcome::Answered(_) | CallOutcome::Throttled(_, Some(_)));
        // Calls that ran together count as one strike, because the later ones started before the first failure was
        // known.
        let news = self.struck.is_none_or(|at| ended.since > at);
        match *outcome {
            CallOutcome::Answered(observed) => {
                self.strikes = Strikes::default();
                self.shut = None;
                self.correct(&ended, observed, now);
            }
            CallOutcome::Throttled(after, observed) => {
                (self.strikes.failed, self.strikes.unreadable) = (0, 0);
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
                    // A report states what is left. Without a report, assume that nothing is left.
                    if observed.is_none() {
                        [&mut self.requests, &mut self.tokens].into_iter().flatten().for_each(|b| b.empty(now));
                    }
                }
            }
            CallOutcome::QuotaSpent | CallOutcome::Failed | CallOutcome::Unreadable if !news => {}
            CallOutcome::QuotaSpent => self.close(Shut::QuotaSpent, self.options.quota_pause_seconds, now),
            CallOutcome::Failed => {
                self.strikes.failed += 1;
                if self.strikes.failed >= self.options.failures || self.shut.is_some() {
                    self.close(Shut::Down, self.options.down_seconds, now);
                }
            }
            CallOutcome::Unreadable => {
                self.strikes.unreadable += 1;
                if self.strikes.unreadable >= self.options.unreadable_answers {
                    self.close(Shut::Unreadable, self.options.down_seconds, now);
                } else if let Some((why, _)) = self.shut {
                    // The call was a probe, and its answer does not show that the reason has passed.
                    self.close(why, self.options.down_seconds, now);
                }
            }
            // The dropped call may have been the probe; the next call then probes.
            CallOutcome::Dropped => {}
        }
    }

    fn close(&mut self, why: Shut, seconds: f64, now: Instant) {
        let pause = self.backoff(seconds, self.strikes.shut);
        self.strikes.shut += 1;
        self.struck = Some(now);
        self.shut = Some((why, now + pause));
    }

    /// Returns a pause that doubles with each consecutive refusal or failure, up to the limit. Jitter shortens the
    /// pause by up to a quarter.
    fn backoff(&mut self, first: f64, strikes: u32) -> Duration {
        let longest = self.options.backoff_max_seconds.max(first);
        let backoff = Backoff::doubling_seconds(first, longest).with_jitter(0.75, 1.0);
        backoff.wait(strikes.min(MOST_STRIKES), self.random.f64())
    }

    fn longest(&self) -> Duration {
        Duration::from_secs_f64(self.options.backoff_max_seconds)
    }

    /// Sets the budgets to the amounts that the provider reported in its answer to the call `ended`. Subtracts from the
    /// reported amounts the calls that the provider may not have counted yet. For the token budget, the subtracted
    /// calls are those admitted after `ended`, and earlier calls that are still running.
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

    /// Returns the limit of tokens per minute, or `None` if there is no limit.
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

/// Describes the state of a gate for status displays.
#[derive(Clone, Debug, PartialEq)]
pub struct GateStatus {
    /// Budget of requests; `None` if there is no limit.
    pub requests: Option<Budget>,
    pub tokens: Option<Budget>,
    pub running: usize,
    /// Number of waiting calls in each lane, and the waiting time of the lane's oldest call.
    pub waiting: BTreeMap<Arc<str>, (u64, Duration)>,
    /// Remaining time of the pause after the provider throttled a call.
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
