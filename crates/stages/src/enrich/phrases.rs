//! Extracts key phrases by word statistics, with a method similar to RAKE.
//!
//! Candidates are runs of words between stop words, punctuation and masked ranges. A part of a run is a candidate too
//! if it occurs more than once in the chunk. A word weighs more if it occurs in long runs (degree over frequency), and
//! less if it occurs in many chunks of the document. The score of a phrase is the mean weight of its words, with
//! logarithmic bonuses for length and repetition. In a language without a stop word list, short words count as stop
//! words. In scripts without spaces, the candidates are runs of ideographs or katakana.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::matches::touches;
use super::stopwords;

const MAX_WORDS: usize = 4;
/// Maximum number of characters of a word in a phrase. Longer strings are not words.
const MAX_WORD_CHARS: usize = 40;

/// A run of words in order; each entry has the byte range of a word and the word in lower case.
type Run = Vec<(Range<usize>, String)>;

/// Holds statistics of a candidate phrase: how often it occurs, the byte range of its first occurrence, and whether it
/// is a whole run at least once.
struct Candidate {
    count: u32,
    first: Range<usize>,
    whole: bool,
}

/// Counts for each word how many chunks of a document contain it.
pub struct Corpus {
    chunks: usize,
    with: HashMap<String, u32>,
}

impl Corpus {
    pub fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let (mut chunks, mut with) = (0, HashMap::new());
        for text in texts {
            chunks += 1;
            let words: HashSet<String> = text.unicode_words().filter(|w| w.len() > 1).map(str::to_lowercase).collect();
            for word in words {
                *with.entry(word).or_default() += 1;
            }
        }
        Self { chunks, with }
    }

    /// Returns the weight of a word by rarity: 1 if every chunk contains the word, and more for rarer words.
    fn rarity(&self, word: &str) -> f64 {
        let with = self.with.get(word).copied().unwrap_or(1).max(1);
        1.0 + (self.chunks.max(1) as f64 / f64::from(with)).ln().max(0.0)
    }
}

/// Returns at most `limit` phrases, the best first. Each phrase is written as in the text. `masks` must be sorted and
/// disjoint.
pub fn find(text: &str, language: Option<&str>, masks: &[Range<usize>], corpus: &Corpus, limit: usize) -> Vec<String> {
    let runs = runs(text, language, masks);
    let (mut frequency, mut degree): (HashMap<&str, f64>, HashMap<&str, f64>) = Default::default();
    for (word, company) in runs.iter().flat_map(|run| run.iter().map(move |(_, w)| (w.as_str(), run.len()))) {
        *frequency.entry(word).or_default() += 1.0;
        *degree.entry(word).or_default() += company as f64;
    }
    let weight = |w: &str| {
        let company = degree.get(w).unwrap_or(&1.0) / frequency.get(w).unwrap_or(&1.0);
        (1.0 + company.ln()) * corpus.rarity(w)
    };
    let score = |key: &[&str], candidate: &Candidate| {
        let words = key.len() as f64;
        let mean = key.iter().map(|w| weight(w)).sum::<f64>() / words;
        mean * (1.0 + words.ln()) * (1.0 + f64::from(candidate.count).ln())
    };
    let all = candidates(&runs).into_iter().filter(|(_, c)| c.whole || c.count > 1);
    let mut ranked: Vec<_> = all.map(|(key, c)| (score(&key, &c), key, c)).collect();
    // Sort equal scores by position, so that the same input gives the same phrases.
    ranked.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then_with(|| (a.2.first.start, a.1.len()).cmp(&(b.2.first.start, b.1.len())))
    });
    let mut chosen: Vec<(Vec<&str>, Range<usize>)> = Vec::new();
    for (_, key, candidate) in ranked {
        if chosen.len() == limit {
            break;
        }
        let within = |a: &[&str], b: &[&str]| a.windows(b.len().max(1)).any(|w| w == b);
        if !chosen.iter().any(|(c, _)| within(c, &key) || within(&key, c)) {
            chosen.push((key, candidate.first));
        }
    }
    let phrase = |r: Range<usize>| text.get(r).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    chosen.into_iter().map(|(_, range)| phrase(range)).collect()
}

