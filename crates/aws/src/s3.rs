//! S3: objects in buckets.
//!
//! - `objects` put, get, look at, delete, list
//! - `download` a large object into a file
//! - `multipart` a large object in parts
//! - `buckets` making and setting up buckets
//! - `notifications` whom a bucket tells of what becomes of its objects
//!
//! # What is relied on
//! A put with a condition ([`When`]) is sent once: a second try of our own would meet the first one's write and call it
//! somebody else's. Everything else is repeated by the SDK where the service is busy or the network fails. An ETag is
//! opaque: it is compared and never understood.
//!
//! What is written carries a CRC-32 that the service checks; what is read whole is checked against the checksum that the
//! service returns, where it returns one. Parts of an object are read without: the service has none for them.

mod buckets;
mod download;
mod multipart;
mod notifications;
mod objects;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;

pub use buckets::{Encryption, LifecycleRule};
pub use download::DownloadError;
pub use multipart::{MAX_PARTS, Multipart, Part, Unfinished};
pub use notifications::QueueNotification;
pub use objects::{DELETE_AT_ONCE, Got, Object, When};

use crate::access::{count, once};
use crate::{Aws, Fault, FaultKind, S3Options};

/// A client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    aws: Aws,
    options: Arc<S3Options>,
}

/// One bucket of it. Cheap to clone.
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

    /// As long as the slowest transfer of so many bytes may take.
    fn transfer(&self, bytes: u64) -> Builder {
        Builder::new().timeout_config(self.aws.transfer_timeouts(bytes))
    }

    fn longest_transfer(&self, bytes: u64) -> Duration {
        self.aws.transfer_timeouts(bytes).operation_attempt_timeout().unwrap_or(Duration::MAX)
    }

    /// The same for a call that is sent once.
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

/// Counts a call and says what its failure came to.
fn done<T, E>(operation: &'static str, result: Result<T, SdkError<E, HttpResponse>>) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    count("s3", operation, result.is_err());
    result.map_err(|error| {
        let fault = Fault::of(&error);
        match fault.code.as_str() {
            "InvalidObjectState" => Fault::new(FaultKind::Invalid, fault.code, ARCHIVED),
            _ => fault,
        }
    })
}

const ARCHIVED: &str =
    "it is archived (Glacier) and has to be restored before it can be read: `aws s3api restore-object`";

fn micros(time: Option<&DateTime>) -> i64 {
    time.map_or(0, |t| t.secs().saturating_mul(1_000_000).saturating_add(i64::from(t.subsec_nanos() / 1000)))
}
