//! Defines the options for creating, polling and importing batches.

use serde::{Deserialize, Serialize};

use docweir_core::ranges::out_of_range;
use docweir_providers::openai::TransferOptions;

/// Selects how texts are sent to the provider: by live calls, through the Batch API, or through the cheaper of the
/// two that is fast enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmbedMode {
    /// Every text is embedded by a live call.
    #[default]
    Live,
    /// Every text is embedded in a batch.
    Batch,
    /// Texts are embedded in batches if this saves enough money and is fast enough, and otherwise by live calls.
    Auto,
}

/// Configures embedding through a provider's Batch API, which costs half as much and returns results within a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchOptions {
    /// Maximum number of records in one batch, in addition to the limit `batch.max_requests`. With 0, only
    /// `batch.max_requests` applies.
    pub record_items: usize,
    /// Maximum number of requests in one batch.
    pub max_requests: usize,
    /// Maximum size of a batch's request file, in bytes.
    pub max_file_bytes: u64,
    /// Maximum number of tokens in all open batches together. It should equal the provider's limit on queued tokens.
    pub max_enqueued_tokens: u64,
    /// Maximum number of attempts to embed an item in a batch. If the last attempt fails too, the item counts as
    /// failed.
    pub max_attempts: u32,
    /// Interval between two polls of the open batches, in seconds. A shorter interval imports results sooner but
    /// makes more calls.
    pub poll_seconds: f64,
    /// Number of hours that a batch may stay open before a warning is given.
    pub warn_hours: f64,
    /// Time, in seconds, to search the provider's list for a batch whose creation the provider did not confirm. After
    /// this time, the batch is created again. If the first batch still appears in the list later, there are two
    /// batches.
    pub confirm_seconds: f64,
    /// Maximum number of hours that a document or record may wait if `embed.mode` is `"auto"`. With a value below 24,
    /// everything is embedded by live calls, because a batch may take up to 24 hours.
    pub deadline_hours: f64,
    /// Minimum saving, in US dollars, for which a batch is used if `embed.mode` is `"auto"`. If a batch would save
    /// less, its items are embedded by live calls.
    pub min_saving_usd: f64,
    /// Maximum number of results that are stored in one step.
    #[serde(skip)]
    pub harvest_items: usize,
    /// Maximum memory, in bytes, of the vectors that are stored in one step. In total, the import needs about ten
    /// times as much memory.
    #[serde(skip)]
    pub harvest_bytes: usize,
    /// Maximum length of a line in a result file, in bytes. A longer line is ignored. Its item then has no result and
    /// is sent again.
    #[serde(skip)]
    pub max_line_bytes: usize,
    /// Configures the transfer of files to and from the provider.
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
    /// Returns each field that is out of range, together with an error message.
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
