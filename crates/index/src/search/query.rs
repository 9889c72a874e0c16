//! Reads the text of a query: its words, and the phrases that quotation marks enclose.

use std::collections::HashSet;
use std::ops::Range;

use frostem::Stemmer;

use super::stems;
use super::tokens::{Kind, Token, each_token};

/// Weight of the words of a name in camel case, and of words that belong together. The weight of a word is 1.
const PART_WEIGHT: f32 = 0.5;
/// Weight of an identifier, for each of its words. Rows with the identifier as a whole come before rows with all of its
/// words.
const WHOLE_WEIGHT: f32 = 2.0;

/// Holds a term of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryTerm {
    pub term: String,
    /// Factor of the term's score.
    pub weight: f32,
    /// Other forms under which rows with the same word are listed: its stems, and the marked stems.
    pub stems: Vec<String>,
}

/// Holds the terms of a query, in the order in which they first appear, and its phrases.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub terms: Vec<QueryTerm>,
    pub phrases: Vec<Phrase>,
}

/// Holds the words of a phrase, in order. A row matches only if its text has these words in this order, with no other
/// word between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Phrase(Vec<PhraseWord>);

#[derive(Clone, Debug, PartialEq)]
struct PhraseWord {
    term: String,
    /// True for a pair of characters that shares a character with the pair before it.
    overlaps: bool,
}

impl Query {
    /// Reads a query. `languages` are the rules of the languages in the collection.
    ///
    /// In scripts without spaces, the terms of a query are pairs of characters. A single character is a term only if it
    /// has no neighbour. A quotation mark without a partner is ignored.
    pub fn parse(text: &str, languages: &[Stemmer]) -> Self {
        let mut query = Self::default();
        each_token(text, |token| {
            let weight = match token.kind {
                Kind::Word => 1.0,
                Kind::Part => PART_WEIGHT,
                Kind::Whole { parts } => WHOLE_WEIGHT * f32::from(parts),
                Kind::Fragment => return,
            };
            match query.terms.iter_mut().find(|known| known.term == token.term) {
                Some(known) => known.weight += weight,
                None => query.terms.push(QueryTerm { term: token.term.to_owned(), weight, stems: Vec::new() }),
            }
        });
        let quoted = quoted(text);
        query.phrases = quoted.iter().filter_map(|range| Phrase::parse(text.get(range.clone())?)).collect();
        let exact: HashSet<&str> = query.phrases.iter().flat_map(|phrase| &phrase.0).map(|word| &*word.term).collect();
        for term in query.terms.iter_mut().filter(|term| !exact.contains(&*term.term)) {
            for stem in languages.iter().map(|rules| stems::stem(&term.term, rules)) {
                // A word that is its own stem is found in rows with other forms of it.
                let stem = stem.unwrap_or_else(|| term.term.clone());
                for form in [stems::term(&stem), stem] {
                    if form != term.term && !term.stems.contains(&form) {
                        term.stems.push(form);
                    }
                }
            }
        }
        query
    }

    /// Returns whether a text has all phrases of the query.
    pub fn has_phrases(&self, text: &str) -> bool {
        self.phrases.is_empty() || {
            let words = Words::of(text);
            self.phrases.iter().all(|phrase| words.have(phrase))
        }
    }

    /// Returns the positions in `text` at which the terms occur, for highlighting. The positions are half-open ranges of
    /// code points. Adjacent ranges are joined. `rules` are those of the text's language.
    pub fn matches(&self, text: &str, rules: Option<&Stemmer>) -> Vec<(u32, u32)> {
        let mut found: Vec<Range<usize>> = Vec::new();
        if self.terms.is_empty() {
            return Vec::new();
        }
        let is_asked =
            |word: &str| self.terms.iter().any(|term| term.term == word || term.stems.iter().any(|stem| stem == word));
        each_token(text, |token| {
            let stem = || rules.and_then(|rules| stems::stem(token.term, rules)).map(|stem| stems::term(&stem));
            if is_asked(token.term) || stem().is_some_and(|stem| is_asked(&stem)) {
                match found.last_mut() {
                    Some(last) if token.bytes.start <= last.end => last.end = last.end.max(token.bytes.end),
                    _ => found.push(token.bytes),
                }
            }
        });
        let (mut byte, mut point) = (0, 0);
        let mut points = |to: usize| {
            point += text.get(byte..to).unwrap_or_default().chars().count();
            byte = to;
            u32::try_from(point).unwrap_or(u32::MAX)
        };
        found.into_iter().map(|r| (points(r.start), points(r.end))).collect()
    }
}

impl Phrase {
    fn parse(text: &str) -> Option<Self> {
        let words = Words::of(text).written;
        (!words.is_empty()).then_some(Self(words))
    }

    /// Returns whether the phrase occurs in a list of words.
    fn is_in(&self, words: &[PhraseWord]) -> bool {
        let same = |(at, (one, other)): (usize, (&PhraseWord, &PhraseWord))| {
            one.term == other.term && (at == 0 || one.overlaps == other.overlaps)
        };
        words.windows(self.0.len()).any(|part| part.iter().zip(&self.0).enumerate().all(same))
    }
}

/// Returns the ranges of the query that quotation marks enclose, without the marks.
fn quoted(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut open: Option<(usize, char)> = None;
    for (at, c) in text.char_indices() {
        open = match open {
            Some((start, end)) if c == end => {
                ranges.push(start..at);
                None
            }
            None => match c {
                '"' => Some((at + 1, '"')),
                '“' => Some((at + c.len_utf8(), '”')),
                '„' => Some((at + c.len_utf8(), '“')),
                '«' => Some((at + c.len_utf8(), '»')),
                '「' => Some((at + c.len_utf8(), '」')),
                _ => None,
            },
            open => open,
        };
    }
    ranges
}

