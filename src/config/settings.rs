//! Declares all settings as one tree, with one section per component.
//!
//! The doc comments of the fields are the text of config.toml and of docs/configuration.md (see [`super::reference`]).

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

/// Key that names the secret of the embedding endpoint.
pub const API_KEY: &str = "embed.options.openai.api_key";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Format of the file, always 1. It marks a `config.toml` as one of Docweir's.
    pub docweir_config: u32,
    /// Location of all state: control records, artefacts, vectors and caches.
    pub state: StateOptions,
    /// Selects the files to ingest and limits how they are registered.
    pub intake: IntakeOptions,
    /// Claims of processes on documents. A claim lapses if its process stops renewing it.
    pub lease: LeaseOptions,
    /// Stage 1 of 5: extracts the text of a file in reading order, in child processes.
    pub extract: StagePool<ExtractOptions>,
    /// Stage 2 of 5: splits the text into passages.
    pub chunk: StagePool<ChunkOptions>,
    /// Stage 3 of 5: adds language, key phrases, entities and personal data to each passage.
    pub enrich: StagePool<EnrichOptions>,
    /// Stage 4 of 5: computes a vector for each passage.
    pub embed: EmbedPool,
    /// Stage 5 of 5: writes vectors and text to the index. A worker waits for the commit of its document, so this
    /// stage has as many workers as documents may share a commit.
    pub load: StagePool<CommitOptions>,
    /// Embedding through the provider's Batch API: half the price, results within a day.
    pub batch: BatchOptions,
    /// Small records: lines and words of receipts, or any JSON objects, one per line of a file.
    pub records: RecordsOptions,
    /// Limits on spending. Work pauses before a limit is exceeded.
    pub budget: BudgetOptions,
    /// Prices of paid calls, in US dollars. Costs and budgets are computed from them.
    pub prices: PriceOptions,
    /// Retries of a document whose stage failed.
    pub retry: RetryOptions,
    /// Restarts of workers and services that died.
    pub restart: RestartOptions,
    #[serde(skip)]
    pub scaling: ScalingOptions,
    /// The end of a run after a signal.
    pub drain: DrainOptions,
    /// Copies of documents that could not be processed.
    pub quarantine: QuarantineOptions,
    /// The control store in SQLite: control records, audit log and daily metrics.
    pub control: SqliteControlOptions,
    /// The object store in the state folder: artefacts, vector files and manifests.
    pub objects: LocalObjectOptions,
    /// Access to AWS, for all its services. Credentials come from the usual chain of the AWS SDK.
    pub aws: AwsOptions,
    /// Secrets that are read from AWS Secrets Manager.
    pub secrets: SecretOptions,
    /// Buckets of a state in AWS, as `BUCKET` or `BUCKET/PREFIX`.
    pub buckets: BucketOptions,
    /// Requests to S3.
    pub s3: S3Options,
    /// Tables of a state in AWS, and the pace of writes to them.
    pub dynamodb: DynamoOptions,
    /// Local copies of vector files that are in S3.
    pub copies: CopyOptions,
    /// SQS queues from which `docweir serve` receives documents and merge requests.
    pub queues: QueueOptions,
    /// Cache of vectors by text. A text that was embedded before costs nothing.
    pub cache: CacheOptions,
    /// The vector index: limits of commits, memory and searches.
    pub vectors: VectorOptions,
    /// Merging of vector files into snapshots.
    pub compaction: CompactionOptions,
    /// Earlier versions of the index, which can be searched and restored.
    pub retention: RetentionOptions,
    /// Defaults of `docweir search`.
    pub search: SearchOptions,
    /// The HTTP endpoint of a running process: `/metrics` (Prometheus), `/supervision` (JSON) and `/health`.
    pub http: HttpOptions,
    /// Metrics for Amazon CloudWatch.
    pub cloudwatch: CloudWatchOptions,
    /// Thresholds of `docweir doctor`.
    pub doctor: DoctorOptions,
    /// The log on standard error. Lines about a document name the document, its version, stage and attempt, and a
    /// trace ID. They never contain its text.
    pub log: LogOptions,
}

