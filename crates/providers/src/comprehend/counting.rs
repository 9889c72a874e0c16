//! Counts the cost of calls to Comprehend without making them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use docweir_core::cache::FindingsCache;
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;
use docweir_core::model::{Sentiment, SentimentLabel};
use docweir_core::money::Nanodollars;
use docweir_stages::enrich::comprehend::{Analyses, Analysis, Analyst, Api};
use docweir_stages::enrich::{Call, Usage};

use super::{decode, key, price, question, units};

/// Answers from the cache only, and counts the cost of the missing answers. A text that is not cached gets empty
/// findings. Its cost is counted once, even if the text occurs again.
pub struct Counting {
    cache: Arc<dyn FindingsCache>,
    usd_per_unit: f64,
    seen: Mutex<HashSet<Sha256Hex>>,
}

impl Counting {
    pub fn new(cache: Arc<dyn FindingsCache>, usd_per_unit: f64) -> Self {
        Self { cache, usd_per_unit, seen: Mutex::default() }
    }

    fn is_new(&self, question: &str, key: &Sha256Hex) -> bool {
        let both = Sha256Hex::of(format!("{question}/{key}").as_bytes());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(both)
    }
}

#[async_trait]
impl Analyst for Counting {
    async fn ask(&self, api: Api, language: &str, texts: &[&str], _: Call<'_>) -> Result<Analyses, StageError> {
        let question = question(api, language);
        let keys: Vec<Sha256Hex> = texts.iter().map(|text| key(text)).collect();
        let known = self.cache.get_many(&question, &keys).await;
        let (mut answers, mut asked) = (Vec::with_capacity(texts.len()), 0);
        for ((text, key), known) in texts.iter().zip(&keys).zip(known) {
            let known = known.and_then(|bytes| decode(api, &bytes));
            if known.is_none() && self.is_new(&question, key) {
                asked += units(text);
            }
            answers.push(Ok(known.unwrap_or_else(|| nothing(api))));
        }
        let cost = Nanodollars::of_tokens(asked, price(self.usd_per_unit).live);
        Ok(Analyses { answers, usage: Usage { calls: 0, units: asked, cost } })
    }
}

/// Returns an empty answer of an API. If the answer about languages is empty, the locally detected language decides
/// which APIs are called.
fn nothing(api: Api) -> Analysis {
    match api {
        Api::Language => Analysis::Languages(Vec::new()),
        Api::Entities | Api::KeyPhrases | Api::PersonalData => Analysis::Spots(Vec::new()),
        Api::Sentiment => {
            let label = SentimentLabel::Neutral;
            Analysis::Sentiment(Sentiment { label, positive: 0.0, negative: 0.0, neutral: 1.0, mixed: 0.0 })
        }
    }
}
