//! How batches are made, watched and taken in.

use serde::{Deserialize, Serialize};

use docweir_providers::openai::TransferOptions;

/// How texts reach the provider: at once, by its Batch API, or whichever saves money in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbedMode {
    #[default]
    Live,
    Batch,
    Auto,
}

/// Embedding by a provider's Batch API: half the price, an answer within a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchOptions {
    /// Items in one batch of records; 0 is as many as the provider takes. Default 300.
    pub record_items: usize,
    /// Requests in one batch at most. Default 50000.
    pub max_requests: usize,
    /// Bytes of one batch's file at most. Default 200000000.
    pub max_file_bytes: u64,
    /// Tokens in all open batches together: what the provider allows to be queued. Default 3000000.
    pub max_enqueued_tokens: u64,
    /// Times that an item is sent before it has failed. Default 3.
    pub max_attempts: u32,
    /// Seconds between two looks at the open batches. Default 60.
    pub poll_seconds: f64,
    /// Hours after which a batch that is still open is warned of. Default 20.
    pub warn_hours: f64,
    /// Seconds that a batch, of which nobody knows whether the provider took it, has to appear in the provider's list
    /// before it is sent again. Default 60.
    pub settle_seconds: f64,
    /// With `embed.mode = "auto"`: hours that a document or record may wait. Below 24 everything is embedded live.
    /// Default 24.
    pub deadline_hours: f64,
    /// With `embed.mode = "auto"`: US dollars that a batch must save; what would save less is embedded live. Default 0.01.
    pub min_saving_usd: f64,
    /// Results stored in one step at most. Default 5000.
    pub harvest_items: usize,
    /// Memory of the vectors stored in one step at most, in bytes; some ten times as much is taken in all. Default 8 MiB.
    pub harvest_bytes: usize,
    /// Length of a line of results above which it is of no use, in bytes. Default 2 MiB.
    pub max_line_bytes: usize,
    /// Files to and from the provider.
    pub transfer: TransferOptions,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            record_items: 300,
            max_requests: 50_000,
            max_file_bytes: 200_000_000,
            max_enqueued_tokens: 3_000_000,
            max_attempts: 3,
            poll_seconds: 60.0,
            warn_hours: 20.0,
            settle_seconds: 60.0,
            deadline_hours: 24.0,
            min_saving_usd: 0.01,
            harvest_items: 5_000,
            harvest_bytes: 8 << 20,
            max_line_bytes: 2 << 20,
            transfer: TransferOptions::default(),
        }
    }
}

impl BatchOptions {
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("record_items", self.record_items as f64, 0.0, 1e6);
        range("max_requests", self.max_requests as f64, 1.0, 1e6);
        range("max_file_bytes", self.max_file_bytes as f64, 65_536.0, 1e12);
        range("max_enqueued_tokens", self.max_enqueued_tokens as f64, 1.0, 1e15);
        range("max_attempts", f64::from(self.max_attempts), 1.0, 1_000.0);
        range("poll_seconds", self.poll_seconds, 0.01, 86_400.0);
        range("warn_hours", self.warn_hours, 0.0, 1e6);
        range("settle_seconds", self.settle_seconds, 0.0, 86_400.0);
        range("deadline_hours", self.deadline_hours, 0.0, 1e6);
        range("min_saving_usd", self.min_saving_usd, 0.0, 1e6);
        range("harvest_items", self.harvest_items as f64, 1.0, 10_000.0);
        range("harvest_bytes", self.harvest_bytes as f64, 65_536.0, 1e9);
        range("max_line_bytes", self.max_line_bytes as f64, 1_024.0, 1e9);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_what_is_wrong_is_named() {
        assert_eq!(BatchOptions::default().problems(), []);
        let wrong = BatchOptions { max_requests: 0, poll_seconds: f64::NAN, ..BatchOptions::default() };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["max_requests", "poll_seconds"]);
    }
}
