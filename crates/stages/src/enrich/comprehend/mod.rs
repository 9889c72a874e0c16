//! Enriches chunks with Amazon Comprehend in addition to the local rules: entities, key phrases, sentiment, languages
//! and personal data.
//!
//! The whole text is searched for personal data first. The matches of Comprehend are merged with those of the rules,
//! both for the text and for the headings. Weak matches are dropped, and overlaps are removed. If redaction is on,
//! every later step, including Comprehend's other APIs, sees only the placeholders. Then the language of each passage
//! is detected, and passages in the same language are sent in the same requests. Patterns come only from the rules.
//! An entity of the rules stays unless it overlaps an entity that Comprehend found. Comprehend's key phrases replace
//! those of the rules.
//!
//! Trade-offs. In a request, each passage is a separate text, so that a cached answer stays valid when neighbouring
//! passages change. A short passage therefore costs as much as a passage of three hundred characters. Personal data is
//! searched in the document's language as detected locally, because no other API may see the text before redaction. If
//! Comprehend does not support that language, only the passages in supported languages are searched. An unsupported
//! language is not a failure: the rules' findings stay, and a note reports the language.
//!
//! # Layout
//! - [`Analyst`] is the service that analyses texts; `providers::comprehend` implements it, with payment, rate limits
//!   and a cache.
//! - `texts` splits texts within the limits and maps positions; `personal` selects the texts that are searched for
//!   personal data, and maps the matches back; `languages` maps language codes.
//! - `findings` converts Comprehend's answers into findings.

mod findings;
mod languages;
mod options;
mod personal;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::error::StageError;
use docweir_core::model::{Chunks, Language, Sentiment};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

pub use options::ComprehendOptions;
pub use personal::PERSONAL_KINDS;

use super::local::{ExternalPersonalData, LocalFindings};
use super::{Call, EnrichOptions, Enriched, Enricher, LocalEnricher, Usage};
use crate::embed::deciding;
use findings::Findings;
use personal::PersonalDataTexts;
use texts::{Places, split};

/// Selects an API of Comprehend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    Language,
    Entities,
    KeyPhrases,
    Sentiment,
    PersonalData,
}

impl Api {
    pub const ALL: [Self; 5] = [Api::Language, Api::Entities, Api::KeyPhrases, Api::Sentiment, Api::PersonalData];

    pub fn name(self) -> &'static str {
        match self {
            Api::Language => "language",
            Api::Entities => "entities",
            Api::KeyPhrases => "key_phrases",
            Api::Sentiment => "sentiment",
            Api::PersonalData => "personal_data",
        }
    }
}

/// Holds the result of one API for one text. It contains positions and scores, but none of the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Analysis {
    /// Detected languages, the most likely first.
    Languages(Vec<DetectedLanguage>),
    /// Spans of entities, key phrases or personal data.
    Spots(Vec<DetectedSpan>),
    Sentiment(Sentiment),
}

/// Describes a detected language by Comprehend's language code and a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectedLanguage {
    pub code: String,
    pub score: f32,
}

/// Describes a half-open range of the text that was sent, in code points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectedSpan {
    /// Kind of the finding, as Comprehend names it; empty for key phrases.
    pub kind: String,
    pub start: usize,
    pub end: usize,
    pub score: f32,
}

/// Reason why Comprehend will never analyse a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Comprehend does not support the language.
    Language,
    TooLong,
}

/// Holds the answer for each text, in the order of the request, and the usage of the call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analyses {
    pub answers: Vec<Result<Analysis, Refusal>>,
    pub usage: Usage,
}

