//! Converts Comprehend's answers about parts of chunks into findings of whole chunks.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use docweir_core::model::{Chunks, Mention, Sentiment, SentimentLabel};

use super::texts::Places;
use super::{Analysis, Api, DetectedLanguage, Part, split_back};
use crate::enrich::EnrichOptions;
use crate::enrich::matches::{Match, best_disjoint, found, touches};

/// Kinds of entities that Comprehend reports. Any newer kind counts as `OTHER`.
const ENTITY_KINDS: [&str; 9] =
    ["COMMERCIAL_ITEM", "DATE", "EVENT", "LOCATION", "ORGANIZATION", "PERSON", "QUANTITY", "TITLE", "OTHER"];

type All = BTreeMap<(Api, usize), Analysis>;

/// Returns the language of each chunk that was sent for language detection. A language with a score below `bar` becomes
/// `None`.
pub fn languages(told: &All, parts: &[Part], chunks: &Chunks, bar: f32) -> Vec<(usize, Option<DetectedLanguage>)> {
    let mut by_chunk: BTreeMap<usize, (f32, BTreeMap<&str, f32>)> = BTreeMap::new();
    for (i, part) in parts.iter().enumerate() {
        let Some(Analysis::Languages(tongues)) = told.get(&(Api::Language, i)) else { continue };
        let characters = part.text(chunks).chars().count() as f32;
        let (all, sums) = by_chunk.entry(part.chunk).or_default();
        *all += characters;
        for tongue in tongues {
            *sums.entry(&tongue.code).or_default() += characters * tongue.score;
        }
    }
    let sure = |(chunk, (all, sums)): (usize, (f32, BTreeMap<&str, f32>))| {
        let best = sums.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let tongue =
            best.map(|(code, sum)| DetectedLanguage { code: code.to_owned(), score: (sum / all.max(1.0)).min(1.0) });
        (chunk, tongue.filter(|t| t.score >= bar))
    };
    by_chunk.into_iter().map(sure).collect()
}

/// Holds all of Comprehend's answers about a document, and the masks: ranges from which no finding may copy text.
pub struct Findings<'a> {
    pub options: &'a EnrichOptions,
    pub parts: &'a [Part],
    pub masks: &'a [Vec<Range<usize>>],
    pub found: &'a All,
}

