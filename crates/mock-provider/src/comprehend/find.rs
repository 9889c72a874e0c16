//! Finds entities, phrases, languages and personal data by rules that a test can predict. All functions work on code
//! points, because Comprehend's offsets count code points.

use serde_json::{Value, json};

const GIVEN_NAMES: &[&str] = &["Anna", "Carlos", "Jane", "Johannes", "John", "Maria", "Noam", "Peter", "Wei"];
const LEGAL_FORMS: &[&str] = &["AG", "Company", "Corp", "GmbH", "Inc", "Ltd"];
const STREETS: &[&str] = &["Avenue", "Lane", "Road", "Street"];
const GOOD: &[&str] = &["excellent", "good", "great", "growth", "happy", "pleased", "strong"];
const BAD: &[&str] = &["bad", "decline", "failed", "loss", "poor", "terrible", "weak"];
/// Frequent words that distinguish languages with the same script.
const TELLING: &[(&str, &[&str])] = &[
    ("de", &["der", "die", "und", "nicht", "ist", "das", "wird"]),
    ("en", &["the", "and", "of", "is", "was", "to", "with"]),
    ("es", &["el", "los", "las", "que", "una", "por", "está"]),
    ("fr", &["le", "les", "des", "et", "une", "dans", "est"]),
    ("pl", &["jest", "nie", "się", "oraz", "przez", "który"]),
];

/// Locates a word by the position of its first code point and the position after its last code point.
#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
}

struct Text {
    chars: Vec<char>,
    words: Vec<Word>,
}

impl Text {
    fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut words = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            let start = at;
            while at < chars.len() && chars[at].is_alphanumeric() {
                at += 1;
            }
            if at > start {
                words.push(Word { start, end: at });
            } else {
                at += 1;
            }
        }
        Self { chars, words }
    }

    fn slice(&self, start: usize, end: usize) -> String {
        self.chars[start..end].iter().collect()
    }

    fn word(&self, word: Word) -> String {
        self.slice(word.start, word.end)
    }

    fn is_name(&self, word: Word) -> bool {
        self.chars[word.start].is_uppercase()
    }

    /// Returns whether exactly one blank separates the two words.
    fn follows(&self, word: Word, next: Word) -> bool {
        next.start == word.end + 1 && self.chars[word.end] == ' '
    }

    /// Returns runs of adjacent words in which `taken` accepts every word. Each run is as long as possible.
    fn runs(&self, taken: impl Fn(&Self, Word) -> bool) -> Vec<&[Word]> {
        let mut runs = Vec::new();
        let mut from = 0;
        while from < self.words.len() {
            let mut to = from;
            while to < self.words.len()
                && taken(self, self.words[to])
                && (to == from || self.follows(self.words[to - 1], self.words[to]))
            {
                to += 1;
            }
            if to > from {
                runs.push(&self.words[from..to]);
            }
            from = to.max(from + 1);
        }
        runs
    }

    fn entity(&self, start: usize, end: usize, kind: &str, score: f64) -> Value {
        json!({"Type": kind, "Text": self.slice(start, end), "Score": score, "BeginOffset": start, "EndOffset": end})
    }
}

/// Returns two languages: first an unlikely language with a low score, then the most likely language.
pub fn languages(text: &str) -> Value {
    let of = |low: u32, high: u32| text.chars().filter(|c| (low..=high).contains(&(*c as u32))).count();
    let scripts = [
        ("ja", of(0x3040, 0x30ff) * 4),
        ("zh", of(0x4e00, 0x9fff) * 3),
        ("ko", of(0xac00, 0xd7a3) * 3),
        ("ar", of(0x0600, 0x06ff)),
        ("he", of(0x0590, 0x05ff)),
        ("hi", of(0x0900, 0x097f)),
        ("ru", of(0x0400, 0x04ff)),
    ];
    let (script, letters) = scripts.into_iter().max_by_key(|(_, n)| *n).unwrap_or(("en", 0));
    let code = match letters * 4 > text.chars().count() {
        true => script,
        false => {
            let lower = text.to_lowercase();
            let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
            let told = |telling: &[&str]| words.iter().filter(|w| telling.contains(w)).count();
            let best = TELLING.iter().rev().max_by_key(|(_, telling)| told(telling));
            best.filter(|(_, telling)| told(telling) > 0).map_or("en", |(code, _)| code)
        }
    };
    json!([{"LanguageCode": "la", "Score": 0.004}, {"LanguageCode": code, "Score": 0.99}])
}

