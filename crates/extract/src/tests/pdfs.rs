//! Tests extraction of generated PDFs, whose content is known and can be compared with the output.

use docweir_core::error::ErrorClass;
use docweir_core::model::{Block, BlockKind};

use super::super::*;

/// Writes a PDF whose pages have 600 × 800 points. `pages` holds the content stream of each page. `page_entries`,
/// `catalog` and `trailer` are entries to add to the dictionary of every page, of the catalog and of the trailer.
/// `objects` are further objects, numbered from 100.
pub(super) struct PdfWriter<'a> {
    pub pages: Vec<String>,
    pub page_entries: &'a str,
    pub catalog: &'a str,
    pub trailer: &'a str,
    pub objects: Vec<&'a str>,
}

impl PdfWriter<'_> {
    pub fn new(pages: Vec<String>) -> Self {
        Self { pages, page_entries: "", catalog: "", trailer: "", objects: Vec::new() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"%PDF-1.7\n".to_vec();
        let mut offsets: Vec<(usize, usize)> = Vec::new();
        let mut object = |out: &mut Vec<u8>, number: usize, body: &str| {
            offsets.push((number, out.len()));
            out.extend(format!("{number} 0 obj\n{body}\nendobj\n").bytes());
        };
        let kids: Vec<String> = (0..self.pages.len()).map(|i| format!("{} 0 R", 1000 + 2 * i)).collect();
        object(&mut out, 1, &format!("<< /Type /Catalog /Pages 2 0 R {} >>", self.catalog));
        object(&mut out, 2, &format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), kids.len()));
        object(&mut out, 3, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>");
        object(&mut out, 4, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>");
        for (i, body) in self.objects.iter().enumerate() {
            object(&mut out, 100 + i, body);
        }
        for (i, content) in self.pages.iter().enumerate() {
            let page = format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {} 0 R \
                 /Resources << /Font << /F 3 0 R /B 4 0 R >> >> {} >>",
                1001 + 2 * i,
                self.page_entries
            );
            object(&mut out, 1000 + 2 * i, &page);
            object(&mut out, 1001 + 2 * i, &format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
        }
        let start = out.len();
        let size = 1002 + 2 * self.pages.len();
        offsets.sort_unstable();
        out.extend(b"xref\n0 1\n0000000000 65535 f \n");
        for (number, offset) in offsets {
            out.extend(format!("{number} 1\n{offset:010} 00000 n \n").bytes());
        }
        let trailer = format!("trailer\n<< /Size {size} /Root 1 0 R {} >>\nstartxref\n{start}\n%%EOF\n", self.trailer);
        out.extend(trailer.bytes());
        out
    }
}

/// Returns a content stream that draws a text. The baseline is `y` points below the top edge of the page.
pub(super) fn show(font: &str, size: u32, x: u32, y: u32, text: &str) -> String {
    format!("BT /{font} {size} Tf {x} {} Td ({text}) Tj ET\n", 800 - y)
}

pub(super) fn prose(x: u32, y: u32, lines: u32, word: &str) -> String {
    (0..lines)
        .map(|i| show("F", 10, x, y + 12 * i, &format!("{word} line number {i} of some prose that is long enough")))
        .collect()
}

fn extract(bytes: Vec<u8>) -> ExtractedDocument {
    extract_in_process(bytes, MediaType::Pdf, &ExtractOptions::default()).unwrap()
}

fn refused(bytes: Vec<u8>, options: &ExtractOptions) -> StageError {
    extract_in_process(bytes, MediaType::Pdf, options).unwrap_err()
}

fn kinds(page: &Page) -> Vec<(BlockKind, &str)> {
    page.blocks.iter().map(|b: &Block| (b.kind, b.range.of(&page.text))).collect()
}