impl Findings<'_> {
    /// Adds the findings to the chunks. Comprehend's entities are merged with those of the local rules; Comprehend's
    /// key phrases replace those of the local rules.
    pub fn add_to(&self, chunks: &mut Chunks) {
        let mut of_chunk: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, part) in self.parts.iter().enumerate() {
            of_chunk.entry(part.chunk).or_default().push(i);
        }
        for (chunk, parts) in of_chunk {
            let Some(masks) = self.masks.get(chunk) else { continue };
            let Some(chunk) = chunks.chunks.get_mut(chunk) else { continue };
            let (text, findings) = (chunk.content.as_str(), chunk.findings.get_or_insert_default());
            if let Some(entities) = self.entities(text, &parts, masks) {
                beside(&mut findings.entities, entities, self.options.max_findings);
            }
            if let Some(phrases) = self.key_phrases(text, &parts, masks) {
                findings.key_phrases = phrases;
            }
            findings.sentiment = self.sentiment(text, &parts);
        }
    }

    /// Returns, as byte ranges of the chunk, all matches that reach the minimum score and touch no personal data.
    /// Returns `None` if `api` analysed none of the parts.
    fn spots(&self, api: Api, text: &str, parts: &[usize], masks: &[Range<usize>]) -> Option<Vec<Match>> {
        let mut all: Option<Vec<Match>> = None;
        for i in parts {
            let (Some(part), Some(Analysis::Spots(spots))) = (self.parts.get(*i), self.found.get(&(api, *i))) else {
                continue;
            };
            let all = all.get_or_insert_default();
            let places = Places::of(text.get(part.range.clone()).unwrap_or_default());
            for spot in spots.iter().filter(|s| s.score >= self.options.min_confidence) {
                let range = split_back(&places, spot, part.range.start).filter(|r| !touches(masks, r));
                let kind = ENTITY_KINDS.into_iter().find(|kind| *kind == spot.kind).unwrap_or("OTHER");
                all.extend(range.map(|range| Match::new(kind, range, spot.score)));
            }
        }
        all
    }

    fn entities(&self, text: &str, parts: &[usize], masks: &[Range<usize>]) -> Option<Vec<Mention>> {
        let all = best_disjoint(self.spots(Api::Entities, text, parts, masks)?);
        Some(found(text, &all, true))
    }

    /// Returns each distinct key phrase once, in order of score, the best first.
    fn key_phrases(&self, text: &str, parts: &[usize], masks: &[Range<usize>]) -> Option<Vec<String>> {
        let mut all = self.spots(Api::KeyPhrases, text, parts, masks)?;
        all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.range.start.cmp(&b.range.start)));
        let mut seen = HashSet::new();
        let phrase = |m: Match| {
            let words: Vec<&str> = text.get(m.range)?.split_whitespace().collect();
            let phrase = words.join(" ");
            (!phrase.is_empty() && seen.insert(phrase.to_lowercase())).then_some(phrase)
        };
        Some(all.into_iter().filter_map(phrase).take(self.options.max_key_phrases).collect())
    }

    /// Returns the mean sentiment of the parts, weighted by their lengths.
    fn sentiment(&self, text: &str, parts: &[usize]) -> Option<Sentiment> {
        let mut sums = [0f32; 4];
        let (mut all, mut only, mut asked) = (0f32, None, 0);
        for i in parts {
            let (Some(part), Some(Analysis::Sentiment(mood))) =
                (self.parts.get(*i), self.found.get(&(Api::Sentiment, *i)))
            else {
                continue;
            };
            let characters = text.get(part.range.clone()).map_or(0, |t| t.chars().count()) as f32;
            let shares = [mood.positive, mood.negative, mood.neutral, mood.mixed];
            sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share * characters);
            all += characters;
            (only, asked) = (Some(mood), asked + 1);
        }
        if asked < 2 {
            return only.cloned();
        }
        let [positive, negative, neutral, mixed] = sums.map(|sum| sum / all.max(1.0));
        let labels = [
            (SentimentLabel::Positive, positive),
            (SentimentLabel::Negative, negative),
            (SentimentLabel::Neutral, neutral),
            (SentimentLabel::Mixed, mixed),
        ];
        let label = labels.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(SentimentLabel::Neutral, |l| l.0);
        Some(Sentiment { label, positive, negative, neutral, mixed })
    }
}

/// Merges `new` entities into the entities of the local rules. An entity of the rules is dropped if it overlaps a new
/// one.
fn beside(by_rule: &mut Vec<Mention>, new: Vec<Mention>, most: usize) {
    let overlaps = |a: &Mention| new.iter().any(|b| b.start < a.end && a.start < b.end);
    by_rule.retain(|found| !overlaps(found));
    by_rule.extend(new.iter().cloned());
    by_rule.sort_by_key(|found| (found.start, found.end));
    by_rule.truncate(most);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(kind: &str, start: u32, end: u32) -> Mention {
        Mention { kind: kind.into(), text: "x".into(), start, end, score: 0.9 }
    }

    #[test]
    fn entities_by_rule_stay_where_there_is_no_other() {
        let mut all = vec![entity("DATE", 0, 4), entity("URL", 10, 20), entity("DOI", 30, 40)];
        beside(&mut all, vec![entity("EVENT", 3, 8), entity("PERSON", 21, 25)], 200);
        let kinds: Vec<_> = all.iter().map(|f| f.kind.as_str()).collect();
        assert_eq!(kinds, ["EVENT", "URL", "PERSON", "DOI"]);
        beside(&mut all, Vec::new(), 2);
        assert_eq!(all.len(), 2);
    }
}
