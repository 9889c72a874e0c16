//! Writes the result of extraction as objects under `extracted/{document_id}/`, and reads these objects back.
//!
//! `pages/page_{n}.md` contains only the text of a page; `metadata.json` contains everything else. Some fields of
//! `metadata.json` are for people and other tools (page, file, breadcrumbs, images, tables, start, end). Other fields
//! hold the position of every block, line and word, in columns of whole numbers. Positions are in hundredths of a
//! point, and each start is relative to the previous one. The numbers are therefore short: about 20 bytes per word.

use docweir_core::documents::{DocumentId, MediaType, Version};
use docweir_core::model::{
    Bbox, Block, BlockKind, DocumentInfo, ExtractedDocument, OutlineEntry, PAGE_SEPARATOR, Page, Placed, TableCell,
    TextRange,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::protocol::{kind_code, kind_of};

/// Version of the layout of `metadata.json`; a reader refuses a newer version.
const FORMAT: u32 = 1;

/// Reason why an artefact can't be read back.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ArtefactError {
    #[error("the artefact {key} is missing; extract the document again")]
    Missing { key: String },
    #[error("the artefact {key} is damaged ({why}); extract the document again")]
    Damaged { key: String, why: String },
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    format: u32,
    document_id: DocumentId,
    version: Version,
    media_type: MediaType,
    /// Separator that joins the texts of the pages. The fields `start` and `end` of a page are positions in the joined
    /// text.
    page_separator: String,
    info: DocumentInfo,
    outline: Vec<OutlineEntry>,
    notes: Vec<String>,
    pages: Vec<PageMetadata>,
}

#[derive(Serialize, Deserialize)]
struct PageMetadata {
    page: u32,
    file: String,
    /// Titles of the headings that apply at the start of the page, outermost first.
    breadcrumbs: Vec<String>,
    images: Vec<String>,
    /// Indexes of the tables among the page's blocks, counted from 0.
    tables: Vec<usize>,
    /// Position of the page in the extracted text, in Unicode code points; `end` is exclusive.
    start: u64,
    end: u64,
    start_byte: u64,
    end_byte: u64,
    /// Width of the page, in hundredths of a point. The height has the same unit.
    width: i64,
    height: i64,
    blocks: Blocks,
    lines: Columns,
    words: Columns,
    /// Absent in files that an earlier version wrote.
    #[serde(default, skip_serializing_if = "Cells::is_empty")]
    cells: Cells,
}

/// Stores blocks in columns. Values of `kind`: 0 paragraph, 1 list item, 2 table, 3 code, 4 quote, 5 figure, 6 page
/// furniture, and for a heading 16 plus its level.
#[derive(Default, Serialize, Deserialize)]
struct Blocks {
    kind: Vec<u8>,
    /// True for each block that has a box. `at` contains boxes only for these blocks.
    boxed: Vec<bool>,
    at: Columns,
}

/// Stores the cells of tables in columns. `block` is the index of the table among the page's blocks.
#[derive(Default, Serialize, Deserialize)]
struct Cells {
    block: Vec<u32>,
    row: Vec<u32>,
    column: Vec<u32>,
    rows: Vec<u32>,
    columns: Vec<u32>,
    /// True for each cell that has a box. `at` contains boxes only for these cells.
    boxed: Vec<bool>,
    at: Columns,
}

/// Stores ranges and boxes in columns, one column per number. `start` and `length` are in bytes; a start is relative
/// to the previous start. `x`, `y`, `w` and `h` are the left, top, width and height of a box, in hundredths of a
/// point. Left and top are relative to the previous box. There are fewer boxes than ranges if some blocks have no box.
#[derive(Default, Serialize, Deserialize)]
struct Columns {
    start: Vec<i64>,
    length: Vec<i64>,
    x: Vec<i64>,
    y: Vec<i64>,
    w: Vec<i64>,
    h: Vec<i64>,
}

