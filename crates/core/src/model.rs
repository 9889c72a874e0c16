//! The artefacts that pass from stage to stage.
//!
//! ```text
//! file ──extract──▶ ExtractedDocument ──chunk──▶ Chunks ──enrich──▶ Chunks + findings ──embed──▶ + vectors ──load──▶ rows
//! ```
//! Positions are of two kinds. Inside a page, ranges count UTF-8 bytes of the page's text. Over the whole document, a
//! [`Span`] counts both Unicode code points and bytes of the *extracted text*: the pages' texts joined by
//! [`PAGE_SEPARATOR`]. Boxes are in points, origin at the top left of the page as displayed, y downwards.

use serde::{Deserialize, Serialize};

use crate::documents::MediaType;

/// Stands between two pages in the extracted text.
pub const PAGE_SEPARATOR: &str = "\n\n";

/// `[x0, y0, x1, y1]` in points, origin top left, y downwards.
pub type Bbox = [f32; 4];

/// The smallest box around both.
pub fn union(a: Bbox, b: Bbox) -> Bbox {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

/// A half-open range of bytes of a page's text.
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

/// What extraction makes of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtractedDocument {
    pub media_type: MediaType,
    /// In order; never empty for a document that passed extraction. Markdown and plain text are one page.
    pub pages: Vec<Page>,
    #[serde(default)]
    pub info: DocumentInfo,
    /// The file's own table of contents, flattened in order.
    #[serde(default)]
    pub outline: Vec<OutlineEntry>,
    /// Things that a reader of the result should know: "3 pages have no text layer".
    #[serde(default)]
    pub notes: Vec<String>,
}

impl ExtractedDocument {
    /// The extracted text, which spans count in.
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

    /// Bytes of memory that the document occupies, near enough to account for it in a queue.
    pub fn weight_bytes(&self) -> usize {
        let page = |p: &Page| {
            p.text.len()
                + 24 * (p.words.len() + p.lines.len())
                + size_of::<Block>() * p.blocks.len()
                + size_of::<Page>()
        };
        self.pages.iter().map(page).sum::<usize>() + 80 * self.outline.len() + 256
    }
}

/// Document information, as the file gives it.
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
    /// As in the file (`D:20260101…` made RFC 3339 where it parses).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlineEntry {
    /// 1 is the top.
    pub level: u8,
    pub title: String,
    /// 1-based; absent when the destination could not be resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
}

/// One page: its text as markdown in reading order, and where everything in it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// 1-based.
    pub number: u32,
    /// In points, as displayed. 0 for inputs without pages.
    pub width: f32,
    pub height: f32,
    /// Markdown in reading order. Valid UTF-8 without NUL.
    pub text: String,
    /// In reading order, disjoint; together they cover all of `text` but the white space between them.
    pub blocks: Vec<Block>,
    /// The visual lines in reading order. Empty for inputs without pages.
    #[serde(default)]
    pub lines: Vec<Placed>,
    /// The words in reading order. Empty for inputs without pages.
    #[serde(default)]
    pub words: Vec<Placed>,
}

/// A stretch of a page's text and the box it fills.
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
    /// 1 is the top. The range includes the `#`s of the markdown.
    Heading {
        level: u8,
    },
    Paragraph,
    ListItem,
    Table,
    Code,
    Quote,
    Figure,
    /// Running head, running foot, page number: extracted, never chunked.
    PageFurniture,
}

/// A half-open stretch of the extracted text, counted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Unicode code points.
    pub start: u64,
    pub end: u64,
    /// UTF-8 bytes.
    pub start_byte: u64,
    pub end_byte: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageBox {
    /// 1-based.
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

/// A passage: what is embedded, found and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// From document, content and occurrence; unique over all documents.
    pub id: String,
    /// Position in the document, from 0.
    pub ordinal: u32,
    pub kind: ChunkKind,
    /// A contiguous, verbatim stretch of the extracted text (redacted where redaction is on).
    pub content: String,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// First and last page, 1-based.
    pub pages: (u32, u32),
    pub span: Span,
    /// One box a page (or column) that the chunk touches. Empty for inputs without pages.
    #[serde(default)]
    pub boxes: Vec<PageBox>,
    /// Tokens of [`Chunk::embedded_text`] with the embedder's own tokenizer, special tokens included.
    pub tokens: u32,
    /// Filled by enrichment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
}

