//! Whether anything is still to come of batches: what a run looks at before it ends.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant};

use crate::actors::outcomes::Claims;

/// Shared by the batch services, by whoever puts items down, and by the dispatcher.
pub struct BatchProgress {
    /// Grows when items were put down.
    asks: AtomicU64,
    /// There may be something to send.
    pub submit: Notify,
    /// There may be something to take in.
    pub poll: Notify,
    /// There may be records to embed at once, or to remove.
    pub record: Notify,
    /// Collections whose records are not worth a batch.
    live: Mutex<HashSet<String>>,
    /// Batches that are being taken in, or are about to be.
    harvesting: Mutex<HashSet<String>>,
    state: watch::Sender<BatchProgressState>,
    /// No more files or records will come.
    pub intake_finished: Arc<AtomicBool>,
    pub claims: Arc<Claims>,
    /// Stay until every batch has ended.
    wait: bool,
    /// No more work is to be begun.
    stopping: AtomicBool,
    /// Whether there are services that send and take in batches.
    batching: bool,
    /// Of a service, whose intake has no end: quiet is when nothing was put down for so long.
    gathers: Mutex<Option<Gathering>>,
}

#[derive(Clone, Copy)]
struct Gathering {
    time: Duration,
    last: Instant,
}

/// What a round of sending has left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    /// Batches that have not ended.
    pub batches: bool,
    /// Items that are to be sent.
    pub items: bool,
}

/// What the services know. A run may end when nothing of it moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BatchProgressState {
    /// Everything that was put down up to this ask, after intake had finished, was sent as far as it can be.
    sent_up_to: Option<u64>,
    /// Records that are embedded at once are, up to this ask.
    recorded_up_to: Option<u64>,
    /// Nothing more can be sent for a reason that waiting does not mend: a spent budget.
    stopped: bool,
    /// Open batches were looked at once.
    polled: bool,
    /// Batches that are taken in just now, or are about to be.
    harvesting: usize,
    /// There are batches that have not ended.
    open: bool,
    /// There are items that wait to be sent.
    waiting: bool,
}

impl BatchProgress {
    pub fn new(intake_finished: Arc<AtomicBool>, claims: Arc<Claims>, wait: bool, batching: bool) -> Arc<Self> {
        Arc::new(Self {
            asks: AtomicU64::new(0),
            submit: Notify::new(),
            poll: Notify::new(),
            record: Notify::new(),
            live: Mutex::default(),
            harvesting: Mutex::default(),
            state: watch::Sender::new(BatchProgressState::default()),
            intake_finished,
            claims,
            wait,
            stopping: AtomicBool::new(false),
            batching,
            gathers: Mutex::default(),
        })
    }

    /// Items were put down.
    pub fn asked(&self) {
        if let Some(gathering) = self.gathering().as_mut() {
            gathering.last = Instant::now();
        }
        self.asks.fetch_add(1, Ordering::AcqRel);
        self.submit.notify_one();
        self.record.notify_one();
    }

    /// No more will be put down: what waits is all there is.
    pub fn intake_ended(&self) {
        self.asked();
    }

    pub fn asks(&self) -> u64 {
        self.asks.load(Ordering::Acquire)
    }

    /// Nothing more is being put down just now: what waits is all there is.
    pub fn is_quiet(&self) -> bool {
        let over = match *self.gathering() {
            Some(gathering) => gathering.last.elapsed() >= gathering.time,
            None => self.intake_finished.load(Ordering::Acquire),
        };
        over && self.claims.is_empty()
    }

    /// Intake goes on for ever: what waits is sent when nothing was put down for so long.
    pub fn gather(&self, time: Duration) {
        *self.gathering() = Some(Gathering { time, last: Instant::now() });
    }

    fn gathering(&self) -> MutexGuard<'_, Option<Gathering>> {
        self.gathers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the run stays until every batch has ended.
    pub fn waits(&self) -> bool {
        self.wait
    }

    /// Another process looks after batches: what was put down up to this ask is its own to send.
    pub fn led_elsewhere(&self, asks: u64, quiet: bool, left: Left) {
        self.change(|s| {
            *s = BatchProgressState {
                sent_up_to: quiet.then_some(asks),
                recorded_up_to: Some(asks),
                polled: true,
                open: left.batches,
                waiting: left.items,
                ..BatchProgressState::default()
            };
        });
    }

