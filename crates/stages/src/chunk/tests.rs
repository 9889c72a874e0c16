//! Tests the invariants that hold for all chunks, and tests each rule by example.

use std::collections::HashSet;

use docweir_core::documents::MediaType;
use docweir_core::error::ErrorClass;
use docweir_core::model::{
    Block, BlockKind, Chunk, ChunkKind, DocumentInfo, Findings, Language, Mention, OutlineEntry, PAGE_SEPARATOR, Page,
    Placed, TextRange, embedded_text,
};
use proptest::prelude::*;

use super::artefact::{self, Header};
use super::*;

/// Counts one token for each word, plus `special` tokens for each text.
pub(crate) struct Words {
    pub window: usize,
    pub special: usize,
}

impl TokenCounter for Words {
    fn count(&self, text: &str) -> usize {
        text.split_whitespace().count() + self.special
    }
    fn window(&self) -> usize {
        self.window
    }
}

/// Counts one token for every three characters, plus one for every ten words, so that the counts of parts do not add up
/// to the count of the whole.
struct NonAdditiveCounter(usize);

impl TokenCounter for NonAdditiveCounter {
    fn count(&self, text: &str) -> usize {
        2 + text.chars().count().div_ceil(3) + text.split_whitespace().count() / 10
    }
    fn window(&self) -> usize {
        self.0
    }
}

const WIDE: Words = Words { window: 100_000, special: 2 };

fn id() -> DocumentId {
    DocumentId::parse("doc_20260101_000000_00000001").unwrap()
}

fn page(number: u32, blocks: &[(BlockKind, &str)]) -> Page {
    let mut text = String::new();
    let mut placed = Vec::new();
    let mut lines = Vec::new();
    for (i, (kind, block)) in blocks.iter().enumerate() {
        if i > 0 {
            text.push_str("\n\n");
        }
        let start = text.len() as u32;
        text.push_str(block);
        let range = TextRange { start, end: text.len() as u32 };
        let bbox = [10.0, 20.0 * i as f32, 200.0, 20.0 * i as f32 + 10.0];
        placed.push(Block { kind: *kind, range, bbox: Some(bbox) });
        lines.push(Placed { range, bbox });
    }
    Page { number, width: 612.0, height: 792.0, text, blocks: placed, lines, words: Vec::new(), cells: Vec::new() }
}

fn document(pages: Vec<Page>) -> ExtractedDocument {
    let (info, outline, notes) = (DocumentInfo::default(), Vec::new(), Vec::new());
    ExtractedDocument { media_type: MediaType::Pdf, pages, info, outline, notes }
}

fn chunked(pages: &[&[(BlockKind, &str)]]) -> Vec<Chunk> {
    chunked_by(pages, &WIDE)
}

fn chunked_by(pages: &[&[(BlockKind, &str)]], tokens: &dyn TokenCounter) -> Vec<Chunk> {
    let pages = pages.iter().zip(1..).map(|(blocks, n)| page(n, blocks)).collect();
    let doc = document(pages);
    let options = ChunkOptions::default();
    let chunks = chunk_document(&doc, &id(), tokens, &options, &Cancel::default()).unwrap().chunks;
    check(&doc, &chunks, tokens, &options);
    chunks
}