impl Chunk {
    /// The exact string that is embedded, and that the embedding cache is keyed by.
    pub fn embedded_text(&self) -> String {
        embedded_text(&self.heading_path, &self.content)
    }
}

/// Heading path and content as one string: `A > B` on a line of its own, then the content.
pub fn embedded_text(heading_path: &[String], content: &str) -> String {
    if heading_path.is_empty() {
        return content.to_owned();
    }
    format!("{}\n{content}", heading_path.join(" > "))
}

/// All chunks of one document version: the artefact of chunking and, with findings, of enrichment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunks {
    pub chunks: Vec<Chunk>,
    /// Of the whole document; absent until enrichment, and when it can't be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Placeholders written over personal data, over all chunks and headings.
    #[serde(default)]
    pub pii_redacted: u64,
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Chunks {
    pub fn weight_bytes(&self) -> usize {
        let chunk = |c: &Chunk| {
            let findings = c.findings.as_ref().map_or(0, |f| {
                64 * (f.entities.len() + f.patterns.len() + f.personal_data.len()) + 32 * f.key_phrases.len()
            });
            c.content.len()
                + c.heading_path.iter().map(|h| h.len() + 24).sum::<usize>()
                + 20 * c.boxes.len()
                + findings
                + size_of::<Chunk>()
        };
        self.chunks.iter().map(chunk).sum::<usize>() + 128
    }
}

/// ISO 639-3 code and how sure, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Language {
    pub code: String,
    pub confidence: f32,
}

/// What enrichment finds in one chunk. Offsets count code points of the chunk's content as it then stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// Best first.
    pub key_phrases: Vec<String>,
    pub entities: Vec<Mention>,
    /// Money, percentages, quarters, years, financial metrics.
    pub patterns: Vec<Mention>,
    /// Kind and place only: the text of personal data is never copied.
    pub personal_data: Vec<Mention>,
    /// Where somebody was asked who can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentiment: Option<Sentiment>,
}

/// Which feeling prevails in a passage, and how much of each there is, 0 to 1.
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
    /// Upper case, as the providers name them: `DATE`, `MONEY`, `EMAIL`, `CREDIT_CARD`.
    pub kind: String,
    /// Empty for personal data.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Half-open, code points.
    pub start: u32,
    pub end: u32,
    /// 0 to 1.
    pub score: f32,
}

/// Chunks with one unit-length vector each, in the chunks' order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddedDocument {
    pub chunks: Chunks,
    pub vectors: Vec<Vec<f32>>,
    pub usage: Usage,
}

impl EmbeddedDocument {
    pub fn weight_bytes(&self) -> usize {
        self.chunks.weight_bytes() + self.vectors.iter().map(|v| 4 * v.len() + 24).sum::<usize>()
    }
}

/// What embedding one document used and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens given to the model.
    pub tokens: u64,
    /// Tokens that the cache saved.
    pub cached_tokens: u64,
    pub cached_chunks: u64,
    pub cost_usd: f64,
}

/// What a vector is: two vectors may be compared only when this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// `all-MiniLM-L6-v2`, `text-embedding-3-small`.
    pub id: String,
    /// SHA-256 of the weights (local), or what the provider says of its version.
    pub weights: String,
    pub dimension: u32,
    pub metric: Metric,
}

impl ModelIdentity {
    /// Names a model whose vectors are compared by cosine.
    pub fn new(id: impl Into<String>, weights: impl Into<String>, dimension: u32) -> Self {
        Self { id: id.into(), weights: weights.into(), dimension, metric: Metric::Cosine }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Vectors are of unit length; the score is the dot product.
    Cosine,
}