/// Analyses texts. Callers send only texts that are within Comprehend's limits and contain a letter or a digit.
#[async_trait]
pub trait Analyst: Send + Sync {
    /// Calls `api` for all `texts`. `language` is one of Comprehend's codes; it is empty for [`Api::Language`].
    ///
    /// # Errors
    /// Fails if a text has no answer yet but a retry may get one. Answers that were received are cached, so they are
    /// not paid for again.
    async fn ask(&self, api: Api, language: &str, texts: &[&str], call: Call<'_>) -> Result<Analyses, StageError>;
}

/// Combines the local rules with Amazon Comprehend.
pub struct ComprehendEnricher {
    local: LocalEnricher,
    options: EnrichOptions,
    analyst: Arc<dyn Analyst>,
}

/// Identifies one text of a request, by a chunk and the range of the text in this chunk.
struct Part {
    chunk: usize,
    range: Range<usize>,
}

impl ComprehendEnricher {
    pub fn new(local: LocalEnricher, options: EnrichOptions, analyst: Arc<dyn Analyst>) -> Self {
        Self { local, options, analyst }
    }

    /// Returns whether `api` is configured and the options request its findings.
    fn asks(&self, api: Api) -> bool {
        let o = &self.options;
        let wanted = match api {
            Api::Language => o.language,
            Api::Entities => o.entities,
            Api::KeyPhrases => o.key_phrases,
            Api::Sentiment => true,
            Api::PersonalData => o.personal_data || o.redact,
        };
        wanted && o.comprehend.apis.contains(&api)
    }

    fn takes(&self, code: &str) -> bool {
        self.options.comprehend.languages.iter().any(|taken| taken == code)
    }

    /// Finds personal data in the languages that are detected locally, because no other API may see the text before
    /// redaction.
    async fn personal(
        &self,
        chunks: &Chunks,
        call: Call<'_>,
        sums: &mut DocumentTotals,
    ) -> Result<ExternalPersonalData, StageError> {
        if !self.asks(Api::PersonalData) || chunks.chunks.is_empty() {
            return Ok(ExternalPersonalData::default());
        }
        let options = &self.options.comprehend;
        let codes = personal::languages(chunks, &self.options);
        for code in codes.iter().filter_map(|code| code.as_ref().err()) {
            sums.refused(Api::PersonalData, code, Refusal::Language);
        }
        let whole = PersonalDataTexts::of(chunks, &codes, options.max_personal_bytes);
        let texts = whole.texts();
        let mut by_language: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, (_, code)) in texts.iter().enumerate() {
            by_language.entry(code).or_default().push(i);
        }
        let mut spots = vec![Vec::new(); texts.len()];
        for (code, of) in by_language {
            let asked: Vec<&str> = of.iter().filter_map(|i| texts.get(*i).map(|(text, _)| *text)).collect();
            let answers = self.analyst.ask(Api::PersonalData, code, &asked, call).await?;
            sums.usage += answers.usage;
            for (i, answer) in of.into_iter().zip(answers.answers) {
                match (answer, spots.get_mut(i)) {
                    (Ok(Analysis::Spots(found)), Some(place)) => *place = found,
                    (Ok(_), _) | (_, None) => {}
                    // A text that was not searched must not count as redacted, so fail.
                    (Err(Refusal::TooLong), _) if self.options.redact => return Err(too_long()),
                    (Err(refusal), _) => sums.refused(Api::PersonalData, code, refusal),
                }
            }
        }
        Ok(whole.found(&spots, &options.ignored_kinds))
    }

    /// Runs all jobs concurrently. A job calls one API for parts in one language. Returns the answers by API and
    /// part. Parts that Comprehend refused have no answer.
    async fn ask(
        &self,
        jobs: Vec<(Api, String, Vec<usize>)>,
        parts: &[Part],
        chunks: &Chunks,
        call: Call<'_>,
        sums: &mut DocumentTotals,
    ) -> Result<BTreeMap<(Api, usize), Analysis>, StageError> {
        let asked = jobs.iter().map(|(api, code, of)| async move {
            let texts: Vec<&str> = of.iter().map(|i| parts.get(*i).map_or("", |part| part.text(chunks))).collect();
            self.analyst.ask(*api, code, &texts, call).await
        });
        // Wait for all jobs: paid answers of one job must not be lost because another job failed.
        let answered = join_all(asked).await;
        if let Some(error) = deciding(&answered) {
            return Err(error);
        }
        let mut found = BTreeMap::new();
        for ((api, code, of), answers) in jobs.iter().zip(answered.into_iter().flatten()) {
            sums.usage += answers.usage;
            for (part, answer) in of.iter().zip(answers.answers) {
                match answer {
                    Ok(answer) => drop(found.insert((*api, *part), answer)),
                    Err(refusal) => sums.refused(*api, code, refusal),
                }
            }
        }
        Ok(found)
    }

