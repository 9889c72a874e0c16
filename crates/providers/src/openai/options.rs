//! An endpoint, as configured.

use docweir_admission::AdmissionOptions;
use serde::{Deserialize, Serialize};

use crate::secrets::SecretSetting;

/// What becomes of a text that is longer than the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLong {
    /// It is embedded in parts; its vector is their mean.
    #[default]
    Split,
    /// Its document is refused.
    Refuse,
}

/// An endpoint that speaks OpenAI's protocol, and what it allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenAiOptions {
    /// Where the endpoint is, up to and with its version.
    pub base_url: String,
    /// The key, where it is kept in AWS Secrets Manager: `{ secret = "NAME" }`, with `field = "NAME"` where the secret is a
    /// JSON object. The key itself stands in no file. Empty: it is in the environment, or none is sent.
    pub api_key: SecretSetting,
    /// Name of the environment variable that holds the key; one that is set goes before `api_key`. Empty: none is looked at.
    pub api_key_variable: String,
    /// Model of the embeddings. Default text-embedding-3-small.
    pub model: String,
    /// Dimensions of the vectors; 0 for the model's own, where it is one of OpenAI's. Models that can give fewer than their
    /// own (text-embedding-3-…) are asked for so many. Default 0.
    pub dimensions: u32,
    /// What becomes of a text that is longer than the model takes: `split` or `refuse`. Default `split`.
    pub over_long: OverLong,
    /// Texts in one request at most. Default 2,048.
    pub max_inputs: usize,
    /// Tokens of one text at most. Default 8,191.
    pub max_input_tokens: usize,
    /// Tokens of one request at most. Default 300,000.
    pub max_request_tokens: u64,
    /// Time to connect, in seconds. Default 10.
    pub connect_seconds: f64,
    /// Time for one request and its answer, in seconds. Default 120.
    pub request_seconds: f64,
    /// Size of an answer above which it is given up, in bytes. Default 128 MiB.
    pub max_answer_bytes: u64,
    pub limits: AdmissionOptions,
}

impl Default for OpenAiOptions {
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".into(),
            api_key: SecretSetting::Unset,
            api_key_variable: "OPENAI_API_KEY".into(),
            model: "text-embedding-3-small".into(),
            dimensions: 0,
            over_long: OverLong::default(),
            max_inputs: 2_048,
            max_input_tokens: 8_191,
            max_request_tokens: 300_000,
            connect_seconds: 10.0,
            request_seconds: 120.0,
            max_answer_bytes: 128 << 20,
            limits: AdmissionOptions::default(),
        }
    }
}

impl OpenAiOptions {
    /// Dimensions of the vectors; `None` for a model that nobody here knows, with none asked for.
    pub fn dimension(&self) -> Option<u32> {
        match (self.dimensions, self.model.as_str()) {
            (0, "text-embedding-3-small" | "text-embedding-ada-002") => Some(1_536),
            (0, "text-embedding-3-large") => Some(3_072),
            (0, _) => None,
            (asked, _) => Some(asked),
        }
    }

    /// Dimensions to ask for. Other models refuse to be asked, even for their own.
    pub fn asked_dimensions(&self) -> Option<u32> {
        (self.dimensions > 0 && self.model.starts_with("text-embedding-3-")).then_some(self.dimensions)
    }

    /// Where the key is, for people.
    pub fn key_place(&self) -> String {
        match &self.api_key {
            SecretSetting::Kept(name) => name.to_string(),
            SecretSetting::Unset => format!("${}", self.api_key_variable),
        }
    }

    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        let mut range = |field, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("dimensions", f64::from(self.dimensions), 0.0, 65_536.0);
        range("max_inputs", self.max_inputs as f64, 1.0, 100_000.0);
        range("max_input_tokens", self.max_input_tokens as f64, 16.0, 1e7);
        range("max_request_tokens", self.max_request_tokens as f64, self.max_input_tokens as f64, 1e9);
        range("connect_seconds", self.connect_seconds, 0.01, 600.0);
        range("request_seconds", self.request_seconds, 0.01, 3_600.0);
        range("max_answer_bytes", self.max_answer_bytes as f64, 65_536.0, 4_294_967_296.0);
        let plain = |url: reqwest::Url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        if !reqwest::Url::parse(&self.base_url).is_ok_and(plain) {
            let text = "must be an address that begins with http:// or https://, without a name, a password or a query";
            found.push(("base_url", text.into()));
        }
        if self.model.is_empty() {
            found.push(("model", "must name a model".into()));
        }
        let name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if !self.api_key_variable.chars().all(name) {
            let text = "must be the name of an environment variable in capitals, not the key itself";
            found.push(("api_key_variable", text.into()));
        }
        if self.dimension().is_none() {
            let text = format!("must be set: the dimensions of `{}` are not known here", self.model);
            found.push(("dimensions", text));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let default = OpenAiOptions::default();
        assert_eq!((default.problems(), default.dimension()), (vec![], Some(1_536)));
        let of = |change: fn(&mut OpenAiOptions)| {
            let mut options = OpenAiOptions::default();
            change(&mut options);
            options.problems().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(of(|o| o.base_url = "api.example.com".into()), ["base_url"]);
        assert_eq!(of(|o| o.model = "bge-small".into()), ["dimensions"]);
        assert_eq!(of(|o| o.max_request_tokens = 100), ["max_request_tokens"]);
        assert_eq!(of(|o| o.base_url = "https://user:secret@example.com/v1".into()), ["base_url"]);
        for key in ["sk-proj-1234", "gsk_abcDEF123", "0123456789abcdef"] {
            let options = OpenAiOptions { api_key_variable: key.into(), ..OpenAiOptions::default() };
            assert_eq!(options.problems().len(), 1, "{key}");
        }
        let asked = |model: &str, dimensions| {
            OpenAiOptions { model: model.into(), dimensions, ..OpenAiOptions::default() }.asked_dimensions()
        };
        assert_eq!(asked("text-embedding-3-large", 256), Some(256));
        assert_eq!((asked("text-embedding-3-large", 0), asked("bge-m3", 1_024)), (None, None));
    }
}
