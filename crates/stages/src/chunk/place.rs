//! Turns cuts (the ranges of text chosen by `pack`) into chunks: assigns ids, spans, pages and boxes.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use docweir_core::documents::{DocumentId, Sha256Hex};
use docweir_core::model::{
    Bbox, Chunk, ChunkKind, ExtractedDocument, PAGE_SEPARATOR, Page, PageBox, Span, TextRange, union,
};

use super::Text;
use super::pack::{Cut, Kinds};

/// Turns cuts (the ranges of text chosen by `pack`) into chunks. The cuts must be passed in document order.
pub struct Placer<'a> {
    doc: &'a ExtractedDocument,
    document: &'a DocumentId,
    text: &'a Text,
    /// Start of each page, as a byte offset in the extracted text.
    starts: Vec<usize>,
    /// Number of chunks made so far, by the hash of their heading path and content.
    seen: HashMap<String, u32>,
    next: u32,
}

impl<'a> Placer<'a> {
    pub fn new(doc: &'a ExtractedDocument, document: &'a DocumentId, text: &'a Text) -> Self {
        let starts = doc.pages.iter().scan(0, |at, page| {
            let start = *at;
            *at += page.text.len() + PAGE_SEPARATOR.len();
            Some(start)
        });
        Self { doc, document, text, starts: starts.collect(), seen: HashMap::new(), next: 0 }
    }

    pub fn chunk(&mut self, cut: &Cut, heading_path: Vec<String>) -> Chunk {
        let content = self.text.slice(cut.start, cut.end).to_owned();
        let id = self.id(&heading_path, &content);
        let ordinal = self.next;
        self.next += 1;
        let (first, last) = (self.page_at(cut.start), self.page_at(cut.end.saturating_sub(1)));
        let number = |i: usize| self.doc.pages.get(i).map_or(1, |p| p.number);
        Chunk {
            id,
            ordinal,
            kind: kind(cut.kind),
            heading_path,
            pages: (number(first), number(last)),
            span: Span {
                start: self.text.chars_before(cut.start) as u64,
                end: self.text.chars_before(cut.end) as u64,
                start_byte: cut.start as u64,
                end_byte: cut.end as u64,
            },
            boxes: (first..=last).flat_map(|i| self.boxes(i, cut)).collect(),
            tokens: u32::try_from(cut.tokens).unwrap_or(u32::MAX),
            findings: None,
            content,
        }
    }

    /// Returns an id made from the document id, a hash of heading path and content, and the number of earlier chunks
    /// with the same hash. A change elsewhere in the document keeps the id, unless the change adds or removes an
    /// earlier copy of the same passage.
    fn id(&mut self, path: &[String], content: &str) -> String {
        let mut hash = Sha256::new();
        for part in path {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.update(u64::MAX.to_le_bytes());
        hash.update(content.as_bytes());
        let hex = Sha256Hex::from_digest(&hash.finalize());
        let short = hex.as_str().get(..16).unwrap_or_default().to_owned();
        let occurrence = self.seen.entry(short.clone()).or_default();
        let id = format!("{}#{short}-{occurrence}", self.document);
        *occurrence += 1;
        id
    }

    fn page_at(&self, byte: usize) -> usize {
        self.starts.partition_point(|&s| s <= byte).saturating_sub(1)
    }

    fn boxes(&self, index: usize, cut: &Cut) -> Vec<PageBox> {
        let (Some(page), Some(&offset)) = (self.doc.pages.get(index), self.starts.get(index)) else {
            return Vec::new();
        };
        let (start, end) = (cut.start.saturating_sub(offset), cut.end.saturating_sub(offset).min(page.text.len()));
        columns(page, start, end).into_iter().map(|bbox| PageBox { page: page.number, bbox }).collect()
    }
}

/// Returns boxes that enclose the range of text on its page, one box per column of the page. The boxes of lines are
/// joined in reading order. A line that is above the previous line, and beside the previous line's column, begins a
/// new column. On a page without lines, the boxes of blocks are used instead.
fn columns(page: &Page, start: usize, end: usize) -> Vec<Bbox> {
    let touches = |r: TextRange| (r.start as usize) < end && start < r.end as usize;
    let lines = page.lines.iter().filter(|l| touches(l.range)).map(|l| l.bbox);
    let mut boxes: Vec<Bbox> = lines.filter(|b| b.iter().all(|v| v.is_finite())).collect();
    if boxes.is_empty() {
        let blocks = page.blocks.iter().filter(|b| touches(b.range)).filter_map(|b| b.bbox);
        boxes = blocks.filter(|b| b.iter().all(|v| v.is_finite())).collect();
    }
    let mut columns: Vec<Bbox> = Vec::new();
    let mut last: Option<Bbox> = None;
    for bbox in boxes {
        let jumps = last.is_some_and(|l| bbox[3] <= l[1]);
        let beside = columns.last().is_none_or(|c| bbox[0] >= c[2] || bbox[2] <= c[0]);
        match columns.last_mut() {
            Some(column) if !(jumps && beside) => *column = union(*column, bbox),
            _ => columns.push(bbox),
        }
        last = Some(bbox);
    }
    columns
}

fn kind(kinds: Kinds) -> ChunkKind {
    match kinds {
        Kinds { table: true, code: false, figure: false, other: false } => ChunkKind::Table,
        Kinds { table: false, code: true, figure: false, other: false } => ChunkKind::Code,
        Kinds { table: false, code: false, figure: true, other: false } => ChunkKind::Figure,
        _ => ChunkKind::Text,
    }
}
