//! Names the characters that have no visible form and do not separate words.

/// Returns whether a character has no visible form and does not separate words: soft hyphen, joiners, zero-width
/// spaces, bidirectional marks, variation selectors. Searches ignore such characters, because nobody types them.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{e0100}'..='\u{e01ef}')
}
