//! Detects the type of a file from its first bytes.
//!
//! The content of a file decides. Its name is used only to distinguish Markdown from plain text, because the two look
//! alike. A file that is neither a PDF nor text is refused. The error describes what the content looks like, so that
//! users need not open the file.

use docweir_core::documents::MediaType;
use docweir_core::error::StageError;

use super::encoding::{Family, family, lossy_head};

/// Number of bytes that [`detect`] needs from the beginning of a file. If the file is shorter, [`detect`] needs all
/// of its bytes.
pub const HEAD_BYTES: usize = 8192;

/// Maximum distance, in bytes, from the start of a PDF file to the start of its header. Other bytes may precede the
/// header, because PDF viewers also accept files with such bytes.
const PDF_HEADER_WITHIN: usize = 1024;

/// Signatures of file types that are refused. Each entry has the first bytes of a file and a description of the type.
/// The first matching entry applies.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"RIFF", "a RIFF file (WebP, WAV or AVI)"),
    (b"PK\x03\x04", "a ZIP archive (such as DOCX, XLSX, PPTX, ODT or EPUB)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\0", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "an ELF program"),
    (b"MZ", "a Windows program"),
    (b"\xca\xfe\xba\xbe", "a Java class or a Mach-O program"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (b"\0asm", "a WebAssembly module"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office file (DOC, XLS, PPT)"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
];

/// Returns the media type of a file from the head of its content ([`HEAD_BYTES`]) and, for text only, from its name.
///
/// A head that may be text counts as text. Only the whole file shows in which encoding it is, so extraction decides
/// whether the text is readable.
///
/// # Errors
/// Returns the permanent error `empty_file` if the file is empty. Returns the permanent error `unknown_type`
/// if the content is neither a PDF nor text, or is an HTML page. The message of `unknown_type` describes the content.
pub fn detect(head: &[u8], name: Option<&str>) -> Result<MediaType, StageError> {
    if head.is_empty() {
        return Err(StageError::permanent("empty_file", "the file is empty: it has zero bytes"));
    }
    if contains(&head[..head.len().min(PDF_HEADER_WITHIN + 5)], b"%PDF-") {
        return Ok(MediaType::Pdf);
    }
    // If the head is full, more bytes may follow, and the last character may be incomplete.
    let encoding = family(head, head.len() >= HEAD_BYTES);
    if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        // Two or three letters are not enough: a text may begin with the same letters.
        let short = matches!(head, [b'M', b'Z', ..] | [b'B', b'Z', b'h', ..] | [b'I', b'D', b'3', ..]);
        if !(short && encoding == Some(Family::Utf8)) {
            return Err(unknown(what));
        }
    }
    let markdown = is_markdown_name(name);
    let Some(encoding) = encoding else {
        return Err(unknown("binary data of no known type"));
    };
    if !markdown && looks_like_html(&lossy_head(head, encoding)) {
        return Err(unknown("an HTML page"));
    }
    Ok(if markdown { MediaType::Markdown } else { MediaType::Text })
}

fn unknown(what: &str) -> StageError {
    let message =
        format!("the file is neither a PDF nor text: it looks like {what}; convert the file to PDF or leave it out");
    StageError::permanent("unknown_type", message)
}

fn is_markdown_name(name: Option<&str>) -> bool {
    let extension = name.and_then(|n| n.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase());
    matches!(extension.as_deref(), Some("md" | "markdown"))
}

fn looks_like_html(head: &str) -> bool {
    let start = head.trim_start();
    let begins = |tag: &str| start.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag));
    begins("<!doctype html") || begins("<html")
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_decides_and_the_name_only_tells_markdown_from_text() {
        let junk = [&[b'x'; 1019][..], b"%PDF-1.4"].concat();
        let table: &[(&[u8], Option<&str>, MediaType)] = &[
            (b"%PDF-1.7\n", Some("a.txt"), MediaType::Pdf),
            (&junk, None, MediaType::Pdf),
            (b"hello\n", None, MediaType::Text),
            (b"# hello\n", Some("README.MD"), MediaType::Markdown),
            (b"# hello\n", Some("x.markdown"), MediaType::Markdown),
            (b"# hello\n", Some("x.pdf"), MediaType::Text),
            (b"\xff\xfeh\0i\0", None, MediaType::Text),
            (b"\xfe\xff\0h\0i", None, MediaType::Text),
            (b"caf\xe9 \x93quoted\x94, na\xefve\n", None, MediaType::Text),
            ("größer — 你好".as_bytes(), None, MediaType::Text),
            (b"MZ is a monogram\n", None, MediaType::Text),
            (b"<html><b>in markdown</b>", Some("a.md"), MediaType::Markdown),
        ];
        for (head, name, expected) in table {
            assert_eq!(detect(head, *name).unwrap(), *expected, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn what_is_no_text_is_refused_by_what_it_looks_like() {
        let table: &[(&[u8], &str, &str)] = &[
            (b"", "empty_file", "zero bytes"),
            (b"\x89PNG\r\n\x1a\n....", "unknown_type", "PNG"),
            (b"PK\x03\x04....", "unknown_type", "DOCX"),
            (b"\x7fELF\x02\x01\x01\0", "unknown_type", "ELF"),
            (b"\x1f\x8b\x08\0", "unknown_type", "gzip"),
            (b"  <!DOCTYPE html><p>x", "unknown_type", "HTML"),
            (b"MZ\x90\0\x03\0\0", "unknown_type", "Windows program"),
            (b"a\0b\0c\xff\xfe\x01\x02", "unknown_type", "binary data"),
            (b"\x80\x81\x8d\x8f\x90\x9d\x01\x02", "unknown_type", "binary data"),
        ];
        for (head, code, says) in table {
            let error = detect(head, Some("x.pdf")).unwrap_err();
            assert_eq!(error.code, *code);
            assert!(error.message.contains(says), "{}", error.message);
        }
    }

    #[test]
    fn a_head_that_ends_inside_a_character_is_still_text() {
        let text = "ä".repeat(HEAD_BYTES);
        assert_eq!(detect(&text.as_bytes()[..HEAD_BYTES - 1], None).unwrap(), MediaType::Text);
    }
}
