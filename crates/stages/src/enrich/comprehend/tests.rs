//! Tests the enricher with a mock of Comprehend that returns prepared findings and records its calls.

use std::sync::Mutex;

use docweir_core::cancel::Cancel;
use docweir_core::documents::{DocumentId, MediaType};
use docweir_core::model::{Block, BlockKind, DocumentInfo, ExtractedDocument, Page, SentimentLabel, TextRange};

use super::*;
use crate::chunk::{ChunkOptions, TokenCounter, chunk_document};
use crate::enrich::EnrichProvider;

struct Quarters;

impl TokenCounter for Quarters {
    fn count(&self, text: &str) -> usize {
        2 + text.chars().count().div_ceil(4)
    }
    fn window(&self) -> usize {
        4_000
    }
}

/// Mocks Comprehend: reports each prepared finding wherever its text occurs. `found` has an API, a kind and a text per
/// entry.
struct Finder {
    found: Vec<(Api, &'static str, &'static str)>,
    /// Language codes by word: a text that contains the word has this language.
    languages: Vec<(&'static str, &'static str)>,
    asked: Mutex<Vec<(Api, String, String)>>,
}

impl Finder {
    fn new(found: &[(Api, &'static str, &'static str)]) -> Self {
        Self { found: found.to_vec(), languages: Vec::new(), asked: Mutex::default() }
    }

    fn asked(&self, api: Api) -> Vec<(String, String)> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(of, ..)| *of == api).map(|(_, code, text)| (code.clone(), text.clone())).collect()
    }
}

fn spots(text: &str, kind: &str, sought: &str) -> Vec<DetectedSpan> {
    let points = |byte: usize| text[..byte].chars().count();
    let spot = |(at, sought): (usize, &str)| DetectedSpan {
        kind: kind.into(),
        start: points(at),
        end: points(at + sought.len()),
        score: 0.95,
    };
    text.match_indices(sought).map(spot).collect()
}

#[async_trait]
impl Analyst for Finder {
    async fn ask(&self, api: Api, language: &str, texts: &[&str], _: Call<'_>) -> Result<Analyses, StageError> {
        let mut answers = Vec::new();
        for text in texts {
            self.asked.lock().unwrap().push((api, language.to_owned(), (*text).to_owned()));
            answers.push(match api {
                Api::Language => {
                    let told = self.languages.iter().find(|(word, _)| text.contains(word)).map_or("en", |(_, c)| c);
                    Ok(Analysis::Languages(vec![DetectedLanguage { code: told.into(), score: 0.98 }]))
                }
                Api::Sentiment => {
                    let negative = if text.contains("loss") { 0.9 } else { 0.0 };
                    let label = if negative > 0.5 { SentimentLabel::Negative } else { SentimentLabel::Positive };
                    let positive = 0.9 - negative;
                    Ok(Analysis::Sentiment(Sentiment { label, positive, negative, neutral: 0.1, mixed: 0.0 }))
                }
                _ if language == "ja" => Err(Refusal::Language),
                _ => {
                    let of = self.found.iter().filter(|(of, ..)| *of == api);
                    Ok(Analysis::Spots(of.flat_map(|(_, kind, sought)| spots(text, kind, sought)).collect()))
                }
            });
        }
        Ok(Analyses { answers, usage: Usage { calls: 1, ..Usage::default() } })
    }
}

fn chunks_of(blocks: &[(BlockKind, &str)], options: &ChunkOptions) -> Chunks {
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
    let document = ExtractedDocument { media_type: MediaType::Markdown, pages: vec![page], info, outline, notes };
    chunk_document(&document, &DocumentId::parse("doc_1").unwrap(), &Quarters, options, &Cancel::default()).unwrap()
}

fn options() -> EnrichOptions {
    EnrichOptions { provider: EnrichProvider::Comprehend, ..EnrichOptions::default() }
}

