//! Stores objects in S3 and keeps local copies of the files that are memory-mapped.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_aws::dynamo::Dynamo;
use docweir_aws::s3::S3 as S3Client;
use docweir_aws_backend::dynamo_objects::DynamoObjects;
use docweir_aws_backend::s3::S3Objects;
use docweir_objects::cached::CachedObjects;
use docweir_objects::routed::RoutedObjects;
use docweir_objects::{ObjectError, ObjectStore};

use super::access;
use crate::backends::{KeepsConditions, ObjectBackend, Opening, StateObjects};
use crate::config::{Register, bucket_and_prefix};
use crate::exit::EngineError;

/// Opens the S3 locations that `buckets.artefacts` and `buckets.vectors` name.
///
/// Manifests are stored in the table `dynamodb.state_table` if `buckets.register` is `dynamodb`, and in S3 otherwise.
/// Leases are stored in the same table if manifests or control records are in DynamoDB, and in S3 otherwise.
pub struct S3;

/// Checks that S3 honours the conditions of conditional writes. The check is used only if manifests are stored in S3.
/// It is necessary because S3-compatible servers of other vendors may ignore the conditions.
struct Manifests(S3Objects);

#[async_trait]
impl KeepsConditions for Manifests {
    async fn prove(&self) -> Result<(), ObjectError> {
        self.0.probe().await
    }
}

#[async_trait]
impl ObjectBackend for S3 {
    fn name(&self) -> &'static str {
        "s3"
    }

    async fn open(&self, Opening { settings, folder, clock, .. }: Opening<'_>) -> Result<StateObjects, EngineError> {
        let aws = access(settings).await?;
        let s3 = S3Client::new(&aws, &settings.s3);
        let place = |place: &str| {
            let (bucket, prefix) = bucket_and_prefix(place);
            S3Objects::new(&s3, bucket, prefix).map_err(EngineError::system)
        };
        let in_s3 = place(settings.buckets.vectors())?;
        let manifests = settings.buckets.register == Register::Dynamodb;
        let conditions = (!manifests).then(|| Arc::new(Manifests(in_s3.clone())) as Arc<dyn KeepsConditions>);
        let registers: Arc<dyn ObjectStore> = if settings.needs_tables() {
            let dynamo = Dynamo::new(&aws, &settings.dynamodb.endpoint);
            let table = &settings.dynamodb.state_table;
            Arc::new(DynamoObjects::new(dynamo, table, settings.buckets.vectors(), clock.clone()))
        } else {
            Arc::new(in_s3.clone())
        };
        let copies = folder.root().join("copies");
        let vectors = CachedObjects::open(Arc::new(in_s3), &copies, settings.copies.clone(), clock.clone());
        let objects = RoutedObjects {
            vectors: Arc::new(vectors.map_err(EngineError::system)?),
            registers,
            manifests,
            others: Arc::new(place(&settings.buckets.artefacts)?),
        };
        Ok(StateObjects { objects: Arc::new(objects), conditions })
    }
}
