//! Implements `docweir estimate`, which computes what an ingest would cost and spends nothing.
//!
//! The command runs the same steps as `ingest`, but stops before embedding. Then it counts the tokens of the chunks
//! with the model's own tokenizer. A text costs nothing if it is cached, repeated or already in the index.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use docweir_core::cache::{EmbeddingCache, FindingsCache, NoCache};
use docweir_core::cancel::Cancel;
use docweir_core::documents::{DocumentId, Sha256Hex};
use docweir_core::error::StageError;
use docweir_core::files::open_resolved;
use docweir_core::money::Nanodollars;
use docweir_extract::{ChildProgram, Extractor, InputHint};
use docweir_records::Records;
use docweir_records::repeated_ids::{Place, RepeatedIds};
use docweir_stages::chunk::{TokenCounter, chunk_document};
use docweir_stages::embed::{Embedder, Tokens};
use docweir_stages::enrich::{self, Enriched, Enricher};
use docweir_stores::control::{ControlStore, DocumentStatus};
use docweir_stores::state::StateFolder;
use serde::Serialize;

use super::args;
use super::context::Context;
use super::ingest;
use super::output::{Out, count, plural, print_error, printable};
use super::table::{Paint, Table, left, right};
use crate::actors::intake::look_at;
use crate::actors::records_intake::RecordsRequest;
use crate::config::{Config, Provider, Workers};
use crate::engine::{Engine, counting_enricher, fingerprint};
use crate::exit::{Exit, Failure};
use crate::intake::walk::WalkEntry;
use crate::intake::{Walk, source};

/// Maximum number of texts in one cache lookup.
const ASKED: usize = 1_000;

/// Holds the counts of an estimate.
#[derive(Clone, Debug, Default, Serialize)]
struct Sums {
    documents: u64,
    /// Number of documents that are already in the index and have not changed.
    unchanged: u64,
    refused: u64,
    pages: u64,
    chunks: u64,
    records: u64,
    noise: u64,
    /// Number of texts to embed.
    texts: u64,
    tokens: u64,
    /// Number of tokens that cost nothing, because their texts are cached or repeated.
    saved_tokens: u64,
    /// Number of units that a provider charges for enrichment.
    enrichment_units: u64,
    #[serde(skip)]
    enrichment: Nanodollars,
}

#[derive(Serialize)]
struct Estimate<'a> {
    #[serde(flatten)]
    sums: &'a Sums,
    model: &'a str,
    live_usd: f64,
    batch_usd: Option<f64>,
    /// Cost of enrichment in US dollars; 0 for enrichment on this machine.
    enrichment_usd: f64,
    prices_as_of: &'a str,
}

pub fn run(context: &Context, args: &args::Estimate) -> Result<Exit, Failure> {
    let config = context.config()?;
    context.with_actors(estimate(context, args, config))
}

async fn estimate(context: &Context, args: &args::Estimate, config: Config) -> Result<Exit, Failure> {
    let settings = config.settings.clone();
    let records = ingest::records_of(&args.records, &args.paths, &settings.state.collection)?;
    if records.as_ref().is_some_and(|request| !request.tables.is_empty()) {
        return Err(Failure::usage("cannot estimate a DynamoDB table; export the table to a file of JSON lines"));
    }
    let embedder = crate::engine::counter(&settings).await?;
    let known = PriorResults::open(&config, embedder.as_ref()).await?;
    let tokens: Arc<dyn TokenCounter> = Arc::new(Tokens(embedder.clone()));
    let enricher = counting_enricher(&settings, tokens, known.findings.clone());
    let (sums, seen) = (Mutex::default(), Mutex::default());
    let counting = Arc::new(Estimator { embedder, enricher, known, config, sums, seen });
    match records {
        Some(request) => counting.records(request).await?,
        None => counting.clone().documents(context, &args.paths).await?,
    }
    let sums = counting.sums().clone();
    let endpoint = settings.embed.options.provider == Provider::Openai;
    let price = match endpoint {
        true => settings.prices.of(&settings.embed.options.openai.model),
        false => Default::default(),
    };
    let (live, batch) =
        (Nanodollars::of_tokens(sums.tokens, price.live), Nanodollars::of_tokens(sums.tokens, price.batch));
    let estimate = Estimate {
        sums: &sums,
        model: &counting.embedder.identity().id,
        live_usd: live.usd(),
        batch_usd: endpoint.then(|| batch.usd()),
        enrichment_usd: sums.enrichment.usd(),
        prices_as_of: &settings.prices.as_of,
    };
    match args.json {
        true => context.out.json(&estimate),
        false => show(&estimate, live, batch, &context.out),
    }
    Ok(if sums.refused > 0 { Exit::Rejected } else { Exit::Success })
}