/// Checks the invariants that hold for every document.
fn check(doc: &ExtractedDocument, chunks: &[Chunk], tokens: &dyn TokenCounter, options: &ChunkOptions) {
    let text = doc.text();
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let mut covered = vec![0u8; chars.len()];
    let mut ids = HashSet::new();
    let mut end = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        let s = chunk.span;
        assert_eq!(chunk.ordinal as usize, i);
        assert_eq!(chunk.content, text[s.start_byte as usize..s.end_byte as usize]);
        assert_eq!(chunk.content, chars[s.start as usize..s.end as usize].iter().map(|c| c.1).collect::<String>());
        assert!(s.start >= end && s.end > s.start, "spans are disjoint and increase");
        assert!(!chunk.content.trim().is_empty());
        end = s.end;
        covered[s.start as usize..s.end as usize].iter_mut().for_each(|c| *c += 1);
        let exact = tokens.count(&embedded_text(&chunk.heading_path, &chunk.content));
        assert_eq!(chunk.tokens as usize, exact);
        assert!(exact <= tokens.window(), "{exact} tokens in {:?}", chunk.content);
        assert!((s.end - s.start) as usize <= options.max_chars);
        assert!(ids.insert(chunk.id.clone()), "ids are unique");
        assert!(chunk.id.starts_with("doc_20260101_000000_00000001#"));
        assert!(chunk.pages.0 <= chunk.pages.1);
        assert!(chunk.boxes.iter().all(|b| (chunk.pages.0..=chunk.pages.1).contains(&b.page)));
    }
    let mut furniture = vec![false; chars.len()];
    let mut offset = 0;
    for p in &doc.pages {
        for b in p.blocks.iter().filter(|b| b.kind == BlockKind::PageFurniture) {
            let range = offset + b.range.start as usize..offset + b.range.end as usize;
            for (flag, (at, _)) in furniture.iter_mut().zip(&chars) {
                *flag |= range.contains(at);
            }
        }
        offset += p.text.len() + PAGE_SEPARATOR.len();
    }
    for (i, &(_, c)) in chars.iter().enumerate() {
        if furniture[i] {
            assert_eq!(covered[i], 0, "furniture is in a chunk at {i}");
        } else if !c.is_whitespace() {
            assert_eq!(covered[i], 1, "{c:?} at {i} is in {} chunks", covered[i]);
        }
    }
}

fn prose(words: usize) -> String {
    let sentence = "The lease is held by one worker at a time. ";
    sentence.repeat(words.div_ceil(10)).trim_end().to_owned()
}

const H1: BlockKind = BlockKind::Heading { level: 1 };
const H2: BlockKind = BlockKind::Heading { level: 2 };
const P: BlockKind = BlockKind::Paragraph;

/// Simulates an embedder that works best with texts far shorter than its window.
struct Best(usize);

impl TokenCounter for Best {
    fn count(&self, text: &str) -> usize {
        WIDE.count(text)
    }
    fn window(&self) -> usize {
        WIDE.window()
    }
    fn best(&self) -> usize {
        self.0
    }
}

#[test]
fn chunks_aim_at_what_the_embedder_does_best() {
    let paragraphs: Vec<String> = (0..40).map(|i| prose(10 + i * 7 % 23)).collect();
    let blocks: Vec<(BlockKind, &str)> = paragraphs.iter().map(|p| (BlockKind::Paragraph, p.as_str())).collect();
    let sizes = |best| chunked_by(&[&blocks], &Best(best)).iter().map(|c| c.tokens as usize).collect::<Vec<_>>();
    for best in [50, 100] {
        let sizes = sizes(best);
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((best * 7 / 10..best * 12 / 10).contains(&mean), "{best}: {sizes:?}");
        assert!(sizes.iter().all(|&size| size < best * 2), "{best}: {sizes:?}");
    }
    assert!(sizes(100_000).len() < sizes(100).len(), "the target in characters holds where tokens don't bind");
}

#[test]
fn a_document_without_text_has_no_chunks() {
    assert!(chunked(&[&[]]).is_empty());
    assert!(chunked(&[&[(P, " \n ")], &[]]).is_empty());
    assert!(chunked(&[&[(BlockKind::PageFurniture, "page 1")]]).is_empty());
}

#[test]
fn headings_lead_their_text_and_become_context_for_what_goes_on() {
    let body = prose(900);
    let chunks = chunked(&[&[(H1, "# Store"), (H2, "## Lease"), (P, &body)]]);
    assert!(chunks.len() > 1);
    assert!(chunks[0].content.starts_with("# Store\n\n## Lease\n\nThe lease"));
    assert!(chunks[0].heading_path.is_empty(), "its headings stand in the content");
    assert_eq!(chunks[1].heading_path, ["Store", "Lease"]);
}

#[test]
fn no_chunk_crosses_a_change_of_the_top_heading() {
    let chunks = chunked(&[&[
        (P, "Before any heading."),
        (H1, "# One"),
        (P, "Short."),
        (H2, "## Deep in one"),
        (H1, "# Two"),
        (P, "Short too."),
    ]]);
    let contents: Vec<_> = chunks.iter().map(|c| c.content.as_str()).collect();
    assert_eq!(contents, ["Before any heading.", "# One\n\nShort.", "## Deep in one\n\n# Two\n\nShort too."]);
}

