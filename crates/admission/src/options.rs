//! The limits of one provider's model, as configured.

use serde::{Deserialize, Serialize};

/// What may be asked of a provider. What it reports itself corrects the first two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionOptions {
    /// Requests a minute; 0 is no limit. Default 3,000.
    pub requests_per_minute: u64,
    /// Tokens a minute; 0 is no limit. Default 1,000,000.
    pub tokens_per_minute: u64,
    /// Requests at the same time. Default 16.
    pub concurrency: usize,
    /// Seconds of both budgets that may be used at once, until the provider says how much it allows. Default 3.
    pub burst_seconds: f64,
    /// Shares of collections that wait at the same time, as `collection=weight`; 1 for every other. Default none.
    pub weights: Vec<String>,
    /// Seconds that a call waits for its turn; then its document waits for a retry, which is no attempt. Default 60.
    pub max_wait_seconds: f64,
    /// First wait after a refusal that names no wait itself, in seconds; doubles each time. Default 1.
    pub backoff_initial_seconds: f64,
    /// Longest wait after refusals and failures, in seconds, also where the provider asks for more. Default 120.
    pub backoff_max_seconds: f64,
    /// Failures in a row after which a provider counts as down. Default 5.
    pub failures: u32,
    /// Seconds after which a provider that is down is tried again; doubles each time. Default 10.
    pub down_seconds: f64,
    /// Seconds after which an account without money is tried again; doubles each time. Default 60.
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
            failures: 5,
            down_seconds: 10.0,
            quota_pause_seconds: 60.0,
        }
    }
}

/// `receipt_words=3`
fn weight(text: &str) -> Option<(&str, u32)> {
    let (collection, weight) = text.split_once('=')?;
    let weight = weight.trim().parse().ok().filter(|w| (1..=1_000).contains(w))?;
    Some((collection.trim(), weight)).filter(|(collection, _)| !collection.is_empty())
}

impl AdmissionOptions {
    /// A collection's share among those that wait.
    pub fn weight(&self, collection: &str) -> u32 {
        let of = |text: &String| weight(text).filter(|(name, _)| *name == collection).map(|(_, weight)| weight);
        self.weights.iter().find_map(of).unwrap_or(1)
    }

    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("requests_per_minute", self.requests_per_minute as f64, 0.0, 1e9);
        range("tokens_per_minute", self.tokens_per_minute as f64, 0.0, 1e12);
        range("concurrency", self.concurrency as f64, 1.0, 10_000.0);
        range("burst_seconds", self.burst_seconds, 0.1, 60.0);
        range("max_wait_seconds", self.max_wait_seconds, 0.1, 3_600.0);
        range("backoff_initial_seconds", self.backoff_initial_seconds, 0.01, 600.0);
        range("backoff_max_seconds", self.backoff_max_seconds, 0.01, 86_400.0);
        range("failures", f64::from(self.failures), 1.0, 1_000.0);
        range("down_seconds", self.down_seconds, 0.01, 3_600.0);
        range("quota_pause_seconds", self.quota_pause_seconds, 0.01, 86_400.0);
        if self.weights.len() > 1_000 || self.weights.iter().any(|text| weight(text).is_none()) {
            found.push(("weights", "must be texts like \"receipt_words=3\", with weights between 1 and 1000".into()));
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
        let wrong = AdmissionOptions { concurrency: 0, burst_seconds: f64::NAN, ..AdmissionOptions::default() };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["concurrency", "burst_seconds"]);
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
