//! Performs all writes on a single thread, with group commit.
//!
//! Operations wait in a bounded queue. The thread takes all waiting operations and runs each of them in its own
//! savepoint inside one transaction. It commits the transaction once, and only then answers the callers. Many workers
//! therefore share the cost of one commit, and a refused operation does not affect the others. A commit is synced to
//! the disk only if an operation in it requires this ([`CommitDurability::PowerLoss`]). See
//! docs/decisions/0002-control-store.md for the reasons.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use docweir_core::clock::{SharedClock, UnixMicros, timestamp};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::failure::{OpResult, told};
use super::options::SqliteControlOptions;
use super::unit::{Terms, Unit, prune};
use crate::control::ControlError;
use crate::control::stamps::Stamps;
use crate::sqlite::Failure;

/// Time between two searches for expired rows, in microseconds.
const PRUNE_INTERVAL: UnixMicros = 600_000_000;

/// Describes the failures that a commit must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitDurability {
    /// The commit survives the end of the process. A power loss may undo the commit; the operation can then be
    /// repeated.
    Process,
    /// The commit survives a power loss.
    PowerLoss,
}

/// Describes how an operation ended inside the transaction. The reply to the caller is sent once the result of the
/// commit is known.
enum Ended {
    Keep(Reply),
    Undo(Reply),
    Failed(Failure, Reply),
}

