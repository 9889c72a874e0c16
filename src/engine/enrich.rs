//! What looks into chunks, by configuration: rules on this machine, or Comprehend beside them.

use std::sync::Arc;

#[cfg(feature = "aws")]
use docweir_aws_backend::comprehend::AwsComprehend;
use docweir_core::cache::{FindingsCache, NoCache};
use docweir_providers::account::Account;
#[cfg(feature = "aws")]
use docweir_providers::account::Alerts;
use docweir_providers::comprehend::Counting;
#[cfg(feature = "aws")]
use docweir_providers::comprehend::{Service, desks, model, price};
use docweir_stages::chunk::TokenCounter;
use docweir_stages::enrich::comprehend::Api;
use docweir_stages::enrich::{ComprehendEnricher, EnrichProvider, Enricher, LocalEnricher};
use docweir_stores::cache::SqliteFindingsCache;

use super::{Engine, EngineError, Payer};
#[cfg(feature = "aws")]
use crate::cli::exit::Exit;
use crate::config::Settings;

/// The enricher that the settings ask for. `tokens` is the embedder's.
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
        #[cfg(feature = "aws")]
        EnrichProvider::Comprehend => {
            let comprehend = &options.comprehend;
            let remote = AwsComprehend::find(&settings.aws, comprehend).await.ok_or_else(|| {
                EngineError::new(Exit::Configuration, "no region is configured: set `aws.region`, or AWS_REGION")
            })?;
            let desks = desks(comprehend, settings.prices.comprehend_unit, accounts);
            let service = Service::new(Arc::new(remote), desks, cache, comprehend.clone());
            Ok(Arc::new(ComprehendEnricher::new(local, options.clone(), Arc::new(service))))
        }
        #[cfg(not(feature = "aws"))]
        EnrichProvider::Comprehend => {
            let _ = (accounts, cache);
            Err(super::without_aws())
        }
    }
}

/// For a look where there is no index: it is paid, and stands in no books.
pub async fn enricher_without_books(
    settings: &Settings,
    tokens: Arc<dyn TokenCounter>,
) -> Result<Arc<dyn Enricher>, EngineError> {
    enricher(settings, tokens, Vec::new(), Arc::new(NoCache)).await
}

/// One that asks nobody and says what it would cost: what is in `cache` costs nothing.
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
    /// What looks into chunks. Calls that are paid for stand in the books of `payer`.
    pub async fn enricher(
        &self,
        payer: Payer,
        tokens: Arc<dyn TokenCounter>,
    ) -> Result<Arc<dyn Enricher>, EngineError> {
        let settings = &self.config.settings;
        if settings.enrich.options.provider == EnrichProvider::Local {
            return enricher(settings, tokens, Vec::new(), Arc::new(NoCache)).await;
        }
        #[cfg(feature = "aws")]
        {
            let mut accounts = Vec::with_capacity(Api::ALL.len());
            // One notice a share of the budget, not one an API.
            let alerts = Alerts::new(payer.tell.clone());
            for api in Api::ALL {
                accounts
                    .push((api, self.account_of(&payer, model(api), price(settings.prices.comprehend_unit), &alerts)?));
            }
            enricher(settings, tokens, accounts, self.findings_cache()).await
        }
        #[cfg(not(feature = "aws"))]
        {
            let _ = payer;
            enricher_without_books(settings, tokens).await
        }
    }

    /// What a service found before. Never fails: a cache that can't be used knows nothing.
    pub fn findings_cache(&self) -> Arc<dyn FindingsCache> {
        if let Err(error) = std::fs::create_dir_all(self.state.cache()) {
            tracing::warn!(%error, "the cache's folder can't be made; findings are not kept");
        }
        let options = &self.config.settings.enrich.options.comprehend.cache;
        Arc::new(SqliteFindingsCache::open(&self.state.findings_cache_db(), options))
    }
}
