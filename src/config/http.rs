//! Declares the options of the HTTP endpoint.

use std::net::SocketAddr;

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Configures the HTTP endpoint of a running process: `/metrics`, `/supervision`, `/health` and `/ready`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpOptions {
    /// Address of the HTTP endpoint as `host:port`, such as `127.0.0.1:9464`. If empty, there is no endpoint.
    pub metrics_address: String,
    /// Maximum number of concurrent connections to the HTTP endpoint. At this limit, a new connection closes the
    /// oldest idle connection.
    pub max_connections: usize,
    /// Maximum time that a client may take to send its request, in seconds. This value cannot be configured.
    #[serde(skip)]
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
            found.push(("metrics_address", "must be an IP address and a port, such as 127.0.0.1:9464".to_owned()));
        }
        found.extend(out_of_range("max_connections", self.max_connections, 1, 10_000));
        found
    }
}
