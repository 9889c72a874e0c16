//! Tests the whole of enrichment: matches across chunk boundaries, copies of personal data, and limits on time.

use std::sync::Arc;

use docweir_core::documents::{DocumentId, MediaType};
use docweir_core::error::ErrorClass;
use docweir_core::model::{
    Block, BlockKind, DocumentInfo, ExtractedDocument, Findings, Page, TextRange, embedded_text,
};
use proptest::prelude::*;

use super::*;
use crate::chunk::artefact::{self, Header};
use crate::chunk::{ChunkOptions, TokenCounter, chunk_document};

/// Counts one token for about every four characters.
struct Quarters(usize);

impl TokenCounter for Quarters {
    fn count(&self, text: &str) -> usize {
        2 + text.chars().count().div_ceil(4)
    }
    fn window(&self) -> usize {
        self.0
    }
}

fn id() -> DocumentId {
    DocumentId::parse("doc_1").unwrap()
}

fn chunks_of(blocks: &[(BlockKind, &str)], window: usize, options: &ChunkOptions) -> Chunks {
    let mut text = String::new();
    let mut placed = Vec::new();
    for (kind, block) in blocks {
        let start = text.len() as u32;
        text.push_str(block);
        placed.push(Block { kind: *kind, range: TextRange { start, end: text.len() as u32 }, bbox: None });
        text.push_str("\n\n");
    }
    let page =
        Page { number: 1, width: 0.0, height: 0.0, text, blocks: placed, lines: vec![], words: vec![], cells: vec![] };
    let (info, outline, notes) = (DocumentInfo::default(), vec![], vec![]);
    let doc = ExtractedDocument { media_type: MediaType::Markdown, pages: vec![page], info, outline, notes };
    chunk_document(&doc, &id(), &Quarters(window), options, &Cancel::default()).unwrap()
}

fn enrich(chunks: Chunks, window: usize, options: EnrichOptions) -> Chunks {
    LocalEnricher::new(options, Arc::new(Quarters(window))).enrich_blocking(chunks, &Cancel::default()).unwrap()
}

fn redacting() -> EnrichOptions {
    EnrichOptions { redact: true, ..EnrichOptions::default() }
}

fn json(chunks: &Chunks) -> String {
    let (document, options) = (id(), ChunkOptions::default());
    let header =
        Header { document: &document, version: 1, source: "file:///x", s3_uri: None, at: 0, options: &options };
    String::from_utf8(artefact::to_enriched_json(chunks, &header, &Statistics::of(chunks)).unwrap()).unwrap()
}

const H1: BlockKind = BlockKind::Heading { level: 1 };
const P: BlockKind = BlockKind::Paragraph;
const TINY: ChunkOptions =
    ChunkOptions { target_chars: 50, min_chars: 20, max_chars: 100, table_max_chars: 100, heading_max_chars: 60 };

