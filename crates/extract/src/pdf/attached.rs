//! Finds what a PDF holds beside its pages: embedded files, forms of another kind, and layers that are not shown. They are
//! not read; the document's notes name them.

use hayro_interpret::hayro_syntax::Pdf;
use hayro_interpret::hayro_syntax::object::{Array, Dict, Object, String as PdfString};
use hayro_interpret::hayro_syntax::xref::XRef;

use super::super::info::text_string;
use super::annotations::{file_name, items};

/// Maximum depth and number of nodes of the tree of names.
const MAX_DEPTH: usize = 24;
const MAX_NODES: usize = 10_000;
/// Maximum number of names in a note.
const SHOWN: usize = 10;

/// Holds the names of what is not read.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub files: Vec<String>,
    /// True if the document has a form in XFA, which a viewer shows in place of the pages.
    pub xfa: bool,
    pub hidden_layers: Vec<String>,
}

impl Attached {
    pub fn of(pdf: &Pdf) -> Self {
        let Some(catalog) = catalog(pdf) else { return Self::default() };
        let mut files = Vec::new();
        let tree = catalog.get::<Dict<'_>>(b"Names".as_slice());
        if let Some(tree) = tree.and_then(|names| names.get::<Dict<'_>>(b"EmbeddedFiles".as_slice())) {
            let mut left = MAX_NODES;
            collect(&tree, pdf.xref(), 0, &mut left, &mut files);
        }
        let xfa = form(pdf).is_some_and(|form| form.contains_key(b"XFA".as_slice()));
        Self { files, xfa, hidden_layers: hidden_layers(&catalog, pdf.xref()) }
    }

    /// Returns the notes on the document.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.files.is_empty() {
            let count = match self.files.len() {
                1 => "1 attached file was not read".to_owned(),
                n => format!("{n} attached files were not read"),
            };
            notes.push(format!("{count}: {}; save them from the PDF and submit them to index them", list(&self.files)));
        }
        if self.xfa {
            let note = "the PDF holds an XFA form, of which only the fields that are also on its pages were read";
            notes.push(note.to_owned());
        }
        if !self.hidden_layers.is_empty() {
            notes.push(format!("layers that are not shown were left out: {}", list(&self.hidden_layers)));
        }
        notes
    }
}

/// Returns the catalog of a document.
pub(super) fn catalog(pdf: &Pdf) -> Option<Dict<'_>> {
    pdf.xref().get::<Dict<'_>>(pdf.xref().root_id())
}

/// Returns the form of a document.
pub(super) fn form(pdf: &Pdf) -> Option<Dict<'_>> {
    catalog(pdf)?.get::<Dict<'_>>(b"AcroForm".as_slice())
}

fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn collect<'a>(node: &Dict<'a>, xref: &'a XRef, depth: usize, left: &mut usize, files: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(names) = node.get::<Array<'_>>(b"Names".as_slice()) {
        let mut key = None;
        for item in items(&names, xref) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return;
            }
            match (key.take(), item) {
                (None, Object::String(name)) => key = Some(text_string(name.as_bytes())),
                (Some(name), Object::Dict(file)) => files.push(file_name(&file).unwrap_or(name)),
                _ => {}
            }
        }
    }
    let Some(kids) = node.get::<Array<'_>>(b"Kids".as_slice()) else { return };
    for kid in items(&kids, xref) {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return;
        }
        if let Object::Dict(kid) = kid {
            collect(&kid, xref, depth + 1, left, files);
        }
    }
}

/// Returns the names of the layers that are not shown when the document is opened.
fn hidden_layers<'a>(catalog: &Dict<'a>, xref: &'a XRef) -> Vec<String> {
    let Some(properties) = catalog.get::<Dict<'_>>(b"OCProperties".as_slice()) else { return Vec::new() };
    let Some(default) = properties.get::<Dict<'_>>(b"D".as_slice()) else { return Vec::new() };
    let Some(off) = default.get::<Array<'_>>(b"OFF".as_slice()) else { return Vec::new() };
    let name = |layer: Object<'_>| {
        let Object::Dict(layer) = layer else { return None };
        let name = layer.get::<PdfString<'_>>(b"Name".as_slice())?;
        Some(text_string(name.as_bytes()).chars().filter(|c| !c.is_control()).take(100).collect::<String>())
    };
    items(&off, xref).take(MAX_NODES).filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_name_what_is_not_read() {
        let names = |n: usize| (1..=n).map(|i| format!("{i}.txt")).collect::<Vec<_>>();
        let notes = |n| Attached { files: names(n), ..Default::default() }.notes();
        assert_eq!(notes(0), Vec::<String>::new());
        assert!(notes(1)[0].starts_with("1 attached file was not read: 1.txt;"), "{:?}", notes(1));
        assert!(notes(12)[0].starts_with("12 attached files were not read: 1.txt, 2.txt"), "{:?}", notes(12));
        assert!(notes(12)[0].contains("10.txt and 2 more"), "{:?}", notes(12));
    }
}
