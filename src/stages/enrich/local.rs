//! The enricher that needs nothing but the machine.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::StageError;
use crate::stages::Cancel;
use crate::stages::chunk::TokenCounter;
use crate::stages::model::{Chunk, Chunks, Findings, Span, embedded_text};

use super::matches::{Match, Pattern, best_disjoint, found, joined, touches};
use super::phrases::Corpus;
use super::{EnrichOptions, Enricher, entities, language, patterns, personal, phrases, redact};

/// Placeholders that stand in the text already, of this run or an earlier one.
static PLACEHOLDER: Pattern = Pattern::new(r"\[REDACTED_[A-Z_]{2,40}\]");

/// Confidence from which personal data is redacted, at most.
const REDACT_FROM: f32 = 0.7;

#[derive(Clone)]
pub struct LocalEnricher {
    options: EnrichOptions,
    tokens: Arc<dyn TokenCounter>,
}

impl LocalEnricher {
    /// `tokens` is the embedder's: what redaction changes is counted again.
    pub fn new(options: EnrichOptions, tokens: Arc<dyn TokenCounter>) -> Self {
        Self { options, tokens }
    }

    /// The work itself, on the caller's thread.
    pub fn enrich_blocking(&self, mut chunks: Chunks, cancel: &Cancel) -> Result<Chunks, StageError> {
        if let Some((field, problem)) = self.options.problems().first() {
            let message = format!("can't enrich: `enrich.{field}` {problem}; correct the configuration");
            return Err(StageError::permanent("bad_enrich_options", message));
        }
        cancel.check()?;
        let personal = self.personal_data(&chunks, cancel)?;
        let personal = if self.options.redact { self.redacted(&mut chunks, &personal, cancel)? } else { personal };
        if self.options.language {
            chunks.language = language::of_document(&chunks, self.options.min_confidence);
        }
        let corpus = Corpus::of(chunks.chunks.iter().map(|c| c.content.as_str()));
        let document_language = chunks.language.clone().map(|l| l.code);
        for (chunk, personal) in chunks.chunks.iter_mut().zip(&personal) {
            cancel.check()?;
            chunk.findings = Some(self.findings(&chunk.content, personal, document_language.as_deref(), &corpus));
        }
        Ok(chunks)
    }

    /// Personal data of each chunk, in bytes of its content; what a boundary cuts is in both chunks.
    fn personal_data(&self, chunks: &Chunks, cancel: &Cancel) -> Result<Vec<Vec<Match>>, StageError> {
        let mut by_chunk = vec![Vec::new(); chunks.chunks.len()];
        if !self.options.personal_data && !self.options.redact {
            return Ok(by_chunk);
        }
        let (text, places) = joined_text(&chunks.chunks);
        let all = self.resolved(personal::find(&text));
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

    /// What is sure enough, disjoint; what is to be redacted covers all that any of its parts covers.
    fn resolved(&self, all: Vec<Match>) -> Vec<Match> {
        // A higher bar for what is told must not leave personal data in the text: redaction's own is never raised.
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

    /// Writes over what is to be redacted, in contents and headings; returns the places as they then are.
    fn redacted(
        &self,
        chunks: &mut Chunks,
        personal: &[Vec<Match>],
        cancel: &Cancel,
    ) -> Result<Vec<Vec<Match>>, StageError> {
        let mut made = Vec::with_capacity(chunks.chunks.len());
        let mut places = Vec::with_capacity(chunks.chunks.len());
        let mut headings: HashMap<String, (String, u64)> = HashMap::new();
        for (mut chunk, all) in std::mem::take(&mut chunks.chunks).into_iter().zip(personal) {
            cancel.check()?;
            let mut touched = false;
            for heading in &mut chunk.heading_path {
                let (text, count) =
                    headings.entry(heading.clone()).or_insert_with(|| self.redacted_heading(heading)).clone();
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
                // What is kept is found again: its places moved, and the text is short.
                let kept =
                    self.resolved(personal::find(&part.content)).into_iter().filter(|m| !self.options.redacts(m.kind));
                let mut now: Vec<Match> = kept.chain(part.matches.iter().cloned()).collect();
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

    fn redacted_heading(&self, heading: &str) -> (String, u64) {
        let mut found = self.resolved(personal::find(heading));
        found.retain(|m| self.options.redacts(m.kind));
        let (text, placed) = redact::replace(heading, &found);
        (redact::without_cut_off_data(&text), placed.len() as u64)
    }

    fn findings(&self, text: &str, personal: &[Match], document: Option<&str>, corpus: &Corpus) -> Findings {
        let o = &self.options;
        let language = if o.language { language::of_text(text, o.min_confidence) } else { None };
        // Nothing below may copy personal data, nor take a placeholder for text.
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
        let listed = |mut all: Vec<Match>| {
            all.retain(|m| m.score >= o.min_confidence && !touches(&masks, &m.range));
            all.truncate(o.max_findings);
            found(text, &all, true)
        };
        let entities = if o.entities { listed(entities::find(text)) } else { Vec::new() };
        let patterns = if o.patterns { listed(patterns::find(text)) } else { Vec::new() };
        let key_phrases = if o.key_phrases {
            let code = language.as_ref().map(|l| l.code.as_str()).or(document);
            phrases::find(text, code, &masks, corpus, o.max_key_phrases)
        } else {
            Vec::new()
        };
        let shown = personal.get(..personal.len().min(o.max_findings)).unwrap_or_default();
        let personal_data = if o.personal_data { found(text, shown, false) } else { Vec::new() };
        Findings { language, key_phrases, entities, patterns, personal_data }
    }
}

#[async_trait]
impl Enricher for LocalEnricher {
    fn name(&self) -> &str {
        "local"
    }

    async fn enrich(&self, chunks: Chunks, cancel: &Cancel) -> Result<Chunks, StageError> {
        let (this, cancel) = (self.clone(), cancel.clone());
        match tokio::task::spawn_blocking(move || this.enrich_blocking(chunks, &cancel)).await {
            Ok(result) => result,
            Err(e) if e.is_cancelled() => {
                Err(StageError::timeout("cancelled", "enrichment was ended by the runtime's stop"))
            }
            // The panic's message could quote the text: it is left out.
            Err(_) => {
                Err(StageError::crash("enrich_panicked", "enrichment panicked on this document; please report it"))
            }
        }
    }
}

/// All contents in one text, and each one's place. One blank stands for one left out between neighbours, a line feed
/// for more.
fn joined_text(chunks: &[Chunk]) -> (String, Vec<Range<usize>>) {
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

/// The span of a part of a chunk's content as it was extracted.
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