    /// Whoever looks after batches from now on knows nothing of them yet.
    pub fn anew(&self) {
        self.harvesting().clear();
        self.change(|s| *s = BatchProgressState::default());
        self.asked();
    }

    /// A round of sending is over that began at an ask, and quiet or not.
    pub fn sent(&self, asks: u64, quiet: bool, stopped: bool, left: Left) {
        self.change(|s| {
            s.sent_up_to = quiet.then_some(asks);
            s.stopped = stopped;
            (s.open, s.waiting) = (left.batches, left.items);
        });
    }

    pub fn polled(&self) {
        self.change(|s| s.polled = true);
    }

    /// `false` where it has begun already.
    pub fn harvest_begins(&self, batch: &str) -> bool {
        let new = self.harvesting().insert(batch.to_owned());
        self.change(|s| s.harvesting = self.harvesting().len());
        new
    }

    /// Nothing is being taken in: the harvester has only just begun.
    pub fn harvest_anew(&self) {
        self.harvesting().clear();
        self.change(|s| s.harvesting = 0);
        self.poll.notify_one();
    }

    pub fn harvest_ends(&self, batch: &str) {
        self.harvesting().remove(batch);
        self.change(|s| {
            s.harvesting = self.harvesting().len();
            // What was not answered is to be sent again.
            s.sent_up_to = None;
        });
        self.asked();
    }

    fn harvesting(&self) -> MutexGuard<'_, HashSet<String>> {
        self.harvesting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A round of live records is over that began at an ask.
    pub fn recorded(&self, asks: u64, done: bool, stopped: bool) {
        self.change(|s| {
            s.recorded_up_to = done.then_some(asks);
            s.stopped |= stopped;
        });
    }

    /// The run ends: what is under way is finished, and nothing more is begun.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.record.notify_one();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The records of a collection are not worth a batch.
    pub fn go_live(&self, collection: &str) {
        if self.live().insert(collection.to_owned()) {
            self.asked();
        }
    }

    pub fn is_live(&self, collection: &str) -> bool {
        self.live().contains(collection)
    }

    fn live(&self) -> MutexGuard<'_, HashSet<String>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut BatchProgressState)) {
        self.state.send_modify(change);
    }

    /// Whether a run that has nothing else to do may end.
    pub fn is_complete(&self) -> bool {
        let state = *self.state.borrow();
        let asks = Some(self.asks());
        let still = !self.batching || (state.sent_up_to == asks && state.polled && state.harvesting == 0);
        let left = state.open || (state.waiting && !state.stopped);
        still && state.recorded_up_to == asks && !(self.wait && left)
    }

    /// Every change of it.
    pub fn watch(&self) -> Changes {
        Changes(self.state.subscribe())
    }
}

pub struct Changes(watch::Receiver<BatchProgressState>);

impl Changes {
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    pub async fn next(&mut self) {
        // The sender lives as long as the batch_progress.
        let _ = self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_when_nothing_moves() {
        let (all, none) = (Left { batches: true, items: true }, Left::default());
        for wait in [false, true] {
            let finished: Arc<AtomicBool> = Arc::default();
            let o = BatchProgress::new(finished.clone(), Arc::default(), wait, true);
            assert!(!o.is_quiet() && !o.is_complete());
            finished.store(true, Ordering::Release);
            o.asked();
            o.recorded(o.asks(), true, false);
            o.sent(o.asks(), o.is_quiet(), false, all);
            assert!(!o.is_complete(), "not looked yet at what is open");
            o.polled();
            assert_eq!(o.is_complete(), !wait);
            assert!(o.harvest_begins("b") && !o.harvest_begins("b"));
            assert!(!o.is_complete());
            o.harvest_ends("b");
            assert!(!o.is_complete(), "what is missing is to be sent again");
            o.recorded(o.asks(), true, false);
            o.sent(o.asks(), true, false, none);
            assert!(o.is_complete());
            o.asked();
            assert!(!o.is_complete(), "somebody came late");
            o.sent(o.asks(), true, true, all);
            assert!(!o.is_complete(), "records may be embedded at once");
            o.recorded(o.asks(), true, false);
            assert_eq!(o.is_complete(), !wait, "what was paid for is waited for");
            o.sent(o.asks(), true, true, Left { batches: false, items: true });
            assert!(o.is_complete(), "without money there is nothing else to wait for");
        }
    }
}
