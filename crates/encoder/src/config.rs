//! Reads the model's shape from `config.json`, if that file exists.

use std::path::Path;

use serde::Deserialize;

use crate::error::EncoderError;

/// Holds the fields of `config.json` that affect encoding. The other fields concern training and administration.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ConfigFile {
    pub num_attention_heads: Option<usize>,
    pub num_hidden_layers: Option<usize>,
    pub hidden_size: Option<usize>,
    pub layer_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    model_type: Option<String>,
}

/// Holds the field `max_seq_length` of `sentence_bert_config.json`, a file that only sentence-transformers models
/// have.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

impl ConfigFile {
    pub fn read(path: &Path) -> Result<Self, EncoderError> {
        let config: Self = read_json(path)?;
        let expect = |key: &str, value: &Option<String>, wanted: &str| match value {
            Some(v) if v != wanted => Err(EncoderError::Unsupported(format!("{key} is `{v}`, but must be `{wanted}`"))),
            _ => Ok(()),
        };
        expect("model_type", &config.model_type, "bert")?;
        expect("hidden_act", &config.hidden_act, "gelu")?;
        expect("position_embedding_type", &config.position_embedding_type, "absolute")?;
        Ok(config)
    }
}

/// Returns the text length, in tokens, for which the model was trained. The length is read from
/// `sentence_bert_config.json`, in the parent folder of `beside`. Returns `None` if `sentence_bert_config.json` is
/// missing or does not state the length.
pub(crate) fn trained_length(beside: &Path) -> Option<usize> {
    let path = beside.parent()?.join("sentence_bert_config.json");
    read_json::<SentenceConfig>(&path).ok()?.max_seq_length
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, EncoderError> {
    let bytes = std::fs::read(path).map_err(|source| EncoderError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|e| EncoderError::Malformed { path: path.to_owned(), reason: e.to_string() })
}
