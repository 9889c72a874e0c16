//! Reads the current values of secrets from Secrets Manager.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::Builder;

use crate::access::{Aws, answered};
use crate::{Fault, FaultKind};

/// Sends calls to Secrets Manager. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SecretsManager {
    client: Client,
}

impl SecretsManager {
    /// Creates a client for `endpoint`; empty means the shared AWS endpoint.
    pub fn new(aws: &Aws, endpoint: &str) -> Self {
        let mut config = Builder::from(&aws.sdk);
        if !endpoint.is_empty() {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()) }
    }

    /// Returns the value of a secret, given its name or ARN. A text value is returned as its UTF-8 bytes.
    pub async fn value(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let call = self.client.get_secret_value().secret_id(name);
        let value = answered("secretsmanager", "GetSecretValue", call.send().await)?;
        match (value.secret_string, value.secret_binary) {
            (Some(text), _) => Ok(text.into_bytes()),
            (None, Some(bytes)) => Ok(bytes.into_inner()),
            (None, None) => Err(Fault::new(FaultKind::NotFound, "no value", "the secret has no value yet")),
        }
    }
}
