//! Defines the settings of Amazon Comprehend: which APIs are called, with which limits, and for which languages.

use docweir_core::cache::CacheOptions;
use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

use super::Api;
use super::languages::KNOWN;
use super::personal::{IGNORED, PERSONAL_KINDS};

/// Configures the enrichment with Amazon Comprehend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComprehendOptions {
    /// Endpoint of Amazon Comprehend. Empty means the value of `aws.endpoint`; if that is empty too, the public AWS
    /// endpoint.
    pub endpoint: String,
    /// APIs of Comprehend to call: `"language"`, `"entities"`, `"key_phrases"`, `"sentiment"`, `"personal_data"`. Each
    /// API is charged separately. An API is not called if `enrich.options` switches its findings off.
    pub apis: Vec<Api>,
    /// Languages whose passages are sent to Comprehend, as Comprehend's language codes. Passages in other languages get
    /// only the findings of the local rules, and a note.
    pub languages: Vec<String>,
    /// Language code for a passage if a language is detected neither in the passage nor in the passage's document. If
    /// this code is empty, such passages are not sent to Comprehend.
    pub default_language: String,
    /// Kinds of personal data that are ignored if Comprehend finds them. By default, dates (`"DATE_TIME"`) and web
    /// addresses (`"URL"`) are ignored, because almost every business document contains them.
    pub ignored_kinds: Vec<String>,
    /// Maximum size of one text that is sent to Comprehend, in bytes. Longer passages are split between sentences and
    /// sent in parts.
    pub max_text_bytes: usize,
    /// Maximum size of one text that is sent to find personal data, in bytes.
    pub max_personal_bytes: usize,
    /// Maximum number of texts in one request.
    #[serde(skip)]
    pub max_texts: usize,
    /// Maximum number of requests per second that this process sends to each API.
    pub requests_per_second: f64,
    /// Maximum number of concurrent requests that this process sends to each API.
    pub concurrency: usize,
    /// Maximum time for one request and its response, in seconds.
    pub request_seconds: f64,
    /// Maximum number of attempts for a text that fails while other texts of the same request succeed. The first
    /// attempt counts too.
    #[serde(skip)]
    pub item_attempts: u32,
    /// Maximum time that a call waits for the rate limits, in seconds. After this time, the call ends and the document
    /// is retried later. The wait does not count as an attempt.
    pub max_wait_seconds: f64,
    /// Maximum time spent on one document, in seconds. After this time, an unfinished document returns to the queue.
    /// The interruption does not count as an attempt, and the answers received so far are kept. The sum of this value,
    /// `max_wait_seconds` and `request_seconds` must be below `enrich.deadline_seconds`.
    pub max_document_seconds: f64,
    /// Wait after the first throttled request, in seconds. The wait doubles each time another request is throttled.
    pub backoff_initial_seconds: f64,
    /// Maximum wait after throttled or failed requests, in seconds.
    #[serde(skip)]
    pub backoff_max_seconds: f64,
    /// Number of consecutive failed requests after which Comprehend counts as down.
    #[serde(skip)]
    pub failures: u32,
    /// Time to wait before Comprehend is called again while it counts as down, in seconds. The time doubles after each
    /// further failure.
    pub down_seconds: f64,
    /// Cache of Comprehend's answers.
    pub cache: CacheOptions,
}

impl Default for ComprehendOptions {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            apis: Api::ALL.to_vec(),
            languages: KNOWN.iter().map(|code| (*code).to_owned()).collect(),
            default_language: "en".into(),
            ignored_kinds: IGNORED.iter().map(|kind| (*kind).to_owned()).collect(),
            max_text_bytes: 4_950,
            max_personal_bytes: 50_000,
            max_texts: 25,
            requests_per_second: 10.0,
            concurrency: 8,
            request_seconds: 30.0,
            item_attempts: 3,
            max_wait_seconds: 60.0,
            max_document_seconds: 300.0,
            backoff_initial_seconds: 1.0,
            backoff_max_seconds: 60.0,
            failures: 5,
            down_seconds: 10.0,
            cache: CacheOptions::for_findings(),
        }
    }
}

impl ComprehendOptions {
    /// Returns every field whose value is invalid, with a description of the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        // With a smaller limit, splitting between a letter and its marks might never end.
        range("max_text_bytes", self.max_text_bytes as f64, 64.0, 5_000.0);
        range("max_personal_bytes", self.max_personal_bytes as f64, 512.0, 100_000.0);
        range("requests_per_second", self.requests_per_second, 0.1, 10_000.0);
        range("concurrency", self.concurrency as f64, 1.0, 1_000.0);
        range("request_seconds", self.request_seconds, 0.01, 600.0);
        range("max_wait_seconds", self.max_wait_seconds, 0.1, 3_600.0);
        range("max_document_seconds", self.max_document_seconds, 0.1, 86_400.0);
        range("backoff_initial_seconds", self.backoff_initial_seconds, 0.01, 600.0);
        range("down_seconds", self.down_seconds, 0.01, 3_600.0);
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with http:// or https://".into()));
        }
        let known = |code: &str| KNOWN.contains(&code);
        for code in self.languages.iter().filter(|code| !known(code)) {
            found.push((
                "languages",
                format!("contains `{code}`, which Comprehend does not support; supported: {}", KNOWN.join(", ")),
            ));
        }
        if !self.default_language.is_empty() && !known(&self.default_language) {
            let text = format!(
                "is `{}`, which Comprehend does not support; supported: {}",
                self.default_language,
                KNOWN.join(", ")
            );
            found.push(("default_language", text));
        }
        for kind in &self.ignored_kinds {
            if !PERSONAL_KINDS.iter().any(|(_, ours)| ours == kind) {
                let kinds: Vec<&str> = PERSONAL_KINDS.iter().map(|(_, ours)| *ours).collect();
                found.push((
                    "ignored_kinds",
                    format!("contains the unknown kind `{kind}`; known kinds: {}", kinds.join(", ")),
                ));
            }
        }
        found
    }

    /// Returns the options that affect the findings. The other options affect only timing and speed.
    pub fn shape(&self) -> serde_json::Value {
        serde_json::json!({
            "apis": self.apis,
            "languages": self.languages,
            "default_language": self.default_language,
            "ignored_kinds": self.ignored_kinds,
            "max_text_bytes": self.max_text_bytes,
            "max_personal_bytes": self.max_personal_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(ComprehendOptions::default().problems(), []);
        let of = |change: fn(&mut ComprehendOptions)| {
            let mut options = ComprehendOptions::default();
            change(&mut options);
            options.problems().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(of(|o| o.endpoint = "comprehend.example.com".into()), ["endpoint"]);
        assert_eq!(of(|o| (o.max_text_bytes, o.concurrency) = (5_001, 0)), ["max_text_bytes", "concurrency"]);
        assert_eq!(of(|o| o.requests_per_second = f64::NAN), ["requests_per_second"]);
        assert_eq!(of(|o| o.languages = vec!["pl".into()]), ["languages"]);
        assert_eq!(of(|o| o.default_language = "eng".into()), ["default_language"]);
        assert_eq!(of(|o| o.default_language = String::new()), [""; 0]);
        assert_eq!(of(|o| o.ignored_kinds = vec!["SHOE_SIZE".into()]), ["ignored_kinds"]);
    }
}
