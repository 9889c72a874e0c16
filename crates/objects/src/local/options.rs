//! Limits of the local object store.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalObjectOptions {
    /// Largest object, in bytes, that can be written or read whole. Default 2147483648 (2 GiB).
    pub max_object_bytes: u64,
    /// Time, in seconds, that a write waits for a key's lock held by another process. Default 30.
    pub lock_wait_seconds: u64,
    /// Age, in seconds, after which an unfinished write counts as abandoned even if its writer still runs. Default
    /// 3600.
    pub leftover_seconds: u64,
}

impl Default for LocalObjectOptions {
    fn default() -> Self {
        Self { max_object_bytes: 2 << 30, lock_wait_seconds: 30, leftover_seconds: 3600 }
    }
}

impl LocalObjectOptions {
    /// Returns each field that is out of range, with a message that names the valid range.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push((field, format!("{value} is out of range: use {low} to {high}")));
            }
        };
        check("max_object_bytes", self.max_object_bytes, 1 << 20, 1 << 40);
        check("lock_wait_seconds", self.lock_wait_seconds, 1, 3600);
        check("leftover_seconds", self.leftover_seconds, 60, 30 * 86_400);
        problems
    }
}
