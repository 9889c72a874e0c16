//! Puts the text that a PDF gives for a part of a page (`/ActualText`) in the place of the glyphs that show it.
//!
//! Producers give such a text for ligatures without a Unicode map, for words that are broken at the end of a line, and
//! for letters that are drawn as pictures.

use hayro_interpret::kurbo::Rect;

use super::device::Placed;

/// Maximum number of characters of one such text. It stands for a few words; a longer one describes the page.
pub(super) const MAX_CHARS: usize = 4000;

/// Holds a text and what the page draws for it.
pub(super) struct Replaced {
    /// Depth of the marked content to which the text belongs.
    pub depth: u32,
    pub text: String,
    pub glyphs: Vec<Shown>,
    /// Box of the pictures that are drawn for the text.
    pub pictures: Option<Rect>,
}

/// Describes a glyph that is drawn for the text.
pub(super) struct Shown {
    pub placed: Placed,
    pub font: u16,
    /// Text of the glyph itself; empty if it is not known.
    pub text: String,
}

/// Returns the texts to show in place of the glyphs, each with the glyphs whose place it takes. Returns `None` if the
/// glyphs should stay as they are, because they say the same on several lines.
pub(super) fn parts(replaced: &Replaced) -> Option<Vec<(String, std::ops::Range<usize>)>> {
    let glyphs = &replaced.glyphs;
    let mut lines: Vec<std::ops::Range<usize>> = Vec::new();
    for i in 0..glyphs.len() {
        match lines.last_mut().filter(|line| same_line(&glyphs[line.start].placed, &glyphs[i].placed)) {
            Some(line) => line.end = i + 1,
            None => lines.push(i..i + 1),
        }
    }
    let letters = |text: &mut dyn Iterator<Item = char>| -> String { text.filter(|c| c.is_alphanumeric()).collect() };
    let given = letters(&mut replaced.text.chars());
    let shown = letters(&mut glyphs.iter().flat_map(|g| g.text.chars()));
    // An empty text hides decoration such as the hyphen of a broken word, but never words.
    if given.is_empty() && shown.chars().count() > 2 {
        return None;
    }
    // A text that is far shorter than what is drawn belongs to a part whose end was lost.
    if shown.chars().count() > 3 * given.chars().count() + 20 {
        return None;
    }
    if lines.len() < 2 {
        return Some(lines.into_iter().map(|line| (replaced.text.clone(), line)).collect());
    }
    if given == shown {
        return None;
    }
    // The text is parted like its glyphs, at the nearest spaces.
    let chars: Vec<char> = replaced.text.chars().collect();
    let (mut out, mut from) = (Vec::new(), 0);
    let count = lines.len();
    for (k, line) in lines.into_iter().enumerate() {
        let ideal = chars.len() * line.end / glyphs.len();
        let space = (ideal..chars.len()).find(|&i| chars[i].is_whitespace()).map_or(chars.len(), |i| i + 1);
        let before = (from..ideal.min(chars.len())).rev().find(|&i| chars[i].is_whitespace()).map_or(from, |i| i + 1);
        let to = if k + 1 == count {
            chars.len()
        } else if ideal.saturating_sub(before) < space.saturating_sub(ideal) {
            before
        } else {
            space
        };
        out.push((chars[from..to.max(from)].iter().collect(), line));
        from = to.max(from);
    }
    Some(out)
}

fn same_line(a: &Placed, b: &Placed) -> bool {
    let (sin, cos) = f64::from(a.angle).to_radians().sin_cos();
    let across = |p: &Placed| p.at.y * cos - p.at.x * sin;
    a.angle == b.angle && (across(a) - across(b)).abs() < 0.5 * a.size.max(b.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hayro_interpret::kurbo::Point;

    /// Returns a text over lines of glyphs, each of which is ten points wide.
    fn replaced(text: &str, lines: &[&str]) -> Replaced {
        let glyph = |(line, i, c): (usize, usize, char)| Shown {
            placed: Placed { at: Point::new(10.0 * i as f64, 20.0 * line as f64), angle: 0, advance: 10.0, size: 10.0 },
            font: 0,
            text: if c == '?' { String::new() } else { c.to_string() },
        };
        let glyphs = lines.iter().enumerate().flat_map(|(l, t)| t.chars().enumerate().map(move |(i, c)| (l, i, c)));
        Replaced { depth: 1, text: text.into(), glyphs: glyphs.map(glyph).collect(), pictures: None }
    }

    fn texts(replaced: &Replaced) -> Option<Vec<String>> {
        parts(replaced).map(|parts| parts.into_iter().map(|(text, _)| text).collect())
    }

    #[test]
    fn a_text_takes_the_place_of_its_glyphs() {
        assert_eq!(texts(&replaced("ffi", &["?"])).unwrap(), ["ffi"]);
        assert_eq!(texts(&replaced("", &["-"])).unwrap(), [""]);
        assert_eq!(texts(&replaced("certified", &["cer-", "ti?ed"])).unwrap().concat(), "certified");
        assert_eq!(texts(&replaced("one two three", &["??? ???", "?????"])).unwrap(), ["one two ", "three"]);
        let prose = "a line of prose that nobody replaces";
        assert_eq!(texts(&replaced("A", &[prose, prose])), None, "a short text never hides much");
        assert_eq!(texts(&replaced("", &["words"])), None, "an empty text never hides words");
        assert_eq!(texts(&replaced("cer tified", &["cer-", "tified"])), None, "the glyphs say the same");
    }
}
