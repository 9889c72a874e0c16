//! Sends a folder of documents through Docweir's pipeline into files of JSON lines.
//!
//! `cargo run -p jsonl-target -- FOLDER TARGET` reads the documents of FOLDER. It writes the vectors to
//! `TARGET/chunks.jsonl` and the state to `TARGET/state`. The embedder computes vectors from hashes of the text, so
//! nothing has to be downloaded.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use docweir::config::{Argument, Config, Source};
use docweir::engine::Engine;
use docweir::pipeline::{self, IngestRequest, Services};
use docweir_core::error::StageError;
use docweir_stages::embed::{Embedder, HashedEmbedder, Tokens};
use docweir_stages::enrich::LocalEnricher;
use docweir_target::{Capabilities, OpenTarget, Target};
use jsonl_target::JsonlTarget;

fn main() -> ExitCode {
    // Docweir parses documents in child processes, which run this same program.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "__extract-worker") {
        return docweir_extract::worker_main();
    }
    match actix::System::new().block_on(run()) {
        Ok(documents) => {
            println!("{documents} documents are in the target");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<usize, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(documents), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: jsonl-target FOLDER TARGET".into());
    };
    let open: OpenTarget = {
        let folder = folder.clone();
        Arc::new(move |collection| {
            let opened = JsonlTarget::open(&folder, collection, Capabilities::default());
            let opened = opened.map_err(|e| StageError::system("jsonl_folder", e.to_string()))?;
            Ok(Arc::new(opened) as Arc<dyn Target>)
        })
    };
    let state = Argument::new("state", "state.folder", folder.join("state").to_string_lossy());
    let config = Config::load(&Source::None, Vec::new(), vec![state])?;
    let engine = Engine::create(config).await?.with_targets(open);
    let _lock = engine.lock("jsonl-target")?;
    let embedder: Arc<dyn Embedder> = Arc::new(HashedEmbedder::new(64, Duration::ZERO));
    let tokens = Arc::new(Tokens(embedder.clone()));
    let enricher = Arc::new(LocalEnricher::new(engine.config.settings.enrich.options.clone(), tokens));
    let request = IngestRequest { paths: vec![documents], prune: true, ..IngestRequest::default() };
    let services = Services { embedder, enricher };
    let silent = Arc::new(|_| {});
    pipeline::ingest(&engine, "jsonl-target", services, request, silent, Arc::default(), Default::default()).await?;
    Ok(engine.target()?.list(None, usize::MAX).await?.len())
}