fn hundredths(v: f32) -> i64 {
    (f64::from(v) * 100.0).round() as i64
}

fn points(v: i64) -> f32 {
    (v as f64 / 100.0) as f32
}

#[derive(Default)]
struct Last {
    start: i64,
    x: i64,
    y: i64,
}

impl Columns {
    fn push_range(&mut self, last: &mut Last, range: TextRange) {
        self.start.push(i64::from(range.start) - last.start);
        self.length.push(i64::from(range.end) - i64::from(range.start));
        last.start = i64::from(range.start);
    }

    fn push_box(&mut self, last: &mut Last, bbox: Bbox) {
        let [x0, y0, x1, y1] = bbox.map(hundredths);
        self.x.push(x0 - last.x);
        self.y.push(y0 - last.y);
        self.w.push(x1 - x0);
        self.h.push(y1 - y0);
        (last.x, last.y) = (x0, y0);
    }

    fn of(placed: &[Placed]) -> Self {
        let (mut columns, mut last) = (Self::default(), Last::default());
        for p in placed {
            columns.push_range(&mut last, p.range);
            columns.push_box(&mut last, p.bbox);
        }
        columns
    }

    fn ranges(&self, text: &str) -> Option<Vec<TextRange>> {
        let mut start = 0i64;
        let range = |(from, length): (&i64, &i64)| {
            start = start.checked_add(*from)?;
            let range =
                TextRange { start: u32::try_from(start).ok()?, end: u32::try_from(start.checked_add(*length)?).ok()? };
            text.get(range.start as usize..range.end as usize).map(|_| range)
        };
        let same = self.start.len() == self.length.len();
        self.start.iter().zip(&self.length).map(range).collect::<Option<_>>().filter(|_| same)
    }

    fn boxes(&self) -> Option<Vec<Bbox>> {
        let n = self.x.len();
        if [self.y.len(), self.w.len(), self.h.len()] != [n; 3] {
            return None;
        }
        let (mut x, mut y) = (0i64, 0i64);
        let make = |i: usize| {
            x = x.checked_add(self.x[i])?;
            y = y.checked_add(self.y[i])?;
            Some([points(x), points(y), points(x.checked_add(self.w[i])?), points(y.checked_add(self.h[i])?)])
        };
        (0..n).map(make).collect()
    }

    fn placed(&self, text: &str) -> Option<Vec<Placed>> {
        let (ranges, boxes) = (self.ranges(text)?, self.boxes()?);
        let same = ranges.len() == boxes.len();
        same.then(|| ranges.into_iter().zip(boxes).map(|(range, bbox)| Placed { range, bbox }).collect())
    }
}

impl Blocks {
    fn of(blocks: &[Block]) -> Self {
        let (mut out, mut last) = (Self::default(), Last::default());
        for block in blocks {
            out.kind.push(kind_code(block.kind));
            out.boxed.push(block.bbox.is_some());
            out.at.push_range(&mut last, block.range);
            if let Some(bbox) = block.bbox {
                out.at.push_box(&mut last, bbox);
            }
        }
        out
    }

    fn back(&self, text: &str) -> Option<Vec<Block>> {
        let (ranges, mut boxes) = (self.at.ranges(text)?, self.at.boxes()?.into_iter());
        if self.kind.len() != ranges.len() || self.boxed.len() != ranges.len() {
            return None;
        }
        let mut blocks = Vec::with_capacity(ranges.len());
        for ((&kind, &boxed), range) in self.kind.iter().zip(&self.boxed).zip(ranges) {
            let bbox = if boxed { Some(boxes.next()?) } else { None };
            blocks.push(Block { kind: kind_of(kind)?, range, bbox });
        }
        boxes.next().is_none().then_some(blocks)
    }
}

