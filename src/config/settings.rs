//! Declares all settings as one tree, with one section per component.
//!
//! The doc comments of the fields appear in config.toml and docs/configuration.md (see [`super::reference`]).

use std::num::NonZero;

use docweir_aws::DynamoOptions;
use docweir_aws::{AwsOptions, S3Options};
use docweir_core::cache::CacheOptions;
use docweir_extract::ExtractOptions;
use docweir_index::VectorOptions;
use docweir_index::compaction::CompactionOptions;
use docweir_index::retention::RetentionOptions;
use docweir_objects::cached::CopyOptions;
use docweir_objects::local::LocalObjectOptions;
use docweir_providers::account::BudgetOptions;
use docweir_providers::openai::OpenAiOptions;
use docweir_providers::prices::PriceOptions;
use docweir_providers::secrets::{SecretName, SecretOptions, SecretSetting};
use docweir_records::RecordsOptions;
use docweir_stages::chunk::ChunkOptions;
use docweir_stages::embed::{EmbedOptions, ModelOptions};
use docweir_stages::enrich::EnrichOptions;
use docweir_stores::control::sqlite::SqliteControlOptions;
use serde::{Deserialize, Serialize};

use super::doctor::DoctorOptions;
use super::http::HttpOptions;
use crate::actors::batches::{BatchOptions, EmbedMode};
use crate::actors::committer::CommitOptions;
use crate::actors::quarantine::QuarantineOptions;
use crate::actors::queues::QueueOptions;
use crate::intake::IntakeOptions;
use crate::supervisors::{RestartOptions, RetryOptions, ScalingOptions};
use crate::telemetry::CloudWatchOptions;

/// Configuration key for the name of a secret. The secret contains the API key for the embedding endpoint.
pub const API_KEY: &str = "embed.options.openai.api_key";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Version of the file's format, always 1. This key marks a `config.toml` as a configuration of Docweir.
    pub docweir_config: u32,
    /// Selects the location of all state: control records, artefacts, vectors and caches.
    pub state: StateOptions,
    /// Selects the files to ingest, and limits how files are registered.
    pub intake: IntakeOptions,
    /// Configures claims. A claim is the right of one process to work on a document. The claim lapses if the process
    /// stops renewing it.
    pub lease: LeaseOptions,
    /// Configures stage 1 of 5, which extracts the text of a file in reading order. The work is done in child
    /// processes.
    pub extract: StagePool<ExtractOptions>,
    /// Configures stage 2 of 5, which splits the text into passages.
    pub chunk: StagePool<ChunkOptions>,
    /// Configures stage 3 of 5, which adds information to each passage: language, key phrases, entities and personal
    /// data that was found.
    pub enrich: StagePool<EnrichOptions>,
    /// Configures stage 4 of 5, which computes a vector for each passage.
    pub embed: EmbedPool,
    /// Configures stage 5 of 5, which writes vectors and text to the index. Each worker of this stage waits until its
    /// document is committed. This stage therefore has as many workers as a commit may have documents.
    pub load: StagePool<CommitOptions>,
    /// Configures embedding through the provider's Batch API, which costs half as much and returns results within a
    /// day.
    pub batch: BatchOptions,
    /// Configures the reading of small records. A record is a line or word of a receipt, or any JSON object on a line
    /// of a file.
    pub records: RecordsOptions,
    /// Limits spending. Work pauses before a limit is exceeded.
    pub budget: BudgetOptions,
    /// Sets the prices of paid calls, in US dollars. Costs and budgets are computed from these prices.
    pub prices: PriceOptions,
    /// Configures how a failed stage of a document is retried.
    pub retry: RetryOptions,
    /// Configures how workers and services are restarted after they died.
    pub restart: RestartOptions,
    #[serde(skip)]
    pub scaling: ScalingOptions,
    /// Configures how a run shuts down after SIGINT or SIGTERM.
    pub drain: DrainOptions,
    /// Configures how copies are kept of documents that could not be processed.
    pub quarantine: QuarantineOptions,
    /// Configures the control store in SQLite: control records, audit log and daily metrics.
    pub control: SqliteControlOptions,
    /// Configures the object store in the state folder: artefacts, vector files and manifests.
    pub objects: LocalObjectOptions,
    /// Configures access to all AWS services. Credentials come from the usual chain of the AWS SDK.
    pub aws: AwsOptions,
    /// Configures how secrets are read from AWS Secrets Manager.
    pub secrets: SecretOptions,
    /// Names the buckets for state in AWS, each as `BUCKET` or `BUCKET/PREFIX`.
    pub buckets: BucketOptions,
    /// Configures requests to S3.
    pub s3: S3Options,
    /// Names the tables for state in AWS, and limits how fast these tables are written.
    pub dynamodb: DynamoOptions,
    /// Configures local copies of vector files that are stored in S3.
    pub copies: CopyOptions,
    /// Names the SQS queues that `docweir serve` reads. One queue announces new documents, and the other requests
    /// merges.
    pub queues: QueueOptions,
    /// Configures the cache that stores the vector of each embedded text. A text in the cache is not paid for again.
    pub cache: CacheOptions,
    /// Limits the commits, memory and searches of the vector index.
    pub vectors: VectorOptions,
    /// Configures compaction, which merges vector files into snapshots.
    pub compaction: CompactionOptions,
    /// Decides how long earlier versions of the index are kept. Kept versions can be searched and restored.
    pub retention: RetentionOptions,
    /// Sets the defaults of `docweir search`.
    pub search: SearchOptions,
    /// Configures the HTTP endpoint of a running process: `/metrics` (Prometheus), `/supervision` (JSON) and
    /// `/health`.
    pub http: HttpOptions,
    /// Configures how metrics are published to Amazon CloudWatch.
    pub cloudwatch: CloudWatchOptions,
    /// Configures the thresholds at which `docweir doctor` warns.
    pub doctor: DoctorOptions,
    /// Configures the log on standard error. Lines about a document contain its id, version, stage, attempt and trace
    /// id, but never its text.
    pub log: LogOptions,
}

