//! Creates the enricher that the configuration selects: local rules, or local rules and Comprehend.

use std::sync::Arc;

use docweir_core::cache::{FindingsCache, NoCache};
use docweir_providers::account::Account;
use docweir_providers::account::Alerts;
use docweir_providers::comprehend::Counting;
use docweir_providers::comprehend::{Service, metered_apis, model, price};
use docweir_stages::chunk::TokenCounter;
use docweir_stages::enrich::comprehend::Api;
use docweir_stages::enrich::{ComprehendEnricher, EnrichProvider, Enricher, LocalEnricher};
use docweir_stores::cache::SqliteFindingsCache;

use super::{Engine, Payer};
use crate::backends::cloud;
use crate::config::Settings;
use crate::exit::EngineError;

/// Creates the enricher that the settings select. `tokens` is the token counter of the embedder.
async fn enricher(
    settings: &Settings,
    tokens: Arc<dyn TokenCounter>,
    accounts: Vec<(Api, Account)>,
    cache: Arc<dyn FindingsCache>,
) -> Result<Arc<dyn Enricher>, EngineError> {
    let options = &settings.enrich.options;
    let local = LocalEnricher::new(options.clone(), tokens);
    match options.provider {
        EnrichProvider::Local => Ok(Arc::new(local)),
        EnrichProvider::Comprehend => {
            let comprehend = &options.comprehend;
            let remote = cloud::comprehend(settings).await?;
            let metered_apis = metered_apis(comprehend, settings.prices.comprehend_unit, accounts);
            let service = Service::new(remote, metered_apis, cache, comprehend.clone());
            Ok(Arc::new(ComprehendEnricher::new(local, options.clone(), Arc::new(service))))
        }
    }
}

/// Creates the enricher for a preview without an index. Calls of the enricher are charged but not recorded in a ledger.
pub async fn enricher_without_ledger(
    settings: &Settings,
    tokens: Arc<dyn TokenCounter>,
) -> Result<Arc<dyn Enricher>, EngineError> {
    enricher(settings, tokens, Vec::new(), Arc::new(NoCache)).await
}

/// Creates an enricher that makes no calls to a service, but computes their cost. A text whose findings are in
/// `cache` costs nothing.
pub fn counting_enricher(
    settings: &Settings,
    tokens: Arc<dyn TokenCounter>,
    cache: Arc<dyn FindingsCache>,
) -> Arc<dyn Enricher> {
    let options = &settings.enrich.options;
    let local = LocalEnricher::new(options.clone(), tokens);
    match options.provider {
        EnrichProvider::Local => Arc::new(local),
        EnrichProvider::Comprehend => {
            let counting = Counting::new(cache, settings.prices.comprehend_unit);
            Arc::new(ComprehendEnricher::new(local, options.clone(), Arc::new(counting)))
        }
    }
}

impl Engine {
    /// Creates the enricher. The enricher's paid calls are recorded in the ledger, under the run and the stage that
    /// `payer` names.
    pub async fn enricher(
        &self,
        payer: Payer,
        tokens: Arc<dyn TokenCounter>,
    ) -> Result<Arc<dyn Enricher>, EngineError> {
        let settings = &self.config.settings;
        if settings.enrich.options.provider == EnrichProvider::Local {
            return enricher(settings, tokens, Vec::new(), Arc::new(NoCache)).await;
        }
        // All APIs share the alerts, so each budget threshold is reported once.
        let alerts = Alerts::new(payer.tell.clone());
        let mut accounts = Vec::with_capacity(Api::ALL.len());
        for api in Api::ALL {
            let price = price(settings.prices.comprehend_unit);
            accounts.push((api, self.account_of(&payer, model(api), price, &alerts)?));
        }
        enricher(settings, tokens, accounts, self.findings_cache()).await
    }

    /// Opens the cache of the findings that a provider returned. Never fails, because an unusable cache behaves like
    /// an empty cache.
    pub fn findings_cache(&self) -> Arc<dyn FindingsCache> {
        if let Err(error) = std::fs::create_dir_all(self.state.cache()) {
            tracing::warn!(%error, "cache folder not created; findings are not cached");
        }
        let options = &self.config.settings.enrich.options.comprehend.cache;
        Arc::new(SqliteFindingsCache::open(&self.state.findings_cache_db(), options.clone()))
    }
}