async fn enrich(chunks: Chunks, options: EnrichOptions, finder: &Arc<Finder>) -> Enriched {
    assert_eq!((options.problems(), options.comprehend.problems()), (vec![], vec![]));
    let local = LocalEnricher::new(options.clone(), Arc::new(Quarters));
    let enricher = ComprehendEnricher::new(local, options, finder.clone());
    enricher.enrich(chunks, Call::new("a test", &Cancel::default())).await.unwrap()
}

const H1: BlockKind = BlockKind::Heading { level: 1 };
const P: BlockKind = BlockKind::Paragraph;
const TINY: ChunkOptions =
    ChunkOptions { target_chars: 50, min_chars: 20, max_chars: 100, table_max_chars: 100, heading_max_chars: 60 };
const WIDE: ChunkOptions =
    ChunkOptions { target_chars: 9_000, min_chars: 20, max_chars: 9_000, table_max_chars: 100, heading_max_chars: 60 };
const ENGLISH: &str =
    "The quarterly report of the company was read with great interest by everybody in the room today.";

/// Asserts that the position of every finding leads to the finding's text, in code points.
fn assert_places(chunks: &Chunks) {
    for chunk in &chunks.chunks {
        let chars: Vec<char> = chunk.content.chars().collect();
        let findings = chunk.findings.as_ref().unwrap();
        for f in findings.entities.iter().chain(&findings.patterns) {
            assert_eq!(chars[f.start as usize..f.end as usize].iter().collect::<String>(), f.text);
        }
    }
}

#[tokio::test]
async fn findings_of_any_script_point_at_their_text() {
    let text = format!(
        "{ENGLISH} 👨‍👩‍👧 Re\u{301}sume\u{301} of 漢字 and שלום עולם: Zürich Insurance rose 5% in Q3 2024, see https://x.org/a."
    );
    let found = [
        (Api::Entities, "ORGANIZATION", "Zürich Insurance"),
        (Api::Entities, "TITLE", "Re\u{301}sume\u{301}"),
        (Api::Entities, "NEWER_THAN_THIS", "עולם"),
        (Api::KeyPhrases, "", "great interest"),
        (Api::KeyPhrases, "", "Zürich Insurance"),
    ];
    let finder = Arc::new(Finder::new(&found));
    let done = enrich(chunks_of(&[(P, &text)], &WIDE), options(), &finder).await;
    assert_places(&done.chunks);
    let findings = done.chunks.chunks[0].findings.as_ref().unwrap();
    let entities: Vec<_> = findings.entities.iter().map(|f| (f.kind.as_str(), f.text.as_str())).collect();
    let expected = [
        ("TITLE", "Re\u{301}sume\u{301}"),
        ("OTHER", "עולם"),
        ("ORGANIZATION", "Zürich Insurance"),
        ("URL", "https://x.org/a"),
    ];
    assert_eq!(entities, expected, "what a rule finds stays where there is no other");
    assert_eq!(findings.key_phrases, ["great interest", "Zürich Insurance"]);
    assert_eq!(findings.sentiment.as_ref().unwrap().label, SentimentLabel::Positive);
    assert!(findings.patterns.iter().any(|f| f.kind == "PERCENTAGE"), "figures are found by rule");
    assert_eq!((done.chunks.language.unwrap().code.as_str(), done.chunks.notes.len()), ("eng", 0));
}

#[tokio::test]
async fn a_long_passage_is_sent_in_parts_and_put_together() {
    let mut text = String::new();
    for n in 0..150 {
        text.push_str(&format!("Sätze über 漢字 {n} sind length limited here. "));
    }
    text.push_str("Then Ada Lovelace had a loss.");
    let finder =
        Arc::new(Finder::new(&[(Api::Entities, "PERSON", "Ada Lovelace"), (Api::Entities, "EVENT", "漢字 77")]));
    let done = enrich(chunks_of(&[(P, &text)], &WIDE), options(), &finder).await;
    assert_eq!(done.chunks.chunks.len(), 1);
    assert_places(&done.chunks);
    let findings = done.chunks.chunks[0].findings.as_ref().unwrap();
    assert_eq!(findings.entities.iter().map(|f| f.text.as_str()).collect::<Vec<_>>(), ["漢字 77", "Ada Lovelace"]);
    let asked = finder.asked(Api::Entities);
    assert!(asked.len() == 2 && asked.iter().all(|(_, text)| text.len() <= 4_950), "{}", asked.len());
    assert_eq!(asked.iter().map(|(_, text)| text.as_str()).collect::<String>(), done.chunks.chunks[0].content);
    // The first part is larger and positive.
    let mood = findings.sentiment.as_ref().unwrap();
    assert!(mood.label == SentimentLabel::Positive && mood.negative > 0.1, "{mood:?}");
}

