//! Stores the extracted text with an index that converts byte offsets to code point offsets and back.
//!
//! Sizes and spans are counted in code points, but slices need byte offsets. The index stores the number of code points
//! before every [`STRIDE`]-th byte, so each conversion is a look-up and a scan of at most one stride. The index takes
//! about one percent more memory.

const STRIDE: usize = 512;

pub struct Text {
    text: String,
    /// Number of code points that start before byte `i * STRIDE`.
    marks: Vec<u32>,
    chars: usize,
}

impl Text {
    pub fn new(text: String) -> Self {
        let mut marks = Vec::with_capacity(text.len() / STRIDE + 1);
        let mut chars = 0usize;
        for (i, byte) in text.bytes().enumerate() {
            if i % STRIDE == 0 {
                marks.push(u32::try_from(chars).unwrap_or(u32::MAX));
            }
            chars += usize::from(starts_char(byte));
        }
        Self { text, marks, chars }
    }

    /// Returns the text between two byte offsets, or an empty string if the range is invalid.
    pub fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// Returns the number of code points before byte `at`, which must be a character boundary.
    pub fn chars_before(&self, at: usize) -> usize {
        if at >= self.text.len() {
            return self.chars;
        }
        let mark = at / STRIDE;
        let counted = self.marks.get(mark).map_or(0, |&m| m as usize);
        let rest = self.text.as_bytes().get(mark * STRIDE..at).unwrap_or_default();
        counted + rest.iter().filter(|&&b| starts_char(b)).count()
    }

    pub fn chars_in(&self, start: usize, end: usize) -> usize {
        self.chars_before(end).saturating_sub(self.chars_before(start))
    }

    /// Returns the byte at which code point `n` starts, or the length of the text if the text has at most `n` code
    /// points.
    pub fn byte_of(&self, n: usize) -> usize {
        if n >= self.chars {
            return self.text.len();
        }
        let mark = self.marks.partition_point(|&m| m as usize <= n).saturating_sub(1);
        let mut seen = self.marks.get(mark).map_or(0, |&m| m as usize);
        let from = mark * STRIDE;
        for (i, &byte) in self.text.as_bytes().get(from..).unwrap_or_default().iter().enumerate() {
            if starts_char(byte) {
                if seen == n {
                    return from + i;
                }
                seen += 1;
            }
        }
        self.text.len()
    }

    /// Returns the nearest character boundary at or before byte `at`.
    pub fn floor(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// Returns the byte range without white space at its ends, or `None` if the range contains only white space.
    pub fn trimmed(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        let slice = self.slice(start, end);
        let head = slice.trim_start();
        let start = end - head.len();
        let len = head.trim_end().len();
        (len > 0).then_some((start, start + len))
    }
}

fn starts_char(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_code_points_agree_everywhere() {
        let text = "aé漢😀\u{301} \n".repeat(200);
        let index = Text::new(text.clone());
        for (n, (at, _)) in text.char_indices().enumerate() {
            assert_eq!(index.chars_before(at), n);
            assert_eq!(index.byte_of(n), at);
        }
        assert_eq!(index.chars_before(text.len()), text.chars().count());
        assert_eq!(index.byte_of(usize::MAX), text.len());
        assert_eq!(Text::new(String::new()).byte_of(0), 0);
    }

    #[test]
    fn trimming_keeps_positions() {
        let text = Text::new(" \n ab c\u{a0}\n".into());
        assert_eq!(text.trimmed(0, 10), Some((3, 7)));
        assert_eq!(text.trimmed(0, 3), None);
    }
}
