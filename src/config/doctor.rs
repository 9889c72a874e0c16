//! Declares the thresholds at which `docweir doctor` warns.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Configures the thresholds at which `docweir doctor` warns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DoctorOptions {
    /// Minimum free space on the disk of the state folder, in bytes. The doctor warns if less is free.
    pub min_free_bytes: u64,
    /// Minimum number of files that a process may have open. The doctor warns if the system's limit is lower.
    pub min_descriptors: u64,
    /// Maximum accepted difference, in seconds, between the clock of this machine and the clock of AWS.
    pub max_skew_seconds: u64,
    /// Maximum time to wait for the response of each checked service, in seconds.
    pub answer_seconds: u64,
}

impl Default for DoctorOptions {
    fn default() -> Self {
        Self { min_free_bytes: 1 << 30, min_descriptors: 1_024, max_skew_seconds: 60, answer_seconds: 20 }
    }
}

impl DoctorOptions {
    /// Returns each field that is out of range, together with an error message.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let table = [
            ("min_free_bytes", self.min_free_bytes, 0, 1 << 50),
            ("min_descriptors", self.min_descriptors, 0, 1 << 30),
            ("max_skew_seconds", self.max_skew_seconds, 2, 900),
            ("answer_seconds", self.answer_seconds, 1, 600),
        ];
        table.into_iter().filter_map(|(field, value, low, high)| out_of_range(field, value, low, high)).collect()
    }
}
