//! Starts the services that keep the number of a collection's vector files small: lock, compactor and janitor. A run
//! starts these services alongside its pipeline, and `docweir compact` starts only them.

use std::rc::Rc;
use std::sync::Arc;

use docweir_core::clock::SharedClock;
use docweir_core::error::StageError;
use docweir_index::VectorStore;
use docweir_index::compaction::{CompactionOptions, Compactor, Mode};
use docweir_index::retention::RetentionOptions;
use docweir_objects::ObjectStore;
use docweir_objects::lease::LeaseRegister;
use tokio::sync::oneshot;

use crate::actors::compactor::CompactorActor;
use crate::actors::janitor::Janitor;
use crate::actors::lock::Lock;
use crate::messages::compaction::{Acquire, Compact, Compacted};
use crate::supervisors::service::{Inbox, Running, ServiceHandle, start_service};
use crate::supervisors::{RestartOptions, RootHandle};

/// Owns the running maintenance services of a collection. Dropping this value ends them.
pub struct MaintenanceServices {
    compactor: ServiceHandle<Compact>,
    _running: [Running; 3],
}

/// Configures the maintenance services of all collections.
#[derive(Clone)]
pub struct MaintenanceConfig {
    /// Name of the configured collection. The services of this collection have plain names such as `lock`. The names
    /// of all other collections' services end with the collection's name.
    pub collection: String,
    pub compaction: CompactionOptions,
    pub retention: RetentionOptions,
    pub restart: RestartOptions,
    pub objects: Arc<dyn ObjectStore>,
    pub clock: SharedClock,
    /// Name of the process in the leases that the services acquire.
    pub owner: String,
}

impl MaintenanceServices {
    /// Starts the maintenance services of one collection.
    pub fn start(config: &MaintenanceConfig, vectors: &Arc<VectorStore>, root: &RootHandle) -> Self {
        let collection = vectors.collection();
        let key = format!("vectors/{collection}/LEASE");
        let register = Arc::new(LeaseRegister::new(config.objects.clone(), key, config.clock.clone()));
        // The services of the configured collection have plain names. Other services have the collection in their
        // name.
        let name = |what: &str| match collection == config.collection {
            true => what.to_owned(),
            false => format!("{what} of {collection}"),
        };
        let (lock, locking) = start_lock(&name("lock"), config, register, root);
        let (compactor, compacting) = start_compactor(&name("compactor"), config, vectors, lock, root);
        let janitor = Rc::new(Janitor { vectors: vectors.clone(), options: config.retention });
        let (_, collecting) = start_service::<(), _, _>(&name("janitor"), 1, config.restart.clone(), root, move |_| {
            let janitor = janitor.clone();
            async move {
                janitor.run().await;
                Ok(())
            }
        });
        Self { compactor, _running: [locking, compacting, collecting] }
    }

    /// Requests a merge of the given mode, waits until the merge ends, and returns its result.
    pub async fn compact(&self, mode: Mode) -> Result<Compacted, StageError> {
        let gone = || StageError::transient("compactor_gone", "the compactor ended before it answered");
        let (answer, done) = oneshot::channel();
        self.compactor.send(Compact { mode, answer }).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

fn start_lock(
    name: &str,
    config: &MaintenanceConfig,
    register: Arc<LeaseRegister>,
    root: &RootHandle,
) -> (ServiceHandle<Acquire>, Running) {
    let lock = Rc::new(Lock { register, holder: config.owner.clone(), options: config.compaction.clone() });
    start_service(name, 1, config.restart.clone(), root, move |inbox: Rc<Inbox<Acquire>>| {
        let lock = lock.clone();
        async move {
            lock.run(&inbox).await;
            Ok(())
        }
    })
}

fn start_compactor(
    name: &str,
    config: &MaintenanceConfig,
    vectors: &Arc<VectorStore>,
    lock: ServiceHandle<Acquire>,
    root: &RootHandle,
) -> (ServiceHandle<Compact>, Running) {
    let (vectors, options) = (vectors.clone(), config.compaction.clone());
    start_service(name, 1, config.restart.clone(), root, move |inbox: Rc<Inbox<Compact>>| {
        let compactor = Compactor::new(vectors.clone(), options.clone());
        let mut actor = CompactorActor { compactor, lock: lock.clone() };
        async move {
            actor.run(&inbox).await;
            Ok(())
        }
    })
}
