//! What comes by queues: events of buckets, requests to merge.
//!
//! ```text
//! bucket ─▶ queue ─▶ consumer ─▶ events ─▶ control store ─▶ dispatcher        a message goes when its document is durable
//! committer ─▶ notices ─▶ queue ─▶ consumer ─▶ compaction ─▶ compactor
//! ```
//! [`consumer`] is the same for both: it receives while there is room, keeps what is in hand hidden, deletes what is done.

pub mod compaction;
pub mod consumer;
pub mod events;
mod options;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use options::{QueueOptions, queue_name};
use tokio::sync::watch;

use consumer::{Consumer, Handler, Room};
use docweir_stores::queues::Queue;

use crate::supervisors::service::{Running, start_service};
use crate::supervisors::{RestartOptions, RootHandle};

/// The queues that a configuration names, found.
#[derive(Clone, Default)]
pub struct Queues {
    pub intake: Option<Arc<dyn Queue>>,
    pub compaction: Option<Arc<dyn Queue>>,
}

/// The consumers of a run.
#[derive(Default)]
pub struct Consumers {
    stop: watch::Sender<bool>,
    running: Vec<Running>,
}

/// What one of them reads, and for whom.
pub struct Reading {
    pub name: &'static str,
    pub queue: Arc<dyn Queue>,
    pub handler: Rc<dyn Handler>,
    /// Messages in hand at once.
    pub at_once: usize,
    pub room: Room,
}

impl Consumers {
    pub fn start(&mut self, reading: Reading, options: &QueueOptions, restart: &RestartOptions, root: &RootHandle) {
        let Reading { name, queue, handler, at_once, room } = reading;
        let consumer =
            Rc::new(Consumer { queue, handler, options: options.clone(), at_once, room, stop: self.stop.subscribe() });
        let (_, running) = start_service::<(), _, _>(name, 1, restart.clone(), root, move |_| {
            let consumer = consumer.clone();
            async move { consumer.run().await }
        });
        self.running.push(running);
    }

    /// Receives nothing more, lets what is in hand come to its end, and gives back what does not.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        for running in &mut self.running {
            running.ended().await;
        }
    }
}

/// Longest wait before somebody who merges a collection is asked again.
pub fn busy_wait(options: &QueueOptions) -> Duration {
    Duration::from_secs_f64(options.backoff_max_seconds)
}
