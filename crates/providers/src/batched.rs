//! Embeds texts through batches. Returns the vectors that batches have produced, and enqueues the texts that have no
//! vector yet.
//!
//! [`BatchedEmbedder`] answers at once, either with all vectors or with the error [`WAITS_FOR_BATCH`]. In the second
//! case, the texts are stored durably and the document is parked. When the vectors exist, the document is resumed,
//! requests the same vectors again, and gets all of them. The other parts of embedding a document (cache, splitting,
//! checks) are the same as with any embedder.

use std::sync::Arc;

use async_trait::async_trait;

use docweir_admission::Admission;
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;
use docweir_core::money::Nanodollars;
use docweir_stages::embed::{Call, EmbedBatch, Embedder, deciding, packed};
use docweir_stores::batches::{DocumentTexts, Space, Text, TextLookup};

/// Code of the error that is returned when texts were enqueued for a batch. The error is not a failure but a reason
/// to wait.
pub const WAITS_FOR_BATCH: &str = "waits_for_batch";

/// Maximum number of texts in one live call. If a document has too few texts for a batch, live calls embed these texts.
const CALL_TEXTS: usize = 100;
const CALL_TOKENS: u64 = 100_000;

/// Returns the wake word of a document. While the document's texts wait for a batch, the document is parked under this
/// word. A later call with this word resumes the document.
pub fn wake_word(document: &str) -> String {
    format!("batch:{document}")
}

pub struct BatchedEmbedder {
    /// Embedder for live calls. This embedder provides the model, the tokenizer and the token limit. It also embeds the
    /// texts of a document that has too few texts for a batch.
    live: Arc<dyn Embedder>,
    batches: Arc<dyn DocumentTexts>,
    usd_per_million_tokens: f64,
    /// True if the configuration selects live calls now. Documents that already wait for batches still get their
    /// vectors from batches. The texts of all other documents are embedded in live calls and are not enqueued.
    leaving: bool,
    /// Callback that is called after texts were enqueued.
    asked: Arc<dyn Fn() + Send + Sync>,
}

impl BatchedEmbedder {
    pub fn new(
        live: Arc<dyn Embedder>,
        batches: Arc<dyn DocumentTexts>,
        usd_per_million_tokens: f64,
        leaving: bool,
        asked: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self { live, batches, usd_per_million_tokens, leaving, asked }
    }
}

#[async_trait]
impl Embedder for BatchedEmbedder {
    fn identity(&self) -> &ModelIdentity {
        self.live.identity()
    }

    fn window(&self) -> usize {
        self.live.window()
    }

    fn best_tokens(&self) -> usize {
        self.live.best_tokens()
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.live.count_tokens(text)
    }

    fn splits_long_texts(&self) -> bool {
        self.live.splits_long_texts()
    }

    fn languages(&self) -> &[&'static str] {
        self.live.languages()
    }

    fn most(&self) -> (usize, u64) {
        if self.leaving { self.live.most() } else { (usize::MAX, u64::MAX) }
    }

    fn at_a_time(&self) -> Option<usize> {
        self.live.at_a_time()
    }

    fn admission(&self) -> Option<Arc<Admission>> {
        self.live.admission()
    }

    async fn embed(&self, texts: Vec<String>, call: Call<'_>) -> Result<EmbedBatch, StageError> {
        if self.leaving && !self.batches.is_waiting(call.subject).await? {
            return self.live.embed(texts, call).await;
        }
        let space = Space::texts(self.identity());
        let wanted =
            texts.iter().map(|text| Text { text: text.clone(), tokens: self.count_tokens(text) as u64 }).collect();
        match self.batches.ask(call.subject, &space, wanted).await? {
            TextLookup::Ready { vectors, tokens } => {
                let cost_usd = Nanodollars::of_tokens(tokens, self.usd_per_million_tokens).usd();
                Ok(EmbedBatch { vectors: vectors.into_iter().map(Ok).collect(), tokens, cost_usd })
            }
            TextLookup::Waits(open) => {
                (self.asked)();
                let s = if open == 1 { "" } else { "s" };
                let text = format!("waits for a batch that embeds {open} text{s} of this document");
                Err(StageError::transient(WAITS_FOR_BATCH, text))
            }
            TextLookup::Live { vectors, tokens } => self.rest(&space, texts, vectors, tokens, call).await,
            TextLookup::Failed(why) => {
                let text = format!("the provider refused a text of this document in a batch ({why})");
                Err(StageError::permanent("provider_refused", text))
            }
        }
    }
}

impl BatchedEmbedder {
    /// Makes live calls to embed the texts that have no vector yet. The vectors from each call are stored, even if a
    /// later call fails.
    async fn rest(
        &self,
        space: &Space,
        texts: Vec<String>,
        mut vectors: Vec<Option<Vec<f32>>>,
        tokens: u64,
        call: Call<'_>,
    ) -> Result<EmbedBatch, StageError> {
        let missing: Vec<usize> = (0..texts.len()).filter(|i| vectors.get(*i).is_some_and(Option::is_none)).collect();
        let text = |i: &usize| texts.get(*i).map(String::as_str).unwrap_or_default();
        let counts: Vec<u64> = missing.iter().map(|i| self.count_tokens(text(i)) as u64).collect();
        let paid = Nanodollars::of_tokens(tokens, self.usd_per_million_tokens).usd();
        let mut batch = EmbedBatch { tokens, cost_usd: paid, ..EmbedBatch::default() };
        let (most_texts, most_tokens) = self.live.most();
        for part in packed(&counts, (most_texts.min(CALL_TEXTS), most_tokens.min(CALL_TOKENS))) {
            let part = missing.get(part).unwrap_or_default();
            let made = self.live.embed(part.iter().map(|i| text(i).to_owned()).collect(), call).await?;
            batch.tokens += made.tokens;
            batch.cost_usd += made.cost_usd;
            let key = |i: &usize| Sha256Hex::of(text(i).as_bytes());
            let kept = part.iter().zip(&made.vectors).filter_map(|(i, made)| Some((key(i), made.clone().ok()?)));
            self.batches.made_live(call.subject, space, kept.collect()).await?;
            if let Some(error) = deciding(&made.vectors) {
                return Err(error);
            }
            for (i, vector) in part.iter().zip(made.vectors.into_iter().flatten()) {
                if let Some(place) = vectors.get_mut(*i) {
                    *place = Some(vector);
                }
            }
        }
        batch.vectors = vectors.into_iter().flatten().map(Ok).collect();
        Ok(batch)
    }
}
