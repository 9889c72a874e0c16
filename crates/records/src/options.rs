//! How records are read.

use serde::{Deserialize, Serialize};

use super::table::TableOptions;

/// Records and what is made of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordsOptions {
    /// Whether a receipt's line is embedded between the visual rows above and below it, each on a line of its own.
    /// Changing it changes the input of almost every line. Default false: the line alone.
    pub line_context: bool,
    /// Length of a record above which it is refused, in bytes, its line end not counted. Reading one takes some 20
    /// times as much memory, and 100 times at worst (many tiny objects). Default 4 MiB.
    pub max_record_bytes: usize,
    /// Lines and words of one receipt at most. Default 10,000.
    pub max_record_items: usize,
    /// Memory of the items of one receipt above which it is refused, in bytes, near enough: each item repeats what
    /// stands around it. Default 64 MiB.
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
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: usize, low: usize, high: usize| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
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
