//! Finds entities that rules can detect reliably: dates, organisations (by legal form), links and identifiers.
//!
//! Amounts of money and percentages are patterns and not entities, so that nothing is listed twice. People and places
//! need a model; the Comprehend enricher finds them.

use std::ops::Range;

use super::matches::{Match, Pattern, best_disjoint, label, stands_alone};

static URL: Pattern = Pattern::new(r#"(?i)\b(?:https?://|ftp://|www\.)[^\s<>"{}|\\^`\[\]]+"#);
static DOI: Pattern = Pattern::new(r#"\b10\.\d{4,9}/[^\s<>"{}|\\^`]+"#);
static ARXIV: Pattern =
    Pattern::new(r"(?i)\barXiv:\s?(?:\d{4}\.\d{4,5}|[a-z\-]{2,10}(?:\.[A-Z]{2})?/\d{7})(?:v\d{1,2})?");
static ISBN: Pattern = Pattern::new(r"(?i)\bISBN(?:-1[03])?:?\s?((?:\d[ -]?){9,12}[\dX])");
static ISSN: Pattern = Pattern::new(r"(?i)\bISSN:?\s?(\d{4}-\d{3}[\dX])");
static ISO_DATE: Pattern = Pattern::new(r"\b(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\b");
static NUMERIC_DATE: Pattern =
    Pattern::new(r"\b(?:0?[1-9]|[12]\d|3[01])([./])(?:0?[1-9]|[12]\d|3[01])[./](?:(?:19|20)\d\d|\d\d)\b");
static NAMED_DATE: Pattern = Pattern::new(
    r"(?i)\b(?:\d{1,2}(?:st|nd|rd|th)?\.? (?:of )?(?:de )?(?:january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|januar|februar|märz|mai|juni|juli|oktober|dezember|janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre)\b\.?(?:,? (?:de )?\d{4}\b)?|(?:january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.? (?:\d{1,2}(?:st|nd|rd|th)?(?:,? \d{4})?|\d{4})\b)",
);
static ORGANIZATION: Pattern = Pattern::new(
    r"(?:\p{Lu}[\p{L}\p{N}&'’.\-]*(?:,? (?:(?:of|and|&|für|de|der|und|et) )?)){1,6}(?:Incorporated|Inc|Corporation|Corp|Company|Limited|Ltd|LLC|L\.L\.C|LLP|L\.P|PLC|plc|GmbH & Co\. KG(?:aA)?|GmbH|gGmbH|mbH|KGaA|AG|SE|S\.A|S\.p\.A|S\.r\.l|SARL|SAS|N\.V|B\.V|Oyj|ASA|Pty|K\.K)\b\.?",
);
/// Words that can begin a sentence but not a name.
const NOT_A_NAME: &[&str] = &[
    "A", "After", "Also", "And", "As", "At", "Because", "Before", "Both", "But", "By", "Das", "Der", "Die", "For",
    "From", "If", "In", "Its", "La", "Le", "Les", "Like", "Of", "On", "Our", "Since", "So", "That", "The", "These",
    "They", "This", "To", "Under", "Until", "We", "When", "Where", "While", "With",
];

#[cfg(test)]
const PATTERNS: [&Pattern; 9] =
    [&URL, &DOI, &ARXIV, &ISBN, &ISSN, &ISO_DATE, &NUMERIC_DATE, &NAMED_DATE, &ORGANIZATION];

/// Returns the entities of `text`, sorted and disjoint.
pub fn find(text: &str) -> Vec<Match> {
    let mut out: Vec<Match> = Vec::new();
    out.extend(URL.find_all(text).map(|r| Match::new("URL", trimmed(text, r), 0.98)).filter(|m| m.range.len() > 8));
    out.extend(DOI.find_all(text).map(|r| Match::new("DOI", trimmed(text, r), 0.95)));
    out.extend(ARXIV.find_all(text).map(|r| Match::new("ARXIV_ID", r, 0.97)));
    let of = |r: &Range<usize>| text.get(r.clone()).unwrap_or_default();
    out.extend(ISBN.find_groups(text).filter(|r| is_isbn(of(r))).map(|r| Match::new("ISBN", r, 0.97)));
    out.extend(ISSN.find_groups(text).filter(|r| is_issn(of(r))).map(|r| Match::new("ISSN", r, 0.97)));
    out.extend(ISO_DATE.find_all(text).filter(|r| stands_alone(text, r)).map(|r| Match::new("DATE", r, 0.95)));
    let numeric = NUMERIC_DATE.find_all(text).filter(|r| stands_alone(text, r) && is_date(of(r)));
    out.extend(numeric.map(|r| Match::new("DATE", r, 0.8)));
    out.extend(NAMED_DATE.find_all(text).filter(|r| is_named_date(text, r)).map(|r| Match::new("DATE", r, 0.9)));
    out.extend(ORGANIZATION.find_all(text).filter_map(|r| organization(text, r)));
    best_disjoint(out)
}

/// Shortens a range: removes punctuation at its end, and a closing bracket whose opening bracket is outside the range.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let mut slice = text.get(range.clone()).unwrap_or_default();
    loop {
        let shorter = slice.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '"', '*', '_', '”', '’', '»']);
        let unopened = shorter.ends_with(')') && shorter.matches(')').count() > shorter.matches('(').count();
        let next = if unopened { shorter.strip_suffix(')').unwrap_or(shorter) } else { shorter };
        if next.len() == slice.len() {
            return range.start..range.start + slice.len();
        }
        slice = next;
    }
}

