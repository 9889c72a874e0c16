//! Writes small, valid PDFs that contain only text in Helvetica at given positions.
//!
//! Apart from the pages, a file has four objects (catalogue, two fonts, information) and a page tree. The tree is
//! balanced, because readers traverse a flat tree of thousands of pages slowly. Text is Latin-1, the part of Unicode
//! that the standard fonts display without an embedded font. Other characters become question marks.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Width of an A4 page, in points.
const WIDTH: u32 = 595;
const HEIGHT: u32 = 842;
const MARGIN: u32 = 72;
/// Maximum number of characters per line. At 10.5 points, the widest likely line still ends before the right margin.
const LINE: usize = 78;
const BODY: f32 = 10.5;
const HEADING: f32 = 17.0;
/// Maximum number of children of a node in the page tree.
const FAN_OUT: usize = 64;

const CATALOGUE: usize = 1;
const INFORMATION: usize = 2;
const REGULAR: usize = 3;
const BOLD: usize = 4;
const FIRST_FREE: usize = 5;

#[derive(Clone, Debug, PartialEq)]
struct PdfLine {
    text: String,
    bold: bool,
    size: f32,
    /// Distance from the upper edge of the page to the baseline, in points.
    down: f32,
}

/// Describes one page. Text is added below the existing text. There is no automatic page break, so text that does not
/// fit runs over the lower edge.
#[derive(Clone, Debug, PartialEq)]
pub struct PdfPage {
    lines: Vec<PdfLine>,
    down: f32,
}

impl Default for PdfPage {
    fn default() -> Self {
        Self { lines: Vec::new(), down: MARGIN as f32 }
    }
}

impl PdfPage {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line in large bold type.
    #[must_use]
    pub fn heading(mut self, text: &str) -> Self {
        self.down += HEADING;
        self.lines.push(PdfLine { text: text.to_owned(), bold: true, size: HEADING, down: self.down });
        self.down += 12.0;
        self
    }

    /// Breaks a text into lines at spaces, and adds the lines to the page. Then adds some vertical space.
    #[must_use]
    pub fn paragraph(mut self, text: &str) -> Self {
        for line in wrap(text, LINE) {
            self.down += BODY * 1.3;
            self.lines.push(PdfLine { text: line, bold: false, size: BODY, down: self.down });
        }
        self.down += 8.0;
        self
    }

    fn content(&self) -> Vec<u8> {
        // Each line is its own text object, because readers that use operators instead of positions break lines
        // there, too.
        let mut out = Vec::new();
        for line in &self.lines {
            let font = if line.bold { "B" } else { "R" };
            let y = HEIGHT as f32 - line.down;
            out.extend_from_slice(format!("BT /{font} {} Tf {MARGIN} {y:.1} Td (", line.size).as_bytes());
            out.extend_from_slice(&escape(&line.text));
            out.extend_from_slice(b") Tj ET\n");
        }
        out
    }
}

/// Describes a document with a title and pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pdf {
    title: String,
    pages: Vec<PdfPage>,
}

impl Pdf {
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), pages: Vec::new() }
    }

    #[must_use]
    pub fn page(mut self, page: PdfPage) -> Self {
        self.pages.push(page);
        self
    }

    /// Returns the file, with compressed page contents and a correct cross-reference table.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut objects = Objects::new();
        let contents: Vec<usize> = self
            .pages
            .iter()
            .map(|page| objects.add(stream("/Filter/FlateDecode", &deflate(&page.content()))))
            .collect();
        objects.finish_pages(&self.title, &contents)
    }
}

/// Collects the objects of a file. The numbers 1 to 4 belong to the catalogue, the document information and two
/// fonts; further objects are numbered from 5.
pub(crate) struct Objects {
    bodies: Vec<Vec<u8>>,
}

impl Objects {
    pub(crate) fn new() -> Self {
        let font =
            |name: &str| format!("<</Type/Font/Subtype/Type1/BaseFont/{name}/Encoding/WinAnsiEncoding>>").into_bytes();
        // The catalogue and the information follow at the end.
        Self { bodies: vec![Vec::new(), Vec::new(), font("Helvetica"), font("Helvetica-Bold")] }
    }

    /// Adds an object and returns its number.
    pub(crate) fn add(&mut self, body: impl Into<Vec<u8>>) -> usize {
        debug_assert!(self.bodies.len() + 1 >= FIRST_FREE, "the fixed objects come first");
        self.bodies.push(body.into());
        self.bodies.len()
    }

