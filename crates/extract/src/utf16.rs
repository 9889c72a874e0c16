//! Recognises UTF-16 without a byte order mark.
//!
//! Such a text looks binary to every other encoding: its ASCII characters have a NUL beside them, and many others have a
//! control character beside them. The bytes are read in both byte orders. In the right order, nearly all characters are
//! ASCII, punctuation, or of one writing system. In the wrong order, they are scattered over all of Unicode.

/// Minimum share of characters, in percent, that must be ASCII, common, or of the most frequent writing system.
const COHERENT_PERCENT: usize = 98;
/// Minimum number of characters for a text that is not mostly ASCII.
const MIN_CHARS: usize = 8;

/// Returns the byte order of a text in UTF-16: `Some(true)` is little-endian. Returns `None` if the bytes are not such a
/// text, or if the byte order is uncertain. `cut` says that more bytes follow.
pub(super) fn byte_order(bytes: &[u8], cut: bool) -> Option<bool> {
    if bytes.len() % 2 == 1 && !cut {
        return None;
    }
    let little = Reading::of(bytes, u16::from_le_bytes, cut).filter(Reading::is_plausible);
    let big = Reading::of(bytes, u16::from_be_bytes, cut).filter(Reading::is_plausible);
    match (little, big) {
        (Some(_), None) => Some(true),
        (None, Some(_)) => Some(false),
        (Some(l), Some(b)) if l.plain() > 2 * b.plain() => Some(true),
        (Some(l), Some(b)) if b.plain() > 2 * l.plain() => Some(false),
        _ => None,
    }
}

/// Number of writing systems that [`system`] distinguishes.
const SYSTEMS: usize = 8;

/// Counts the characters of a text that was read in one byte order.
#[derive(Debug, Default)]
struct Reading {
    chars: usize,
    ascii: usize,
    /// Punctuation and symbols outside ASCII.
    common: usize,
    systems: [usize; SYSTEMS],
}

impl Reading {
    /// Returns `None` if the text has an unpaired surrogate or a control character.
    fn of(bytes: &[u8], unit: fn([u8; 2]) -> u16, cut: bool) -> Option<Self> {
        let units = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(unit);
        let mut chars = char::decode_utf16(units).peekable();
        let mut reading = Self::default();
        while let Some(c) = chars.next() {
            let Ok(c) = c else {
                // A character outside the basic plane may be cut in half at the end.
                return (cut && chars.peek().is_none()).then_some(reading);
            };
            reading.chars += 1;
            match c {
                '\t' | '\n' | '\r' | '\u{c}' | ' '..='~' => reading.ascii += 1,
                '\u{a0}'..='\u{bf}'
                | '\u{2010}'..='\u{206f}'
                | '\u{20a0}'..='\u{214f}'
                | '\u{2190}'..='\u{22ff}'
                | '\u{2500}'..='\u{27bf}'
                | '\u{3000}'..='\u{303f}'
                | '\u{ff00}'..='\u{ff60}'
                | '\u{1f300}'..='\u{1faff}'
                | '\u{feff}' => reading.common += 1,
                c if c.is_control() => return None,
                c => {
                    if let Some(count) = system(c).and_then(|s| reading.systems.get_mut(s)) {
                        *count += 1;
                    }
                }
            }
        }
        (reading.chars > 0).then_some(reading)
    }

    fn is_plausible(&self) -> bool {
        let main = self.systems.iter().max().copied().unwrap_or_default();
        let coherent = (self.ascii + self.common + main) * 100 >= self.chars * COHERENT_PERCENT;
        coherent && (self.ascii * 2 >= self.chars || self.chars >= MIN_CHARS)
    }

    fn plain(&self) -> usize {
        self.ascii + self.common
    }
}

/// Returns the number of the writing system of a letter.
fn system(c: char) -> Option<usize> {
    Some(match c {
        '\u{c0}'..='\u{2af}' | '\u{300}'..='\u{36f}' | '\u{1e00}'..='\u{1eff}' => 0,
        '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => 1,
        '\u{400}'..='\u{52f}' => 2,
        '\u{590}'..='\u{5ff}' => 3,
        '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}' => 4,
        '\u{900}'..='\u{dff}' => 5,
        '\u{e00}'..='\u{eff}' => 6,
        '\u{3041}'..='\u{30ff}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => 7,
        _ => return None,
    })
}
