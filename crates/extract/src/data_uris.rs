//! Removes the payloads of data URIs from a text, so that an embedded image never becomes text that is searched.
//!
//! `![a pump](data:image/png;base64,iVBOR…)` becomes `![a pump](data:image/png)`: the image keeps its place and its
//! description. This happens before the text is divided into blocks, because a payload with line breaks may look like
//! any kind of block. A payload is recognised by its form only, so it is removed from code and plain text too.
//!
//! Each search either consumes the text that it has read or stops at the next colon or quote, so the time is linear in
//! the size of the text.

/// Maximum length of the part of a data URI before the comma, in bytes.
const MAX_HEADER: usize = 200;
/// Minimum length of a base64 payload of an image, sound or font, in bytes. Shorter ones are examples in prose.
const MIN_MEDIA: usize = 16;
/// Minimum length of any other base64 payload, in bytes.
const MIN_BASE64: usize = 40;
/// Minimum length of a payload that is not in base64, in bytes.
const MIN_PLAIN: usize = 200;
/// Minimum length of the pieces of a base64 payload that has white space, in bytes. Words of prose are shorter.
const MIN_PIECE: usize = 16;
/// Minimum length of the first lines of a base64 payload without an end mark, in bytes.
const MIN_LINE: usize = 40;

/// Describes where the payload of a data URI is in its text.
struct DataUri {
    /// End of the part that stays, such as `data:image/png`.
    kept_end: usize,
    end: usize,
    /// Text that replaces the payload: the closing parenthesis of an image, if it is missing.
    closing: &'static str,
    image: bool,
    /// Size of the decoded payload in bytes, estimated from its length.
    bytes: usize,
}

/// Removes the payloads of all data URIs. Returns the text, and a note if anything was removed.
pub(super) fn without_payloads(text: String) -> (String, Option<String>) {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    let (mut images, mut others, mut bytes) = (0usize, 0usize, 0usize);
    // If no `</svg>` follows one position, none follows a later position.
    let mut svg_ends = true;
    while let Some(colon) = text.get(at..).and_then(|rest| rest.find(':')).map(|found| at + found) {
        at = colon + 1;
        let Some(uri) = data_uri(&text, colon, &mut svg_ends) else { continue };
        out.push_str(text.get(copied..uri.kept_end).unwrap_or_default());
        out.push_str(uri.closing);
        (copied, at) = (uri.end, uri.end.max(at));
        images += usize::from(uri.image);
        others += usize::from(!uri.image);
        bytes += uri.bytes;
    }
    if images + others == 0 {
        return (text, None);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    let what = if others == 0 { "images" } else { "images and files" };
    let note = format!("embedded {what} left out of the text: {} with {bytes} bytes in total", images + others);
    (out, Some(note))
}

/// Returns the data URI whose scheme ends at `colon`, or `None` if there is none that is long enough to be removed.
fn data_uri(text: &str, colon: usize, svg_ends: &mut bool) -> Option<DataUri> {
    let start = colon.checked_sub("data".len())?;
    let bytes = text.as_bytes();
    let scheme = bytes.get(start..colon)?;
    let before = start.checked_sub(1).and_then(|b| bytes.get(b)).copied();
    let inside_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/' | b'.'));
    if !scheme.eq_ignore_ascii_case(b"data") || inside_word {
        return None;
    }
    let header = Header::of(bytes, colon + 1)?;
    let close = match before {
        Some(b'(') => Some(b')'),
        Some(b'<') => Some(b'>'),
        Some(quote @ (b'"' | b'\'' | b'`')) => Some(quote),
        _ => None,
    };
    let (end, size) = if header.base64 {
        let end = base64_end(bytes, header.end, close);
        let length = bytes.get(header.end..end)?.iter().filter(|&&b| is_base64(b)).count();
        let enough = length >= if header.media { MIN_MEDIA } else { MIN_BASE64 };
        enough.then_some((end, length * 3 / 4))?
    } else {
        let end = plain_end(text, header.end, close, svg_ends);
        (end - header.end >= MIN_PLAIN).then_some((end, end - header.end))?
    };
    // An image without an end would swallow the rest of its line.
    let image_mark = close == Some(b')') && start.checked_sub(2).and_then(|b| bytes.get(b)) == Some(&b']');
    let ends = matches!(bytes.get(end), Some(b')' | b' ' | b'\t' | b'"' | b'\''))
        || bytes.get(end) == Some(&b'\n') && title_follows(bytes, end);
    let closing = if image_mark && !ends { ")" } else { "" };
    Some(DataUri { kept_end: header.type_end, end, closing, image: header.image, bytes: size })
}

/// Holds the part of a data URI between the scheme and the payload.
struct Header {
    /// End of the media type.
    type_end: usize,
    /// Start of the payload.
    end: usize,
    base64: bool,
    image: bool,
    /// True for images, sounds, videos and fonts.
    media: bool,
}

impl Header {
    fn of(bytes: &[u8], start: usize) -> Option<Self> {
        let window = bytes.get(start..bytes.len().min(start + MAX_HEADER))?;
        let comma = window.iter().position(|&b| matches!(b, b',' | b'\n'))?;
        let header = window.get(..comma).filter(|_| window.get(comma) == Some(&b','))?;
        let base64 = header.to_ascii_lowercase().trim_ascii_end().ends_with(b";base64");
        // Only the mark of base64 tells a URI with a blank from prose such as `data: a, b`.
        let blank = header.first() == Some(&b' ');
        let part = |b: u8| b.is_ascii_alphanumeric() || b"!#$&^_.+-/;=\"*' %".contains(&b);
        if (blank && !base64) || !header.iter().all(|&b| part(b)) {
            return None;
        }
        let type_length = header.iter().position(|&b| b == b';').unwrap_or(header.len());
        let media_type = header.get(..type_length)?.trim_ascii().to_ascii_lowercase();
        let valid = media_type.is_empty() || media_type.iter().filter(|&&b| b == b'/').count() == 1;
        if !valid || media_type.contains(&b' ') {
            return None;
        }
        let is = |prefix: &[u8]| media_type.starts_with(prefix);
        let image = is(b"image/");
        let media = image || is(b"audio/") || is(b"video/") || is(b"font/") || is(b"application/font");
        Some(Self { type_end: start + type_length, end: start + comma + 1, base64, image, media })
    }
}

/// Returns whether a byte may be part of a base64 payload, of which some characters may be percent-encoded.
fn is_base64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_' | b'%')
}

