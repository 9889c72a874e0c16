//! Implements `docweir stage`, which runs one stage on a file and prints the result of the stage.
//!
//! All earlier stages run first, on the current content of the file. The command works without a state folder. If a
//! state folder exists, the command looks up the path of a document's file there, and changes no document.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docweir_core::cache::NoCache;
use docweir_core::cancel::Cancel;
use docweir_core::documents::{DocumentId, Stage};
use docweir_core::error::StageError;
use docweir_core::files::open_regular;
use docweir_core::model::{Chunks, EmbeddedDocument, ExtractedDocument};
use docweir_stages::chunk::{TokenCounter, chunk_document};
use docweir_stages::embed::{Call, Embedder, InFlight, Tokens, embed_document};
use docweir_stages::enrich::{self, Enricher};
use docweir_stores::state::StateFolder;
use serde::Serialize;

use super::args::{self, Progress};
use super::artefact_view;
use super::context::Context;
use super::documents::find;
use super::extract;
use super::output::Out;
use super::progress::{Fetch, Reporter, Style};
use crate::config::{Config, Settings};
use crate::engine::{Engine, Payer, embedder, enricher_without_ledger};
use crate::exit::{Exit, Failure};
use crate::intake::source;

pub fn run(context: &Context, args: &args::RunStage) -> Result<Exit, Failure> {
    if args.stage == Stage::Loading {
        return Err(Failure::usage(
            "stage `load` has no result to print; `docweir stage embed` prints the vectors that would be loaded",
        ));
    }
    let config = context.config()?;
    context.block_on(async {
        let (path, id) = locate(context, args, &config).await?;
        let look = StagePreview { settings: &config.settings, path: &path, id, cancel: Cancel::default() };
        let show = Show { out: &context.out, json: args.json };
        let document = look.extract().await?;
        if args.stage == Stage::Extraction {
            return Ok(show.with(&document, artefact_view::extracted));
        }
        let embedder = fetch(&config).await?;
        let tokens: Arc<dyn TokenCounter> = Arc::new(Tokens(embedder.clone()));
        let chunks = look.chunk(&document, tokens.as_ref())?;
        if args.stage == Stage::Chunking {
            return Ok(show.with(&chunks, artefact_view::chunked));
        }
        let chunks = look.enrich(chunks, fetch_enricher(&config, tokens).await?.as_ref()).await?;
        if args.stage == Stage::Enrichment {
            return Ok(show.with(&chunks, artefact_view::enriched));
        }
        let embedded = look.embed(chunks, embedder.as_ref()).await?;
        Ok(show.with(&embedded, artefact_view::embedded))
    })
}

/// Prints the artefact of a stage, as JSON or in readable form.
struct Show<'a> {
    out: &'a Out,
    json: bool,
}

impl Show<'_> {
    fn with<T: Serialize>(&self, artefact: &T, lines: fn(&T, &Out) -> Vec<String>) -> Exit {
        match self.json {
            true => self.out.json(artefact),
            false => lines(artefact, self.out).iter().for_each(|line| self.out.line(line)),
        }
        Exit::Success
    }
}

/// Returns the file path and the document id for the argument of the command. If the argument is not the path of a
/// file, the argument is looked up as a document of the index.
async fn locate(context: &Context, args: &args::RunStage, config: &Config) -> Result<(PathBuf, DocumentId), Failure> {
    let path = Path::new(&args.document);
    if path.is_file() {
        // A file without a record needs an id for its chunks.
        let id = DocumentId::parse("look").ok_or_else(|| Failure::system("invalid document id for a file"))?;
        return Ok((path.to_owned(), id));
    }
    if path.is_dir() {
        return Err(Failure::usage(format!("{} is a folder; pass a file or the id of a document", path.display())));
    }
    let engine = Engine::open(config.clone()).await.map_err(|e| {
        let text = format!("{} is not a file and cannot be looked up as a document: {}", path.display(), e.text);
        Failure::new(e.exit, text)
    })?;
    let record = find(engine.control.as_ref(), &args.document, &context.here).await?;
    let path =
        source::to_path(&record.source).ok_or_else(|| Failure::no(format!("{} is not a local file", record.source)))?;
    Ok((path, record.document_id))
}

/// Opens the embedder. If the model must be downloaded before it is opened, the progress of the download is shown.
/// Calls to a provider are charged as in a run. If an index exists, its ledger records these calls.
async fn fetch(config: &Config) -> Result<Arc<dyn Embedder>, Failure> {
    let settings = &config.settings;
    let account = match StateFolder::open_existing(Path::new(&settings.state.folder)) {
        Ok(_) => Engine::open(config.clone()).await?.account(Payer::look())?,
        Err(_) => None,
    };
    let reporter = Reporter::start(Style::of(Progress::Auto, false, std::io::stderr().is_terminal()));
    let (collection, prices) = (&settings.state.collection, &settings.prices);
    let progress = |fetched| reporter.fetch(Fetch::from(fetched));
    let made =
        embedder(&settings.embed.options, collection, account, prices, &crate::engine::secrets(settings), &progress)
            .await;
    reporter.end();
    Ok(made?)
}

/// Opens the enricher. If an index exists, its ledger records the paid calls that the enricher makes.
async fn fetch_enricher(config: &Config, tokens: Arc<dyn TokenCounter>) -> Result<Arc<dyn Enricher>, Failure> {
    Ok(match StateFolder::open_existing(Path::new(&config.settings.state.folder)) {
        Ok(_) => Engine::open(config.clone()).await?.enricher(Payer::look(), tokens).await?,
        Err(_) => enricher_without_ledger(&config.settings, tokens).await?,
    })
}

struct StagePreview<'a> {
    settings: &'a Settings,
    path: &'a Path,
    id: DocumentId,
    cancel: Cancel,
}

impl StagePreview<'_> {
    async fn extract(&self) -> Result<ExtractedDocument, Failure> {
        let shown = self.path.display();
        let file = open_regular(self.path).map_err(|e| Failure::no(format!("cannot open {shown}: {e}")))?;
        let name = self.path.file_name().map(|n| n.to_string_lossy().into_owned());
        let read = extract::read(self.settings.extract.options.clone(), file, name, &self.cancel).await?;
        read.map_err(|e| self.failed("extract", &e))
    }

    fn chunk(&self, document: &ExtractedDocument, tokens: &dyn TokenCounter) -> Result<Chunks, Failure> {
        let chunks = chunk_document(document, &self.id, tokens, &self.settings.chunk.options, &self.cancel);
        let mut chunks = chunks.map_err(|e| self.failed("chunk", &e))?;
        chunks.notes.splice(0..0, document.notes.iter().cloned());
        Ok(chunks)
    }

    async fn enrich(&self, chunks: Chunks, enricher: &dyn Enricher) -> Result<Chunks, Failure> {
        let call = enrich::Call::new(self.id.as_str(), &self.cancel);
        let enriched = enricher.enrich(chunks, call).await.map_err(|e| self.failed("enrich", &e))?;
        Ok(enriched.chunks)
    }

    async fn embed(&self, chunks: Chunks, embedder: &dyn Embedder) -> Result<EmbeddedDocument, Failure> {
        let options = &self.settings.embed.options.batch;
        let call = Call { subject: self.id.as_str(), collection: None, cancel: &self.cancel };
        let embedded = embed_document(embedder, &NoCache, &InFlight::default(), chunks.into(), options, call).await;
        embedded.map_err(|e| self.failed("embed", &e))
    }

    fn failed(&self, verb: &str, error: &StageError) -> Failure {
        extract::failed(verb, &self.path.display().to_string(), error)
    }
}