#[test]
fn a_heading_is_never_last_when_something_follows() {
    for words in [100, 200, 250, 260, 270, 300, 350, 500, 700] {
        let chunks = chunked(&[&[
            (H1, "# A"),
            (P, &prose(words)),
            (H2, "## B"),
            (P, &prose(40)),
            (H2, "## C"),
            (P, &prose(300)),
        ]]);
        for chunk in chunks {
            assert!(!chunk.content.lines().last().unwrap().starts_with('#'), "{}", chunk.content);
        }
    }
}

#[test]
fn a_short_tail_merges_and_no_sliver_is_left() {
    let chunks = chunked(&[&[(P, &prose(330)), (P, "A short tail.")]]);
    assert_eq!(chunks.len(), 1, "1500 characters and a tail are one chunk");
    let tight = Words { window: 240, special: 2 };
    let chunks = chunked_by(&[&[(P, &prose(260))]], &tight);
    let sizes: Vec<_> = chunks.iter().map(|c| c.content.len()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|&s| s > 400), "balanced: {sizes:?}");
}

#[test]
fn chunks_end_with_paragraphs_where_they_can() {
    let body = prose(130);
    let chunks = chunked(&[&[(P, &body), (P, &body), (P, &body), (P, &body), (P, &body), (P, &body), (P, &body)]]);
    for chunk in &chunks {
        assert!(chunk.content.len() % (body.len() + 2) == body.len(), "{}", chunk.content.len());
    }
}

#[test]
fn sections_that_can_stand_alone_do() {
    let body = prose(200);
    let chunks = chunked(&[&[(H1, "# T"), (H2, "## A"), (P, &body), (H2, "## B"), (P, &body)]]);
    assert_eq!(chunks.len(), 2);
    assert!(chunks[1].content.starts_with("## B"));
    assert_eq!(chunks[1].heading_path, ["T"]);
}

#[test]
fn furniture_is_left_out_and_ends_a_chunk() {
    let chunks = chunked(&[
        &[(BlockKind::PageFurniture, "Annual report"), (P, "it goes on and"), (BlockKind::PageFurniture, "1")],
        &[(BlockKind::PageFurniture, "Annual report"), (P, "on over the page.")],
    ]);
    let contents: Vec<_> = chunks.iter().map(|c| (c.content.as_str(), c.pages)).collect();
    assert_eq!(contents, [("it goes on and", (1, 1)), ("on over the page.", (2, 2))]);
}

#[test]
fn without_furniture_a_chunk_may_span_pages() {
    let chunks = chunked(&[&[(P, "it goes on and")], &[(P, "on over the page.")]]);
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0].pages, (1, 2));
    assert_eq!(chunks[0].boxes.len(), 2);
}

fn table(rows: usize) -> String {
    let row = |i| format!("| item {i} | {i}00 |\n");
    format!("| Item | Price |\n| --- | --- |\n{}", (0..rows).map(row).collect::<String>())
}

#[test]
fn figures_and_large_tables_stand_alone_with_heading_and_caption() {
    let large = table(80);
    let chunks = chunked(&[&[
        (H1, "# Results"),
        (P, "Some text."),
        (H2, "## Prices"),
        (P, "Table 3: all prices"),
        (BlockKind::Table, &large),
        (P, "More text."),
        (P, "Figure 1: a graph"),
        (BlockKind::Figure, "![graph](fig_p1_1.png)"),
    ]]);
    let starts: Vec<_> = chunks.iter().map(|c| (c.kind, c.content.lines().next().unwrap())).collect();
    assert_eq!(
        starts,
        [
            (ChunkKind::Text, "# Results"),
            (ChunkKind::Table, "## Prices"),
            (ChunkKind::Text, "More text."),
            (ChunkKind::Figure, "Figure 1: a graph"),
        ]
    );
    assert!(chunks[1].content.ends_with("| item 79 | 7900 |"), "kept whole");
}

#[test]
fn a_table_that_is_too_large_is_split_at_rows_under_its_header() {
    let large = table(400);
    let chunks = chunked(&[&[(H1, "# Prices"), (BlockKind::Table, &large)]]);
    assert!(chunks.len() > 3);
    for chunk in &chunks[1..] {
        assert_eq!(chunk.kind, ChunkKind::Table);
        assert!(chunk.content.starts_with("| item") && chunk.content.ends_with('|'), "whole rows");
        assert_eq!(chunk.heading_path, ["Prices", "Item | Price"]);
    }
}

