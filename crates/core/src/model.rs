//! Defines the artefacts that pass from stage to stage.
//!
//! ```text
//! file ──extract──▶ ExtractedDocument ──chunk──▶ Chunks ──enrich──▶ Chunks + findings ──embed──▶ + vectors ──load──▶ rows
//! ```
//! There are two kinds of positions. Within a page, ranges count UTF-8 bytes of the page's text. Within a document, a
//! [`Span`] counts both Unicode code points and bytes of the *extracted text*, which is the text of all pages, joined
//! by [`PAGE_SEPARATOR`]. Boxes are in points. The origin of a box's coordinates is the top left corner of the page
//! as displayed, and y grows downwards.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::documents::MediaType;
use crate::memory::heap_bytes;

/// Separator between two pages in the extracted text.
pub const PAGE_SEPARATOR: &str = "\n\n";

/// Names of metadata that Docweir sets on every row. A field of a document cannot have such a name.
pub const RESERVED_METADATA: &[&str] = &["media_type", "tenant"];

/// Box `[x0, y0, x1, y1]` in points. The origin is the top left corner of the page, and y grows downwards.
pub type Bbox = [f32; 4];

/// Returns the smallest box that contains both boxes.
pub fn union(a: Bbox, b: Bbox) -> Bbox {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

/// Delimits a half-open range of bytes in a page's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRange {
    pub start: u32,
    pub end: u32,
}

impl TextRange {
    pub fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Holds the result of extracting one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtractedDocument {
    pub media_type: MediaType,
    /// Pages in order. A document that passed extraction has at least one page. Markdown and plain text have exactly
    /// one page.
    pub pages: Vec<Page>,
    #[serde(default)]
    pub info: DocumentInfo,
    /// Table of contents from the file, flattened in order.
    #[serde(default)]
    pub outline: Vec<OutlineEntry>,
    /// Notes for readers of the result, such as "3 pages have no text layer".
    #[serde(default)]
    pub notes: Vec<String>,
}

impl ExtractedDocument {
    /// Returns the extracted text of all pages. Spans count positions in this text.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.text_bytes());
        for (i, page) in self.pages.iter().enumerate() {
            if i > 0 {
                text.push_str(PAGE_SEPARATOR);
            }
            text.push_str(&page.text);
        }
        text
    }

    fn text_bytes(&self) -> usize {
        self.pages.iter().map(|p| p.text.len() + PAGE_SEPARATOR.len()).sum()
    }

    /// Returns the estimated memory of the document, in bytes. Queues use the estimate to limit their memory.
    pub fn weight_bytes(&self) -> usize {
        let page = |p: &Page| {
            size_of::<Page>()
                + heap_bytes(p.text.capacity())
                + heap_of(&p.words)
                + heap_of(&p.lines)
                + heap_of(&p.blocks)
                + heap_of(&p.cells)
        };
        self.pages.iter().map(page).sum::<usize>() + 80 * self.outline.len() + fields_bytes(&self.info.fields) + 256
    }
}

/// Holds the metadata that the file contains about itself, such as title and author.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keywords: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// Creation time as stated in the file. A date such as `D:20260101…` is converted to RFC 3339 if it can be
    /// parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// All fields that the file states about itself, such as the front matter of Markdown. Numbers, booleans, lists and
    /// tables keep their types; everything else is text as written.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl DocumentInfo {
    /// Returns the metadata of the document's rows: all fields of the file, and the title. If the file has no fields of
    /// its own, as a PDF, the other entries are included too.
    pub fn metadata(&self) -> Map<String, Value> {
        let mut metadata = self.fields.clone();
        let others = [
            ("author", &self.author),
            ("subject", &self.subject),
            ("keywords", &self.keywords),
            ("created", &self.created),
            ("modified", &self.modified),
        ];
        let others = others.into_iter().filter(|_| self.fields.is_empty());
        for (name, value) in std::iter::once(("title", &self.title)).chain(others) {
            if let Some(value) = value {
                metadata.entry(name).or_insert_with(|| Value::from(value.as_str()));
            }
        }
        metadata.retain(|name, _| !RESERVED_METADATA.contains(&name.as_str()));
        metadata
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlineEntry {
    /// Level of the entry; 1 is the top level.
    pub level: u8,
    pub title: String,
    /// Page that the entry points to, counted from 1. Absent if the destination could not be resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
}

/// Holds one page: its text as Markdown in reading order, and the positions of its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Page number, counted from 1.
    pub number: u32,
    /// Width of the displayed page, in points. 0 for formats without pages, such as Markdown.
    pub width: f32,
    pub height: f32,
    /// Text of the page as Markdown, in reading order. It contains no NUL.
    pub text: String,
    /// Blocks in reading order. Blocks do not overlap. Together, they cover all of `text` except the white space
    /// between blocks.
    pub blocks: Vec<Block>,
    /// Visual lines in reading order. Empty for formats without pages, such as Markdown.
    #[serde(default)]
    pub lines: Vec<Placed>,
    /// Words in reading order. Empty for formats without pages, such as Markdown.
    #[serde(default)]
    pub words: Vec<Placed>,
    /// Cells of the page's tables, by block, row and column. Empty for formats without pages, such as Markdown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<TableCell>,
}

