//! Reads secrets from their stores, and caches their values.
//!
//! The configuration never contains a secret itself, but only a name ([`SecretSetting`]). The secret is in an
//! environment variable or in AWS Secrets Manager. Secrets Manager is read when the secret is first needed, so a run
//! that needs no secret reads none. The value is cached for a while ([`SecretOptions`]). If an endpoint refuses the
//! value, the secret is read again at once, but not too often. Values never appear in messages, logs or `Debug`
//! output.
//!
//! - [`setting`] parses the names of secrets; [`options`] configures the caching
//! - [`key`] provides the value of a secret; `value` extracts the value from the stored bytes
//! - [`Vault`] reads the stored bytes; `docweir-aws-backend` implements it with Secrets Manager

pub mod key;
pub mod options;
pub mod setting;
mod value;

use std::sync::Arc;

use async_trait::async_trait;

pub use key::Key;
pub use options::SecretOptions;
pub use setting::{SecretName, SecretSetting};
pub use value::Sensitive;

/// Explains why the value of a secret is not available. The message contains no part of the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SecretError {
    pub text: String,
    /// True if a retry may succeed.
    pub passing: bool,
}

impl SecretError {
    pub fn lasting(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: false }
    }

    pub fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: true }
    }
}

/// Reads secrets from a store, such as AWS Secrets Manager.
#[async_trait]
pub trait Vault: Send + Sync + 'static {
    /// Returns the current value of a secret. `setting` is the configuration key that names the secret; error
    /// messages mention the key.
    async fn read(&self, name: &str, setting: &str) -> Result<Vec<u8>, SecretError>;
}

/// Provides all parts of the process with the secrets that the configuration names.
pub struct Secrets {
    options: SecretOptions,
    /// Vault that stores the secrets; `None` in a program that was built without AWS.
    vault: Option<Arc<dyn Vault>>,
}

impl Secrets {
    /// Creates the source of secrets. This function reads nothing. `vault` is `None` in a program that was built
    /// without AWS.
    pub fn new(options: SecretOptions, vault: Option<Arc<dyn Vault>>) -> Self {
        Self { options, vault }
    }

    /// Returns the secret that `named` names. `named` is the value of the configuration key `setting`. If `named` names
    /// no secret, returns the value of the environment variable `variable`. Returns `None` if this variable is missing
    /// or empty.
    pub fn key(&self, setting: &'static str, named: &SecretSetting, variable: &str) -> Option<Key> {
        if let SecretSetting::Kept(name) = named {
            return Some(match &self.vault {
                Some(vault) => Key::kept(vault.clone(), name.clone(), setting, self.options.clone()),
                None => Key::unavailable(setting),
            });
        }
        let value = std::env::var(variable).ok().filter(|_| !variable.is_empty());
        let value = value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        value.map(Key::from)
    }
}