/// Configures the pool of a stage, and the stage itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, bound(deserialize = "T: Default + Deserialize<'de>"))]
#[schemars(bound = "T: Default + Serialize + schemars::JsonSchema")]
pub struct StagePool<T> {
    /// Number of workers.
    pub workers: Workers,
    /// Maximum number of documents in this stage, whether they wait, run or are retried. A full stage holds up the
    /// stage before it.
    pub queue_documents: usize,
    /// Maximum memory of the documents in this stage, in bytes. A larger document passes alone.
    pub queue_bytes: usize,
    /// Time limit of one attempt, in seconds. A timeout counts as a failed attempt.
    pub deadline_seconds: u64,
    pub options: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Smallest number of workers.
    pub min: usize,
    /// Largest number of workers. 0 lets Docweir choose: two more than the number of cores for a stage that computes,
    /// as many as concurrent calls for an embedding endpoint. More workers help until the processor or the provider's
    /// rate limit is the bottleneck.
    pub max: usize,
}

impl Workers {
    /// Returns the largest number of workers. `suits` is the number that suits the stage; it applies if `max` is 0.
    pub fn most(&self, suits: usize) -> usize {
        match self.max {
            0 => suits.max(self.min),
            max => max,
        }
    }

    /// Returns the number of workers that suits a stage that computes: two more than the number of cores, so that no
    /// core is idle while a worker waits for the disk or the control store.
    pub fn for_computing() -> usize {
        std::thread::available_parallelism().map_or(1, NonZero::get) + 2
    }
}

/// Configures the embedding stage: its pool, and when texts are embedded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedPool {
    /// Time at which texts are embedded: `live` (at once), `batch` (within a day, at half the price) or `auto` (by batch if
    /// the deadline allows it and the saving is worth it). `batch` and `auto` need an OpenAI endpoint.
    pub mode: EmbedMode,
    /// Number of workers.
    pub workers: Workers,
    /// Maximum number of documents in this stage, whether they wait, run or are retried. A full stage holds up the
    /// stage before it.
    pub queue_documents: usize,
    /// Maximum memory of the documents in this stage, in bytes. A larger document passes alone.
    pub queue_bytes: usize,
    /// Time limit of one attempt, in seconds. A timeout counts as a failed attempt.
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

/// Selects the embedder and configures each of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedSettings {
    /// Source of the vectors: `local` (a model on this machine, free), `openai` (an endpoint with OpenAI's protocol,
    /// paid) or `hashed` (no model; for tests, matches equal words only). A change embeds every document again.
    pub provider: Provider,
    /// Number of dimensions of the `hashed` provider.
    pub hashed_dimensions: u32,
    /// Artificial delay of the `hashed` provider for each text, in milliseconds. For tests.
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
    /// Location of state: `folder` (one machine) or `aws` (objects in S3 and control records in DynamoDB, for any
    /// number of processes).
    pub backend: Backend,
    /// Location of objects (artefacts, vector files, manifests): `folder` or `s3`. `auto` follows `state.backend`.
    pub objects: ObjectPlace,
    /// Location of control records, the ledger and batches: `sqlite` (one process at a time) or `dynamodb` (any
    /// number of processes; needs objects in `s3`). `auto` follows `state.backend`.
    pub control: ControlPlace,
    /// Folder of the state. With state in AWS it holds only caches and temporary files.
    pub folder: String,
    /// Name of the collection that documents are loaded into.
    pub collection: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    #[default]
    Folder,
    Aws,
}

/// Selects the location of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectPlace {
    #[default]
    Auto,
    Folder,
    S3,
}

/// Selects the location of control records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ControlPlace {
    #[default]
    Auto,
    Sqlite,
    Dynamodb,
}

