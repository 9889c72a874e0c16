//! Defines the options of the calls to AWS.

mod dynamo;
mod s3;

use docweir_core::ranges::out_of_range;
pub use dynamo::{DynamoOptions, is_table_name};
pub use s3::S3Options;
use serde::{Deserialize, Serialize};

/// Configures the region, endpoint, timeouts and retries of the calls to AWS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AwsOptions {
    /// Region, such as `eu-central-1`. Empty means the region of the environment, the profile or the instance.
    pub region: String,
    /// Endpoint of all AWS services. Set it to use a server that implements the AWS protocols. Empty means AWS
    /// itself.
    pub endpoint: String,
    /// Timeout for establishing a connection, in seconds.
    #[serde(skip)]
    pub connect_seconds: f64,
    /// Timeout of one attempt of a call, in seconds. Calls that transfer an object get more time, depending on the
    /// size of the object.
    pub attempt_seconds: f64,
    /// Maximum number of attempts of a call that is safe to repeat. A call is retried if the service is busy or the
    /// network fails.
    pub attempts: u32,
    /// Minimum transfer rate of an object, in bytes per second. The timeout of a transfer is `attempt_seconds` plus
    /// the time that the transfer takes at this rate.
    #[serde(skip)]
    pub min_bytes_per_second: u64,
}

impl Default for AwsOptions {
    fn default() -> Self {
        Self {
            region: String::new(),
            endpoint: String::new(),
            connect_seconds: 3.1,
            attempt_seconds: 10.0,
            attempts: 4,
            min_bytes_per_second: 1 << 18,
        }
    }
}

impl AwsOptions {
    /// Returns each option that is out of range, with a message that says what is allowed.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("attempt_seconds", self.attempt_seconds, 0.1, 3_600.0);
        range("attempts", f64::from(self.attempts), 1.0, 100.0);
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with http:// or https://".into()));
        }
        found
    }
}
