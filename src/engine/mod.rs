//! Opens everything that a command needs, in the right order, with errors that say what to do.
//!
//! An engine holds no lock, so reading during a run is always possible. A command that writes must acquire the lock of
//! the state folder.

mod enrich;
mod fingerprint;
mod model;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use docweir_core::cache::EmbeddingCache;
use docweir_core::clock::{SharedClock, SystemClock};
use docweir_index::{OnCommit, OpenCollection, VectorStore};
use docweir_objects::ObjectStore;
use docweir_objects::lease::LeaseRegister;
use docweir_providers::account::{Account, Alerts, BudgetOptions, ReportFn};
use docweir_providers::openai::Client;
use docweir_providers::prices::Price;
use docweir_providers::secrets::Secrets;
use docweir_stages::embed::{Embedder, FetchProgress};
use docweir_stores::batches::Batches;
use docweir_stores::cache::SqliteEmbeddingCache;
use docweir_stores::control::ControlStore;
use docweir_stores::ledger::Ledger;
use docweir_stores::record_table::LazyTables;
use docweir_stores::state::{LockError, LockHolder, OrchestratorLock, StateError, StateFolder};
use docweir_target::{OpenTarget, Target};

pub use enrich::{counting_enricher, enricher_without_ledger};
pub use fingerprint::{PIPELINE_FORMAT, fingerprint};
pub use model::{client as endpoint_client, counter, embedder};

use crate::actors::maintenance::MaintenanceConfig;
use crate::actors::quarantine::QuarantineStore;
use crate::actors::queues::Queues;
use crate::actors::queues::compaction::CompactionNotifier;
use crate::backends::{self, KeepsConditions, Opening, StateStores, cloud};
use crate::config::{Config, Provider, Settings};
use crate::exit::{EngineError, Exit};
use crate::intake::originals::Originals;
use crate::telemetry::CloudWatchMode;
use crate::telemetry::publisher::{EmfLines, Lines, MetricSink, Publisher};

/// Holds the stores of one state folder and the settings that they were opened with.
pub struct Engine {
    pub config: Config,
    pub state: StateFolder,
    pub clock: SharedClock,
    pub objects: Arc<dyn ObjectStore>,
    pub control: Arc<dyn ControlStore>,
    pub originals: Arc<dyn Originals>,
    secrets: Secrets,
    stores: Arc<dyn StateStores>,
    /// Check that must succeed before the first commit. `None` if manifests are in a store that always honours
    /// the conditions of writes.
    conditions: Option<Arc<dyn KeepsConditions>>,
    /// Notifier for new vector files, if one is set.
    compaction_notifier: Arc<OnceLock<CompactionNotifier>>,
    /// Function that opens collections of the target that replaces the index. `None` means that vectors are written to
    /// the index.
    targets: Option<OpenTarget>,
}

/// Names the run and the stage that calls to a provider are charged to.
pub struct Payer {
    /// Id of the run. Commands without a run use the name of the stage instead, such as `search`.
    pub run: String,
    pub stage: &'static str,
    /// Function that is called with a message for the user, for example when a share of the budget is spent.
    pub tell: ReportFn,
}

impl Payer {
    pub fn search() -> Self {
        Self::briefly("search")
    }

    /// Returns the payer for a preview of a single stage.
    pub fn look() -> Self {
        Self::briefly("look")
    }

    fn briefly(stage: &'static str) -> Self {
        Self { run: stage.into(), stage, tell: Arc::new(|text| tracing::warn!("{text}")) }
    }
}

/// Returns access to the secrets that the settings name, without making a call.
pub fn secrets(settings: &Settings) -> Secrets {
    Secrets::new(settings.secrets.clone(), cloud::vault(settings))
}

impl Engine {
    /// Opens the state, and creates the state folder if it does not exist.
    pub async fn create(config: Config) -> Result<Self, EngineError> {
        let state = StateFolder::open_or_create(Path::new(&config.settings.state.folder))?;
        Self::over(config, state).await
    }