#[test]
fn text_comes_out_as_markdown_with_its_places() {
    let page = show("B", 20, 50, 60, "The Title")
        + &prose(50, 100, 3, "first")
        + &show("B", 10, 50, 160, "A bold heading")
        + &prose(50, 180, 3, "second")
        + &show("F", 10, 50, 240, "\\225 an item");
    let document = extract(PdfWriter::new(vec![page]).bytes());
    let page = &document.pages[0];
    assert_eq!((page.width, page.height), (600.0, 800.0));
    let found = kinds(page);
    assert_eq!(found[0], (BlockKind::Heading { level: 1 }, "# The Title"));
    assert_eq!(found[1].0, BlockKind::Paragraph);
    assert_eq!(found[2], (BlockKind::Heading { level: 2 }, "## A bold heading"));
    assert_eq!(found[4], (BlockKind::ListItem, "- an item"));
    assert_eq!(found[1].1.lines().count(), 3, "visual lines are kept");
    let title = page.words.iter().find(|w| w.range.of(&page.text) == "Title").unwrap();
    // Helvetica Bold: "The " is 61.1 + 61.1 + 55.6 + 27.8 hundredths of 20 points wide.
    assert!((title.bbox[0] - 91.1).abs() < 0.5, "{:?}", title.bbox);
    assert!((title.bbox[1]..title.bbox[3]).contains(&55.0), "{:?}", title.bbox);
}

#[test]
fn pages_turned_and_cropped_have_boxes_as_displayed() {
    for (entries, size, expected) in [
        ("/Rotate 90", (800.0, 600.0), [700.0, 50.0]),
        ("/Rotate 180", (600.0, 800.0), [550.0, 700.0]),
        ("/Rotate 270", (800.0, 600.0), [100.0, 550.0]),
        ("/CropBox [40 0 600 750]", (560.0, 750.0), [10.0, 50.0]),
    ] {
        let content = show("F", 10, 50, 100, "anchor");
        let mut writer = PdfWriter::new(vec![content]);
        writer.page_entries = entries;
        let document = extract(writer.bytes());
        let page = &document.pages[0];
        assert_eq!((page.width, page.height), size, "{entries}");
        assert_eq!(page.text, "anchor", "{entries}");
        // The origin of the text is at one corner of its box, except for a descender.
        let [x0, y0, x1, y1] = page.words[0].bbox;
        let near = |a: f32, b: f32, v: f32| (a - v).abs() < 8.0 || (b - v).abs() < 8.0;
        assert!(near(x0, x1, expected[0]) && near(y0, y1, expected[1]), "{entries}: {:?}", page.words[0].bbox);
    }
}

#[test]
fn invisible_text_counts_and_double_drawn_text_counts_once() {
    let page = format!(
        "3 Tr {} 0 Tr {}",
        show("F", 10, 50, 100, "hidden layer"),
        "BT /F 10 Tf 50 600 Td (bold) Tj 0.3 0 Td (bold) Tj ET"
    );
    let document = extract(PdfWriter::new(vec![page]).bytes());
    assert_eq!(document.pages[0].text, "hidden layer\n\nbold");
}

#[test]
fn running_heads_and_page_numbers_are_furniture() {
    let page = |n: u32| {
        show("F", 9, 250, 30, "A running head") + &prose(50, 100, 8, "body") + &show("F", 9, 295, 780, &format!("{n}"))
    };
    let document = extract(PdfWriter::new((1..=4).map(page).collect()).bytes());
    for page in &document.pages {
        let furniture: Vec<&str> =
            kinds(page).into_iter().filter(|(k, _)| *k == BlockKind::PageFurniture).map(|(_, t)| t).collect();
        // The first running head stays text, so that it can be found.
        let number = page.number.to_string();
        let expected = ["A running head", &number];
        assert_eq!(furniture, expected[usize::from(page.number == 1)..]);
    }
}

#[test]
fn a_ruled_table_becomes_a_pipe_table() {
    let mut page = String::from("0.5 w\n");
    for x in [50, 150, 250] {
        page += &format!("{x} 640 m {x} 700 l S\n");
    }
    for y in [640, 660, 680, 700] {
        page += &format!("50 {y} m 250 {y} l S\n");
    }
    for (row, cells) in [["name", "value"], ["a|b", "1"], ["c", "2"]].iter().enumerate() {
        for (column, text) in cells.iter().enumerate() {
            page += &show("F", 10, 55 + 100 * column as u32, 114 + 20 * row as u32, text);
        }
    }
    let document = extract(PdfWriter::new(vec![page + &prose(50, 300, 3, "after")]).bytes());
    let page = &document.pages[0];
    assert_eq!(kinds(page)[0], (BlockKind::Table, "| name | value |\n| --- | --- |\n| a\\|b | 1 |\n| c | 2 |"));
}

