//! Starts what keeps a collection's files few: lock, compactor and janitor. A run has them beside its pipeline, and
//! `docweir compact` has them alone.

use std::rc::Rc;
use std::sync::Arc;

use docweir_core::clock::SharedClock;
use docweir_core::error::StageError;
use docweir_index::VectorStore;
use docweir_index::compaction::{Compactor, Mode};
use docweir_objects::ObjectStore;
use docweir_objects::lease::LeaseRegister;
use tokio::sync::oneshot;

use crate::actors::compactor::CompactorActor;
use crate::actors::janitor::Janitor;
use crate::actors::lock::Lock;
use crate::config::Settings;
use crate::engine::Engine;
use crate::messages::compaction::{Acquire, Compact, Compacted};
use crate::supervisors::RootHandle;
use crate::supervisors::service::{Inbox, Running, ServiceHandle, start_service};

/// The running services. Dropping it ends them.
pub struct Upkeep {
    compactor: ServiceHandle<Compact>,
    _running: [Running; 3],
}

/// What upkeep of any collection of a state folder needs.
#[derive(Clone)]
pub struct Keeping {
    pub settings: Settings,
    pub objects: Arc<dyn ObjectStore>,
    pub clock: SharedClock,
    /// Of leases.
    pub owner: String,
}

impl Keeping {
    pub fn of(engine: &Engine, owner: &str) -> Self {
        let (settings, objects) = (engine.config.settings.clone(), engine.objects.clone());
        Self { settings, objects, clock: engine.clock.clone(), owner: owner.to_owned() }
    }
}

impl Upkeep {
    pub fn over(keeping: &Keeping, vectors: &Arc<VectorStore>, root: &RootHandle) -> Self {
        let settings = &keeping.settings;
        let collection = vectors.collection();
        let key = format!("vectors/{collection}/LEASE");
        let register = Arc::new(LeaseRegister::new(keeping.objects.clone(), key, keeping.clock.clone()));
        // Those of the configured collection are the ones that there always are.
        let name = |what: &str| match collection == settings.state.collection {
            true => what.to_owned(),
            false => format!("{what} of {collection}"),
        };
        let (lock, locking) = start_lock(&name("lock"), settings, register, &keeping.owner, root);
        let (compactor, compacting) = start_compactor(&name("compactor"), settings, vectors, lock, root);
        let janitor = Rc::new(Janitor { vectors: vectors.clone(), options: settings.retention });
        let (_, collecting) =
            start_service::<(), _, _>(&name("janitor"), 1, settings.restart.clone(), root, move |_| {
                let janitor = janitor.clone();
                async move {
                    janitor.run().await;
                    Ok(())
                }
            });
        Self { compactor, _running: [locking, compacting, collecting] }
    }

    /// Merges what `mode` says and waits for it.
    pub async fn compact(&self, mode: Mode) -> Result<Compacted, StageError> {
        let gone = || StageError::transient("compactor_gone", "the compactor went away before it answered");
        let (answer, done) = oneshot::channel();
        self.compactor.send(Compact { mode, answer }).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

fn start_lock(
    name: &str,
    settings: &Settings,
    register: Arc<LeaseRegister>,
    owner: &str,
    root: &RootHandle,
) -> (ServiceHandle<Acquire>, Running) {
    let lock = Rc::new(Lock { register, holder: owner.to_owned(), options: settings.compaction.clone() });
    start_service(name, 1, settings.restart.clone(), root, move |inbox: Rc<Inbox<Acquire>>| {
        let lock = lock.clone();
        async move {
            lock.run(&inbox).await;
            Ok(())
        }
    })
}

fn start_compactor(
    name: &str,
    settings: &Settings,
    vectors: &Arc<VectorStore>,
    lock: ServiceHandle<Acquire>,
    root: &RootHandle,
) -> (ServiceHandle<Compact>, Running) {
    let (vectors, options) = (vectors.clone(), settings.compaction.clone());
    start_service(name, 1, settings.restart.clone(), root, move |inbox: Rc<Inbox<Compact>>| {
        let compactor = Compactor::new(vectors.clone(), options.clone());
        let mut actor = CompactorActor { compactor, lock: lock.clone() };
        async move {
            actor.run(&inbox).await;
            Ok(())
        }
    })
}
