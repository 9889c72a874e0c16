//! What a command needs, opened in the right order and with errors that say what to do.
//!
//! An engine holds no lock: reading beside a running orchestrator is always allowed. Whoever writes (ingest) takes the
//! state folder's lock itself.

#[cfg(feature = "aws")]
mod aws;
mod enrich;
mod fingerprint;
mod model;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

#[cfg(feature = "aws")]
use docweir_aws_backend::s3::S3Objects;
use docweir_core::cache::EmbeddingCache;
use docweir_core::clock::{SharedClock, SystemClock};
use docweir_index::{Added, VectorError, VectorStore};
use docweir_objects::ObjectStore;
use docweir_objects::lease::LeaseRegister;
use docweir_objects::local::LocalObjectStore;
use docweir_providers::account::{Account, Alerts, BudgetOptions, Tell};
use docweir_providers::openai::Client;
use docweir_providers::prices::Price;
use docweir_providers::secrets::Secrets;
use docweir_stages::embed::{Embedder, FetchProgress};
use docweir_stores::batches::{Batches, SqliteBatches};
use docweir_stores::cache::SqliteEmbeddingCache;
use docweir_stores::control::ControlStore;
use docweir_stores::control::sqlite::{SqliteControlOptions, SqliteControlStore};
use docweir_stores::ledger::{Ledger, SqliteLedger};
use docweir_stores::paid;
use docweir_stores::record_table::LazyTables;
#[cfg(not(feature = "aws"))]
use docweir_stores::record_table::TableError;
use docweir_stores::sqlite::Database;
use docweir_stores::state::{Held, LockError, OrchestratorLock, StateError, StateFolder};

pub use enrich::{counting_enricher, enricher_without_books};
pub use fingerprint::{PIPELINE_FORMAT, fingerprint};
pub use model::{client as endpoint_client, counter, embedder};

use crate::actors::batches::desk::OpenCollection;
use crate::actors::queues::Queues;
use crate::actors::queues::compaction::Notices;
use crate::cli::exit::{Exit, Failure};
use crate::config::{Backend, Config, Provider, Settings};
#[cfg(feature = "aws")]
use crate::intake::originals::BucketOriginals;
#[cfg(not(feature = "aws"))]
use crate::intake::originals::LocalOriginals;
use crate::intake::originals::Originals;
use crate::telemetry::CloudWatchMode;
use crate::telemetry::publisher::{ByLines, Lines, Publisher, Takes};

/// Why the engine could not be opened, and how a command that needs it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineError {
    pub text: String,
    pub exit: Exit,
}

impl EngineError {
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { text: text.into(), exit }
    }

    fn system(error: impl std::fmt::Display) -> Self {
        Self::new(Exit::System, error.to_string())
    }
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for EngineError {}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::new(error.exit, error.text)
    }
}

impl From<VectorError> for EngineError {
    fn from(error: VectorError) -> Self {
        let text = error.to_string();
        Self::new(Failure::from(error).exit, text)
    }
}

impl From<StateError> for EngineError {
    fn from(error: StateError) -> Self {
        let exit = match &error {
            StateError::Missing(_) => Exit::No,
            StateError::Foreign(_) => Exit::Configuration,
            StateError::Newer { .. } | StateError::Damaged(_) | StateError::Storage { .. } => Exit::System,
        };
        Self::new(exit, error.to_string())
    }
}

/// The stores of one state folder, and the settings they were opened with.
pub struct Engine {
    pub config: Config,
    pub state: StateFolder,
    pub clock: SharedClock,
    pub objects: Arc<dyn ObjectStore>,
    pub control: Arc<dyn ControlStore>,
    pub originals: Arc<dyn Originals>,
    secrets: Secrets,
    /// Opened by the first who needs it.
    paid: OnceLock<Database>,
    /// Who is told of new vector files, where somebody is.
    notices: Arc<OnceLock<Notices>>,
    /// Where manifests are swapped by conditional writes of S3.
    #[cfg(feature = "aws")]
    swaps: Option<S3Objects>,
    /// What is paid for by any number of processes.
    #[cfg(feature = "aws")]
    books: Option<aws::Books>,
}

/// For whom a provider's calls are paid.
pub struct Payer {
    /// Of this process, or a word for commands that are short.
    pub run: String,
    pub stage: &'static str,
    /// Who is told when a share of the budget is spent.
    pub tell: Tell,
}

impl Payer {
    pub fn search() -> Self {
        Self::briefly("search")
    }