#[test]
fn the_window_wins_over_the_sizes_and_long_paths_leave_it_to_the_content() {
    let tokens = Words { window: 64, special: 2 };
    let long = format!("# {}", "very ".repeat(60));
    let chunks = chunked_by(&[&[(H1, &long), (H2, "## Sub"), (P, &prose(400))]], &tokens);
    let last = chunks.last().unwrap();
    assert!(last.content.split_whitespace().count() >= 24, "{}", last.content);
    assert_eq!(last.heading_path, ["Sub"]);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test measures real time")]
fn one_long_line_is_split_in_time() {
    let texts = [
        "x".repeat(1 << 20),
        "word ".repeat(1 << 18),
        "漢字".repeat(1 << 17),
        "a. ".repeat(1 << 18),
        "\u{301}".repeat(1 << 18),
        "🇩🇪".repeat(1 << 17),
        format!("a{}b", " ".repeat(1 << 20)),
    ];
    for text in texts {
        let doc = document(vec![page(1, &[(P, &text)])]);
        let options = ChunkOptions::default();
        let started = std::time::Instant::now();
        let chunks =
            chunk_document(&doc, &id(), &NonAdditiveCounter(512), &options, &Cancel::default()).unwrap().chunks;
        let took = started.elapsed();
        check(&doc, &chunks, &NonAdditiveCounter(512), &options);
        assert!(took.as_secs() < 10, "{took:?} for {:?}…", text.chars().next());
    }
}

#[test]
fn ids_hold_when_another_part_changes_and_count_repetitions() {
    let body = prose(200);
    let other = body.replace("lease", "fence");
    let ids = |first: &str| -> Vec<String> {
        chunked(&[&[(H1, "# A"), (P, first), (H1, "# B"), (P, &body), (H1, "# B"), (P, &body)]])
            .into_iter()
            .map(|c| c.id)
            .collect()
    };
    let (before, after) = (ids(&body), ids(&other));
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    assert_eq!(before[1].replace("-0", "-1"), before[2]);
}

#[test]
fn boxes_are_split_where_the_text_jumps_to_the_next_column() {
    let mut p = page(1, &[(P, "left one"), (P, "left two"), (P, "right one"), (P, "right two")]);
    let boxes = [[10., 100., 90., 110.], [10., 700., 90., 710.], [110., 100., 190., 110.], [110., 120., 190., 130.]];
    for (line, bbox) in p.lines.iter_mut().zip(boxes) {
        line.bbox = bbox;
    }
    let chunks =
        chunk_document(&document(vec![p]), &id(), &WIDE, &ChunkOptions::default(), &Cancel::default()).unwrap();
    let found: Vec<_> = chunks.chunks[0].boxes.iter().map(|b| b.bbox).collect();
    assert_eq!(found, [[10., 100., 90., 710.], [110., 100., 190., 130.]]);
}

#[test]
fn the_outline_gives_headings_when_extraction_found_none() {
    let entry = |level, title: &str, page| OutlineEntry { level, title: title.into(), page: Some(page) };
    let body = prose(600);
    let mut doc = document(vec![
        page(1, &[(P, "1. Leases\nA lease is a promise."), (P, &body)]),
        page(2, &[(P, "Text of a chapter whose title is an image.")]),
    ]);
    doc.outline = vec![entry(1, "1 LEASES", 1), entry(1, "Fences", 2)];
    let chunks = chunk_document(&doc, &id(), &WIDE, &ChunkOptions::default(), &Cancel::default()).unwrap().chunks;
    check(&doc, &chunks, &WIDE, &ChunkOptions::default());
    assert_eq!(chunks[1].heading_path, ["1. Leases"]);
    assert_eq!(chunks.last().unwrap().heading_path, ["Fences"]);
}

#[test]
fn cancelled_work_ends() {
    let cancel = Cancel::default();
    cancel.cancel();
    let doc = document(vec![page(1, &[(P, "text")])]);
    let error = chunk_document(&doc, &id(), &WIDE, &ChunkOptions::default(), &cancel).unwrap_err();
    assert_eq!(error.class, ErrorClass::Timeout);
}

#[test]
fn settings_and_windows_that_cannot_work_are_refused() {
    let doc = document(vec![page(1, &[(P, "text")])]);
    let run = |options, window| {
        chunk_document(&doc, &id(), &Words { window, special: 2 }, &options, &Cancel::default()).map_err(|e| e.code)
    };
    assert_eq!(run(ChunkOptions { min_chars: 9999, ..ChunkOptions::default() }, 256), Err("bad_chunk_options".into()));
    assert_eq!(run(ChunkOptions::default(), 3), Err("window_too_small".into()));
}

fn header<'a>(document: &'a DocumentId, options: &'a ChunkOptions) -> Header<'a> {
    Header { document, version: 3, source: "file:///a.pdf", s3_uri: None, at: 1_763_718_000_123_456, options }
}

#[test]
fn the_artefact_has_the_names_of_p_and_comes_back_exactly() {
    let mut chunks =
        Chunks { chunks: chunked(&[&[(H1, "# Prices"), (BlockKind::Table, &table(300))]]), ..Chunks::default() };
    chunks.language = Some(Language { code: "eng".into(), confidence: 0.93 });
    chunks.pii_redacted = 2;
    chunks.notes.push("a note".into());
    chunks.fields.insert("tags".into(), serde_json::json!(["a", {"b": 1}]));
    let found = Mention { kind: "DATE".into(), text: "2026".into(), start: 0, end: 4, score: 0.7 };
    chunks.chunks[0].findings = Some(Findings { entities: vec![found], ..Findings::default() });
    let (document, options) = (id(), ChunkOptions::default());
    let bytes = artefact::to_json(&chunks, &header(&document, &options)).unwrap();
    assert_eq!(artefact::from_json(&bytes).unwrap(), chunks);
    let enriched = artefact::to_enriched_json(&chunks, &header(&document, &options), &[1]).unwrap();
    assert_eq!(artefact::from_json(&enriched).unwrap(), chunks);

    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["metadata"]["document_id"], document.as_str());
    assert_eq!(json["metadata"]["total_chunks"], chunks.chunks.len());
    assert_eq!(json["metadata"]["chunking_config"]["target_chars"], 1500);
    assert_eq!(json["metadata"]["chunked_at"], "2025-11-21T09:40:00.123456Z");
    let chunk = &json["chunks"][1];
    assert_eq!(chunk["id"], chunks.chunks[1].id);
    for name in ["source", "page", "breadcrumbs", "char_count", "chunk_types", "s3_uri", "ai_description"] {
        assert!(chunk["metadata"].get(name).is_some(), "{name}");
    }
    assert_eq!(chunk["metadata"]["breadcrumbs"][1], "Item | Price");
    assert_eq!(chunk["metadata"]["chunk_types"][0], "table");
}

