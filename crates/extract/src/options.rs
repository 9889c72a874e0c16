//! What can be set for extraction, with its limits.

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;

/// Extraction: the child processes and what one document may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractOptions {
    /// Whether a PDF without any text layer passes with empty pages instead of being refused. Default false.
    pub accept_textless: bool,
    /// Whether the document information and the outline of a PDF are read. Default true.
    pub document_info: bool,
    /// Seconds of wall time that one document may take in its child before the child is killed. Default 600.
    pub deadline_seconds: u64,
    /// Seconds of processor time that one document may take in its child before the child is killed. Default 300.
    pub cpu_seconds: u64,
    /// Seconds without one more page read after which the child is taken to hang and is killed. Default 60.
    pub stall_seconds: u64,
    /// Seconds that document information and outline may take, after the pages; then they are left out. Default 10.
    pub info_seconds: u64,
    /// Memory of a child, in bytes, above what it maps at its start. Default 536870912 (512 MiB).
    pub memory_limit_bytes: u64,
    /// Documents after which a child is replaced by a new one. Default 500.
    pub max_documents_per_child: u32,
    /// A child whose resident memory is above this many bytes after a document is replaced. Default 134217728 (128 MiB).
    pub recycle_above_bytes: u64,
    /// Largest message of a child, in bytes: one page with its words and boxes. Default 33554432 (32 MiB).
    pub max_frame_bytes: u64,
    /// Largest result of one document, in bytes: all its pages together. Default 268435456 (256 MiB).
    pub max_result_bytes: u64,
    /// What a document may hold.
    pub limits: ExtractLimits,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            accept_textless: false,
            document_info: true,
            deadline_seconds: 600,
            cpu_seconds: 300,
            stall_seconds: 60,
            info_seconds: 10,
            memory_limit_bytes: 512 * MIB,
            max_documents_per_child: 500,
            recycle_above_bytes: 128 * MIB,
            max_frame_bytes: 32 * MIB,
            max_result_bytes: 256 * MIB,
            limits: ExtractLimits::default(),
        }
    }
}

impl ExtractOptions {
    /// What is out of range: the key and why.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let ranges: [(&'static str, u64, u64, u64); 14] = [
            ("deadline_seconds", self.deadline_seconds, 1, 86_400),
            ("cpu_seconds", self.cpu_seconds, 1, 86_400),
            ("stall_seconds", self.stall_seconds, 1, 86_400),
            ("info_seconds", self.info_seconds, 1, 3_600),
            ("memory_limit_bytes", self.memory_limit_bytes, 32 * MIB, 1 << 40),
            ("max_documents_per_child", self.max_documents_per_child.into(), 1, 1_000_000),
            ("recycle_above_bytes", self.recycle_above_bytes, 16 * MIB, 1 << 40),
            ("max_frame_bytes", self.max_frame_bytes, 64 * 1024, 1 << 30),
            ("max_result_bytes", self.max_result_bytes, 64 * 1024, 1 << 32),
            ("limits.pages", self.limits.pages.into(), 1, 1_000_000),
            ("limits.input_bytes", self.limits.input_bytes, 1, 1 << 32),
            ("limits.text_bytes", self.limits.text_bytes, 1, 1 << 30),
            ("limits.glyphs_per_page", self.limits.glyphs_per_page.into(), 1_000, 50_000_000),
            ("limits.outline_entries", self.limits.outline_entries.into(), 1, 1_000_000),
        ];
        let outside = ranges.into_iter().filter(|(_, value, low, high)| !(low..=high).contains(&value));
        outside.map(|(key, value, low, high)| (key, format!("{value} is out of range: use {low} to {high}"))).collect()
    }
}

/// What a document may hold; more is refused with an error that names the limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractLimits {
    /// Pages of one document. Default 10000.
    pub pages: u32,
    /// Size of one input file, in bytes. Default 536870912 (512 MiB).
    pub input_bytes: u64,
    /// Size of one Markdown or plain text file, in bytes. Default 16777216 (16 MiB).
    pub text_bytes: u64,
    /// Glyphs drawn on one PDF page. Default 1000000.
    pub glyphs_per_page: u32,
    /// Entries read of a PDF's outline; what is above is left out, with a note. Default 10000.
    pub outline_entries: u32,
}

impl Default for ExtractLimits {
    fn default() -> Self {
        Self {
            pages: 10_000,
            input_bytes: 512 * MIB,
            text_bytes: 16 * MIB,
            glyphs_per_page: 1_000_000,
            outline_entries: 10_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_a_bad_value_names_its_key() {
        assert_eq!(ExtractOptions::default().problems(), []);
        let bad = ExtractOptions { stall_seconds: 0, ..Default::default() };
        let problems = bad.problems();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].0, "stall_seconds");
        assert!(problems[0].1.contains("1 to 86400"), "{}", problems[0].1);
    }
}
