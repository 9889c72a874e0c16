//! What can be configured about the calls.

mod dynamo;
mod s3;

pub use dynamo::{DynamoOptions, is_table_name};
pub use s3::S3Options;
use serde::{Deserialize, Serialize};

/// Where AWS is, and how long a call may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwsOptions {
    /// Region, such as `eu-central-1`; empty for that of the environment, the profile or the instance.
    pub region: String,
    /// Address of all services, for servers that speak AWS's protocols; empty for AWS itself.
    pub endpoint: String,
    /// Longest wait for a connection, in seconds.
    pub connect_seconds: f64,
    /// Longest wait for one attempt of a small call, in seconds; what carries an object has a longer one by its size.
    pub attempt_seconds: f64,
    /// Attempts of a call whose repetition does no harm, where the service is busy or the network fails.
    pub attempts: u32,
    /// Slowest transfer of an object that is waited for, in bytes a second.
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
    /// Values that are out of range: the field and what would be right.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("connect_seconds", self.connect_seconds, 0.1, 300.0);
        range("attempt_seconds", self.attempt_seconds, 0.1, 3_600.0);
        range("attempts", f64::from(self.attempts), 1.0, 100.0);
        range("min_bytes_per_second", self.min_bytes_per_second as f64, 1.0, 1e12);
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with http:// or https://".into()));
        }
        found
    }
}
