//! Sums up the charges and the refusals of the mock provider.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Sums up the charges of requests for embeddings and chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub requests: u64,
    pub inputs: u64,
    pub tokens: u64,
    pub nanodollars: u64,
}

impl Sum {
    fn add(&mut self, charge: &Charge) {
        self.requests += 1;
        self.inputs += charge.inputs;
        self.tokens += charge.tokens;
        self.nanodollars += charge.nanodollars;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub live: Sum,
    pub batch: Sum,
}

impl Split {
    fn of(&mut self, batch: bool) -> &mut Sum {
        if batch { &mut self.batch } else { &mut self.live }
    }
}

/// Counts how often one text was charged, in live requests and in batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    pub live: u64,
    pub batch: u64,
}

/// Summarises a batch for tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchEntry {
    pub id: String,
    pub status: String,
    pub metadata: Value,
    pub input_file_id: String,
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    /// Tokens that the batch's rows were charged for.
    pub charged_tokens: u64,
}

/// Sums up all charges since the data folder was created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Charges {
    pub live: Sum,
    pub batch: Sum,
    /// Number of replies with a status below 400. If a fault withholds a reply after the work was done, this reply
    /// also counts.
    pub accepted_requests: u64,
    /// Number of replies with a status of 400 or above, by status.
    pub refused: BTreeMap<u16, u64>,
    pub by_model: BTreeMap<String, Split>,
    pub by_key: BTreeMap<String, Split>,
    /// Charges of batch rows by `custom_id`, over all batches. In each sum, `requests` is the number of times that
    /// the id was charged.
    pub by_custom_id: BTreeMap<String, Sum>,
    /// Charges by the SHA-256 of the text. Filled only if `charges_by_text` is set.
    pub by_text: BTreeMap<String, Times>,
    /// Number of times that faults fired, by the name of the fault rule, such as `embeddings:status`.
    pub faults: BTreeMap<String, u64>,
    /// Charges of Comprehend.
    #[serde(default)]
    pub analysis: AnalysisCharges,
    /// Batches, oldest first.
    pub batches: Vec<BatchEntry>,
}

impl Charges {
    pub fn nanodollars(&self) -> u64 {
        self.live.nanodollars + self.batch.nanodollars
    }

    /// Returns the ids of batch rows that were charged more than once.
    pub fn custom_ids_paid_twice(&self) -> Vec<&str> {
        self.by_custom_id.iter().filter(|(_, sum)| sum.requests > 1).map(|(id, _)| id.as_str()).collect()
    }

    /// Returns the hashes of texts that were charged more than once, in live requests and batches together.
    pub fn texts_paid_twice(&self) -> Vec<&str> {
        self.by_text.iter().filter(|(_, times)| times.live + times.batch > 1).map(|(hash, _)| hash.as_str()).collect()
    }

    pub(crate) fn charge(&mut self, charge: &Charge) {
        let all = if charge.batch { &mut self.batch } else { &mut self.live };
        all.add(charge);
        entry(&mut self.by_model, &charge.model).of(charge.batch).add(charge);
        entry(&mut self.by_key, &charge.key).of(charge.batch).add(charge);
        if let Some(id) = &charge.custom_id {
            entry(&mut self.by_custom_id, id).add(charge);
        }
        for text in &charge.texts {
            let times = entry(&mut self.by_text, text);
            *(if charge.batch { &mut times.batch } else { &mut times.live }) += 1;
        }
    }

    pub(crate) fn answered(&mut self, status: u16) {
        match status {
            0..400 => self.accepted_requests += 1,
            _ => *self.refused.entry(status).or_default() += 1,
        }
    }
}

/// Sums up charges of Comprehend: requests, texts, units and cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    pub requests: u64,
    pub texts: u64,
    pub units: u64,
    pub nanodollars: u64,
}

impl Paid {
    fn add(&mut self, analysis: &Analysis) {
        self.requests += 1;
        self.texts += analysis.count;
        self.units += analysis.units;
        self.nanodollars += analysis.nanodollars;
    }
}

/// Reports all charges and refusals of Comprehend: in total, by operation, and by text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisCharges {
    pub all: Paid,
    /// Charges by operation: `language`, `entities`, `key_phrases`, `sentiment`, `personal_data`.
    pub by_operation: BTreeMap<String, Paid>,
    /// Number of charges by key. A key has the form `OPERATION/LANGUAGE/HASH`, where `HASH` is the SHA-256 of the text.
    /// Filled only if `charges_by_text` is set.
    pub by_text: BTreeMap<String, u64>,
    /// Number of refused requests, by the error type.
    pub refused: BTreeMap<String, u64>,
}

impl AnalysisCharges {
    /// Returns the texts that were charged more than once for the same operation.
    pub fn texts_paid_twice(&self) -> Vec<&str> {
        self.by_text.iter().filter(|(_, times)| **times > 1).map(|(text, _)| text.as_str()).collect()
    }

    pub(crate) fn charge(&mut self, analysis: &Analysis) {
        self.all.add(analysis);
        entry(&mut self.by_operation, &analysis.operation).add(analysis);
        for text in &analysis.texts {
            *entry(&mut self.by_text, text) += 1;
        }
    }
}

/// Records one charged request to Comprehend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Analysis {
    pub operation: String,
    pub count: u64,
    pub units: u64,
    pub nanodollars: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
}

fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, name: &str) -> &'a mut V {
    map.entry(name.to_string()).or_default()
}

/// Records one charged request: a live request or a row of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub batch: bool,
    pub key: String,
    pub model: String,
    pub inputs: u64,
    pub tokens: u64,
    pub nanodollars: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
}

/// Returns the SHA-256 of a text in hexadecimal. This hash is the key of the text in [`Charges::by_text`].
pub fn text_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
