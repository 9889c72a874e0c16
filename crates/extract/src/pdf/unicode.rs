//! Finds the characters of glyphs for which a PDF gives no Unicode map.
//!
//! Three sources are tried: the character map of the embedded font itself, read backwards; the character collection of a
//! CJK font (such as Adobe-Japan1), for which public tables give the characters; and the names of its glyphs. Only a
//! glyph that none of them knows is left out.

use std::collections::HashMap;

use hayro_interpret::font::OutlineGlyph;
use hayro_interpret::hayro_cmap::{BfString, CMap, CMapName, CidFamily, load_embedded};
use hayro_interpret::hayro_syntax::object::{Array, Dict, Name, Stream, String as PdfString};
use hayro_interpret::hayro_syntax::page::Resources;
use skrifa::{FontRef, GlyphNames, MetadataProvider};

/// Maximum number of characters of a font that are read.
const MAX_CHARACTERS: usize = 100_000;
/// Maximum depth of forms within forms in which fonts are looked for, and their maximum number.
const MAX_DEPTH: usize = 6;
const MAX_FORMS: usize = 200;

/// Knows the characters of the glyphs of one font.
#[derive(Default)]
pub(super) struct Characters {
    /// Characters by glyph, from the font's own character map.
    by_glyph: HashMap<u32, char>,
    collection: Option<Collection>,
}

/// Holds the tables of a character collection.
struct Collection {
    /// Gives the character identifier of a code. `None` if the code is the identifier.
    encoding: Option<CMap>,
    characters: CMap,
}

impl Characters {
    /// Reads the tables of the font of `glyph`. `resources` are those of the page on which it is drawn.
    pub fn of(glyph: &OutlineGlyph, resources: &Resources<'_>) -> Self {
        let Some(data) = glyph.font_data() else { return Self::default() };
        let bytes: &[u8] = (*data.data).as_ref();
        let by_glyph = FontRef::new(bytes).map(|font| by_glyph(&font)).unwrap_or_default();
        let mut forms = MAX_FORMS;
        let name = data.postscript_name.unwrap_or_default();
        let collection = composite(resources, &name, 0, &mut forms).and_then(|font| collection(&font));
        Self { by_glyph, collection }
    }

    /// Returns the character of a glyph, or `None` if it is not known.
    pub fn character(&self, glyph: &OutlineGlyph) -> Option<BfString> {
        let own = self.by_glyph.get(&glyph.glyph_id().to_u32()).copied().map(BfString::Char);
        own.or_else(|| self.collection.as_ref()?.character(glyph.char_code()))
    }
}

impl Collection {
    fn character(&self, code: u32) -> Option<BfString> {
        let cid = match &self.encoding {
            None => code,
            Some(encoding) => (1..=4).find_map(|bytes| encoding.lookup_cid_code(code, bytes))?,
        };
        self.characters.lookup_bf_string(cid)
    }
}

/// Returns the character of each glyph. Of several characters with one glyph, the first one that is no private character
/// counts.
fn by_glyph(font: &FontRef<'_>) -> HashMap<u32, char> {
    let mut characters: HashMap<u32, char> = HashMap::new();
    for (code, glyph) in font.charmap().mappings().take(MAX_CHARACTERS) {
        let Some(c) = char::from_u32(code).filter(|c| !is_private(*c)) else { continue };
        characters.entry(glyph.to_u32()).or_insert(c);
    }
    let names = GlyphNames::new(font);
    for (glyph, name) in names.iter().take(MAX_CHARACTERS) {
        if let Some(c) = named(name.as_str()) {
            characters.entry(glyph.to_u32()).or_insert(c);
        }
    }
    characters
}

fn is_private(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}') || c.is_control()
}

/// Returns the character of a glyph name with a code point, such as `uni0416` and `u1F600`.
fn named(name: &str) -> Option<char> {
    let name = name.split('.').next()?;
    let hex = name.strip_prefix("uni").filter(|h| h.len() == 4).or_else(|| name.strip_prefix('u'))?;
    let digits = (4..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    char::from_u32(u32::from_str_radix(hex, 16).ok().filter(|_| digits)?).filter(|c| !is_private(*c))
}

/// Returns the composite font of a name, from the resources of a page and the forms that it draws.
fn composite<'a>(resources: &Resources<'a>, name: &str, depth: usize, forms: &mut usize) -> Option<Dict<'a>> {
    let fonts = &resources.fonts;
    let named = fonts.keys().filter_map(|key| fonts.get::<Dict<'_>>(key)).find(|font| {
        let base = font.get::<Name<'_>>(b"BaseFont".as_slice());
        let base = base.as_ref().map(|b| b.as_str()).unwrap_or_default();
        // A subset has six letters before its name.
        let plain = base.split_once('+').filter(|(tag, _)| tag.len() == 6).map_or(base, |(_, plain)| plain);
        plain == name && font.get::<Array<'_>>(b"DescendantFonts".as_slice()).is_some()
    });
    if named.is_some() || depth >= MAX_DEPTH {
        return named;
    }
    let objects = &resources.x_objects;
    for key in objects.keys() {
        *forms = forms.checked_sub(1)?;
        let Some(form) = objects.get::<Stream<'_>>(key) else { continue };
        let Some(own) = form.dict().get::<Dict<'_>>(b"Resources".as_slice()) else { continue };
        if let Some(found) = composite(&Resources::new(own), name, depth + 1, forms) {
            return Some(found);
        }
    }
    None
}

/// Returns the tables of a composite font's character collection. `None` if it has none or an unknown one.
fn collection(font: &Dict<'_>) -> Option<Collection> {
    let descendant = font.get::<Array<'_>>(b"DescendantFonts".as_slice())?.iter::<Dict<'_>>().next()?;
    let system = descendant.get::<Dict<'_>>(b"CIDSystemInfo".as_slice())?;
    let text = |key: &[u8]| system.get::<PdfString<'_>>(key);
    let (registry, ordering) = (text(b"Registry")?, text(b"Ordering")?);
    let family = CidFamily::from_registry_ordering(registry.as_bytes(), ordering.as_bytes());
    let table = |name: CMapName<'_>| CMap::parse(load_embedded(name)?, load_embedded);
    let characters = table(family.ucs2_cmap()?)?;
    let encoding = match font.get::<Name<'_>>(b"Encoding".as_slice()) {
        Some(name) if name.as_str().starts_with("Identity") => None,
        Some(name) => Some(table(CMapName::from_bytes(name.as_str().as_bytes()))?),
        // An embedded table of codes.
        None => {
            let stream = font.get::<Stream<'_>>(b"Encoding".as_slice())?;
            Some(CMap::parse(&stream.decoded_data().ok()?, load_embedded)?)
        }
    };
    Some(Collection { encoding, characters })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_code_points() {
        for (name, expected) in [
            ("uni0416", Some('Ж')),
            ("u1F600", Some('😀')),
            ("uni0041.alt", Some('A')),
            ("uniE000", None),
            ("u12", None),
            ("uniform", None),
            ("glyph12", None),
        ] {
            assert_eq!(named(name), expected, "{name}");
        }
    }
}