    /// For one stage that is run alone.
    pub fn look() -> Self {
        Self::briefly("look")
    }

    fn briefly(stage: &'static str) -> Self {
        Self { run: stage.into(), stage, tell: Arc::new(|text| tracing::warn!("{text}")) }
    }
}

type Stores = (Arc<dyn ObjectStore>, Arc<dyn ControlStore>);

async fn folder(settings: &Settings, state: &StateFolder, clock: &SharedClock) -> Result<Stores, EngineError> {
    let objects = LocalObjectStore::open(&state.objects(), settings.objects.clone(), clock);
    let objects = Arc::new(objects.map_err(EngineError::system)?);
    let options = SqliteControlOptions { max_retries: settings.retry.attempts, ..settings.control.clone() };
    let control = SqliteControlStore::open(&state.control_db(), options, clock.clone()).await;
    Ok((objects, Arc::new(control.map_err(EngineError::system)?)))
}

/// What a program says that was built without its clients.
#[cfg(not(feature = "aws"))]
pub fn without_aws() -> EngineError {
    let text = "this docweir was built without AWS: build it with `cargo build --release --features aws`";
    EngineError::new(Exit::Configuration, text)
}

/// Gives every part of the process the secrets that its settings name. Asks nobody yet.
pub fn secrets(settings: &Settings) -> Secrets {
    #[cfg(feature = "aws")]
    let vault = {
        let vault =
            docweir_aws_backend::secrets::SecretsManagerVault::new(settings.aws.clone(), &settings.secrets.endpoint);
        Some(Arc::new(vault) as Arc<dyn docweir_providers::secrets::Vault>)
    };
    #[cfg(not(feature = "aws"))]
    let vault = None;
    Secrets::new(settings.secrets.clone(), vault)
}

impl Engine {
    /// For ingest: makes the state folder where there is none.
    pub async fn create(config: Config) -> Result<Self, EngineError> {
        let state = StateFolder::open_or_create(Path::new(&config.settings.state.folder))?;
        Self::over(config, state).await
    }

    /// For everything else: an index that is not there is an error, and the error says how to make one.
    pub async fn open(config: Config) -> Result<Self, EngineError> {
        let folder = Path::new(&config.settings.state.folder);
        if config.settings.state.backend != Backend::Folder {
            // What is in it can be made again.
            return Self::create(config).await;
        }
        let state = StateFolder::open_existing(folder).map_err(|e| match e {
            StateError::Missing(path) => {
                let text = format!(
                    "there is no index at {}: `docweir ingest FOLDER` makes one, `--state FOLDER` names another",
                    path.display()
                );
                EngineError::new(Exit::No, text)
            }
            other => other.into(),
        })?;
        Self::over(config, state).await
    }

    async fn over(config: Config, state: StateFolder) -> Result<Self, EngineError> {
        let clock: SharedClock = Arc::new(SystemClock);
        let settings = &config.settings;
        #[cfg(feature = "aws")]
        let (mut swaps, mut books) = (None, None);
        let (objects, control) = match settings.state.backend {
            Backend::Folder => folder(settings, &state, &clock).await?,
            #[cfg(feature = "aws")]
            Backend::Aws => {
                let opened = aws::open(settings, &state, &clock).await?;
                (swaps, books) = (opened.manifests, Some(opened.books));
                (opened.objects, opened.control)
            }
            #[cfg(not(feature = "aws"))]
            Backend::Aws => return Err(without_aws()),
        };
        #[cfg(feature = "aws")]
        let originals = BucketOriginals::new(&settings.aws, &settings.s3, &state.root().join("originals"));
        #[cfg(not(feature = "aws"))]
        let originals = LocalOriginals;
        let originals = Arc::new(originals);
        let secrets = secrets(settings);
        Ok(Self {
            config,
            state,
            clock,
            objects,
            control,
            originals,
            secrets,
            paid: OnceLock::new(),
            notices: Arc::default(),
            #[cfg(feature = "aws")]
            swaps,
            #[cfg(feature = "aws")]
            books,
        })
    }

    /// For who is about to write vector files: an endpoint that does not keep the conditions of its writes is refused.
    pub async fn can_commit(&self) -> Result<(), EngineError> {
        #[cfg(feature = "aws")]
        if let Some(place) = &self.swaps {
            place.probe().await.map_err(EngineError::system)?;
        }
        Ok(())
    }

