//! Builds the addresses of calls, and decides which redirections are followed.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use reqwest::redirect::{Action, Attempt};
use reqwest::{StatusCode, Url};

use super::call_error::CallError;

/// Version of the API, which is the end of most addresses.
const VERSION: &str = "/v1";
/// Maximum number of redirections of one request.
const MOST_REDIRECTIONS: usize = 5;

/// It is not known yet whether the configured address is correct.
const UNTRIED: u8 = 0;
const AS_CONFIGURED: u8 = 1;
const ALTERNATIVE: u8 = 2;

/// Holds the address of an endpoint. If the server does not know the configured address, the same address with or without
/// the version is tried. The address that works is kept until the process ends.
pub struct Address {
    configured: String,
    alternative: String,
    state: AtomicU8,
}

impl Address {
    /// Reads the configured address. A slash at the end and the path of the embeddings are ignored.
    pub fn new(base_url: &str) -> Self {
        let base = base_url.trim_end_matches('/');
        let configured = base.strip_suffix("/embeddings").unwrap_or(base).to_owned();
        let alternative = match configured.strip_suffix(VERSION) {
            Some(shorter) => shorter.to_owned(),
            None => format!("{configured}{VERSION}"),
        };
        Self { configured, alternative, state: AtomicU8::new(UNTRIED) }
    }

    /// Returns the address of a call. Path segments and query values may come from the provider, so both are escaped.
    pub fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, CallError> {
        match self.state.load(Ordering::Relaxed) {
            ALTERNATIVE => url(&self.alternative, path, query),
            _ => url(&self.configured, path, query),
        }
    }

    /// Returns the address to try if the server does not know the address `tried`. Returns `None` once an address has
    /// worked.
    pub fn instead_of(&self, tried: &Url) -> Option<Url> {
        if !self.is_untried() {
            return None;
        }
        let rest = tried.as_str().strip_prefix(self.configured.as_str())?;
        Url::parse(&format!("{}{rest}", self.alternative)).ok()
    }

    /// Returns whether no address has worked yet.
    pub fn is_untried(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UNTRIED
    }

    /// Records that an address works.
    pub fn works(&self, is_alternative: bool) {
        let state = if is_alternative { ALTERNATIVE } else { AS_CONFIGURED };
        // The first address that works stays.
        let _ = self.state.compare_exchange(UNTRIED, state, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns whether a key can be sent to the address safely. The connection must be encrypted, or must not leave this
    /// machine.
    pub fn keeps_secrets(&self) -> bool {
        Url::parse(&self.configured).is_ok_and(|url| keeps_secrets(&url))
    }

    /// Returns whether the address is on this machine and not encrypted.
    pub fn is_plain_and_local(&self) -> bool {
        self.configured.starts_with("http://") && self.keeps_secrets()
    }
}

fn url(base: &str, path: &[&str], query: &[(&str, &str)]) -> Result<Url, CallError> {
    let unreadable = || CallError::Unknown("invalid endpoint address: correct `base_url`".into());
    let mut url = Url::parse(base).map_err(|_| unreadable())?;
    url.path_segments_mut().map_err(|()| unreadable())?.pop_if_empty().extend(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

fn keeps_secrets(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || is_loopback || host == "localhost"
}

/// Decides whether a redirection is followed: only with the method and the body of the request, and only to the same host
/// or to an encrypted address. The HTTP client sends the key to the same host and port only.
pub fn redirection(attempt: Attempt<'_>) -> Action {
    let keeps_request = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let before = attempt.previous().last();
    let is_safe = before.is_some_and(|before| is_safe(before, attempt.url()));
    if keeps_request && is_safe && attempt.previous().len() <= MOST_REDIRECTIONS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn is_safe(before: &Url, next: &Url) -> bool {
    let same_host = before.host_str() == next.host_str() && before.scheme() == next.scheme();
    next.scheme() == "https" || same_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_sent_unencrypted_to_another_machine() {
        for base in
            ["https://api.openai.com/v1", "http://127.0.0.1:9/v1", "http://[::1]:9", "http://localhost:11434/v1"]
        {
            assert!(Address::new(base).keeps_secrets(), "{base}");
        }
        for base in [
            "http://api.openai.com/v1",
            "http://10.0.0.5/v1",
            "http://localhost.example/v1",
            "http://127.0.0.1.example",
        ] {
            assert!(!Address::new(base).keeps_secrets(), "{base}");
        }
    }

    #[test]
    fn an_address_is_tried_with_and_without_the_version() {
        let table = [
            ("http://a/v1", "http://a/v1/embeddings", "http://a/embeddings"),
            ("http://a/v1///", "http://a/v1/embeddings", "http://a/embeddings"),
            ("http://a", "http://a/embeddings", "http://a/v1/embeddings"),
            ("https://a/openai/v1/", "https://a/openai/v1/embeddings", "https://a/openai/embeddings"),
            ("https://a/v1/embeddings", "https://a/v1/embeddings", "https://a/embeddings"),
        ];
        for (base, first, second) in table {
            let address = Address::new(base);
            let tried = address.url(&["embeddings"], &[]).unwrap();
            assert_eq!(tried.as_str(), first);
            assert_eq!(address.instead_of(&tried).unwrap().as_str(), second);
            assert!(address.is_untried());
            address.works(true);
            assert!(!address.is_untried());
            assert_eq!(address.url(&["embeddings"], &[]).unwrap().as_str(), second);
            assert_eq!(address.instead_of(&tried), None);
            address.works(false);
            assert_eq!(address.url(&["embeddings"], &[]).unwrap().as_str(), second);
        }
    }

    #[test]
    fn only_the_same_host_or_an_encrypted_address_is_followed() {
        let table = [
            ("http://a:1/v1", "http://a:2/v1", true),
            ("http://a/v1", "https://b/v1", true),
            ("https://a/v1", "https://b/v1", true),
            ("http://a/v1", "http://b/v1", false),
            ("https://a/v1", "http://a/v1", false),
        ];
        for (before, next, expected) in table {
            assert_eq!(is_safe(&Url::parse(before).unwrap(), &Url::parse(next).unwrap()), expected, "{before} {next}");
        }
    }
}