    /// Returns the language code with which each chunk is analysed. If the language API was called, also stores the
    /// detected languages in the chunks and the document.
    async fn languages(
        &self,
        chunks: &mut Chunks,
        parts: &[Part],
        call: Call<'_>,
        sums: &mut DocumentTotals,
    ) -> Result<Vec<String>, StageError> {
        let mut codes: Vec<Option<String>> = vec![None; chunks.chunks.len()];
        if self.asks(Api::Language) && !parts.is_empty() {
            let jobs = vec![(Api::Language, String::new(), (0..parts.len()).collect())];
            let told = self.ask(jobs, parts, chunks, call, sums).await?;
            let by_chunk = findings::languages(&told, parts, chunks, self.options.min_confidence);
            let mut weights: BTreeMap<String, (f64, f64)> = BTreeMap::new();
            for (i, tongue) in by_chunk {
                let Some(chunk) = chunks.chunks.get_mut(i) else { continue };
                let told = tongue.as_ref().map(|t| Language { code: languages::ours(&t.code), confidence: t.score });
                if let Some(told) = &told {
                    let characters = chunk.content.chars().count() as f64;
                    let sum = weights.entry(told.code.clone()).or_default();
                    *sum = (sum.0 + characters, sum.1 + characters * f64::from(told.confidence));
                }
                if let Some(findings) = &mut chunk.findings {
                    findings.language = told;
                }
                if let Some(code) = codes.get_mut(i) {
                    *code = tongue.map(|t| t.code);
                }
            }
            let most = weights.into_iter().max_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
            if let Some((code, (characters, sure))) = most {
                chunks.language = Some(Language { code, confidence: (sure / characters.max(1.0)) as f32 });
            }
        }
        let document = chunks.language.as_ref().map(|l| languages::theirs(&l.code));
        let fallback = document.unwrap_or_else(|| self.options.comprehend.default_language.clone());
        let of = |(chunk, told): (&docweir_core::model::Chunk, Option<String>)| {
            let here = || chunk.findings.as_ref()?.language.as_ref().map(|l| languages::theirs(&l.code));
            told.or_else(here).unwrap_or_else(|| fallback.clone())
        };
        Ok(chunks.chunks.iter().zip(codes).map(of).collect())
    }

    async fn enriched(&self, chunks: Chunks, call: Call<'_>) -> Result<Enriched, StageError> {
        let mut sums = DocumentTotals::default();
        let others = self.personal(&chunks, call, &mut sums).await?;
        let LocalFindings { mut chunks, masks } = self.local.beside(chunks, others, call.cancel).await?;
        let parts = parts(&chunks, self.options.comprehend.max_text_bytes);
        let codes = self.languages(&mut chunks, &parts, call, &mut sums).await?;

        let mut by_language: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, part) in parts.iter().enumerate() {
            by_language.entry(codes.get(part.chunk).map_or("", String::as_str)).or_default().push(i);
        }
        let mut jobs = Vec::new();
        for api in [Api::Entities, Api::KeyPhrases, Api::Sentiment].into_iter().filter(|api| self.asks(*api)) {
            for (code, of) in &by_language {
                if self.takes(code) {
                    jobs.push((api, (*code).to_owned(), of.clone()));
                } else {
                    sums.refused(api, code, Refusal::Language);
                }
            }
        }
        let found = self.ask(jobs, &parts, &chunks, call, &mut sums).await?;
        Findings { options: &self.options, parts: &parts, masks: &masks, found: &found }.add_to(&mut chunks);
        chunks.notes.extend(sums.notes());
        Ok(Enriched { chunks, usage: sums.usage })
    }
}