/// Returns capitalised names and years as entities. A name of only one word gets a low score.
pub fn entities(text: &str) -> Value {
    let text = Text::of(text);
    let mut found = Vec::new();
    for run in text.runs(|t, w| t.is_name(w)) {
        let (first, last) = (run[0], run[run.len() - 1]);
        let kind = match LEGAL_FORMS.contains(&text.word(last).as_str()) {
            true => "ORGANIZATION",
            false if GIVEN_NAMES.contains(&text.word(first).as_str()) => "PERSON",
            false => "TITLE",
        };
        let (kind, score) = if run.len() > 1 { (kind, 0.97) } else { ("OTHER", 0.31) };
        found.push(text.entity(first.start, last.end, kind, score));
    }
    for word in &text.words {
        let digits = text.word(*word);
        if digits.len() == 4 && digits.starts_with("20") && digits.bytes().all(|b| b.is_ascii_digit()) {
            found.push(text.entity(word.start, word.end, "DATE", 0.9));
        }
    }
    Value::Array(found)
}

/// Returns phrases of two or three adjacent words. Each word is in lower case and has at least four letters.
pub fn key_phrases(text: &str) -> Value {
    let text = Text::of(text);
    let small = |t: &Text, w: Word| w.end - w.start >= 4 && t.chars[w.start..w.end].iter().all(|c| c.is_lowercase());
    let phrase = |run: &[Word]| {
        let (start, end) = (run[0].start, run[run.len() - 1].end);
        json!({"Text": text.slice(start, end), "Score": 0.8 + 0.05 * run.len() as f64, "BeginOffset": start, "EndOffset": end})
    };
    let runs = text.runs(small);
    Value::Array(runs.iter().flat_map(|run| run.chunks(3)).filter(|run| run.len() > 1).map(phrase).collect())
}

pub fn sentiment(text: &str) -> (&'static str, Value) {
    let lower = text.to_lowercase();
    let count = |words: &[&str]| lower.split(|c: char| !c.is_alphanumeric()).filter(|w| words.contains(w)).count();
    let (label, [positive, negative, neutral, mixed]) = match (count(GOOD), count(BAD)) {
        (0, 0) => ("NEUTRAL", [0.05, 0.05, 0.88, 0.02]),
        (good, 0) if good > 0 => ("POSITIVE", [0.9, 0.02, 0.06, 0.02]),
        (0, _) => ("NEGATIVE", [0.02, 0.9, 0.06, 0.02]),
        _ => ("MIXED", [0.2, 0.2, 0.1, 0.5]),
    };
    (label, json!({"Positive": positive, "Negative": negative, "Neutral": neutral, "Mixed": mixed}))
}

