//! Selects the texts in which Comprehend searches for personal data, and maps the matches back to the document.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use docweir_core::model::{Chunk, Chunks};

use super::languages::{KNOWN_PERSONAL, theirs};
use super::texts::{Places, split};
use super::{DetectedSpan, split_back};
use crate::enrich::local::{ExternalPersonalData, joined_text};
use crate::enrich::matches::Match;
use crate::enrich::{EnrichOptions, language};

/// Comprehend's kinds of personal data with Docweir's names for them. The two names of a kind differ only if a local
/// rule finds the same kind under another name.
pub const PERSONAL_KINDS: &[(&str, &str)] = &[
    ("ADDRESS", "ADDRESS"),
    ("AGE", "AGE"),
    ("AWS_ACCESS_KEY", "AWS_ACCESS_KEY"),
    ("AWS_SECRET_KEY", "AWS_SECRET_KEY"),
    ("BANK_ACCOUNT_NUMBER", "BANK_ACCOUNT_NUMBER"),
    ("BANK_ROUTING", "BANK_ROUTING"),
    ("CA_HEALTH_NUMBER", "CA_HEALTH_NUMBER"),
    ("CA_SOCIAL_INSURANCE_NUMBER", "CA_SOCIAL_INSURANCE_NUMBER"),
    ("CREDIT_DEBIT_CVV", "CREDIT_DEBIT_CVV"),
    ("CREDIT_DEBIT_EXPIRY", "CREDIT_DEBIT_EXPIRY"),
    ("CREDIT_DEBIT_NUMBER", "CREDIT_CARD"),
    ("DATE_TIME", "DATE_TIME"),
    ("DRIVER_ID", "DRIVER_ID"),
    ("EMAIL", "EMAIL"),
    ("INTERNATIONAL_BANK_ACCOUNT_NUMBER", "IBAN"),
    ("IN_AADHAAR", "IN_AADHAAR"),
    ("IN_NREGA", "IN_NREGA"),
    ("IN_PERMANENT_ACCOUNT_NUMBER", "IN_PERMANENT_ACCOUNT_NUMBER"),
    ("IN_VOTER_NUMBER", "IN_VOTER_NUMBER"),
    ("IP_ADDRESS", "IP_ADDRESS"),
    ("LICENSE_PLATE", "LICENSE_PLATE"),
    ("MAC_ADDRESS", "MAC_ADDRESS"),
    ("NAME", "NAME"),
    ("PASSPORT_NUMBER", "PASSPORT_NUMBER"),
    ("PASSWORD", "PASSWORD"),
    ("PHONE", "PHONE"),
    ("PIN", "PIN"),
    ("SSN", "SSN"),
    ("SWIFT_CODE", "SWIFT_CODE"),
    ("UK_NATIONAL_HEALTH_SERVICE_NUMBER", "UK_NATIONAL_HEALTH_SERVICE_NUMBER"),
    ("UK_NATIONAL_INSURANCE_NUMBER", "UK_NATIONAL_INSURANCE_NUMBER"),
    ("UK_UNIQUE_TAXPAYER_REFERENCE_NUMBER", "UK_UNIQUE_TAXPAYER_REFERENCE_NUMBER"),
    ("URL", "URL"),
    ("USERNAME", "USERNAME"),
    ("US_INDIVIDUAL_TAX_IDENTIFICATION_NUMBER", "US_INDIVIDUAL_TAX_IDENTIFICATION_NUMBER"),
    ("VEHICLE_IDENTIFICATION_NUMBER", "VEHICLE_IDENTIFICATION_NUMBER"),
];

/// Docweir's name for kinds of personal data that Comprehend has added since this list was made.
const UNKNOWN: &str = "PERSONAL_DATA";

/// Comprehend's kinds of personal data that are ignored by default.
pub const IGNORED: &[&str] = &["DATE_TIME", "URL"];

/// Length, in bytes, of the overlap of two consecutive texts. The overlap is longer than a name or an address.
const OVERLAP: usize = 256;

/// Holds the texts of a document that are searched for personal data.
pub struct PersonalDataTexts {
    /// Contents of all chunks, joined into one text.
    text: String,
    parts: Vec<Part>,
    /// Distinct headings, one per line.
    headings: String,
    lines: Vec<Range<usize>>,
    heading_parts: Vec<Part>,
}

/// Holds the range and the language code of one text of a request.
struct Part {
    range: Range<usize>,
    code: String,
}

/// Language code of a chunk for the search. With `Ok`, Comprehend searches the chunk in this language. With `Err`,
/// Comprehend can't search this language, and the chunk is skipped.
pub type SearchLanguage = Result<String, String>;

/// Returns the language in which each chunk is searched. This is the document's language, or the chunk's own language
/// if the document's language is unknown or unsupported. The document's language takes precedence, because language
/// detection often assigns a wrong language to a list of names. With a wrong language, the chunk might be skipped.
pub fn languages(chunks: &Chunks, options: &EnrichOptions) -> Vec<SearchLanguage> {
    let comprehend = &options.comprehend;
    let known = |code: String| match KNOWN_PERSONAL.contains(&code.as_str()) && comprehend.languages.contains(&code) {
        true => Ok(code),
        false => Err(code),
    };
    let document = language::of_document(chunks, options.min_confidence).map(|l| theirs(&l.code));
    let fallback = known(document.clone().unwrap_or_else(|| comprehend.default_language.clone()));
    let of = |chunk: &Chunk| match (&document, &fallback) {
        (Some(_), Ok(code)) => Ok(code.clone()),
        _ => {
            let own = language::of_text(&chunk.content, options.min_confidence);
            own.map_or_else(|| fallback.clone(), |own| known(theirs(&own.code)))
        }
    };
    chunks.chunks.iter().map(of).collect()
}