/// Locates a cell of a table. A cell that spans rows or columns stands at the first of them only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableCell {
    /// Index of the table among the page's blocks.
    pub block: u32,
    /// Row and column of the cell, counted from 0.
    pub row: u32,
    pub column: u32,
    /// Number of rows and columns that the cell spans, at least 1.
    pub rows: u32,
    pub columns: u32,
    /// Range of the cell's text. It is empty if the cell is empty.
    pub range: TextRange,
    /// Box around the cell's text. Absent if the cell is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bbox: Option<Bbox>,
}

/// Locates a part of a page's text by its range of bytes and its box.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    pub range: TextRange,
    pub bbox: Bbox,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    pub kind: BlockKind,
    pub range: TextRange,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bbox: Option<Bbox>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum BlockKind {
    /// Heading; level 1 is the top level. The range includes the `#` characters of the Markdown.
    Heading {
        level: u8,
    },
    Paragraph,
    ListItem,
    Table,
    Code,
    Quote,
    Figure,
    /// Running head, running foot or page number. Such a block is extracted but never chunked.
    PageFurniture,
}

/// Delimits a half-open range of the extracted text, in code points and in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Position of the first code point.
    pub start: u64,
    pub end: u64,
    /// Position of the first byte (UTF-8).
    pub start_byte: u64,
    pub end_byte: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageBox {
    /// Page number, counted from 1.
    pub page: u32,
    pub bbox: Bbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkKind {
    Text,
    Table,
    Code,
    Figure,
}

/// Holds a chunk, which is the unit that is embedded, found and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Identifier that is unique over all documents. It is derived from the document, the content of the chunk, and
    /// the number of earlier chunks with the same content.
    pub id: String,
    /// Number of the chunk within the document, counted from 0.
    pub ordinal: u32,
    pub kind: ChunkKind,
    /// Text of the chunk, which is a contiguous, verbatim part of the extracted text. If redaction is on,
    /// placeholders replace personal data in this text.
    pub content: String,
    /// Headings above the chunk, outermost first.
    pub heading_path: Vec<String>,
    /// First and last page of the chunk, counted from 1.
    pub pages: (u32, u32),
    pub span: Span,
    /// Boxes of the chunk. A page that the chunk touches has one box; a page with columns has one box for each column
    /// that the chunk touches. Empty for formats without pages, such as Markdown.
    #[serde(default)]
    pub boxes: Vec<PageBox>,
    /// Number of tokens of [`Chunk::embedded_text`], counted with the embedder's own tokenizer and including special
    /// tokens.
    pub tokens: u32,
    /// Findings of the enrichment stage; absent before that stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
}

impl Chunk {
    /// Returns the exact string that is embedded. The hash of this string is the key in the embedding cache.
    pub fn embedded_text(&self) -> String {
        embedded_text(&self.heading_path, &self.content)
    }
}

/// Joins heading path and content to one string. The first line is the heading path, such as `A > B`; the content
/// follows. Without headings, returns only the content.
pub fn embedded_text(heading_path: &[String], content: &str) -> String {
    if heading_path.is_empty() {
        return content.to_owned();
    }
    format!("{}\n{content}", heading_path.join(" > "))
}

/// Holds all chunks of one document version. The chunking stage creates the chunks; the enrichment stage adds the
/// findings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunks {
    pub chunks: Vec<Chunk>,
    /// Language of the whole document. Absent before the enrichment stage, or if the language could not be detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Number of placeholders that replace personal data, counted over all chunks, headings and fields.
    #[serde(default)]
    pub pii_redacted: u64,
    #[serde(default)]
    pub notes: Vec<String>,
    /// Metadata of the document, which every row of the document gets. If redaction is on, placeholders replace personal
    /// data in it after the enrichment stage.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl Chunks {
    /// Returns the estimated memory of the chunks, in bytes. Queues use the estimate to limit their memory.
    pub fn weight_bytes(&self) -> usize {
        let chunk = |c: &Chunk| {
            size_of::<Chunk>()
                + heap_bytes(c.id.capacity())
                + heap_bytes(c.content.capacity())
                + strings(&c.heading_path)
                + heap_of(&c.boxes)
                + c.findings.as_ref().map_or(0, Findings::heap_bytes)
        };
        self.chunks.iter().map(chunk).sum::<usize>() + fields_bytes(&self.fields) + 128
    }
}

/// Names a detected language by its ISO 639-3 code, with the confidence from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Language {
    pub code: String,
    pub confidence: f32,
}