/// Configures a stage and the pool of its workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, bound(deserialize = "T: Default + Deserialize<'de>"))]
#[schemars(bound = "T: Default + Serialize + schemars::JsonSchema")]
pub struct StagePool<T> {
    /// Number of workers of this stage.
    pub workers: Workers,
    /// Maximum number of documents in this stage. Documents that wait for a worker or a retry are included. While the
    /// stage is full, the previous stage waits.
    pub queue_documents: usize,
    /// Maximum memory, in bytes, of all documents in this stage, with all that the stage makes from them. A document
    /// that alone exceeds this limit is processed while no other document is in the stage.
    pub queue_bytes: usize,
    /// Time limit of one attempt at this stage, in seconds. A timeout counts as a failed attempt.
    pub deadline_seconds: u64,
    pub options: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Minimum number of workers of this stage.
    pub min: usize,
    /// Maximum number of workers of this stage. With 0, the maximum depends on the stage. In a computing stage, the
    /// maximum is then the number of processor cores plus two. In a stage that calls an embedding endpoint, the
    /// maximum is then the number of calls that may run concurrently. More workers help until the processor or the
    /// provider's rate limit is the bottleneck.
    pub max: usize,
}

impl Workers {
    /// Returns the maximum number of workers. This is `max`, unless `max` is 0. Then it is the larger of `min` and
    /// `suits`, where `suits` is the number that suits the stage.
    pub fn most(&self, suits: usize) -> usize {
        match self.max {
            0 => suits.max(self.min),
            max => max,
        }
    }

    /// Returns the number of workers that suits a computing stage: the number of cores plus two. The two extra
    /// workers keep all cores busy while other workers wait for the disk or the control store.
    pub fn for_computing() -> usize {
        std::thread::available_parallelism().map_or(1, NonZero::get) + 2
    }
}

/// Configures the embedding stage, the pool of its workers, and the time at which texts are embedded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedPool {
    /// Time at which texts are embedded: `live` (at once), `batch` (within a day, at half the price) or `auto` (in a
    /// batch if the deadline allows it and enough money is saved). `batch` and `auto` need an OpenAI endpoint.
    pub mode: EmbedMode,
    /// Number of workers of this stage.
    pub workers: Workers,
    /// Maximum number of documents in this stage. Documents that wait for a worker or a retry are included. While the
    /// stage is full, the previous stage waits.
    pub queue_documents: usize,
    /// Maximum memory, in bytes, of all documents in this stage, with all that the stage makes from them. A document
    /// that alone exceeds this limit is processed while no other document is in the stage.
    pub queue_bytes: usize,
    /// Time limit of one attempt at this stage, in seconds. A timeout counts as a failed attempt.
    pub deadline_seconds: u64,
    pub options: EmbedSettings,
}

impl EmbedPool {
    pub fn pool(&self) -> StagePool<()> {
        StagePool {
            workers: self.workers,
            queue_documents: self.queue_documents,
            queue_bytes: self.queue_bytes,
            deadline_seconds: self.deadline_seconds,
            options: (),
        }
    }
}

impl Default for EmbedPool {
    fn default() -> Self {
        Self {
            mode: EmbedMode::default(),
            workers: Workers::default(),
            queue_documents: 64,
            queue_bytes: 128 << 20,
            deadline_seconds: 1800,
            options: EmbedSettings::default(),
        }
    }
}

