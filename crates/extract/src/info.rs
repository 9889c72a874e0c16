//! Reads the document information and the outline of a PDF with lopdf.
//!
//! lopdf reads the whole structure of a file into memory, and a few hundred hostile bytes can make it request a
//! gigabyte. lopdf therefore runs last, after all pages were sent. If it fails, panics or exceeds the memory limit of
//! the process, the document keeps its text. Only the document information and the outline are lost, and a note on the
//! document says so.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use encoding_rs::{UTF_16BE, UTF_16LE};
use lopdf::{Dictionary, Document, LoadOptions, Object, ObjectId};
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use docweir_core::model::{DocumentInfo, OutlineEntry};

use super::ExtractOptions;

/// Note on a document whose information and outline could not be read.
pub(super) const LOST: &str = "document information and outline could not be read";
/// Maximum decompressed size of an object stream, in bytes. Object streams are decoded while a document is loaded, and
/// real ones are smaller.
const MAX_STREAM_BYTES: usize = 64 * 1024 * 1024;
/// Maximum depth of nested references, and of name trees.
const MAX_DEPTH: usize = 24;
/// Maximum length, in characters, of one field of the document information or one title of the outline. The rest is
/// dropped.
const MAX_CHARS: usize = 2000;

/// Holds the result of [`read`]: the document information, the outline and the notes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Info {
    pub info: DocumentInfo,
    pub outline: Vec<OutlineEntry>,
    pub notes: Vec<String>,
}

/// Reads the document information and the outline. Never fails and never panics: after a failure, the result contains
/// only a note.
pub(super) fn read(bytes: &[u8], options: &ExtractOptions) -> Info {
    let found = catch_unwind(AssertUnwindSafe(|| load(bytes, options)));
    found.ok().flatten().unwrap_or_else(|| Info { notes: vec![LOST.into()], ..Default::default() })
}

fn load(bytes: &[u8], options: &ExtractOptions) -> Option<Info> {
    let load = LoadOptions {
        max_decompressed_size: Some(MAX_STREAM_BYTES),
        filter: Some(without_content),
        ..Default::default()
    };
    let document = Document::load_mem_with_options(bytes, load).ok()?;
    let mut notes = Vec::new();
    let outline = outline(&document, options.limits.outline_entries as usize, &mut notes);
    Some(Info { info: information(&document), outline, notes })
}

/// Removes the content of a stream (a page, image or font), because only the document's structure is needed. Object
/// streams and cross-reference streams keep their content. lopdf sometimes keeps the modified `object` and sometimes
/// the returned copy, so this function makes the two equal.
fn without_content(id: (u32, u16), object: &mut Object) -> Option<((u32, u16), Object)> {
    if let Object::Stream(stream) = object
        && !stream.dict.has_type(b"ObjStm")
        && !stream.dict.has_type(b"XRef")
    {
        stream.content = Vec::new();
    }
    Some((id, object.clone()))
}

fn resolved<'d>(document: &'d Document, object: &'d Object) -> Option<&'d Object> {
    document.dereference(object).ok().map(|(_, o)| o)
}

fn get<'d>(document: &'d Document, dict: &'d Dictionary, key: &[u8]) -> Option<&'d Object> {
    resolved(document, dict.get(key).ok()?)
}

fn dict<'d>(document: &'d Document, parent: &'d Dictionary, key: &[u8]) -> Option<&'d Dictionary> {
    get(document, parent, key)?.as_dict().ok()
}

// ---- information ----

fn information(document: &Document) -> DocumentInfo {
    let Some(info) = dict(document, &document.trailer, b"Info") else { return DocumentInfo::default() };
    let text = |key: &[u8]| {
        let text = text_string(get(document, info, key)?.as_str().ok()?);
        let text: String = text.trim().chars().take(MAX_CHARS).collect();
        (!text.is_empty()).then_some(text)
    };
    let date = |key: &[u8]| text(key).map(|d| date(&d).unwrap_or(d));
    DocumentInfo {
        title: text(b"Title"),
        author: text(b"Author"),
        subject: text(b"Subject"),
        keywords: text(b"Keywords"),
        creator: text(b"Creator"),
        producer: text(b"Producer"),
        created: date(b"CreationDate"),
        modified: date(b"ModDate"),
        ..DocumentInfo::default()
    }
}

