//! Connects a run to message queues. The run receives events from queues, and sends notifications about new vector
//! files to a queue.

use std::cell::RefCell;
use std::rc::Rc;

use crate::actors::intake::Intake;
use crate::actors::queues::backlog::PendingLimit;
use crate::actors::queues::compaction::{CompactionNotifier, Compactions};
use crate::actors::queues::events::BucketEvents;
use crate::actors::queues::{ConsumerConfig, Queues, busy_wait};
use crate::engine::Engine;
use crate::pipeline::RunError;
use crate::pipeline::pages::AbortOnDrop;
use crate::pipeline::tree::Tree;

/// Opens the queues that the run needs. Every run may need the queue for notifications about new vector files. Only
/// `docweir serve` also receives messages.
pub async fn queues(engine: &Engine, serves: bool) -> Result<Queues, RunError> {
    let options = &engine.config.settings.queues;
    let tells = engine.is_shared() && !options.skip_notification;
    let intake = options.intake.as_str();
    let compaction = options.compaction.as_str();
    let wanted = (if serves { intake } else { "" }, if serves || tells { compaction } else { "" });
    match engine.queues(wanted.0, wanted.1).await {
        // Compacting processes also poll by themselves.
        Err(error) if !serves => {
            tracing::warn!(%error, "compaction queue not opened; no notifications about new vector files");
            Ok(Queues::default())
        }
        found => found.map_err(|e| RunError::system("queues", e)),
    }
}

/// Starts a service that notifies the merging processes of new vector files. The service is started only if the index
/// is shared. It stops when the returned value is dropped.
pub fn set_compaction_notifier(engine: &Engine, queues: &Queues) -> Option<AbortOnDrop> {
    let skip = engine.config.settings.queues.skip_notification;
    let queue = queues.compaction.clone().filter(|_| engine.is_shared() && !skip)?;
    let (compaction_notifier, sending) = CompactionNotifier::to(queue);
    engine.set_compaction_notifier(compaction_notifier);
    Some(AbortOnDrop::of(sending))
}

/// Starts the consumers of the queues.
pub fn start(engine: &Engine, tree: &mut Tree, intake: &Intake, queues: Queues) {
    let settings = &engine.config.settings;
    let options = &settings.queues;
    if let Some(queue) = queues.intake {
        let handler = Rc::new(BucketEvents {
            intake: intake.clone(),
            watched: options.watched(&settings.buckets.artefacts),
            follow_removals: options.follow_removals,
        });
        let reading = ConsumerConfig {
            name: "events",
            queue,
            handler,
            at_once: options.messages,
            backlog: Some(Rc::new(PendingLimit { control: engine.control.clone(), max_pending: options.max_pending })),
            outages: tree.outages.clone(),
        };
        tree.consumers.start(reading, options, &settings.restart, &tree.root);
    }
    if let Some(queue) = queues.compaction {
        let handler = Rc::new(Compactions {
            open: engine.open_collection(),
            maintenance_config: tree.maintenance_config.clone(),
            root: tree.root.clone(),
            wait: busy_wait(options),
            own: (settings.state.collection.clone(), tree.maintenance.clone()),
            others: RefCell::default(),
        });
        // Only one merge runs at a time, because merges share memory and disk.
        let outages = tree.outages.clone();
        let reading = ConsumerConfig { name: "merge requests", queue, handler, at_once: 1, backlog: None, outages };
        tree.consumers.start(reading, options, &settings.restart, &tree.root);
    }
}
