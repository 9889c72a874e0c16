//! Secrets Manager: the current value of a secret.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::Builder;

use crate::access::{Aws, answered};
use crate::{Fault, FaultKind};

/// Calls of Secrets Manager. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SecretsManager {
    client: Client,
}

impl SecretsManager {
    /// At an address of its own, or at that of all services where it is empty.
    pub fn new(aws: &Aws, endpoint: &str) -> Self {
        let mut config = Builder::from(&aws.sdk);
        if !endpoint.is_empty() {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()) }
    }

    /// The value of a secret, by its name or ARN, as it was put there: a text or bytes.
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