/// Decodes a PDF text string. A byte order mark selects UTF-16 or UTF-8; without a mark, the string is UTF-8 if it is
/// valid UTF-8, or else PDFDocEncoding.
pub(super) fn text_string(bytes: &[u8]) -> String {
    let text = match bytes {
        [0xfe, 0xff, rest @ ..] => UTF_16BE.decode_without_bom_handling(rest).0.into_owned(),
        [0xff, 0xfe, rest @ ..] => UTF_16LE.decode_without_bom_handling(rest).0.into_owned(),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|&b| pdf_doc_encoding(b)).collect(),
        },
    };
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Decodes a byte of PDFDocEncoding. Only the bytes 0x18 to 0x1f and 0x80 to 0xa0 differ from Latin-1.
fn pdf_doc_encoding(byte: u8) -> char {
    const LOW: [char; 8] = ['˘', 'ˇ', 'ˆ', '˙', '˝', '˛', '˚', '˜'];
    const HIGH: [char; 33] = [
        '•', '†', '‡', '…', '—', '–', 'ƒ', '⁄', '‹', '›', '−', '‰', '„', '“', '”', '‘', '’', '‚', '™', 'ﬁ', 'ﬂ', 'Ł',
        'Œ', 'Š', 'Ÿ', 'Ž', 'ı', 'ł', 'œ', 'š', 'ž', '\u{fffd}', '€',
    ];
    match byte {
        0x18..=0x1f => LOW[usize::from(byte - 0x18)],
        0x80..=0xa0 => HIGH[usize::from(byte - 0x80)],
        b => char::from(b),
    }
}

/// Converts a date such as `D:20260102030405+01'00'` to RFC 3339. A missing part of the date or time gets the lowest
/// value of that part (month 1, hour 0). A missing time zone means UTC.
fn date(text: &str) -> Option<String> {
    let rest = text.strip_prefix("D:").unwrap_or(text);
    let digits: usize = rest.bytes().take_while(u8::is_ascii_digit).count().min(14);
    if digits < 4 {
        return None;
    }
    let field = |from: usize, to: usize, default: u8| -> Option<u8> {
        if digits >= to { rest.get(from..to)?.parse().ok() } else { Some(default) }
    };
    let year: i32 = rest.get(..4)?.parse().ok()?;
    let month = Month::try_from(field(4, 6, 1)?).ok()?;
    let day = Date::from_calendar_date(year, month, field(6, 8, 1)?).ok()?;
    let time = Time::from_hms(field(8, 10, 0)?, field(10, 12, 0)?, field(12, 14, 0)?).ok()?;
    let zone: String = rest.get(digits..)?.chars().filter(|c| *c != '\'' && *c != ':').collect();
    let offset = match zone.split_at_checked(1) {
        Some((sign @ ("+" | "-"), hm)) => {
            let hours: i8 = hm.get(..2)?.parse().ok()?;
            let minutes: i8 = hm.get(2..4).map_or(Some(0), |m| m.parse().ok())?;
            let sign = if sign == "-" { -1 } else { 1 };
            UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()?
        }
        _ => UtcOffset::UTC,
    };
    let at: OffsetDateTime = PrimitiveDateTime::new(day, time).assume_offset(offset);
    at.format(&Rfc3339).ok()
}

// ---- outline ----

fn outline(document: &Document, max: usize, notes: &mut Vec<String>) -> Vec<OutlineEntry> {
    let mut entries = Vec::new();
    let Some(catalog) = document.catalog().ok() else { return entries };
    let Some(root) = dict(document, catalog, b"Outlines") else { return entries };
    let pages: HashMap<ObjectId, u32> = document.get_pages().into_iter().map(|(n, id)| (id, n)).collect();
    let names = Names { document, catalog, max };
    let mut seen: HashSet<*const Dictionary> = HashSet::new();
    let mut stack: Vec<(u8, &Dictionary)> = dict(document, root, b"First").map(|d| (1, d)).into_iter().collect();
    while let Some((level, entry)) = stack.pop() {
        // A ring of links would never end.
        if !seen.insert(std::ptr::from_ref(entry)) {
            continue;
        }
        if entries.len() >= max {
            notes.push(format!("the outline has more than {max} entries: the rest was left out"));
            break;
        }
        if let Some(title) = get(document, entry, b"Title").and_then(|t| t.as_str().ok()) {
            let title: String = text_string(title).split_whitespace().collect::<Vec<_>>().join(" ");
            let title: String = title.chars().take(MAX_CHARS).collect();
            if !title.is_empty() {
                let page = destination(document, entry, &names).and_then(|id| pages.get(&id).copied());
                entries.push(OutlineEntry { level, title, page });
            }
        }
        stack.extend(dict(document, entry, b"Next").map(|d| (level, d)));
        stack.extend(dict(document, entry, b"First").map(|d| (level.saturating_add(1), d)));
    }
    entries
}