    /// Opens existing state. If the index does not exist, the error says how to create one.
    pub async fn open(config: Config) -> Result<Self, EngineError> {
        let folder = Path::new(&config.settings.state.folder);
        if !config.settings.state.is_local() {
            // The local folder holds only data that can be recreated.
            return Self::create(config).await;
        }
        let state = StateFolder::open_existing(folder).map_err(|e| match e {
            StateError::Missing(path) => {
                let text = format!(
                    "no index at {}: create one with `docweir ingest FOLDER`, or choose another with `--state FOLDER`",
                    path.display()
                );
                EngineError::new(Exit::Failed, text)
            }
            other => other.into(),
        })?;
        Self::over(config, state).await
    }

    async fn over(config: Config, state: StateFolder) -> Result<Self, EngineError> {
        if let Err(error) = state.restrict(config.settings.state.group_access) {
            tracing::warn!(%error, folder = %state.root().display(), "access to the state folder not restricted");
        }
        let clock: SharedClock = Arc::new(SystemClock);
        let settings = &config.settings;
        let (opened, stores) = backends::open(Opening { settings, folder: &state, clock: &clock }).await?;
        let originals = cloud::originals(settings, &state.root().join("originals"));
        let secrets = secrets(settings);
        Ok(Self {
            state,
            clock,
            objects: opened.objects,
            control: stores.control(),
            originals,
            secrets,
            stores,
            conditions: opened.conditions,
            compaction_notifier: Arc::default(),
            targets: None,
            config,
        })
    }

    /// Checks that the object store of the vector files honours write conditions. Callers must run this check before
    /// the first commit.
    pub async fn can_commit(&self) -> Result<(), EngineError> {
        match &self.conditions {
            Some(place) => place.prove().await.map_err(EngineError::system),
            None => Ok(()),
        }
    }

    /// Returns the publisher of a run's metrics, if publishing is enabled. `lines` prints a line to standard output.
    pub async fn publisher(&self, lines: Lines) -> Result<Option<Arc<Publisher>>, EngineError> {
        let options = &self.config.settings.cloudwatch;
        let namespace = options.namespace.clone();
        let to: Box<dyn MetricSink> = match options.mode {
            CloudWatchMode::Off => return Ok(None),
            CloudWatchMode::Emf => Box::new(EmfLines { namespace, lines }),
            CloudWatchMode::Api => cloud::figures(&self.config.settings).await?,
        };
        Ok(Some(Publisher::new(options.clone(), self.clock.clone(), to)))
    }

    /// Returns whether other processes may work on the same documents at the same time.
    pub fn is_shared(&self) -> bool {
        self.stores.is_shared()
    }

    /// Opens the embedder and checks that its model matches the index. The first call on a machine downloads the
    /// model and reports to `progress`.
    pub async fn embedder(
        &self,
        payer: Payer,
        progress: &(dyn Fn(FetchProgress) + Send + Sync),
    ) -> Result<Arc<dyn Embedder>, EngineError> {
        let (settings, target) = (&self.config.settings.embed.options, self.target()?);
        let stored = target.model().await.map_err(EngineError::of_target)?;
        model::check(settings, stored.as_ref())?;
        let (account, collection) = (self.account(payer)?, &self.config.settings.state.collection);
        let prices = &self.config.settings.prices;
        let embedder = model::embedder(settings, collection, account, prices, &self.secrets, progress).await?;
        target.check_model(embedder.identity()).await.map_err(EngineError::of_target)?;
        Ok(embedder)
    }

    /// Returns the account that embedding is charged to, or `None` if the model is free of charge.
    pub fn account(&self, payer: Payer) -> Result<Option<Account>, EngineError> {
        let settings = &self.config.settings;
        if settings.embed.options.provider != Provider::Openai {
            return Ok(None);
        }
        let model = &settings.embed.options.openai.model;
        let alerts = Alerts::new(payer.tell.clone());
        Ok(Some(self.account_of(&payer, model.clone(), settings.prices.of(model), &alerts)?))
    }

