//! What every line about a document carries: which document and version, which stage, which attempt, and the trace that all
//! lines of this version share, whichever process wrote them.

use tracing::Span;

use docweir_core::documents::{DocumentId, Sha256Hex, Stage, Version};

/// The name of the span. Its fields stand in each line of the log that is written in it.
pub const DOCUMENT: &str = "document";

/// 32 hexadecimal digits, as W3C's trace context has them: the first half of a hash of the document's id and version. Both
/// are in the control record, so every process that works on the version derives the same; and nothing of the document, its
/// name or its content is in it.
pub fn trace_id(document: &DocumentId, version: Version) -> String {
    let hash = Sha256Hex::of(format!("docweir:{document}:{version}").as_bytes());
    hash.as_str().get(..32).unwrap_or_default().to_owned()
}

/// The span of one attempt at one stage. On whatever the level of the log is.
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

/// The span of what is about a version, at no stage.
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
        // Other processes may be of another build: what it is made of stays.
        assert_eq!(trace, trace_id(&id("doc_20250131_abc123"), 2));
        assert_eq!(trace, &Sha256Hex::of(b"docweir:doc_20250131_abc123:2").as_str()[..32]);
        assert_ne!(trace, trace_id(&id("doc_20250131_abc123"), 1));
        assert_ne!(trace, trace_id(&id("doc_20250131_abc124"), 2));
    }
}