/// Returns the candidate phrases: whole runs of any length, and parts of at least two words.
fn candidates(runs: &[Run]) -> HashMap<Vec<&str>, Candidate> {
    let mut all: HashMap<Vec<&str>, Candidate> = HashMap::new();
    for run in runs {
        for n in 1..=run.len() {
            if n == 1 && run.len() > 1 {
                continue;
            }
            for part in run.windows(n) {
                let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else {
                    continue;
                };
                let key = part.iter().map(|(_, w)| w.as_str()).collect();
                let new = Candidate { count: 0, first: first.start..last.end, whole: false };
                let candidate = all.entry(key).or_insert(new);
                candidate.count += 1;
                candidate.whole |= n == run.len();
            }
        }
    }
    all
}

fn runs(text: &str, language: Option<&str>, masks: &[Range<usize>]) -> Vec<Run> {
    let stop = stopwords::of(language.unwrap_or("eng"));
    let mut out = Vec::new();
    let mut open: Run = Vec::new();
    let mut end = 0;
    for (start, word) in text.unicode_word_indices() {
        let range = start..start + word.len();
        let gap = text.get(end..start).unwrap_or_default();
        end = range.end;
        let dense = word.chars().all(is_dense);
        let apart = if dense { !gap.is_empty() } else { !matches!(gap, " " | "-" | "\n" | "\u{a0}") };
        let switch =
            open.last().is_some_and(|(r, _)| text.get(r.clone()).is_some_and(|w| w.chars().all(is_dense)) != dense);
        if apart || switch {
            flush(&mut open, &mut out);
        }
        let lower = word.to_lowercase();
        let chars = word.chars().count();
        let dull = touches(masks, &range)
            || chars > MAX_WORD_CHARS
            || !word.contains(char::is_alphabetic)
            || stop.binary_search(&lower.as_str()).is_ok()
            || (!dense && chars < if stop.is_empty() { 4 } else { 2 })
            || word.chars().all(is_hiragana);
        if dull {
            flush(&mut open, &mut out);
        } else {
            open.push((range, lower));
        }
    }
    flush(&mut open, &mut out);
    out
}

/// Ends the open run and adds it to `out`. A run that is too long for one phrase is divided.
fn flush(open: &mut Run, out: &mut Vec<Run>) {
    let run = std::mem::take(open);
    let dense = run.first().is_some_and(|(_, w)| w.chars().all(is_dense));
    let most = if dense { 2 * MAX_WORDS } else { MAX_WORDS };
    let chars = |part: &[(Range<usize>, String)]| part.iter().map(|(_, w)| w.chars().count()).sum::<usize>();
    out.extend(run.chunks(most).filter(|part| chars(part) > 1).map(<[_]>::to_vec));
}

/// Returns whether `c` belongs to a script that is written without spaces.
fn is_dense(c: char) -> bool {
    matches!(c as u32, 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

fn is_hiragana(c: char) -> bool {
    matches!(c as u32, 0x3040..=0x309F)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(text: &str, language: &str, limit: usize) -> Vec<String> {
        find(text, Some(language), &[], &Corpus::of(std::iter::once(text)), limit)
    }

    #[test]
    fn what_a_text_is_about_comes_first_and_once() {
        let text = "A fencing epoch guards the manifest. The fencing epoch grows with each lease, and a stale lease is \
                    refused because its Fencing Epoch is lower. The weather was fine.";
        let got = phrases(text, "eng", 5);
        assert_eq!(got[0].to_lowercase(), "fencing epoch");
        assert!(got.len() <= 5 && got.contains(&"stale lease".to_owned()), "{got:?}");
        let lower: HashSet<_> = got.iter().map(|p| p.to_lowercase()).collect();
        assert_eq!(lower.len(), got.len());
        assert!(got.iter().all(|p| !p.split(' ').any(|w| ["the", "a", "is"].contains(&w))));
    }

    #[test]
    fn masked_places_give_no_phrase() {
        let text = "Contact jane miller about storage engines";
        let got = find(text, Some("eng"), std::slice::from_ref(&(8..19)), &Corpus::of(std::iter::once(text)), 10);
        assert!(got.contains(&"storage engines".to_owned()));
        assert!(got.iter().all(|p| !p.contains("miller") && !p.contains("jane")));
    }

    #[test]
    fn other_languages_and_scripts_work_too() {
        assert!(
            phrases("Die Verteilte Datenbank und der Speicher. Verteilte Datenbank!", "deu", 3)[0]
                .contains("Datenbank")
        );
        assert!(
            phrases("分散データベースの設計。分散データベースは速い。", "jpn", 3)
                .iter()
                .any(|p| p.contains("データベース"))
        );
        assert!(phrases("", "eng", 3).is_empty());
    }
}