    /// Returns the account that calls of a model are charged to.
    fn account_of(
        &self,
        payer: &Payer,
        model: String,
        price: Price,
        alerts: &Arc<Alerts>,
    ) -> Result<Account, EngineError> {
        let settings = &self.config.settings;
        Ok(Account {
            ledger: self.ledger()?,
            run: payer.run.clone(),
            stage: payer.stage,
            model,
            collection: settings.state.collection.clone(),
            price,
            // The budget per run does not apply to short commands.
            options: match payer.stage {
                "embedding" | "enrichment" => settings.budget.clone(),
                _ => BudgetOptions { run_usd: 0.0, ..settings.budget.clone() },
            },
            alerts: alerts.clone(),
        })
    }

    /// Opens the ledger of reserved and settled costs.
    pub fn ledger(&self) -> Result<Arc<dyn Ledger>, EngineError> {
        self.stores.ledger()
    }

    /// Returns the lease that elects the leader for batches, or `None` if only one process can work on batches.
    pub fn batch_lease(&self) -> Option<LeaseRegister> {
        self.stores.batch_lease()
    }

    /// Returns whether the ledger, the items and the batches have to be read. Returns false only if no call was ever
    /// charged and no item was ever enqueued. If the tables are shared, the result is always true. Otherwise, the
    /// result is true if the local file of the ledger exists.
    pub fn has_ledger(&self) -> bool {
        self.stores.may_have_batches()
    }

    /// Opens the store of items and batches.
    pub fn batches(&self) -> Result<Arc<dyn Batches>, EngineError> {
        self.stores.batches()
    }

    /// Returns the quarantine store, which holds the error reports and the copies of quarantined documents.
    pub fn quarantine_store(&self) -> QuarantineStore {
        let options = self.config.settings.quarantine.clone();
        QuarantineStore::new(self.objects.clone(), self.originals.clone(), self.clock.clone(), options)
    }

    /// Returns the options of the services that maintain this state's collections. `owner` names this process in their
    /// leases.
    pub fn maintenance(&self, owner: &str) -> MaintenanceConfig {
        let settings = &self.config.settings;
        MaintenanceConfig {
            collection: settings.state.collection.clone(),
            compaction: settings.compaction.clone(),
            retention: settings.retention,
            restart: settings.restart.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            owner: owner.to_owned(),
        }
    }

    /// Returns access to the user's tables that records are read from. The first use opens the connection.
    pub fn record_tables(&self) -> Arc<LazyTables> {
        let settings = self.config.settings.clone();
        Arc::new(LazyTables::new(move || {
            let settings = settings.clone();
            Box::pin(async move { cloud::record_tables(&settings).await })
        }))
    }

    /// Creates a client for the configured endpoint.
    pub fn endpoint_client(&self) -> Result<Client, EngineError> {
        model::client(&self.config.settings.embed.options.openai, &self.secrets)
    }

    /// Returns the folder that stores batch results until they are imported, and creates it if necessary.
    pub fn batch_folder(&self) -> Result<PathBuf, EngineError> {
        let folder = self.state.root().join("batches");
        std::fs::create_dir_all(&folder)
            .map_err(|e| EngineError::new(Exit::System, format!("cannot create folder {}: {e}", folder.display())))?;
        Ok(folder)
    }

    /// Returns a function that opens any collection of this state.
    pub fn open_collection(&self) -> OpenCollection {
        let (objects, clock, options) =
            (self.objects.clone(), self.clock.clone(), self.config.settings.vectors.clone());
        let compaction_notifier = self.compaction_notifier.clone();
        Arc::new(move |name| {
            let compaction_notifier = compaction_notifier.get().cloned();
            let added = compaction_notifier.map(|compaction_notifier| -> OnCommit {
                Arc::new(move |name, committed| compaction_notifier.added(name, &committed.file, committed.rows))
            });
            let opened = VectorStore::new(objects.clone(), name, clock.clone(), options.clone())?;
            Ok(Arc::new(opened.telling(added)))
        })
    }

