//! Defines how batches are made, polled and imported.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

use docweir_providers::openai::TransferOptions;

/// Selects how texts reach the provider: by live calls, by the Batch API, or by the cheaper of the two that is fast
/// enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmbedMode {
    /// Embeds every text by a live call.
    #[default]
    Live,
    /// Embeds every text in a batch.
    Batch,
    /// Embeds texts in batches where a batch saves enough money and is fast enough; otherwise by live calls.
    Auto,
}

/// Embeds texts through a provider's Batch API, at half the price and within a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchOptions {
    /// Number of items in one batch of records; 0 means as many as the provider accepts.
    pub record_items: usize,
    /// Largest number of requests in one batch.
    pub max_requests: usize,
    /// Largest size of a batch's request file, in bytes.
    pub max_file_bytes: u64,
    /// Largest number of tokens in all open batches together: the provider's limit on queued tokens.
    pub max_enqueued_tokens: u64,
    /// Number of times that an item is sent before it counts as failed.
    pub max_attempts: u32,
    /// Interval between two polls of the open batches, in seconds.
    pub poll_seconds: f64,
    /// Number of hours after which a batch that is still open causes a warning.
    pub warn_hours: f64,
    /// Time, in seconds, that a batch has to appear in the provider's list if its creation was not confirmed. After
    /// this time the batch is created again. A value below the provider's delay may create a batch twice.
    pub confirm_seconds: f64,
    /// Number of hours that a document or record may wait if `embed.mode` is `"auto"`. Below 24, everything is
    /// embedded by live calls.
    pub deadline_hours: f64,
    /// Saving, in US dollars, from which a batch is used if `embed.mode` is `"auto"`. Items that save less are
    /// embedded by live calls.
    pub min_saving_usd: f64,
    /// Largest number of results that are stored in one step.
    #[serde(skip)]
    pub harvest_items: usize,
    /// Memory of the vectors that are stored in one step, in bytes. The import needs about ten times as much in
    /// total.
    #[serde(skip)]
    pub harvest_bytes: usize,
    /// Length above which a line of results is ignored, in bytes.
    #[serde(skip)]
    pub max_line_bytes: usize,
    /// Transfer of files to and from the provider.
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
            confirm_seconds: 60.0,
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
    /// Returns the fields that are out of range, each with an error message.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("record_items", self.record_items as f64, 0.0, 1e6);
        range("max_requests", self.max_requests as f64, 1.0, 1e6);
        range("max_file_bytes", self.max_file_bytes as f64, 65_536.0, 1e12);
        range("max_enqueued_tokens", self.max_enqueued_tokens as f64, 1.0, 1e15);
        range("max_attempts", f64::from(self.max_attempts), 1.0, 1_000.0);
        range("poll_seconds", self.poll_seconds, 0.01, 86_400.0);
        range("warn_hours", self.warn_hours, 0.0, 1e6);
        range("confirm_seconds", self.confirm_seconds, 0.0, 86_400.0);
        range("deadline_hours", self.deadline_hours, 0.0, 1e6);
        range("min_saving_usd", self.min_saving_usd, 0.0, 1e6);
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
