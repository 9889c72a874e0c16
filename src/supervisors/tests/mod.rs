//! Tests the kernel under a paused clock, with stages that fail on demand.

mod bounds;
mod faults;
mod lifecycle;
mod random;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::error::StageError;

use super::testing::universe;
use super::*;

/// Selects how a job behaves in one attempt.
#[derive(Clone, Debug)]
enum Act {
    Work(u64),
    /// Occupies its thread until a message arrives.
    Compute(Arc<Mutex<mpsc::Receiver<()>>>),
    Fail(StageError),
    Panic,
    Hang,
    /// Panics when the worker's state is dropped. The worker does not catch that panic, so its actor dies.
    PanicInDrop,
    Park,
}

#[derive(Debug)]
struct Task {
    id: u32,
    /// Behaviours of the job: one for each attempt, in order. The last behaviour also applies to all further
    /// attempts.
    acts: Vec<Act>,
    attempts: AtomicU32,
    /// Memory of the finished job, in bytes.
    finished_bytes: usize,
}

#[derive(Default)]
struct TestLog {
    /// Final verdicts on each job. A job must never have two final verdicts.
    ends: RefCell<BTreeMap<u32, Vec<&'static str>>>,
    /// Retries in order. Each entry contains the job, the wait in seconds, and whether the failed attempt counts.
    waits: RefCell<Vec<(u32, f64, bool)>>,
    begun: RefCell<Vec<u32>>,
    forwarded: RefCell<Vec<u32>>,
    workers_started: Cell<u32>,
    /// Number of further calls of `persist` that fail.
    persist_failures: Cell<u32>,
    /// Number of worker starts that will still fail with an error.
    start_errors: Cell<u32>,
    /// Number of further worker starts that panic.
    start_panics: Cell<u32>,
    /// Jobs that another process owns according to the fake `begin`.
    fence: RefCell<Vec<u32>>,
    /// Jobs that another process owns according to the fake `persist`.
    fence_late: RefCell<Vec<u32>>,
    attempts: Arc<Attempts>,
    /// End of an outage, during which `begin` and `persist` fail.
    outage_until: Cell<Option<tokio::time::Instant>>,
    /// Number of reports that an outage lasts, and that it is over.
    outage_reports: Cell<(u32, u32)>,
}

/// Counts the attempts that are running, on whatever thread.
#[derive(Default)]
struct Attempts {
    busy: AtomicU32,
    most_busy: AtomicU32,
}

impl TestLog {
    fn busy(&self) -> u32 {
        self.attempts.busy.load(SeqCst)
    }

    fn most_busy(&self) -> u32 {
        self.attempts.most_busy.load(SeqCst)
    }

    fn ended(&self, id: u32, how: &'static str) {
        self.ends.borrow_mut().entry(id).or_default().push(how);
    }

    fn count(&self, how: &str) -> usize {
        self.ends.borrow().values().flatten().filter(|h| **h == how).count()
    }

    fn available(&self) -> Result<(), StageError> {
        match self.outage_until.get() {
            Some(until) if tokio::time::Instant::now() < until => {
                Err(StageError::unavailable("control_store", "connection refused"))
            }
            _ => Ok(()),
        }
    }

    fn of(&self, id: u32) -> Vec<&'static str> {
        self.ends.borrow().get(&id).cloned().unwrap_or_default()
    }
}

struct TestStage(Rc<TestLog>);

impl Stage for TestStage {
    type Job = Task;
    type Done = u32;
    type Park = ();

    fn finished_bytes(&self, job: &Task, _: &u32) -> usize {
        job.finished_bytes
    }

    fn worker(&self) -> Result<Box<dyn Work<Task, u32, ()>>, StageError> {
        let log = &self.0;
        log.workers_started.set(log.workers_started.get() + 1);
        if log.start_panics.get() > 0 {
            log.start_panics.set(log.start_panics.get() - 1);
            panic!("the worker does not start");
        }
        if log.start_errors.get() > 0 {
            log.start_errors.set(log.start_errors.get() - 1);
            return Err(StageError::crash("no_start", "can't start"));
        }
        Ok(Box::new(TestWork { attempts: log.attempts.clone(), bomb: false }))
    }
}

struct TestWork {
    attempts: Arc<Attempts>,
    bomb: bool,
}

impl Drop for TestWork {
    fn drop(&mut self) {
        if self.bomb && !std::thread::panicking() {
            panic!("this drop panics");
        }
    }
}