#[test]
fn an_artefact_without_metadata_of_the_document_is_still_read() {
    let (document, options) = (id(), ChunkOptions::default());
    let chunks = Chunks { chunks: chunked(&[&[(P, "One sentence.")]]), ..Chunks::default() };
    let bytes = artefact::to_json(&chunks, &header(&document, &options)).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("\"fields\""), "older versions must read it too");
    assert_eq!(artefact::from_json(&bytes).unwrap(), chunks);
}

#[test]
fn the_metadata_of_a_document_follows_its_chunks() {
    let mut document = document(vec![page(1, &[(P, "One sentence.")])]);
    document.info.title = Some("T".into());
    document.info.author = Some("A".into());
    let fields = |d: &ExtractedDocument| {
        let made = chunk_document(d, &id(), &WIDE, &ChunkOptions::default(), &Cancel::default());
        serde_json::Value::Object(made.unwrap().fields)
    };
    assert_eq!(fields(&document), serde_json::json!({"title": "T", "author": "A"}));
    document.info.fields = serde_json::json!({"by": "B", "tenant": "x"}).as_object().cloned().unwrap();
    assert_eq!(fields(&document), serde_json::json!({"title": "T", "by": "B"}));
}

#[test]
fn a_broken_artefact_is_refused_without_quoting_it() {
    let error =
        artefact::from_json(br#"{"metadata": {"total_chunks": 1}, "chunks": [{"id": 5, "content": "secret"}]}"#)
            .unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = artefact::from_json(br#"{"metadata": {"total_chunks": 1}, "chunks": []}"#).unwrap_err();
    assert_eq!(error.code, "artefact_incomplete");
}

fn kind_of(n: u8) -> BlockKind {
    match n {
        0..=2 => BlockKind::Heading { level: n + 1 },
        3..=7 => BlockKind::Paragraph,
        8 => BlockKind::ListItem,
        9 => BlockKind::Table,
        10 => BlockKind::Code,
        11 => BlockKind::Quote,
        12 => BlockKind::Figure,
        _ => BlockKind::PageFurniture,
    }
}

fn any_text() -> impl Strategy<Value = String> {
    let bits = prop_oneof![
        4 => "[a-z]{1,9}( [a-zA-Z]{1,9}){0,60}[.!?,:] ?",
        1 => Just("漢字仮名交じり文。次の文、".to_owned()),
        1 => Just("שלום עולם. مرحبا بالعالم؟ ".to_owned()),
        1 => Just("👨‍👩‍👧 🇩🇪🇫🇷 e\u{301}e\u{301}".to_owned()),
        1 => Just("\n\n".to_owned()),
        1 => Just("| a | b |\n|---|---|\n| 1 | 2 |\n".to_owned()),
        1 => "[ \t\n\u{a0}\u{2029}]{0,40}",
        1 => "[a-z0-9]{100,2500}",
        1 => any::<String>().prop_map(|s| s.replace('\0', "")),
    ];
    prop::collection::vec(bits, 0..12).prop_map(|parts| parts.concat())
}

fn any_document() -> impl Strategy<Value = ExtractedDocument> {
    let pages = prop::collection::vec(prop::collection::vec((0u8..15, any_text()), 0..8), 0..4);
    let outline = prop::collection::vec((0u8..4, "[a-z]{0,5}", prop::option::of(0u32..5)), 0..4);
    (pages, outline).prop_map(|(pages, outline)| {
        let pages = pages.iter().zip(1..).map(|(blocks, n)| {
            let blocks: Vec<_> = blocks.iter().map(|(kind, text)| (kind_of(*kind), text.as_str())).collect();
            page(n, &blocks)
        });
        let mut doc = document(pages.collect());
        doc.outline = outline.into_iter().map(|(level, title, page)| OutlineEntry { level, title, page }).collect();
        doc
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_document_is_chunked_within_all_limits(doc in any_document(), window in 16usize..400, tight in any::<bool>()) {
        let options = if tight {
            ChunkOptions { target_chars: 120, min_chars: 60, max_chars: 200, table_max_chars: 150, heading_max_chars: 30 }
        } else {
            ChunkOptions::default()
        };
        for tokens in [&NonAdditiveCounter(window) as &dyn TokenCounter, &Words { window, special: 2 }] {
            let chunks = chunk_document(&doc, &id(), tokens, &options, &Cancel::default()).unwrap();
            check(&doc, &chunks.chunks, tokens, &options);
            let again = chunk_document(&doc, &id(), tokens, &options, &Cancel::default()).unwrap();
            prop_assert_eq!(&chunks, &again);
            let document = id();
            let bytes = artefact::to_json(&chunks, &header(&document, &options)).unwrap();
            prop_assert_eq!(artefact::from_json(&bytes).unwrap(), chunks);
        }
    }

    #[test]
    fn text_that_no_block_covers_is_not_lost(text in any_text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut at: Vec<u32> = cuts.iter().map(|c| c.index(text.len() + 1)).filter(|&i| text.is_char_boundary(i)).map(|i| i as u32).collect();
        at.sort_unstable();
        let blocks = at.chunks(2).filter(|c| c.len() == 2).map(|c| Block {
            kind: BlockKind::Paragraph, range: TextRange { start: c[0], end: c[1] }, bbox: None,
        }).collect();
        let doc = document(vec![Page { number: 1, width: 0.0, height: 0.0, text, blocks, lines: vec![], words: vec![], cells: vec![] }]);
        let options = ChunkOptions::default();
        let chunks = chunk_document(&doc, &id(), &NonAdditiveCounter(64), &options, &Cancel::default()).unwrap();
        check(&doc, &chunks.chunks, &NonAdditiveCounter(64), &options);
    }
}
