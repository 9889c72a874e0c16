//! Defines the options for publishing metrics to CloudWatch.

use std::time::Duration;

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloudWatchMode {
    #[default]
    Off,
    /// Metrics are sent through CloudWatch's API.
    Api,
    /// Metrics are written to standard output in the embedded metric format.
    Emf,
}

/// Configures how metrics are published to Amazon CloudWatch. The metrics cover documents, durations, costs and the
/// state of the pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloudWatchOptions {
    /// Destination of the metrics: `"off"` (not published), `"api"` (calls to CloudWatch's API) or `"emf"` (lines on
    /// standard output in the embedded metric format, which the CloudWatch agent and Lambda can read).
    pub mode: CloudWatchMode,
    /// Endpoint of CloudWatch. If empty, `aws.endpoint` is used; if both are empty, AWS's own endpoint.
    pub endpoint: String,
    /// Namespace of the metrics in CloudWatch.
    pub namespace: String,
    /// Value of the dimension `environment` of every metric, such as `production`.
    pub environment: String,
    /// Interval between two publications of metrics, in seconds. A shorter interval shows changes sooner but makes
    /// more calls.
    pub interval_seconds: f64,
    /// Maximum number of metric values that are kept while CloudWatch accepts no values. Beyond this limit, the
    /// oldest values are dropped, counted and reported. A larger number survives longer outages but uses more memory.
    #[serde(skip)]
    pub max_pending: usize,
    /// Maximum time, in seconds, to publish the last metrics at the end of a run.
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
    /// Returns each field that is out of range, together with an error message.
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
            found.push(("endpoint", "must be empty or begin with `http://` or `https://`".into()));
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
