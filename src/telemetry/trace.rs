//! Defines the fields of every log line about a document: document, version, stage, attempt and trace id. All lines
//! about one version have the same trace id, even if different processes wrote them.

use tracing::Span;

use docweir_core::documents::{DocumentId, Sha256Hex, Stage, Version};

/// Name of the span that represents a document. The fields of this span are added to each log line that is written
/// within it.
pub const DOCUMENT: &str = "document";

/// Returns the trace id of a document version. The trace id is the first half of a hash of the document id and the
/// version, as 32 hexadecimal digits in the format of W3C Trace Context. Every process can therefore derive the trace
/// id from the control record. The trace id does not depend on the document's name or content.
pub fn trace_id(document: &DocumentId, version: Version) -> String {
    let hash = Sha256Hex::of(format!("docweir:{document}:{version}").as_bytes());
    hash.as_str().get(..32).unwrap_or_default().to_owned()
}

/// Returns the span of one attempt at one stage. The span is enabled at every log level.
pub fn span(document: &DocumentId, version: Version, stage: Stage, attempt: u32) -> Span {
    tracing::error_span!(
        "document",
        document_id = document.as_str(),
        version,
        stage = stage.name(),
        attempt,
        trace_id = trace_id(document, version)
    )
}

/// Returns the span for log lines that concern a document version as a whole, not one of its stages.
pub fn span_of_version(document: &DocumentId, version: Version) -> Span {
    tracing::error_span!("document", document_id = document.as_str(), version, trace_id = trace_id(document, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_of_one_version_and_the_same_everywhere() {
        let id = |text: &str| DocumentId::parse(text).unwrap();
        let trace = trace_id(&id("doc_20250131_abc123"), 2);
        // Other processes may run another build, so the definition of the id must never change.
        assert_eq!(trace, trace_id(&id("doc_20250131_abc123"), 2));
        assert_eq!(trace, &Sha256Hex::of(b"docweir:doc_20250131_abc123:2").as_str()[..32]);
        assert_ne!(trace, trace_id(&id("doc_20250131_abc123"), 1));
        assert_ne!(trace, trace_id(&id("doc_20250131_abc124"), 2));
    }
}