impl PersonalDataTexts {
    /// Selects the texts to search, of at most `most` bytes each. `codes` contains the language of each chunk.
    pub fn of(chunks: &Chunks, codes: &[SearchLanguage], most: usize) -> Self {
        let (text, places) = joined_text(&chunks.chunks);
        let (mut headings, mut lines, mut spoken) = (String::new(), Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for (chunk, code) in chunks.chunks.iter().zip(codes).filter(|(_, code)| code.is_ok()) {
            for heading in chunk.heading_path.iter().filter(|h| !h.trim().is_empty() && seen.insert(h.as_str())) {
                let start = headings.len();
                headings.push_str(heading);
                lines.push(start..headings.len());
                spoken.push(code.clone());
                headings.push('\n');
            }
        }
        let parts = stretches(&text, &places, codes, most);
        let heading_parts = stretches(&headings, &lines, &spoken, most);
        Self { text, parts, headings, lines, heading_parts }
    }

    /// Returns the texts to send, in order, each with its language.
    pub fn texts(&self) -> Vec<(&str, &str)> {
        let of_text = self.parts.iter().map(|part| (&self.text, part));
        let all = of_text.chain(self.heading_parts.iter().map(|part| (&self.headings, part)));
        all.map(|(text, part)| (text.get(part.range.clone()).unwrap_or_default(), part.code.as_str())).collect()
    }

    /// Converts Comprehend's spans into personal data of the document. A span is relative to the text in which
    /// Comprehend found it. Ignored kinds are left out.
    pub fn found(&self, spots: &[Vec<DetectedSpan>], ignored: &[String]) -> ExternalPersonalData {
        let (of_text, of_headings) = spots.split_at(self.parts.len().min(spots.len()));
        let text = matches(&self.text, &self.parts, of_text, ignored);
        let all = matches(&self.headings, &self.heading_parts, of_headings, ignored);
        let mut headings: HashMap<String, Vec<Match>> = HashMap::new();
        for line in &self.lines {
            let within = all.iter().filter_map(|m| {
                let range = m.range.start.max(line.start)..m.range.end.min(line.end);
                let moved = range.start.saturating_sub(line.start)..range.end.saturating_sub(line.start);
                (range.start < range.end).then(|| Match::new(m.kind, moved, m.score))
            });
            let within: Vec<Match> = within.collect();
            if let Some(heading) = self.headings.get(line.clone()).filter(|_| !within.is_empty()) {
                headings.insert(heading.to_owned(), within);
            }
        }
        ExternalPersonalData { text, headings }
    }
}

/// Splits the text into parts of at most `most` bytes. Neighbouring chunks in the same language share a part.
fn stretches(text: &str, places: &[Range<usize>], codes: &[SearchLanguage], most: usize) -> Vec<Part> {
    let mut runs: Vec<Option<(Range<usize>, &str)>> = Vec::new();
    for (place, code) in places.iter().zip(codes) {
        match (runs.last_mut(), code) {
            (Some(Some((range, spoken))), Ok(code)) if spoken == code => range.end = place.end,
            (_, code) => runs.push(code.as_ref().ok().map(|code| (place.clone(), code.as_str()))),
        }
    }
    let mut parts = Vec::new();
    for (run, code) in runs.into_iter().flatten() {
        let within = overlapping(text.get(run.clone()).unwrap_or_default(), most);
        let part = |part: Range<usize>| Part { range: run.start + part.start..run.start + part.end, code: code.into() };
        parts.extend(within.into_iter().map(part));
    }
    parts
}

/// Splits the text into parts that overlap a little. If a part ends in the middle of personal data, the next part
/// contains that data as a whole.
fn overlapping(text: &str, most: usize) -> Vec<Range<usize>> {
    let overlap = OVERLAP.min(most / 4);
    let mut parts = split(text, most - overlap);
    for part in parts.iter_mut().skip(1) {
        let mut from = part.start.saturating_sub(overlap);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        // If a word begins in the overlap, start the part there.
        let before = text.get(from..part.start).unwrap_or_default();
        from += before.find(char::is_whitespace).map_or(0, |at| before.len() - before[at..].trim_start().len());
        part.start = from.min(part.start);
    }
    parts.retain(|part| text.get(part.clone()).is_some_and(|t| t.contains(char::is_alphanumeric)));
    parts
}

fn matches(text: &str, parts: &[Part], spots: &[Vec<DetectedSpan>], ignored: &[String]) -> Vec<Match> {
    let mut all = Vec::new();
    for (Part { range: part, .. }, spots) in parts.iter().zip(spots) {
        let places = Places::of(text.get(part.clone()).unwrap_or_default());
        for spot in spots {
            let kind = kind(&spot.kind);
            let range = split_back(&places, spot, part.start);
            if let Some(range) = range.filter(|_| !ignored.iter().any(|k| k == kind)) {
                all.push(Match::new(kind, range, spot.score));
            }
        }
    }
    all
}

fn kind(named: &str) -> &'static str {
    PERSONAL_KINDS.iter().find(|(theirs, _)| *theirs == named).map_or(UNKNOWN, |(_, ours)| ours)
}
