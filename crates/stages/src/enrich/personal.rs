//! Finds personal data by rule. Each rule needs a checksum, a fixed format or a preceding label.
//!
//! Other text is left unchanged. For example, a table of numbers is not a list of telephone numbers. If redaction is
//! on, a wrong finding even destroys text. Names and addresses need a model, so these rules do not search for them.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::matches::{Match, Pattern, after, before, label, stands_alone};

/// Kinds of personal data, as they appear in findings and placeholders.
pub const KINDS: [&str; 10] = [
    "EMAIL",
    "PHONE",
    "SSN",
    "CREDIT_CARD",
    "IBAN",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "DATE_OF_BIRTH",
    "UK_NATIONAL_INSURANCE_NUMBER",
    "AWS_ACCESS_KEY",
];

/// Matches a run of digits with single white-space characters or hyphens between groups. A checksum then decides
/// whether the run contains a card number.
static CARD: Pattern = Pattern::new(r"\d(?:[\s\-]?\d){12,}");
static IBAN: Pattern = Pattern::new(r"[A-Z]{2}\d{2}");
static SSN: Pattern = Pattern::new(r"\d{3}-\s?\d{2}-\s?\d{4}|\d{3} \d{2} \d{4}");
static SSN_LABEL: Pattern = Pattern::new(r"(?i)\b(?:ssn|social security)");
static INTERNATIONAL: Pattern = Pattern::new(r"(?:\+|\b00)[1-9]\d{0,2}(?:(?:[ \x{a0}./]|-\s?)?\(?\d{1,5}\)?){2,7}");
static AMERICAN: Pattern = Pattern::new(
    r"\([2-9]\d\d\)[\s.\-]?[2-9]\d\d[\s.\-]\d{4}|[2-9]\d\d-\s?[2-9]\d\d-\s?\d{4}|[2-9]\d\d\.[2-9]\d\d\.\d{4}",
);
static LABELLED: Pattern = Pattern::new(
    r"(?i)\b(?:(?:tel|telephone|phone|fax|telefon|telefax|tél|téléphone|teléfono)\b(?:\s?(?:no|number|nr))?[.:]*|(?:mobile|mob|cell|call|handy|mobil)\b(?:\s?(?:no|number|nr))?[.:]*:)\s{0,3}(\+?\(?\d{1,5}\)?(?:(?:[ \x{a0}./]|-\s?)?\(?\d{1,5}\)?){1,6})",
);
static IPV4: Pattern = Pattern::new(r"\d{1,3}(?:\.\d{1,3}){3}");
static IPV4_NOT: Pattern = Pattern::new(r"(?i)(?:\bv|version|section|chapter|release|§)\s*$");
static IP_LABEL: Pattern = Pattern::new(r"(?i)\b(?:ip|host|server|address)\b");
static IPV6: Pattern = Pattern::new(r"[0-9A-Fa-f:]{0,4}:[0-9A-Fa-f:]{2,40}");
static MAC: Pattern = Pattern::new(r"[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})");
static BIRTH: Pattern = Pattern::new(
    r"(?i)\b(?:date of birth|d\.?o\.?b\.?|born(?: on)?|birth ?date|geburtsdatum|geboren am|né le|née le)\s{0,2}[:.]?\s{0,2}(\d{4}-\d\d-\d\d|\d{1,2}[./\-]\d{1,2}[./\-](?:\d{4}|\d\d)|(?:\p{L}{3,9}\.? \d{1,2},? \d{4})|(?:\d{1,2}\.? \p{L}{3,9} \d{4}))",
);
static NINO: Pattern = Pattern::new(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\s?\d{2}\s?\d{2}\s?\d{2}\s?[A-D]");
static AWS_KEY: Pattern = Pattern::new(r"(?:AKIA|ASIA)[A-Z0-9]{16}");
static DOMAIN: Pattern = Pattern::new(r"^(?:[\p{L}\p{N}][\p{L}\p{N}\-]*\.)+\p{L}{2,24}");

#[cfg(test)]
const PATTERNS: [&Pattern; 16] = [
    &CARD,
    &IBAN,
    &SSN,
    &SSN_LABEL,
    &INTERNATIONAL,
    &AMERICAN,
    &LABELLED,
    &IPV4,
    &IPV4_NOT,
    &IP_LABEL,
    &IPV6,
    &MAC,
    &BIRTH,
    &NINO,
    &AWS_KEY,
    &DOMAIN,
];

/// Returns all personal data in `text`. The matches are unsorted and may overlap.
pub fn find(text: &str) -> Vec<Match> {
    let mut out = Vec::new();
    emails(text, &mut out);
    for range in CARD.find_all(text) {
        cards(text, range, &mut out);
    }
    ibans(text, &mut out);
    social_security(text, &mut out);
    phones(text, &mut out);
    addresses(text, &mut out);
    out.extend(BIRTH.find_groups(text).map(|range| Match::new("DATE_OF_BIRTH", range, 0.9)));
    for (pattern, kind) in
        [(&MAC, "MAC_ADDRESS"), (&NINO, "UK_NATIONAL_INSURANCE_NUMBER"), (&AWS_KEY, "AWS_ACCESS_KEY")]
    {
        let alone = |m: &Range<usize>| stands_alone(text, m) && !matches!(before(text, m.start), Some(':' | '-'));
        out.extend(pattern.find_all(text).filter(alone).map(|m| Match::new(kind, m, 0.9)));
    }
    out
}

/// Finds email addresses. Only the text around each `@` is searched, so the maximum length of an address limits the
/// work.
fn emails(text: &str, out: &mut Vec<Match>) {
    for (at, _) in text.match_indices('@') {
        let head = text.get(..at).unwrap_or_default();
        let local = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'');
        let taken: usize = head.chars().rev().take(64).take_while(local).map(char::len_utf8).sum();
        let name = head.get(at - taken..).unwrap_or_default();
        let start = at - name.trim_start_matches(['.', '\'', '-', '+', '%']).len();
        let reach = text.get(at + 1..).unwrap_or_default();
        let Some(domain) = DOMAIN.find(window(reach, 300)) else {
            continue;
        };
        if start < at && !head.ends_with('.') {
            out.push(Match::new("EMAIL", start..at + 1 + domain.end, 0.95));
        }
    }
}

