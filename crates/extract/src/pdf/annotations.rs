//! Reads what stands on a page without being drawn there: values of form fields, comments of reviewers and attached files.
//!
//! Programs that fill in forms often store the values only. A viewer draws them when it shows the page, and so must an
//! extractor.

use std::collections::HashMap;

use hayro_interpret::hayro_syntax::object::{
    Array, Dict, MaybeRef, Name, Object, Rect as PdfRect, String as PdfString,
};
use hayro_interpret::hayro_syntax::xref::XRef;
use hayro_interpret::kurbo::{Affine, Rect};

use super::super::info::text_string;
use super::HayroPage;
use super::glyphs::Excess;

/// Maximum number of annotations of a page that are read.
const MAX_ANNOTATIONS: usize = 10_000;
/// Maximum depth of fields within fields.
const MAX_DEPTH: usize = 32;
/// Maximum number of options that count as chosen.
const MAX_CHOSEN: usize = 1000;
/// Maximum number of characters of a value or a comment.
const MAX_CHARS: usize = 20_000;

const HIDDEN: u32 = 1 << 1;
const NO_VIEW: u32 = 1 << 5;
const MULTILINE: u32 = 1 << 12;
const PASSWORD: u32 = 1 << 13;
const PUSH_BUTTON: u32 = 1 << 16;

/// Holds the annotations of a page.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    pub values: Vec<Value>,
    pub comments: Vec<Comment>,
    /// Names of files that are attached to the page.
    pub files: Vec<String>,
    /// Number of values and comments that are not read, because they are passwords or hidden.
    pub secret: u32,
    /// Number of bytes of the values and comments.
    bytes: usize,
}

impl Annotations {
    /// Returns the number of bytes of all texts.
    pub fn text_bytes(&self) -> u64 {
        (self.bytes + self.files.len() * 100) as u64
    }
}

/// Describes the value of a form field.
#[derive(Debug)]
pub(super) struct Value {
    pub text: String,
    /// Box of the field on the page as displayed, in points.
    pub rect: Rect,
    /// Font size in points, or 0 if it depends on the box.
    pub size: f64,
    pub multiline: bool,
    /// True if the value counts even if the page shows another text for the field.
    pub certain: bool,
}

/// Describes the comment of a reviewer.
#[derive(Debug)]
pub(super) struct Comment {
    pub author: String,
    pub text: String,
    /// True if the comment answers another one.
    pub reply: bool,
    pub rect: Rect,
}

