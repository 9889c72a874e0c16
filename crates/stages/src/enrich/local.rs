//! Implements the enricher that uses only local rules and statistics, and no service.
//!
//! Personal data that another enricher found is merged with the findings of the rules. Overlaps are removed, and the
//! merged data is redacted and masked as a whole. Nothing is therefore redacted twice, and no finding copies personal
//! data that only the other enricher found.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_core::model::{Chunk, Chunks, Findings, Span, embedded_text};

use crate::chunk::TokenCounter;

use super::matches::{Match, Pattern, best_disjoint, found, joined, touches};
use super::phrases::Corpus;
use super::{
    Call, EnrichOptions, Enriched, Enricher, Usage, entities, fields, language, patterns, personal, phrases, redact,
};

/// Matches placeholders that the text already contains, from this run or an earlier one.
static PLACEHOLDER: Pattern = Pattern::new(r"\[REDACTED_[A-Z_]{2,40}\]");

/// Upper limit of the minimum score for redaction. Redaction uses `min_confidence` or this limit, whichever is lower.
const REDACT_FROM: f32 = 0.7;

/// Holds personal data that another enricher found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExternalPersonalData {
    /// Matches in the contents of all chunks, as byte ranges of the text that [`joined_text`] returns.
    pub text: Vec<Match>,
    /// Matches in each heading, as byte ranges of the heading.
    pub headings: HashMap<String, Vec<Match>>,
}

/// Holds chunks with their findings, and the masks of each chunk: ranges from which no finding may copy text. Masks are
/// sorted, disjoint, and in bytes of the chunk's content.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalFindings {
    pub chunks: Chunks,
    pub masks: Vec<Vec<Range<usize>>>,
}

#[derive(Clone)]
pub struct LocalEnricher {
    options: EnrichOptions,
    tokens: Arc<dyn TokenCounter>,
}

impl LocalEnricher {
    /// Creates an enricher. `tokens` must be the embedder's token counter, because redacted chunks are counted again.
    pub fn new(options: EnrichOptions, tokens: Arc<dyn TokenCounter>) -> Self {
        Self { options, tokens }
    }

    /// Enriches chunks on the caller's thread.
    pub fn enrich_blocking(&self, chunks: Chunks, cancel: &Cancel) -> Result<Chunks, StageError> {
        Ok(self.look(chunks, &ExternalPersonalData::default(), cancel)?.chunks)
    }

    /// Enriches chunks on the caller's thread. `others` is the personal data that another enricher found.
    fn look(
        &self,
        mut chunks: Chunks,
        others: &ExternalPersonalData,
        cancel: &Cancel,
    ) -> Result<LocalFindings, StageError> {
        if let Some((field, problem)) = self.options.problems().first() {
            let message = format!("can't enrich: `enrich.{field}` {problem}; correct the configuration");
            return Err(StageError::permanent("bad_enrich_options", message));
        }
        cancel.check()?;
        let personal = self.personal_data(&chunks, others, cancel)?;
        let personal = match self.options.redact {
            true => self.redacted(&mut chunks, others, &personal, cancel)?,
            false => personal,
        };
        if self.options.language {
            chunks.language = language::of_document(&chunks, self.options.min_confidence);
        }
        let corpus = Corpus::of(chunks.chunks.iter().map(|c| c.content.as_str()));
        let document_language = chunks.language.clone().map(|l| l.code);
        let mut masks = Vec::with_capacity(chunks.chunks.len());
        for (chunk, personal) in chunks.chunks.iter_mut().zip(&personal) {
            cancel.check()?;
            let masked = masked(&chunk.content, personal);
            let language = document_language.as_deref();
            chunk.findings = Some(self.findings(&chunk.content, personal, &masked, language, &corpus));
            masks.push(masked);
        }
        Ok(LocalFindings { chunks, masks })
    }

    /// Enriches chunks on a blocking thread. `others` is the personal data that another enricher found.
    pub async fn beside(
        &self,
        chunks: Chunks,
        others: ExternalPersonalData,
        cancel: &Cancel,
    ) -> Result<LocalFindings, StageError> {
        let (this, cancel) = (self.clone(), cancel.clone());
        match tokio::task::spawn_blocking(move || this.look(chunks, &others, &cancel)).await {
            Ok(result) => result,
            Err(e) if e.is_cancelled() => {
                Err(StageError::timeout("cancelled", "enrichment cancelled: the runtime is shutting down"))
            }
            // Leave out the panic's message, because it could quote the text.
            Err(_) => {
                Err(StageError::crash("enrich_panicked", "enrichment panicked on this document; please report it"))
            }
        }
    }

