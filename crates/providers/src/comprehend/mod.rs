//! Calls Amazon Comprehend, which is a paid service. Each request waits for admission, money is reserved before the
//! request is sent, and the answers are cached.
//!
//! - [`Service`] answers the enricher from the cache, and requests the missing answers with many texts per request
//! - [`Counting`] returns empty answers and counts the cost of the calls that it avoids
//! - [`Remote`] sends the requests; `docweir-aws-backend` implements it
//!
//! Each text is cached and charged separately, even if many texts are sent in one request.

mod counting;
mod requests;
mod service;

use async_trait::async_trait;
use docweir_core::documents::Sha256Hex;
use docweir_stages::enrich::comprehend::{Analysis, Api};

pub use counting::Counting;
pub use requests::{MeteredApi, metered_apis};
pub use service::Service;

use crate::prices::Price;

/// Version that is part of each answer's cache key. It joins two versions: the service's API version (`2017-11-27`),
/// and the version of this crate's format for stored answers (`1`). The service does not report the versions of its
/// models.
const MODEL: &str = "comprehend-2017-11-27.1";

/// Number of characters in a unit. Comprehend charges per unit, and each text is charged for at least `LEAST_UNITS`
/// units.
const UNIT_CHARACTERS: u64 = 100;
const LEAST_UNITS: u64 = 3;

/// Returns the number of units that a text is charged for.
pub fn units(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(UNIT_CHARACTERS).max(LEAST_UNITS)
}

/// Returns the name under which the ledger records an API. The ledger stores the name in place of a model's name.
pub fn model(api: Api) -> String {
    format!("comprehend/{}", api.name())
}

/// Converts a price per unit to a price per million units, which is the form that the ledger stores.
pub fn price(usd_per_unit: f64) -> Price {
    Price { live: usd_per_unit * 1e6, batch: 0.0 }
}

/// Returns the question that a request asks, as a string of version, API and language. The cache key of an answer is
/// this question, together with the hash of the analysed text.
fn question(api: Api, language: &str) -> String {
    format!("{MODEL}/{}/{language}", api.name())
}

fn key(text: &str) -> Sha256Hex {
    Sha256Hex::of(text.as_bytes())
}

fn encode(answer: &Analysis) -> Option<Vec<u8>> {
    postcard::to_stdvec(answer).ok()
}

/// Decodes a cached answer. Returns `None` if the answer does not fit the API; the service is then called again.
fn decode(api: Api, bytes: &[u8]) -> Option<Analysis> {
    let answer = postcard::from_bytes(bytes).ok()?;
    let fits = match (api, &answer) {
        (Api::Language, Analysis::Languages(_)) | (Api::Sentiment, Analysis::Sentiment(_)) => true,
        (Api::Entities | Api::KeyPhrases | Api::PersonalData, Analysis::Spots(_)) => true,
        (_, Analysis::Languages(_) | Analysis::Spots(_) | Analysis::Sentiment(_)) => false,
    };
    fits.then_some(answer)
}

/// Classifies the failure of a request by what the caller has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    Throttled,
    /// The service could not be reached, so the request was not executed. A retry may succeed.
    Unreachable(String),
    /// The request may have been executed and charged.
    Lost(String),
    /// The request was not executed, because the service reported an internal failure.
    Failed(String),
    /// Access is denied, or the credentials are missing or expired. The request was not executed.
    Denied(String),
    /// The endpoint is wrong.
    Misconfigured(String),
    /// The request was refused because of its content. Holds the error code of the service.
    Refused(String),
}

/// Results of a request, one result for each text. A result is either the findings, or the service's error code for the
/// text.
pub type Items = Vec<Result<Analysis, String>>;

/// Sends requests to Comprehend, without retries.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Sends one request. A request for `Api::PersonalData` contains exactly one text.
    async fn call(&self, api: Api, language: &str, texts: Vec<String>) -> Result<Items, CallError>;
}

#[cfg(test)]
mod tests {
    use docweir_stages::enrich::comprehend::DetectedSpan;

    use super::*;

    #[test]
    fn units_are_hundreds_of_characters_and_three_at_least() {
        let table = [("a", 3), (&"ä".repeat(300), 3), (&"漢".repeat(301), 4), (&"x".repeat(5_000), 50)];
        for (text, expected) in table {
            assert_eq!(units(text), expected);
        }
        assert_eq!(price(0.0001).live, 100.0);
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let spots = Analysis::Spots(vec![DetectedSpan { kind: "NAME".into(), start: 1, end: 3, score: 0.9 }]);
        let bytes = encode(&spots).unwrap();
        assert_eq!(decode(Api::Entities, &bytes), Some(spots));
        assert_eq!((decode(Api::Sentiment, &bytes), decode(Api::Entities, b"\xff\xff")), (None, None));
    }
}