#[tokio::test]
async fn personal_data_goes_first_and_nobody_after_sees_it() {
    let heading = "# About Jane Doe";
    let body = format!(
        "{ENGLISH} Write to jane@example.com or ask Jane Doe of 12 Elm Street, born 2001. {}",
        ENGLISH.repeat(3)
    );
    let found = [
        (Api::PersonalData, "NAME", "Jane Doe"),
        (Api::PersonalData, "ADDRESS", "12 Elm Street"),
        (Api::PersonalData, "EMAIL", "jane@example.com"),
        (Api::PersonalData, "DATE_TIME", "2001"),
        (Api::Entities, "PERSON", "Jane Doe"),
        (Api::Entities, "OTHER", "REDACTED_NAME"),
        (Api::KeyPhrases, "", "ask Jane Doe"),
        (Api::KeyPhrases, "", "quarterly report"),
    ];
    let finder = Arc::new(Finder::new(&found));
    let chunks = chunks_of(&[(H1, heading), (P, &body)], &ChunkOptions::default());
    let redacting = EnrichOptions { redact: true, ..options() };
    let done = enrich(chunks.clone(), redacting, &finder).await.chunks;
    let all = serde_json::to_string(&done).unwrap();
    for secret in ["Jane", "Doe", "jane@", "Elm"] {
        assert!(!all.contains(secret), "{secret} in {all}");
        for api in [Api::Language, Api::Entities, Api::KeyPhrases, Api::Sentiment] {
            assert!(finder.asked(api).iter().all(|(_, text)| !text.contains(secret)), "{api:?} was shown {secret}");
        }
    }
    assert!(all.contains("About [REDACTED_NAME]") && all.contains("[REDACTED_ADDRESS]") && all.contains("2001"));
    assert!(!all.contains("\"REDACTED_NAME\""), "a placeholder is no entity");
    let placeholders = |c: &docweir_core::model::Chunk| {
        (c.content.matches("[REDACTED_").count() + c.heading_path.concat().matches("[REDACTED_").count()) as u64
    };
    assert_eq!(done.pii_redacted, done.chunks.iter().map(placeholders).sum::<u64>());

    // Without redaction the text stays, and no finding copies it.
    let kept = enrich(chunks, options(), &finder).await.chunks;
    let findings = serde_json::to_string(&kept.chunks.iter().map(|c| &c.findings).collect::<Vec<_>>()).unwrap();
    assert!(kept.chunks.iter().any(|c| c.content.contains("Jane Doe")));
    for secret in ["Jane", "jane@", "Elm"] {
        assert!(!findings.contains(secret), "{secret} in {findings}");
    }
    assert!(findings.contains("\"NAME\"") && findings.contains("quarterly report"));
}