/// Returns names that start with a known given name, street addresses, e-mail addresses, long numbers, and dates.
pub fn personal_data(text: &str) -> Value {
    let text = Text::of(text);
    let mut found: Vec<(usize, usize, &str, f64)> = Vec::new();
    for run in text.runs(|t, w| t.is_name(w)) {
        let given = run.iter().position(|w| GIVEN_NAMES.contains(&text.word(*w).as_str()));
        if let Some(given) = given.filter(|given| given + 1 < run.len()) {
            found.push((run[given].start, run[given + 1].end, "NAME", 0.99));
        }
    }
    let numeric = |t: &Text, w: Word| t.chars[w.start..w.end].iter().all(char::is_ascii_digit);
    for words in text.words.windows(3) {
        let street = STREETS.contains(&text.word(words[2]).as_str());
        let beside = text.follows(words[0], words[1]) && text.follows(words[1], words[2]);
        if street && beside && numeric(&text, words[0]) && text.is_name(words[1]) {
            found.push((words[0].start, words[2].end, "ADDRESS", 0.95));
        }
    }
    for run in text.runs(numeric) {
        let (start, end) = (run[0].start, run[run.len() - 1].end);
        if run.iter().map(|w| w.end - w.start).sum::<usize>() >= 9 {
            found.push((start, end, "PHONE", 0.93));
        } else if run.len() == 1 && end - start == 4 && text.chars[start..].starts_with(&['2', '0']) {
            found.push((start, end, "DATE_TIME", 0.92));
        }
    }
    for at in (0..text.chars.len()).filter(|at| text.chars[*at] == '@') {
        let part = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let start = at - text.chars[..at].iter().rev().take_while(|c| part(c)).count();
        let mut end = at + 1 + text.chars[at + 1..].iter().take_while(|c| part(c)).count();
        while end > at + 1 && text.chars[end - 1] == '.' {
            end -= 1;
        }
        if start < at && end > at + 1 {
            found.push((start, end, "EMAIL", 0.99));
        }
    }
    found.sort_by_key(|(start, ..)| *start);
    let entity = |(start, end, kind, score): (usize, usize, &str, f64)| json!({"Type": kind, "Score": score, "BeginOffset": start, "EndOffset": end});
    Value::Array(found.into_iter().map(entity).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(found: &Value, text: &str) -> Vec<(String, String)> {
        let chars: Vec<char> = text.chars().collect();
        let at = |v: &Value| v.as_u64().unwrap() as usize;
        let one = |f: &Value| {
            let place: String = chars[at(&f["BeginOffset"])..at(&f["EndOffset"])].iter().collect();
            assert!(f["Text"].as_str().is_none_or(|t| t == place), "{f}");
            (f["Type"].as_str().unwrap_or_default().to_owned(), place)
        };
        found.as_array().unwrap().iter().map(one).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn places_count_code_points() {
        let text =
            "👨‍👩‍👧 e\u{301} 漢字 שלום: Jane Doe of Acme Widget Inc, 12 Elm Street, jane@x.org. 030 1234 567 in 2024.";
        let expected = [
            ("NAME", "Jane Doe"),
            ("ADDRESS", "12 Elm Street"),
            ("EMAIL", "jane@x.org"),
            ("PHONE", "030 1234 567"),
            ("DATE_TIME", "2024"),
        ];
        assert_eq!(all(&personal_data(text), text), pairs(&expected));
        let entities = all(&entities(text), text);
        assert_eq!(entities[0], ("PERSON".into(), "Jane Doe".into()));
        assert_eq!(entities[1], ("ORGANIZATION".into(), "Acme Widget Inc".into()));
    }

    #[test]
    fn phrases_languages_and_moods() {
        let text = "The quarterly revenue report shows strong growth";
        assert_eq!(
            all(&key_phrases(text), text),
            pairs(&[("", "quarterly revenue report"), ("", "shows strong growth")])
        );
        let table = [
            (text, "en", "POSITIVE"),
            ("Der Vertrag ist nicht gültig und wird beendet", "de", "NEUTRAL"),
            ("To nie jest dobre oraz zostało odrzucone przez sąd", "pl", "NEUTRAL"),
            ("これは文です。次の文です。", "ja", "NEUTRAL"),
            ("A terrible loss", "en", "NEGATIVE"),
            ("A great loss", "en", "MIXED"),
        ];
        for (text, code, label) in table {
            assert_eq!((&languages(text)[1]["LanguageCode"], sentiment(text).0), (&json!(code), label), "{text}");
        }
    }
}
