//! Handles messages from queues: events of buckets, and merge requests.
//!
//! ```text
//! bucket ─▶ queue ─▶ consumer ─▶ events ─▶ control store ─▶ dispatcher  deletes a message once its document is durable
//! committer ─▶ notifier ─▶ queue ─▶ consumer ─▶ compaction ─▶ compactor
//! ```
//! [`consumer`] serves both queues. A consumer receives messages only while the backlog is short ([`backlog`]). It keeps
//! the received messages hidden from other consumers, and deletes each message that was handled. The message of a
//! bucket event is deleted once the document is durable in the control store.

pub mod backlog;
pub mod compaction;
pub mod consumer;
pub mod events;
mod held;
mod options;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use options::{QueueOptions, queue_name};
use tokio::sync::watch;

use backlog::Backlog;
use consumer::{Consumer, Handler};
use docweir_stores::queues::Queue;

use crate::actors::outages::Outages;
use crate::supervisors::service::{Running, start_service};
use crate::supervisors::{RestartOptions, RootHandle};

/// Holds the queues that the configuration names.
#[derive(Clone, Default)]
pub struct Queues {
    pub intake: Option<Arc<dyn Queue>>,
    pub compaction: Option<Arc<dyn Queue>>,
}

/// Owns the running consumers of a run.
#[derive(Default)]
pub struct Consumers {
    stop: watch::Sender<bool>,
    running: Vec<Running>,
}

/// Configures one consumer.
pub struct ConsumerConfig {
    /// Name of the consumer, under which its service runs and outages of its queue are reported.
    pub name: &'static str,
    pub queue: Arc<dyn Queue>,
    pub handler: Rc<dyn Handler>,
    /// Maximum number of messages that are handled at the same time.
    pub at_once: usize,
    pub backlog: Option<Rc<dyn Backlog>>,
    pub outages: Arc<Outages>,
}

impl Consumers {
    pub fn start(
        &mut self,
        reading: ConsumerConfig,
        options: &QueueOptions,
        restart: &RestartOptions,
        root: &RootHandle,
    ) {
        let ConsumerConfig { name, queue, handler, at_once, backlog, outages } = reading;
        let (options, stop) = (options.clone(), self.stop.subscribe());
        let consumer = Rc::new(Consumer { name, queue, handler, options, at_once, backlog, outages, stop });
        let (_, running) = start_service::<(), _, _>(name, 1, restart.clone(), root, move |_| {
            let consumer = consumer.clone();
            async move { consumer.run().await }
        });
        self.running.push(running);
    }

    /// Stops receiving messages, and gives the held messages a short time to be handled. Messages that are not
    /// handled in this time are returned to their queues.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        for running in &mut self.running {
            running.ended().await;
        }
    }
}

/// Returns the time after which a merge request is delivered again, if another process is merging.
pub fn busy_wait(options: &QueueOptions) -> Duration {
    Duration::from_secs_f64(options.backoff_max_seconds)
}