const SECRETS: [&str; 5] =
    ["jane.doe@example.com", "415-555-2671", "123-45-6789", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"];

fn letter() -> String {
    format!(
        "Revenue of Acme Widget Corp. rose 5% on January 5, 2024. Write to {} or call {} about {}. Card {}, account {}.",
        SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[3], SECRETS[4]
    )
}

#[test]
fn findings_point_at_their_text_in_code_points() {
    let text = format!("Für Ärzte 😀: {}", letter());
    let done = enrich(chunks_of(&[(P, &text)], 4000, &ChunkOptions::default()), 4000, EnrichOptions::default());
    let chunk = &done.chunks[0];
    let findings = chunk.findings.as_ref().unwrap();
    let chars: Vec<char> = chunk.content.chars().collect();
    let at = |f: &docweir_core::model::Mention| chars[f.start as usize..f.end as usize].iter().collect::<String>();
    for f in findings.entities.iter().chain(&findings.patterns) {
        assert_eq!(at(f), f.text);
    }
    let kinds: Vec<_> = findings.entities.iter().map(|f| f.kind.as_str()).collect();
    assert_eq!(kinds, ["ORGANIZATION", "DATE"]);
    let places: Vec<_> = findings.personal_data.iter().map(at).collect();
    assert_eq!(places, SECRETS);
    assert!(findings.personal_data.iter().all(|f| f.text.is_empty()));
}

#[test]
fn personal_data_is_never_copied_into_findings() {
    let done = enrich(chunks_of(&[(P, &letter())], 4000, &ChunkOptions::default()), 4000, EnrichOptions::default());
    let findings = serde_json::to_string(&done.chunks[0].findings).unwrap();
    for secret in SECRETS.iter().flat_map(|s| s.split(' ')) {
        assert!(!findings.contains(secret), "{findings}");
    }
    assert!(!findings.contains("jane"));
}

#[test]
fn redaction_leaves_no_trace_in_text_headings_or_findings() {
    let heading = format!("# About {}", SECRETS[0]);
    let body = format!("{} {}", letter(), "And more words follow here for a while. ".repeat(60));
    let chunks = chunks_of(&[(H1, &heading), (P, &body)], 300, &ChunkOptions::default());
    assert!(chunks.chunks.iter().any(|c| c.heading_path == [&heading[2..]]), "a heading path holds it");
    let done = enrich(chunks, 300, redacting());
    let text = json(&done);
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(text.contains("[REDACTED_CREDIT_CARD]") && text.contains("About [REDACTED_EMAIL]"));
    let placeholders: usize = done
        .chunks
        .iter()
        .map(|c| c.content.matches("[REDACTED_").count() + c.heading_path.concat().matches("[REDACTED_").count())
        .sum();
    assert_eq!(done.pii_redacted as usize, placeholders);
    for chunk in &done.chunks {
        assert_eq!(chunk.tokens as usize, Quarters(300).count(&chunk.embedded_text()));
        let findings = chunk.findings.as_ref().unwrap();
        assert!(!findings.key_phrases.iter().any(|p| p.contains("REDACTED")));
        let chars: Vec<char> = chunk.content.chars().collect();
        for f in &findings.personal_data {
            let at: String = chars[f.start as usize..f.end as usize].iter().collect();
            assert_eq!(at, format!("[REDACTED_{}]", f.kind));
        }
    }
}

#[test]
fn redaction_covers_the_metadata_of_the_document() {
    let fields = serde_json::json!({
        "owner": format!("Jane <{}>", SECRETS[0]), "team": {"mail": [SECRETS[0], "none"]}, "year": 2021,
        "note": "see Karsholm pier"
    });
    let fields = fields.as_object().cloned().unwrap();
    let mut chunks = chunks_of(&[(P, &letter())], 4000, &ChunkOptions::default());
    chunks.fields = fields.clone();
    let plain = enrich(chunks.clone(), 4000, EnrichOptions::default());
    assert_eq!(plain.fields, fields, "without redaction, metadata stays");
    let before = enrich(Chunks { fields: Default::default(), ..chunks.clone() }, 4000, redacting()).pii_redacted;
    let done = enrich(chunks, 4000, redacting());
    let expected = serde_json::json!({
        "owner": "Jane <[REDACTED_EMAIL]>", "team": {"mail": ["[REDACTED_EMAIL]", "none"]}, "year": 2021,
        "note": "see Karsholm pier"
    });
    assert_eq!(serde_json::Value::Object(done.fields), expected);
    assert_eq!(done.pii_redacted, before + 2);
}

#[test]
fn only_the_chosen_kinds_are_redacted() {
    let options = EnrichOptions { redact_kinds: vec!["EMAIL".into()], ..redacting() };
    let done = enrich(chunks_of(&[(P, &letter())], 4000, &ChunkOptions::default()), 4000, options);
    let text = &done.chunks[0].content;
    assert!(!text.contains(SECRETS[0]) && SECRETS[1..].iter().all(|s| text.contains(s)));
    assert_eq!(done.pii_redacted, 1);
    let kinds: Vec<_> =
        done.chunks[0].findings.as_ref().unwrap().personal_data.iter().map(|f| f.kind.clone()).collect();
    assert_eq!(kinds, ["EMAIL", "PHONE", "SSN", "CREDIT_CARD", "IBAN"]);
}

#[test]
fn what_a_chunk_boundary_cuts_is_found_in_both_halves() {
    let mut straddled = 0;
    for lead in 0..60 {
        let text =
            format!("{} 4111 1111 1111 1111 {}", "w".repeat(lead + 1), "and so on with words ".repeat(8).trim_end());
        let chunks = chunks_of(&[(P, &text)], 4000, &TINY);
        let cut = !chunks.chunks.iter().any(|c| c.content.contains(SECRETS[3]));
        straddled += usize::from(cut);
        let done = enrich(chunks, 4000, redacting());
        assert!(done.chunks.iter().all(|c| !c.content.contains("1111")), "{lead}");
        assert_eq!(done.pii_redacted, if cut { 2 } else { 1 });
    }
    assert!(straddled > 0, "no boundary fell into the number: the test shows nothing");
}

#[test]
fn a_chunk_that_grows_by_redaction_stays_in_the_window() {
    let text = "a@b.io c@d.io ".repeat(40);
    let chunks = chunks_of(&[(P, text.trim_end())], 100, &ChunkOptions::default());
    let before = chunks.chunks.clone();
    let done = enrich(chunks, 100, redacting());
    assert!(done.chunks.len() > before.len());
    let mut ids = std::collections::HashSet::new();
    for (i, chunk) in done.chunks.iter().enumerate() {
        assert!(Quarters(100).count(&embedded_text(&chunk.heading_path, &chunk.content)) <= 100);
        assert!(ids.insert(&chunk.id) && chunk.ordinal as usize == i);
    }
    assert!(done.chunks.is_sorted_by_key(|c| c.span.start));
    assert_eq!(done.chunks.last().unwrap().span.end, before.last().unwrap().span.end);
    assert_eq!(done.pii_redacted, 80);
}

#[test]
fn features_can_be_switched_off_and_lists_are_bounded() {
    let none = EnrichOptions {
        language: false,
        key_phrases: false,
        entities: false,
        patterns: false,
        personal_data: false,
        ..EnrichOptions::default()
    };
    let text = letter().repeat(3);
    let chunks = chunks_of(&[(P, &text)], 4000, &ChunkOptions::default());
    assert_eq!(enrich(chunks.clone(), 4000, none).chunks[0].findings, Some(Findings::default()));
    let few = EnrichOptions { max_findings: 1, max_key_phrases: 2, ..EnrichOptions::default() };
    let findings = enrich(chunks, 4000, few).chunks[0].findings.clone().unwrap();
    let lengths =
        [findings.entities.len(), findings.patterns.len(), findings.personal_data.len(), findings.key_phrases.len()];
    assert_eq!(lengths, [1, 1, 1, 2]);
}

#[tokio::test]
async fn it_runs_off_the_runtime_and_ends_when_cancelled() {
    let enricher = LocalEnricher::new(EnrichOptions::default(), Arc::new(Quarters(300)));
    let chunks = chunks_of(&[(P, &letter())], 300, &ChunkOptions::default());
    let cancel = Cancel::default();
    let done = enricher.enrich(chunks.clone(), Call::new("a test", &cancel)).await.unwrap();
    assert!(done.chunks.chunks[0].findings.is_some() && done.usage == Usage::default());
    cancel.cancel();
    assert_eq!(enricher.enrich(chunks, Call::new("a test", &cancel)).await.unwrap_err().class, ErrorClass::Timeout);
    assert_eq!(enricher.name(), "local");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test measures real time")]
fn no_text_makes_it_slow() {
    let units = [
        "a@",
        "1 ",
        "+1",
        "Acme ",
        "10.1/",
        "$1,",
        "2020-",
        "DE89 ",
        "((",
        "::f",
        "tel 1",
        "4111 ",
        "\u{301}",
        "[REDACTED_",
        "www.",
        "Inc. ",
        "a.b@c.",
    ];
    for unit in units {
        let text = unit.repeat((1 << 20) / unit.len());
        let started = std::time::Instant::now();
        let wide = ChunkOptions { target_chars: 1_000_000, max_chars: 1_000_000, ..ChunkOptions::default() };
        enrich(chunks_of(&[(P, &text)], 1 << 30, &wide), 1 << 30, redacting());
        let took = started.elapsed();
        assert!(took.as_secs() < 15, "{took:?} for {unit:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_enriched_and_no_secret_survives(
        parts in prop::collection::vec(prop_oneof![
            3 => "[a-zA-Z ,.]{0,60}",
            1 => any::<String>().prop_map(|s| s.replace('\0', "")),
            1 => Just("漢字 👨‍👩‍👧 e\u{301} ".to_owned()),
            2 => prop::sample::select(&SECRETS[..]).prop_map(|s| format!(" ; {s} ; ")),
        ], 0..20),
        window in 40usize..400,
    ) {
        let text = parts.concat();
        let chunks = chunks_of(&[(P, &text)], window, &ChunkOptions::default());
        let done = enrich(chunks.clone(), window, redacting());
        let all = json(&done);
        for secret in SECRETS {
            prop_assert!(!all.contains(secret), "{}", secret);
        }
        for chunk in &done.chunks {
            prop_assert!(chunk.tokens as usize <= window);
            prop_assert_eq!(chunk.tokens as usize, Quarters(window).count(&chunk.embedded_text()));
        }
        prop_assert_eq!(&done, &enrich(chunks, window, redacting()), "deterministic");
        prop_assert_eq!(artefact::from_json(all.as_bytes()).unwrap(), done);
    }
}