impl StateOptions {
    /// Returns the name of the backend of objects.
    pub fn objects_in(&self) -> &'static str {
        match (self.objects, self.backend) {
            (ObjectPlace::Folder, _) | (ObjectPlace::Auto, Backend::Folder) => "folder",
            (ObjectPlace::S3, _) | (ObjectPlace::Auto, Backend::Aws) => "s3",
        }
    }

    /// Returns the name of the backend of control records.
    pub fn control_in(&self) -> &'static str {
        match (self.control, self.backend) {
            (ControlPlace::Sqlite, _) | (ControlPlace::Auto, Backend::Folder) => "sqlite",
            (ControlPlace::Dynamodb, _) | (ControlPlace::Auto, Backend::Aws) => "dynamodb",
        }
    }

    /// Returns whether all lasting state is in the folder. If so, a missing folder means that there is no state.
    pub fn is_local(&self) -> bool {
        self.objects_in() == "folder" && self.control_in() == "sqlite"
    }
}

/// Names the buckets of a state in AWS, as `BUCKET` or `BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BucketOptions {
    /// Place of artefacts and of originals in quarantine.
    pub artefacts: String,
    /// Place of vector files and their manifests. Empty means `buckets.artefacts`.
    pub vectors: String,
    /// Record of the current manifest: `s3` (conditional writes, checked at the start) or `dynamodb` (for
    /// endpoints that do not enforce conditional writes).
    pub register: Register,
    /// Age, in days, at which artefacts move to S3 Glacier; 0 means never. `docweir infra apply` sets the rule.
    /// Archived artefacts must be restored before a document can be retried from a stage.
    pub archive_days: u32,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self { artefacts: String::new(), vectors: String::new(), register: Register::S3, archive_days: 30 }
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
    /// Returns the place of vector files.
    pub fn vectors(&self) -> &str {
        if self.vectors.is_empty() { &self.artefacts } else { &self.vectors }
    }
}

/// Splits a place into its bucket and its prefix.
pub fn bucket_and_prefix(place: &str) -> (&str, &str) {
    place.split_once('/').map_or((place, ""), |(bucket, prefix)| (bucket, prefix.trim_end_matches('/')))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseOptions {
    /// Time after the last heartbeat at which a claim lapses, in seconds. Shorter means that another process takes
    /// over sooner, and that a slow network loses claims more often.
    pub seconds: u64,
    /// Interval between heartbeats, in seconds. At most a third of `lease.seconds`.
    pub heartbeat_seconds: u64,
    /// Number of times that the process may die during one stage of a document before that document is quarantined.
    pub max_interruptions: u32,
    /// Number of times that the process may die during one stage of a document before that document is processed
    /// alone. So no document is blamed for another.
    pub alone_after_interruptions: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainOptions {
    /// Time for running work to finish after SIGINT or SIGTERM, in seconds. Keep it below the stop timeout of the
    /// container.
    pub seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchOptions {
    /// Number of passages to show.
    pub top: usize,
    /// Scoring of passages: `hybrid` (meaning and words), `vector` (meaning only) or `full_text` (words only).
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
    /// Level of the log: `error`, `warn`, `info`, `debug`, or comma-separated `module=level` pairs.
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
        Self { top: 5, mode: SearchMode::Hybrid, weight: 0.5 }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: "warn".into(), format: LogFormat::Text }
    }
}

impl Settings {
    /// Returns the secrets that the configuration names, each with its key.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretName)> {
        let named = [(API_KEY, &self.embed.options.openai.api_key)];
        let kept = named.into_iter().filter_map(|(key, setting)| match setting {
            SecretSetting::Kept(name) => Some((key, name)),
            SecretSetting::Unset => None,
        });
        kept.collect()
    }

    /// Returns whether state needs DynamoDB's tables: for control records, or for the manifests of vector files.
    pub fn needs_tables(&self) -> bool {
        let swapped = self.state.objects_in() == "s3" && self.buckets.register == Register::Dynamodb;
        self.state.control_in() == "dynamodb" || swapped
    }
}
