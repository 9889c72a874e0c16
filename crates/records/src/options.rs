//! Configures the reading of records.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

use super::table::TableOptions;

/// Configures the limits of records and the form of the items that are embedded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecordsOptions {
    /// If true, a line of a receipt is embedded together with the visual rows above and below the line. Changing this
    /// setting changes the embedded text of almost every line.
    pub line_context: bool,
    /// Maximum length of a record, in bytes, without the line break. A longer record is refused. Reading a record
    /// takes about 20 times its length in memory, and up to 100 times if the record has many tiny objects.
    pub max_record_bytes: usize,
    /// Maximum number of lines and words of one receipt. A larger receipt is refused.
    pub max_record_items: usize,
    /// Maximum estimated memory of the items of one receipt, in bytes. A larger receipt is refused. Each item repeats
    /// the texts of its neighbours, so the items can take much more memory than the receipt itself.
    pub max_items_bytes: usize,
    pub table: TableOptions,
}

impl Default for RecordsOptions {
    fn default() -> Self {
        Self {
            line_context: false,
            max_record_bytes: 4 << 20,
            max_record_items: 10_000,
            max_items_bytes: 64 << 20,
            table: TableOptions::default(),
        }
    }
}

impl RecordsOptions {
    /// Returns each field that is out of range, with the reason.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: usize, low, high| found.extend(out_of_range(field, value, low, high));
        range("max_record_bytes", self.max_record_bytes, 1 << 10, 256 << 20);
        range("max_record_items", self.max_record_items, 1, 1_000_000);
        range("max_items_bytes", self.max_items_bytes, 1 << 20, 4 << 30);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(RecordsOptions::default().problems(), []);
        let of = |change: fn(&mut RecordsOptions)| {
            let mut options = RecordsOptions::default();
            change(&mut options);
            options.problems().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(of(|o| o.max_record_bytes = 1_023), ["max_record_bytes"]);
        assert_eq!(of(|o| o.max_record_items = 0), ["max_record_items"]);
        assert_eq!(of(|o| o.max_items_bytes = usize::MAX), ["max_items_bytes"]);
    }
}
