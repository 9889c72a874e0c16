//! Holds the state that a pool's handles and its supervisor share: the limits, the queue and the counters.
//!
//! Permits limit both the number of jobs and the memory of jobs. Each job in the pool is wrapped in an envelope that
//! holds the job's permits. The permits are released when the envelope is dropped, whatever happened to the job. Jobs
//! wait in the lanes and not in the actor's mailbox, so commands never wait behind jobs. The mailbox holds only
//! commands and at most one wake-up.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use docweir_core::cancel::Cancel;
use docweir_core::error::ErrorClass;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Closed, JobSpec, Lanes, Streak};

/// Number of bytes that one memory permit stands for. A semaphore takes the number of requested permits as a 32-bit
/// integer. If each permit stood for one byte, a job could therefore have at most 4 GiB.
const UNIT: usize = 1024;

/// Names the phase of a job inside its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Queued,
    Running,
    WaitingForRetry,
    #[serde(rename = "settling")]
    Persisting,
    /// The job is finished and waits for room in the next pool.
    Forwarding,
}

/// Describes one job in the in-flight table.
#[derive(Clone, Debug)]
pub struct InFlight {
    pub phase: Phase,
    pub since: Instant,
    pub failed_attempts: u32,
    /// Cancels the attempt that is running.
    pub cancel: Option<Cancel>,
}

/// Cancels the attempts at a job that are running in any pool. Call this if the results of the job are no longer wanted.
pub fn cancel_job(table: &InFlightTable, id: &str) {
    for entry in table.iter().filter(|entry| entry.key().1 == id) {
        if let Some(cancel) = &entry.value().cancel {
            cancel.cancel();
        }
    }
}

/// Holds the state of each job in all pools, with `(pool, job)` as the key. The table can be read without asking an
/// actor.
pub type InFlightTable = DashMap<(Arc<str>, String), InFlight>;

/// Holds a job inside a pool, together with the job's permits.
pub(super) struct Envelope<J> {
    pub serial: u64,
    pub payload: Arc<J>,
    pub id: String,
    pub tenant: Arc<str>,
    pub weight: u32,
    pub lane: super::Lane,
    pub failed_attempts: u32,
    /// Number of consecutive failures of this job that consumed no attempt.
    pub in_a_row: u32,
    /// Class of the last of these failures, and time of the first.
    pub failing: Option<(ErrorClass, Instant)>,
    /// Time at which the last attempt was started.
    pub began: Instant,
    pub queued_at: Instant,
    pool: Arc<str>,
    table: Arc<InFlightTable>,
    _slot: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
    /// Number of memory permits that the job needs beyond those that it holds.
    owed: usize,
    all_owed: Arc<AtomicUsize>,
}

impl<J> Envelope<J> {
    /// Returns the failures in direct succession that consumed no attempt, before the failure that occurs now. System
    /// failures are counted on their own, because few of them end the process. A service that is overloaded refuses some
    /// calls and does not answer others, so these are counted together.
    pub fn streak(&mut self, class: ErrorClass) -> Streak {
        let (earlier, since) = self.failing.unwrap_or((class, Instant::now()));
        if (earlier == ErrorClass::System) != (class == ErrorClass::System) {
            self.in_a_row = 0;
        }
        self.failing = Some((class, since));
        Streak { failures: self.in_a_row, lasts: since.elapsed() }
    }

    /// Returns whether the job waits for the end of an outage.
    pub fn is_unavailable(&self) -> bool {
        self.failing.is_some_and(|(class, _)| class == ErrorClass::Unavailable)
    }

    /// Ends the streak of failures that consumed no attempt.
    pub fn end_streak(&mut self) {
        (self.in_a_row, self.failing) = (0, None);
    }

    /// Changes the memory that the job is charged for. Permits that are not needed any more are released. Missing
    /// permits are acquired if they are free. The others are owed: until they are repaid, the pool starts no more jobs.
    /// A finished job never waits for permits, because the jobs that hold them may wait for permits as well.
    pub fn recharge(&mut self, shared: &Shared<J>, bytes: usize) {
        self.repay();
        let (needed, held) = (shared.units(bytes) as usize, self.bytes.num_permits());
        if needed <= held {
            drop(self.bytes.split(held - needed));
            return;
        }
        let missing = needed - held;
        let free = shared.bytes.available_permits().min(missing);
        let more = shared.bytes.clone().try_acquire_many_owned(u32::try_from(free).unwrap_or(u32::MAX));
        let acquired = more.map_or(0, |more| {
            self.bytes.merge(more);
            free
        });
        self.owed = missing - acquired;
        self.all_owed.fetch_add(self.owed, Ordering::AcqRel);
    }

    /// Returns the memory that the job is charged for, in bytes.
    pub fn charged_bytes(&self) -> usize {
        (self.bytes.num_permits() + self.owed) * UNIT
    }

    fn repay(&mut self) {
        self.all_owed.fetch_sub(std::mem::take(&mut self.owed), Ordering::AcqRel);
    }

    pub fn phase(&self, phase: Phase) {
        self.enters(phase, None);
    }

