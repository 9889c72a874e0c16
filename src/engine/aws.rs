//! State in AWS: objects in S3, control records in DynamoDB, copies of what is mapped on this machine's disk.

use std::sync::{Arc, OnceLock};

use docweir_aws::Aws;
use docweir_aws::DynamoOptions;
use docweir_aws::cloudwatch::CloudWatch;
use docweir_aws::dynamo::Dynamo;
use docweir_aws::s3::S3;
use docweir_aws::sqs::Sqs;
use docweir_aws_backend::batches::DynamoBatches;
use docweir_aws_backend::control::DynamoControlStore;
use docweir_aws_backend::dynamo_objects::DynamoObjects;
use docweir_aws_backend::ledger::DynamoLedger;
use docweir_aws_backend::queues::SqsQueue;
use docweir_aws_backend::record_table::DynamoRecordTable;
use docweir_aws_backend::s3::S3Objects;
use docweir_core::clock::SharedClock;
use docweir_objects::ObjectStore;
use docweir_objects::cached::CachedObjects;
use docweir_objects::lease::LeaseRegister;
use docweir_objects::routed::RoutedObjects;
use docweir_stores::control::ControlStore;
use docweir_stores::queues::Queue;
use docweir_stores::record_table::{RecordTable, TableError};
use docweir_stores::state::StateFolder;

use super::EngineError;
use crate::actors::queues::Queues;
use crate::cli::exit::Exit;
use crate::config::{Register, Settings, bucket_and_prefix};

pub struct Stores {
    pub objects: Arc<dyn ObjectStore>,
    pub control: Arc<dyn ControlStore>,
    /// The place of the manifests where they are swapped in S3: it is tried before anything is written.
    pub manifests: Option<S3Objects>,
    pub books: Books,
}

/// What is paid for, opened by the first who needs it.
pub struct Books {
    dynamo: Dynamo,
    options: DynamoOptions,
    entry_days: u32,
    clock: SharedClock,
    objects: Arc<dyn ObjectStore>,
    /// Small objects of which one process at a time may be the last writer.
    registers: DynamoObjects,
    ledger: OnceLock<Arc<DynamoLedger>>,
    batches: OnceLock<Arc<DynamoBatches>>,
}

impl Books {
    pub fn ledger(&self) -> Arc<DynamoLedger> {
        let open = || DynamoLedger::open(self.dynamo.clone(), &self.options, self.entry_days, self.clock.clone());
        self.ledger.get_or_init(|| Arc::new(open())).clone()
    }

    pub fn batches(&self) -> Arc<DynamoBatches> {
        let (dynamo, objects, clock) = (self.dynamo.clone(), self.objects.clone(), self.clock.clone());
        let open = || DynamoBatches::new(dynamo, &self.options, self.ledger(), objects, clock);
        self.batches.get_or_init(|| Arc::new(open())).clone()
    }

    /// Of whoever looks after them.
    pub fn batch_lease(&self) -> LeaseRegister {
        LeaseRegister::new(Arc::new(self.registers.clone()), "leases/BATCHES".into(), self.clock.clone())
    }
}

/// Queues by URL or name; none where that is empty.
pub async fn queues(settings: &Settings, intake: &str, compaction: &str) -> Result<Queues, EngineError> {
    let aws = Aws::find(settings.aws.clone()).await;
    let sqs = Sqs::new(&aws, &settings.queues.endpoint);
    let open = async |queue: &str| -> Result<Option<Arc<dyn Queue>>, EngineError> {
        if queue.is_empty() {
            return Ok(None);
        }
        let queue: Arc<dyn Queue> = Arc::new(SqsQueue::open(&sqs, queue).await.map_err(EngineError::system)?);
        Ok(Some(queue))
    };
    Ok(Queues { intake: open(intake).await?, compaction: open(compaction).await? })
}

/// Access to AWS, whose region has to be known.
async fn access(settings: &Settings) -> Result<Aws, EngineError> {
    let aws = Aws::find(settings.aws.clone()).await;
    if aws.region().is_none() {
        let text = "no region is configured: set `aws.region`, or AWS_REGION";
        return Err(EngineError::new(Exit::Configuration, text));
    }
    Ok(aws)
}

/// Tables that records come from, whatever state lies in.
pub async fn record_tables(settings: &Settings) -> Result<Arc<dyn RecordTable>, TableError> {
    let broken = |error: EngineError| TableError::Broken {
        table: settings.records.table.name.clone(),
        reason: error.to_string(),
        hint: "see `[aws]`".into(),
    };
    let dynamo = Dynamo::new(&access(settings).await.map_err(broken)?, &settings.dynamodb.endpoint);
    Ok(Arc::new(DynamoRecordTable::new(dynamo, settings.records.table.clone(), settings.dynamodb.attempts)))
}

/// Where figures go.
pub async fn cloudwatch(settings: &Settings) -> Result<CloudWatch, EngineError> {
    Ok(CloudWatch::new(&access(settings).await?, &settings.cloudwatch.endpoint))
}

pub async fn open(settings: &Settings, state: &StateFolder, clock: &SharedClock) -> Result<Stores, EngineError> {
    let aws = access(settings).await?;
    let s3 = S3::new(&aws, &settings.s3);
    let place = |place: &str| {
        let (bucket, prefix) = bucket_and_prefix(place);
        S3Objects::new(&s3, bucket, prefix).map_err(EngineError::system)
    };
    let vectors = place(settings.buckets.vectors())?;
    let manifests = settings.buckets.register == Register::Dynamodb;
    let tried = (!manifests).then(|| vectors.clone());
    let options = DynamoOptions { max_retries: settings.retry.attempts, ..settings.dynamodb.clone() };
    let dynamo = Dynamo::new(&aws, &options.endpoint);
    let registers = DynamoObjects::new(dynamo.clone(), &options.state_table, settings.buckets.vectors(), clock.clone());
    let leases = DynamoObjects::new(dynamo.clone(), &options.state_table, &settings.buckets.artefacts, clock.clone());
    let copies = state.root().join("copies");
    let vectors = CachedObjects::open(Arc::new(vectors), &copies, settings.copies.clone(), clock.clone());
    let objects = RoutedObjects {
        vectors: Arc::new(vectors.map_err(EngineError::system)?),
        registers: Arc::new(registers),
        manifests,
        others: Arc::new(place(&settings.buckets.artefacts)?),
    };
    let objects: Arc<dyn ObjectStore> = Arc::new(objects);
    let books = Books {
        dynamo: dynamo.clone(),
        options: options.clone(),
        entry_days: settings.budget.entry_days,
        clock: clock.clone(),
        objects: objects.clone(),
        registers: leases,
        ledger: OnceLock::new(),
        batches: OnceLock::new(),
    };
    let control = DynamoControlStore::open(&aws, dynamo, options, clock.clone());
    Ok(Stores { objects, control: Arc::new(control), manifests: tried, books })
}