/// Holds the words of a text in order, in two readings: as written, and with the words joined that a hyphen breaks at
/// the end of a line.
struct Words {
    written: Vec<PhraseWord>,
    joined: Vec<PhraseWord>,
    /// All terms of the text. A phrase of one word may be a part of an identifier or a single character.
    all: HashSet<String>,
}

impl Words {
    fn of(text: &str) -> Self {
        let mut words = Self { written: Vec::new(), joined: Vec::new(), all: HashSet::new() };
        let (mut covered, mut end) = (0, 0);
        each_token(text, |token| {
            let word = || PhraseWord { term: token.term.to_owned(), overlaps: token.bytes.start < end };
            let is_alone = token.bytes.start >= covered;
            if token.kind == Kind::Word {
                words.written.push(word());
                if is_alone {
                    words.joined.push(word());
                }
                end = token.bytes.end;
            } else if token.kind == Kind::Part && is_alone && is_broken(text, &token) {
                words.joined.push(word());
                covered = token.bytes.end;
            }
            words.all.insert(token.term.to_owned());
        });
        words
    }

    fn have(&self, phrase: &Phrase) -> bool {
        match phrase.0.as_slice() {
            [word] => self.all.contains(&word.term),
            _ => phrase.is_in(&self.written) || phrase.is_in(&self.joined),
        }
    }
}

/// Returns whether a term is a word that a hyphen breaks at the end of a line, in its joined form.
fn is_broken(text: &str, token: &Token<'_>) -> bool {
    token.term.chars().all(char::is_alphanumeric)
        && text.get(token.bytes.clone()).is_some_and(|part| part.contains('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Stemming;

    fn parse(text: &str) -> Query {
        Query::parse(text, &[])
    }

    fn english() -> Stemmer {
        stems::rules("eng", Stemming::Language).unwrap()
    }

    #[test]
    fn terms_have_weights_and_pairs_stand_for_dense_runs() {
        let weights = |text: &str| parse(text).terms.into_iter().map(|t| (t.term, t.weight)).collect::<Vec<_>>();
        let table: [(&str, &[(&str, f32)]); 4] = [
            ("fence the FENCE", &[("fence", 2.0), ("the", 1.0)]),
            ("日本語 水", &[("日本", 1.0), ("本語", 1.0), ("水", 1.0)]),
            ("ERR-4032", &[("err-4032", 4.0), ("err", 1.0), ("4032", 1.0)]),
            ("1,250,000", &[("1250000", 1.0)]),
        ];
        for (text, expected) in table {
            let expected: Vec<(String, f32)> = expected.iter().map(|(t, w)| ((*t).to_owned(), *w)).collect();
            assert_eq!(weights(text), expected, "{text}");
        }
    }

    #[test]
    fn a_word_has_its_stems_unless_it_is_quoted() {
        let stems = |text: &str| Query::parse(text, &[english()]).terms.remove(0).stems;
        assert_eq!(stems("leases"), ["\u{1}leas", "leas"]);
        assert_eq!(stems("fish"), ["\u{1}fish"]);
        assert_eq!(stems("\"leases\""), [""; 0]);
    }

    #[test]
    fn phrases_are_words_in_order() {
        let table = [
            ("\"store and fence\"", "the store and fence", true),
            ("\"store and fence\"", "Store\nAND  fence!", true),
            ("\"store and fence\"", "fence and store", false),
            ("\"store and fence\"", "store and the fence", false),
            ("“fencing token” lease", "a fencing token", true),
            ("\"a b\" \"c d\"", "a b c d", true),
            ("\"a b\" \"c d\"", "a b d c", false),
            ("\"potential evapotranspiration rate\"", "potential evapotrans-\npiration rate", true),
            ("\"データ\"", "データベース", true),
            ("\"ータベ\"", "ータ、タベ", false),
            ("\"語\"", "日本語", true),
            ("\"ERR-4032\"", "see ERR-4032.", true),
            ("\"leases\"", "a lease", false),
            ("5\" disk", "no quotation", true),
            ("\"\"", "nothing quoted", true),
        ];
        for (query, text, expected) in table {
            assert_eq!(parse(query).has_phrases(text), expected, "{query} in {text}");
        }
    }

    #[test]
    fn matches_count_code_points_and_join() {
        let marked = |query: &Query, text: &str| -> Vec<String> {
            let part = |(a, b): (u32, u32)| text.chars().skip(a as usize).take((b - a) as usize).collect();
            query.matches(text, Some(&english())).into_iter().map(part).collect()
        };
        let query = parse("café 日本語 x");
        assert_eq!(marked(&query, "«Cafe\u{301}» — 日本語, x x"), ["Cafe\u{301}", "日本語", "x", "x"]);
        let query = Query::parse("leases ERR-40", &[english()]);
        assert_eq!(marked(&query, "A lease, ERR-40 and ERR-41"), ["lease", "ERR-40", "ERR"]);
    }

    proptest::proptest! {
        #[test]
        fn marks_are_in_order_and_within_the_text(text in ".{0,200}") {
            let query = parse(&text);
            let points = text.chars().count() as u32;
            let found = query.matches(&text, None);
            assert!(found.iter().all(|(a, b)| a < b && *b <= points));
            assert!(found.windows(2).all(|w| w[0].1 <= w[1].0));
            assert_eq!(found.is_empty(), query.terms.is_empty());
            let _ = query.has_phrases(&text);
        }
    }
}
