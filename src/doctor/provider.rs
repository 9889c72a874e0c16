//! Checks the secrets that the configuration names, and the model or endpoint that computes vectors.

use std::time::Duration;

use docweir_providers::openai::CallError;
use docweir_providers::secrets::{SecretSetting, Secrets};
use docweir_stages::embed::has_model;

use super::Finding;
use crate::config::{Provider, Settings};
use crate::engine::endpoint_client;

pub async fn examine(settings: &Settings) -> Vec<Finding> {
    let secrets = crate::engine::secrets(settings);
    let mut findings = Vec::new();
    for (setting, name) in settings.secrets() {
        let Some(key) = secrets.key(setting, &SecretSetting::Kept(name.clone()), "") else { continue };
        let limit = Duration::from_secs(settings.doctor.answer_seconds);
        findings.push(match tokio::time::timeout(limit, key.get()).await {
            Ok(Ok(_)) => Finding::fine("secret", &name.secret, format!("is readable, used by `{setting}`")),
            Ok(Err(error)) => {
                Finding::problem("secret", &name.secret, error.text, format!("grant access to it for `{setting}`"))
            }
            Err(_) => {
                let text = format!("no answer within {} s", limit.as_secs());
                Finding::problem("secret", &name.secret, text, "check the network and `secrets.endpoint`")
            }
        });
    }
    let embed = &settings.embed.options;
    match embed.provider {
        Provider::Hashed => {
            let text = "`embed.options.provider` is `hashed`: a search matches equal words, not meaning";
            findings.push(Finding::warning("model", "", text, "set it to `local` or `openai`, except in tests"));
        }
        Provider::Local => findings.push(match has_model(&embed.model) {
            true => Finding::fine("model", &embed.model.name, "is on this machine"),
            false => {
                let text = "is not on this machine yet; the first run downloads it";
                let fix = "without a network, copy the model's files here and set `embed.options.model.folder`";
                Finding::warning("model", &embed.model.name, text, fix)
            }
        }),
        Provider::Openai => findings.push(endpoint(settings, &secrets).await),
    }
    findings
}

/// Checks whether the endpoint answers, accepts the key and lists the model. The check is free of charge.
async fn endpoint(settings: &Settings, secrets: &Secrets) -> Finding {
    const CHECK: &str = "embeddings";
    let options = &settings.embed.options.openai;
    let url = options.base_url.as_str();
    let place = options.key_place();
    let client = match endpoint_client(options, secrets) {
        Ok(client) => client,
        Err(error) => return Finding::problem(CHECK, url, error.text, format!("store the key in {place}")),
    };
    let limit = Duration::from_secs(settings.doctor.answer_seconds);
    let answer = match tokio::time::timeout(limit, client.has_model(&options.model)).await {
        Ok(answer) => answer,
        Err(_) => Err(CallError::Lost(format!("no answer within {} s", limit.as_secs()))),
    };
    let network = "check the network, a proxy (HTTPS_PROXY), and `embed.options.openai.base_url`";
    match answer {
        Ok(true) => Finding::fine(CHECK, url, format!("accepts the key and lists {}", options.model)),
        Ok(false) => {
            let text = format!("accepts the key but does not list {}", options.model);
            Finding::warning(
                CHECK,
                url,
                text,
                "check `embed.options.openai.model`; some servers do not list all models",
            )
        }
        Err(CallError::Throttled { .. }) => Finding::fine(CHECK, url, "answers, but currently throttles requests"),
        Err(CallError::QuotaSpent) => {
            Finding::problem(CHECK, url, "the quota of the account is exhausted", "add credit, or raise the limit")
        }
        Err(error @ CallError::Forbidden(_)) => {
            Finding::problem(CHECK, url, error.to_string(), format!("check the key in {place} and its permissions"))
        }
        Err(CallError::Unkeyed(why)) => Finding::problem(CHECK, url, why, format!("store the key in {place}")),
        Err(CallError::Missing(_) | CallError::Unknown(_) | CallError::Refused(_) | CallError::Garbled(_)) => {
            let text = "answers but lists no models: only a paid call can check the key";
            Finding::warning(
                CHECK,
                url,
                text,
                "check that `embed.options.openai.base_url` ends in the version, such as `/v1`",
            )
        }
        Err(error @ (CallError::Failed(_) | CallError::Lost(_))) => {
            Finding::problem(CHECK, url, error.to_string(), network)
        }
    }
}
