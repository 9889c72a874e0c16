//! Parses a configuration value that names a secret, such as `{ secret = "NAME" }`. If the secret is a JSON object, the
//! value also contains `field = "NAME"`.

use serde::{Deserialize, Serialize};
use toml::Value;

/// Names a secret. The setting never contains the secret itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "Form", into = "Form")]
pub enum SecretSetting {
    /// The setting names no secret; the environment may provide one.
    #[default]
    Unset,
    Kept(SecretName),
}

/// Names a secret in AWS Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    /// Name or ARN of the secret.
    pub secret: String,
    /// Member of the secret's JSON object that holds the value. If absent, the whole secret is the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl std::fmt::Display for SecretName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.field {
            Some(field) => write!(f, "the field `{field}` of the secret `{}`", self.secret),
            None => write!(f, "the secret `{}`", self.secret),
        }
    }
}

/// Holds the setting as it is written in TOML. An empty string means that no secret is named.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum Form {
    Text(String),
    Kept(SecretName),
}

impl TryFrom<Form> for SecretSetting {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, Self::Error> {
        match form {
            Form::Text(text) if text.is_empty() => Ok(Self::Unset),
            Form::Text(_) => Err("the configuration must not contain the secret itself"),
            Form::Kept(name) => Ok(Self::Kept(name)),
        }
    }
}

impl From<SecretSetting> for Form {
    fn from(setting: SecretSetting) -> Self {
        match setting {
            SecretSetting::Unset => Self::Text(String::new()),
            SecretSetting::Kept(name) => Self::Kept(name),
        }
    }
}

/// Checks that a value names a secret. The error quotes no part of the value, because the value may be the secret
/// itself.
pub fn check(value: Value) -> Result<Value, String> {
    const FORM: &str = "`{ secret = \"NAME\" }`, with `field = \"NAME\"` if the secret is a JSON object";
    let named = |name: &str, value: &Value| match (name, value) {
        ("secret" | "field", Value::String(text)) => !text.is_empty(),
        _ => false,
    };
    match &value {
        Value::String(text) if text.is_empty() => Ok(value),
        Value::String(_) => Err(format!(
            "must not contain the secret itself, because it would appear in files and process lists: use {FORM}, \
             or set the environment variable"
        )),
        Value::Table(table) if table.contains_key("secret") && table.iter().all(|(n, v)| named(n, v)) => Ok(value),
        _ => Err(format!("must be {FORM}")),
    }
}