    /// What publishes the figures of a run, where they are to be; `lines` takes lines of standard output.
    pub async fn publisher(&self, lines: Lines) -> Result<Option<Arc<Publisher>>, EngineError> {
        let options = &self.config.settings.cloudwatch;
        let namespace = options.namespace.clone();
        let to: Box<dyn Takes> = match options.mode {
            CloudWatchMode::Off => return Ok(None),
            CloudWatchMode::Emf => Box::new(ByLines { namespace, lines }),
            #[cfg(feature = "aws")]
            CloudWatchMode::Api => {
                let client = aws::cloudwatch(&self.config.settings).await?;
                Box::new(crate::telemetry::publisher::ByCalls { client, namespace })
            }
            #[cfg(not(feature = "aws"))]
            CloudWatchMode::Api => return Err(without_aws()),
        };
        Ok(Some(Publisher::new(options.clone(), self.clock.clone(), to)))
    }

    /// Whether other processes may be at work on the same documents at this moment.
    pub fn is_shared(&self) -> bool {
        self.config.settings.state.backend != Backend::Folder
    }

    /// What makes the vectors, if they may stand beside those of the index. The first call on a machine fetches the
    /// model; `progress` is told how far that is.
    pub async fn embedder(
        &self,
        payer: Payer,
        progress: &(dyn Fn(FetchProgress) + Send + Sync),
    ) -> Result<Arc<dyn Embedder>, EngineError> {
        let (settings, vectors) = (&self.config.settings.embed.options, self.vectors()?);
        let manifest = vectors.manifest().await?;
        model::check(settings, manifest.as_ref().and_then(|m| m.model()))?;
        let (account, collection) = (self.account(payer)?, &self.config.settings.state.collection);
        let prices = &self.config.settings.prices;
        let embedder = model::embedder(settings, collection, account, prices, &self.secrets, progress).await?;
        vectors.check_model(embedder.identity()).await?;
        Ok(embedder)
    }

    /// Who pays for embedding, where somebody has to.
    pub fn account(&self, payer: Payer) -> Result<Option<Account>, EngineError> {
        let settings = &self.config.settings;
        if settings.embed.options.provider != Provider::Openai {
            return Ok(None);
        }
        let model = &settings.embed.options.openai.model;
        let alerts = Alerts::new(payer.tell.clone());
        Ok(Some(self.account_of(&payer, model.clone(), settings.prices.of(model), &alerts)?))
    }

