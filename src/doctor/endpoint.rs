//! Checks the endpoint that computes vectors, with one real call. The call is recorded in the ledger and respects the
//! budget, like any other.

use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::{ErrorClass, StageError};
use docweir_providers::account::BUDGET_SPENT;
use docweir_providers::openai::CallError;
use docweir_providers::secrets::Secrets;
use docweir_stages::embed::{Call, deciding};

use super::Finding;
use crate::config::Config;
use crate::engine::{Engine, Payer, embedder, endpoint_client};

const CHECK: &str = "embeddings";

/// Text of the call. It is short, so that the call costs almost nothing.
const TEXT: &str = "word";

const NETWORK: &str = "check the network, a proxy (HTTPS_PROXY), and `embed.options.openai.base_url`";

/// Checks whether the endpoint answers, accepts the key and returns vectors of the model. Problems that a free call shows
/// are found by a free call.
pub async fn examine(config: &Config, secrets: &Secrets) -> Finding {
    let settings = &config.settings;
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
    match answer {
        Err(CallError::Throttled { .. }) => Finding::fine(CHECK, url, "answers, but currently throttles requests"),
        Err(CallError::QuotaSpent) => {
            Finding::problem(CHECK, url, "the quota of the account is exhausted", "add credit, or raise the limit")
        }
        Err(error @ CallError::Forbidden(_)) => {
            Finding::problem(CHECK, url, error.to_string(), format!("check the key in {place} and its permissions"))
        }
        Err(CallError::Unkeyed(why)) => Finding::problem(CHECK, url, why, format!("store the key in {place}")),
        Err(CallError::Untrusted(what)) => {
            Finding::problem(CHECK, url, what, "name a file with the certificate authority in SSL_CERT_FILE")
        }
        Err(error @ (CallError::Failed(_) | CallError::Lost(_))) => {
            Finding::problem(CHECK, url, error.to_string(), NETWORK)
        }
        // Some servers list no models, or not all of them.
        _ => call(config, secrets, limit).await,
    }
}

/// Embeds one text.
async fn call(config: &Config, secrets: &Secrets, limit: Duration) -> Finding {
    let settings = &config.settings;
    let options = &settings.embed.options.openai;
    let url = options.base_url.as_str();
    let broken = |text: String| {
        let text = format!("no call was made, because it cannot be recorded in the ledger: {text}");
        Finding::problem(CHECK, url, text, "fix the state folder or the tables first")
    };
    let account = match Engine::create(config.clone()).await.and_then(|engine| engine.account(Payer::doctor())) {
        Ok(account) => account,
        Err(error) => return broken(error.text),
    };
    let collection = &settings.state.collection;
    let opened = embedder(&settings.embed.options, collection, account, &settings.prices, secrets, &|_| {}).await;
    let embedder = match opened {
        Ok(embedder) => embedder,
        Err(error) => return Finding::problem(CHECK, url, error.text, "correct `embed.options.openai`"),
    };
    let cancel = Cancel::default();
    let call = embedder.embed(vec![TEXT.to_owned()], Call { subject: "doctor", collection: None, cancel: &cancel });
    tokio::pin!(call);
    let made = tokio::select! {
        made = &mut call => made,
        () = tokio::time::sleep(limit) => {
            // A cancelled call is recorded as in doubt, because it may have been charged.
            cancel.cancel();
            let _ = call.await;
            let text = format!("no answer within {} s", limit.as_secs());
            return Finding::problem(CHECK, url, text, NETWORK);
        }
    };
    match made.and_then(|made| deciding(&made.vectors).map_or(Ok(()), Err)) {
        Ok(()) => Finding::fine(CHECK, url, format!("accepts the key, and returns vectors of {}", options.model)),
        Err(error) => failure(url, &error),
    }
}

fn failure(url: &str, error: &StageError) -> Finding {
    let fix = match (error.class, error.code.as_str()) {
        (_, BUDGET_SPENT) => {
            return Finding::warning(
                CHECK,
                url,
                error.to_string(),
                "raise the budget to check the endpoint with a call",
            );
        }
        (ErrorClass::Throttled, _) => return Finding::fine(CHECK, url, "answers, but currently throttles requests"),
        (_, "insufficient_quota") => "add credit, or raise the limit",
        (_, "provider_failed" | "provider_down") => NETWORK,
        _ => "correct `embed.options.openai`: the address usually ends in the version, such as `/v1`",
    };
    Finding::problem(CHECK, url, error.to_string(), fix)
}
