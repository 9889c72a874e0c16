//! Calls Amazon Comprehend. A request for languages, entities, key phrases or sentiment accepts many texts. A request
//! for personal data accepts one text.
//!
//! A reply with status 200 may report that some texts were not analysed, each with its own error code. This module
//! returns one result for each text, in the order of the texts in the request. Offsets in results count Unicode code
//! points of the sent text. The copies of the text in the reply are dropped.
//!
//! This module does not retry calls, because each call costs money and only the caller knows how long to wait. The
//! error message for an invalid request may quote the text, so the module returns only the error code.

use std::time::Duration;

use aws_sdk_comprehend::Client;
use aws_sdk_comprehend::config::Builder;
use aws_sdk_comprehend::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_comprehend::types::{BatchItemError, LanguageCode};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::access::{Aws, count, fault_of, once};
use crate::fault::{Fault, FaultKind};

/// Largest number of texts in one request.
pub const MOST_TEXTS: usize = 25;
/// Largest size, in bytes, of each text in a request of several texts.
pub const MOST_BYTES: usize = 5_000;
/// Largest size, in bytes, of a text that is searched for personal data.
pub const MOST_PERSONAL_BYTES: usize = 100_000;

/// Sends calls to Comprehend. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Comprehend {
    client: Client,
}

/// Describes a language that was detected in a text: its RFC 5646 code and the confidence score.
#[derive(Clone, Debug, PartialEq)]
pub struct LanguageReply {
    pub code: String,
    pub score: f32,
}

/// Describes a finding in a text: the kind of the finding, and the half-open range of Unicode code points that the
/// finding covers.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanReply {
    /// Type of the finding as the service names it, in capitals, such as `PERSON`; empty for key phrases.
    pub kind: String,
    pub start: usize,
    pub end: usize,
    pub score: f32,
}

/// Holds the sentiment of a text and a score for each label. The labels are `POSITIVE`, `NEGATIVE`, `NEUTRAL` and
/// `MIXED`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SentimentReply {
    pub label: String,
    pub positive: f32,
    pub negative: f32,
    pub neutral: f32,
    pub mixed: f32,
}

/// Holds the error code of a text that has no result, such as `TEXT_SIZE_LIMIT_EXCEEDED`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemFault {
    pub code: String,
}

/// Holds a result or an error for each text of a request, in the order of the texts.
pub type Items<T> = Vec<Result<T, ItemFault>>;

impl Comprehend {
    /// Creates a client for `endpoint`; empty means the shared AWS endpoint. Requests that take longer than `longest`
    /// are aborted.
    pub fn new(aws: &Aws, endpoint: &str, longest: Duration) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs_f64(aws.options.connect_seconds))
            .operation_attempt_timeout(longest)
            .build();
        let mut config = Builder::from(&aws.sdk).retry_config(once()).timeout_config(timeouts);
        if !endpoint.is_empty() {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()) }
    }

    /// Returns the languages detected in each text, the most likely language first.
    pub async fn languages(&self, texts: Vec<String>) -> Result<Items<Vec<LanguageReply>>, Fault> {
        let sent = texts.len();
        let call = self.client.batch_detect_dominant_language().set_text_list(Some(texts));
        let answer = told("BatchDetectDominantLanguage", call.send().await)?;
        let results = answer.result_list.into_iter().map(|item| {
            let mut tongues: Vec<LanguageReply> = item
                .languages
                .into_iter()
                .flatten()
                .filter_map(|l| Some(LanguageReply { code: l.language_code?, score: l.score? }))
                .collect();
            tongues.sort_by(|a, b| b.score.total_cmp(&a.score));
            (item.index, tongues)
        });
        Ok(in_order(sent, results, answer.error_list))
    }

    pub async fn entities(&self, language: &str, texts: Vec<String>) -> Result<Items<Vec<SpanReply>>, Fault> {
        let sent = texts.len();
        let call = self.client.batch_detect_entities().language_code(LanguageCode::from(language));
        let answer = told("BatchDetectEntities", call.set_text_list(Some(texts)).send().await)?;
        let results = answer.result_list.into_iter().map(|item| {
            let spots = item.entities.into_iter().flatten().filter_map(|e| {
                let kind = e.r#type.map(|t| t.as_str().to_owned()).unwrap_or_default();
                spot(kind, e.begin_offset, e.end_offset, e.score)
            });
            (item.index, spots.collect())
        });
        Ok(in_order(sent, results, answer.error_list))
    }

    pub async fn key_phrases(&self, language: &str, texts: Vec<String>) -> Result<Items<Vec<SpanReply>>, Fault> {
        let sent = texts.len();
        let call = self.client.batch_detect_key_phrases().language_code(LanguageCode::from(language));
        let answer = told("BatchDetectKeyPhrases", call.set_text_list(Some(texts)).send().await)?;
        let results = answer.result_list.into_iter().map(|item| {
            let phrases = item.key_phrases.into_iter().flatten();
            let spots = phrases.filter_map(|p| spot(String::new(), p.begin_offset, p.end_offset, p.score));
            (item.index, spots.collect())
        });
        Ok(in_order(sent, results, answer.error_list))
    }

    pub async fn sentiment(&self, language: &str, texts: Vec<String>) -> Result<Items<SentimentReply>, Fault> {
        let sent = texts.len();
        let call = self.client.batch_detect_sentiment().language_code(LanguageCode::from(language));
        let answer = told("BatchDetectSentiment", call.set_text_list(Some(texts)).send().await)?;
        let results = answer.result_list.into_iter().map(|item| {
            let label = item.sentiment.map(|s| s.as_str().to_owned()).unwrap_or_default();
            let score = item.sentiment_score;
            let of = |share: fn(&aws_sdk_comprehend::types::SentimentScore) -> Option<f32>| {
                score.as_ref().and_then(share).unwrap_or_default()
            };
            let mood = SentimentReply {
                label,
                positive: of(|s| s.positive),
                negative: of(|s| s.negative),
                neutral: of(|s| s.neutral),
                mixed: of(|s| s.mixed),
            };
            (item.index, mood)
        });
        Ok(in_order(sent, results, answer.error_list))
    }

    /// Finds personal data in one text. The service accepts only one text per request.
    pub async fn personal_data(&self, language: &str, text: String) -> Result<Vec<SpanReply>, Fault> {
        let call = self.client.detect_pii_entities().language_code(LanguageCode::from(language)).text(text);
        let answer = told("DetectPiiEntities", call.send().await)?;
        let spots = answer.entities.into_iter().flatten().filter_map(|e| {
            let kind = e.r#type.map(|t| t.as_str().to_owned()).unwrap_or_default();
            spot(kind, e.begin_offset, e.end_offset, e.score)
        });
        Ok(spots.collect())
    }
}

