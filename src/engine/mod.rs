//! Opens everything that a command needs, in the right order, with errors that say what to do.
//!
//! An engine holds no lock, so reading during a run is always possible. A command that writes must acquire the lock of
//! the state folder.

mod enrich;
mod fingerprint;
mod model;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use docweir_core::cache::EmbeddingCache;
use docweir_core::clock::{SharedClock, SystemClock};
use docweir_core::files::open_regular;
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
use crate::backends::{self, Access, KeepsConditions, Opening, StateStores, cloud};
use crate::config::{Config, Provider, Settings};
use crate::exit::{EngineError, Exit};
use crate::intake::judged::JudgedOriginals;
use crate::intake::originals::Originals;
use crate::telemetry::CloudWatchMode;
use crate::telemetry::publisher::{EmfLines, Lines, MetricSink, Publisher};

/// Holds the open stores of one state folder, and the settings that were used to open the stores.
pub struct Engine {
    pub config: Config,
    pub state: StateFolder,
    pub clock: SharedClock,
    pub objects: Arc<dyn ObjectStore>,
    pub control: Arc<dyn ControlStore>,
    pub originals: Arc<dyn Originals>,
    secrets: Secrets,
    stores: Arc<dyn StateStores>,
    /// Check that must succeed before the first commit. `None` if the store of the manifests always honours the
    /// conditions of conditional writes, so that no check is needed.
    conditions: Option<Arc<dyn KeepsConditions>>,
    /// Notifier that reports every new vector file. Empty until a notifier is set.
    compaction_notifier: Arc<OnceLock<CompactionNotifier>>,
    /// Function that opens a collection of a vector store that is used instead of the index. `None` means that
    /// vectors are written to the index.
    targets: Option<OpenTarget>,
}

/// Names the payer of calls to a provider: a run, and a stage of the run.
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

    /// Returns the payer for the call with which the doctor checks an endpoint.
    pub fn doctor() -> Self {
        Self::briefly("doctor")
    }

    fn briefly(stage: &'static str) -> Self {
        Self { run: stage.into(), stage, tell: Arc::new(|text| tracing::warn!("{text}")) }
    }
}

/// Returns access to the secrets that the settings name. No secret is read yet.
pub fn secrets(settings: &Settings) -> Secrets {
    Secrets::new(settings.secrets.clone(), cloud::vault(settings))
}

impl Engine {
    /// Opens the state, and creates the state folder if it does not exist.
    pub async fn create(config: Config) -> Result<Self, EngineError> {
        let state = StateFolder::open_or_create(Path::new(&config.settings.state.folder))?;
        Self::over(config, state, Access::Write).await
    }

    /// Opens existing state. If no index exists, returns an error that says how to create an index.
    pub async fn open(config: Config) -> Result<Self, EngineError> {
        Self::open_with(config, Access::Write).await
    }

    /// Opens existing state like [`open`](Self::open), for a command that only reads. The state may be on a read-only
    /// disk or belong to another user. Writes then fail.
    pub async fn open_to_read(config: Config) -> Result<Self, EngineError> {
        Self::open_with(config, Access::Read).await
    }

    async fn open_with(config: Config, access: Access) -> Result<Self, EngineError> {
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
        Self::over(config, state, access).await
    }

    async fn over(config: Config, state: StateFolder, access: Access) -> Result<Self, EngineError> {
        if let Err(error) = state.restrict(config.settings.state.group_access) {
            tracing::warn!(%error, folder = %state.root().display(), "access to the state folder not restricted");
        }
        let clock: SharedClock = Arc::new(SystemClock);
        let settings = &config.settings;
        let (opened, stores) = backends::open(Opening { settings, folder: &state, clock: &clock, access }).await?;
        let originals = cloud::originals(settings, &state.root().join("originals"));
        let originals = Arc::new(JudgedOriginals::new(originals, Duration::from_secs(settings.retry.alone_seconds)));
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

    /// Opens the embedder and checks that its model matches the index. If the model is not on this machine yet, it is
    /// downloaded, and the download is reported to `progress`.
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

    /// Returns whether the ledger, the items and the batches may contain any data. For local state, the result is
    /// true if the file of the ledger exists, because the first charged call or enqueued item creates this file. For
    /// tables shared with other processes, the result is always true.
    pub fn has_ledger(&self) -> bool {
        self.stores.may_have_batches()
    }

    /// Opens the store of items and batches.
    pub fn batches(&self) -> Result<Arc<dyn Batches>, EngineError> {
        self.stores.batches()
    }

    /// Returns the quarantine store. For each quarantined document, the store holds an error report and a copy of the
    /// document.
    pub fn quarantine_store(&self) -> QuarantineStore {
        let options = self.config.settings.quarantine.clone();
        QuarantineStore::new(self.objects.clone(), self.originals.clone(), self.clock.clone(), options)
    }

    /// Returns the options of the maintenance services, which maintain the collections of this state. `owner` names
    /// this process in the leases of the services.
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

    /// Returns access to the user's tables of records, from which records are read. The connection is opened on first
    /// use.
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

    /// Returns the folder for batch results, and creates the folder if necessary. Results stay in the folder until
    /// they are imported.
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

    /// Returns whether vectors are written to the index, and not to a target that replaces it.
    pub fn has_own_index(&self) -> bool {
        self.targets.is_none()
    }

    /// Returns a function that opens a collection for writing vectors. If a target replaces the index, the function
    /// opens a collection of the target. Otherwise, the function opens a collection of the index.
    pub fn open_target(&self) -> OpenTarget {
        match &self.targets {
            Some(targets) => targets.clone(),
            None => {
                let open = self.open_collection();
                Arc::new(move |name| Ok(open(name)?))
            }
        }
    }

    /// Opens the configured collection for writing vectors. If a target replaces the index, the collection is opened
    /// there; otherwise, in the index.
    pub fn target(&self) -> Result<Arc<dyn Target>, EngineError> {
        (self.open_target())(&self.config.settings.state.collection).map_err(EngineError::of_target)
    }

    /// Sets the notifier that reports new vector files. The notifier reports only files of collections that are
    /// opened after this call.
    pub fn set_compaction_notifier(&self, compaction_notifier: CompactionNotifier) {
        let _ = self.compaction_notifier.set(compaction_notifier);
    }

    /// Waits briefly until pending notifications are sent.
    pub async fn flush_notices(&self) {
        if let Some(compaction_notifier) = self.compaction_notifier.get() {
            compaction_notifier.flush().await;
        }
    }

    /// Opens two queues: `intake`, from which events are received, and `compaction`, to which notifications are sent.
    /// Each argument is the URL or the name of the queue. An empty string means that the queue is not used.
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

    /// Returns the holder of the lock of the state folder, if the holder is another process and still alive. This
    /// method only reads the lock file. It does not try to acquire the lock, because a run that starts at the same
    /// moment would then be refused.
    pub fn working(&self) -> Option<LockHolder> {
        let note = open_regular(&self.state.root().join("lock")).ok()?;
        let held: LockHolder = serde_json::from_reader(std::io::Read::take(note, 64 << 10)).ok()?;
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

    /// Returns a phrase that names the process which will carry out a request in the control store, such as "by the
    /// next `docweir ingest`". Messages end with this phrase.
    pub fn picked_up(&self) -> String {
        match self.working() {
            Some(held) => format!("by the running `{}` (process {})", held.command, held.pid),
            None if self.is_shared() => "by a running `docweir serve`".into(),
            None => "by the next `docweir ingest`".into(),
        }
    }
}