/// Returns the end of a base64 payload. `close` is the character that should follow the payload.
fn base64_end(bytes: &[u8], start: usize, close: Option<u8>) -> usize {
    let run = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().position(|&b| !is_base64(b)).unwrap_or(rest.len())
    };
    let blanks = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().position(|&b| !b.is_ascii_whitespace()).unwrap_or(rest.len())
    };
    if let Some(close) = close {
        let mut at = blanks(start);
        let (first, width) = (at, run(at) - at);
        let (mut last, mut wrapped) = (at..at, true);
        while run(at) > at {
            // All pieces but the last one have the same length.
            wrapped &= last.is_empty() || last.len() == width;
            last = at..run(at);
            at = blanks(last.end);
        }
        let one = last.start == first;
        let rest = bytes.get(last.clone()).unwrap_or_default();
        wrapped &= width >= MIN_PIECE && last.len() <= width && is_tail(rest);
        let titled = close == b')' && at > last.end && matches!(bytes.get(at), Some(b'"' | b'\''));
        if (bytes.get(at) == Some(&close) || titled) && (one || wrapped) {
            return if titled { last.end } else { at };
        }
    }
    lines_end(bytes, start, run, close)
}

/// Returns the end of a base64 payload that has no end mark. The payload goes on in the next line if that line is
/// nothing but base64.
fn lines_end(bytes: &[u8], start: usize, run: impl Fn(usize) -> usize, close: Option<u8>) -> usize {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let skip = |mut at: usize, quote: bool| {
        while blank(bytes.get(at)) || quote && bytes.get(at) == Some(&b'>') {
            at += 1;
        }
        at
    };
    let mut end = run(skip(start, false));
    let first = end - start;
    loop {
        let line_end = skip(end, false);
        if bytes.get(line_end) != Some(&b'\n') {
            return end;
        }
        let line = skip(line_end + 1, true);
        let next = run(line);
        let after = skip(next, false);
        let alone =
            matches!(bytes.get(after), None | Some(b'\n')) || close.is_some() && bytes.get(next) == close.as_ref();
        let (length, text) = (next - line, bytes.get(line..next).unwrap_or_default());
        let goes_on = length >= MIN_LINE || (first >= MIN_LINE && length <= first && is_tail(text));
        if length == 0 || !alone || !goes_on {
            return end;
        }
        end = next;
    }
}

/// Returns whether a piece of text may be the last line of a base64 payload. A short line must not look like a word.
fn is_tail(text: &[u8]) -> bool {
    text.len() >= MIN_LINE
        || text.len() > 1 && text.iter().any(|b| b.is_ascii_digit() || matches!(b, b'+' | b'/' | b'='))
        || text.windows(2).any(|w| matches!(w, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()))
}

/// Returns the end of a payload that is not in base64.
fn plain_end(text: &str, start: usize, close: Option<u8>, svg_ends: &mut bool) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let is_svg = rest.get(..4).is_some_and(|s| s.eq_ignore_ascii_case("<svg"));
    if is_svg && *svg_ends {
        match rest.find("</svg>") {
            Some(found) => return start + found + "</svg>".len(),
            None => *svg_ends = false,
        }
    }
    let mut depth = 0usize;
    let mut before = 0;
    for (at, b) in rest.bytes().enumerate() {
        let ends = match (close, b) {
            (_, b'\n') if before == b'\n' => break,
            (Some(close @ (b'"' | b'\'' | b'`' | b'>')), b) => b == close,
            (Some(_), b'(') => {
                depth += 1;
                false
            }
            (Some(_), b')') if depth > 0 => {
                depth -= 1;
                false
            }
            (Some(close), b) => b == close || b.is_ascii_whitespace(),
            (None, b) => b.is_ascii_whitespace() || matches!(b, b'"' | b'>'),
        };
        if ends {
            return start + at;
        }
        before = b;
    }
    // Without its end mark, the payload ends at white space.
    start + rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len())
}

/// Returns whether the title of an image follows on the next line.
fn title_follows(bytes: &[u8], end: usize) -> bool {
    let rest = bytes.get(end..).unwrap_or_default().trim_ascii_start();
    matches!(rest.first(), Some(b'"' | b'\'' | b')'))
}

#[cfg(test)]
#[path = "data_uris_tests.rs"]
mod tests;
