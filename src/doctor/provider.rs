//! Who makes the vectors, and the secrets that the configuration names.

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
            Ok(Ok(_)) => Finding::fine("secret", &name.secret, format!("can be read, for `{setting}`")),
            Ok(Err(error)) => Finding::problem("secret", &name.secret, error.text, format!("as `{setting}` needs it")),
            Err(_) => {
                let text = format!("there is no answer in {} s", limit.as_secs());
                Finding::problem("secret", &name.secret, text, "look at the network, and at `secrets.endpoint`")
            }
        });
    }
    let embed = &settings.embed.options;
    match embed.provider {
        Provider::Hashed => {
            let text = "`embed.options.provider` is `hashed`: a search finds equal words and no meaning";
            findings.push(Finding::warning("model", "", text, "set it to `local` or `openai`, but for tests"));
        }
        Provider::Local => findings.push(match has_model(&embed.model) {
            true => Finding::fine("model", &embed.model.name, "is on this machine"),
            false => {
                let text = "is not on this machine yet: the first run fetches it";
                let fix = "nothing, with a network; without one, copy its files and set `embed.options.model.folder`";
                Finding::warning("model", &embed.model.name, text, fix)
            }
        }),
        Provider::Openai => findings.push(endpoint(settings, &secrets).await),
    }
    findings
}

/// Whether the endpoint answers, takes the key and has the model. Costs nothing.
async fn endpoint(settings: &Settings, secrets: &Secrets) -> Finding {
    const CHECK: &str = "embeddings";
    let options = &settings.embed.options.openai;
    let url = options.base_url.as_str();
    let place = options.key_place();
    let client = match endpoint_client(options, secrets) {
        Ok(client) => client,
        Err(error) => return Finding::problem(CHECK, url, error.text, format!("put the key into {place}")),
    };
    let limit = Duration::from_secs(settings.doctor.answer_seconds);
    let answer = match tokio::time::timeout(limit, client.has_model(&options.model)).await {
        Ok(answer) => answer,
        Err(_) => Err(CallError::Lost(format!("no answer in {} s", limit.as_secs()))),
    };
    let network = "look at the network, a proxy (HTTPS_PROXY), and `embed.options.openai.base_url`";
    match answer {
        Ok(true) => Finding::fine(CHECK, url, format!("takes the key and has {}", options.model)),
        Ok(false) => {
            let text = format!("takes the key and does not list {}", options.model);
            Finding::warning(
                CHECK,
                url,
                text,
                "look at `embed.options.openai.model`; some servers list only part of theirs",
            )
        }
        Err(CallError::Throttled { .. }) => Finding::fine(CHECK, url, "answers, and asks for less just now"),
        Err(CallError::QuotaSpent) => {
            Finding::problem(CHECK, url, "the account has no money left", "add credit, or raise its limit")
        }
        Err(error @ CallError::Forbidden(_)) => {
            Finding::problem(CHECK, url, error.to_string(), format!("look at the key in {place} and what it may do"))
        }
        Err(CallError::Unkeyed(why)) => Finding::problem(CHECK, url, why, format!("put the key into {place}")),
        Err(CallError::Missing(_) | CallError::Unknown(_) | CallError::Refused(_) | CallError::Garbled(_)) => {
            let text = "answers, and lists no models: whether it takes the key can't be told without paying";
            Finding::warning(CHECK, url, text, "nothing, if its address ends in the version, such as `/v1`")
        }
        Err(error @ (CallError::Failed(_) | CallError::Lost(_))) => {
            Finding::problem(CHECK, url, error.to_string(), network)
        }
    }
}