type Reply = Box<dyn FnOnce(Result<(), Failure>) + Send>;
type Work = Box<dyn FnOnce(Result<&mut Unit<'_>, Failure>) -> Option<Ended> + Send>;

struct Job {
    durability: CommitDurability,
    work: Work,
}

pub struct SqliteWriter {
    location: String,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl SqliteWriter {
    pub fn start(
        connection: Connection,
        location: String,
        options: &SqliteControlOptions,
        clock: SharedClock,
    ) -> Result<Self, Failure> {
        // The savepoint of each operation keeps the pages that the operation changes, to restore them. In a file, that
        // costs more than all other writes. Set after an upgrade, whose statements may need much temporary space.
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(|e| Failure::of(&location, &e))?;
        let (jobs, queue) = mpsc::channel(options.queue_operations.max(1));
        let thread = WriterThread {
            connection,
            location: location.clone(),
            queue,
            clock,
            batch: options.batch_operations.max(1),
            terms: Terms::of(options),
            stamps: Stamps::default(),
            // Default setting of a new connection.
            syncs: true,
            prune_from: UnixMicros::MIN,
        };
        let spawned = std::thread::Builder::new().name("docweir-control".into()).spawn(move || thread.run());
        let thread = spawned.map_err(|e| {
            Failure::new(&location, format!("can't start a thread: {e}"), "raise the limit of threads or processes")
        })?;
        Ok(Self { location, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `op` inside the next transaction and returns once the transaction is committed. If the caller's future is
    /// dropped before `op` starts, `op` is skipped.
    pub async fn write<T, F>(&self, durability: CommitDurability, op: F) -> Result<T, ControlError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Unit<'_>) -> OpResult<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel::<Result<T, ControlError>>();
        let location = self.location.clone();
        let work: Work = Box::new(move |unit| {
            if reply.is_closed() {
                return None;
            }
            let result = match unit {
                Ok(unit) => op(unit).map_err(|e| told(&location, e)),
                Err(failure) => Err(Ok(failure)),
            };
            // A refusal may depend on an earlier operation of the same transaction. If the commit fails, report that
            // failure instead.
            Some(match result {
                Ok(value) => Ended::Keep(Box::new(move |committed| {
                    let _ = reply.send(committed.map(|()| value).map_err(Into::into));
                })),
                Err(Err(refusal)) => Ended::Undo(Box::new(move |committed| {
                    let _ = reply.send(Err(committed.err().map_or(refusal, Into::into)));
                })),
                Err(Ok(failure)) => {
                    let told = failure.clone();
                    Ended::Failed(failure, Box::new(move |_| drop(reply.send(Err(told.into())))))
                }
            })
        });
        let jobs = self.jobs.as_ref().ok_or_else(|| self.ended())?;
        jobs.send(Job { durability, work }).await.map_err(|_| self.ended())?;
        answer.await.map_err(|_| self.ended())?
    }

    fn ended(&self) -> ControlError {
        let reason = "an operation panicked in the writer thread, or the thread has ended; see the log for the reason";
        Failure::new(&self.location, reason, "restart docweir and report the problem with the log").into()
    }
}

impl Drop for SqliteWriter {
    /// Writes the queued operations before the thread ends, so that every waiting caller gets an answer.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct WriterThread {
    connection: Connection,
    location: String,
    queue: mpsc::Receiver<Job>,
    clock: SharedClock,
    batch: usize,
    terms: Terms,
    stamps: Stamps,
    /// True if `PRAGMA synchronous` is `FULL`, false if it is `NORMAL`.
    syncs: bool,
    /// Time from which expired rows are looked for.
    prune_from: UnixMicros,
}

impl WriterThread {
    fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let mut jobs = vec![first];
            while jobs.len() < self.batch {
                let Ok(job) = self.queue.try_recv() else { break };
                jobs.push(job);
            }
            self.commit(jobs);
            // Only a process that writes prunes, and only while no operation waits.
            while self.queue.is_empty() && self.clock.now() >= self.prune_from {
                self.prune();
            }
        }
    }

    fn prune(&mut self) {
        let now = self.clock.now();
        match prune(&self.connection, now) {
            // More rows may be expired.
            Ok(1..) => return,
            Ok(0) => {}
            Err(error) => {
                tracing::debug!(%error, location = %self.location, "expired rows not removed; retried later");
            }
        }
        self.prune_from = now.saturating_add(PRUNE_INTERVAL);
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let durable = jobs.iter().any(|j| j.durability == CommitDurability::PowerLoss);
        let mut answers = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter();
        let result = self.run_in_transaction(durable, &mut jobs, &mut answers);
        if let Err(failure) = &result {
            // Dropping the transaction has rolled it back. Operations that did not run get the same failure.
            if !failure.busy {
                tracing::error!(?failure, "control store commit failed");
            }
            for job in jobs {
                if let Some(Ended::Keep(answer) | Ended::Undo(answer) | Ended::Failed(_, answer)) =
                    (job.work)(Err(failure.clone()))
                {
                    answers.push(answer);
                }
            }
        }
        for answer in answers {
            answer(result.clone());
        }
    }

    fn run_in_transaction(
        &mut self,
        durable: bool,
        jobs: &mut impl Iterator<Item = Job>,
        answers: &mut Vec<Reply>,
    ) -> Result<(), Failure> {
        let location = self.location.clone();
        let failed = |e: rusqlite::Error| Failure::of(&location, &e);
        if self.syncs != durable {
            // The pragma is not allowed inside a transaction. A synced commit also syncs the earlier ones: they share
            // one log.
            let level = if durable { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level).map_err(failed)?;
            self.syncs = durable;
        }
        let now = self.clock.now();
        let transaction =
            rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        let mut added: HashMap<String, f64> = HashMap::new();
        for job in jobs {
            run(&self.connection, "SAVEPOINT operation").map_err(failed)?;
            let mut unit = Unit::new(&self.connection, now, &self.terms, &mut self.stamps);
            let ended = catch_unwind(AssertUnwindSafe(|| (job.work)(Ok(&mut unit))));
            let metrics = unit.into_metrics();
            let keep = match ended {
                Ok(Some(Ended::Keep(answer))) => {
                    answers.push(answer);
                    true
                }
                Ok(Some(Ended::Undo(answer))) => {
                    answers.push(answer);
                    false
                }
                Ok(Some(Ended::Failed(failure, answer))) => {
                    answers.push(answer);
                    // On some errors SQLite rolls back the whole transaction. Then no other operation is left to
                    // commit.
                    if failure.fatal || self.connection.is_autocommit() {
                        return Err(failure);
                    }
                    false
                }
                // The caller is gone.
                Ok(None) => false,
                Err(_) => {
                    tracing::error!(location = %self.location, "control store operation panicked");
                    false
                }
            };
            if keep {
                for (metric, by) in metrics {
                    *added.entry(metric).or_default() += by;
                }
            } else {
                run(&self.connection, "ROLLBACK TO operation").map_err(failed)?;
            }
            run(&self.connection, "RELEASE operation").map_err(failed)?;
        }
        let at = timestamp(now);
        let date = at.get(..10).unwrap_or(&at);
        for (metric, by) in added {
            let upsert = "INSERT INTO pipeline_metrics_daily (date, metric_type, value, updated_at) \
                VALUES (?1, ?2, ?3, ?4) ON CONFLICT (date, metric_type) \
                DO UPDATE SET value = value + excluded.value, updated_at = excluded.updated_at";
            let mut statement = self.connection.prepare_cached(upsert).map_err(failed)?;
            statement.execute(params![date, metric, by, at]).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}