#[test]
fn information_and_outline_are_read_and_resolved() {
    let mut writer = PdfWriter::new(vec![prose(50, 100, 3, "one"), prose(50, 100, 3, "two")]);
    writer.trailer = "/Info 100 0 R";
    writer.catalog = "/Outlines 101 0 R";
    writer.objects = vec![
        "<< /Title (A title) /Author (\\376\\377\\0J\\0\\366) /CreationDate (D:20260102030405Z) /ModDate (once) >>",
        "<< /First 102 0 R /Last 103 0 R >>",
        "<< /Title (One) /Parent 101 0 R /Next 103 0 R /Dest [1000 0 R /Fit] /First 104 0 R >>",
        "<< /Title (Three) /Parent 101 0 R /Next 102 0 R /A << /S /URI /URI (http://x) >> >>",
        "<< /Title (Two) /Parent 102 0 R /A << /S /GoTo /D [1002 0 R /Fit] >> >>",
    ];
    let document = extract(writer.bytes());
    assert_eq!(document.info.title.as_deref(), Some("A title"));
    assert_eq!(document.info.author.as_deref(), Some("Jö"));
    assert_eq!(document.info.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!(document.info.modified.as_deref(), Some("once"));
    let outline: Vec<(u8, &str, Option<u32>)> =
        document.outline.iter().map(|e| (e.level, e.title.as_str(), e.page)).collect();
    // The ring from the third entry to the first ends by itself.
    assert_eq!(outline, [(1, "One", Some(1)), (2, "Two", Some(2)), (1, "Three", None)]);
    assert_eq!(document.notes, Vec::<String>::new());
}

#[test]
fn bad_files_are_refused_by_name() {
    let options = ExtractOptions::default();
    let good = PdfWriter::new(vec![prose(50, 100, 3, "one"), String::new()]).bytes();
    let two_glyphs =
        ExtractOptions { limits: ExtractLimits { glyphs_per_page: 2, ..Default::default() }, ..options.clone() };
    let one_page = ExtractOptions { limits: ExtractLimits { pages: 1, ..Default::default() }, ..options.clone() };
    let one_byte = ExtractOptions { limits: ExtractLimits { input_bytes: 1, ..Default::default() }, ..options.clone() };
    let mut locked = PdfWriter::new(vec![prose(50, 100, 3, "one")]);
    locked.trailer = "/ID [<00> <00>] /Encrypt << /Filter /Standard /V 2 /R 3 /Length 128 /P -1 \
                      /O <0000000000000000000000000000000000000000000000000000000000000000> \
                      /U <1111111111111111111111111111111111111111111111111111111111111111> >>";
    let table = [
        (Vec::new(), &options, "empty_file", "zero bytes"),
        (b"no such thing".to_vec(), &options, "not_a_pdf", "%PDF-"),
        (b"%PDF-1.7\n1 0 obj\n<< /Ty".to_vec(), &options, "damaged_pdf", "unreadable"),
        (PdfWriter::new(vec![]).bytes(), &options, "no_pages", "no pages"),
        (
            PdfWriter::new(vec![String::new(), "0 0 9 9 re f".into()]).bytes(),
            &options,
            "no_text",
            "none of the PDF's 2 pages",
        ),
        (good.clone(), &one_page, "too_many_pages", "extract.options.limits.pages"),
        (good.clone(), &one_byte, "input_too_large", "extract.options.limits.input_bytes"),
        (good.clone(), &two_glyphs, "page_too_large", "extract.options.limits.glyphs_per_page"),
        (locked.bytes(), &options, "encrypted", "password"),
    ];
    for (bytes, options, code, says) in table {
        let error = refused(bytes, options);
        assert_eq!((error.code.as_str(), error.class), (code, ErrorClass::Permanent), "{}", error.message);
        assert!(error.message.contains(says), "{}", error.message);
    }
}

/// Returns a PDF of some kilobytes whose forms draw each other: `levels` forms, each of which draws the next form twice.
/// The last form has the content `leaf`.
fn doubling_forms(levels: usize, leaf: &str) -> Vec<u8> {
    let forms: Vec<String> = (1..=levels)
        .map(|i| {
            let (resources, content) = match i == levels {
                true => ("<< /Font << /F 3 0 R >> >>".to_owned(), leaf.to_owned()),
                false => (format!("<< /XObject << /X {} 0 R >> >>", 100 + i), "/X Do /X Do".to_owned()),
            };
            let length = content.len();
            format!(
                "<< /Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources {resources} /Length {length} >>\n\
                 stream\n{content}\nendstream"
            )
        })
        .collect();
    let mut pdf = PdfWriter::new(vec!["/X Do".to_owned()]);
    pdf.page_entries = "/Resources << /XObject << /X 100 0 R >> >>";
    pdf.objects = forms.iter().map(String::as_str).collect();
    pdf.bytes()
}

#[test]
fn forms_that_draw_each_other_are_stopped_by_their_number() {
    let text = show("F", 10, 50, 100, "again");
    let document = extract(doubling_forms(5, &text));
    assert!(document.pages[0].text.contains("again"), "a few nested forms are read: {:?}", document.pages);
    for (leaf, key) in [(text.as_str(), "glyphs_per_page"), ("", "operations_per_page")] {
        let bytes = doubling_forms(30, leaf);
        assert!(bytes.len() < 10_000, "{}", bytes.len());
        let error = refused(bytes, &ExtractOptions::default());
        assert_eq!((error.code.as_str(), error.class), ("page_too_large", ErrorClass::Permanent));
        assert!(error.message.contains("page 1 ") && error.message.contains(key), "{}", error.message);
    }
}

#[test]
fn text_that_is_implausible_for_the_size_of_its_pdf_is_refused() {
    // Each of the font's codes stands for 32 characters, so 40 kB of codes would become 1.3 MB of text on each page.
    let map = format!(
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def \
         1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfchar <41> <{}> endbfchar endcmap end end",
        "0061".repeat(32)
    );
    let map = format!("<< /Length {} >>\nstream\n{map}\nendstream", map.len());
    let font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 101 0 R >>";
    let line = show("F", 10, 50, 100, &"A".repeat(40_000));
    let with_pages = |pages: usize| {
        let shared = format!("<< /Length {} >>\nstream\n{line}\nendstream", line.len());
        let mut pdf = PdfWriter::new(vec![String::new(); pages]);
        pdf.page_entries = "/Contents 102 0 R /Resources << /Font << /F 100 0 R >> >>";
        pdf.objects = vec![font, &map, &shared];
        pdf.bytes()
    };
    let few = extract(with_pages(2));
    assert!(few.pages[0].text.contains(&"a".repeat(32)), "the map is used");
    let bytes = with_pages(20);
    let error = refused(bytes.clone(), &ExtractOptions::default());
    assert_eq!((error.code.as_str(), error.class), ("too_much_text", ErrorClass::Permanent));
    assert!(error.message.contains("text_per_input_byte"), "{}", error.message);
    let more = ExtractOptions {
        limits: ExtractLimits { text_per_input_byte: 1_000, ..Default::default() },
        ..Default::default()
    };
    assert_eq!(extract_in_process(bytes, MediaType::Pdf, &more).unwrap().pages.len(), 20);
}

#[test]
fn textless_pages_are_noted_and_can_be_accepted() {
    let document = extract(PdfWriter::new(vec![String::new(), prose(50, 100, 3, "one"), String::new()]).bytes());
    assert_eq!(document.notes, ["text layer missing on pages 1, 3"]);
    assert_eq!(document.pages.len(), 3);
    let options = ExtractOptions { accept_textless: true, ..Default::default() };
    let scan = PdfWriter::new(vec![String::new()]).bytes();
    assert_eq!(extract_in_process(scan, MediaType::Pdf, &options).unwrap().pages[0].text, "");
}

#[test]
fn more_pages_than_a_window_come_out_in_order() {
    let document = extract(PdfWriter::new((0..130).map(|i| prose(50, 100, 2, &format!("p{i}"))).collect()).bytes());
    assert_eq!(document.pages.len(), 130);
    for (i, page) in document.pages.iter().enumerate() {
        assert_eq!(page.number as usize, i + 1);
        assert!(page.text.starts_with(&format!("p{i} ")), "{}", page.text);
    }
}