impl Cells {
    fn of(cells: &[TableCell]) -> Self {
        let (mut out, mut last) = (Self::default(), Last::default());
        for cell in cells {
            out.block.push(cell.block);
            out.row.push(cell.row);
            out.column.push(cell.column);
            out.rows.push(cell.rows);
            out.columns.push(cell.columns);
            out.boxed.push(cell.bbox.is_some());
            out.at.push_range(&mut last, cell.range);
            if let Some(bbox) = cell.bbox {
                out.at.push_box(&mut last, bbox);
            }
        }
        out
    }

    fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    fn back(&self, text: &str) -> Option<Vec<TableCell>> {
        let (ranges, mut boxes) = (self.at.ranges(text)?, self.at.boxes()?.into_iter());
        let n = ranges.len();
        if [&self.block, &self.row, &self.column, &self.rows, &self.columns].iter().any(|c| c.len() != n)
            || self.boxed.len() != n
        {
            return None;
        }
        let mut cells = Vec::with_capacity(n);
        for (i, range) in ranges.into_iter().enumerate() {
            let (rows, columns) = (self.rows[i], self.columns[i]);
            let bbox = if self.boxed[i] { Some(boxes.next()?) } else { None };
            let (block, row, column) = (self.block[i], self.row[i], self.column[i]);
            cells.push(TableCell { block, row, column, rows, columns, range, bbox });
        }
        boxes.next().is_none().then_some(cells)
    }
}

/// Returns the key prefix of all objects of a document.
fn folder(id: &DocumentId) -> String {
    format!("extracted/{id}")
}

fn page_file(number: u32) -> String {
    format!("pages/page_{number}.md")
}

/// Returns the objects of a document with their keys. The metadata comes last, so that a reader that finds the metadata
/// also finds all pages.
pub fn to_objects(document: &ExtractedDocument, id: &DocumentId, version: Version) -> Vec<(String, Vec<u8>)> {
    let mut objects = Vec::with_capacity(document.pages.len() + 1);
    let mut pages = Vec::with_capacity(document.pages.len());
    let mut path = HeadingPath::default();
    let (mut chars, mut bytes) = (0u64, 0u64);
    for (i, page) in document.pages.iter().enumerate() {
        if i > 0 {
            chars += PAGE_SEPARATOR.chars().count() as u64;
            bytes += PAGE_SEPARATOR.len() as u64;
        }
        let (length, size) = (page.text.chars().count() as u64, page.text.len() as u64);
        let table = |(i, b): (usize, &Block)| (b.kind == BlockKind::Table).then_some(i);
        pages.push(PageMetadata {
            page: page.number,
            file: page_file(page.number),
            breadcrumbs: path.at(page),
            images: Vec::new(),
            tables: page.blocks.iter().enumerate().filter_map(table).collect(),
            start: chars,
            end: chars + length,
            start_byte: bytes,
            end_byte: bytes + size,
            width: hundredths(page.width),
            height: hundredths(page.height),
            blocks: Blocks::of(&page.blocks),
            lines: Columns::of(&page.lines),
            words: Columns::of(&page.words),
            cells: Cells::of(&page.cells),
        });
        (chars, bytes) = (chars + length, bytes + size);
        objects.push((format!("{}/{}", folder(id), page_file(page.number)), page.text.clone().into_bytes()));
    }
    let metadata = Metadata {
        format: FORMAT,
        document_id: id.clone(),
        version,
        media_type: document.media_type,
        page_separator: PAGE_SEPARATOR.into(),
        info: document.info.clone(),
        outline: document.outline.clone(),
        notes: document.notes.clone(),
        pages,
    };
    // The value has only strings, numbers and lists, so serialising can't fail.
    let json = serde_json::to_vec(&metadata).unwrap_or_default();
    objects.push((format!("{}/metadata.json", folder(id)), json));
    objects
}

/// Tracks from page to page which headings apply.
#[derive(Default)]
struct HeadingPath(Vec<(u8, String)>);

