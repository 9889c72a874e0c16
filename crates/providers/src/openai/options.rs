//! Configures an endpoint that uses OpenAI's protocol.

use docweir_admission::AdmissionOptions;
use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

use crate::secrets::SecretSetting;

/// Selects how texts that exceed the model's token limit are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverLong {
    /// The text is embedded in parts, and its vector is the mean of the vectors of the parts.
    #[default]
    Split,
    /// The document is refused.
    Refuse,
}

/// Configures an endpoint that uses OpenAI's protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpenAiOptions {
    /// Base URL of the endpoint. If the server does not know this address, the address is also tried with or without
    /// `/v1` at its end.
    pub base_url: String,
    /// Secret that holds the API key, written as `{ secret = "NAME" }`, where `NAME` is the secret's name in AWS
    /// Secrets Manager. If the secret is a JSON object, add `field = "NAME"`. The API key itself must not be in a file.
    /// If empty, the API key comes from the environment variable that `api_key_variable` names.
    pub api_key: SecretSetting,
    /// Name of the environment variable that holds the API key. If the variable is set, it takes precedence over
    /// `api_key`. If both settings are empty, no API key is sent.
    pub api_key_variable: String,
    /// Name of the embedding model.
    pub model: String,
    /// Number of dimensions of the vectors; 0 means the model's native number, which is known only for OpenAI's models.
    /// For a model of another vendor, set the model's native number. Only the models text-embedding-3-… can also return
    /// any smaller number of dimensions.
    pub dimensions: u32,
    /// Handling of texts that exceed the model's token limit. `"split"` embeds such a text in parts; `"refuse"`
    /// refuses the document.
    pub over_long: OverLong,
    /// Maximum number of texts in one request.
    pub max_inputs: usize,
    /// Maximum number of tokens in one text.
    pub max_input_tokens: usize,
    /// Maximum number of tokens in one request.
    pub max_request_tokens: u64,
    /// Maximum time to connect, in seconds.
    #[serde(skip)]
    pub connect_seconds: f64,
    /// Maximum time for one request, including its answer, in seconds.
    pub request_seconds: f64,
    /// Maximum size of an answer, in bytes. A larger answer is discarded.
    #[serde(skip)]
    pub max_answer_bytes: u64,
    pub limits: AdmissionOptions,
    /// True if the process waits while the endpoint sends answers that cannot be read. False if the process ends.
    #[serde(skip)]
    pub waits_if_unreadable: bool,
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
            max_answer_bytes: 256 << 20,
            limits: AdmissionOptions::default(),
            waits_if_unreadable: false,
        }
    }
}

impl OpenAiOptions {
    /// Returns the number of dimensions; `None` for an unknown model without configured dimensions.
    pub fn dimension(&self) -> Option<u32> {
        match (self.dimensions, self.model.as_str()) {
            (0, "text-embedding-3-small" | "text-embedding-ada-002") => Some(1_536),
            (0, "text-embedding-3-large") => Some(3_072),
            (0, _) => None,
            (asked, _) => Some(asked),
        }
    }

    /// Returns the value of the request parameter `dimensions`, or `None` if the parameter must be left out. Only the
    /// models text-embedding-3-… support this parameter; other models refuse it, even with their native number.
    pub fn asked_dimensions(&self) -> Option<u32> {
        (self.dimensions > 0 && self.model.starts_with("text-embedding-3-")).then_some(self.dimensions)
    }

    /// Describes where the API key is stored, for messages.
    pub fn key_place(&self) -> String {
        match &self.api_key {
            SecretSetting::Kept(name) => name.to_string(),
            SecretSetting::Unset => format!("${}", self.api_key_variable),
        }
    }

    /// Returns each invalid field, with the reason.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("dimensions", f64::from(self.dimensions), 0.0, 65_536.0);
        range("max_inputs", self.max_inputs as f64, 1.0, 100_000.0);
        range("max_input_tokens", self.max_input_tokens as f64, 16.0, 1e7);
        range("max_request_tokens", self.max_request_tokens as f64, self.max_input_tokens as f64, 1e9);
        range("request_seconds", self.request_seconds, 0.01, 3_600.0);
        let plain = |url: reqwest::Url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        if !reqwest::Url::parse(&self.base_url).is_ok_and(plain) {
            let text = "must begin with http:// or https://, without user name, password, query or fragment";
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
            let text = format!("must be set, because the dimensions of `{}` are unknown", self.model);
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
