//! Figures of documents, and the first line of each one's trace, from the events of a run.
//!
//! Counted where the summary counts (`actors/run_summary`), so that the two are equal to the cent.

use std::sync::Arc;

use docweir_core::documents::Stage;
use docweir_stores::batches::DOCUMENTS;
use metrics::{counter, histogram};

use super::trace;
use crate::messages::event::{Event, EventSink};

/// Name, kind and meaning.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("docweir_documents_processed_total", "counter", "documents that a stage finished"),
    ("docweir_documents_failed_total", "counter", "documents that were given up at a stage"),
    ("docweir_extraction_duration_seconds", "histogram", "time of an extraction that succeeded"),
    ("docweir_embedding_cost_nanodollars_total", "counter", "what embeddings cost, in billionths of a US dollar"),
];

/// Counts events on their way.
pub struct Watched(pub Arc<dyn EventSink>);

impl EventSink for Watched {
    fn emit(&self, event: Event) {
        look(&event);
        self.0.emit(event);
    }
}

fn look(event: &Event) {
    match event {
        Event::Registered { document, version, replaces, .. } => trace::span(document, *version, Stage::Extraction, 1)
            .in_scope(|| tracing::info!(replaces, "a document was registered")),
        Event::StageCompleted { stage, seconds, metrics, .. } => {
            counter!("docweir_documents_processed_total", "stage" => stage.name()).increment(1);
            if *stage == Stage::Extraction {
                histogram!("docweir_extraction_duration_seconds", "stage" => stage.name()).record(*seconds);
            }
            cost(metrics.get("openai_cost_usd").copied().unwrap_or_default());
        }
        Event::Quarantined { stage, .. } => {
            counter!("docweir_documents_failed_total", "stage" => stage.name()).increment(1);
        }
        Event::RecordsStored { cost_usd, .. } => cost(*cost_usd),
        // What texts of documents cost is told by the documents that they were for.
        Event::BatchEnded { space, cost_usd, .. } if space != DOCUMENTS => cost(*cost_usd),
        _ => {}
    }
}

/// In whole billionths, as the ledger has it: sums are exact.
fn cost(usd: f64) {
    if usd > 0.0 {
        let stage = Stage::Embedding.name();
        counter!("docweir_embedding_cost_nanodollars_total", "stage" => stage).increment((usd * 1e9).round() as u64);
    }
}