fn window(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Finds card numbers in a run of digits. Every group of the run is tried as the start, because another number may
/// precede the card number.
fn cards(text: &str, run: Range<usize>, out: &mut Vec<Match>) {
    let slice = text.get(run.clone()).unwrap_or_default();
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (i, _) in slice.match_indices(|c: char| c.is_ascii_digit()) {
        let at = run.start + i;
        match groups.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => groups.push(at..at + 1),
        }
    }
    for first in 0..groups.len() {
        for some in (1..=5).filter_map(|n| groups.get(first..first + n)) {
            let lengths: Vec<usize> = some.iter().map(ExactSizeIterator::len).collect();
            let regular = matches!(lengths.as_slice(), [_] | [4, 4, 4, 4] | [4, 6, 5] | [4, 6, 4] | [4, 4, 4, 4, 3]);
            // A line or chunk boundary may cut a card number and split one group into two.
            if !(13..=19).contains(&lengths.iter().sum::<usize>()) || !(regular || regular_but_for_one_cut(&lengths)) {
                continue;
            }
            let (Some(start), Some(end)) = (some.first().map(|g| g.start), some.last().map(|g| g.end)) else {
                continue;
            };
            let range = start..end;
            let digits =
                text.get(range.clone()).unwrap_or_default().bytes().filter(u8::is_ascii_digit).map(|b| b - b'0');
            if stands_alone(text, &range) && !touches_digits(text, &range) && is_card(&digits.collect::<Vec<_>>()) {
                out.push(Match::new("CREDIT_CARD", range, if some.len() == 1 { 0.9 } else { 0.95 }));
            }
        }
    }
}

/// Returns whether joining two neighbouring groups of digits gives a usual grouping of card numbers, such as 4-4-4-4.
fn regular_but_for_one_cut(groups: &[usize]) -> bool {
    (1..groups.len()).any(|i| {
        let mut joined = groups.to_vec();
        let part = joined.remove(i);
        if let Some(left) = joined.get_mut(i - 1) {
            *left += part;
        }
        matches!(joined.as_slice(), [4, 4, 4, 4] | [4, 6, 5] | [13 | 15 | 16])
    })
}

/// Returns whether only one space or hyphen separates the range from another number before or after it. The range is
/// then part of a row of figures.
fn touches_digits(text: &str, range: &Range<usize>) -> bool {
    let blank = |c: Option<char>| c.is_some_and(|c| c == ' ' || c == '-');
    let left = blank(before(text, range.start)) && before(text, range.start - 1).is_some_and(|c| c.is_ascii_digit());
    let right = blank(after(text, range.end)) && after(text, range.end + 1).is_some_and(|c| c.is_ascii_digit());
    left || right
}

