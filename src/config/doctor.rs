//! Declares the thresholds of `docweir doctor`.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Configures the thresholds of `docweir doctor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DoctorOptions {
    /// Free space on the disk of the state folder below which the doctor warns, in bytes.
    pub min_free_bytes: u64,
    /// Limit on open files of a process below which the doctor warns.
    pub min_descriptors: u64,
    /// Largest accepted difference between the clocks of this machine and of AWS, in seconds.
    pub max_skew_seconds: u64,
    /// Longest wait for one response, in seconds.
    pub answer_seconds: u64,
}

impl Default for DoctorOptions {
    fn default() -> Self {
        Self { min_free_bytes: 1 << 30, min_descriptors: 1_024, max_skew_seconds: 60, answer_seconds: 20 }
    }
}

impl DoctorOptions {
    /// Returns each field that is out of range, and what it must be.
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
