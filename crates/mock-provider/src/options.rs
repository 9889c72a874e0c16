//! Configures the mock provider. By default, the mock provider has OpenAI's limits and prices, and batches finish at
//! once.

use std::path::PathBuf;
use std::time::Duration;

use crate::comprehend::ComprehendLimits;
use crate::dialect::Dialect;
use crate::faults::Rule;

#[derive(Clone, Debug)]
pub struct Options {
    /// Port to listen on; 0 selects any free port.
    pub port: u16,
    pub keys: Vec<String>,
    pub models: Vec<Model>,
    /// Folder of a `docweir-encoder` model. If set, the model computes all vectors that have the model's dimension. All
    /// other vectors are computed from hashed words.
    pub model_folder: Option<PathBuf>,
    /// Folder for files and the journal. `None` means a temporary folder that is deleted with the mock provider.
    pub data: Option<PathBuf>,
    /// If true, parts of a file's content can be requested. OpenAI does not promise this.
    pub ranges: bool,
    /// If true, vectors are sent as lists of numbers even if the request asks for base64. Some real servers do this.
    pub floats: bool,
    /// Forms in which replies differ from OpenAI's.
    pub dialects: Vec<Dialect>,
    /// Path of the API, such as `/v1` or `/openai/v1`. All other paths are unknown.
    pub root: String,
    /// Address that requests are redirected to, with the status 307. It replaces the path of the API. The mock provider
    /// also serves the path of the API behind `/moved`.
    pub redirect: Option<String>,
    pub limits: Limits,
    pub comprehend: ComprehendLimits,
    pub pace: Pace,
    pub rates: Rates,
    /// Maximum charges in US dollars. After this amount is spent, all requests that cost money are refused. `None`
    /// means no limit.
    pub quota_usd: Option<f64>,
    /// If true, the charges are also counted by the SHA-256 of each text.
    pub charges_by_text: bool,
    pub seed: u64,
    pub faults: Vec<Rule>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            keys: vec!["test-key".into()],
            models: vec![
                Model::embedding("text-embedding-3-small", 1536, 0.02),
                Model::embedding("text-embedding-3-large", 3072, 0.13),
                Model::chat("gpt-4o-mini", 0.15, 0.60),
            ],
            model_folder: None,
            data: None,
            ranges: false,
            floats: false,
            dialects: Vec::new(),
            root: "/v1".into(),
            redirect: None,
            limits: Limits::default(),
            comprehend: ComprehendLimits::default(),
            pace: Pace::default(),
            rates: Rates::default(),
            quota_usd: None,
            charges_by_text: false,
            seed: 0,
            faults: Vec::new(),
        }
    }
}

/// Describes a model that requests may name.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub name: String,
    /// Dimension of the model's vectors; `None` for a chat model.
    pub dimensions: Option<usize>,
    /// Price per million input tokens, in nanodollars. In a batch, the price is half as high.
    pub input_price: u64,
    /// Price per million output tokens, in nanodollars.
    pub output_price: u64,
}

impl Model {
    pub fn embedding(name: &str, dimensions: usize, dollars_per_million: f64) -> Self {
        Self {
            name: name.into(),
            dimensions: Some(dimensions),
            input_price: nano(dollars_per_million),
            output_price: 0,
        }
    }

    pub fn chat(name: &str, input_dollars: f64, output_dollars: f64) -> Self {
        let (input_price, output_price) = (nano(input_dollars), nano(output_dollars));
        Self { name: name.into(), dimensions: None, input_price, output_price }
    }

    /// Returns the cost of tokens in nanodollars, rounded once to a whole number.
    pub fn cost(&self, input: u64, output: u64, batch: bool) -> u64 {
        let whole =
            u128::from(input) * u128::from(self.input_price) + u128::from(output) * u128::from(self.output_price);
        let per = if batch { 2_000_000 } else { 1_000_000 };
        u64::try_from((whole + per / 2) / per).unwrap_or(u64::MAX)
    }
}

/// Converts US dollars to whole nanodollars.
pub fn nano(dollars: f64) -> u64 {
    // The cast limits negative and huge amounts to the bounds of the type.
    (dollars * 1e9).round() as u64
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub inputs_per_request: usize,
    pub tokens_per_input: u64,
    pub tokens_per_request: u64,
    pub requests_per_batch: u64,
    pub inputs_per_batch: u64,
    pub batch_file_bytes: u64,
    /// Maximum number of tokens in the unfinished batches of a model.
    pub enqueued_tokens: u64,
    /// Maximum number of concurrent requests. Further requests are refused with the status 429.
    pub concurrent_requests: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inputs_per_request: 2048,
            tokens_per_input: 8192,
            tokens_per_request: 300_000,
            requests_per_batch: 50_000,
            inputs_per_batch: 50_000,
            batch_file_bytes: 200 * 1000 * 1000,
            enqueued_tokens: 3_000_000,
            concurrent_requests: None,
        }
    }
}

/// Configures how long the steps of a batch take.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    pub validate: Duration,
    /// Maximum number of batch rows that are processed per second; `None` means no limit.
    pub items_per_second: Option<f64>,
    pub finalize: Duration,
    /// Time from the creation of a batch to its expiry. A completion window that the request asks for is ignored.
    pub expire: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            validate: Duration::from_millis(50),
            items_per_second: None,
            finalize: Duration::from_millis(50),
            expire: Duration::from_secs(24 * 3600),
        }
    }
}

/// Configures the rate limits of each pair of key and model. By default, there are no limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    pub requests_per_minute: Option<u64>,
    pub tokens_per_minute: Option<u64>,
    /// Capacity of each bucket, as a share of the budget for one minute (0 to 1). This amount can be used at once.
    pub burst_share: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { requests_per_minute: None, tokens_per_minute: None, burst_share: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_in_nano_dollars() {
        let options = Options::default();
        let [small, large, chat] = &options.models[..] else { panic!("three models") };
        assert_eq!((small.cost(7, 0, false), small.cost(7, 0, true)), (140, 70));
        assert_eq!((large.cost(3, 0, false), large.cost(3, 0, true)), (390, 195));
        assert_eq!(chat.cost(10, 5, false), 1500 + 3000);
        assert_eq!(small.cost(1_000_000, 0, false), nano(0.02));
    }
}