/// Returns the page to which an outline entry leads.
fn destination(document: &Document, entry: &Dictionary, names: &Names<'_>) -> Option<ObjectId> {
    let target = match get(document, entry, b"Dest") {
        Some(target) => target,
        None => {
            let action = dict(document, entry, b"A")?;
            let goes = get(document, action, b"S")?.as_name().ok()? == b"GoTo";
            goes.then(|| get(document, action, b"D")).flatten()?
        }
    };
    page_of(document, target).or_else(|| match target {
        Object::String(name, _) | Object::Name(name) => page_of(document, names.find(name)?),
        _ => None,
    })
}

fn page_of(document: &Document, target: &Object) -> Option<ObjectId> {
    let target = match target {
        Object::Dictionary(d) => get(document, d, b"D")?,
        other => other,
    };
    target.as_array().ok()?.first()?.as_reference().ok()
}

/// Finds named destinations. A PDF may store them in the dictionary `Dests` of its catalog or in the name tree
/// `Names`; both are searched.
struct Names<'d> {
    document: &'d Document,
    catalog: &'d Dictionary,
    /// Maximum number of name tree nodes that one search visits.
    max: usize,
}

impl<'d> Names<'d> {
    fn find(&self, name: &[u8]) -> Option<&'d Object> {
        let old = dict(self.document, self.catalog, b"Dests").and_then(|d| get(self.document, d, name));
        old.or_else(|| {
            let names = dict(self.document, self.catalog, b"Names")?;
            let mut left = self.max;
            self.search(dict(self.document, names, b"Dests")?, name, 0, &mut left)
        })
    }

    fn search(&self, node: &'d Dictionary, name: &[u8], depth: usize, left: &mut usize) -> Option<&'d Object> {
        *left = left.checked_sub(1)?;
        if depth > MAX_DEPTH {
            return None;
        }
        if let Some(limits) = get(self.document, node, b"Limits").and_then(|l| l.as_array().ok())
            && let [low, high, ..] = limits.as_slice()
            && let (Ok(low), Ok(high)) = (low.as_str(), high.as_str())
            && !(low..=high).contains(&name)
        {
            return None;
        }
        if let Some(pairs) = get(self.document, node, b"Names").and_then(|n| n.as_array().ok()) {
            let pair = pairs.chunks_exact(2).find(|p| p[0].as_str().is_ok_and(|k| k == name))?;
            return resolved(self.document, &pair[1]);
        }
        let kids = get(self.document, node, b"Kids")?.as_array().ok()?;
        kids.iter().find_map(|k| self.search(resolved(self.document, k)?.as_dict().ok()?, name, depth + 1, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_rfc_3339() {
        let table = [
            ("D:20260102030405+01'00'", Some("2026-01-02T03:04:05+01:00")),
            ("D:20260102030405-0530", Some("2026-01-02T03:04:05-05:30")),
            ("D:20260102030405Z", Some("2026-01-02T03:04:05Z")),
            ("D:2026", Some("2026-01-01T00:00:00Z")),
            ("20260102", Some("2026-01-02T00:00:00Z")),
            ("D:20261302", None),
            ("yesterday", None),
            ("", None),
        ];
        for (given, expected) in table {
            assert_eq!(date(given).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn text_strings_in_every_encoding() {
        assert_eq!(text_string(b"\xfe\xff\0C\0a\0f\0\xe9"), "Café");
        assert_eq!(text_string(b"\xff\xfeC\0a\0f\0\xe9\0"), "Café");
        assert_eq!(text_string(b"\xef\xbb\xbfCaf\xc3\xa9"), "Café");
        assert_eq!(text_string(b"Caf\xe9 \x8dx\x8e"), "Café “x”");
        assert_eq!(text_string(b"a\0b"), "ab");
    }

    #[test]
    fn garbage_loses_the_information_with_a_note() {
        let info = read(b"%PDF-1.4 garbage", &ExtractOptions::default());
        assert_eq!(info, Info { notes: vec![LOST.into()], ..Default::default() });
    }
}
