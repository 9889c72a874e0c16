//! Defines which Comprehend APIs are called, with which limits and in which languages.

use docweir_core::cache::CacheOptions;
use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

use super::Api;
use super::languages::KNOWN;
use super::personal::{IGNORED, PERSONAL_KINDS};

/// Configures Amazon Comprehend as the enricher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComprehendOptions {
    /// Endpoint of Amazon Comprehend; empty means `aws.endpoint`, or the public AWS endpoint.
    pub endpoint: String,
    /// APIs that are called, each charged separately: `"language"`, `"entities"`, `"key_phrases"`, `"sentiment"`,
    /// `"personal_data"`. An API whose findings `enrich.options` switches off is not called.
    pub apis: Vec<Api>,
    /// Languages that are sent to Comprehend, by its own codes. Passages in other languages get only the rules'
    /// findings, and a note.
    pub languages: Vec<String>,
    /// Language code of a passage if neither its own nor its document's language is detected. If empty, such passages
    /// are not sent.
    pub default_language: String,
    /// Kinds of personal data that are not taken from Comprehend, because they occur in every report.
    pub ignored_kinds: Vec<String>,
    /// Maximum size of one text, in bytes. Longer passages are split between sentences and sent in parts.
    pub max_text_bytes: usize,
    /// Maximum size of one text that is searched for personal data, in bytes.
    pub max_personal_bytes: usize,
    /// Maximum number of texts in one request.
    #[serde(skip)]
    pub max_texts: usize,
    /// Maximum number of requests per second that this process sends to each API.
    pub requests_per_second: f64,
    /// Maximum number of concurrent requests that this process sends to each API.
    pub concurrency: usize,
    /// Timeout of one request and its answer, in seconds.
    pub request_seconds: f64,
    /// Maximum number of attempts for a text that fails while others in its request succeed, including the first.
    #[serde(skip)]
    pub item_attempts: u32,
    /// Maximum time that a call waits for its turn, in seconds. After it the document waits for a retry, which does
    /// not count as an attempt.
    pub max_wait_seconds: f64,
    /// Time after which an unfinished document returns to the queue, in seconds. The return does not count as an
    /// attempt, and received answers are kept. The sum of this value, `max_wait_seconds` and `request_seconds` must
    /// be below `enrich.deadline_seconds`.
    pub max_document_seconds: f64,
    /// First wait after throttling, in seconds; it doubles after each further throttling.
    pub backoff_initial_seconds: f64,
    /// Longest wait after throttling and failures, in seconds.
    #[serde(skip)]
    pub backoff_max_seconds: f64,
    /// Number of consecutive failures after which the service counts as down.
    #[serde(skip)]
    pub failures: u32,
    /// Time after which a service that is down is called again, in seconds; it doubles each time.
    pub down_seconds: f64,
    /// Cache of the answers.
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
        // A smaller limit could cut texts between a letter and its marks without end.
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

    /// Returns the options that affect the findings; the others affect only timing and speed.
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
