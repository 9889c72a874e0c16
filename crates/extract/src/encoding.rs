//! Determines the character encoding of a text file and decodes the file.
//!
//! The rules apply in this order: a byte order mark decides; valid UTF-8 is UTF-8; text that is UTF-8 except for a few
//! bytes stays UTF-8, and these bytes become U+FFFD; everything else is guessed from the whole text. A guess and every
//! replaced byte are noted on the document. A text that still looks wrong after decoding is refused, because an error
//! is easier to see than a wrong word in an index.
//!
//! Trade-off: most single-byte encodings accept any bytes, so a short text may be guessed wrongly. The note names the
//! encoding for that reason.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, ISO_2022_JP, UTF_16BE, UTF_16LE, WINDOWS_1252};

use docweir_core::error::StageError;

use super::plausible::{is_latin, is_plain, letters_outside_ascii, plausible};
use super::utf16;

/// Maximum number of invalid sequences that are replaced in any text that has more valid characters than that.
const HANDFUL: usize = 8;
/// Number of bytes that the detector receives at a time, so that they stay in the processor's cache.
const FEED_BYTES: usize = 16 * 1024;
/// Maximum number of accented letters of a text that is taken for Western European rather than for any other language
/// with Latin letters.
const FEW_LETTERS: usize = 2;
/// Maximum number of bytes at the end of a text that are ignored because they are an incomplete character.
const MAX_CUT_OFF: usize = 3;

/// Holds a decoded text and the notes about its encoding.
#[derive(Debug, PartialEq)]
pub(super) struct Decoded {
    pub text: String,
    pub notes: Vec<String>,
}

/// Names the group of encodings to which a text belongs, as far as this can be told without a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Utf8,
    Utf16 {
        little: bool,
        marked: bool,
    },
    Utf32 {
        little: bool,
    },
    /// Text in another encoding, or damaged UTF-8.
    Other,
}

/// Determines the family of a text from the whole text or its beginning. `cut` says that more bytes follow. Returns
/// `None` if the bytes are not text.
pub(super) fn family(bytes: &[u8], cut: bool) -> Option<Family> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] => return Some(Family::Utf32 { little: true }),
        [0, 0, 0xfe, 0xff, ..] => return Some(Family::Utf32 { little: false }),
        [0xff, 0xfe, ..] => return Some(Family::Utf16 { little: true, marked: true }),
        [0xfe, 0xff, ..] => return Some(Family::Utf16 { little: false, marked: true }),
        _ => {}
    }
    if is_binary(bytes) {
        return utf16::byte_order(bytes, cut).map(|little| Family::Utf16 { little, marked: false });
    }
    Some(match std::str::from_utf8(bytes) {
        Ok(_) => Family::Utf8,
        // The beginning of a file may end inside a character.
        Err(e) if cut && e.error_len().is_none() => Family::Utf8,
        Err(_) => Family::Other,
    })
}

/// Returns whether the bytes can't be a text whose ASCII characters are single bytes. Such a text has no NUL and at most
/// one control character in 200.
fn is_binary(bytes: &[u8]) -> bool {
    let control = |b: u8| (b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b)) || b == 0x7f;
    // Files from DOS end with this character.
    let bytes = bytes.strip_suffix(b"\x1a").unwrap_or(bytes);
    bytes.contains(&0) || bytes.iter().filter(|&&b| control(b)).count() * 200 > bytes.len()
}

/// Decodes the beginning of a text just well enough to look at its ASCII characters.
pub(super) fn lossy_head(bytes: &[u8], family: Family) -> String {
    match family {
        Family::Utf16 { little: true, .. } => UTF_16LE.decode_with_bom_removal(bytes).0.into_owned(),
        Family::Utf16 { little: false, .. } => UTF_16BE.decode_with_bom_removal(bytes).0.into_owned(),
        Family::Utf32 { little } => utf32(bytes, little).0,
        Family::Utf8 | Family::Other => String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned(),
    }
}

/// Decodes a whole text.
///
/// # Errors
/// Returns the permanent error `not_text` if the bytes are not text, and the permanent error `unknown_encoding` if the
/// encoding can't be determined.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, StageError> {
    let Some(family) = family(bytes, false) else {
        let message = "the file is not text: it contains NUL or control characters; convert it to text or leave it out";
        return Err(StageError::permanent("not_text", message));
    };
    match family {
        Family::Utf16 { little, marked } => {
            let encoding = if little { UTF_16LE } else { UTF_16BE };
            let decoded = with_replacements(&encoding.decode_with_bom_removal(bytes).0, encoding.name())?;
            Ok(if marked { decoded } else { guessed(decoded.text, encoding) })
        }
        Family::Utf32 { little } => {
            let (text, whole) = utf32(bytes, little);
            if whole { with_replacements(&text, "UTF-32") } else { Err(undetermined("UTF-32", None)) }
        }
        Family::Utf8 => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(utf8(bytes, text)),
            Err(_) => other(bytes),
        },
        Family::Other => other(bytes),
    }
}