fn show(e: &Estimate<'_>, live: Nanodollars, batch: Nanodollars, out: &Out) {
    let s = e.sums;
    let mut table = Table::indented(2);
    let mut row = |name: &str, value: String, aside: String| {
        table.row([left(name).painted(Paint::Dim), right(value), left(aside).painted(Paint::Dim)]);
    };
    let mut some = |name: &str, n: u64, aside: &str| {
        if n > 0 {
            row(name, count(n), aside.to_owned());
        }
    };
    some("documents", s.documents, "to index");
    some("unchanged", s.unchanged, "already in the index");
    some("refused", s.refused, "unreadable or invalid");
    some("pages", s.pages, "");
    some("chunks", s.chunks, "");
    some("records", s.records, "");
    some("noise", s.noise, "stored, not embedded");
    row("tokens", count(s.tokens), format!("in {}, model {}", plural(s.texts, "text"), e.model));
    if s.saved_tokens > 0 {
        row("saved", count(s.saved_tokens), "tokens of texts that are cached or repeated".into());
    }
    match e.batch_usd {
        Some(_) => {
            row("live", live.to_string(), format!("prices as of {}", e.prices_as_of));
            row("batch", batch.to_string(), "results within a day: `--set embed.mode=batch`".into());
        }
        None => row("cost", live.to_string(), "the model runs on this machine".into()),
    }
    match s.enrichment_units {
        0 => row("enrichment", "$0".into(), "on this machine, or cached".into()),
        units => row("enrichment", s.enrichment.to_string(), format!("{} of comprehend", plural(units, "unit"))),
    }
    table.print(out);
}

/// Gives access to the results of earlier runs. These results would not be charged again.
struct PriorResults {
    control: Option<Arc<dyn ControlStore>>,
    cache: Arc<dyn EmbeddingCache>,
    findings: Arc<dyn FindingsCache>,
    fingerprint: Sha256Hex,
    batches: Option<Arc<dyn docweir_stores::batches::Records>>,
}

impl PriorResults {
    /// Opens the stores of an existing index. If no index exists, none is created, and the result contains no earlier
    /// results.
    async fn open(config: &Config, embedder: &dyn Embedder) -> Result<Self, Failure> {
        let fingerprint = fingerprint(&config.settings, embedder.identity());
        let folder = Path::new(&config.settings.state.folder);
        if config.settings.state.is_local() && StateFolder::open_existing(folder).is_err() {
            let (cache, findings) = (Arc::new(NoCache), Arc::new(NoCache));
            return Ok(Self { control: None, cache, findings, fingerprint, batches: None });
        }
        let engine = Engine::open(config.clone()).await?;
        let batches = match engine.has_ledger() {
            true => Some(engine.batches()? as _),
            false => None,
        };
        let findings: Arc<dyn FindingsCache> = match engine.state.findings_cache_db().exists() {
            true => engine.findings_cache(),
            false => Arc::new(NoCache),
        };
        Ok(Self { control: Some(engine.control.clone()), cache: engine.cache(), findings, fingerprint, batches })
    }
}

struct Estimator {
    embedder: Arc<dyn Embedder>,
    enricher: Arc<dyn Enricher>,
    known: PriorResults,
    config: Config,
    sums: Mutex<Sums>,
    /// Shortened hashes of the texts seen so far.
    seen: Mutex<HashSet<u64>>,
}

