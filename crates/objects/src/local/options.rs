//! Defines the options of the local object store.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalObjectOptions {
    /// Maximum size, in bytes, of an object that is written or read as a whole and therefore held in memory. Larger
    /// objects are refused, unless they are streamed.
    pub max_object_bytes: u64,
    /// Maximum size, in bytes, of an artefact that is stored with others in the file `artefacts.db`. A larger artefact
    /// is a file of its own. With 0, each artefact is a file of its own.
    pub packed_bytes: u64,
    /// Maximum time, in seconds, that a write waits while another process holds the lock of the key.
    #[serde(skip)]
    pub lock_wait_seconds: u64,
    /// Age, in seconds, after which an unfinished write counts as abandoned, even if its process is still running.
    #[serde(skip)]
    pub leftover_seconds: u64,
}

impl Default for LocalObjectOptions {
    fn default() -> Self {
        Self { max_object_bytes: 2 << 30, packed_bytes: 256 << 10, lock_wait_seconds: 30, leftover_seconds: 3600 }
    }
}

impl LocalObjectOptions {
    /// Returns each field that is out of range, with a message that names the valid range.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |field, value: u64, low, high| problems.extend(out_of_range(field, value, low, high));
        check("max_object_bytes", self.max_object_bytes, 1 << 20, 1 << 40);
        check("packed_bytes", self.packed_bytes, 0, 64 << 20);
        problems
    }
}
