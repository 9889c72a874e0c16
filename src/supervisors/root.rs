//! Defines the root of the supervision tree, which owns all pools and services. If a pool escalates a failure, the
//! root restarts the pool, up to a limited number of times. After that, the root itself fails. The process then ends
//! with a separate exit code, and the next run resumes from durable state.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::command::{Command, observe};
use super::restart::{Intensity, Restart, RestartOptions};
use super::shared::{InFlightTable, Phase};
use super::stats::PoolStats;
use super::testing::Alive;

/// Describes the failure that makes the process end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{child}: {reason}")]
pub struct SystemFailure {
    /// Name of the pool or service that could not continue.
    pub child: String,
    pub reason: String,
}

/// Reports a failure to the root, because the pool or service that failed cannot handle it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Escalation {
    child: Arc<str>,
    reason: String,
    /// True if restarting the pool may help.
    restartable: bool,
}

impl Escalation {
    pub fn crash(child: &Arc<str>, reason: String) -> Self {
        Self { child: child.clone(), reason, restartable: true }
    }

    pub fn system(child: &Arc<str>, reason: String) -> Self {
        Self { child: child.clone(), reason, restartable: false }
    }
}

struct Root {
    options: RestartOptions,
    shared: Rc<Shared>,
    intensities: BTreeMap<Arc<str>, Intensity>,
    _alive: Alive,
}

struct Shared {
    children: RefCell<BTreeMap<Arc<str>, Child>>,
    failure: watch::Sender<Option<SystemFailure>>,
    table: Arc<InFlightTable>,
}

#[derive(Clone)]
enum Child {
    Pool(Recipient<Command>),
    Service(Rc<RefCell<ServiceStats>>),
}

/// Describes the state of a service at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServiceStats {
    pub restarts: u64,
    pub state: &'static str,
    pub waiting: usize,
}

/// Describes the supervision tree at one moment. The page `/supervision` shows this description as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Tree {
    pub failure: Option<String>,
    pub pools: Vec<PoolStats>,
    pub services: BTreeMap<String, ServiceStats>,
    pub jobs: Vec<JobLine>,
}

/// Describes one job in the supervision tree.
#[derive(Clone, Debug, Serialize)]
pub struct JobLine {
    pub pool: String,
    pub job: String,
    pub phase: Phase,
    pub seconds: f64,
    pub failed_attempts: u32,
}

/// Gives access to the root of the supervision tree. Clones refer to the same root.
#[derive(Clone)]
pub struct RootHandle {
    root: Addr<Root>,
    shared: Rc<Shared>,
}

impl RootHandle {
    /// Starts the root on the current local task set.
    pub fn start(options: RestartOptions) -> Self {
        let shared =
            Rc::new(Shared { children: RefCell::default(), failure: watch::Sender::new(None), table: Arc::default() });
        let root = Root { options, shared: shared.clone(), intensities: BTreeMap::new(), _alive: Alive::new() };
        Self { root: root.start(), shared }
    }

    /// Waits until the root fails, and returns the failure. Waits forever if the root never fails.
    pub async fn failed(&self) -> SystemFailure {
        let mut failure = self.shared.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub fn failure(&self) -> Option<SystemFailure> {
        self.shared.failure.borrow().clone()
    }

    /// Returns the current state of all pools, services and jobs. The jobs are read from a shared table, so they can
    /// be listed even while an actor is busy.
    pub async fn tree(&self) -> Tree {
        let children: Vec<_> = self.shared.children.borrow().iter().map(|(n, c)| (n.clone(), c.clone())).collect();
        let (mut pools, mut services) = (Vec::new(), BTreeMap::new());
        for (name, child) in children {
            match child {
                Child::Pool(commands) => pools.extend(observe(&commands).await),
                Child::Service(stats) => {
                    services.insert(name.to_string(), stats.borrow().clone());
                }
            }
        }
        let jobs = self.shared.table.iter().map(|line| JobLine {
            pool: line.key().0.to_string(),
            job: line.key().1.clone(),
            phase: line.phase,
            seconds: line.since.elapsed().as_secs_f64(),
            failed_attempts: line.failed_attempts,
        });
        let mut jobs: Vec<_> = jobs.collect();
        jobs.sort_by(|a, b| (&a.pool, &a.job).cmp(&(&b.pool, &b.job)));
        Tree { failure: self.failure().map(|f| f.to_string()), pools, services, jobs }
    }

    /// Ends the root actor. The children of the root do not end; the code that started them must drain or halt them.
    pub fn stop(&self) {
        self.root.do_send(Stop);
    }

    pub fn in_flight_table(&self) -> &Arc<InFlightTable> {
        &self.shared.table
    }

    pub(super) fn adopt(&self, name: &Arc<str>, commands: Recipient<Command>) {
        self.shared.children.borrow_mut().insert(name.clone(), Child::Pool(commands));
    }

    pub(super) fn adopt_service(&self, name: &Arc<str>, stats: Rc<RefCell<ServiceStats>>) {
        self.shared.children.borrow_mut().insert(name.clone(), Child::Service(stats));
    }

    pub(super) fn escalate(&self, escalation: Escalation) {
        self.root.do_send(escalation);
    }

    /// Removes a pool or service that ended normally.
    pub(super) fn ended(&self, name: &Arc<str>) {
        self.shared.children.borrow_mut().remove(name);
    }

    /// Reports that the supervisor of a pool died. Such a death is a defect of the kernel. The pool's jobs are
    /// durable, but no actor in this process handles these jobs any more.
    pub(super) fn died(&self, name: &Arc<str>) {
        // This function is called from `drop`, possibly during a panic. It must not panic itself.
        self.fail(name, "the supervisor of the pool died".to_owned());
    }

    fn fail(&self, child: &str, reason: String) {
        fail(&self.shared, child, reason);
    }
}

/// Records the failure of the root. Only the first failure is recorded.
fn fail(shared: &Shared, child: &str, reason: String) {
    shared.failure.send_if_modified(|failure| {
        if failure.is_some() {
            return false;
        }
        *failure = Some(SystemFailure { child: child.to_owned(), reason });
        true
    });
}

impl Actor for Root {
    type Context = Context<Self>;
}

impl Handler<Escalation> for Root {
    type Result = ();

    fn handle(&mut self, escalation: Escalation, ctx: &mut Context<Self>) {
        let Escalation { child, reason, restartable } = escalation;
        tracing::error!(child = &*child, reason, "supervisor escalated a failure");
        if !restartable {
            fail(&self.shared, &child, reason);
            return;
        }
        let intensity = self.intensities.entry(child.clone()).or_default();
        match intensity.died(Instant::now(), self.options.max_escalations, &self.options) {
            Restart::Escalate => fail(&self.shared, &child, reason),
            Restart::After(wait) => {
                // Wait at least one second, so that the cause of the deaths may disappear.
                ctx.run_later(wait.max(Duration::from_secs(1)), move |root, _| {
                    if let Some(Child::Pool(commands)) = root.shared.children.borrow().get(&child) {
                        commands.do_send(Command::Restart);
                    }
                });
            }
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Root {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
