//! Reads and writes objects in S3 buckets.
//!
//! - `objects`: puts, gets, inspects, deletes and lists objects
//! - `download`: downloads a large object into a file
//! - `multipart`: uploads a large object in parts
//! - `buckets`: creates and configures buckets
//! - `fault`: explains the faults that only S3 has
//! - `notifications`: configures which events of a bucket are sent to which queue
//! - `versions`: deletes the noncurrent versions of objects
//!
//! # Guarantees
//! A conditional put ([`When`]) is sent only once. A retry could find the write of the first attempt, and would
//! report it as the write of another process. The SDK repeats all other calls when the service is busy or the network
//! fails. ETags are opaque and are only compared for equality.
//!
//! Each write sends a CRC-32 that the service verifies. Reads of whole objects are verified if the service returns a
//! checksum. Reads of ranges are not verified, because the service has no checksums for ranges.

mod buckets;
mod download;
mod fault;
mod multipart;
mod notifications;
mod objects;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{RequestPayer, ServerSideEncryption};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;

pub use buckets::{Encryption, LifecycleRule};
pub use download::DownloadError;
pub use multipart::{MAX_PARTS, Multipart, Part, Unfinished};
pub use notifications::QueueNotification;
pub use objects::{DELETE_AT_ONCE, Object, ObjectBody, When};

use crate::access::{count, fault_of, once};
use crate::{Aws, Fault, S3Options};

/// Sends calls to S3. Cheap to clone.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    aws: Aws,
    options: Arc<S3Options>,
}

/// Reads and writes one bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    s3: S3,
    name: String,
}

impl S3 {
    pub fn new(aws: &Aws, options: &S3Options) -> Self {
        let mut config = Builder::from(&aws.sdk).force_path_style(options.path_style);
        if !options.endpoint.is_empty() {
            config = config.endpoint_url(&options.endpoint);
        }
        if !options.checksums {
            config = config
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        Self { client: Client::from_conf(config.build()), aws: aws.clone(), options: Arc::new(options.clone()) }
    }

    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket { s3: self.clone(), name: name.to_owned() }
    }

    pub fn options(&self) -> &S3Options {
        &self.options
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        let kind = match self.options.encryption.as_str() {
            "" => None,
            kind => Some(ServerSideEncryption::from(kind)),
        };
        let key = (!self.options.kms_key.is_empty()).then(|| self.options.kms_key.clone());
        (kind, key)
    }

    /// Returns a client configuration whose timeout suffices to transfer `bytes` at the minimum rate.
    fn transfer(&self, bytes: u64) -> Builder {
        Builder::new().timeout_config(self.aws.transfer_timeouts(bytes))
    }

    fn longest_transfer(&self, bytes: u64) -> Duration {
        self.aws.transfer_timeouts(bytes).operation_attempt_timeout().unwrap_or(Duration::MAX)
    }

    /// Counts a call in the metrics and converts its error to a [`Fault`].
    fn done<T, E>(&self, operation: &'static str, result: Result<T, SdkError<E, HttpResponse>>) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        count("s3", operation, result.is_err());
        result.map_err(|error| {
            let header = error.raw_response().and_then(|raw| raw.headers().get("x-amz-bucket-region"));
            let fault = fault_of(&error);
            fault::explained(fault, header, self.aws.region())
        })
    }

    /// Returns the header by which this account accepts to pay for a request.
    fn payer(&self) -> Option<RequestPayer> {
        self.options.requester_pays.then_some(RequestPayer::Requester)
    }

    /// Returns the same client configuration as [`Self::transfer`], except that failed calls are not retried.
    fn transfer_once(&self, bytes: u64) -> Builder {
        self.transfer(bytes).retry_config(once())
    }
}

impl Bucket {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn options(&self) -> &S3Options {
        &self.s3.options
    }
}

fn micros(time: Option<&DateTime>) -> i64 {
    time.map_or(0, |t| t.secs().saturating_mul(1_000_000).saturating_add(i64::from(t.subsec_nanos() / 1000)))
}
