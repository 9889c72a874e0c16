//! Measures the cost of supervision alone: jobs pass through five supervised pools, and the stage of each pool does
//! nothing.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use docweir::supervisors::{
    AttemptOutcome, Begin, Cancel, Closed, DrainMode, JobSpec, Lane, OutcomeSink, Persisted, PoolHandle, PoolOptions,
    RootHandle, Stage, Verdict, Work, start_pool,
};
use docweir_core::error::StageError;

use crate::median;

const JOBS: usize = 50_000;

pub fn run() {
    let rates = (0..3).map(|_| actix::System::new().block_on(through_five_pools())).collect();
    println!("  five stages that do nothing, without storage: {:.0} documents/s", median(rates));
    let rates = (0..3).map(|_| actix::System::new().block_on(crate::overhead::nothing_but_records())).collect();
    println!("  the same, with every step written to the control store: {:.0} documents/s\n", median(rates));
}

async fn through_five_pools() -> f64 {
    let root = RootHandle::start(Default::default());
    let mut pools: Vec<PoolHandle<()>> = Vec::new();
    for stage in (1..=5).rev() {
        let next = pools.last().cloned();
        pools.push(start_pool(options(&format!("stage-{stage}")), Nothing, Rc::new(Forward(next)), &root));
    }
    let started = Instant::now();
    for job in 0..JOBS {
        pools[4].submit(spec(job)).await.unwrap();
    }
    for pool in pools.iter().rev() {
        pool.drain(DrainMode::Finish).await;
    }
    let rate = JOBS as f64 / started.elapsed().as_secs_f64();
    root.stop();
    rate
}

pub fn options(name: &str) -> PoolOptions {
    PoolOptions {
        name: name.to_owned(),
        min_workers: 2,
        max_workers: 2,
        max_messages: 64,
        max_bytes: 64 << 20,
        deadline: Duration::from_secs(60),
        retry: Default::default(),
        restart: Default::default(),
        scaling: Default::default(),
    }
}

fn spec(job: usize) -> JobSpec<()> {
    JobSpec {
        payload: Arc::new(()),
        id: job.to_string(),
        tenant: "default".into(),
        weight: 1,
        bytes: 1024,
        lane: Lane::Normal,
        failed_attempts: 0,
    }
}

struct Nothing;

impl Stage for Nothing {
    type Job = ();
    type Done = ();
    type Park = ();

    fn finished_bytes(&self, (): &(), (): &()) -> usize {
        0
    }

    fn worker(&self) -> Result<Box<dyn Work<(), (), ()>>, StageError> {
        Ok(Box::new(Nothing))
    }
}

#[async_trait]
impl Work<(), (), ()> for Nothing {
    async fn run(&mut self, _: &Arc<()>, _: &Cancel) -> AttemptOutcome<(), ()> {
        AttemptOutcome::Done(())
    }
}

struct Forward(Option<PoolHandle<()>>);

#[async_trait(?Send)]
impl OutcomeSink<(), (), ()> for Forward {
    async fn begin(&self, _: &Arc<()>, _: u32) -> Result<Begin, StageError> {
        Ok(Begin::Go)
    }

    async fn persist(&self, _: &Arc<()>, _: &Verdict<(), ()>) -> Result<Persisted, StageError> {
        Ok(Persisted::Release)
    }

    async fn forward(&self, _: &Arc<()>, (): ()) -> Result<(), Closed> {
        match &self.0 {
            Some(next) => next.submit(spec(0)).await,
            None => Ok(()),
        }
    }
}