fn spot(kind: String, start: Option<i32>, end: Option<i32>, score: Option<f32>) -> Option<SpanReply> {
    let place = |at: Option<i32>| at.and_then(|at| usize::try_from(at).ok());
    let (start, end) = (place(start)?, place(end)?);
    (start < end).then(|| SpanReply { kind, start, end, score: score.unwrap_or_default() })
}

/// Sorts results and errors into the order of the texts. A text without a result or an error gets the error code
/// `NO_RESULT`.
fn in_order<T>(
    sent: usize,
    results: impl Iterator<Item = (Option<i32>, T)>,
    errors: impl IntoIterator<Item = BatchItemError>,
) -> Items<T> {
    let mut items: Vec<Option<Result<T, ItemFault>>> = Vec::new();
    items.resize_with(sent, || None);
    let failed = errors.into_iter().map(|e| {
        let code = e.error_code.unwrap_or_else(|| "UNKNOWN".to_owned());
        (e.index, Err(ItemFault { code }))
    });
    for (index, item) in results.map(|(index, found)| (index, Ok(found))).chain(failed) {
        let place = index.and_then(|i| usize::try_from(i).ok()).and_then(|i| items.get_mut(i));
        if let Some(place) = place.filter(|place| place.is_none()) {
            *place = Some(item);
        }
    }
    let missing = || Err(ItemFault { code: "NO_RESULT".to_owned() });
    items.into_iter().map(|item| item.unwrap_or_else(missing)).collect()
}

/// Counts a call in the metrics and converts its error to a [`Fault`].
fn told<T, E>(operation: &'static str, answer: Result<T, SdkError<E, HttpResponse>>) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    count("comprehend", operation, answer.is_err());
    answer.map_err(|error| {
        let fault = fault_of(&error);
        match fault.kind {
            FaultKind::Invalid => Fault::new(fault.kind, fault.code, ""),
            _ => fault,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(index: Option<i32>, code: &str) -> BatchItemError {
        BatchItemError::builder().set_index(index).error_code(code).build()
    }

    #[test]
    fn results_and_errors_come_in_the_order_of_the_texts() {
        let results = [(Some(3), "d"), (Some(0), "a"), (Some(9), "beyond"), (Some(0), "again"), (None, "nowhere")];
        let errors = [error(Some(1), "INTERNAL_SERVER_ERROR"), error(Some(-1), "X"), error(Some(3), "TOO_LATE")];
        let items = in_order(4, results.into_iter(), errors);
        let codes: Vec<_> = items.iter().map(|i| i.as_ref().map_or_else(|e| e.code.as_str(), |v| *v)).collect();
        assert_eq!(codes, ["a", "INTERNAL_SERVER_ERROR", "NO_RESULT", "d"]);
    }

    #[test]
    fn a_place_that_is_none_is_dropped() {
        for (start, end) in [(None, Some(1)), (Some(-1), Some(1)), (Some(2), Some(2)), (Some(3), Some(2))] {
            assert_eq!(spot("NAME".into(), start, end, Some(0.9)), None);
        }
        assert_eq!(spot(String::new(), Some(0), Some(2), None).map(|s| (s.start, s.end, s.score)), Some((0, 2, 0.0)));
    }
}
