//! Tracks whether batches and records still have work that a run must wait for.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant};

use crate::actors::outcomes::Claims;

/// Shares the progress of the batch services with the code that enqueues items and with the dispatcher.
pub struct BatchProgress {
    /// Counter that grows by one whenever items are enqueued. A service reads the counter before each round of work,
    /// and reports this value after the round. If the counter still has the reported value, no items were enqueued
    /// since that round began.
    asks: AtomicU64,
    /// Wakes the submitter when there may be items to send.
    pub submit: Notify,
    /// Wakes the poller when there may be results to import.
    pub poll: Notify,
    /// Wakes the recorder when there may be records to embed by live calls, or to remove.
    pub record: Notify,
    /// Collections with too few records to be worth a batch. Their records are embedded by live calls.
    live: Mutex<HashSet<String>>,
    /// Batches that are being imported, or that wait to be imported.
    harvesting: Mutex<HashSet<String>>,
    state: watch::Sender<BatchProgressState>,
    /// True once no more files or records will arrive.
    pub intake_finished: Arc<AtomicBool>,
    pub claims: Arc<Claims>,
    /// True if the run waits until every batch has ended.
    wait: bool,
    /// True once no more work may be started.
    stopping: AtomicBool,
    /// True if the run has services that send and import batches.
    batching: bool,
    /// Time to wait for further items: if no item is enqueued for this long, the waiting items are sent. Set only for
    /// `docweir serve`, whose intake never ends.
    gathers: Mutex<Option<Gathering>>,
}

#[derive(Clone, Copy)]
struct Gathering {
    time: Duration,
    last: Instant,
}

/// Describes the work that remains after a round of sending.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    /// True if some batches have not ended yet.
    pub batches: bool,
    /// True if some items wait to be sent.
    pub items: bool,
}

