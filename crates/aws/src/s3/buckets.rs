//! Creates buckets, checks whether they exist, and configures them.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint, CreateBucketConfiguration,
    ExpirationStatus, LifecycleExpiration, LifecycleRule as SdkRule, LifecycleRuleFilter,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, Transition, TransitionStorageClass,
};
use aws_smithy_types::error::operation::BuildError;

use super::Bucket;
use crate::{Fault, FaultKind};

/// Describes a rule by which S3 archives or deletes objects automatically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleRule {
    pub id: String,
    /// Prefix of the keys that the rule applies to.
    pub prefix: String,
    /// Days from the write of an object until it is archived. An archived object must be restored before it can be
    /// read, which takes hours.
    pub archive_days: Option<u32>,
    /// Days from the write of an object until it is deleted.
    pub expire_days: Option<u32>,
    /// Days from the start of a multipart upload until S3 aborts the upload, if the upload is still unfinished.
    pub abort_days: Option<u32>,
}

/// Describes the default encryption of a bucket. It applies to writes that request no encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Encryption algorithm: `AES256` or `aws:kms`.
    pub kind: String,
    /// Id or ARN of the KMS key; empty means the default key of the account.
    pub kms_key: String,
}

impl Bucket {
    /// Creates the bucket in the client's region. Succeeds if this account already owns the bucket.
    pub async fn create(&self) -> Result<(), Fault> {
        // `us-east-1` is the default and must not be named as a constraint.
        let region = self.s3.aws.region().filter(|region| *region != "us-east-1");
        let place = region.map(|region| {
            let constraint = BucketLocationConstraint::from(region);
            CreateBucketConfiguration::builder().location_constraint(constraint).build()
        });
        let call = self.s3.client.create_bucket().bucket(&self.name).set_create_bucket_configuration(place);
        match self.s3.done("CreateBucket", call.send().await) {
            Err(fault) if fault.code == "BucketAlreadyOwnedByYou" => Ok(()),
            other => other.map(drop),
        }
    }

    pub async fn exists(&self) -> Result<bool, Fault> {
        match self.s3.done("HeadBucket", self.s3.client.head_bucket().bucket(&self.name).send().await) {
            Ok(_) => Ok(true),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Returns the enabled lifecycle rules, reduced to the fields of [`LifecycleRule`]. A rule that is limited to
    /// certain tags or sizes is returned as if it applied to all objects.
    pub async fn lifecycle(&self) -> Result<Vec<LifecycleRule>, Fault> {
        let rules = self.all_rules().await?;
        Ok(rules.iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled).map(plain).collect())
    }

    /// Adds `rules` to the existing rules. A new rule replaces an existing one with the same id.
    pub async fn put_lifecycle(&self, rules: &[LifecycleRule]) -> Result<(), Fault> {
        let mut all = self.all_rules().await?;
        all.retain(|old| !rules.iter().any(|new| old.id() == Some(&new.id)));
        for rule in rules {
            all.push(sdk(rule).map_err(not_built)?);
        }
        let all = BucketLifecycleConfiguration::builder().set_rules(Some(all)).build().map_err(not_built)?;
        let call = self.s3.client.put_bucket_lifecycle_configuration().bucket(&self.name).lifecycle_configuration(all);
        self.s3.done("PutBucketLifecycleConfiguration", call.send().await).map(drop)
    }

    async fn all_rules(&self) -> Result<Vec<SdkRule>, Fault> {
        let call = self.s3.client.get_bucket_lifecycle_configuration().bucket(&self.name);
        match self.s3.done("GetBucketLifecycleConfiguration", call.send().await) {
            Ok(found) => Ok(found.rules.unwrap_or_default()),
            Err(fault) if fault.code == "NoSuchLifecycleConfiguration" => Ok(Vec::new()),
            Err(fault) => Err(fault),
        }
    }

    pub async fn encryption(&self) -> Result<Option<Encryption>, Fault> {
        let call = self.s3.client.get_bucket_encryption().bucket(&self.name);
        let found = match self.s3.done("GetBucketEncryption", call.send().await) {
            Err(fault) if fault.code == "ServerSideEncryptionConfigurationNotFoundError" => return Ok(None),
            other => other?,
        };
        let rules = found.server_side_encryption_configuration.map(|c| c.rules).unwrap_or_default();
        let default = rules.into_iter().find_map(|rule| rule.apply_server_side_encryption_by_default);
        Ok(default.map(|d| Encryption {
            kind: d.sse_algorithm.as_str().to_owned(),
            kms_key: d.kms_master_key_id.unwrap_or_default(),
        }))
    }

    pub async fn put_encryption(&self, encryption: &Encryption) -> Result<(), Fault> {
        let key = (!encryption.kms_key.is_empty()).then(|| encryption.kms_key.clone());
        let default = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(ServerSideEncryption::from(encryption.kind.as_str()))
            .set_kms_master_key_id(key)
            .build()
            .map_err(not_built)?;
        // A bucket key avoids most of the calls to KMS and their charges.
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default)
            .bucket_key_enabled(encryption.kind == "aws:kms")
            .build();
        let all = ServerSideEncryptionConfiguration::builder().rules(rule).build().map_err(not_built)?;
        let call = self.s3.client.put_bucket_encryption().bucket(&self.name).server_side_encryption_configuration(all);
        self.s3.done("PutBucketEncryption", call.send().await).map(drop)
    }