impl Estimator {
    fn sums(&self) -> std::sync::MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn documents(self: Arc<Self>, context: &Context, paths: &[PathBuf]) -> Result<(), Failure> {
        let walk = Walk::new(paths, &self.config.settings.intake).map_err(|e| Failure::usage(e.to_string()))?;
        let walk = Arc::new(Mutex::new(walk));
        let program = ChildProgram::this_program();
        let program = program.map_err(|e| Failure::system(format!("cannot find the path of this program: {e}")))?;
        let here = Arc::new(context.here.clone());
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..Workers::for_computing() {
            let (this, walk, program, here) = (self.clone(), walk.clone(), program.clone(), here.clone());
            workers.spawn(async move {
                let mut extractor = Extractor::new(this.config.settings.extract.options.clone(), program);
                loop {
                    let next = walk.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let refused = match next {
                        None => break,
                        Some(WalkEntry::LeftAlone(_)) => continue,
                        Some(WalkEntry::Unreadable { path, reason }) => Some((path, reason)),
                        Some(WalkEntry::File(path)) => {
                            this.document(&path, &mut extractor).await.err().map(|e| (path, e.to_string()))
                        }
                    };
                    if let Some((path, reason)) = refused {
                        this.sums().refused += 1;
                        let shown = source::display(&source::of_path(&path), &here);
                        print_error(format!("refused: {shown}: {}", printable(&reason)));
                    }
                }
                extractor.shut_down();
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|e| Failure::system(format!("a counting task failed: {e}")))?;
        }
        Ok(())
    }

    async fn document(&self, path: &Path, extractor: &mut Extractor) -> Result<(), StageError> {
        let settings = &self.config.settings;
        let refuse = |text: String| StageError::permanent("unreadable", text);
        let (file, limit) = (path.to_owned(), settings.intake.max_file_bytes);
        let look = tokio::task::spawn_blocking(move || look_at(&file, limit)).await;
        let look = look.map_err(|e| refuse(e.to_string()))??;
        if let Some(control) = &self.known.control {
            let record = control.by_source(&source::of_path(path)).await.map_err(|e| refuse(e.to_string()))?;
            let same = |r: &docweir_stores::control::ControlRecord| {
                r.status == DocumentStatus::Completed
                    && r.content_sha256 == look.content
                    && r.fingerprint == self.known.fingerprint
            };
            if record.as_ref().is_some_and(same) {
                self.sums().unchanged += 1;
                return Ok(());
            }
        }
        let cancel = Cancel::default();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        let hint = InputHint { media_type: None, name };
        let file = open_resolved(path).map_err(|e| refuse(e.to_string()))?;
        let document = extractor.extract(file, hint, &cancel).await?;
        let (embedder, config) = (self.embedder.clone(), self.config.clone());
        let chunking = cancel.clone();
        let counted = tokio::task::spawn_blocking(move || {
            let id = DocumentId::mint(0, 0);
            let tokens: Arc<dyn TokenCounter> = Arc::new(Tokens(embedder));
            let pages = document.pages.len() as u64;
            let chunks = chunk_document(&document, &id, tokens.as_ref(), &config.settings.chunk.options, &chunking)?;
            Ok::<_, StageError>((pages, chunks))
        });
        let (pages, chunks) = counted.await.map_err(|e| refuse(e.to_string()))??;
        let Enriched { chunks, usage } = self.enricher.enrich(chunks, enrich::Call::new("estimate", &cancel)).await?;
        let texts: Vec<String> = chunks.chunks.iter().map(|c| c.embedded_text()).collect();
        {
            let mut sums = self.sums();
            sums.documents += 1;
            sums.pages += pages;
            sums.chunks += texts.len() as u64;
            sums.enrichment_units += usage.units;
            sums.enrichment += usage.cost;
        }
        self.texts(texts).await
    }

    /// Counts the tokens of texts. If a text is cached or was counted before, its tokens are added to the saved tokens.
    async fn texts(&self, texts: Vec<String>) -> Result<(), StageError> {
        for part in texts.chunks(ASKED) {
            let hashes: Vec<Sha256Hex> = part.iter().map(|t| Sha256Hex::of(t.as_bytes())).collect();
            let cached = self.known.cache.get_many(self.embedder.identity(), &hashes).await?;
            for ((text, hash), cached) in part.iter().zip(hashes).zip(cached) {
                let tokens = self.embedder.count_tokens(text) as u64;
                let fresh = self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(short(&hash));
                let mut sums = self.sums();
                match cached.is_none() && fresh {
                    true => (sums.texts, sums.tokens) = (sums.texts + 1, sums.tokens + tokens),
                    false => sums.saved_tokens += tokens,
                }
            }
        }
        Ok(())
    }

    async fn records(&self, request: RecordsRequest) -> Result<(), Failure> {
        let options = &self.config.settings.records;
        let mut repeated = RepeatedIds::find(&request.files, &request.shape, options, &|_, _| true, &|| false);
        for (at, file) in request.files.iter().enumerate() {
            let records = Records::open(file, request.shape.clone(), options.clone());
            let records = records.map_err(|e| Failure::no(format!("cannot open {}: {e}", file.display())))?;
            for (line, read) in records {
                let items = match read {
                    Ok(items) => items,
                    Err(error) => {
                        self.sums().refused += 1;
                        print_error(format!("refused: {}:{line}: {error}", file.display()));
                        continue;
                    }
                };
                for item in items {
                    if !repeated.meet(&item.key, Place { file: at, line }).is_last {
                        continue;
                    }
                    let collection = item.kind.collection().unwrap_or(&request.collection).to_owned();
                    let known = match &self.known.batches {
                        Some(batches) => batches.is_done(&collection, &item.key, &item.input).await?,
                        None => false,
                    };
                    let tokens = self.embedder.count_tokens(&item.input) as u64;
                    let mut sums = self.sums();
                    sums.records += 1;
                    match (item.noise, known) {
                        (true, _) => sums.noise += 1,
                        (false, true) => sums.saved_tokens += tokens,
                        (false, false) => (sums.texts, sums.tokens) = (sums.texts + 1, sums.tokens + tokens),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Shortens a hash to 64 bits, which is enough to distinguish millions of texts.
fn short(hash: &Sha256Hex) -> u64 {
    u64::from_str_radix(hash.as_str().get(..16).unwrap_or_default(), 16).unwrap_or_default()
}
