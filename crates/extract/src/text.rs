//! Extracts plain text: decodes a file and splits the text into paragraphs at blank lines.
//!
//! The text stays verbatim with four exceptions: line ends become `\n`, control characters (including NUL) are removed,
//! characters without a visible form are removed where they change nothing, and data URIs lose their payload. A form feed
//! ends a page.

use docweir_core::documents::MediaType;
use docweir_core::error::StageError;
use docweir_core::invisible::is_invisible;
use docweir_core::model::{Block, BlockKind, DocumentInfo, ExtractedDocument, Page, TextRange};

use super::encoding::{self, Decoded};
use super::{ExtractOptions, data_uris};

/// Decodes the text of a file, and removes control characters and the payloads of data URIs.
pub(super) fn decode(bytes: &[u8], options: &ExtractOptions) -> Result<Decoded, StageError> {
    let limit = options.limits.text_bytes;
    if bytes.len() as u64 > limit {
        let message = format!(
            "the text has {} bytes, more than the limit of {limit}: raise `extract.options.limits.text_bytes` or split the file",
            bytes.len()
        );
        return Err(StageError::permanent("text_too_large", message));
    }
    let Decoded { text, mut notes } = encoding::decode(bytes)?;
    let (text, left_out) = data_uris::without_payloads(clean(&text));
    notes.extend(left_out);
    Ok(Decoded { text, notes })
}

fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push('\n');
            }
            '\t' | '\n' | '\u{c}' => out.push(c),
            c if c.is_control() => {}
            // A soft hyphen at the end of a line is a hyphen.
            '\u{ad}' if matches!(chars.peek(), Some('\r' | '\n')) => out.push(c),
            '\u{200c}' | '\u{200d}' if out.chars().next_back().is_some_and(needs_joiners) => out.push(c),
            c if is_invisible(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Returns whether a joiner after the character changes how the text is read: in Arabic, Indic and similar scripts, and
/// in emoji.
fn needs_joiners(c: char) -> bool {
    matches!(c, '\u{600}'..='\u{109f}' | '\u{1780}'..='\u{18af}' | '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}')
}

/// Extracts plain text. Each form feed begins a new page.
pub(super) fn extract(bytes: &[u8], options: &ExtractOptions) -> Result<ExtractedDocument, StageError> {
    let Decoded { text, notes } = decode(bytes, options)?;
    let parts: Vec<&str> = text.trim_end_matches('\u{c}').split('\u{c}').collect();
    if parts.len() as u64 > u64::from(options.limits.pages) {
        return Err(super::too_many_pages(parts.len(), options.limits.pages));
    }
    let pages = parts.into_iter().zip(1..).map(|(part, number)| page(number, part.to_owned(), paragraphs(part)));
    let document = ExtractedDocument {
        media_type: MediaType::Text,
        pages: pages.collect(),
        info: DocumentInfo::default(),
        outline: Vec::new(),
        notes,
    };
    super::refuse_without_text(document, options)
}

/// Returns a page without sizes and positions, for formats that have no layout.
pub(super) fn page(number: u32, text: String, blocks: Vec<Block>) -> Page {
    Page { number, width: 0.0, height: 0.0, text, blocks, lines: Vec::new(), words: Vec::new(), cells: Vec::new() }
}

/// Splits a text into paragraphs at blank lines.
fn paragraphs(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut start = None;
    let mut end = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            blocks.extend(start.take().map(|s| block(BlockKind::Paragraph, s, end)));
        } else {
            start.get_or_insert(at);
            end = at + line.trim_end().len();
        }
        at += line.len();
    }
    blocks.extend(start.map(|s| block(BlockKind::Paragraph, s, end)));
    blocks
}

/// Returns a block without a box. Callers limit texts to 1 GiB, so positions fit into 32 bits.
pub(super) fn block(kind: BlockKind, start: usize, end: usize) -> Block {
    Block { kind, range: TextRange { start: start as u32, end: end as u32 }, bbox: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> ExtractedDocument {
        extract(bytes, &ExtractOptions::default()).unwrap()
    }

    #[test]
    fn paragraphs_and_pages() {
        let document = run(b"one\r\ntwo\r\n\r\n   \nthree\n\x0cfour\n\x0c");
        assert_eq!(document.pages.len(), 2);
        let blocks = |n: usize| -> Vec<&str> {
            let page = &document.pages[n];
            page.blocks.iter().map(|b| b.range.of(&page.text)).collect()
        };
        assert_eq!(blocks(0), ["one\ntwo", "three"]);
        assert_eq!(blocks(1), ["four"]);
    }

    #[test]
    fn encodings_come_out_as_the_same_text() {
        let expected = "naïve “quotes”";
        let utf16: Vec<u8> =
            [0xfeff].into_iter().chain(expected.encode_utf16()).flat_map(|u: u16| u.to_le_bytes()).collect();
        for bytes in [
            expected.as_bytes(),
            &utf16,
            b"na\xefve \x93quotes\x94",
            b"\xef\xbb\xbfna\xc3\xafve \xe2\x80\x9cquotes\xe2\x80\x9d",
        ] {
            assert_eq!(run(bytes).pages[0].text, expected);
        }
    }

    #[test]
    fn characters_without_a_visible_form_are_removed_where_they_change_nothing() {
        for (given, expected) in [
            ("\u{feff}co\u{ad}op\u{200b}er\u{2060}ate", "cooperate"),
            ("\u{202a}left\u{202c} \u{200e}mark", "left mark"),
            ("漢\u{fe00}字\u{e0100} a\u{200d}b", "漢字 ab"),
            ("evapo\u{ad}\nration", "evapo\u{ad}\nration"),
            ("evapo\u{ad}\r\nration", "evapo\u{ad}\nration"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("क्\u{200d}ष", "क्\u{200d}ष"),
            ("👩\u{200d}🔬", "👩\u{200d}🔬"),
        ] {
            assert_eq!(run(given.as_bytes()).pages[0].text, expected, "{given:?}");
        }
    }

    #[test]
    fn refusals() {
        let limited = ExtractOptions {
            limits: super::super::ExtractLimits { text_bytes: 3, pages: 1, ..Default::default() },
            ..Default::default()
        };
        let code = |bytes: &[u8], o: &ExtractOptions| extract(bytes, o).unwrap_err().code;
        assert_eq!(code(b"four", &limited), "text_too_large");
        assert_eq!(code(b"a\x0cb", &limited), "too_many_pages");
        assert_eq!(code(b" \n \n", &ExtractOptions::default()), "no_text");
        assert_eq!(code(b"a\0b", &ExtractOptions::default()), "not_text");
    }

    #[test]
    fn one_huge_line_is_one_block() {
        let text = "word ".repeat(400_000);
        let document = run(text.as_bytes());
        assert_eq!(document.pages[0].blocks.len(), 1);
        assert_eq!(document.pages[0].blocks[0].range.of(&document.pages[0].text), text.trim_end());
    }
}
