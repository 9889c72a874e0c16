//! Defines the settings of enrichment.

use serde::{Deserialize, Serialize};

use super::comprehend::{ComprehendOptions, PERSONAL_KINDS};
use super::personal::KINDS;

/// Selects the enricher and the kinds of findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnrichOptions {
    /// Enricher to use: `"local"` (rules and statistics on this machine) or `"comprehend"` (the same rules, and in
    /// addition Amazon Comprehend; needs a build with `--features aws`).
    pub provider: EnrichProvider,
    /// If true, detects the language of the document and of each chunk.
    pub language: bool,
    /// If true, extracts key phrases of each chunk.
    pub key_phrases: bool,
    /// If true, finds dates, organisations, links and identifiers.
    pub entities: bool,
    /// If true, finds amounts of money, percentages, quarters, years and financial metrics.
    pub patterns: bool,
    /// If true, reports the kind and position of personal data, never its text.
    pub personal_data: bool,
    /// If true, replaces personal data by `[REDACTED_KIND]` before any later step stores the text. Artefacts of
    /// earlier steps are deleted. Redacted text cannot be searched or restored. Redaction searches for personal data
    /// even if `personal_data` is false.
    pub redact: bool,
    /// Kinds of personal data to redact; empty means all kinds.
    pub redact_kinds: Vec<String>,
    /// Minimum score of a finding, from 0 to 1; findings with a lower score are dropped. For redaction, the minimum
    /// score is never above 0.7, even if this value is higher.
    pub min_confidence: f32,
    /// Maximum number of key phrases for each chunk. The best ones are kept.
    pub max_key_phrases: usize,
    /// Maximum number of entities, of patterns and of reported personal data for each chunk. The first ones in the text
    /// are kept. Redaction is not limited.
    pub max_findings: usize,
    /// Settings of Amazon Comprehend, for the provider `"comprehend"`.
    pub comprehend: ComprehendOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// Returns every field whose value is out of range, with a description of the problem.
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
            found.push((
                "redact_kinds",
                format!("contains the unknown kind `{kind}`; known kinds: {}", kinds.join(", ")),
            ));
        }
        found
    }

    /// Returns the options that affect the findings, for fingerprints. The value never contains `provider`, and
    /// contains `comprehend` only if Comprehend is used. Fingerprints from the time before Comprehend was supported
    /// therefore stay valid.
    pub fn shape(&self) -> serde_json::Value {
        let mut shape = serde_json::to_value(self).unwrap_or_default();
        if let Some(members) = shape.as_object_mut() {
            members.remove("provider");
            members.remove("comprehend");
            // In this spelling, fingerprints of earlier versions stay valid. An `f32` would be written as 0.7.
            members.insert("min_confidence".into(), f64::from(self.min_confidence).into());
            if self.provider == EnrichProvider::Comprehend {
                members.insert("comprehend".into(), self.comprehend.shape());
            }
        }
        shape
    }

    /// Returns the kinds of personal data that the configured provider can find.
    fn personal_kinds(&self) -> Vec<&'static str> {
        let mut kinds = KINDS.to_vec();
        if self.provider == EnrichProvider::Comprehend {
            kinds.extend(PERSONAL_KINDS.iter().map(|(_, ours)| *ours));
            kinds.sort_unstable();
            kinds.dedup();
        }
        kinds
    }

    /// Returns whether personal data of this kind is redacted.
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
