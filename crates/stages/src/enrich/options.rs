//! The settings of enrichment.

use serde::{Deserialize, Serialize};

use super::comprehend::{ComprehendOptions, PERSONAL_KINDS};
use super::personal::KINDS;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnrichOptions {
    /// Who enriches: `local` (rules and statistics on this machine), or `comprehend` (these, and Amazon Comprehend beside
    /// them; needs a build with `--features aws`). Default local.
    pub provider: EnrichProvider,
    /// Tell the language of the document and of each chunk. Default true.
    pub language: bool,
    /// Key phrases of each chunk. Default true.
    pub key_phrases: bool,
    /// Dates, organisations, links, identifiers. Default true.
    pub entities: bool,
    /// Money, percentages, quarters, years, financial metrics. Default true.
    pub patterns: bool,
    /// Find personal data: kind and place, never its text. Default true.
    pub personal_data: bool,
    /// Write `[REDACTED_KIND]` over personal data before anything downstream holds the text. Finds it even where
    /// `personal_data` is false. Default false.
    pub redact: bool,
    /// Kinds to redact; empty means all that are found. Default empty.
    pub redact_kinds: Vec<String>,
    /// Findings of a lower score are dropped, 0 to 1. Redaction takes what scores 0.7 even where this is higher.
    /// Default 0.7.
    pub min_confidence: f32,
    /// Key phrases kept for each chunk, best first. Default 10.
    pub max_key_phrases: usize,
    /// Findings of each list kept for each chunk, in the order of the text. Redaction knows no limit. Default 200.
    pub max_findings: usize,
    pub comprehend: ComprehendOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrichProvider {
    #[default]
    Local,
    Comprehend,
}

impl Default for EnrichOptions {
    fn default() -> Self {
        Self {
            provider: EnrichProvider::default(),
            language: true,
            key_phrases: true,
            entities: true,
            patterns: true,
            personal_data: true,
            redact: false,
            redact_kinds: Vec::new(),
            min_confidence: 0.7,
            max_key_phrases: 10,
            max_findings: 200,
            comprehend: ComprehendOptions::default(),
        }
    }
}

impl EnrichOptions {
    /// Field and what is wrong with it, for every value out of range.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if !(0.0..=1.0).contains(&self.min_confidence) {
            found.push(("min_confidence", format!("is {}, must be between 0 and 1", self.min_confidence)));
        }
        for (field, value, high) in
            [("max_key_phrases", self.max_key_phrases, 100), ("max_findings", self.max_findings, 10_000)]
        {
            if !(1..=high).contains(&value) {
                found.push((field, format!("is {value}, must be between 1 and {high}")));
            }
        }
        let kinds = self.personal_kinds();
        for kind in self.redact_kinds.iter().filter(|k| !kinds.contains(&k.as_str())) {
            found.push(("redact_kinds", format!("names the unknown kind `{kind}`, known are {}", kinds.join(", "))));
        }
        found
    }

    /// What of it shapes the findings. That of `local` is what it was before there was a choice.
    pub fn shape(&self) -> serde_json::Value {
        let mut shape = serde_json::to_value(self).unwrap_or_default();
        if let Some(members) = shape.as_object_mut() {
            members.remove("provider");
            members.remove("comprehend");
            if self.provider == EnrichProvider::Comprehend {
                members.insert("comprehend".into(), self.comprehend.shape());
            }
        }
        shape
    }

    /// Kinds of personal data that may be found.
    fn personal_kinds(&self) -> Vec<&'static str> {
        let mut kinds = KINDS.to_vec();
        if self.provider == EnrichProvider::Comprehend {
            kinds.extend(PERSONAL_KINDS.iter().map(|(_, ours)| *ours));
            kinds.sort_unstable();
            kinds.dedup();
        }
        kinds
    }

    /// Whether personal data of this kind is written over.
    pub fn redacts(&self, kind: &str) -> bool {
        self.redact && (self.redact_kinds.is_empty() || self.redact_kinds.iter().any(|k| k == kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_out_of_range_is_named() {
        assert!(EnrichOptions::default().problems().is_empty());
        let cases = [
            (EnrichOptions { min_confidence: 1.5, ..Default::default() }, "min_confidence"),
            (EnrichOptions { min_confidence: f32::NAN, ..Default::default() }, "min_confidence"),
            (EnrichOptions { max_key_phrases: 0, ..Default::default() }, "max_key_phrases"),
            (EnrichOptions { max_findings: 10_001, ..Default::default() }, "max_findings"),
            (EnrichOptions { redact_kinds: vec!["SHOE_SIZE".into()], ..Default::default() }, "redact_kinds"),
            // Only Comprehend finds names.
            (EnrichOptions { redact_kinds: vec!["NAME".into()], ..Default::default() }, "redact_kinds"),
        ];
        for (options, field) in cases {
            assert_eq!(options.problems().iter().map(|p| p.0).collect::<Vec<_>>(), [field]);
        }
        let names = vec!["NAME".into(), "CREDIT_CARD".into()];
        let comprehend =
            EnrichOptions { provider: EnrichProvider::Comprehend, redact_kinds: names, ..Default::default() };
        assert!(comprehend.problems().is_empty());
    }
}
