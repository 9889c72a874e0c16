//! Records the fonts of a document: the thickness of their strokes, and characters that the PDF does not give.

use std::collections::HashMap;
use std::hash::Hasher;

use hayro_interpret::font::OutlineGlyph;
use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::hayro_syntax::page::Resources;
use hayro_interpret::kurbo::Shape;

use super::unicode::Characters;

/// Maximum number of letters that are measured to determine the weight of a font.
const WEIGHT_SAMPLES: u32 = 12;

/// Records the fonts of a document and their stroke weights.
#[derive(Default)]
pub(super) struct Fonts {
    index: HashMap<u128, u16>,
    weights: Vec<Weight>,
    /// Characters of fonts with glyphs for which the PDF gives none.
    characters: HashMap<u16, Characters>,
}

/// Adds up the stroke thickness of a few letters of a font, in thousandths of the font size. A font's name is often
/// missing or wrong, so boldness is measured from outlines. For any letter, the stroke thickness is about
/// `2 · area / perimeter` of the letter's outline.
#[derive(Clone, Copy, Default)]
struct Weight {
    sum: f32,
    letters: u32,
    count: u32,
}

impl Fonts {
    pub fn of(&mut self, key: u128) -> u16 {
        let next = u16::try_from(self.index.len()).unwrap_or(u16::MAX);
        if next == u16::MAX {
            return self.index.get(&key).copied().unwrap_or_default();
        }
        let index = *self.index.entry(key).or_insert(next);
        if usize::from(index) == self.weights.len() {
            self.weights.push(Weight::default());
        }
        index
    }

    pub fn sample(&mut self, font: u16, letter: char, glyph: &OutlineGlyph) {
        let Some(weight) = self.weights.get_mut(usize::from(font)) else { return };
        let bit = match letter {
            'a'..='z' => 1u32 << (letter as u32 - 'a' as u32),
            'A'..='E' => 1 << (26 + letter as u32 - 'A' as u32),
            _ => return,
        };
        if weight.count >= WEIGHT_SAMPLES || weight.letters & bit != 0 {
            return;
        }
        weight.letters |= bit;
        let outline = glyph.outline();
        let perimeter = outline.perimeter(5.0);
        let thickness = 2.0 * outline.area().abs() / perimeter;
        if thickness.is_finite() && perimeter > 0.0 {
            weight.sum += thickness as f32;
            weight.count += 1;
        }
    }

    /// Returns the character of a glyph for which the PDF gives none.
    pub fn character(&mut self, font: u16, glyph: &OutlineGlyph, resources: &Resources<'_>) -> Option<BfString> {
        let known = self.characters.entry(font).or_insert_with(|| Characters::of(glyph, resources));
        known.character(glyph)
    }

    /// Returns the stroke thickness of a font in thousandths of the font size, or `None` if no letter could be
    /// measured.
    pub fn weight(&self, font: u16) -> Option<f32> {
        self.weights.get(usize::from(font)).filter(|w| w.count > 0).map(|w| w.sum / w.count as f32)
    }
}

/// Extracts the font's key from a glyph identifier, which exposes the key only through its `Hash` implementation. The
/// first `u128` that the identifier writes is the font's key; this hasher keeps that value and ignores the rest. The
/// interpreter offers no other key that is the same on all pages.
#[derive(Default)]
pub(super) struct ProgramKey(pub Option<u128>);

impl Hasher for ProgramKey {
    fn finish(&self) -> u64 {
        self.0.unwrap_or_default() as u64
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u128(&mut self, key: u128) {
        self.0.get_or_insert(key);
    }
}