/// Selects the provider of embeddings, and configures each provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedSettings {
    /// Source of the vectors: `local` (a model on this machine, free), `openai` (an endpoint with OpenAI's protocol,
    /// paid) or `hashed` (no model; for tests; finds equal words only). After a change, every document is embedded
    /// again.
    pub provider: Provider,
    /// Number of dimensions of vectors from the `hashed` provider.
    pub hashed_dimensions: u32,
    /// Artificial delay of the `hashed` provider for each text, in milliseconds. Only tests use it.
    pub hashed_milliseconds: u64,
    pub batch: EmbedOptions,
    pub model: ModelOptions,
    pub openai: OpenAiOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    #[default]
    Local,
    Openai,
    Hashed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateOptions {
    /// Location of all state: `folder` (one machine) or `aws` (objects in S3 and control records in DynamoDB, for any
    /// number of processes).
    pub backend: Backend,
    /// Location of objects (artefacts, vector files, manifests): `folder` or `s3`. `auto` follows `state.backend`.
    pub objects: ObjectPlace,
    /// Location of control records, the ledger and batches: `sqlite` (one process at a time) or `dynamodb` (any
    /// number of processes; requires objects in S3). `auto` follows `state.backend`.
    pub control: ControlPlace,
    /// Folder of the state. If the state is in AWS, the folder holds only caches and temporary files.
    pub folder: String,
    /// If true, both the user and the user's group may read and write the state. If false, only the user may do so.
    /// The state contains the text of all ingested files, including files that only the user may read.
    pub group_access: bool,
    /// Name of the collection into which documents are loaded.
    pub collection: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    #[default]
    Folder,
    Aws,
}

/// Selects the location of objects: artefacts, vector files and manifests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectPlace {
    #[default]
    Auto,
    Folder,
    S3,
}

/// Selects the location of control records, the ledger and batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ControlPlace {
    #[default]
    Auto,
    Sqlite,
    Dynamodb,
}

impl StateOptions {
    /// Returns the location of objects: `folder` or `s3`.
    pub fn objects_in(&self) -> &'static str {
        match (self.objects, self.backend) {
            (ObjectPlace::Folder, _) | (ObjectPlace::Auto, Backend::Folder) => "folder",
            (ObjectPlace::S3, _) | (ObjectPlace::Auto, Backend::Aws) => "s3",
        }
    }

    /// Returns the location of control records: `sqlite` or `dynamodb`.
    pub fn control_in(&self) -> &'static str {
        match (self.control, self.backend) {
            (ControlPlace::Sqlite, _) | (ControlPlace::Auto, Backend::Folder) => "sqlite",
            (ControlPlace::Dynamodb, _) | (ControlPlace::Auto, Backend::Aws) => "dynamodb",
        }
    }

    /// Returns whether all lasting state is in the state folder. In this case, a missing folder means that no state
    /// exists yet.
    pub fn is_local(&self) -> bool {
        self.objects_in() == "folder" && self.control_in() == "sqlite"
    }
}

