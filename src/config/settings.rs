//! All settings in one tree: a section a component. The doc comments of the fields are the documentation of
//! config.toml, and a test holds the two together.

use std::num::NonZero;

use docweir_aws::DynamoOptions;
use docweir_aws::{AwsOptions, S3Options};
use docweir_core::cache::EmbeddingCacheOptions;
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
use docweir_stages::enrich::{EnrichOptions, EnrichProvider};
use docweir_stores::batches::DOCUMENTS;
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

/// The key that names the secret of an endpoint.
pub const API_KEY: &str = "embed.options.openai.api_key";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Marks a `config.toml` as Docweir's, and its format. Always 1.
    pub docweir_config: u32,
    pub state: StateOptions,
    pub intake: IntakeOptions,
    pub lease: LeaseOptions,
    pub extract: StagePool<ExtractOptions>,
    pub chunk: StagePool<ChunkOptions>,
    pub enrich: StagePool<EnrichOptions>,
    pub embed: EmbedPool,
    pub load: StagePool<CommitOptions>,
    pub batch: BatchOptions,
    pub records: RecordsOptions,
    pub budget: BudgetOptions,
    pub prices: PriceOptions,
    pub retry: RetryOptions,
    pub restart: RestartOptions,
    pub scaling: ScalingOptions,
    pub drain: DrainOptions,
    pub quarantine: QuarantineOptions,
    pub control: SqliteControlOptions,
    pub objects: LocalObjectOptions,
    pub aws: AwsOptions,
    pub secrets: SecretOptions,
    pub buckets: BucketOptions,
    pub s3: S3Options,
    pub dynamodb: DynamoOptions,
    pub copies: CopyOptions,
    pub queues: QueueOptions,
    pub cache: EmbeddingCacheOptions,
    pub vectors: VectorOptions,
    pub compaction: CompactionOptions,
    pub retention: RetentionOptions,
    pub search: SearchOptions,
    pub http: HttpOptions,
    pub cloudwatch: CloudWatchOptions,
    pub doctor: DoctorOptions,
    pub log: LogOptions,
}

/// A stage's pool and the stage's own options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, bound(deserialize = "T: Default + Deserialize<'de>"))]
pub struct StagePool<T> {
    /// Workers: as many as `min`, up to `max` while the queue grows old.
    pub workers: Workers,
    /// Documents that the pool holds at most: waiting, in work, waiting for a retry or for the next stage.
    pub queue_documents: usize,
    /// Memory of the documents that the pool holds at most, in bytes; one that is larger passes alone.
    pub queue_bytes: usize,
    /// Time after which an attempt is ended, in seconds.
    pub deadline_seconds: u64,
    pub options: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// At least.
    pub min: usize,
    /// At most; 0 means as many as suit the stage, and never fewer than `min`.
    pub max: usize,
}

impl Workers {
    /// The real upper bound, where `suits` is what suits the stage.
    pub fn most(&self, suits: usize) -> usize {
        match self.max {
            0 => suits.max(self.min),
            max => max,
        }
    }

    /// What suits a stage that computes: two more than the machine has cores, so that none is idle while a worker
    /// waits for the disk or the control store.
    pub fn for_computing() -> usize {
        std::thread::available_parallelism().map_or(1, NonZero::get) + 2
    }
}

/// The embedding stage: a pool as the others, and when its calls are answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedPool {
    /// When calls of a provider are answered: `live` (at once), `batch` (within a day, at half the price) or `auto` (by
    /// batch where there is time for it and it saves enough).
    pub mode: EmbedMode,
    /// Workers: as many as `min`, up to `max` while the queue grows old.
    pub workers: Workers,
    /// Documents that the pool holds at most: waiting, in work, waiting for a retry or for the next stage.
    pub queue_documents: usize,
    /// Memory of the documents that the pool holds at most, in bytes; one that is larger passes alone.
    pub queue_bytes: usize,
    /// Time after which an attempt is ended, in seconds.
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedSettings {
    /// Who makes the vectors: `local` (a model on this machine), `openai` (an endpoint that speaks OpenAI's protocol) or
    /// `hashed` (no model at all: for tests and benchmarks, finds only equal words).
    pub provider: Provider,
    /// Dimensions of the `hashed` provider.
    pub hashed_dimensions: u32,
    /// Time that the `hashed` provider takes for each text, in milliseconds.
    pub hashed_milliseconds: u64,
    pub batch: EmbedOptions,
    pub model: ModelOptions,
    pub openai: OpenAiOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    #[default]
    Local,
    Openai,
    Hashed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateOptions {
    /// Where state lies: `folder` (all of it, for one machine) or `aws` (objects in S3, control records in DynamoDB, for
    /// any number of processes).
    pub backend: Backend,
    /// Where objects lie (artefacts, vector files, manifests): `folder` or `s3`; `auto` is what `backend` says.
    pub objects: ObjectPlace,
    /// Where control records, the ledger and batches lie: `sqlite` (for one process at a time) or `dynamodb` (for any
    /// number of them, on any machine, which need objects in `s3`); `auto` is what `backend` says.
    pub control: ControlPlace,
    /// The folder that holds all state: control records, artefacts, vectors, caches. With `aws` only what can be made
    /// again.
    pub folder: String,
    /// The collection that documents are loaded into.
    pub collection: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    #[default]
    Folder,
    Aws,
}

/// A value of `state.objects`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectPlace {
    #[default]
    Auto,
    Folder,
    S3,
}