    /// Records that an attempt begins, which `cancel` cancels.
    pub fn runs(&self, cancel: &Cancel) {
        self.enters(Phase::Running, Some(cancel.clone()));
    }

    fn enters(&self, phase: Phase, cancel: Option<Cancel>) {
        let line = InFlight { phase, since: Instant::now(), failed_attempts: self.failed_attempts, cancel };
        self.table.insert((self.pool.clone(), self.id.clone()), line);
    }
}

impl<J> Drop for Envelope<J> {
    fn drop(&mut self) {
        self.repay();
        self.table.remove(&(self.pool.clone(), std::mem::take(&mut self.id)));
    }
}

pub(super) struct Shared<J> {
    pub name: Arc<str>,
    pub lanes: Mutex<Lanes<Envelope<J>>>,
    pub slots: Arc<Semaphore>,
    pub bytes: Arc<Semaphore>,
    pub max_messages: usize,
    max_units: usize,
    /// Memory permits that finished jobs owe.
    owed: Arc<AtomicUsize>,
    pub table: Arc<InFlightTable>,
    wake_pending: AtomicBool,
    serial: AtomicU64,
}

impl<J> Shared<J> {
    pub fn new(name: &str, max_messages: usize, max_bytes: usize, table: Arc<InFlightTable>) -> Self {
        let max_units = max_bytes.div_ceil(UNIT).clamp(1, u32::MAX as usize);
        Self {
            name: name.into(),
            lanes: Mutex::default(),
            slots: Arc::new(Semaphore::new(max_messages)),
            bytes: Arc::new(Semaphore::new(max_units)),
            max_messages,
            max_units,
            owed: Arc::default(),
            table,
            wake_pending: AtomicBool::new(false),
            serial: AtomicU64::new(0),
        }
    }

    /// Waits until the pool has room for a job. The permit for the job itself is acquired first, and then the permits
    /// for the job's memory. Permits of each kind are granted in order of arrival, so small jobs cannot overtake a
    /// large job forever.
    pub async fn admit(&self, spec: JobSpec<J>) -> Result<Envelope<J>, Closed> {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| Closed)?;
        let bytes = self.bytes.clone().acquire_many_owned(self.units(spec.bytes)).await.map_err(|_| Closed)?;
        Ok(self.envelope(spec, slot, bytes))
    }

    /// Admits a job if the pool has room now. Otherwise returns an error that contains the job.
    pub fn try_admit(&self, spec: JobSpec<J>) -> Result<Envelope<J>, JobSpec<J>> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else { return Err(spec) };
        match self.bytes.clone().try_acquire_many_owned(self.units(spec.bytes)) {
            Ok(bytes) => Ok(self.envelope(spec, slot, bytes)),
            Err(_) => Err(spec),
        }
    }

    /// Returns the number of memory permits that a job needs. A job that exceeds the memory limit of the whole pool
    /// needs all permits and therefore runs alone.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).clamp(1, self.max_units)).unwrap_or(u32::MAX)
    }

    fn envelope(&self, spec: JobSpec<J>, slot: OwnedSemaphorePermit, bytes: OwnedSemaphorePermit) -> Envelope<J> {
        Envelope {
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            payload: spec.payload,
            id: spec.id,
            tenant: spec.tenant,
            weight: spec.weight,
            lane: spec.lane,
            failed_attempts: spec.failed_attempts,
            in_a_row: 0,
            failing: None,
            began: Instant::now(),
            queued_at: Instant::now(),
            pool: self.name.clone(),
            table: self.table.clone(),
            _slot: slot,
            bytes,
            owed: 0,
            all_owed: self.owed.clone(),
        }
    }

    /// Queues a job in its lane. Returns `true` if the supervisor must be woken.
    pub fn queue(&self, mut envelope: Envelope<J>) -> bool {
        envelope.queued_at = Instant::now();
        envelope.phase(Phase::Queued);
        self.lanes().push(envelope.lane, envelope.tenant.clone(), envelope.weight, envelope);
        !self.wake_pending.swap(true, Ordering::AcqRel)
    }

    /// Clears the pending wake-up. The supervisor calls this function before it reads the lanes.
    pub fn woken(&self) {
        self.wake_pending.store(false, Ordering::Release);
    }

    pub fn lanes(&self) -> std::sync::MutexGuard<'_, Lanes<Envelope<J>>> {
        self.lanes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns the number of jobs in the pool, in any phase.
    pub fn held(&self) -> usize {
        self.max_messages - self.slots.available_permits()
    }

    pub fn bytes_held(&self) -> usize {
        (self.max_units - self.bytes.available_permits() + self.owed.load(Ordering::Acquire)) * UNIT
    }

    /// Returns whether the jobs in the pool need more memory than its limit.
    pub fn is_overdrawn(&self) -> bool {
        self.owed.load(Ordering::Acquire) > 0
    }

    pub fn close(&self) {
        self.slots.close();
        self.bytes.close();
    }

    pub fn is_closed(&self) -> bool {
        self.slots.is_closed()
    }
}
