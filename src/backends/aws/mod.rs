//! Opens everything that needs AWS clients: state in S3 and DynamoDB, queues, secrets, metrics, Comprehend.
//!
//! `without_aws.rs` has the same functions for programs built without the AWS clients.

mod control;
mod figures;
mod objects;
mod originals;

use std::path::Path;
use std::sync::Arc;

use docweir_aws::Aws;
use docweir_aws::cloudwatch::CloudWatch;
use docweir_aws::dynamo::Dynamo;
use docweir_aws::sqs::Sqs;
use docweir_aws_backend::comprehend::AwsComprehend;
use docweir_aws_backend::queues::{self, SqsQueue};
use docweir_aws_backend::record_table::DynamoRecordTable;
use docweir_aws_backend::secrets::SecretsManagerVault;
use docweir_providers::comprehend::Remote;
use docweir_providers::secrets::Vault;
use docweir_stores::queues::{DeadLetters, Queue};
use docweir_stores::record_table::{RecordTable, TableError};

use super::{ControlBackend, ObjectBackend};
use crate::actors::queues::Queues;
use crate::config::Settings;
use crate::exit::{EngineError, Exit};
use crate::intake::originals::Originals;
use crate::telemetry::publisher::MetricSink;

/// Returns the backends that store objects in AWS.
pub fn object_backends() -> Vec<Box<dyn ObjectBackend>> {
    vec![Box::new(objects::S3)]
}

/// Returns all control backends that use AWS.
pub fn control_backends() -> Vec<Box<dyn ControlBackend>> {
    vec![Box::new(control::DynamoControl)]
}

/// Returns access to Secrets Manager. The first call is made when the first secret is needed.
pub fn vault(settings: &Settings) -> Option<Arc<dyn Vault>> {
    Some(Arc::new(SecretsManagerVault::new(settings.aws.clone(), &settings.secrets.endpoint)))
}

/// Returns a reader for files of this machine and for objects of any bucket. While an object is open, its local copy
/// is in `folder`.
pub fn originals(settings: &Settings, folder: &Path) -> Arc<dyn Originals> {
    Arc::new(originals::BucketOriginals::new(&settings.aws, &settings.s3, folder))
}

/// Opens two queues: `intake`, from which events are received, and `compaction`, to which notifications are sent.
/// Each argument is the URL or the name of the queue. An empty string means that the queue is not used.
pub async fn queues(settings: &Settings, intake: &str, compaction: &str) -> Result<Queues, EngineError> {
    let sqs = sqs(settings).await;
    let open = async |queue: &str| -> Result<Option<Arc<dyn Queue>>, EngineError> {
        if queue.is_empty() {
            return Ok(None);
        }
        let queue: Arc<dyn Queue> = Arc::new(SqsQueue::open(&sqs, queue).await.map_err(EngineError::system)?);
        Ok(Some(queue))
    };
    Ok(Queues { intake: open(intake).await?, compaction: open(compaction).await? })
}

/// Counts the messages in the dead-letter queues of the configured queues.
pub async fn dead_letters(settings: &Settings) -> Result<Vec<DeadLetters>, EngineError> {
    let sqs = sqs(settings).await;
    let mut found = Vec::new();
    for queue in settings.queues.addresses() {
        found.extend(queues::dead_letters(&sqs, queue).await.map_err(EngineError::system)?);
    }
    Ok(found)
}

/// Moves the messages in the dead-letter queue of `queue` back to it. Returns their number.
pub async fn redrive(settings: &Settings, queue: &str) -> Result<u64, EngineError> {
    queues::redrive(&sqs(settings).await, queue).await.map_err(EngineError::system)
}

async fn sqs(settings: &Settings) -> Sqs {
    Sqs::new(&Aws::find(settings.aws.clone()).await, &settings.queues.endpoint)
}

/// Opens the user's tables of records, from which records are read. These tables are always in DynamoDB, even if
/// Docweir's own state is local.
pub async fn record_tables(settings: &Settings) -> Result<Arc<dyn RecordTable>, TableError> {
    let broken = |error: EngineError| TableError::Broken {
        table: settings.records.table.name.clone(),
        reason: error.to_string(),
        hint: "see `[aws]`".into(),
    };
    let dynamo = Dynamo::new(&access(settings).await.map_err(broken)?, &settings.dynamodb.endpoint);
    Ok(Arc::new(DynamoRecordTable::new(dynamo, settings.records.table.clone(), settings.dynamodb.attempts)))
}

/// Opens CloudWatch as the destination of metrics.
pub async fn figures(settings: &Settings) -> Result<Box<dyn MetricSink>, EngineError> {
    let client = CloudWatch::new(&access(settings).await?, &settings.cloudwatch.endpoint);
    Ok(Box::new(figures::CloudWatchFigures { client, namespace: settings.cloudwatch.namespace.clone() }))
}

/// Opens Comprehend without making a call.
pub async fn comprehend(settings: &Settings) -> Result<Arc<dyn Remote>, EngineError> {
    let found = AwsComprehend::find(&settings.aws, &settings.enrich.options.comprehend).await;
    let remote = found.ok_or_else(no_region)?;
    Ok(Arc::new(remote))
}

/// Returns access to AWS, or an error if no region is configured.
async fn access(settings: &Settings) -> Result<Aws, EngineError> {
    let aws = Aws::find(settings.aws.clone()).await;
    if aws.region().is_none() {
        return Err(no_region());
    }
    Ok(aws)
}

fn no_region() -> EngineError {
    EngineError::new(Exit::Configuration, "no region is configured: set `aws.region` or AWS_REGION")
}