fn utf8(bytes: &[u8], text: &str) -> Decoded {
    // A text in ISO-2022-JP consists of ASCII characters only. Its Japanese characters follow one of these sequences.
    let escapes = bytes.windows(3).any(|w| matches!(w, b"\x1b$B" | b"\x1b$@"));
    if escapes && let Some(japanese) = ISO_2022_JP.decode_without_bom_handling_and_without_replacement(bytes) {
        return guessed(japanese.into_owned(), ISO_2022_JP);
    }
    Decoded { text: text.to_owned(), notes: Vec::new() }
}

fn guessed(text: String, encoding: &'static Encoding) -> Decoded {
    let note = format!(
        "the text is not in UTF-8, and its encoding was guessed as {}: convert the file to UTF-8 if the text looks wrong",
        encoding.name()
    );
    Decoded { text, notes: vec![note] }
}

/// Returns a text that was decoded as its byte order mark says.
fn with_replacements(text: &str, encoding: &str) -> Result<Decoded, StageError> {
    let chars = text.chars().count();
    let replaced = text.chars().filter(|&c| c == char::REPLACEMENT_CHARACTER).count();
    let controls = text.chars().filter(|&c| c.is_control() && !c.is_whitespace()).count();
    if controls * 200 > chars || replaced * 100 > chars.max(HANDFUL * 100) || replaced * 2 > chars {
        return Err(undetermined(encoding, None));
    }
    let note = format!("invalid characters in {encoding} text, replaced by U+FFFD: at most {replaced}");
    Ok(Decoded { text: text.to_owned(), notes: if replaced > 0 { vec![note] } else { Vec::new() } })
}

/// Decodes UTF-32 and returns whether every character is valid.
fn utf32(bytes: &[u8], little: bool) -> (String, bool) {
    let units = bytes.chunks(4).map(|c| {
        let unit = <[u8; 4]>::try_from(c).ok()?;
        char::from_u32(if little { u32::from_le_bytes(unit) } else { u32::from_be_bytes(unit) })
    });
    let mut whole = true;
    let text = units.map(|unit| {
        whole &= unit.is_some();
        unit.unwrap_or(char::REPLACEMENT_CHARACTER)
    });
    let text: String = text.skip(1).collect();
    (text, whole)
}

/// Decodes a text that is not valid UTF-8.
fn other(bytes: &[u8]) -> Result<Decoded, StageError> {
    let damage = Damage::of(bytes);
    let bytes_alone = bytes.strip_prefix(b"\xef\xbb\xbf");
    if bytes_alone.is_some() || damage.is_slight() {
        return damage.repaired(bytes_alone.unwrap_or(bytes));
    }
    let guess = guess(bytes);
    let fits = guess.as_ref().is_some_and(|(text, encoding)| plausible(text, encoding));
    let one_byte = guess.as_ref().is_none_or(|(_, encoding)| encoding.is_single_byte());
    if damage.is_few_in_short_text() && (one_byte || !fits) {
        return damage.repaired(bytes);
    }
    // The UTF-8 in a mixed text would become garbage in any other encoding.
    if damage.valid >= 4 * damage.invalid {
        return Err(undetermined("UTF-8", Some(&damage)));
    }
    if !fits && let Some(decoded) = without_cut_off_character(bytes) {
        return Ok(decoded);
    }
    let latin = guess.as_ref().is_none_or(|(_, encoding)| is_latin(encoding));
    if damage.is_mixed(one_byte, latin) {
        return Err(undetermined("UTF-8", Some(&damage)));
    }
    match guess.filter(|_| fits) {
        Some((text, encoding)) => Ok(guessed(text, encoding)),
        None => Err(undetermined("", Some(&damage))),
    }
}

