//! Provides the credentials of the process, and reads them again after AWS refused them.
//!
//! The SDK reads the credentials file and the profile once in the life of a process. A process that runs for weeks would
//! never see a renewed token. [`FreshCredentials`] therefore builds the default provider chain of AWS again when the
//! credentials are about to expire, and some seconds after a refused call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use docweir_core::clock::{Clock, SystemClock};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Time before the expiry of credentials at which they are read again, in seconds.
const BEFORE_EXPIRY_SECONDS: u64 = 60;
/// Minimum time between two reads of credentials that AWS refuses. Reading them may be a call of its own.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Number of calls of this process that AWS refused. All clients of a process use the same credentials.
static REFUSED_CALLS: AtomicU64 = AtomicU64::new(0);

/// Records that AWS refused a call, so that the credentials are read again.
pub(crate) fn note_refused_call() {
    REFUSED_CALLS.fetch_add(1, Ordering::Relaxed);
}

/// Provides credentials of the default provider chain.
#[derive(Debug)]
pub(crate) struct FreshCredentials {
    region: Option<Region>,
    http: SharedHttpClient,
    held: Mutex<Option<Held>>,
}

/// Holds the credentials that were read last.
#[derive(Debug)]
struct Held {
    credentials: Credentials,
    read: Instant,
    /// Number of refused calls when the credentials were read.
    refused: u64,
}

impl FreshCredentials {
    pub(crate) fn new(region: Option<Region>, http: SharedHttpClient) -> Self {
        Self { region, http, held: Mutex::default() }
    }

    async fn current(&self) -> provider::Result {
        let mut held = self.held.lock().await;
        let refused = REFUSED_CALLS.load(Ordering::Relaxed);
        if let Some(held) = held.as_ref().filter(|held| held.can_be_used(refused)) {
            return Ok(held.credentials.clone());
        }
        // A configuration reads the profile once, so each read needs a new one.
        let config = ProviderConfig::without_region().with_region(self.region.clone());
        let config = config.with_http_client(self.http.clone());
        let chain = DefaultCredentialsChain::builder().configure(config).build().await;
        match chain.provide_credentials().await {
            Ok(credentials) => {
                *held = Some(Held { credentials: credentials.clone(), read: Instant::now(), refused });
                Ok(credentials)
            }
            // The source of the credentials does not answer, but those of the last read are still valid.
            Err(error) => match held.as_ref().filter(|held| held.seconds_left() > 0) {
                Some(held) => Ok(held.credentials.clone()),
                None => Err(explained(error, std::env::var("AWS_PROFILE").ok())),
            },
        }
    }
}

/// Names the selected profile if no credentials were found. The SDK passes over a profile that does not exist.
fn explained(error: CredentialsError, profile: Option<String>) -> CredentialsError {
    match (error, profile.filter(|profile| !profile.is_empty())) {
        (CredentialsError::CredentialsNotLoaded(_), Some(profile)) => CredentialsError::not_loaded(format!(
            "the profile `{profile}` (AWS_PROFILE) does not exist or holds no credentials; check the files in ~/.aws"
        )),
        (error, _) => error,
    }
}

impl Held {
    fn can_be_used(&self, refused: u64) -> bool {
        let may_be_wrong = self.refused != refused && self.read.elapsed() >= READ_AGAIN;
        !may_be_wrong && self.seconds_left() > BEFORE_EXPIRY_SECONDS
    }

    /// Returns the seconds until the credentials expire; `u64::MAX` if they do not expire.
    fn seconds_left(&self) -> u64 {
        let Some(expiry) = self.credentials.expiry() else { return u64::MAX };
        let now = u64::try_from(SystemClock.now() / 1_000_000).unwrap_or_default();
        expiry.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().saturating_sub(now))
    }
}

impl ProvideCredentials for FreshCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(expires_in: Option<i64>) -> Held {
        let expiry = expires_in.map(|seconds| {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(SystemClock.now() / 1_000_000 + seconds).unwrap())
        });
        let credentials = Credentials::new("key", "secret", None, expiry, "test");
        Held { credentials, read: Instant::now(), refused: 7 }
    }

    #[test]
    fn an_absent_profile_is_named() {
        let missing = || CredentialsError::not_loaded("no credentials found in chain");
        let text = |profile: Option<&str>| crate::fault::chain(&explained(missing(), profile.map(str::to_owned)));
        assert!(text(Some("absent")).contains("the profile `absent` (AWS_PROFILE)"), "{}", text(Some("absent")));
        assert!(!text(None).contains("AWS_PROFILE") && !text(Some("")).contains("AWS_PROFILE"));
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_read_again_before_they_expire_and_after_a_refusal() {
        for (expires_in, can_be_used) in
            [(None, true), (Some(3_600), true), (Some(90), true), (Some(30), false), (Some(-30), false)]
        {
            assert_eq!(held(expires_in).can_be_used(7), can_be_used, "{expires_in:?}");
        }
        let held = held(None);
        assert!(held.can_be_used(8), "they were read a moment ago");
        tokio::time::sleep(READ_AGAIN).await;
        assert!(held.can_be_used(7) && !held.can_be_used(8));
    }
}