/// Holds the state that the batch services report. A run may end when this state shows no pending work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BatchProgressState {
    /// Value that the counter `asks` had before the last round of sending. Set only if no more items were expected at
    /// that time. `None` if more items may arrive, or if an ended batch may have left items that must be sent again.
    sent_up_to: Option<u64>,
    /// Value that the counter `asks` had before the last round of live embedding. Set only if that round embedded
    /// every record that needed it. `None` if the round failed.
    recorded_up_to: Option<u64>,
    /// True if sending has stopped and waiting does not help, for example because the budget is spent.
    stopped: bool,
    /// True once the open batches were polled.
    polled: bool,
    /// Number of batches that are being imported, or that wait to be imported.
    harvesting: usize,
    /// True if some batches have not ended yet.
    open: bool,
    /// True if some items wait to be sent.
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

    /// Records that items were enqueued, and wakes the services.
    pub fn asked(&self) {
        if let Some(gathering) = self.gathering().as_mut() {
            gathering.last = Instant::now();
        }
        self.asks.fetch_add(1, Ordering::AcqRel);
        self.submit.notify_one();
        self.record.notify_one();
    }

    /// Records that no more items will be enqueued, and wakes the services.
    pub fn intake_ended(&self) {
        self.asked();
    }

    /// Returns the value of the counter of enqueued items.
    pub fn asks(&self) -> u64 {
        self.asks.load(Ordering::Acquire)
    }

    /// Returns whether no more items are expected. For most commands, this is true once intake has finished and this
    /// process holds no claims. The intake of `docweir serve` never finishes. Instead, no item must have been
    /// enqueued for the time that [`Self::gather`] sets.
    pub fn is_quiet(&self) -> bool {
        let over = match *self.gathering() {
            Some(gathering) => gathering.last.elapsed() >= gathering.time,
            None => self.intake_finished.load(Ordering::Acquire),
        };
        over && self.claims.is_empty()
    }

    /// Sets how long to wait for further items: if no item is enqueued for `time`, the waiting items are sent. Only
    /// `docweir serve` uses this function, because its intake never ends.
    pub fn gather(&self, time: Duration) {
        *self.gathering() = Some(Gathering { time, last: Instant::now() });
    }

    fn gathering(&self) -> MutexGuard<'_, Option<Gathering>> {
        self.gathers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the run waits until every batch has ended.
    pub fn waits(&self) -> bool {
        self.wait
    }

    /// Records that another process is the leader for batches, and therefore does the work of this run's batch
    /// services. `asks` is the value that the counter of enqueued items had when this was found. `quiet` is true if
    /// no more items were expected at that time.
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

    /// Resets the state after a change of the leader, because the new leader has not reported anything yet.
    pub fn anew(&self) {
        self.harvesting().clear();
        self.change(|s| *s = BatchProgressState::default());
        self.asked();
    }

    /// Records the end of a round of sending. `asks` is the value that the counter of enqueued items had at the start
    /// of the round. `quiet` is true if no more items were expected at that time.
    pub fn sent(&self, asks: u64, quiet: bool, stopped: bool, left: Left) {
        self.change(|s| {
            s.sent_up_to = quiet.then_some(asks);
            s.stopped = stopped;
            (s.open, s.waiting) = (left.batches, left.items);
        });
    }

    /// Records that the open batches were polled.
    pub fn polled(&self) {
        self.change(|s| s.polled = true);
    }

    /// Marks a batch as being imported. Returns `false` if the batch was already marked.
    pub fn harvest_begins(&self, batch: &str) -> bool {
        let new = self.harvesting().insert(batch.to_owned());
        self.change(|s| s.harvesting = self.harvesting().len());
        new
    }

    /// Removes all marks, because the harvester has just started and is not importing any batch.
    pub fn harvest_anew(&self) {
        self.harvesting().clear();
        self.change(|s| s.harvesting = 0);
        self.poll.notify_one();
    }

    /// Records that the import of a batch has ended.
    pub fn harvest_ends(&self, batch: &str) {
        self.harvesting().remove(batch);
        self.change(|s| {
            s.harvesting = self.harvesting().len();
            // Items without a result must be sent again.
            s.sent_up_to = None;
        });
        self.asked();
    }

    fn harvesting(&self) -> MutexGuard<'_, HashSet<String>> {
        self.harvesting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the end of a round of live embedding. `asks` is the value that the counter of enqueued items had at
    /// the start of the round.
    pub fn recorded(&self, asks: u64, done: bool, stopped: bool) {
        self.change(|s| {
            s.recorded_up_to = done.then_some(asks);
            s.stopped |= stopped;
        });
    }

    /// Tells the services that the run ends. The services finish their running work and start nothing more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.record.notify_one();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Switches a collection to live calls. Called for a collection with too few records to be worth a batch.
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

    /// Returns whether the run may end as far as batches and records are concerned.
    pub fn is_complete(&self) -> bool {
        let state = *self.state.borrow();
        let asks = Some(self.asks());
        let still = !self.batching || (state.sent_up_to == asks && state.polled && state.harvesting == 0);
        let left = state.open || (state.waiting && !state.stopped);
        still && state.recorded_up_to == asks && !(self.wait && left)
    }

    /// Returns a receiver that reports every change of the state.
    pub fn watch(&self) -> Changes {
        Changes(self.state.subscribe())
    }
}

/// Reports changes of the progress of batches.
pub struct Changes(watch::Receiver<BatchProgressState>);

impl Changes {
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    pub async fn next(&mut self) {
        // The sender lives as long as the `BatchProgress`.
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
            assert!(!o.is_complete(), "the open batches were not polled yet");
            o.polled();
            assert_eq!(o.is_complete(), !wait);
            assert!(o.harvest_begins("b") && !o.harvest_begins("b"));
            assert!(!o.is_complete());
            o.harvest_ends("b");
            assert!(!o.is_complete(), "items without a result must be sent again");
            o.recorded(o.asks(), true, false);
            o.sent(o.asks(), true, false, none);
            assert!(o.is_complete());
            o.asked();
            assert!(!o.is_complete(), "items were enqueued after the round");
            o.sent(o.asks(), true, true, all);
            assert!(!o.is_complete(), "records may need live embedding");
            o.recorded(o.asks(), true, false);
            assert_eq!(o.is_complete(), !wait, "the run waits for open batches");
            o.sent(o.asks(), true, true, Left { batches: false, items: true });
            assert!(o.is_complete(), "the budget is spent and no batch is open");
        }
    }
}
