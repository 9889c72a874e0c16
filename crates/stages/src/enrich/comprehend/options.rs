//! What Comprehend is asked, how much at a time, and in which languages.

use docweir_core::cache::FindingsCacheOptions;
use serde::{Deserialize, Serialize};

use super::Api;
use super::languages::KNOWN;
use super::personal::{IGNORED, PERSONAL_KINDS};

/// Amazon Comprehend as enricher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComprehendOptions {
    /// Address of the service; empty for that of `aws.endpoint`, or of AWS itself. Default empty.
    pub endpoint: String,
    /// What it is asked for, each at a price: `language`, `entities`, `key_phrases`, `sentiment`, `personal_data`. What
    /// `enrich.options` switches off is not asked for. Default all.
    pub apis: Vec<Api>,
    /// Languages that it is asked about, by its own codes; passages in others get what the rules find, and a note.
    /// Default all that it knows.
    pub languages: Vec<String>,
    /// Language of a passage where neither it nor its document says one; empty for none, which is not asked about.
    /// Default en.
    pub default_language: String,
    /// Kinds of personal data that are not taken from it: they stand in every report. Default DATE_TIME and URL.
    pub ignored_kinds: Vec<String>,
    /// Bytes of one of several texts in a request; longer passages are sent in parts, cut between sentences. Default 4,950.
    pub max_text_bytes: usize,
    /// Bytes of a text that is looked through for personal data. Default 50,000.
    pub max_personal_bytes: usize,
    /// Texts in one request. Default 25.
    pub max_texts: usize,
    /// Requests a second, of each API, by this process. Default 10.
    pub requests_per_second: f64,
    /// Requests at the same time, of each API, by this process. Default 8.
    pub concurrency: usize,
    /// Time for one request and its answer, in seconds. Default 30.
    pub request_seconds: f64,
    /// Attempts of a text that fails alone in an answer, the first included. Default 3.
    pub item_attempts: u32,
    /// Seconds that a call waits for its turn; then its document waits for a retry, which is no attempt. Default 60.
    pub max_wait_seconds: f64,
    /// Seconds after which a document that is not done goes back into the queue, which is no attempt; what was answered is
    /// kept. Together with `max_wait_seconds` and `request_seconds` below `enrich.deadline_seconds`. Default 300.
    pub max_document_seconds: f64,
    /// First wait after throttling, in seconds; doubles each time. Default 1.
    pub backoff_initial_seconds: f64,
    /// Longest wait after throttling and failures, in seconds. Default 60.
    pub backoff_max_seconds: f64,
    /// Failures in a row after which the service counts as down. Default 5.
    pub failures: u32,
    /// Seconds after which a service that is down is tried again; doubles each time. Default 10.
    pub down_seconds: f64,
    pub cache: FindingsCacheOptions,
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
            cache: FindingsCacheOptions::default(),
        }
    }
}

impl ComprehendOptions {
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        let mut range = |field, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        // A text of fewer bytes could be cut between a letter and its marks for ever.
        range("max_text_bytes", self.max_text_bytes as f64, 64.0, 5_000.0);
        range("max_personal_bytes", self.max_personal_bytes as f64, 512.0, 100_000.0);
        range("max_texts", self.max_texts as f64, 1.0, 25.0);
        range("requests_per_second", self.requests_per_second, 0.1, 10_000.0);
        range("concurrency", self.concurrency as f64, 1.0, 1_000.0);
        range("request_seconds", self.request_seconds, 0.01, 600.0);
        range("item_attempts", f64::from(self.item_attempts), 1.0, 20.0);
        range("max_wait_seconds", self.max_wait_seconds, 0.1, 3_600.0);
        range("max_document_seconds", self.max_document_seconds, 0.1, 86_400.0);
        range("backoff_initial_seconds", self.backoff_initial_seconds, 0.01, 600.0);
        range("backoff_max_seconds", self.backoff_max_seconds, 0.01, 86_400.0);
        range("failures", f64::from(self.failures), 1.0, 1_000.0);
        range("down_seconds", self.down_seconds, 0.01, 3_600.0);
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with http:// or https://".into()));
        }
        let known = |code: &str| KNOWN.contains(&code);
        for code in self.languages.iter().filter(|code| !known(code)) {
            found.push(("languages", format!("names `{code}`, which it does not know: {}", KNOWN.join(", "))));
        }
        if !self.default_language.is_empty() && !known(&self.default_language) {
            let text = format!("is `{}`, which it does not know: {}", self.default_language, KNOWN.join(", "));
            found.push(("default_language", text));
        }
        for kind in &self.ignored_kinds {
            if !PERSONAL_KINDS.iter().any(|(_, ours)| ours == kind) {
                let kinds: Vec<&str> = PERSONAL_KINDS.iter().map(|(_, ours)| *ours).collect();
                found.push((
                    "ignored_kinds",
                    format!("names the unknown kind `{kind}`, known are {}", kinds.join(", ")),
                ));
            }
        }
        found
    }

    /// What of it shapes the findings: the rest decides when and how fast they are there.
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
        assert_eq!(of(|o| (o.max_text_bytes, o.max_texts) = (5_001, 26)), ["max_text_bytes", "max_texts"]);
        assert_eq!(of(|o| o.requests_per_second = f64::NAN), ["requests_per_second"]);
        assert_eq!(of(|o| o.languages = vec!["pl".into()]), ["languages"]);
        assert_eq!(of(|o| o.default_language = "eng".into()), ["default_language"]);
        assert_eq!(of(|o| o.default_language = String::new()), [""; 0]);
        assert_eq!(of(|o| o.ignored_kinds = vec!["SHOE_SIZE".into()]), ["ignored_kinds"]);
    }
}
