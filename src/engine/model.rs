//! Opens the embedder that the configuration selects: a local model, an endpoint, or a hash function for tests.

use std::sync::Arc;
use std::time::Duration;

use docweir_admission::Admission;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::ModelIdentity;
use docweir_providers::account::Account;
use docweir_providers::openai::embedder::identity;
use docweir_providers::openai::{Client, OpenAiEmbedder, OpenAiOptions};
use docweir_providers::prices::{Price, PriceOptions};
use docweir_providers::secrets::{Key, SecretSetting, Secrets};
use docweir_stages::embed::{Embedder, FetchProgress, HashedEmbedder, LocalEmbedder, ensure_model};

use crate::config::{API_KEY, EmbedSettings, Provider, Settings};
use crate::exit::{EngineError, Exit};

/// Opens the embedder that the settings select. If a local model is not on this machine yet, it is downloaded, and
/// the download is reported to `progress`.
pub async fn embedder(
    settings: &EmbedSettings,
    collection: &str,
    account: Option<Account>,
    prices: &PriceOptions,
    secrets: &Secrets,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<Arc<dyn Embedder>, EngineError> {
    match settings.provider {
        Provider::Hashed => {
            let wait = Duration::from_millis(settings.hashed_milliseconds);
            Ok(Arc::new(HashedEmbedder::new(settings.hashed_dimensions, wait)))
        }
        Provider::Openai => {
            let price = prices.of(&settings.openai.model);
            Ok(Arc::new(endpoint(&settings.openai, secrets, collection, account, price)?))
        }
        Provider::Local => {
            let files = ensure_model(&settings.model, progress).await.map_err(unusable)?;
            // Reading and laying out the weights takes a moment of processor time.
            let loaded = tokio::task::spawn_blocking(move || LocalEmbedder::open(&files)).await;
            let loaded = loaded.map_err(|e| EngineError::new(Exit::System, format!("cannot load the model: {e}")))?;
            Ok(Arc::new(loaded.map_err(unusable)?))
        }
    }
}

/// Opens an embedder that is used only to count tokens. This embedder needs no key and makes no calls.
pub async fn counter(settings: &Settings) -> Result<Arc<dyn Embedder>, EngineError> {
    let (embed, collection) = (&settings.embed.options, &settings.state.collection);
    let (api_key, api_key_variable) = (SecretSetting::Unset, String::new());
    let options = OpenAiOptions { api_key, api_key_variable, ..embed.openai.clone() };
    let embed = EmbedSettings { openai: options, ..embed.clone() };
    embedder(&embed, collection, None, &settings.prices, &super::secrets(settings), &|_| {}).await
}

/// Returns an error if the configured model differs from the model of the index. This check is made before the model
/// is downloaded or loaded. It covers only properties of the model that are in the configuration. All other
/// properties are checked after the model is loaded.
pub fn check(settings: &EmbedSettings, stored: Option<&ModelIdentity>) -> Result<(), EngineError> {
    let Some(stored) = stored else { return Ok(()) };
    let model = &settings.model;
    let (id, same) = match settings.provider {
        Provider::Local => (model.name.clone(), stored.id == model.name && stored.weights == model.weights_sha256),
        Provider::Openai => {
            let asked = identity(&settings.openai);
            let same = *stored == asked;
            (format!("{} ({} dimensions)", asked.id, asked.dimension), same)
        }
        Provider::Hashed => {
            let id = format!("hashed-{}", settings.hashed_dimensions);
            let same = stored.id == id;
            (id, same)
        }
    };
    if same {
        return Ok(());
    }
    let text = format!(
        "the index holds vectors of model `{}` ({} dimensions), but the configuration selects `{id}`, whose vectors \
         are not comparable: restore `embed.options`, or choose another `state.collection` or `--state` folder",
        stored.id, stored.dimension
    );
    Err(EngineError::new(Exit::Configuration, text))
}

/// Creates a client for an endpoint with the OpenAI protocol. If the API key is configured as an environment
/// variable, returns an error if the variable is not set. If the key is configured as a secret of a secret store, the
/// secret is read on first use and not checked here.
pub fn client(options: &OpenAiOptions, secrets: &Secrets) -> Result<Client, EngineError> {
    let name = &options.api_key_variable;
    let key = match secrets.key(API_KEY, &options.api_key, name) {
        Some(key) => key,
        None if name.is_empty() => Key::none(),
        None => {
            let text = format!(
                "no key for {}: set the environment variable {name}, or set `{API_KEY}` to a secret",
                options.base_url
            );
            return Err(EngineError::new(Exit::Configuration, text));
        }
    };
    Client::new(options, key)
        .map_err(|e| EngineError::new(Exit::System, format!("cannot create a client for {}: {e}", options.base_url)))
}

fn endpoint(
    options: &OpenAiOptions,
    secrets: &Secrets,
    collection: &str,
    account: Option<Account>,
    price: Price,
) -> Result<OpenAiEmbedder, EngineError> {
    let admission = Admission::new(options.model.clone(), options.limits.clone(), fastrand::Rng::new());
    Ok(OpenAiEmbedder::new(client(options, secrets)?, admission, options.clone(), collection, account, price))
}

/// Converts a model error to the failure of a command. If the model contradicts the configuration, the failure is a
/// configuration error. If the model is unavailable, the failure is a system failure.
fn unusable(error: StageError) -> EngineError {
    let exit = if error.class == ErrorClass::Permanent { Exit::Configuration } else { Exit::System };
    EngineError::new(exit, error.to_string())
}

#[cfg(test)]
mod tests {
    use docweir_core::model::Metric;

    use super::*;

    #[test]
    fn another_model_is_refused_before_it_is_fetched() {
        let local = EmbedSettings::default();
        let hashed = EmbedSettings { provider: Provider::Hashed, hashed_dimensions: 8, ..EmbedSettings::default() };
        let of = |id: &str, weights: &str, dimension| {
            Some(ModelIdentity { id: id.into(), weights: weights.into(), dimension, metric: Metric::Cosine })
        };
        let ours = of(&local.model.name, &local.model.weights_sha256, 384);
        let table = [
            (&local, None, true),
            (&local, ours.clone(), true),
            (&local, of(&local.model.name, "other", 384), false),
            (&local, of("hashed-8", "none", 8), false),
            (&hashed, of("hashed-8", "none", 8), true),
            (&hashed, of("hashed-16", "none", 16), false),
            (&hashed, ours, false),
        ];
        for (settings, stored, fits) in table {
            let checked = check(settings, stored.as_ref());
            assert_eq!(checked.is_ok(), fits, "{stored:?} {checked:?}");
        }
    }
}
