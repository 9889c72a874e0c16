//! How figures are published.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudWatchMode {
    #[default]
    Off,
    /// By calls of CloudWatch.
    Api,
    /// By lines on standard output.
    Emf,
}

/// Figures of runs for CloudWatch: documents, durations, costs, and the pools' own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudWatchOptions {
    /// How figures get there: `off`, `api` (by calls) or `emf` (as lines of the embedded metric format on standard output,
    /// which CloudWatch's agent and Lambda's log take figures from). Default `off`.
    pub mode: CloudWatchMode,
    /// Address of CloudWatch; empty for that of all services (`aws.endpoint`), or else AWS itself.
    pub endpoint: String,
    /// Their namespace. Default `Docweir`.
    pub namespace: String,
    /// Value of the dimension `environment`, such as `production`. Default `default`.
    pub environment: String,
    /// How often they are published, in seconds. Default 60.
    pub interval_seconds: f64,
    /// Data that wait to be sent while CloudWatch takes none; further ones push out the oldest, which is said. Default
    /// 10,000.
    pub max_pending: usize,
    /// Time at the end of a run to publish the last ones, in seconds. Default 10.
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
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("interval_seconds", self.interval_seconds, 0.1, 3_600.0);
        range("max_pending", self.max_pending as f64, 1_000.0, 1_000_000.0);
        range("flush_seconds", self.flush_seconds, 0.1, 300.0);
        let plain = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) && !text.starts_with(':')
        };
        if !plain(&self.namespace, 255) || self.namespace.starts_with("AWS/") {
            let text = "must have 1 to 255 letters, digits and signs, and not begin with `AWS/` or a colon";
            found.push(("namespace", text.into()));
        }
        if !plain(&self.environment, 255) {
            found.push((
                "environment",
                "must have 1 to 255 letters, digits and signs, and not begin with a colon".into(),
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
            max_pending: 0,
            flush_seconds: f64::NAN,
            ..CloudWatchOptions::default()
        };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            ["interval_seconds", "max_pending", "flush_seconds", "namespace", "environment", "endpoint"]
        );
    }
}
