//! Secrets: where each is kept, and its value while it is used.
//!
//! A key of the configuration that opens a door never holds the secret itself. It is in an environment variable, or in
//! AWS Secrets Manager, and the configuration names it there ([`SecretSetting`]). Secrets Manager is asked when the secret
//! is first needed, so that a run that needs none asks for none; what it answered is kept for a while ([`SecretOptions`])
//! and asked for again at once, though not too often, when the other side says that it does not take it any more. A
//! value is in no message, no log and no `Debug`.
//!
//! - [`setting`] how the configuration names a secret; [`options`] how long a value is kept
//! - [`key`] a value in use; `value` what was read, and the part of it that is meant
//! - [`Vault`] who is asked: `docweir-aws-backend` has Secrets Manager

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

/// Why there is no value. Holds nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SecretError {
    pub text: String,
    /// It may be there in a moment.
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

/// Keeps secrets for many.
#[async_trait]
pub trait Vault: Send + Sync + 'static {
    /// The secret's value now. `setting` is the key of the configuration that names it, for the error.
    async fn read(&self, name: &str, setting: &str) -> Result<Vec<u8>, SecretError>;
}

/// Gives every part of the process the secrets that its settings name.
pub struct Secrets {
    options: SecretOptions,
    /// `None` in a program that was built without AWS.
    vault: Option<Arc<dyn Vault>>,
}

impl Secrets {
    /// Asks nobody yet. `vault` is `None` in a program that was built without AWS.
    pub fn new(options: SecretOptions, vault: Option<Arc<dyn Vault>>) -> Self {
        Self { options, vault }
    }

    /// The secret that `setting` names, or else the one in the environment variable. `None` where there is neither.
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