    /// Replaces the index as the target of vectors, for programs that use Docweir as a library.
    pub fn with_targets(self, targets: OpenTarget) -> Self {
        Self { targets: Some(targets), ..self }
    }

    /// Returns a function that opens any collection that vectors are written to. The collection belongs to the index,
    /// or to the target that replaces the index.
    pub fn open_target(&self) -> OpenTarget {
        match &self.targets {
            Some(targets) => targets.clone(),
            None => {
                let open = self.open_collection();
                Arc::new(move |name| Ok(open(name)?))
            }
        }
    }

    /// Opens the configured collection of the index, or of the target that replaces the index.
    pub fn target(&self) -> Result<Arc<dyn Target>, EngineError> {
        (self.open_target())(&self.config.settings.state.collection).map_err(EngineError::of_target)
    }

    /// Sets the notifier that reports new vector files. It applies to collections that are opened after this call.
    pub fn set_compaction_notifier(&self, compaction_notifier: CompactionNotifier) {
        let _ = self.compaction_notifier.set(compaction_notifier);
    }

    /// Waits briefly until pending notifications are sent.
    pub async fn flush_notices(&self) {
        if let Some(compaction_notifier) = self.compaction_notifier.get() {
            compaction_notifier.flush().await;
        }
    }

    /// Opens the event queue `intake` and the notification queue `compaction`. Each argument is the URL or the name
    /// of a queue, or an empty string if there is no such queue.
    pub async fn queues(&self, intake: &str, compaction: &str) -> Result<Queues, EngineError> {
        if intake.is_empty() && compaction.is_empty() {
            return Ok(Queues::default());
        }
        cloud::queues(&self.config.settings, intake, compaction).await
    }

    /// Opens the configured collection of the index.
    pub fn vectors(&self) -> Result<Arc<VectorStore>, EngineError> {
        Ok((self.open_collection())(&self.config.settings.state.collection)?)
    }

    /// Opens the cache of vectors. Never fails, because an unusable cache behaves like an empty cache.
    pub fn cache(&self) -> Arc<dyn EmbeddingCache> {
        if let Err(error) = std::fs::create_dir_all(self.state.cache()) {
            tracing::warn!(%error, "cache folder not created; vectors are not cached");
        }
        Arc::new(SqliteEmbeddingCache::open(&self.state.embedding_cache_db(), self.config.settings.cache.clone()))
    }

    /// Returns the other process that holds the lock of the state folder, if that process is alive. The check only
    /// reads the lock file. If the check acquired the lock instead, a run that starts at the same moment would be
    /// refused.
    pub fn working(&self) -> Option<LockHolder> {
        let note = std::fs::read(self.state.root().join("lock")).ok()?;
        let held: LockHolder = serde_json::from_slice(&note).ok()?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(held.pid).ok()?)?;
        let alive = match rustix::process::test_kill_process(pid) {
            Ok(()) => true,
            // A process of another user counts as alive.
            Err(error) => error == rustix::io::Errno::PERM,
        };
        let other = held.pid != std::process::id();
        (alive && other).then(|| LockHolder { path: self.state.root().to_owned(), ..held })
    }

    /// Acquires the lock of the state folder. The lock is held until the returned value is dropped.
    pub fn lock(&self, command: &str) -> Result<OrchestratorLock, EngineError> {
        self.state.lock_orchestrator(command, self.clock.as_ref()).map_err(|e| match e {
            LockError::Held(held) => EngineError::new(Exit::Busy, held.to_string()),
            LockError::State(error) => error.into(),
        })
    }

    /// Returns the end of a sentence that says which process handles a request in the control store, such as
    /// "by the next `docweir ingest`".
    pub fn picked_up(&self) -> String {
        match self.working() {
            Some(held) => format!("by the running `{}` (process {})", held.command, held.pid),
            None if self.is_shared() => "by a running `docweir serve`".into(),
            None => "by the next `docweir ingest`".into(),
        }
    }
}