/// A value of `state.control`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Returns whether everything that lasts lies in the folder: where that is not there, nothing is.
    pub fn is_local(&self) -> bool {
        self.objects_in() == "folder" && self.control_in() == "sqlite"
    }
}

/// Which bucket holds what, as `BUCKET` or `BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketOptions {
    /// What the stages make, failed artefacts and the originals in quarantine.
    pub artefacts: String,
    /// Vector files and their manifests; empty for the bucket of artefacts.
    pub vectors: String,
    /// Where a manifest is swapped: `s3` (by conditional writes, which are tried at the start) or `dynamodb` (for
    /// endpoints that don't enforce them).
    pub register: Register,
    /// Days after which what the stages made is archived (S3 Glacier), by a rule that `docweir infra apply` sets; 0 for
    /// never. To retry a document from a stage, what was archived has to be restored first.
    pub archive_days: u32,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self { artefacts: String::new(), vectors: String::new(), register: Register::S3, archive_days: 30 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Register {
    #[default]
    S3,
    Dynamodb,
}

impl BucketOptions {
    /// That of the vectors' files.
    pub fn vectors(&self) -> &str {
        if self.vectors.is_empty() { &self.artefacts } else { &self.vectors }
    }
}

/// Bucket and prefix of a place.
pub fn bucket_and_prefix(place: &str) -> (&str, &str) {
    place.split_once('/').map_or((place, ""), |(bucket, prefix)| (bucket, prefix.trim_end_matches('/')))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseOptions {
    /// How long a claim on a document is valid without a sign of life, in seconds.
    pub seconds: u64,
    /// How often a sign of life is given, in seconds.
    pub heartbeat_seconds: u64,
    /// Times that the process may die while a document is in one stage before that document is quarantined.
    pub max_interruptions: u32,
    /// Times that the process may die while a document is in one stage before that document is done while no other is.
    pub alone_after_interruptions: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainOptions {
    /// Time that running work has to end after SIGINT or SIGTERM, in seconds. Keep it below the container's stop grace.
    pub seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchOptions {
    /// Passages shown.
    pub top: usize,
    /// How passages are scored: `hybrid`, `vector` or `full_text`.
    pub mode: SearchMode,
    /// Hybrid only: share of the vector score, 0 to 1.
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    #[default]
    Hybrid,
    Vector,
    FullText,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// What is logged to standard error: `error`, `warn`, `info`, `debug`, or `module=level` pairs.
    pub level: String,
    /// How: `text` or `json`.
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
            cache: EmbeddingCacheOptions::default(),
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
    /// The secrets that are named, each with the key that names it.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretName)> {
        let named = [(API_KEY, &self.embed.options.openai.api_key)];
        let kept = named.into_iter().filter_map(|(key, setting)| match setting {
            SecretSetting::Kept(name) => Some((key, name)),
            SecretSetting::Unset => None,
        });
        kept.collect()
    }

    /// Every value that is out of range: its key and what would be right.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |section: &str, found: Vec<(&'static str, String)>| {
            all.extend(found.into_iter().map(|(field, text)| (format!("{section}.{field}"), text)));
        };
        add("intake", self.intake.problems());
        add("extract.options", self.extract.options.problems());
        add("extract", self.extract.problems());
        add("chunk.options", self.chunk.options.problems());
        add("chunk", self.chunk.problems());
        add("enrich.options", self.enrich.options.problems());
        add("enrich.options.comprehend", self.enrich.options.comprehend.problems());
        add("enrich.options.comprehend.cache", self.enrich.options.comprehend.cache.problems());
        add("enrich", self.enrich.problems());
        add("embed.options.batch", self.embed.options.batch.problems());
        add("embed.options.model", self.embed.options.model.problems());
        add("embed.options.openai", self.embed.options.openai.problems());
        add("embed.options.openai.limits", self.embed.options.openai.limits.problems());
        add("embed", self.embed.pool().problems());
        add("load.options", self.load.options.problems());
        add("load", self.load.problems());
        add("batch", self.batch.problems());
        add("batch.transfer", self.batch.transfer.problems());
        add("records", self.records.problems());
        add("records.table", self.records.table.problems());
        add("budget", self.budget.problems());
        add("prices", self.prices.problems());
        add("retry", self.retry.problems());
        add("restart", self.restart.problems());
        add("scaling", self.scaling.problems());
        add("control", self.control.problems());
        add("objects", self.objects.problems());
        add("aws", self.aws.problems());
        add("secrets", self.secrets.problems());
        add("s3", self.s3.problems());
        add("dynamodb", self.dynamodb.problems());
        add("copies", self.copies.problems());
        add("queues", self.queues.problems());
        add("cache", self.cache.problems());
        add("vectors", self.vectors.problems());
        add("compaction", self.compaction.problems());
        add("retention", self.retention.problems());
        add("http", self.http.problems());
        add("cloudwatch", self.cloudwatch.problems());
        add("doctor", self.doctor.problems());
        let mut range = |key: &str, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                all.push((key.to_owned(), format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("docweir_config", f64::from(self.docweir_config), 1.0, 1.0);
        range("lease.seconds", self.lease.seconds as f64, 3.0, 86_400.0);
        range("lease.max_interruptions", f64::from(self.lease.max_interruptions), 1.0, 1_000.0);
        let alone = f64::from(self.lease.alone_after_interruptions);
        range("lease.alone_after_interruptions", alone, 1.0, 1_000.0);
        range("drain.seconds", self.drain.seconds as f64, 1.0, 3_600.0);
        range("search.top", self.search.top as f64, 1.0, self.vectors.max_results as f64);
        range("search.weight", self.search.weight, 0.0, 1.0);
        range("embed.options.hashed_dimensions", f64::from(self.embed.options.hashed_dimensions), 8.0, 8_192.0);
        range("embed.options.hashed_milliseconds", self.embed.options.hashed_milliseconds as f64, 0.0, 60_000.0);
        range("quarantine.max_original_bytes", self.quarantine.max_original_bytes as f64, 0.0, 1e12);
        if self.lease.heartbeat_seconds == 0 || self.lease.heartbeat_seconds * 3 > self.lease.seconds {
            let text = format!("must be at least 1 and at most a third of lease.seconds ({})", self.lease.seconds);
            all.push(("lease.heartbeat_seconds".into(), text));
        }
        let comprehend = &self.enrich.options.comprehend;
        let longest = comprehend.max_document_seconds + comprehend.max_wait_seconds + comprehend.request_seconds;
        if self.enrich.options.provider == EnrichProvider::Comprehend && longest > self.enrich.deadline_seconds as f64 {
            let text = format!(
                "must be below enrich.deadline_seconds ({}) together with max_wait_seconds and request_seconds, or a slow \
                 service would cost attempts",
                self.enrich.deadline_seconds
            );
            all.push(("enrich.options.comprehend.max_document_seconds".into(), text));
        }
        if self.embed.mode != EmbedMode::Live && self.embed.options.provider != Provider::Openai {
            let text = "must be `live` where `embed.options.provider` is not `openai`: nobody else takes batches";
            all.push(("embed.mode".into(), text.into()));
        }
        let (objects, control) = (self.state.objects_in(), self.state.control_in());
        if objects == "s3" && self.buckets.artefacts.is_empty() {
            let because = if self.state.objects == ObjectPlace::S3 { "objects` is `s3" } else { "backend` is `aws" };
            all.push(("buckets.artefacts".into(), format!("must name a bucket where `state.{because}`")));
        }
        if objects == "folder" && control == "dynamodb" {
            let text = "must be `s3` where control records are in DynamoDB: other machines have no part in this folder";
            all.push(("state.objects".into(), text.into()));
        }
        if !self.queues.intake.is_empty() && self.queues.watched(&self.buckets.artefacts).is_empty() {
            all.push(("queues.watch".into(), "must say where documents arrive, as `BUCKET/PREFIX/`".into()));
        }
        if self.records.table.collection == DOCUMENTS {
            all.push(("records.table.collection".into(), "must name a collection that holds no documents".into()));
        }
        if self.state.folder.is_empty() {
            all.push(("state.folder".into(), "must name a folder".into()));
        }
        all
    }
}

impl Settings {
    /// Returns whether state needs DynamoDB's tables: for control records, or for the manifests of vector files.
    pub fn needs_tables(&self) -> bool {
        let swapped = self.state.objects_in() == "s3" && self.buckets.register == Register::Dynamodb;
        self.state.control_in() == "dynamodb" || swapped
    }
}

impl<T> StagePool<T> {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("workers.min", self.workers.min as u64, 1, 4_096);
        if self.workers.max != 0 {
            range("workers.max", self.workers.max as u64, self.workers.min as u64, 4_096);
        }
        range("queue_documents", self.queue_documents as u64, 1, 1_000_000);
        range("queue_bytes", self.queue_bytes as u64, 1 << 20, 1 << 40);
        range("deadline_seconds", self.deadline_seconds, 1, 7 * 86_400);
        found
    }
}