/// Decodes a text that ends inside a character. Returns `None` if the text is not readable without its last bytes.
fn without_cut_off_character(bytes: &[u8]) -> Option<Decoded> {
    (1..=MAX_CUT_OFF).find_map(|cut| {
        let (kept, dropped) = bytes.split_at_checked(bytes.len().checked_sub(cut)?)?;
        // The first byte of a character outside ASCII is never ASCII.
        dropped.first().filter(|&&b| b >= 0x80)?;
        let (text, encoding) = guess(kept).filter(|(text, encoding)| plausible(text, encoding))?;
        let mut decoded = (!encoding.is_single_byte()).then(|| guessed(text, encoding))?;
        decoded.notes.push(format!("the text ends inside a character: its last {cut} bytes were left out"));
        Some(decoded)
    })
}

/// Guesses the encoding of a text and decodes the text. Returns `None` if bytes of the text are invalid in the guessed
/// encoding.
fn guess(bytes: &[u8]) -> Option<(String, &'static Encoding)> {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    for chunk in bytes.chunks(FEED_BYTES) {
        detector.feed(chunk, false);
    }
    detector.feed(&[], true);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    // One or two accented letters prove no rare encoding.
    if encoding != WINDOWS_1252 && is_latin(encoding) {
        let western = WINDOWS_1252.decode_without_bom_handling(bytes).0;
        if letters_outside_ascii(&western) <= FEW_LETTERS && plausible(&western, WINDOWS_1252) && is_plain(&western) {
            return Some((western.into_owned(), WINDOWS_1252));
        }
    }
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
    Some((text.into_owned(), encoding))
}

/// Describes the bytes of a text that are not valid UTF-8.
#[derive(Debug, Default, PartialEq)]
struct Damage {
    /// Number of valid characters outside ASCII.
    valid: usize,
    /// Number of invalid sequences.
    invalid: usize,
    invalid_bytes: usize,
    /// Offset of the first invalid byte.
    first: usize,
    /// Line of the first invalid byte, counted from 1.
    line: usize,
}

impl Damage {
    fn of(bytes: &[u8]) -> Self {
        let (mut damage, mut at) = (Self::default(), 0);
        for chunk in bytes.utf8_chunks() {
            damage.valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
            at += chunk.valid().len();
            if !chunk.invalid().is_empty() {
                if damage.invalid == 0 {
                    damage.first = at;
                }
                damage.invalid += 1;
                damage.invalid_bytes += chunk.invalid().len();
                at += chunk.invalid().len();
            }
        }
        let before = bytes.get(..damage.first).unwrap_or_default();
        damage.line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        damage
    }

    /// Returns whether the text is certainly UTF-8 with a few bad bytes. Chinese text in GBK has valid sequences too,
    /// but never four times as many as invalid ones.
    fn is_slight(&self) -> bool {
        self.invalid * 100 <= self.valid || (self.invalid <= HANDFUL && self.valid >= 4 * self.invalid)
    }

    /// Returns whether the text has so few characters outside ASCII that their numbers alone prove little.
    fn is_few_in_short_text(&self) -> bool {
        self.invalid <= HANDFUL && self.valid >= self.invalid
    }

    /// Returns whether a text in UTF-8 and a text in a single-byte encoding were probably joined. In texts of one
    /// encoding with Latin letters, hardly any bytes happen to be valid UTF-8.
    fn is_mixed(&self, one_byte: bool, latin: bool) -> bool {
        (one_byte && self.valid >= self.invalid) || (latin && self.valid > HANDFUL && self.valid * 10 >= self.invalid)
    }

    fn repaired(&self, bytes: &[u8]) -> Result<Decoded, StageError> {
        if self.invalid > HANDFUL && self.invalid * 100 > self.valid {
            return Err(undetermined("UTF-8", Some(self)));
        }
        let note = format!(
            "invalid bytes in UTF-8 text, replaced by U+FFFD: {} bytes, the first one is byte {} on line {}",
            self.invalid_bytes,
            self.first + 1,
            self.line
        );
        Ok(Decoded { text: String::from_utf8_lossy(bytes).into_owned(), notes: vec![note] })
    }
}

fn undetermined(encoding: &str, damage: Option<&Damage>) -> StageError {
    let why = match (encoding, damage) {
        ("", Some(d)) => {
            format!("it is not UTF-8 (byte {} on line {} is invalid), and no other encoding fits", d.first + 1, d.line)
        }
        (encoding, Some(d)) => format!(
            "it looks like {encoding}, but {} bytes are invalid, the first one is byte {} on line {}",
            d.invalid_bytes,
            d.first + 1,
            d.line
        ),
        (encoding, None) => format!("its byte order mark says {encoding}, but its characters are invalid"),
    };
    let message = format!("the encoding of the text is unknown: {why}; convert the file to UTF-8");
    StageError::permanent("unknown_encoding", message)
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