#[tokio::test]
async fn only_the_chosen_kinds_are_written_over_and_the_others_keep_their_places() {
    let body = format!("{ENGLISH} Jane Doe lives at 12 Elm Street, and jane@example.com is hers, as John Roe knows.");
    let found = [
        (Api::PersonalData, "NAME", "Jane Doe"),
        (Api::PersonalData, "NAME", "John Roe"),
        (Api::PersonalData, "ADDRESS", "12 Elm Street"),
    ];
    let finder = Arc::new(Finder::new(&found));
    let chosen = EnrichOptions { redact: true, redact_kinds: vec!["ADDRESS".into(), "EMAIL".into()], ..options() };
    let done = enrich(chunks_of(&[(P, &body)], &WIDE), chosen, &finder).await.chunks;
    let chunk = &done.chunks[0];
    assert!(chunk.content.contains("Jane Doe lives at [REDACTED_ADDRESS], and [REDACTED_EMAIL] is hers, as John Roe"));
    let chars: Vec<char> = chunk.content.chars().collect();
    let places = chunk.findings.as_ref().unwrap().personal_data.iter();
    let places: Vec<String> = places.map(|f| chars[f.start as usize..f.end as usize].iter().collect()).collect();
    assert_eq!(places, ["Jane Doe", "[REDACTED_ADDRESS]", "[REDACTED_EMAIL]", "John Roe"]);
}

#[tokio::test]
async fn what_a_chunk_boundary_cuts_is_found_in_both_halves() {
    let mut cut = 0;
    for lead in 0..40 {
        let text = format!("{} the letter of Maximilian Featherstonehaugh {}", "w".repeat(lead + 1), ENGLISH);
        let chunks = chunks_of(&[(P, &text)], &TINY);
        let name = "Maximilian Featherstonehaugh";
        cut += usize::from(!chunks.chunks.iter().any(|c| c.content.contains(name)));
        let finder = Arc::new(Finder::new(&[(Api::PersonalData, "NAME", name)]));
        let done = enrich(chunks, EnrichOptions { redact: true, ..options() }, &finder).await.chunks;
        assert!(
            done.chunks.iter().all(|c| !c.content.contains("Maximilian") && !c.content.contains("haugh")),
            "{lead}"
        );
    }
    assert!(cut > 0, "no boundary fell into the name: the test shows nothing");
}

#[tokio::test]
async fn what_the_limit_of_personal_texts_cuts_is_found_too() {
    let sentence = "And so it goes on with words, without an end\u{2014}as 漢字 shows";
    for lead in 0..60 {
        let text =
            format!("{ENGLISH} {} Jane Featherstonehaugh {}", "w ".repeat(lead), format!("{sentence} ").repeat(20));
        let finder = Arc::new(Finder::new(&[(Api::PersonalData, "NAME", "Jane Featherstonehaugh")]));
        let mut options = EnrichOptions { redact: true, ..options() };
        options.comprehend.max_personal_bytes = 512;
        let done = enrich(chunks_of(&[(P, &text)], &ChunkOptions::default()), options, &finder).await.chunks;
        let asked = finder.asked(Api::PersonalData);
        assert!(asked.len() > 2 && asked.iter().all(|(_, text)| text.len() <= 512));
        assert!(done.chunks.iter().all(|c| !c.content.contains("haugh")), "{lead}");
        assert_eq!(done.pii_redacted, 1, "found in two texts, and written over once");
    }
}

