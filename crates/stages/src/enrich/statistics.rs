//! Counts the findings of a document, for the enrichment artefact and the result of the stage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use docweir_core::model::{Chunks, Mention};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    pub chunks_enriched: u64,
    pub pii_redacted_count: u64,
    pub key_phrases: u64,
    /// Number of entities found, by kind.
    pub entities: BTreeMap<String, u64>,
    pub patterns: BTreeMap<String, u64>,
    pub personal_data: BTreeMap<String, u64>,
    /// Number of chunks in each detected language, by ISO 639-3 code.
    pub languages: BTreeMap<String, u64>,
}

impl Statistics {
    pub fn of(chunks: &Chunks) -> Self {
        let mut all = Self { pii_redacted_count: chunks.pii_redacted, ..Self::default() };
        for findings in chunks.chunks.iter().filter_map(|c| c.findings.as_ref()) {
            all.chunks_enriched += 1;
            all.key_phrases += findings.key_phrases.len() as u64;
            count(&mut all.entities, &findings.entities);
            count(&mut all.patterns, &findings.patterns);
            count(&mut all.personal_data, &findings.personal_data);
            if let Some(language) = &findings.language {
                *all.languages.entry(language.code.clone()).or_default() += 1;
            }
        }
        all
    }
}

fn count(by_kind: &mut BTreeMap<String, u64>, found: &[Mention]) {
    for f in found {
        *by_kind.entry(f.kind.clone()).or_default() += 1;
    }
}
