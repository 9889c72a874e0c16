//! Defines the settings of extraction and their ranges.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;

/// Configures the child processes of extraction and the limits on one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractOptions {
    /// If true, a PDF without any text layer is accepted with empty pages instead of being refused.
    pub accept_textless: bool,
    /// If true, the document information and the outline of a PDF are read.
    pub document_info: bool,
    /// Maximum wall-clock time for one document in its child process, in seconds. After this time, the child process is
    /// killed and the document counts as failed. Raise this value for documents of thousands of pages.
    pub deadline_seconds: u64,
    /// Maximum processor time for one document in its child process, in seconds. After this time, the child process is
    /// killed.
    pub cpu_seconds: u64,
    /// Maximum time between two pages of a document, in seconds. After this time, the child process counts as hung and
    /// is killed.
    pub stall_seconds: u64,
    /// Maximum time to read the document information and the outline, in seconds. The time starts when all pages have
    /// been read. After this time, the document information and the outline are left out.
    #[serde(skip)]
    pub info_seconds: u64,
    /// Memory, in bytes, that a child process may use in addition to the memory that it maps at its start. A document
    /// that needs more is refused. Each worker of the stage has its own child process, and each child process may use
    /// this much memory.
    pub memory_limit_bytes: u64,
    /// Number of documents that one child process reads. After that, a new child process replaces it.
    #[serde(skip)]
    pub max_documents_per_child: u32,
    /// Maximum resident memory of a child process between two documents, in bytes. If a child process uses more
    /// memory when it has finished a document, a new child process replaces it.
    #[serde(skip)]
    pub recycle_above_bytes: u64,
    /// Maximum size of one message from a child process, in bytes. Each page is one message, with its words and their
    /// boxes.
    pub max_frame_bytes: u64,
    /// Maximum size of all extracted pages of one document together, in bytes.
    pub max_result_bytes: u64,
    /// Limits on the content of one document.
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
    /// Returns every key whose value is out of range, with a description of the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let ranges: [(&'static str, u64, u64, u64); 13] = [
            ("deadline_seconds", self.deadline_seconds, 1, 86_400),
            ("cpu_seconds", self.cpu_seconds, 1, 86_400),
            ("stall_seconds", self.stall_seconds, 1, 86_400),
            ("memory_limit_bytes", self.memory_limit_bytes, 32 * MIB, 1 << 40),
            ("max_frame_bytes", self.max_frame_bytes, 64 * 1024, 1 << 30),
            ("max_result_bytes", self.max_result_bytes, 64 * 1024, 1 << 32),
            ("limits.pages", self.limits.pages.into(), 1, 1_000_000),
            ("limits.input_bytes", self.limits.input_bytes, 1, 1 << 32),
            ("limits.text_bytes", self.limits.text_bytes, 1, 1 << 30),
            ("limits.glyphs_per_page", self.limits.glyphs_per_page.into(), 1_000, 50_000_000),
            ("limits.operations_per_page", self.limits.operations_per_page.into(), 1_000, 1_000_000_000),
            ("limits.text_per_input_byte", self.limits.text_per_input_byte.into(), 1, 1_000_000),
            ("limits.outline_entries", self.limits.outline_entries.into(), 1, 1_000_000),
        ];
        ranges.into_iter().filter_map(|(key, value, low, high)| out_of_range(key, value, low, high)).collect()
    }
}

/// Limits the content of one document. A document that exceeds a limit is refused with an error that names the limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractLimits {
    /// Maximum number of pages of one document.
    pub pages: u32,
    /// Maximum size of one input file, in bytes.
    pub input_bytes: u64,
    /// Maximum size of one Markdown or plain text file, in bytes.
    pub text_bytes: u64,
    /// Maximum number of glyphs drawn on one PDF page.
    pub glyphs_per_page: u32,
    /// Maximum number of glyph runs, paths, images and forms drawn on one PDF page. A form counts each time that it is
    /// drawn, because a few kilobytes of forms that draw each other may cause hours of work.
    pub operations_per_page: u32,
    /// Maximum size of the text of a PDF, in bytes for each byte of the file. One mebibyte is always allowed. A few
    /// kilobytes may otherwise produce any amount of text, all of which is then embedded and paid.
    pub text_per_input_byte: u32,
    /// Maximum number of entries read from a PDF's outline. Further entries are left out, with a note.
    pub outline_entries: u32,
}

impl Default for ExtractLimits {
    fn default() -> Self {
        Self {
            pages: 10_000,
            input_bytes: 512 * MIB,
            text_bytes: 16 * MIB,
            glyphs_per_page: 1_000_000,
            operations_per_page: 2_000_000,
            text_per_input_byte: 64,
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
        assert!(problems[0].1.contains("between 1 and 86400"), "{}", problems[0].1);
    }
}
