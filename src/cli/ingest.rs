//! `docweir ingest`: files into the index.

use std::net::SocketAddr;
use std::path::Path;

use super::args;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::progress::{Fetch, Reporter, Style};
use super::summary::Summary;
use crate::actors::pipeline::{self, Ended, IngestRequest, RunError};
use crate::actors::timer::Timer;
use crate::config::{Argument, Config};
use crate::engine::Engine;
use crate::intake::Walk;
use crate::intake::walk::WalkError;

pub fn run(context: &Context, args: &args::Ingest) -> Result<Exit, Failure> {
    let address = args.metrics_addr.map(|a| Argument::new("--metrics-addr", "http.metrics_address", a.to_string()));
    let config = context.config_with(address.into_iter().collect())?;
    check(args, &config)?;
    context.with_actors(ingest(context, args, config))
}

/// A path that is not there, or a glob that can't be read, is told before anything is made or begun.
fn check(args: &args::Ingest, config: &Config) -> Result<(), Failure> {
    let mut options = config.settings.intake.clone();
    options.include.extend(args.include.iter().cloned());
    options.exclude.extend(args.exclude.iter().cloned());
    match Walk::new(&args.paths, &options) {
        Ok(_) => Ok(()),
        Err(e @ (WalkError::Missing(_) | WalkError::Glob(_))) => Err(Failure::usage(e.to_string())),
        Err(e @ WalkError::Unreadable { .. }) => Err(Failure::usage(format!("{e}; check its permissions"))),
    }
}

async fn ingest(context: &Context, args: &args::Ingest, config: Config) -> Result<Exit, Failure> {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let http: Option<SocketAddr> = config.settings.http.metrics_address.parse().ok();
    let engine = Engine::create(config).await?;
    let lock = engine.lock(&command(args))?;
    let reporter = Reporter::start(Style::of(args.progress, args.json, terminal));
    // Refuses a model whose vectors can't stand beside those of the index, before any work is done.
    let embedder = engine.embedder(&|fetched| reporter.fetch(Fetch::from(fetched))).await?;
    let request = IngestRequest {
        paths: args.paths.clone(),
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        prune: args.prune,
    };
    let timer = Timer::start();
    let ended = pipeline::ingest(&engine, embedder, request, reporter.sink(), reporter.board.clone(), http).await;
    let elapsed = timer.elapsed();
    drop(lock);
    let tally = reporter.end();
    let failed = match ended {
        // Nothing was begun: there is nothing to sum up.
        Err(RunError::Paths(e)) => return Err(Failure::usage(e.to_string())),
        Err(RunError::Model(e)) => return Err(Failure::new(Exit::Configuration, e.to_string())),
        Err(e @ RunError::Listen { .. }) => return Err(Failure::usage(e.to_string())),
        Err(RunError::System(ref e)) => Some(e.to_string()),
        Ok(_) => None,
    };
    let summary = Summary {
        tally: &tally,
        elapsed,
        state: shown(engine.state.root(), &context.here),
        here: &context.here,
        interrupted: match ended {
            Ok(Ended::Interrupted(signal)) => Some(signal),
            Ok(Ended::Finished) | Err(_) => None,
        },
        failed: failed.as_deref(),
    };
    match args.json {
        true => context.out.json(&summary.json()),
        false => summary.lines(&context.out).iter().for_each(|line| context.out.line(line)),
    }
    match failed {
        Some(text) => Err(Failure::system(format!("{text}; nothing is lost, run the same command again"))),
        None => Ok(summary.exit()),
    }
}

/// What the user typed, in short: for whoever finds the folder taken.
fn command(args: &args::Ingest) -> String {
    let path = args.paths.first().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let more = if args.paths.len() > 1 { " …" } else { "" };
    super::output::printable(&format!("docweir ingest {path}{more}"))
}

/// The state folder as the user would write it.
fn shown<'a>(root: &'a Path, here: &Path) -> &'a Path {
    root.strip_prefix(here).ok().filter(|p| !p.as_os_str().is_empty()).unwrap_or(root)
}
