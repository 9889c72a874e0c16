//! Amazon Comprehend as a service that is paid for: what is asked of it waits for its turn, has its money set aside, and is
//! remembered.
//!
//! - [`Service`] answers the enricher: from the cache, or by requests of many texts
//! - [`Counting`] answers nothing and counts what it would cost
//! - [`Remote`] who is asked: the calls themselves are in `docweir-aws-backend`
//!
//! Every text is a text of its own in the cache and on the bill; what is a request is only how it is sent.

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

/// What answers are comparable by: the service's version, which is all it says of its models, and our own of what is kept.
const MODEL: &str = "comprehend-2017-11-27.1";

/// Characters of a unit, and units of a text at least.
const UNIT_CHARACTERS: u64 = 100;
const LEAST_UNITS: u64 = 3;

/// What a text is charged as.
pub fn units(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(UNIT_CHARACTERS).max(LEAST_UNITS)
}

/// The model's name in the ledger.
pub fn model(api: Api) -> String {
    format!("comprehend/{}", api.name())
}

/// For a million units, as the ledger's amounts are.
pub fn price(usd_per_unit: f64) -> Price {
    Price { live: usd_per_unit * 1e6, batch: 0.0 }
}

/// What an answer is kept under, beside its text.
fn question(api: Api, language: &str) -> String {
    format!("{MODEL}/{}/{language}", api.name())
}

fn key(text: &str) -> Sha256Hex {
    Sha256Hex::of(text.as_bytes())
}

fn encode(answer: &Analysis) -> Option<Vec<u8>> {
    postcard::to_stdvec(answer).ok()
}

/// `None` for what is no answer to this: then it is asked for again.
fn decode(api: Api, bytes: &[u8]) -> Option<Analysis> {
    let answer = postcard::from_bytes(bytes).ok()?;
    let fits = match (api, &answer) {
        (Api::Language, Analysis::Languages(_)) | (Api::Sentiment, Analysis::Sentiment(_)) => true,
        (Api::Entities | Api::KeyPhrases | Api::PersonalData, Analysis::Spots(_)) => true,
        (_, Analysis::Languages(_) | Analysis::Spots(_) | Analysis::Sentiment(_)) => false,
    };
    fits.then_some(answer)
}

/// Why a request failed, as far as it decides what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    Throttled,
    /// Not carried out, and may be tried again.
    Unreachable(String),
    /// Nobody knows whether it was carried out, and charged.
    Lost(String),
    /// Carried out by nobody: it says itself that it failed.
    Failed(String),
    /// Not allowed, not known who asks, or nobody there to ask.
    Misconfigured(String),
    /// Refused for what it holds: the service's word.
    Refused(String),
}

/// Of each text what was found, or the service's word for why nothing was.
pub type Items = Vec<Result<Analysis, String>>;

/// Who carries requests out, once each.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Of `Api::PersonalData` one text at a time.
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