    /// Completes a file of pages: adds one page for each content stream, and the page tree above the pages. Returns
    /// the bytes of the file.
    pub(crate) fn finish_pages(mut self, title: &str, contents: &[usize]) -> Vec<u8> {
        // Each node names its parent, so all numbers are assigned before the bodies are written.
        let resources = format!("<</Font<</R {REGULAR} 0 R/B {BOLD} 0 R>>>>");
        let first_page = self.bodies.len() + 1;
        let mut levels = vec![(first_page..first_page + contents.len()).collect::<Vec<usize>>()];
        let mut next = first_page + contents.len();
        loop {
            let below = levels.last().map_or(0, Vec::len);
            let nodes = below.div_ceil(FAN_OUT).max(1);
            levels.push((next..next + nodes).collect());
            next += nodes;
            if nodes == 1 {
                break;
            }
        }
        let parent = |level: usize, place: usize| levels[level + 1][place / FAN_OUT];
        for (place, content) in contents.iter().enumerate() {
            self.add(format!(
                "<</Type/Page/Parent {} 0 R/MediaBox[0 0 {WIDTH} {HEIGHT}]/Resources {resources}/Contents {content} 0 R>>",
                parent(0, place)
            ));
        }
        let mut below = vec![1; contents.len()];
        for level in 1..levels.len() {
            let (children, nodes) = (&levels[level - 1], &levels[level]);
            let counts: Vec<usize> = if below.is_empty() {
                vec![0]
            } else {
                below.chunks(FAN_OUT).map(|counts| counts.iter().sum()).collect()
            };
            for (place, count) in counts.iter().enumerate() {
                let kids: String = children
                    .chunks(FAN_OUT)
                    .nth(place)
                    .unwrap_or_default()
                    .iter()
                    .map(|n| format!("{n} 0 R "))
                    .collect();
                let above =
                    if nodes.len() == 1 { String::new() } else { format!("/Parent {} 0 R", parent(level, place)) };
                self.add(format!("<</Type/Pages{above}/Count {count}/Kids[{kids}]>>"));
            }
            below = counts;
        }
        let root = self.bodies.len();
        self.finish(title, &format!("<</Type/Catalog/Pages {root} 0 R>>"))
    }

    /// Completes a file: adds the catalogue and the document information. Returns the bytes of the file.
    pub(crate) fn finish(mut self, title: &str, catalogue: &str) -> Vec<u8> {
        self.bodies[CATALOGUE - 1] = catalogue.as_bytes().to_vec();
        let mut information = b"<</Title(".to_vec();
        information.extend_from_slice(&escape(title));
        information.extend_from_slice(b")/Producer(docweir-testkit)/CreationDate(D:20250101090000Z)>>");
        self.bodies[INFORMATION - 1] = information;

        // The second line marks the file as binary for programs that copy it.
        let mut out = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
        let mut offsets = Vec::with_capacity(self.bodies.len());
        for (index, body) in self.bodies.iter().enumerate() {
            offsets.push(out.len());
            out.extend_from_slice(format!("{} 0 obj\n", index + 1).as_bytes());
            out.extend_from_slice(body);
            out.extend_from_slice(b"\nendobj\n");
        }
        let start = out.len();
        let size = self.bodies.len() + 1;
        out.extend_from_slice(format!("xref\n0 {size}\n0000000000 65535 f \n").as_bytes());
        for offset in offsets {
            out.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
        }
        let trailer = format!(
            "trailer\n<</Size {size}/Root {CATALOGUE} 0 R/Info {INFORMATION} 0 R>>\nstartxref\n{start}\n%%EOF\n"
        );
        out.extend_from_slice(trailer.as_bytes());
        out
    }
}

/// Returns a stream object whose dictionary has these entries.
pub(crate) fn stream(entries: &str, data: &[u8]) -> Vec<u8> {
    let mut out = format!("<<{entries}/Length {}>>\nstream\n", data.len()).into_bytes();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\nendstream");
    out
}

pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    match encoder.write_all(data).and_then(|()| encoder.finish()) {
        Ok(compressed) => compressed,
        Err(_) => unreachable!("writing to memory does not fail"),
    }
}

/// Encodes a text in Latin-1 as the content of a PDF string, without the parentheses.
fn escape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c)) {
            Ok(b @ (b'(' | b')' | b'\\')) => out.extend_from_slice(&[b'\\', b]),
            Ok(b @ (0x20..=0x7e | 0xa0..=0xff)) => out.push(b),
            _ => out.push(b'?'),
        }
    }
    out
}

/// Splits text at spaces into lines of at most `limit` characters. A word that is longer than `limit` gets its own
/// line.
fn wrap(text: &str, limit: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= limit => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_lose_no_word() {
        let text = "a bb ccc dddddddddddd e";
        assert_eq!(wrap(text, 6), ["a bb", "ccc", "dddddddddddd", "e"]);
        assert!(wrap("", 6).is_empty());
    }

    #[test]
    fn strings_are_escaped_and_keep_to_latin_1() {
        assert_eq!(escape(r"a(b)\c"), br"a\(b\)\\c");
        assert_eq!(escape("é€\n"), [0xe9, b'?', b'?']);
    }

    #[test]
    fn every_page_is_found_whatever_their_number() {
        for count in [0, 1, 2, 63, 64, 65, 128, 4097] {
            let mut pdf = Pdf::new("numbers");
            for n in 1..=count {
                pdf = pdf.page(PdfPage::new().paragraph(&format!("page number {n}")));
            }
            let read = lopdf::Document::load_mem(&pdf.to_bytes()).unwrap();
            assert_eq!(read.get_pages().len(), count, "{count} pages");
            if count > 0 {
                let last = u32::try_from(count).unwrap();
                assert_eq!(read.extract_text(&[last]).unwrap().trim(), format!("page number {count}"));
            }
        }
    }
}
