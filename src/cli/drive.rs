//! Runs the pipeline for a command: locks the state folder, shows progress, and prints the summary.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use docweir_providers::account::ReportFn;
use docweir_stages::embed::Tokens;
use docweir_stores::state::owner_id;

use super::args::Run;
use super::context::Context;
use super::progress::{Fetch, Reporter, Style};
use super::summary::RunReport;
use crate::actors::timer::Timer;
use crate::engine::{Engine, Payer};
use crate::exit::{Exit, Failure};
use crate::messages::event::Event;
use crate::pipeline::{self, IngestRequest, Monitoring, RunEnd, RunError, Services};

/// Runs the pipeline for one command. `command` is a short form of the command line. It is stored in the lock of the
/// state folder, so that another process that needs the lock can name this command in its error message.
pub async fn drive(
    context: &Context,
    engine: &Engine,
    request: IngestRequest,
    command: String,
    how: &Run,
) -> Result<Exit, Failure> {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let address: Option<SocketAddr> = engine.config.settings.http.metrics_address.parse().ok();
    let out = context.out;
    let publisher = engine.publisher(Arc::new(move |line| out.line(line))).await?;
    let lock = engine.lock(&command)?;
    engine.can_commit().await?;
    let reporter = Reporter::start(Style::of(how.progress, how.json, terminal));
    let events = reporter.sink();
    let tell: ReportFn = Arc::new(move |text| events.emit(Event::Notice { text }));
    let run = owner_id(engine.clock.as_ref());
    let payer = Payer { run: run.clone(), stage: "embedding", tell: tell.clone() };
    // Refuses a model that does not match the index before any work is done.
    let embedder = engine.embedder(payer, &|fetched| reporter.fetch(Fetch::from(fetched))).await?;
    let payer = Payer { run: run.clone(), stage: "enrichment", tell };
    let enricher = engine.enricher(payer, Arc::new(Tokens(embedder.clone()))).await?;
    let services = Services { embedder, enricher };
    let timer = Timer::start();
    let (sink, progress, watching) = (reporter.sink(), reporter.progress.clone(), Monitoring { address, publisher });
    let ended = pipeline::ingest(engine, &run, services, request, sink, progress, watching).await;
    let elapsed = timer.elapsed();
    drop(lock);
    let summary = reporter.end();
    let failed = match ended {
        // No work was started, so there is nothing to summarise.
        Err(RunError::Paths(e)) => return Err(Failure::usage(e.to_string())),
        Err(RunError::Model(e)) => return Err(Failure::new(Exit::Configuration, e.to_string())),
        Err(e @ RunError::Listen { .. }) => return Err(Failure::usage(e.to_string())),
        Err(RunError::System(ref e)) => Some(e.to_string()),
        Ok(_) => None,
    };
    let summary = RunReport {
        summary: &summary,
        elapsed,
        state: place_of_state(engine, &context.here),
        here: &context.here,
        interrupted: match ended {
            Ok(RunEnd::Interrupted(signal)) => Some(signal),
            Ok(RunEnd::Finished) | Err(_) => None,
        },
        failed: failed.as_deref(),
        outside: outside(engine).await?,
    };
    match how.json {
        true => context.out.json(&summary.json()),
        false => summary.lines(&context.out).iter().for_each(|line| context.out.line(line)),
    }
    match failed {
        Some(text) => Err(Failure::system(format!("{text}; no data is lost, run the same command again"))),
        None => Ok(summary.exit()),
    }
}

/// Returns two numbers: the number of open batches, and the number of items that wait to be sent.
async fn outside(engine: &Engine) -> Result<(u64, u64), Failure> {
    if !engine.has_ledger() {
        return Ok((0, 0));
    }
    let batches = engine.batches()?;
    let waiting = batches.waiting().await?.iter().map(|(_, waiting)| waiting.items).sum();
    Ok((batches.open().await?.len() as u64, waiting))
}

/// Returns text that shows users where the state is stored. For local state, the text names one folder. Otherwise,
/// the text names the bucket of the objects, and the folder or the DynamoDB table of the control records.
pub fn place_of_state(engine: &Engine, here: &Path) -> String {
    let settings = &engine.config.settings;
    let root = engine.state.root();
    let shown = root.strip_prefix(here).ok().filter(|p| !p.as_os_str().is_empty()).unwrap_or(root);
    let state = &settings.state;
    if state.is_local() {
        return shown.display().to_string();
    }
    let objects = format!("s3://{}", settings.buckets.artefacts.trim_end_matches('/'));
    match state.control_in() {
        "sqlite" => format!("{objects}, {}", shown.display()),
        _ => format!("{objects}, DynamoDB table {}", settings.dynamodb.control_table),
    }
}
