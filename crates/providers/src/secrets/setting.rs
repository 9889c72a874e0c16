//! How the configuration names a secret: `{ secret = "NAME" }`, with `field = "NAME"` where its value is a JSON object.

use serde::{Deserialize, Serialize};
use toml::Value;

/// A key of the configuration that opens a door. Never holds what opens it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub enum SecretSetting {
    /// In no vault: the environment has it, or nobody.
    #[default]
    Unset,
    Kept(SecretName),
}

/// A secret of Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretName {
    /// Its name or ARN.
    pub secret: String,
    /// The member of its JSON object; `None` where all of its value is meant.
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

/// As TOML has it: an empty text for none.
#[derive(Serialize, Deserialize)]
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
            Form::Text(_) => Err("a secret never stands in the configuration itself"),
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

/// Whether a value names a secret, or why not. Says nothing of what it holds: it may be the secret itself.
pub fn check(value: Value) -> Result<Value, String> {
    const FORM: &str = "`{ secret = \"NAME\" }`, with `field = \"NAME\"` where the secret is a JSON object";
    let named = |name: &str, value: &Value| match (name, value) {
        ("secret" | "field", Value::String(text)) => !text.is_empty(),
        _ => false,
    };
    match &value {
        Value::String(text) if text.is_empty() => Ok(value),
        Value::String(_) => Err(format!(
            "must not hold the secret itself, which would stand in files and lists of processes: name it by {FORM}, or \
             put it into the environment variable"
        )),
        Value::Table(table) if table.contains_key("secret") && table.iter().all(|(n, v)| named(n, v)) => Ok(value),
        _ => Err(format!("must be {FORM}")),
    }
}
