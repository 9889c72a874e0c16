//! What is enough.

use serde::{Deserialize, Serialize};

/// What `docweir doctor` asks of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoctorOptions {
    /// Room on the disk of the state folder, in bytes, below which it warns. Default 1073741824 (1 GiB).
    pub min_free_bytes: u64,
    /// Files that a process may have open, below which it warns. Default 1,024.
    pub min_descriptors: u64,
    /// Difference between this clock and AWS's that is a problem, in seconds. Default 60.
    pub max_skew_seconds: u64,
    /// Longest that it waits for one answer, in seconds. Default 20.
    pub answer_seconds: u64,
}

impl Default for DoctorOptions {
    fn default() -> Self {
        Self { min_free_bytes: 1 << 30, min_descriptors: 1_024, max_skew_seconds: 60, answer_seconds: 20 }
    }
}

impl DoctorOptions {
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let table = [
            ("min_free_bytes", self.min_free_bytes, 0, 1 << 50),
            ("min_descriptors", self.min_descriptors, 0, 1 << 30),
            ("max_skew_seconds", self.max_skew_seconds, 2, 900),
            ("answer_seconds", self.answer_seconds, 1, 600),
        ];
        let outside = table.into_iter().filter(|(_, value, low, high)| !(low..=high).contains(&value));
        outside
            .map(|(field, value, low, high)| (field, format!("must lie between {low} and {high}, not {value}")))
            .collect()
    }
}