struct Busy(Arc<Attempts>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl Work<Task, u32, ()> for TestWork {
    async fn run(&mut self, job: &Arc<Task>, _: &Cancel) -> AttemptOutcome<u32, ()> {
        let n = job.attempts.fetch_add(1, SeqCst) as usize;
        let busy = self.attempts.busy.fetch_add(1, SeqCst) + 1;
        self.attempts.most_busy.fetch_max(busy, SeqCst);
        let _busy = Busy(self.attempts.clone());
        match job.acts.get(n).or(job.acts.last()).unwrap_or(&Act::Work(0)) {
            Act::Work(ms) => {
                if *ms > 0 {
                    tokio::time::sleep(Duration::from_millis(*ms)).await;
                }
                AttemptOutcome::Done(job.id)
            }
            Act::Fail(error) => AttemptOutcome::Failed(error.clone()),
            Act::Panic => panic!("task {} panics", job.id),
            Act::Compute(released) => {
                let released = released.lock().unwrap().recv_timeout(Duration::from_secs(60));
                released
                    .map_or_else(|_| panic!("the actors' thread waits for the work"), |()| AttemptOutcome::Done(job.id))
            }
            Act::Hang => std::future::pending().await,
            Act::PanicInDrop => {
                self.bomb = true;
                panic!("and its state panics when it is dropped")
            }
            Act::Park => AttemptOutcome::Parked { reason: "a batch".into(), resume: () },
        }
    }
}

struct TestSink {
    log: Rc<TestLog>,
    next: Option<PoolHandle<Task>>,
}

#[async_trait(?Send)]
impl OutcomeSink<Task, u32, ()> for TestSink {
    async fn begin(&self, job: &Arc<Task>, _: u32) -> Result<Begin, StageError> {
        self.log.available()?;
        if self.log.fence.borrow().contains(&job.id) {
            return Ok(Begin::Drop);
        }
        self.log.begun.borrow_mut().push(job.id);
        Ok(Begin::Go)
    }

    async fn persist(&self, job: &Arc<Task>, verdict: &Verdict<u32, ()>) -> Result<Persisted, StageError> {
        tokio::task::yield_now().await;
        self.log.available()?;
        if self.log.persist_failures.get() > 0 {
            self.log.persist_failures.set(self.log.persist_failures.get() - 1);
            return Err(StageError::system("disk_full", "no space left"));
        }
        if self.log.fence_late.borrow().contains(&job.id) {
            return Ok(Persisted::Fenced);
        }
        match verdict {
            Verdict::Done(_) => self.log.ended(job.id, "done"),
            Verdict::Retry { wait, consumes_attempt, .. } => {
                self.log.waits.borrow_mut().push((job.id, wait.as_secs_f64(), *consumes_attempt));
            }
            Verdict::Quarantine { .. } => self.log.ended(job.id, "quarantined"),
            Verdict::Parked { .. } => self.log.ended(job.id, "parked"),
            Verdict::Released => self.log.ended(job.id, "released"),
        }
        Ok(Persisted::Release)
    }

    fn unavailable(&self, _: &StageError) {
        let (lasts, over) = self.log.outage_reports.get();
        self.log.outage_reports.set((lasts + 1, over));
    }

    fn available(&self, _: tokio::time::Instant) {
        let (lasts, over) = self.log.outage_reports.get();
        self.log.outage_reports.set((lasts, over + 1));
    }

    async fn forward(&self, job: &Arc<Task>, done: u32) -> Result<(), Closed> {
        self.log.forwarded.borrow_mut().push(done);
        match &self.next {
            Some(next) => next.submit(spec(done, job.acts.clone())).await,
            None => Ok(()),
        }
    }
}

fn spec(id: u32, acts: Vec<Act>) -> JobSpec<Task> {
    JobSpec {
        payload: Arc::new(Task { id, acts, attempts: 0.into(), finished_bytes: 1 }),
        id: id.to_string(),
        tenant: "t".into(),
        weight: 1,
        bytes: 1,
        lane: Lane::Normal,
        failed_attempts: 0,
    }
}

fn options(workers: usize, max_messages: usize) -> PoolOptions {
    PoolOptions {
        name: "test".into(),
        min_workers: workers,
        max_workers: workers,
        max_messages,
        max_bytes: 1 << 30,
        deadline: Duration::from_secs(10),
        retry: RetryOptions::default(),
        restart: RestartOptions::default(),
        scaling: ScalingOptions::default(),
    }
}

/// Runs `body` with a root and one pool, and halts the pool at the end.
fn with_pool<F, Fut>(options: PoolOptions, body: F) -> Rc<TestLog>
where
    F: FnOnce(PoolHandle<Task>, Rc<TestLog>, RootHandle) -> Fut,
    Fut: Future<Output = ()>,
{
    universe(async {
        let log = Rc::new(TestLog::default());
        let root = RootHandle::start(options.restart.clone());
        let sink = Rc::new(TestSink { log: log.clone(), next: None });
        let pool = start_pool(options, TestStage(log.clone()), sink, &root);
        body(pool.clone(), log.clone(), root.clone()).await;
        pool.halt();
        root.stop();
        log
    })
}

/// Waits on the virtual clock until `holds` returns true; panics after ten virtual minutes.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..600_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the condition was not met within ten virtual minutes");
}
