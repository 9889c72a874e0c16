//! Configures how secrets are read and cached.

use std::time::Duration;

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Configures how secrets are read from AWS Secrets Manager. The configuration names a secret as
/// `{ secret = "NAME" }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretOptions {
    /// Endpoint of Secrets Manager. If empty, `aws.endpoint` is used; if that is empty too, AWS itself is used.
    pub endpoint: String,
    /// Time, in seconds, after which a cached secret that is still in use is read again.
    pub refresh_seconds: f64,
    /// Minimum time between two reads of the same secret, in seconds. The minimum also applies after an endpoint
    /// refuses the secret or a read fails.
    pub min_refresh_seconds: f64,
}

impl Default for SecretOptions {
    fn default() -> Self {
        Self { endpoint: String::new(), refresh_seconds: 300.0, min_refresh_seconds: 10.0 }
    }
}

impl SecretOptions {
    /// Returns each invalid field, with the reason.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("refresh_seconds", self.refresh_seconds, 1.0, 86_400.0);
        range("min_refresh_seconds", self.min_refresh_seconds, 0.1, 3_600.0);
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with http:// or https://".into()));
        }
        found
    }

    pub(super) fn refresh(&self) -> Duration {
        Duration::from_secs_f64(self.refresh_seconds)
    }

    pub(super) fn min_refresh(&self) -> Duration {
        Duration::from_secs_f64(self.min_refresh_seconds)
    }
}