/// Reads the annotations of a page. `form` is the form of the document, if it has one. `transform` leads from the page's
/// space to the page as displayed. `most` is the number of bytes that their text may have.
pub(super) fn read(page: &HayroPage<'_>, form: Option<&Dict<'_>>, transform: Affine, most: u64) -> Annotations {
    let mut found = Annotations::default();
    let Some(annotations) = page.raw().get::<Array<'_>>(b"Annots".as_slice()) else { return found };
    for annotation in items(&annotations, page.xref()).take(MAX_ANNOTATIONS) {
        // Whatever else stands in the list does not end it.
        let Object::Dict(annotation) = annotation else { continue };
        if found.text_bytes() > most {
            Excess::Text.stop();
        }
        let Some(rect) = annotation.get::<PdfRect>(b"Rect".as_slice()) else { continue };
        let rect = transform.transform_rect_bbox(Rect::new(rect.x0, rect.y0, rect.x1, rect.y1));
        if ![rect.x0, rect.y0, rect.x1, rect.y1].iter().all(|v| v.abs() < 1e6) {
            continue;
        }
        let hidden = annotation.get::<u32>(b"F".as_slice()).unwrap_or(0) & (HIDDEN | NO_VIEW) != 0;
        let subtype = name(&annotation, b"Subtype");
        // A viewer hides replies, and shows them in a list.
        let unseen = hidden && subtype != "Widget" && !annotation.contains_key(b"IRT".as_slice());
        if unseen && annotation.contains_key(b"Contents".as_slice()) {
            found.secret += 1;
            continue;
        }
        match subtype.as_str() {
            "Widget" => field(&annotation, form, rect, hidden, &mut found),
            "FreeText" if appearance(&annotation).is_none() => {
                if let Some(text) = text(&annotation, b"Contents") {
                    let size = font_size(&text_of(annotation.get::<PdfString<'_>>(b"DA".as_slice())));
                    found.bytes += text.len();
                    found.values.push(Value { text, rect, size, multiline: true, certain: true });
                }
            }
            // The page shows the text.
            "FreeText" | "Link" | "Popup" | "Screen" | "PrinterMark" | "TrapNet" | "Watermark" => {}
            subtype => {
                if subtype == "FileAttachment" {
                    let file = annotation.get::<Dict<'_>>(b"FS".as_slice());
                    found
                        .files
                        .push(file.as_ref().and_then(file_name).unwrap_or_else(|| "a file without a name".into()));
                }
                // An annotation with a state records a decision, such as `Accepted`, and not a comment.
                if annotation.contains_key(b"State".as_slice()) {
                    continue;
                }
                if let Some(text) = text(&annotation, b"Contents") {
                    let author = text_of(annotation.get::<PdfString<'_>>(b"T".as_slice()));
                    let reply = annotation.contains_key(b"IRT".as_slice());
                    found.bytes += text.len() + author.len();
                    found.comments.push(Comment { author, text, reply, rect });
                }
            }
        }
    }
    found
}

fn field(widget: &Dict<'_>, form: Option<&Dict<'_>>, rect: Rect, hidden: bool, found: &mut Annotations) {
    let kind = inherited::<Name<'_>>(widget, b"FT").map(|n| n.as_str().to_owned()).unwrap_or_default();
    let flags = inherited::<u32>(widget, b"Ff").unwrap_or(0);
    let size = inherited::<PdfString<'_>>(widget, b"DA").or_else(|| form?.get::<PdfString<'_>>(b"DA".as_slice()));
    let size = font_size(&text_of(size));
    let renewed = form.and_then(|f| f.get::<bool>(b"NeedAppearances".as_slice())).unwrap_or(false);
    let certain = renewed || appearance(widget).is_none();
    let text = match kind.as_str() {
        "Tx" => inherited::<Object<'_>>(widget, b"V").and_then(plain),
        "Ch" => chosen(widget),
        "Btn" if flags & PUSH_BUTTON != 0 => widget
            .get::<Dict<'_>>(b"MK".as_slice())
            .filter(|_| appearance(widget).is_none())
            .and_then(|look| text(&look, b"CA")),
        "Btn" => Some(if is_on(widget) { "[x]" } else { "[ ]" }.to_owned()),
        _ => None,
    };
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return };
    if hidden || (kind == "Tx" && flags & PASSWORD != 0) {
        // A box that nobody sees says nothing.
        found.secret += u32::from(kind != "Btn");
        return;
    }
    let multiline = kind == "Tx" && flags & MULTILINE != 0;
    found.bytes += text.len();
    found.values.push(Value { text, rect, size, multiline, certain: certain && kind != "Btn" });
}

/// Returns whether a check box or a radio button is chosen.
fn is_on(widget: &Dict<'_>) -> bool {
    match widget.get::<Name<'_>>(b"AS".as_slice()) {
        Some(state) => state.as_str() != "Off",
        // Without a state of its own, a button shares the value of its field: it is chosen if it has that state.
        None => inherited::<Name<'_>>(widget, b"V").is_some_and(|value| {
            let states = widget.get::<Dict<'_>>(b"AP".as_slice()).and_then(|ap| ap.get::<Dict<'_>>(b"N".as_slice()));
            value.as_str() != "Off" && states.is_none_or(|states| states.contains_key(value.as_ref()))
        }),
    }
}

