//! Defines the result of a search, which holds the found passages, and the JSON form of this result.

use docweir_core::documents::{DocumentId, Version};
use docweir_core::model::{PageBox, Span};
use docweir_index::search::explain::Explanation;
use docweir_index::{Hit, ManifestVersion};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::intake::source;

/// Holds the answer to one query. `docweir search --json` prints each answer as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchResponse {
    pub question: String,
    /// Found passages, best first.
    pub results: Vec<Passage>,
    /// Version of the collection that was searched.
    #[serde(skip)]
    pub version: ManifestVersion,
}

/// Describes a found passage and its location in a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// Score of the passage, which determines its rank. The score is the cosine in vector mode, the BM25 score in
    /// full-text mode, and a value from 0 to 1 in hybrid mode.
    pub score: f32,
    pub vector_score: Option<f32>,
    pub bm25_score: Option<f32>,
    pub document: DocumentId,
    pub version: Version,
    /// Path of the file, or the URI if the source is not a local file.
    pub source: String,
    pub uri: String,
    /// Id of the document that contains this passage's document, if the passage's document is part of another
    /// document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<DocumentId>,
    pub chunk: String,
    pub kind: String,
    /// Language as an ISO 639-3 code.
    pub language: Option<String>,
    /// Number of the first page of the passage, starting at 1.
    pub page_first: u32,
    pub page_last: u32,
    pub heading_path: Vec<String>,
    pub span: Span,
    pub boxes: Vec<PageBox>,
    pub text: String,
    /// Fields of the record, if the passage is a record. Otherwise, findings of the enrichment.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Positions of matched words in `text`: half-open ranges of code points, in ascending order.
    pub matches: Vec<(u32, u32)>,
    /// Parts of the score. Absent unless the query asks for an explanation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

impl From<Hit> for Passage {
    fn from(hit: Hit) -> Self {
        let path = source::to_path(&hit.source).map(|path| path.to_string_lossy().into_owned());
        Self {
            score: hit.score,
            vector_score: hit.vector_score,
            bm25_score: hit.bm25_score,
            document: hit.document,
            version: hit.version,
            source: path.unwrap_or_else(|| hit.source.clone()),
            uri: hit.source,
            parent: hit.parent,
            chunk: hit.chunk_id,
            kind: hit.kind,
            language: hit.language,
            page_first: hit.pages.0,
            page_last: hit.pages.1,
            heading_path: hit.heading_path,
            span: hit.span,
            boxes: hit.boxes,
            text: hit.text,
            metadata: hit.metadata,
            matches: hit.matches,
            explanation: hit.explanation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit() -> Hit {
        Hit {
            score: 0.5,
            vector_score: Some(0.25),
            bm25_score: None,
            document: DocumentId::mint(0, 1),
            version: 2,
            parent: None,
            source: "file:///home/me/a%20b.pdf".into(),
            chunk_id: "c1".into(),
            ordinal: 0,
            kind: "text".into(),
            pages: (3, 4),
            span: Span { start: 0, end: 4, start_byte: 0, end_byte: 4 },
            boxes: vec![PageBox { page: 3, bbox: [1.0, 2.0, 3.5, 4.0] }],
            heading_path: vec!["2 Fencing".into()],
            language: Some("eng".into()),
            text: "text".into(),
            matches: vec![(0, 4)],
            metadata: Map::new(),
            explanation: None,
        }
    }

    /// Checks the JSON form, which is an interface for programs.
    #[test]
    fn the_json_of_an_answer_is_fixed() {
        let answer = SearchResponse { question: "why".into(), results: vec![hit().into()], version: 7 };
        let json = serde_json::to_string(&answer).unwrap();
        let expected = concat!(
            r#"{"question":"why","results":[{"score":0.5,"vector_score":0.25,"bm25_score":null,"#,
            r#""document":"doc_19700101_000000_00000001","version":2,"source":"/home/me/a b.pdf","#,
            r#""uri":"file:///home/me/a%20b.pdf","chunk":"c1","kind":"text","language":"eng","page_first":3,"#,
            r#""page_last":4,"heading_path":["2 Fencing"],"span":{"start":0,"end":4,"start_byte":0,"end_byte":4},"#,
            r#""boxes":[{"page":3,"bbox":[1.0,2.0,3.5,4.0]}],"text":"text","matches":[[0,4]]}]}"#,
        );
        assert_eq!(json, expected);
        let back: SearchResponse = serde_json::from_str(&json).unwrap();
        assert_eq!(back, SearchResponse { version: 0, ..answer });
    }

    #[test]
    fn an_object_s_source_is_its_uri_and_metadata_is_there_where_it_says_something() {
        let mut hit = hit();
        hit.source = "s3://bucket/a b.pdf".into();
        hit.metadata.insert("price".into(), 3.into());
        let passage = Passage::from(hit);
        assert_eq!((passage.source.as_str(), passage.uri.as_str()), ("s3://bucket/a b.pdf", "s3://bucket/a b.pdf"));
        assert_eq!(serde_json::to_value(&passage).unwrap()["metadata"]["price"], 3);
    }
}