    /// Returns the personal data of each chunk, in bytes of the chunk's content. If a chunk boundary cuts a match, each
    /// of the two chunks gets its part of the match.
    fn personal_data(
        &self,
        chunks: &Chunks,
        others: &ExternalPersonalData,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Match>>, StageError> {
        let mut by_chunk = vec![Vec::new(); chunks.chunks.len()];
        if !self.options.personal_data && !self.options.redact {
            return Ok(by_chunk);
        }
        let (text, places) = joined_text(&chunks.chunks);
        let mut all = personal::find(&text);
        all.extend(others.text.iter().cloned());
        let all = self.resolved(all);
        cancel.check()?;
        for m in all {
            let first = places.partition_point(|p| p.end <= m.range.start);
            let touched = places.iter().enumerate().skip(first).take_while(|(_, p)| p.start < m.range.end);
            for (i, place) in touched {
                let range = m.range.start.max(place.start) - place.start..m.range.end.min(place.end) - place.start;
                if let Some(list) = by_chunk.get_mut(i).filter(|_| !range.is_empty()) {
                    list.push(Match::new(m.kind, range, m.score));
                }
            }
        }
        Ok(by_chunk)
    }

    /// Drops matches below the minimum score and makes the others disjoint. Overlapping matches that will be redacted
    /// are merged, so that redaction covers every byte of them.
    fn resolved(&self, all: Vec<Match>) -> Vec<Match> {
        // A high minimum score for reports must not leave personal data in the text, so the minimum for redaction has
        // an upper limit.
        let bar = self.options.min_confidence;
        let redacts = |m: &Match| self.options.redacts(m.kind) && m.score >= bar.min(REDACT_FROM);
        let (redacted, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(redacts);
        let kept = kept.into_iter().filter(|m| m.score >= bar);
        let redacted = joined(redacted);
        let covered: Vec<Range<usize>> = redacted.iter().map(|m| m.range.clone()).collect();
        let mut all = best_disjoint(kept.filter(|m| !touches(&covered, &m.range)).collect());
        all.extend(redacted);
        all.sort_by_key(|m| m.range.start);
        all
    }

    /// Redacts metadata, contents and headings. Returns the matches of each chunk at their new positions.
    fn redacted(
        &self,
        chunks: &mut Chunks,
        others: &ExternalPersonalData,
        personal: &[Vec<Match>],
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Match>>, StageError> {
        if !chunks.fields.is_empty() {
            let removed = fields::removed(&chunks.chunks, personal, |m| self.options.redacts(m.kind));
            let find = |text: &str, known: Vec<Match>| self.redacted_matches(text, known);
            chunks.pii_redacted += fields::redact_all(&mut chunks.fields, &removed, &find);
        }
        let mut made = Vec::with_capacity(chunks.chunks.len());
        let mut places = Vec::with_capacity(chunks.chunks.len());
        let mut headings: HashMap<String, (String, u64)> = HashMap::new();
        for (mut chunk, all) in std::mem::take(&mut chunks.chunks).into_iter().zip(personal) {
            cancel.check()?;
            let mut touched = false;
            for heading in &mut chunk.heading_path {
                let (text, count) =
                    headings.entry(heading.clone()).or_insert_with(|| self.redacted_heading(heading, others)).clone();
                chunks.pii_redacted += count;
                touched |= text != *heading;
                *heading = text;
            }
            let (redact, keep): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|m| self.options.redacts(m.kind));
            if redact.is_empty() && !touched {
                made.push(chunk);
                places.push(keep);
                continue;
            }
            chunks.pii_redacted += redact.len() as u64;
            let parts = {
                let count = |content: &str| self.tokens.count(&embedded_text(&chunk.heading_path, content));
                redact::parts(&chunk.content, &redact, self.tokens.window(), &count)
            };
            let divided = parts.len() > 1;
            for (n, part) in parts.into_iter().enumerate() {
                let mut now = redact::moved(&part.original, &redact, &keep);
                now.extend(part.matches.iter().cloned());
                now.sort_by_key(|m| m.range.start);
                places.push(best_disjoint(now));
                made.push(Chunk {
                    id: if divided { format!("{}.{n}", chunk.id) } else { chunk.id.clone() },
                    span: part_of(&chunk, &part.original),
                    tokens: u32::try_from(part.tokens).unwrap_or(u32::MAX),
                    content: part.content,
                    ..chunk.clone()
                });
            }
        }
        for (chunk, ordinal) in made.iter_mut().zip(0..) {
            chunk.ordinal = ordinal;
        }
        chunks.chunks = made;
        Ok(places)
    }

    fn redacted_heading(&self, heading: &str, others: &ExternalPersonalData) -> (String, u64) {
        let others = others.headings.get(heading).into_iter().flatten().cloned();
        let found = self.redacted_matches(heading, others.collect());
        let (text, placed) = redact::replace(heading, &found);
        (redact::without_cut_off_data(&text), placed.len() as u64)
    }

    /// Returns the matches of a text that are redacted. `others` is the personal data that was found elsewhere.
    fn redacted_matches(&self, text: &str, others: Vec<Match>) -> Vec<Match> {
        let mut found = personal::find(text);
        found.extend(others);
        let mut found = self.resolved(found);
        found.retain(|m| self.options.redacts(m.kind));
        found
    }

    /// Returns the findings of one chunk. No finding copies personal data or the text of a placeholder.
    fn findings(
        &self,
        text: &str,
        personal: &[Match],
        masks: &[Range<usize>],
        document: Option<&str>,
        corpus: &Corpus,
    ) -> Findings {
        let o = &self.options;
        let language = if o.language { language::of_text(text, o.min_confidence) } else { None };
        let listed = |mut all: Vec<Match>| {
            all.retain(|m| m.score >= o.min_confidence && !touches(masks, &m.range));
            all.truncate(o.max_findings);
            found(text, &all, true)
        };
        let entities = if o.entities { listed(entities::find(text)) } else { Vec::new() };
        let patterns = if o.patterns { listed(patterns::find(text)) } else { Vec::new() };
        let key_phrases = if o.key_phrases {
            let code = language.as_ref().map(|l| l.code.as_str()).or(document);
            phrases::find(text, code, masks, corpus, o.max_key_phrases)
        } else {
            Vec::new()
        };
        let shown = personal.get(..personal.len().min(o.max_findings)).unwrap_or_default();
        let personal_data = if o.personal_data { found(text, shown, false) } else { Vec::new() };
        Findings { language, key_phrases, entities, patterns, personal_data, sentiment: None }
    }
}

#[async_trait]
impl Enricher for LocalEnricher {
    fn name(&self) -> &str {
        "local"
    }

    async fn enrich(&self, chunks: Chunks, call: Call<'_>) -> Result<Enriched, StageError> {
        let looked = self.beside(chunks, ExternalPersonalData::default(), call.cancel).await?;
        Ok(Enriched { chunks: looked.chunks, usage: Usage::default() })
    }
}

/// Returns the ranges of personal data and of placeholders, sorted and disjoint.
fn masked(text: &str, personal: &[Match]) -> Vec<Range<usize>> {
    let mut masks: Vec<Range<usize>> = personal.iter().map(|m| m.range.clone()).collect();
    masks.extend(PLACEHOLDER.find_all(text));
    masks.sort_by_key(|m| (m.start, m.end));
    masks.dedup_by(|next, last| {
        let overlap = next.start < last.end;
        if overlap {
            last.end = last.end.max(next.end);
        }
        overlap
    });
    masks
}

/// Joins the contents of all chunks into one text. Also returns the range of each chunk in the text. A gap of one
/// character between chunks becomes a space, a longer gap a line feed.
pub fn joined_text(chunks: &[Chunk]) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(chunks.iter().map(|c| c.content.len() + 1).sum());
    let mut places = Vec::with_capacity(chunks.len());
    let mut last: Option<u64> = None;
    for chunk in chunks {
        match last.map(|end| chunk.span.start.saturating_sub(end)) {
            None | Some(0) => {}
            Some(1) => text.push(' '),
            Some(_) => text.push('\n'),
        }
        let start = text.len();
        text.push_str(&chunk.content);
        places.push(start..text.len());
        last = Some(chunk.span.end);
    }
    (text, places)
}

/// Converts a range of a chunk's content, `original`, to the span of the same part in the extracted text.
fn part_of(chunk: &Chunk, original: &Range<usize>) -> Span {
    let chars = |r: Range<usize>| chunk.content.get(r).map_or(0, |s| s.chars().count()) as u64;
    let start = chunk.span.start + chars(0..original.start);
    Span {
        start,
        end: start + chars(original.clone()),
        start_byte: chunk.span.start_byte + original.start as u64,
        end_byte: chunk.span.start_byte + original.end as u64,
    }
}