/// Names the buckets for state in AWS, each as `BUCKET` or `BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BucketOptions {
    /// Bucket of artefacts, and of the originals of quarantined documents, as `BUCKET` or `BUCKET/PREFIX`.
    pub artefacts: String,
    /// Bucket of vector files and their manifests, as `BUCKET` or `BUCKET/PREFIX`. If empty, `buckets.artefacts` is
    /// used.
    pub vectors: String,
    /// Store that holds the manifest: `s3` or `dynamodb`. Use `s3` if the S3 endpoint enforces conditional writes,
    /// which Docweir checks when it starts. Use `dynamodb` for all other endpoints.
    pub register: Register,
    /// If true, all pages of a document are stored in one object, `extracted/DOCUMENT/pages.json`, instead of one
    /// object for each page. A document of ten pages then takes 4 writes instead of 14.
    pub packed_pages: bool,
    /// Number of days after which artefacts move to S3 Glacier; 0 means never. `docweir infra apply` sets up the
    /// move. If a stage of a document must be retried, the document's archived artefacts must be restored first.
    pub archive_days: u32,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self {
            artefacts: String::new(),
            vectors: String::new(),
            register: Register::S3,
            packed_pages: false,
            archive_days: 30,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Register {
    #[default]
    S3,
    Dynamodb,
}

impl BucketOptions {
    /// Returns the location of vector files, as `BUCKET` or `BUCKET/PREFIX`.
    pub fn vectors(&self) -> &str {
        if self.vectors.is_empty() { &self.artefacts } else { &self.vectors }
    }
}

/// Splits a location into its bucket and its prefix.
pub fn bucket_and_prefix(place: &str) -> (&str, &str) {
    place.split_once('/').map_or((place, ""), |(bucket, prefix)| (bucket, prefix.trim_end_matches('/')))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseOptions {
    /// Number of seconds after the last heartbeat at which a claim lapses. With a smaller number, another process
    /// takes over sooner, but a slow network loses claims more often.
    pub seconds: u64,
    /// Interval between two renewals of a claim, in seconds. At most a third of `lease.seconds`.
    pub heartbeat_seconds: u64,
    /// Number of process deaths during one stage of a document after which the document is quarantined.
    pub max_interruptions: u32,
    /// Number of process deaths during one stage of a document after which the document is processed alone. If the
    /// process then dies again, this document is certainly the cause.
    pub alone_after_interruptions: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainOptions {
    /// Time for running work to finish after SIGINT or SIGTERM, in seconds. It should be below the stop timeout of
    /// the container.
    pub seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchOptions {
    /// Number of passages that a search shows.
    pub top: usize,
    /// Scoring of passages: `hybrid` (by meaning and words), `vector` (by meaning only) or `full_text` (by words
    /// only).
    pub mode: SearchMode,
    /// Weight of the vector score in a hybrid search, from 0 (words only) to 1 (meaning only).
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    #[default]
    Hybrid,
    Vector,
    FullText,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// Level of the log: `error`, `warn`, `info` or `debug`, or comma-separated pairs of the form `module=level`.
    pub level: String,
    /// Format of the log: `text` or `json`.
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            docweir_config: 1,
            state: StateOptions::default(),
            intake: IntakeOptions::default(),
            lease: LeaseOptions::default(),
            extract: StagePool::new(1, 0, 64, 64 << 20, 600),
            chunk: StagePool::new(1, 0, 64, 256 << 20, 300),
            enrich: StagePool::new(1, 0, 64, 128 << 20, 600),
            embed: EmbedPool::default(),
            load: StagePool::new(512, 512, 512, 256 << 20, 300),
            batch: BatchOptions::default(),
            records: RecordsOptions::default(),
            budget: BudgetOptions::default(),
            prices: PriceOptions::default(),
            retry: RetryOptions::default(),
            restart: RestartOptions::default(),
            scaling: ScalingOptions::default(),
            drain: DrainOptions::default(),
            quarantine: QuarantineOptions::default(),
            control: SqliteControlOptions::default(),
            objects: LocalObjectOptions::default(),
            aws: AwsOptions::default(),
            secrets: SecretOptions::default(),
            buckets: BucketOptions::default(),
            s3: S3Options::default(),
            dynamodb: DynamoOptions::default(),
            copies: CopyOptions::default(),
            queues: QueueOptions::default(),
            cache: CacheOptions::default(),
            vectors: VectorOptions::default(),
            compaction: CompactionOptions::default(),
            retention: RetentionOptions::default(),
            search: SearchOptions::default(),
            http: HttpOptions::default(),
            cloudwatch: CloudWatchOptions::default(),
            doctor: DoctorOptions::default(),
            log: LogOptions::default(),
        }
    }
}

impl<T: Default> StagePool<T> {
    fn new(min: usize, max: usize, queue_documents: usize, queue_bytes: usize, deadline_seconds: u64) -> Self {
        Self { workers: Workers { min, max }, queue_documents, queue_bytes, deadline_seconds, options: T::default() }
    }
}

impl<T: Default> Default for StagePool<T> {
    fn default() -> Self {
        Self::new(1, 0, 64, 128 << 20, 600)
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self { min: 1, max: 0 }
    }
}

impl Default for EmbedSettings {
    fn default() -> Self {
        Self {
            provider: Provider::Local,
            hashed_dimensions: 384,
            hashed_milliseconds: 0,
            batch: EmbedOptions::default(),
            model: ModelOptions::default(),
            openai: OpenAiOptions::default(),
        }
    }
}

impl Default for StateOptions {
    fn default() -> Self {
        Self {
            backend: Backend::Folder,
            objects: ObjectPlace::Auto,
            control: ControlPlace::Auto,
            folder: ".docweir".into(),
            group_access: false,
            collection: "chunks".into(),
        }
    }
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self { seconds: 300, heartbeat_seconds: 60, max_interruptions: 20, alone_after_interruptions: 2 }
    }
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self { seconds: 25 }
    }
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { top: 5, mode: SearchMode::Hybrid, weight: 0.45 }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: "warn".into(), format: LogFormat::Text }
    }
}

impl Settings {
    /// Returns the name of each secret that the configuration names, together with the configuration key.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretName)> {
        let named = [(API_KEY, &self.embed.options.openai.api_key)];
        let kept = named.into_iter().filter_map(|(key, setting)| match setting {
            SecretSetting::Kept(name) => Some((key, name)),
            SecretSetting::Unset => None,
        });
        kept.collect()
    }

    /// Returns whether the state needs tables in DynamoDB, either for control records or for the manifests of vector
    /// files.
    pub fn needs_tables(&self) -> bool {
        let swapped = self.state.objects_in() == "s3" && self.buckets.register == Register::Dynamodb;
        self.state.control_in() == "dynamodb" || swapped
    }
}
