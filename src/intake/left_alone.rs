//! Counts the entries of folders and buckets that intake did not ingest, by reason.

use std::collections::BTreeMap;

use serde::Serialize;

use super::walk::Reason;

/// Maximum number of different extensions that are counted by name.
const EXTENSIONS: usize = 100;
/// Number of extensions that a description names.
const NAMED: usize = 3;

/// Counts what was left alone. A folder counts as one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftAlone {
    /// Number of links that lead out of the folder, into an excluded folder, or nowhere.
    pub links: u64,
    pub hidden: u64,
    pub excluded: u64,
    /// Number of files that are larger than `intake.max_file_bytes`. They are also reported as unreadable.
    pub too_large: u64,
    /// Number of files whose extension is not among those to ingest.
    pub by_extension: u64,
    /// The same number for each extension, in lower case. The empty extension stands for files without one. Extensions
    /// after the first 100 are counted in `by_extension` only.
    pub extensions: BTreeMap<String, u64>,
}

impl LeftAlone {
    pub fn add(&mut self, reason: Reason) {
        match reason {
            Reason::Link => self.links += 1,
            Reason::Hidden => self.hidden += 1,
            Reason::Excluded => self.excluded += 1,
            Reason::Size => self.too_large += 1,
            Reason::Extension(extension) => {
                self.by_extension += 1;
                self.count(extension, 1);
            }
        }
    }

    fn count(&mut self, extension: String, n: u64) {
        if self.extensions.len() < EXTENSIONS || self.extensions.contains_key(&extension) {
            *self.extensions.entry(extension).or_default() += n;
        }
    }

    /// Adds the counts of another part of the same run.
    pub fn merge(&mut self, other: &LeftAlone) {
        self.links += other.links;
        self.hidden += other.hidden;
        self.excluded += other.excluded;
        self.too_large += other.too_large;
        self.by_extension += other.by_extension;
        for (extension, n) in &other.extensions {
            self.count(extension.clone(), *n);
        }
    }

    pub fn total(&self) -> u64 {
        self.links + self.hidden + self.excluded + self.too_large + self.by_extension
    }

    /// Describes the counts in words, such as `5 by extension (3 .docx, 2 .png), 1 hidden`. Counts of zero are omitted.
    pub fn describe(&self) -> String {
        let mut extensions: Vec<_> = self.extensions.iter().collect();
        extensions.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), name.as_str()));
        let named = extensions.iter().take(NAMED).map(|(name, n)| match name.as_str() {
            "" => format!("{n} without one"),
            name => format!("{n} .{name}"),
        });
        let mut named: Vec<String> = named.collect();
        if extensions.len() > NAMED {
            named.push("…".to_owned());
        }
        let by_extension = format!("by extension ({})", named.join(", "));
        let parts = [
            (self.by_extension, by_extension.as_str()),
            (self.hidden, "hidden"),
            (self.excluded, "excluded"),
            (self.links, "links out of the folder"),
            (self.too_large, "too large"),
        ];
        let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
        parts.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_described_by_reason_with_the_commonest_extensions() {
        let mut left = LeftAlone::default();
        assert_eq!((left.describe().as_str(), left.total()), ("", 0));
        let extensions = ["docx", "png", "docx", "", "csv", "docx", "png"];
        for extension in extensions {
            left.add(Reason::Extension(extension.to_owned()));
        }
        for reason in [Reason::Hidden, Reason::Link, Reason::Size, Reason::Hidden] {
            left.add(reason);
        }
        let text =
            "7 by extension (3 .docx, 2 .png, 1 without one, …), 2 hidden, 1 links out of the folder, 1 too large";
        assert_eq!((left.describe().as_str(), left.total()), (text, 11));
        let mut sum = left.clone();
        sum.merge(&left);
        assert_eq!((sum.total(), sum.extensions["docx"]), (22, 6));
    }

    #[test]
    fn many_extensions_are_counted_without_their_names() {
        let mut left = LeftAlone::default();
        for n in 0..1_000 {
            left.add(Reason::Extension(format!("x{n}")));
        }
        assert_eq!((left.by_extension, left.extensions.len()), (1_000, EXTENSIONS));
    }
}