/// Holds the findings of the enrichment stage about one chunk. Offsets count code points of the chunk's content after
/// redaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Key phrases, best first.
    pub key_phrases: Vec<String>,
    pub entities: Vec<Mention>,
    /// Mentions of money, percentages, quarters, years and financial metrics.
    pub patterns: Vec<Mention>,
    /// Mentions of personal data, with kind and position only. The text of a mention is never copied.
    pub personal_data: Vec<Mention>,
    /// Sentiment of the chunk. Present only if the enrichment provider detects sentiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentiment: Option<Sentiment>,
}

impl Findings {
    /// Returns the estimated memory that the findings own, in bytes.
    fn heap_bytes(&self) -> usize {
        let mentions = |list: &Vec<Mention>| {
            let texts: usize = list.iter().map(|m| heap_bytes(m.kind.capacity()) + heap_bytes(m.text.capacity())).sum();
            heap_of(list) + texts
        };
        mentions(&self.entities) + mentions(&self.patterns) + mentions(&self.personal_data) + strings(&self.key_phrases)
    }
}

/// Returns the estimated memory that metadata owns, in bytes.
fn fields_bytes(fields: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        size_of::<Value>()
            + match value {
                Value::String(text) => heap_bytes(text.capacity()),
                Value::Array(items) => items.iter().map(of).sum(),
                Value::Object(fields) => fields_bytes(fields),
                _ => 0,
            }
    }
    fields.iter().map(|(name, value)| size_of::<String>() + heap_bytes(name.capacity()) + of(value)).sum()
}

/// Returns the memory that a list owns, without the memory that its elements own, in bytes.
fn heap_of<T>(list: &Vec<T>) -> usize {
    heap_bytes(list.capacity() * size_of::<T>())
}

fn strings(list: &Vec<String>) -> usize {
    heap_of(list) + list.iter().map(|text| heap_bytes(text.capacity())).sum::<usize>()
}

/// Describes the sentiment of a passage: the prevailing label and the score of each label, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sentiment {
    pub label: SentimentLabel,
    pub positive: f32,
    pub negative: f32,
    pub neutral: f32,
    pub mixed: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SentimentLabel {
    Positive,
    Negative,
    Neutral,
    Mixed,
}

impl SentimentLabel {
    pub fn name(self) -> &'static str {
        match self {
            SentimentLabel::Positive => "POSITIVE",
            SentimentLabel::Negative => "NEGATIVE",
            SentimentLabel::Neutral => "NEUTRAL",
            SentimentLabel::Mixed => "MIXED",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mention {
    /// Kind of the mention in upper case, as the providers name it, such as `DATE`, `MONEY`, `EMAIL` or
    /// `CREDIT_CARD`.
    pub kind: String,
    /// Text of the mention. Empty for personal data.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Position of the first code point. The range is half-open.
    pub start: u32,
    pub end: u32,
    /// Confidence, from 0 to 1.
    pub score: f32,
}

/// Holds the chunks of a document and their vectors. There is one vector of unit length for each chunk, in the same
/// order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedDocument {
    /// Chunks with their findings. They are shared with the input of the embedding stage, because a retry needs it.
    pub chunks: Arc<Chunks>,
    /// Notes for readers of the result: those of the chunks, then those of the embedding stage.
    pub notes: Vec<String>,
    pub vectors: Vec<Vec<f32>>,
    pub usage: Usage,
}

impl EmbeddedDocument {
    pub fn weight_bytes(&self) -> usize {
        self.chunks.weight_bytes() + self.vectors_bytes()
    }

    /// Returns the estimated memory of the vectors, in bytes.
    pub fn vectors_bytes(&self) -> usize {
        heap_of(&self.vectors) + self.vectors.iter().map(heap_of).sum::<usize>()
    }
}

/// Holds the number of tokens that were used to embed one document, and the cost of these tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent to the model.
    pub tokens: u64,
    /// Tokens whose vectors came from the cache.
    pub cached_tokens: u64,
    pub cached_chunks: u64,
    pub cost_usd: f64,
}

/// Identifies the model that made a vector. Two vectors may be compared only if the identities of their models are
/// equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Name of the model, such as `all-MiniLM-L6-v2` or `text-embedding-3-small`.
    pub id: String,
    /// Version of the weights. For a local model, this is the SHA-256 of the weights. For an endpoint, this is the
    /// constant `served`, because endpoints do not report a version.
    pub weights: String,
    pub dimension: u32,
    pub metric: Metric,
}

impl ModelIdentity {
    /// Creates the identity of a model whose vectors are compared by cosine.
    pub fn new(id: impl Into<String>, weights: impl Into<String>, dimension: u32) -> Self {
        Self { id: id.into(), weights: weights.into(), dimension, metric: Metric::Cosine }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Cosine similarity. Vectors have unit length, so the score is their dot product.
    Cosine,
}