    /// Returns whether the bucket blocks all public access.
    pub async fn is_private(&self) -> Result<bool, Fault> {
        let call = self.s3.client.get_public_access_block().bucket(&self.name);
        let found = match self.s3.done("GetPublicAccessBlock", call.send().await) {
            Err(fault) if fault.code == "NoSuchPublicAccessBlockConfiguration" => return Ok(false),
            other => other?.public_access_block_configuration,
        };
        let all = |c: PublicAccessBlockConfiguration| {
            [c.block_public_acls, c.ignore_public_acls, c.block_public_policy, c.restrict_public_buckets]
                .into_iter()
                .all(|on| on == Some(true))
        };
        Ok(found.is_some_and(all))
    }

    /// Blocks all public access to the bucket and its objects.
    pub async fn make_private(&self) -> Result<(), Fault> {
        let all = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let call = self.s3.client.put_public_access_block().bucket(&self.name).public_access_block_configuration(all);
        self.s3.done("PutPublicAccessBlock", call.send().await).map(drop)
    }
}

fn sdk(rule: &LifecycleRule) -> Result<SdkRule, BuildError> {
    let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    let archive = rule
        .archive_days
        .map(|d| Transition::builder().days(days(d)).storage_class(TransitionStorageClass::Glacier).build());
    let expiration = rule.expire_days.map(|d| LifecycleExpiration::builder().days(days(d)).build());
    let abort =
        rule.abort_days.map(|d| AbortIncompleteMultipartUpload::builder().days_after_initiation(days(d)).build());
    SdkRule::builder()
        .id(&rule.id)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(&rule.prefix).build())
        .set_transitions(archive.map(|transition| vec![transition]))
        .set_expiration(expiration)
        .set_abort_incomplete_multipart_upload(abort)
        .build()
}

fn plain(rule: &SdkRule) -> LifecycleRule {
    let days = |days: i32| u32::try_from(days).ok();
    let filter = rule.filter();
    let prefix = filter.and_then(|f| f.prefix().or_else(|| f.and()?.prefix()));
    #[expect(deprecated, reason = "older rules have the prefix here")]
    let prefix = prefix.or_else(|| rule.prefix()).unwrap_or_default();
    let archived = rule.transitions().iter().filter_map(|t| t.days()).min();
    LifecycleRule {
        id: rule.id().unwrap_or_default().to_owned(),
        prefix: prefix.to_owned(),
        archive_days: archived.and_then(days),
        expire_days: rule.expiration().and_then(|e| e.days()).and_then(days),
        abort_days: rule.abort_incomplete_multipart_upload().and_then(|a| a.days_after_initiation()).and_then(days),
    }
}

fn not_built(error: BuildError) -> Fault {
    Fault::new(FaultKind::Invalid, "not sent", error.to_string())
}
