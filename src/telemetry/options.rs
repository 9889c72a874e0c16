//! Defines how metrics are published to CloudWatch.

use docweir_core::ranges::out_of_range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloudWatchMode {
    #[default]
    Off,
    /// Metrics are sent by calls to CloudWatch's API.
    Api,
    /// Metrics are written to standard output as log lines.
    Emf,
}

/// Publishes the metrics of runs to CloudWatch: documents, durations, costs, and the pools' own metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloudWatchOptions {
    /// Way in which metrics are published: `"off"`, `"api"` (calls to CloudWatch) or `"emf"`. With `"emf"`, metrics
    /// are written to standard output as lines of the embedded metric format; the CloudWatch agent and Lambda read
    /// them there.
    pub mode: CloudWatchMode,
    /// Endpoint of CloudWatch. If empty, `aws.endpoint` is used, or AWS itself if that is empty too.
    pub endpoint: String,
    /// Namespace of the metrics in CloudWatch.
    pub namespace: String,
    /// Value of the dimension `environment`, such as `production`.
    pub environment: String,
    /// Interval between two publications, in seconds. A shorter interval shows changes sooner and costs more calls.
    pub interval_seconds: f64,
    /// Largest number of values that wait while CloudWatch accepts none. Beyond it the oldest values are dropped,
    /// counted and reported. A larger number survives longer outages and uses more memory.
    #[serde(skip)]
    pub max_pending: usize,
    /// Time at the end of a run in which the last values are published, in seconds.
    pub flush_seconds: f64,
}

impl Default for CloudWatchOptions {
    fn default() -> Self {
        Self {
            mode: CloudWatchMode::Off,
            endpoint: String::new(),
            namespace: "Docweir".into(),
            environment: "default".into(),
            interval_seconds: 60.0,
            max_pending: 10_000,
            flush_seconds: 10.0,
        }
    }
}

impl CloudWatchOptions {
    /// Returns the fields that are out of range, each with an error message.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("interval_seconds", self.interval_seconds, 0.1, 3_600.0);
        range("flush_seconds", self.flush_seconds, 0.1, 300.0);
        let plain = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) && !text.starts_with(':')
        };
        if !plain(&self.namespace, 255) || self.namespace.starts_with("AWS/") {
            let text = "must have 1 to 255 visible ASCII characters and must not begin with `AWS/` or a colon";
            found.push(("namespace", text.into()));
        }
        if !plain(&self.environment, 255) {
            found.push((
                "environment",
                "must have 1 to 255 visible ASCII characters and must not begin with a colon".into(),
            ));
        }
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with http:// or https://".into()));
        }
        found
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.interval_seconds)
    }

    pub(super) fn flush(&self) -> Duration {
        Duration::from_secs_f64(self.flush_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(CloudWatchOptions::default().problems(), []);
        let wrong = CloudWatchOptions {
            namespace: "AWS/EC2".into(),
            environment: String::new(),
            endpoint: "localhost".into(),
            interval_seconds: 0.0,
            flush_seconds: f64::NAN,
            ..CloudWatchOptions::default()
        };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["interval_seconds", "flush_seconds", "namespace", "environment", "endpoint"]);
    }
}
