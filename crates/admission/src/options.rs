//! Configures the limits of one provider's model.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Configures the limits of calls to a model. Limits that the provider reports override `requests_per_minute` and
/// `tokens_per_minute`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionOptions {
    /// Maximum number of requests per minute; 0 means no limit. Set this to the limit of your account. If the
    /// provider reports its own limit, the reported limit applies.
    pub requests_per_minute: u64,
    /// Maximum number of tokens per minute; 0 means no limit. Set this to the limit of your account. If the
    /// provider reports its own limit, the reported limit applies.
    pub tokens_per_minute: u64,
    /// Maximum number of concurrent requests. A larger number makes a run faster until the rate limits are the
    /// bottleneck.
    pub concurrency: usize,
    /// Maximum amount of unused budget that is saved up for a burst of calls. The value is a number of seconds, and the
    /// amount is the budget for this number of seconds. Larger values let a run start faster, but strict providers then
    /// refuse more calls. If the provider reports a larger remaining budget, the reported budget applies.
    #[serde(skip)]
    pub burst_seconds: f64,
    /// Weights of collections that share the rate limits, as `"collection=weight"`. A waiting collection of weight 2
    /// gets twice as many tokens as a waiting collection of weight 1. Collections without an entry have weight 1.
    pub weights: Vec<String>,
    /// Maximum time, in seconds, that a call waits for the rate limits. After this time, the document is retried later
    /// without using up an attempt.
    pub max_wait_seconds: f64,
    /// Pause, in seconds, after the provider refuses a call without stating how long to wait. The pause doubles with
    /// each further refusal.
    pub backoff_initial_seconds: f64,
    /// Maximum pause after refusals and failures, in seconds. A longer wait that the provider asks for is
    /// shortened to this maximum.
    #[serde(skip)]
    pub backoff_max_seconds: f64,
    /// Number of answers in a row that cannot be read, after which no more calls are made. `docweir ingest` then ends
    /// with exit code 70. `docweir serve` reports that it is not ready, and tries again from time to time.
    pub unreadable_answers: u32,
    /// Number of consecutive failures after which a provider counts as down.
    #[serde(skip)]
    pub failures: u32,
    /// Pause, in seconds, before a provider that is down is tried again. The pause doubles after each failed try.
    #[serde(skip)]
    pub down_seconds: f64,
    /// Pause, in seconds, before an account without credit is tried again. The pause doubles after each failed try.
    #[serde(skip)]
    pub quota_pause_seconds: f64,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            requests_per_minute: 3_000,
            tokens_per_minute: 1_000_000,
            concurrency: 16,
            burst_seconds: 3.0,
            weights: Vec::new(),
            max_wait_seconds: 60.0,
            backoff_initial_seconds: 1.0,
            backoff_max_seconds: 120.0,
            unreadable_answers: 5,
            failures: 5,
            down_seconds: 10.0,
            quota_pause_seconds: 60.0,
        }
    }
}

/// Parses a weight such as `receipt_words=3`.
fn weight(text: &str) -> Option<(&str, u32)> {
    let (collection, weight) = text.split_once('=')?;
    let weight = weight.trim().parse().ok().filter(|w| (1..=1_000).contains(w))?;
    Some((collection.trim(), weight)).filter(|(collection, _)| !collection.is_empty())
}

impl AdmissionOptions {
    /// Returns the configured weight of a collection, or 1 if none is configured.
    pub fn weight(&self, collection: &str) -> u32 {
        let of = |text: &String| weight(text).filter(|(name, _)| *name == collection).map(|(_, weight)| weight);
        self.weights.iter().find_map(of).unwrap_or(1)
    }

    /// Returns each field that is out of range, with the reason.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("requests_per_minute", self.requests_per_minute as f64, 0.0, 1e9);
        range("tokens_per_minute", self.tokens_per_minute as f64, 0.0, 1e12);
        range("concurrency", self.concurrency as f64, 1.0, 10_000.0);
        range("unreadable_answers", f64::from(self.unreadable_answers), 1.0, 1_000.0);
        range("max_wait_seconds", self.max_wait_seconds, 0.1, 3_600.0);
        range("backoff_initial_seconds", self.backoff_initial_seconds, 0.01, 600.0);
        if self.weights.len() > 1_000 || self.weights.iter().any(|text| weight(text).is_none()) {
            found.push((
                "weights",
                "must be strings such as \"receipt_words=3\", with weights between 1 and 1000".into(),
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(AdmissionOptions::default().problems(), []);
        let wrong = AdmissionOptions { concurrency: 0, max_wait_seconds: f64::NAN, ..AdmissionOptions::default() };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["concurrency", "max_wait_seconds"]);
    }

    #[test]
    fn collections_have_weights() {
        let of = |texts: &[&str]| {
            let weights = texts.iter().map(|t| (*t).to_owned()).collect();
            AdmissionOptions { weights, ..AdmissionOptions::default() }
        };
        let options = of(&["chunks=4", "receipt_words = 2"]);
        assert_eq!((options.weight("chunks"), options.weight("receipt_words"), options.weight("x")), (4, 2, 1));
        assert_eq!(options.problems(), []);
        for wrong in ["chunks", "chunks=0", "=2", "chunks=many", "chunks=1001"] {
            assert_eq!(of(&[wrong]).problems().len(), 1, "{wrong}");
        }
    }
}
