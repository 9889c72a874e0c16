//! The pages of a run.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Where the pages of a run are served, and how much of it at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpOptions {
    /// Address of `/metrics` and `/supervision` while a run lasts, `host:port`. Empty: not served.
    pub metrics_address: String,
    /// Connections served at the same time; further ones wait.
    pub max_connections: usize,
    /// Time for a client to send its request, in seconds.
    pub request_seconds: u64,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { metrics_address: String::new(), max_connections: 64, request_seconds: 10 }
    }
}

impl HttpOptions {
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if !self.metrics_address.is_empty() && self.metrics_address.parse::<SocketAddr>().is_err() {
            found.push(("metrics_address", "must be an address and a port, like 127.0.0.1:9464".to_owned()));
        }
        if !(1..=10_000).contains(&self.max_connections) {
            found.push(("max_connections", "must lie between 1 and 10000".to_owned()));
        }
        if !(1..=300).contains(&self.request_seconds) {
            found.push(("request_seconds", "must lie between 1 and 300".to_owned()));
        }
        found
    }
}
