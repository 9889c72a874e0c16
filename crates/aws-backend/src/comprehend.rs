//! Sends requests to Amazon Comprehend through the AWS SDK.

use std::time::Duration;

use async_trait::async_trait;
use docweir_aws::comprehend::{Comprehend, SentimentReply, SpanReply as Place};
use docweir_aws::{Aws, AwsOptions, Fault, FaultKind};

use docweir_core::model::{Sentiment, SentimentLabel};
use docweir_providers::comprehend::{CallError, Items, Remote};
use docweir_stages::enrich::comprehend::{Analysis, Api, ComprehendOptions, DetectedLanguage, DetectedSpan};

/// Calls Comprehend with the credentials and region that the AWS configuration resolves to.
pub struct AwsComprehend {
    calls: Comprehend,
}

impl AwsComprehend {
    /// Creates a client after resolving the region and the credentials. Sends no request. Returns `None` if no region
    /// is configured or found.
    pub async fn find(aws: &AwsOptions, options: &ComprehendOptions) -> Option<Self> {
        let aws = Aws::find(aws.clone()).await;
        aws.region()?;
        Some(Self::new(&aws, options))
    }

    pub fn new(aws: &Aws, options: &ComprehendOptions) -> Self {
        let longest = Duration::from_secs_f64(options.request_seconds);
        Self { calls: Comprehend::new(aws, &options.endpoint, longest) }
    }
}

#[async_trait]
impl Remote for AwsComprehend {
    async fn call(&self, api: Api, language: &str, texts: Vec<String>) -> Result<Items, CallError> {
        match api {
            Api::Language => {
                let items = self.calls.languages(texts).await.map_err(failed)?;
                let tongue =
                    |t: docweir_aws::comprehend::LanguageReply| DetectedLanguage { code: t.code, score: t.score };
                Ok(answers(items, |tongues| Some(Analysis::Languages(tongues.into_iter().map(tongue).collect()))))
            }
            Api::Entities => Ok(answers(self.calls.entities(language, texts).await.map_err(failed)?, spots)),
            Api::KeyPhrases => Ok(answers(self.calls.key_phrases(language, texts).await.map_err(failed)?, spots)),
            Api::Sentiment => Ok(answers(self.calls.sentiment(language, texts).await.map_err(failed)?, sentiment)),
            Api::PersonalData => {
                let mut items = Vec::with_capacity(texts.len());
                for text in texts {
                    let found = self.calls.personal_data(language, text).await.map_err(failed)?;
                    items.push(Ok(found));
                }
                Ok(answers(items, spots))
            }
        }
    }
}

fn answers<T>(items: docweir_aws::comprehend::Items<T>, answer: impl Fn(T) -> Option<Analysis>) -> Items {
    let one = |item: Result<T, docweir_aws::comprehend::ItemFault>| match item {
        Ok(found) => answer(found).ok_or_else(|| "NO_RESULT".to_owned()),
        Err(fault) => Err(fault.code),
    };
    items.into_iter().map(one).collect()
}

fn spots(places: Vec<Place>) -> Option<Analysis> {
    let spot = |p: Place| DetectedSpan { kind: p.kind, start: p.start, end: p.end, score: p.score };
    Some(Analysis::Spots(places.into_iter().map(spot).collect()))
}

fn sentiment(mood: SentimentReply) -> Option<Analysis> {
    let label = match mood.label.as_str() {
        "POSITIVE" => SentimentLabel::Positive,
        "NEGATIVE" => SentimentLabel::Negative,
        "NEUTRAL" => SentimentLabel::Neutral,
        "MIXED" => SentimentLabel::Mixed,
        _ => return None,
    };
    let SentimentReply { positive, negative, neutral, mixed, .. } = mood;
    Some(Analysis::Sentiment(Sentiment { label, positive, negative, neutral, mixed }))
}

fn failed(fault: Fault) -> CallError {
    let told = fault.to_string();
    match fault.kind {
        FaultKind::Throttled => CallError::Throttled,
        FaultKind::Unreachable => CallError::Unreachable(told),
        FaultKind::Denied => CallError::Denied(told),
        FaultKind::NotFound => CallError::Misconfigured(told),
        FaultKind::Invalid if fault.code == "not sent" || fault.code == "UnknownOperationException" => {
            CallError::Misconfigured(told)
        }
        FaultKind::Invalid | FaultKind::Condition | FaultKind::Conflict => CallError::Refused(fault.code),
        // The service does not charge for a failure that it reports itself.
        FaultKind::Unknown if fault.code == "InternalServerException" => CallError::Failed(told),
        FaultKind::Unknown => CallError::Lost(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_charged_is_lost_and_nothing_else_is() {
        let of = |kind, code: &str| failed(Fault::new(kind, code, "told"));
        assert_eq!(of(FaultKind::Throttled, "ThrottlingException"), CallError::Throttled);
        let told = |code: &str| format!("{code}: told");
        assert_eq!(of(FaultKind::Unknown, "timeout"), CallError::Lost(told("timeout")));
        assert_eq!(of(FaultKind::Unknown, "HTTP 502"), CallError::Lost(told("HTTP 502")));
        let internal = "InternalServerException";
        assert_eq!(of(FaultKind::Unknown, internal), CallError::Failed(told(internal)));
        assert_eq!(of(FaultKind::Denied, "AccessDenied"), CallError::Denied(told("AccessDenied")));
        let long = "TextSizeLimitExceededException";
        assert_eq!(of(FaultKind::Invalid, long), CallError::Refused(long.into()));
    }
}
