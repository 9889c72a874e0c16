//! Starts, retires and replaces the workers of a pool.

use std::time::Duration;

use actix::prelude::*;
use docweir_core::error::{ErrorClass, StageError};
use tokio::time::Instant;

use super::PoolSupervisor;
use crate::supervisors::job::Stage;
use crate::supervisors::restart::Restart;
use crate::supervisors::root::Escalation;
use crate::supervisors::scaling::Sample;
use crate::supervisors::stats::PoolState;
use crate::supervisors::worker::{Retire, Worker, WorkerId};

impl<S: Stage> PoolSupervisor<S> {
    pub(super) fn spawn_worker(&mut self, ctx: &mut Context<Self>) {
        let id = self.next_worker;
        self.next_worker += 1;
        let worker = Worker::new(id, self.stage.clone(), self.sink.clone(), ctx.address().recipient());
        self.workers.insert(id, worker.start());
    }

    /// Starts or retires workers until the wanted number is reached. Busy workers retire when their job ends.
    pub(super) fn fit_workers(&mut self, ctx: &mut Context<Self>) {
        while self.workers.len() + self.restarting < self.want {
            self.spawn_worker(ctx);
        }
        while self.workers.len() > self.want
            && let Some(id) = self.idle.pop()
        {
            self.retire(id);
        }
    }

    pub(super) fn retire(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.remove(&id) {
            worker.do_send(Retire);
        }
    }

    /// Marks a worker as idle. If the pool has more workers than wanted, retires the worker instead.
    pub(super) fn free(&mut self, worker: WorkerId) {
        if !self.workers.contains_key(&worker) || self.idle.contains(&worker) {
            return;
        }
        if self.workers.len() > self.want {
            self.retire(worker);
        } else {
            self.idle.push(worker);
        }
    }

    /// Replaces a worker whose attempt did not end within its deadline and the following grace period.
    pub(super) fn hung(&mut self, id: WorkerId, ctx: &mut Context<Self>) {
        self.workers.remove(&id);
        self.metrics.hung();
        if self.stage.may_leave_threads() {
            self.metrics.abandoned();
            if self.metrics.counts.abandoned > u64::from(self.options.restart.max_abandoned) {
                let reason = format!(
                    "{} attempts exceeded their deadline and may have left threads behind",
                    self.metrics.counts.abandoned
                );
                self.state = PoolState::Failed;
                self.root.escalate(Escalation::system(&self.shared.name, reason));
                return;
            }
        }
        self.fit_workers(ctx);
    }

    pub(super) fn died(&mut self, id: WorkerId, reason: Option<StageError>, ctx: &mut Context<Self>) {
        if self.workers.remove(&id).is_none() {
            return;
        }
        self.idle.retain(|idle| *idle != id);
        let reason = reason.unwrap_or_else(|| StageError::crash("worker_died", "the worker panicked and died"));
        if let Some(busy) = self.busy.remove(&id) {
            busy.cancel.cancel();
            let error = StageError { class: ErrorClass::Crash, ..reason.clone() };
            self.failed(busy.envelope, error, ctx);
        }
        if self.workers.len() + self.restarting >= self.want {
            return;
        }
        match self.intensity.died(Instant::now(), self.options.restart.max_restarts, &self.options.restart) {
            Restart::After(wait) => {
                self.metrics.restarted();
                self.restarting += 1;
                ctx.run_later(wait, |pool, ctx| {
                    pool.restarting -= 1;
                    pool.fit_workers(ctx);
                });
            }
            Restart::Escalate => {
                self.state = PoolState::Escalated;
                let reason = format!("workers of the pool died too often; last error: {reason}");
                self.root.escalate(Escalation::crash(&self.shared.name, reason));
            }
        }
    }

    pub(super) fn scale(&mut self) -> usize {
        let (queued, oldest) = self.queue_age();
        let sample = Sample {
            workers: self.want,
            busy: self.busy.len(),
            queued,
            oldest_seconds: oldest.map_or(0.0, |d| d.as_secs_f64()),
        };
        self.scaler.observe(sample, self.options.min_workers, self.options.max_workers, &self.options.scaling)
    }

    pub(super) fn queue_age(&self) -> (usize, Option<Duration>) {
        let lanes = self.shared.lanes();
        (lanes.len(), lanes.iter().map(|e| e.queued_at.elapsed()).max())
    }
}