#[tokio::test]
async fn a_language_that_is_not_known_is_noted_and_fails_nothing() {
    let polish =
        "To nie jest zdanie po angielsku, lecz po polsku, oraz zawiera bardzo wiele słów o umowach i terminach.";
    let japanese =
        "この契約は一度に一人の労働者だけが保持し、他のすべての労働者は期限が切れるまで待ちます。とても長い文です。";
    let mut finder = Finder::new(&[(Api::Entities, "EVENT", "quarterly report"), (Api::Entities, "EVENT", "umowach")]);
    finder.languages = vec![("polsku", "pl"), ("契約", "ja")];
    let finder = Arc::new(finder);
    let blocks = [(P, ENGLISH), (P, polish), (P, japanese)];
    let separate = ChunkOptions { target_chars: 100, min_chars: 20, max_chars: 110, ..TINY };
    let mut options = options();
    options.comprehend.apis.retain(|api| *api != Api::PersonalData);
    let done = enrich(chunks_of(&blocks, &separate), options.clone(), &finder).await.chunks;
    assert!(finder.asked(Api::Entities).iter().all(|(code, text)| code != "pl" && !text.contains("polsku")));
    assert!(done.chunks.iter().all(|c| c.findings.is_some()));
    let told: Vec<_> =
        done.chunks.iter().map(|c| c.findings.as_ref().unwrap().language.clone().unwrap().code).collect();
    assert_eq!(told.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{told:?}");
    let expected = [
        "comprehend was not called for entities, key phrases in `jpn`: only local rules were applied",
        "comprehend was not called for entities, key phrases, sentiment in `pol`: only local rules were applied",
    ];
    assert_eq!(done.notes, expected);

    // Fewer languages are supported for personal data.
    options.comprehend.apis = vec![Api::PersonalData];
    let done = enrich(chunks_of(&[(P, polish)], &WIDE), options.clone(), &finder).await.chunks;
    assert_eq!(done.notes, ["comprehend was not called for personal data in `pol`: only local rules were applied"]);
    // Passages in a supported language are still searched.
    let english = format!("{ENGLISH} It was sent to Jane Doe of this town, and to nobody else there.");
    let long = japanese.repeat(6);
    let blocks = [(H1, "# 契約"), (P, long.as_str()), (H1, "# Letter"), (P, &english), (H1, "# 終わり"), (P, &long)];
    let mixed = chunks_of(&blocks, &WIDE);
    let names = Arc::new(Finder::new(&[(Api::PersonalData, "NAME", "Jane Doe")]));
    let done = enrich(mixed, EnrichOptions { redact: true, ..options.clone() }, &names).await.chunks;
    assert!(done.chunks.iter().all(|c| !c.content.contains("Jane Doe")) && done.pii_redacted > 0);
    assert_eq!(done.notes, ["comprehend was not called for personal data in `jpn`: only local rules were applied"]);
    let asked = names.asked(Api::PersonalData);
    assert!(!asked.is_empty() && asked.iter().all(|(code, t)| code == "en" && !t.contains("契約")), "{asked:?}");
    // If no language is detected, the configured default applies.
    options.comprehend.default_language = String::new();
    let done = enrich(chunks_of(&[(P, "Jane Doe 4711")], &WIDE), options, &finder).await.chunks;
    assert_eq!(
        done.notes,
        ["comprehend was not called for personal data in an unknown language: only local rules were applied"]
    );
}

#[tokio::test]
async fn only_what_is_wanted_is_asked_for() {
    let finder = Arc::new(Finder::new(&[]));
    let mut some = options();
    some.comprehend.apis = vec![Api::Sentiment, Api::Entities];
    some.entities = false;
    let done = enrich(chunks_of(&[(P, ENGLISH), (P, "4711 | 12 | 13.5")], &TINY), some, &finder).await;
    let asked: Vec<Api> = finder.asked.lock().unwrap().iter().map(|(api, ..)| *api).collect();
    assert!(!asked.is_empty() && asked.iter().all(|api| *api == Api::Sentiment), "{asked:?}");
    assert!(finder.asked(Api::Sentiment).iter().all(|(code, text)| code == "en" && text.contains(char::is_alphabetic)));
    assert_eq!(done.usage.calls, 1);
    let nothing = enrich(Chunks::default(), options(), &finder).await;
    assert_eq!((nothing.usage, nothing.chunks), (Usage::default(), Chunks::default()));
}

#[tokio::test]
async fn the_texts_that_a_cache_knows_a_document_by_can_be_told() {
    let finder = Arc::new(Finder::new(&[]));
    let chunks = chunks_of(&[(H1, "# One"), (P, ENGLISH), (P, &ENGLISH.repeat(3))], &TINY);
    enrich(chunks.clone(), options(), &finder).await;
    let told = texts_of(&chunks, &options());
    let asked = finder.asked.lock().unwrap();
    assert!(asked.iter().all(|(_, _, text)| told.contains(text)));
    assert!(asked.iter().any(|(api, _, text)| *api == Api::PersonalData && text.starts_with("One")), "headings, too");
}