impl HeadingPath {
    /// Returns the titles of the headings that apply at the start of the page, including headings that begin the page.
    /// Then advances to the end of the page.
    fn at(&mut self, page: &Page) -> Vec<String> {
        let mut here = None;
        for block in page.blocks.iter().filter(|b| b.kind != BlockKind::PageFurniture) {
            let heading = match block.kind {
                BlockKind::Heading { level } => Some(level),
                _ => None,
            };
            if heading.is_none() && here.is_none() {
                here = Some(self.titles());
            }
            if let Some(level) = heading {
                let raw = block.range.of(&page.text);
                let title = raw.lines().next().unwrap_or_default().trim_start_matches('#').trim();
                self.0.retain(|(l, _)| *l < level);
                self.0.push((level, title.to_owned()));
            }
        }
        here.unwrap_or_else(|| self.titles())
    }

    fn titles(&self) -> Vec<String> {
        self.0.iter().map(|(_, t)| t.clone()).collect()
    }
}

/// Reads a document from its objects. Returns the document, and the document version for which the objects were
/// written. Callers can compare this version with the version that they expect. `get` must return the content of the
/// object with a given key.
pub fn from_objects(
    id: &DocumentId,
    get: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<(ExtractedDocument, Version), ArtefactError> {
    let fetch = |key: String| get(&key).map(|c| (key.clone(), c)).ok_or(ArtefactError::Missing { key });
    let (key, json) = fetch(format!("{}/metadata.json", folder(id)))?;
    let damaged = |key: &str, why: String| ArtefactError::Damaged { key: key.into(), why };
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|e| damaged(&key, e.to_string()))?;
    if metadata.format > FORMAT {
        return Err(damaged(&key, format!("format {} is newer than the supported {FORMAT}", metadata.format)));
    }
    let mut pages = Vec::with_capacity(metadata.pages.len());
    for page in metadata.pages {
        let (file, text) = fetch(format!("{}/{}", folder(id), page_file(page.page)))?;
        let text = String::from_utf8(text).map_err(|e| damaged(&file, e.to_string()))?;
        let placed = |c: &Columns| c.placed(&text).ok_or_else(|| damaged(&key, format!("boxes on page {}", page.page)));
        let blocks = page.blocks.back(&text).ok_or_else(|| damaged(&key, format!("blocks of page {}", page.page)))?;
        let (lines, words) = (placed(&page.lines)?, placed(&page.words)?);
        let (width, height) = (points(page.width), points(page.height));
        let cells = page.cells.back(&text).ok_or_else(|| damaged(&key, format!("cells on page {}", page.page)))?;
        pages.push(Page { number: page.page, width, height, text, blocks, lines, words, cells });
    }
    let Metadata { media_type, info, outline, notes, version, .. } = metadata;
    Ok((ExtractedDocument { media_type, pages, info, outline, notes }, version))
}

#[cfg(test)]
mod tests {
    use super::super::pdf::render::hundredths as rounded;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn id() -> DocumentId {
        DocumentId::parse("doc_20260101_000000_00000001").unwrap()
    }

    /// Returns an empty and a filled cell for each table.
    fn cells(blocks: &[Block]) -> Vec<TableCell> {
        let tables = blocks.iter().zip(0u32..).filter(|(b, _)| b.kind == BlockKind::Table);
        tables
            .flat_map(|(b, block)| {
                let cell = |row, range, bbox| TableCell { block, row, column: 2, rows: 1, columns: 3, range, bbox };
                let nothing = TextRange { start: b.range.start, end: b.range.start };
                [cell(0, nothing, None), cell(1, b.range, b.bbox)]
            })
            .collect()
    }