fn is_card(digits: &[u8]) -> bool {
    let prefix = |n: usize| digits.iter().take(n).fold(0u32, |v, &d| v * 10 + u32::from(d));
    let network = match digits.len() {
        13 => prefix(1) == 4,
        14 => matches!(prefix(3), 300..=305 | 309) || matches!(prefix(2), 36 | 38 | 39),
        15 => matches!(prefix(2), 34 | 37),
        16 => {
            prefix(1) == 4
                || matches!(prefix(2), 51..=55 | 62 | 65)
                || matches!(prefix(4), 2221..=2720 | 3528..=3589 | 6011)
                || matches!(prefix(3), 644..=649)
        }
        19 => prefix(1) == 4 || prefix(2) == 62,
        _ => false,
    };
    let varied = digits.iter().any(|d| Some(d) != digits.last());
    network && varied && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &d)| {
            let d = u32::from(d);
            if i % 2 == 0 { d } else { d * 2 - if d > 4 { 9 } else { 0 } }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// IBAN lengths by country code, sorted by country code for binary search.
#[rustfmt::skip]
const IBAN_LENGTHS: &[(&str, usize)] = &[
    ("AD", 24), ("AE", 23), ("AL", 28), ("AT", 20), ("AZ", 28), ("BA", 20), ("BE", 16), ("BG", 22), ("BH", 22),
    ("BR", 29), ("BY", 28), ("CH", 21), ("CR", 22), ("CY", 28), ("CZ", 24), ("DE", 22), ("DK", 18), ("DO", 28),
    ("EE", 20), ("EG", 29), ("ES", 24), ("FI", 18), ("FO", 18), ("FR", 27), ("GB", 22), ("GE", 22), ("GI", 23),
    ("GL", 18), ("GR", 27), ("GT", 28), ("HR", 21), ("HU", 28), ("IE", 22), ("IL", 23), ("IQ", 23), ("IS", 26),
    ("IT", 27), ("JO", 30), ("KW", 30), ("KZ", 20), ("LB", 28), ("LC", 32), ("LI", 21), ("LT", 20), ("LU", 20),
    ("LV", 21), ("LY", 25), ("MC", 27), ("MD", 24), ("ME", 22), ("MK", 19), ("MR", 27), ("MT", 31), ("MU", 30),
    ("NL", 18), ("NO", 15), ("PK", 24), ("PL", 28), ("PS", 29), ("PT", 25), ("QA", 29), ("RO", 24), ("RS", 22),
    ("SA", 24), ("SC", 31), ("SE", 24), ("SI", 19), ("SK", 24), ("SM", 27), ("ST", 25), ("SV", 28), ("TL", 23),
    ("TN", 24), ("TR", 26), ("UA", 29), ("VA", 22), ("VG", 24), ("XK", 20),
];

fn ibans(text: &str, out: &mut Vec<Match>) {
    for range in IBAN.find_all(text) {
        let slice = text.get(range.clone()).unwrap_or_default();
        let country = slice.get(..2).unwrap_or_default();
        let Ok(known) = IBAN_LENGTHS.binary_search_by(|(c, _)| (*c).cmp(country)) else {
            continue;
        };
        let length = IBAN_LENGTHS.get(known).map_or(0, |(_, n)| *n);
        let mut taken: Vec<u8> = Vec::with_capacity(length);
        let mut end = range.start;
        let mut blanks = 0;
        for (i, c) in text.get(range.start..).unwrap_or_default().char_indices() {
            match c {
                'A'..='Z' | '0'..='9' => {
                    taken.push(c as u8);
                    (blanks, end) = (0, range.start + i + 1);
                }
                ' ' | '\n' | '\u{a0}' if blanks == 0 => blanks = 1,
                _ => break,
            }
            if taken.len() == length {
                break;
            }
        }
        let range = range.start..end;
        if taken.len() == length && stands_alone(text, &range) && mod97(&taken) == 1 {
            out.push(Match::new("IBAN", range, 0.99));
        }
    }
}

fn mod97(iban: &[u8]) -> u32 {
    iban.iter().cycle().skip(4).take(iban.len()).fold(0, |rest, &b| match b {
        b'0'..=b'9' => (rest * 10 + u32::from(b - b'0')) % 97,
        _ => (rest * 100 + u32::from(b - b'A') + 10) % 97,
    })
}

fn social_security(text: &str, out: &mut Vec<Match>) {
    for range in SSN.find_all(text) {
        let slice = text.get(range.clone()).unwrap_or_default();
        let digits: String = slice.chars().filter(char::is_ascii_digit).collect();
        let part = |a, b| digits.get(a..b).unwrap_or_default();
        let (area, group, serial) = (part(0, 3), part(3, 5), part(5, 9));
        let given = area != "000" && area != "666" && !area.starts_with('9') && group != "00" && serial != "0000";
        let labelled = slice.contains('-') || SSN_LABEL.is_match(label(text, range.start, 40));
        if given && labelled && stands_alone(text, &range) && !touches_digits(text, &range) {
            out.push(Match::new("SSN", range.clone(), 0.9));
        }
    }
}

fn phones(text: &str, out: &mut Vec<Match>) {
    let count = |s: &str| s.bytes().filter(u8::is_ascii_digit).count();
    // A bracket at the end that was not opened belongs to the sentence.
    let tidy = |r: Range<usize>| {
        let slice = text.get(r.clone()).unwrap_or_default();
        let open = slice.ends_with(')') && !slice.contains('(');
        r.start..r.end - usize::from(open)
    };
    for range in INTERNATIONAL.find_all(text) {
        let slice = text.get(range.clone()).unwrap_or_default();
        let sure = if slice.starts_with('+') { 0.9 } else { 0.75 };
        // Many numbers that start with `00` are not telephone numbers, so require groups.
        let grouped = slice.starts_with('+') || (slice.contains([' ', '-', '/']) && !touches_digits(text, &range));
        if (8..=15).contains(&(count(slice))) && grouped && stands_alone(text, &range) && !slice.contains("\n\n") {
            out.push(Match::new("PHONE", tidy(range.clone()), sure));
        }
    }
    for range in AMERICAN.find_all(text) {
        if stands_alone(text, &range)
            && !touches_digits(text, &range)
            && !matches!(before(text, range.start), Some('$' | '€' | '£'))
        {
            out.push(Match::new("PHONE", range.clone(), 0.85));
        }
    }
    for range in LABELLED.find_groups(text) {
        let slice = text.get(range.clone()).unwrap_or_default();
        if (7..=15).contains(&count(slice)) && stands_alone(text, &range) {
            out.push(Match::new("PHONE", tidy(range.clone()), 0.9));
        }
    }
}

/// Returns the end of a port number such as `:8080` that begins at `end`, or `end` itself if no port number begins
/// there.
fn with_port(text: &str, end: usize) -> usize {
    let rest = text.get(end..).and_then(|r| r.strip_prefix(':')).unwrap_or_default();
    let digits = rest.bytes().take(5).take_while(u8::is_ascii_digit).count();
    if digits > 0 { end + 1 + digits } else { end }
}

fn addresses(text: &str, out: &mut Vec<Match>) {
    for range in IPV4.find_all(text) {
        let slice = text.get(range.clone()).unwrap_or_default();
        let octets: Vec<Option<u16>> = slice
            .split('.')
            .map(|o| if o.len() > 1 && o.starts_with('0') { None } else { o.parse().ok().filter(|&v| v <= 255) })
            .collect();
        let valid = octets.iter().all(Option::is_some);
        let words = label(text, range.start, 24);
        // 1.2.3.4 is more likely a section number. An octet of two digits or a preceding word such as "host" makes it
        // an address.
        let likely = octets.iter().flatten().any(|&o| o >= 10) || IP_LABEL.is_match(words);
        if valid
            && likely
            && !IPV4_NOT.is_match(words)
            && stands_alone(text, &(range.start..with_port(text, range.end)))
        {
            out.push(Match::new("IP_ADDRESS", range.clone(), 0.85));
        }
    }
    for range in IPV6.find_all(text) {
        let slice = text.get(range.clone()).unwrap_or_default();
        let slice = if slice.ends_with("::") { slice } else { slice.trim_end_matches(':') };
        let range = range.start..range.start + slice.len();
        let groups = slice.split(':').filter(|g| !g.is_empty()).count();
        let parsed = groups >= 3 && slice.contains(|c: char| c.is_ascii_digit()) && slice.parse::<Ipv6Addr>().is_ok();
        if parsed && stands_alone(text, &range) && before(text, range.start) != Some(':') {
            out.push(Match::new("IP_ADDRESS", range, 0.85));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::matches::joined;

    fn kinds(text: &str) -> Vec<(&'static str, &str)> {
        joined(find(text)).into_iter().map(|m| (m.kind, &text[m.range])).collect()
    }

    #[test]
    fn every_pattern_compiles() {
        for pattern in PATTERNS {
            assert!(pattern.is_valid());
        }
    }

    #[test]
    fn the_list_of_countries_is_sorted() {
        assert!(IBAN_LENGTHS.is_sorted());
    }

    #[test]
    fn personal_data_is_found_with_its_exact_place() {
        let cases: &[(&str, &str, &str)] = &[
            ("Write to jane.doe+x@example.co.uk, please.", "EMAIL", "jane.doe+x@example.co.uk"),
            ("<müller@bücher.example>", "EMAIL", "müller@bücher.example"),
            ("'a@b.io'", "EMAIL", "a@b.io"),
            ("call +1 415-555-2671 now", "PHONE", "+1 415-555-2671"),
            ("call +49 (0)30 901820.", "PHONE", "+49 (0)30 901820"),
            ("(415) 555-2671", "PHONE", "(415) 555-2671"),
            ("415-555-2671", "PHONE", "415-555-2671"),
            ("Tel.: 030 1234567", "PHONE", "030 1234567"),
            ("SSN 123-45-6789.", "SSN", "123-45-6789"),
            ("social security number 123 45 6789", "SSN", "123 45 6789"),
            ("card 4111 1111 1111 1111 exp", "CREDIT_CARD", "4111 1111 1111 1111"),
            ("order 55\n4111 1111 1111 1111\n12", "CREDIT_CARD", "4111 1111 1111 1111"),
            ("5500005555555559", "CREDIT_CARD", "5500005555555559"),
            ("3782-822463-10005", "CREDIT_CARD", "3782-822463-10005"),
            ("4111 1111 11\n11 1111", "CREDIT_CARD", "4111 1111 11\n11 1111"),
            ("IBAN DE89 3704 0044 0532 0130 00, BIC", "IBAN", "DE89 3704 0044 0532 0130 00"),
            ("GB82WEST12345698765432", "IBAN", "GB82WEST12345698765432"),
            ("from 192.168.10.1:8080", "IP_ADDRESS", "192.168.10.1"),
            ("at 2001:db8::8a2e:370:7334 and", "IP_ADDRESS", "2001:db8::8a2e:370:7334"),
            ("00:1B:44:11:3A:B7", "MAC_ADDRESS", "00:1B:44:11:3A:B7"),
            ("Date of birth: 12/03/1980", "DATE_OF_BIRTH", "12/03/1980"),
            ("NI QQ 12 34 56 C", "", ""),
            ("NI AB 12 34 56 C", "UK_NATIONAL_INSURANCE_NUMBER", "AB 12 34 56 C"),
            ("AKIAIOSFODNN7EXAMPLE", "AWS_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
        ];
        for (text, kind, expected) in cases {
            let want: Vec<(&str, &str)> = if kind.is_empty() { vec![] } else { vec![(kind, expected)] };
            assert_eq!(kinds(text), want, "{text:?}");
        }
    }

    #[test]
    fn numbers_that_are_no_personal_data_are_left_alone() {
        let cases = [
            "2014 | 600 | 600 | 2014 | 84 | 84",
            "200 300 4000\n415 555 2671\n212 555 1234",
            "revenue was 4,155,552,671 in 2017 and 123.456.789 later",
            "4500 3200 1800 2500 3100 4200 2800",
            "4111 1111 1111 1112",
            "1111 1111 1111 1111 and 0000000000000000",
            "ISBN 978-3-16-148410-0, doi 10.1000/182",
            "version 10.2.3.4, section 1.2.3.4",
            "999.999.999.999 and 1.2.3",
            "at 12:30:45, ratio 3:2:1, std::fs::read, a::b::c",
            "DE89 3704 0044 0532 0130 01",
            "000-12-3456, 666-12-3456, 912-34-5678, 123-00-4567",
            "Cell 2002 109 203 and Mobile 2019 (2020)",
            "part 123-45-67890 and 9123-45-6789",
            "a@b, @handle, x@y., user@localhost",
            "2017-12-31 to 2018-01-31",
            "$415-555-2671",
            "page 415-555",
            "3.14159265358979 and 1e10",
            "US12 and NO12 3456",
        ];
        for text in cases {
            assert_eq!(kinds(text), [], "{text:?}");
        }
    }
}