#[async_trait]
impl Enricher for ComprehendEnricher {
    fn name(&self) -> &str {
        "comprehend"
    }

    fn is_paid(&self) -> bool {
        true
    }

    fn at_a_time(&self) -> Option<usize> {
        Some(self.options.comprehend.concurrency)
    }

    async fn enrich(&self, chunks: Chunks, call: Call<'_>) -> Result<Enriched, StageError> {
        self.enriched(chunks, call).await
    }
}

impl Part {
    fn text<'c>(&self, chunks: &'c Chunks) -> &'c str {
        chunks.chunks.get(self.chunk).and_then(|c| c.content.get(self.range.clone())).unwrap_or_default()
    }
}

/// Splits the text of every chunk into parts of at most `most` bytes. Parts without a letter are left out.
fn parts(chunks: &Chunks, most: usize) -> Vec<Part> {
    let mut parts = Vec::with_capacity(chunks.chunks.len());
    for (chunk, content) in chunks.chunks.iter().map(|c| c.content.as_str()).enumerate() {
        let ranges = split(content, most).into_iter();
        let lettered = ranges.filter(|r| content.get(r.clone()).is_some_and(|t| t.contains(char::is_alphabetic)));
        parts.extend(lettered.map(|range| Part { chunk, range }));
    }
    parts
}

/// Returns the texts that are sent to Comprehend: the texts before redaction for personal data, and the texts after
/// redaction for all other APIs. The cache of Comprehend's answers uses these texts as keys.
pub fn texts_of(chunks: &Chunks, options: &EnrichOptions) -> Vec<String> {
    let whole =
        PersonalDataTexts::of(chunks, &personal::languages(chunks, options), options.comprehend.max_personal_bytes);
    let mut texts: Vec<String> = whole.texts().into_iter().map(|(text, _)| text.to_owned()).collect();
    texts.extend(parts(chunks, options.comprehend.max_text_bytes).iter().map(|part| part.text(chunks).to_owned()));
    texts
}

fn too_long() -> StageError {
    let text = "comprehend rejected a text as too long; lower `enrich.options.comprehend.max_personal_bytes`";
    StageError::permanent("comprehend_refused", text)
}

/// Converts a span of a part into a byte range of the whole text. `begin` is the byte at which the part begins.
fn split_back(places: &Places, spot: &DetectedSpan, begin: usize) -> Option<Range<usize>> {
    let range = places.bytes(spot.start, spot.end)?;
    Some(begin + range.start..begin + range.end)
}

/// Adds up the usage of a document, and lists the APIs that were not called for it.
#[derive(Default)]
struct DocumentTotals {
    usage: Usage,
    /// APIs that were not called, by language code and reason. The language code is empty if the language is unknown.
    left_out: BTreeMap<(String, Refusal), BTreeSet<Api>>,
}

impl DocumentTotals {
    fn refused(&mut self, api: Api, code: &str, refusal: Refusal) {
        self.left_out.entry((code.to_owned(), refusal)).or_default().insert(api);
    }

    fn notes(&self) -> Vec<String> {
        let note = |((code, refusal), apis): (&(String, Refusal), &BTreeSet<Api>)| {
            let names: Vec<String> = apis.iter().map(|api| api.name().replace('_', " ")).collect();
            let names = names.join(", ");
            let language = match code.as_str() {
                "" => "an unknown language".to_owned(),
                code => format!("`{}`", languages::ours(code)),
            };
            match refusal {
                Refusal::Language => {
                    format!("comprehend was not called for {names} in {language}: only local rules were applied")
                }
                Refusal::TooLong => {
                    format!(
                        "comprehend rejected texts in {language} as too long for {names}: only local rules were applied"
                    )
                }
            }
        };
        self.left_out.iter().map(note).collect()
    }
}