    fn page(number: u32, words: &[(String, [f32; 4])], kinds: &[u8]) -> Page {
        let (mut text, mut placed, mut blocks) = (String::new(), Vec::new(), Vec::new());
        for (i, (word, bbox)) in words.iter().enumerate() {
            if i > 0 {
                text.push(' ');
            }
            let start = text.len() as u32;
            text.push_str(word);
            let range = TextRange { start, end: text.len() as u32 };
            placed.push(Placed { range, bbox: bbox.map(rounded) });
            let code = kinds.get(i).copied().unwrap_or(0);
            let bbox = (code % 2 == 0).then_some(bbox.map(rounded));
            blocks.push(Block { kind: kind_of(code).unwrap_or(BlockKind::Paragraph), range, bbox });
        }
        let lines = placed.iter().step_by(2).copied().collect();
        let cells = cells(&blocks);
        Page { number, width: 595.28, height: 841.89, text, blocks, lines, words: placed, cells }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            pages in prop::collection::vec(prop::collection::vec(("[a-zé漢]{1,9}", prop::array::uniform4(-2000f32..9000.0)), 0..30), 1..4),
            kinds in prop::collection::vec(0u8..24, 0..30),
            notes in prop::collection::vec(".{0,20}", 0..3),
            title in prop::option::of(".{0,20}"),
            version in any::<u64>(),
        ) {
            let document = ExtractedDocument {
                media_type: MediaType::Pdf,
                pages: pages.iter().zip(1..).map(|(w, n)| page(n, w, &kinds)).collect(),
                info: DocumentInfo { title, ..Default::default() },
                outline: vec![OutlineEntry { level: 1, title: "x".into(), page: None }],
                notes,
            };
            let objects: HashMap<String, Vec<u8>> = to_objects(&document, &id(), version).into_iter().collect();
            let (back, read_version) = from_objects(&id(), |key| objects.get(key).cloned()).unwrap();
            prop_assert_eq!(back, document);
            prop_assert_eq!(read_version, version);
        }
    }

    fn two_pages() -> Vec<(String, Vec<u8>)> {
        let word = |w: &str| (w.to_owned(), [0.0, 0.0, 1.0, 1.0]);
        let first = page(1, &[word("Näme"), word("text")], &[17, 0]);
        let second = page(2, &[word("cell"), word("Two"), word("more")], &[2, 18, 0]);
        let document = ExtractedDocument {
            media_type: MediaType::Pdf,
            pages: vec![first, second],
            info: DocumentInfo::default(),
            outline: vec![],
            notes: vec![],
        };
        to_objects(&document, &id(), 7)
    }

    #[test]
    fn the_layout_is_the_one_that_other_tools_know() {
        let objects = two_pages();
        let keys: Vec<&str> = objects.iter().map(|(k, _)| k.as_str()).collect();
        let base = "extracted/doc_20260101_000000_00000001";
        assert_eq!(
            keys,
            [format!("{base}/pages/page_1.md"), format!("{base}/pages/page_2.md"), format!("{base}/metadata.json")]
        );
        assert_eq!(objects[0].1, "Näme text".as_bytes());
        let json: serde_json::Value = serde_json::from_slice(&objects[2].1).unwrap();
        let second = &json["pages"][1];
        assert_eq!(second["page"], 2);
        assert_eq!(second["file"], "pages/page_2.md");
        assert_eq!(second["breadcrumbs"], serde_json::json!(["Näme"]));
        assert_eq!(second["tables"], serde_json::json!([0]));
        // Offset in code points: nine, and two of the separator. Offset in bytes: ten, and two.
        assert_eq!((&second["start"], &second["start_byte"]), (&11.into(), &12.into()));
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let objects: HashMap<String, Vec<u8>> = two_pages().into_iter().collect();
        for key in objects.keys() {
            let missing = from_objects(&id(), |k| (k != key).then(|| objects.get(k).cloned()).flatten());
            assert_eq!(missing.unwrap_err(), ArtefactError::Missing { key: key.clone() });
            let cut = from_objects(&id(), |k| {
                objects.get(k).map(|c| if k == key { c[..c.len() / 2].to_vec() } else { c.clone() })
            });
            assert!(matches!(cut.unwrap_err(), ArtefactError::Damaged { .. }), "{key}");
        }
    }
}