/// Returns whether a numeric date is plausible. Its separators must be equal. With full stops, the second number must
/// be a possible month, and the date must have at least 8 characters. With slashes, the first or the second number
/// must be a possible month.
fn is_date(text: &str) -> bool {
    let parts: Vec<u32> = text.split(['.', '/']).filter_map(|p| p.parse().ok()).collect();
    let even = text.contains('.') != text.contains('/');
    // 1.2.03 is more likely a section number than a date.
    let dotted = text.contains('.');
    let full = text.len() >= 8 || !dotted;
    even && full && matches!(parts.as_slice(), [a, b, _] if if dotted { *b <= 12 } else { *a <= 12 || *b <= 12 })
}

fn is_named_date(text: &str, range: &Range<usize>) -> bool {
    let slice = text.get(range.clone()).unwrap_or_default();
    let numbers: Vec<u32> = slice.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    // "may 5" can be a verb or a month, so require a year or a capital letter.
    let short = slice.to_lowercase().starts_with("may ") || slice.to_lowercase().starts_with("mar ");
    let sure = !short || slice.starts_with('M') || numbers.iter().any(|&n| n > 31);
    let valid = match numbers.as_slice() {
        [day] if slice.starts_with(|c: char| c.is_ascii_digit()) => (1..=31).contains(day),
        [n] => (1..=31).contains(n) || (1000..=2999).contains(n),
        [day, year] => (1..=31).contains(day) && (1000..=2999).contains(year),
        _ => false,
    };
    valid && sure && stands_alone(text, range) && !label(text, range.start, 2).ends_with('.')
}

fn organization(text: &str, range: Range<usize>) -> Option<Match> {
    let mut start = range.start;
    let slice = |start: usize| text.get(start..range.end).unwrap_or_default();
    // Skip a preceding sentence ("… was sold. Acme Inc.") and its first word ("The Acme Company").
    while let Some((word, _)) = slice(start).split_once(' ') {
        let ends_sentence = word.ends_with('.') && word.chars().count() > 4;
        if !NOT_A_NAME.contains(&word) && !ends_sentence {
            break;
        }
        start += word.len() + 1;
    }
    let name = slice(start);
    let words = name.split_whitespace().count();
    let bare = name.trim_end_matches('.');
    // "Company", "Limited" and the short forms are ambiguous: accept them only after a capitalised word, at a lower
    // score.
    let weak = ["Company", "Limited", "SE", "AG", "SAS"].iter().any(|w| bare.ends_with(w));
    let generic = weak && name.starts_with(|c: char| !c.is_uppercase());
    // The full stop belongs to the name only if the legal form is an abbreviation.
    let stop = name.ends_with('.')
        && ["Company", "Limited", "GmbH", "AG", "SE", "LLC", "PLC", "plc"].iter().any(|w| bare.ends_with(w));
    (words >= 2 && !generic)
        .then(|| Match::new("ORGANIZATION", start..range.end - usize::from(stop), if weak { 0.75 } else { 0.9 }))
}

fn is_isbn(text: &str) -> bool {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '-'))
        .filter_map(|c| if matches!(c, 'X' | 'x') { Some(10) } else { c.to_digit(10) })
        .collect();
    match digits.len() {
        10 => digits.iter().zip((1..=10).rev()).map(|(d, w)| d * w).sum::<u32>().is_multiple_of(11),
        13 => digits.iter().zip([1, 3].into_iter().cycle()).map(|(d, w)| d * w).sum::<u32>().is_multiple_of(10),
        _ => false,
    }
}

fn is_issn(text: &str) -> bool {
    let digit = |c: char| if matches!(c, 'X' | 'x') { Some(10) } else { c.to_digit(10) };
    let digits: Vec<u32> = text.chars().filter_map(digit).collect();
    digits.len() == 8 && digits.iter().zip((1..=8).rev()).map(|(d, w)| d * w).sum::<u32>().is_multiple_of(11)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(&'static str, &str)> {
        find(text).into_iter().map(|m| (m.kind, &text[m.range])).collect()
    }

    #[test]
    fn every_pattern_compiles() {
        assert!(PATTERNS.iter().all(|p| p.is_valid()));
    }

    #[test]
    fn entities_are_found_with_their_exact_place() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("On 2024-01-31 it ended.", &[("DATE", "2024-01-31")]),
            ("On January 5, 2024, it began.", &[("DATE", "January 5, 2024")]),
            ("as of december 31, 2017", &[("DATE", "december 31, 2017")]),
            ("Am 3. Oktober 1990 war", &[("DATE", "3. Oktober 1990")]),
            ("on 31.12.2017 or 12/31/17", &[("DATE", "31.12.2017"), ("DATE", "12/31/17")]),
            ("(see https://example.org/a_(b)?c=1).", &[("URL", "https://example.org/a_(b)?c=1")]),
            ("doi:10.1000/xyz123.", &[("DOI", "10.1000/xyz123")]),
            ("arXiv:2305.03393v1", &[("ARXIV_ID", "arXiv:2305.03393v1")]),
            ("ISBN 978-3-16-148410-0,", &[("ISBN", "978-3-16-148410-0")]),
            ("ISSN 0378-5955", &[("ISSN", "0378-5955")]),
            ("The Acme Widget Corp. grew.", &[("ORGANIZATION", "Acme Widget Corp.")]),
            ("bought by Müller & Söhne GmbH.", &[("ORGANIZATION", "Müller & Söhne GmbH")]),
            ("Apple Inc., Cupertino", &[("ORGANIZATION", "Apple Inc.")]),
        ];
        for (text, want) in cases {
            assert_eq!(all(text), *want, "{text:?}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_left_alone() {
        for text in [
            "The Company is limited. It may 5 times",
            "section 1.2.3 and 45.13.2017",
            "ISBN 978-3-16-148410-1",
            "a corporation, an inc",
            "10.5/20",
            "13/13/2013",
        ] {
            assert_eq!(all(text), [], "{text:?}");
        }
    }
}
