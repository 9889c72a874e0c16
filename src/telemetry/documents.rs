//! Adds up documents, durations and costs from the events of a run. Also writes the first log line of each document's
//! trace.
//!
//! The summary of a run (`actors/run_summary`) counts the same events, so summary and metrics agree to the cent.

use std::sync::Arc;

use docweir_core::documents::Stage;
use docweir_stores::batches::DOCUMENTS;
use metrics::{counter, histogram};

use super::trace;
use crate::messages::event::{Event, EventSink};

/// Metrics that are counted from events. Each entry gives the name, kind and description of one metric.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("docweir_documents_processed_total", "counter", "number of documents that a stage completed"),
    ("docweir_documents_failed_total", "counter", "number of documents that were quarantined at a stage"),
    ("docweir_extraction_duration_seconds", "histogram", "duration of a successful extraction"),
    ("docweir_embedding_cost_nanodollars_total", "counter", "cost of embeddings, in billionths of a US dollar"),
];

/// Counts each event and then passes it to the wrapped sink.
pub struct CountingEventSink(pub Arc<dyn EventSink>);

impl EventSink for CountingEventSink {
    fn emit(&self, event: Event) {
        look(&event);
        self.0.emit(event);
    }
}

fn look(event: &Event) {
    match event {
        Event::Registered { document, version, replaces, .. } => trace::span(document, *version, Stage::Extraction, 1)
            .in_scope(|| tracing::info!(replaces, "document registered")),
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
        // The cost of a document's texts is counted when the document completes the embedding stage.
        Event::BatchEnded { space, cost_usd, .. } if space != DOCUMENTS => cost(*cost_usd),
        _ => {}
    }
}

/// Adds a cost in whole billionths of a dollar. The ledger uses the same unit, so the sums are exact.
fn cost(usd: f64) {
    if usd > 0.0 {
        let stage = Stage::Embedding.name();
        counter!("docweir_embedding_cost_nanodollars_total", "stage" => stage).increment((usd * 1e9).round() as u64);
    }
}
