//! Holds the shared configuration from which all AWS clients are built.

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::credentials::{FreshCredentials, note_refused_call};
use crate::{AwsOptions, Fault, FaultKind, operations};

/// Holds the region, credentials and connections of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Aws {
    pub(crate) sdk: SdkConfig,
    pub(crate) options: AwsOptions,
}

impl Aws {
    /// Resolves the region and the credentials provider. Does not request credentials yet.
    pub async fn find(options: AwsOptions) -> Self {
        // All TLS in this program uses the cryptography of ring.
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let seconds = Duration::from_secs_f64;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(seconds(options.connect_seconds))
            .operation_attempt_timeout(seconds(options.attempt_seconds))
            .build();
        let mut loader = aws_config::from_env()
            .http_client(http.clone())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(options.attempts));
        if !options.region.is_empty() {
            loader = loader.region(Region::new(options.region.clone()));
        }
        if !options.endpoint.is_empty() {
            loader = loader.endpoint_url(&options.endpoint);
        }
        let sdk = loader.load().await;
        // The provider holds the credentials itself. A cache of the SDK would keep those that AWS refuses.
        let credentials = FreshCredentials::new(sdk.region().cloned(), http);
        let sdk = sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(credentials));
        Self { sdk: sdk.identity_cache(IdentityCache::no_cache()).build(), options }
    }

    /// Replaces the credentials with these keys.
    pub fn with_keys(mut self, access_key: &str, secret_key: &str) -> Self {
        let keys = Credentials::from_keys(access_key, secret_key, None);
        self.sdk = self.sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(keys)).build();
        self
    }

    /// Returns the region that calls go to, or `None` if no region is configured.
    pub fn region(&self) -> Option<&str> {
        self.sdk.region().map(|region| region.as_ref())
    }

    /// Returns the timeouts of a call that transfers `bytes`: the timeout of a small call, plus the time that the
    /// transfer takes at the minimum rate.
    pub(crate) fn transfer_timeouts(&self, bytes: u64) -> TimeoutConfig {
        let transfer = bytes as f64 / self.options.min_bytes_per_second as f64;
        TimeoutConfig::builder()
            .operation_attempt_timeout(Duration::from_secs_f64(self.options.attempt_seconds + transfer))
            .build()
    }
}

/// Returns a configuration without retries, for calls that must be sent at most once. After a failure the caller
/// checks whether the call was carried out.
pub(crate) fn once() -> RetryConfig {
    RetryConfig::disabled()
}

/// Counts a call in the metrics. The operation must be in the list in `operations.rs`, because the IAM policies are
/// generated from that list.
pub(crate) fn count(service: &'static str, operation: &'static str, failed: bool) {
    debug_assert!(operations::known(service, operation), "{service}:{operation} is not in operations.rs");
    let outcome = if failed { "failed" } else { "done" };
    metrics::counter!("docweir_aws_calls_total", "service" => service, "operation" => operation, "outcome" => outcome)
        .increment(1);
}

/// Counts a call in the metrics and converts its error to a [`Fault`].
pub(crate) fn answered<T, E>(
    service: &'static str,
    operation: &'static str,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    count(service, operation, answer.is_err());
    answer.map_err(|error| fault_of(&error))
}

/// Converts the error of a call to a [`Fault`]. If AWS refused the call, the credentials are read again.
pub(crate) fn fault_of<E>(error: &SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let fault = Fault::of(error);
    if fault.kind == FaultKind::Denied {
        note_refused_call();
    }
    fault
}
