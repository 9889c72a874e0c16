//! Ends a pool, either by a drain or by an immediate halt.

use actix::prelude::*;
use tokio::sync::oneshot;

use super::PoolSupervisor;
use crate::supervisors::command::DrainMode;
use crate::supervisors::job::{Stage, Verdict};
use crate::supervisors::stats::PoolState;
use crate::supervisors::worker::Retire;

impl<S: Stage> PoolSupervisor<S> {
    pub(super) fn drain(&mut self, mode: DrainMode, done: oneshot::Sender<()>, ctx: &mut Context<Self>) {
        self.drained.push(done);
        self.shared.close();
        if self.draining != Some(DrainMode::Release) {
            self.draining = Some(mode);
        }
        if self.state == PoolState::Running {
            self.state = PoolState::Draining;
        }
        if mode == DrainMode::Release {
            let mut given_back: Vec<_> = self.waiting.drain().map(|(_, envelope)| envelope).collect();
            {
                let mut lanes = self.shared.lanes();
                given_back.extend(std::iter::from_fn(|| lanes.pop()));
            }
            for envelope in given_back {
                self.persist(envelope, Verdict::Released, ctx);
            }
        }
        self.check_drained(ctx);
    }

    /// Ends the pool if it is draining and holds no more jobs, and then notifies the callers of `drain`.
    pub(super) fn check_drained(&mut self, ctx: &mut Context<Self>) {
        if self.draining.is_none() || self.persisting + self.forwarding + self.busy.len() + self.waiting.len() > 0 {
            return;
        }
        // A submitter may already have a permit but may not have queued its job yet.
        if self.draining == Some(DrainMode::Release) {
            let late: Vec<_> = {
                let mut lanes = self.shared.lanes();
                std::iter::from_fn(|| lanes.pop()).collect()
            };
            if !late.is_empty() {
                for envelope in late {
                    self.persist(envelope, Verdict::Released, ctx);
                }
                return;
            }
        }
        if self.shared.lanes().is_empty() && self.shared.held() == 0 {
            self.finish(ctx);
        }
    }

    pub(super) fn finish(&mut self, ctx: &mut Context<Self>) {
        self.state = PoolState::Ended;
        self.guard.armed = false;
        self.root.ended(&self.shared.name);
        for (_, worker) in self.workers.drain() {
            worker.do_send(Retire);
        }
        for done in self.drained.drain(..) {
            let _ = done.send(());
        }
        ctx.stop();
    }

    pub(super) fn halt(&mut self, ctx: &mut Context<Self>) {
        self.shared.close();
        for (_, busy) in self.busy.drain() {
            busy.cancel.cancel();
        }
        self.waiting.clear();
        while self.shared.lanes().pop().is_some() {}
        self.finish(ctx);
    }
}
