//! Limits the rate, the order and the number of concurrent calls to a provider.
//!
//! Each model of each account has one [`Admission`]. A caller [enters](Admission::enter), waits until its call may
//! start, gets a [`Permit`], and reports the outcome of the call through the permit. If the provider throttles, calls
//! wait. A call is refused if it has waited for the configured maximum time, if the provider is down or its answers
//! cannot be read, or if the account has no credit. A refusal states when to retry, and consumes no attempt.

mod bucket;
mod gate;
mod options;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

pub use gate::{Ask, Budget, CallOutcome, GateStatus, Observed, Shut, Turn};
pub use options::AdmissionOptions;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use gate::{Gate, Next, Ticket};

/// Interval at which a waiting call checks whether it was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Admits calls to one model of one account. All callers in this process share one instance.
pub struct Admission {
    /// Name of the model, for messages.
    name: String,
    options: AdmissionOptions,
    state: Mutex<State>,
}

struct State {
    gate: Gate,
    /// Senders that notify waiting calls when they may start.
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

/// Allows one call. A permit that is dropped without an outcome counts as [`CallOutcome::Dropped`].
pub struct Permit {
    admission: Arc<Admission>,
    ticket: Ticket,
    turn: Turn,
    ended: bool,
}

/// Explains why a call may not start, and states when to retry the call.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    Shut(Shut, Duration),
    /// The call has waited for the configured maximum time.
    Busy(Duration),
    Cancelled(StageError),
}

impl Admission {
    pub fn new(name: impl Into<String>, options: AdmissionOptions, random: fastrand::Rng) -> Arc<Self> {
        let gate = Gate::new(options.clone(), random, Instant::now());
        Arc::new(Self { name: name.into(), options, state: Mutex::new(State { gate, waiting: HashMap::new() }) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the call may start. The call is refused if the gate is shut, the wait is too long, or the work is
    /// cancelled.
    pub async fn enter(self: &Arc<Self>, ask: Ask, cancel: &Cancel) -> Result<Permit, Refused> {
        let began = Instant::now();
        let limit = began + Duration::from_secs_f64(self.options.max_wait_seconds);
        let (told, mut go) = oneshot::channel();
        let (mut place, turn) = {
            let mut state = self.state();
            if let Some((why, left)) = state.gate.shut(began) {
                return Err(Refused::Shut(why, left));
            }
            let (ticket, turn) = state.gate.ask(ask, began);
            state.waiting.insert(ticket, told);
            (Place { admission: self.clone(), ticket, held: true }, turn)
        };
        loop {
            let now = Instant::now();
            let wake = self.let_through(now);
            tokio::select! {
                biased;
                // The sender is removed only when the call is admitted or this place is dropped, so the channel
                // cannot close earlier.
                _told = &mut go => {
                    place.held = false;
                    return Ok(Permit { admission: self.clone(), ticket: place.ticket, turn, ended: false });
                }
                () = tokio::time::sleep_until(wake.unwrap_or(now + POLL_INTERVAL).clamp(now, now + POLL_INTERVAL)) => {}
            }
            cancel.check().map_err(Refused::Cancelled)?;
            if let Some(shut) = self.shut() {
                return Err(shut);
            }
            if Instant::now() >= limit {
                return Err(Refused::Busy(limit - began));
            }
        }
    }

    /// Admits all calls that may start now. Returns the time at which the next waiting call may start.
    fn let_through(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        loop {
            match state.gate.next(now) {
                Next::Go(ticket) => {
                    let told = state.waiting.remove(&ticket).is_some_and(|waiter| waiter.send(()).is_ok());
                    if !told {
                        state.gate.end(ticket, &CallOutcome::Dropped, now);
                    }
                }
                Next::Wait(until) => return Some(until),
                Next::Idle => return None,
            }
        }
    }

    fn end(&self, ticket: Ticket, outcome: &CallOutcome) {
        let now = Instant::now();
        self.state().gate.end(ticket, outcome, now);
        self.let_through(now);
    }

    /// Returns the refusal that all calls get at present, or `None` if calls are admitted.
    pub fn shut(&self) -> Option<Refused> {
        self.state().gate.shut(Instant::now()).map(|(why, left)| Refused::Shut(why, left))
    }

    /// Returns the limit of tokens per minute, as configured or as reported by the provider. Returns `None` if there
    /// is no limit.
    pub fn tokens_per_minute(&self) -> Option<u64> {
        self.state().gate.tokens_per_minute().map(|limit| limit as u64)
    }

    pub fn status(&self) -> GateStatus {
        self.state().gate.status(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    pub fn end(mut self, outcome: &CallOutcome) {
        self.ended = true;
        self.admission.end(self.ticket, outcome);
    }

    /// Returns the position of this call in the queue. Pass it in [`Ask::turn`] when the call is retried.
    pub fn turn(&self) -> Turn {
        self.turn
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.ended {
            self.admission.end(self.ticket, &CallOutcome::Dropped);
        }
    }
}

/// Keeps a call in the queue. Dropping this value removes the call from the queue.
struct Place {
    admission: Arc<Admission>,
    ticket: Ticket,
    held: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let now = Instant::now();
        let mut state = self.admission.state();
        state.gate.leave(self.ticket);
        // The call was admitted at the same moment.
        if state.waiting.remove(&self.ticket).is_none() {
            state.gate.end(self.ticket, &CallOutcome::Dropped, now);
        }
        drop(state);
        self.admission.let_through(now);
    }
}

impl Refused {
    /// Converts the refusal to an error that consumes no attempt: of class unavailable if the gate is shut, and else of
    /// class throttled. If the work was cancelled, returns the error of the cancellation instead. `name` is the name of
    /// the model.
    pub fn into_error(self, name: &str) -> StageError {
        let (code, message, wait) = match self {
            Refused::Cancelled(error) => return error,
            Refused::Busy(wait) => {
                let text = format!("{name} has reached its rate limits; retrying later");
                return StageError::throttled(text, Some(wait)).with_code("busy");
            }
            Refused::Shut(Shut::QuotaSpent, wait) => (
                "insufficient_quota",
                format!(
                    "the account of {name} has no credit left: add credit or raise the account's limit; \
                     work then resumes automatically"
                ),
                wait,
            ),
            Refused::Shut(Shut::Down, wait) => ("provider_down", format!("{name} is failing or not answering"), wait),
            Refused::Shut(Shut::Unreadable, wait) => {
                ("provider_unreadable", format!("the answers of {name} cannot be read"), wait)
            }
        };
        StageError { retry_after: Some(wait), ..StageError::unavailable(code, message) }
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