    /// Who pays for calls of a model.
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
            // A command that is short is no run.
            options: match payer.stage {
                "embedding" | "enrichment" => settings.budget.clone(),
                _ => BudgetOptions { run_usd: 0.0, ..settings.budget.clone() },
            },
            alerts: alerts.clone(),
        })
    }

    /// The books.
    pub fn ledger(&self) -> Result<Arc<dyn Ledger>, EngineError> {
        #[cfg(feature = "aws")]
        if let Some(books) = &self.books {
            return Ok(books.ledger());
        }
        Ok(Arc::new(SqliteLedger::new(self.paid()?, self.clock.clone())))
    }

    /// The lease of whoever looks after batches, where several processes share them.
    pub fn batch_lease(&self) -> Option<LeaseRegister> {
        #[cfg(feature = "aws")]
        if let Some(books) = &self.books {
            return Some(books.batch_lease());
        }
        None
    }

    /// Whether anything may ever have been paid, or put down to be: there is a file, or the tables are everybody's.
    pub fn has_books(&self) -> bool {
        self.is_shared() || self.state.paid_db().exists()
    }

    /// Items and batches.
    pub fn batches(&self) -> Result<Arc<dyn Batches>, EngineError> {
        #[cfg(feature = "aws")]
        if let Some(books) = &self.books {
            return Ok(books.batches());
        }
        Ok(Arc::new(SqliteBatches::new(self.paid()?, self.clock.clone())))
    }

    /// Tables of the user's that records come from, reached when first asked for.
    pub fn record_tables(&self) -> Arc<LazyTables> {
        #[cfg(feature = "aws")]
        {
            let settings = self.config.settings.clone();
            let open = move || {
                let settings = settings.clone();
                Box::pin(async move { aws::record_tables(&settings).await })
                    as futures_util::future::BoxFuture<'static, _>
            };
            Arc::new(LazyTables::new(open))
        }
        #[cfg(not(feature = "aws"))]
        Arc::new(LazyTables::new(|| {
            let (table, hint) = ("of records".into(), "build it with `cargo build --release --features aws`".into());
            let broken = TableError::Broken { table, reason: "this docweir was built without AWS".into(), hint };
            Box::pin(std::future::ready(Err(broken)))
        }))
    }

    /// A connection to the configured endpoint.
    pub fn endpoint_client(&self) -> Result<Client, EngineError> {
        model::client(&self.config.settings.embed.options.openai, &self.secrets)
    }

    /// Where results of batches lie until they are taken in.
    pub fn batch_folder(&self) -> Result<PathBuf, EngineError> {
        let folder = self.state.root().join("batches");
        std::fs::create_dir_all(&folder)
            .map_err(|e| EngineError::new(Exit::System, format!("can't make the folder {}: {e}", folder.display())))?;
        Ok(folder)
    }

    /// Opens any collection of this state folder.
    pub fn open_collection(&self) -> OpenCollection {
        let (objects, clock, options) =
            (self.objects.clone(), self.clock.clone(), self.config.settings.vectors.clone());
        let notices = self.notices.clone();
        Arc::new(move |name| {
            let notices = notices.get().cloned();
            let added = notices.map(|notices| -> Added {
                Arc::new(move |name, committed| notices.added(name, &committed.file, committed.rows))
            });
            let opened = VectorStore::new(objects.clone(), name, clock.clone(), options.clone())?;
            Ok(Arc::new(opened.telling(added)))
        })
    }

    /// From now on these are told of what is added to collections that are opened.
    pub fn tell(&self, notices: Notices) {
        let _ = self.notices.set(notices);
    }

    /// Waits, for a moment, until they were told.
    pub async fn flush_notices(&self) {
        if let Some(notices) = self.notices.get() {
            notices.flush().await;
        }
    }

    /// The queues of these URLs or names, where any are given.
    pub async fn queues(&self, intake: &str, compaction: &str) -> Result<Queues, EngineError> {
        if intake.is_empty() && compaction.is_empty() {
            return Ok(Queues::default());
        }
        #[cfg(feature = "aws")]
        return aws::queues(&self.config.settings, intake, compaction).await;
        #[cfg(not(feature = "aws"))]
        Err(without_aws())
    }

    /// What is paid for, in its file.
    fn paid(&self) -> Result<Database, EngineError> {
        if let Some(open) = self.paid.get() {
            return Ok(open.clone());
        }
        let options = self.config.settings.control.opening();
        let opened = paid::open(&self.state.paid_db(), &options).map_err(EngineError::system)?;
        Ok(self.paid.get_or_init(|| opened).clone())
    }

    /// The configured collection.
    pub fn vectors(&self) -> Result<Arc<VectorStore>, EngineError> {
        Ok((self.open_collection())(&self.config.settings.state.collection)?)
    }

    /// Vectors that were made before. Never fails: a cache that can't be used knows nothing.
    pub fn cache(&self) -> Arc<dyn EmbeddingCache> {
        if let Err(error) = std::fs::create_dir_all(self.state.cache()) {
            tracing::warn!(%error, "the cache's folder can't be made; vectors are not kept");
        }
        Arc::new(SqliteEmbeddingCache::open(&self.state.embedding_cache_db(), self.config.settings.cache.clone()))
    }

    /// Who works on the folder now, if somebody does: the lock's note, when its process is alive. Looks without taking
    /// the lock, so that a run which starts at this moment is not turned away.
    pub fn working(&self) -> Option<Held> {
        let note = std::fs::read(self.state.root().join("lock")).ok()?;
        let held: Held = serde_json::from_slice(&note).ok()?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(held.pid).ok()?)?;
        let alive = match rustix::process::test_kill_process(pid) {
            Ok(()) => true,
            // Somebody else's process is a process.
            Err(error) => error == rustix::io::Errno::PERM,
        };
        let other = held.pid != std::process::id();
        (alive && other).then(|| Held { path: self.state.root().to_owned(), ..held })
    }

    /// Makes this process the folder's orchestrator until the lock is dropped.
    pub fn lock(&self, command: &str) -> Result<OrchestratorLock, EngineError> {
        self.state.lock_orchestrator(command, self.clock.as_ref()).map_err(|e| match e {
            LockError::Held(held) => EngineError::new(Exit::Busy, held.to_string()),
            LockError::State(error) => error.into(),
        })
    }

    /// When a request that was written to the control store is taken up.
    pub fn picked_up(&self) -> String {
        match self.working() {
            Some(held) => format!("by the running `{}` (process {})", held.command, held.pid),
            None if self.is_shared() => "by whoever runs `docweir serve`".into(),
            None => "with the next `docweir ingest`".into(),
        }
    }
}
