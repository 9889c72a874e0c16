//! Checks the secrets that the configuration names, and the model or endpoint that computes vectors.

use std::time::Duration;

use docweir_providers::secrets::SecretSetting;
use docweir_stages::embed::has_model;

use super::{Finding, endpoint};
use crate::config::{Config, Provider};

pub async fn examine(config: &Config) -> Vec<Finding> {
    let settings = &config.settings;
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
        Provider::Openai => findings.push(endpoint::examine(config, &secrets).await),
    }
    findings
}