/// Returns the chosen options as they are shown.
fn chosen(widget: &Dict<'_>) -> Option<String> {
    let values: Vec<String> = match inherited::<Object<'_>>(widget, b"V")? {
        Object::Array(values) => values.iter::<Object<'_>>().take(MAX_CHOSEN).filter_map(plain).collect(),
        value => plain(value).into_iter().collect(),
    };
    // An option may have a value of its own beside the text that is shown.
    let options = inherited::<Array<'_>>(widget, b"Opt");
    let pairs = options.iter().flat_map(|options| options.iter::<Object<'_>>()).filter_map(|option| match option {
        Object::Array(pair) => {
            let mut pair = pair.iter::<Object<'_>>().filter_map(plain);
            Some((pair.next()?, pair.next()?))
        }
        _ => None,
    });
    let pairs: HashMap<String, String> = pairs.take(MAX_ANNOTATIONS).collect();
    let mut text = String::new();
    for value in values {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(pairs.get(&value).unwrap_or(&value));
        if text.len() > MAX_CHARS {
            break;
        }
    }
    Some(cut(text))
}

/// Returns the items of an array. An item that cannot be read is left out and does not end the array.
pub(super) fn items<'a>(array: &Array<'a>, xref: &'a XRef) -> impl Iterator<Item = Object<'a>> {
    array.raw_iter().filter_map(|item| match item {
        MaybeRef::Ref(reference) => xref.get::<Object<'_>>(reference.into()),
        MaybeRef::NotRef(object) => Some(object),
    })
}

/// Returns a value that a field has itself or from the fields above it.
fn inherited<'a, T>(field: &Dict<'a>, key: &[u8]) -> Option<T>
where
    T: TryFrom<Object<'a>>,
{
    let mut at = field.clone();
    for _ in 0..MAX_DEPTH {
        if let Some(value) = at.get::<Object<'_>>(key) {
            return T::try_from(value).ok();
        }
        at = at.get::<Dict<'_>>(b"Parent".as_slice())?;
    }
    None
}

fn appearance<'a>(annotation: &Dict<'a>) -> Option<Object<'a>> {
    annotation.get::<Dict<'_>>(b"AP".as_slice())?.get::<Object<'_>>(b"N".as_slice())
}

/// Returns the text of a string, a name or a stream.
fn plain(value: Object<'_>) -> Option<String> {
    match value {
        Object::String(text) => Some(cut(text_string(text.as_bytes()))),
        Object::Name(name) => Some(name.as_str().to_owned()),
        Object::Stream(stream) => Some(cut(text_string(&stream.decoded_data().ok()?))),
        _ => None,
    }
}

fn text(dict: &Dict<'_>, key: &[u8]) -> Option<String> {
    let text = plain(dict.get::<Object<'_>>(key)?)?;
    Some(text).filter(|text| !text.trim().is_empty())
}

fn text_of(text: Option<PdfString<'_>>) -> String {
    text.map(|text| cut(text_string(text.as_bytes()))).unwrap_or_default()
}

fn name(dict: &Dict<'_>, key: &[u8]) -> String {
    dict.get::<Name<'_>>(key).map(|name| name.as_str().to_owned()).unwrap_or_default()
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

/// Returns the font size of a default appearance such as `/Helv 11 Tf 0 g`, or 0 if it has none.
fn font_size(appearance: &str) -> f64 {
    let parts: Vec<&str> = appearance.split_whitespace().collect();
    let at = parts.iter().position(|part| *part == "Tf").and_then(|i| i.checked_sub(1));
    at.and_then(|i| parts[i].parse().ok()).filter(|size: &f64| (1.0..=100.0).contains(size)).unwrap_or(0.0)
}

/// Returns the name of a file specification.
pub(super) fn file_name(file: &Dict<'_>) -> Option<String> {
    let of = |key: &[u8]| file.get::<PdfString<'_>>(key).map(|name| text_string(name.as_bytes()));
    let name = of(b"UF").or_else(|| of(b"F"))?;
    let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_default_appearances() {
        for (given, expected) in
            [("/Helv 11 Tf 0 g", 11.0), ("0 g /F1 9.5 Tf", 9.5), ("/Helv 0 Tf", 0.0), ("Tf", 0.0), ("", 0.0)]
        {
            assert_eq!(font_size(given), expected, "{given}");
        }
    }
}
