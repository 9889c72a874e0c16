//! Runs a document through chunking, enrichment and embedding, without fetching a model. Run it with
//! `cargo run -p docweir-stages --example passages`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::sync::Arc;
use std::time::Duration;

use docweir_core::cache::NoCache;
use docweir_core::cancel::Cancel;
use docweir_core::documents::{DocumentId, MediaType};
use docweir_core::model::{Block, BlockKind, DocumentInfo, ExtractedDocument, Page, TextRange};
use docweir_stages::chunk::{ChunkOptions, chunk_document};
use docweir_stages::embed::{Call, EmbedOptions, Embedder, HashedEmbedder, InFlight, Tokens, embed_document};
use docweir_stages::enrich::{EnrichOptions, LocalEnricher};

const TEXT: &str = "# Quarterly report\n\nRevenue rose by 12% to $3.4 million in Q2 2025.\n\n\
                    Write to jane.doe@example.com for the figures of each region.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cancel = Cancel::default();
    // This embedder is for tests and examples. It gives equal words equal vectors, without a model.
    let embedder: Arc<dyn Embedder> = Arc::new(HashedEmbedder::new(64, Duration::ZERO));
    let tokens = Tokens(embedder.clone());

    let id = DocumentId::parse("report").ok_or("not an id")?;
    let chunks = chunk_document(&extracted(), &id, &tokens, &ChunkOptions::default(), &cancel)?;
    println!(
        "{} passages, the first one of {} tokens",
        chunks.chunks.len(),
        chunks.chunks.first().map_or(0, |c| c.tokens)
    );

    let options = EnrichOptions { redact: true, ..EnrichOptions::default() };
    let chunks = LocalEnricher::new(options, Arc::new(tokens)).enrich_blocking(chunks, &cancel)?;
    for chunk in &chunks.chunks {
        println!("[{}] {}", chunk.heading_path.join(" > "), chunk.content.replace("\n\n", " / "));
        for found in chunk.findings.iter().flat_map(|findings| &findings.patterns) {
            println!("  found {}: {}", found.kind, found.text);
        }
    }
    println!("personal data redacted: {}", chunks.pii_redacted);

    let call = Call { subject: "report", collection: None, cancel: &cancel };
    let in_flight = InFlight::default();
    let embedded =
        embed_document(embedder.as_ref(), &NoCache, &in_flight, chunks.into(), &EmbedOptions::default(), call).await?;
    println!("{} vectors of {} dimensions", embedded.vectors.len(), embedder.identity().dimension);
    Ok(())
}

/// Returns a document that is written by hand. The crate docweir-extract produces such documents from files.
fn extracted() -> ExtractedDocument {
    let mut blocks = Vec::new();
    let mut start = 0;
    for part in TEXT.split("\n\n") {
        let kind = if part.starts_with('#') { BlockKind::Heading { level: 1 } } else { BlockKind::Paragraph };
        let end = start + part.len() as u32;
        blocks.push(Block { kind, range: TextRange { start, end }, bbox: None });
        start = end + 2;
    }
    let page = Page {
        number: 1,
        width: 0.0,
        height: 0.0,
        text: TEXT.into(),
        blocks,
        lines: vec![],
        words: vec![],
        cells: vec![],
    };
    let info = DocumentInfo::default();
    ExtractedDocument { media_type: MediaType::Markdown, pages: vec![page], info, outline: vec![], notes: vec![] }
}
