//! `docweir ingest`: files into the index.

use std::path::PathBuf;

use super::args::{self, RecordShape};
use super::context::Context;
use super::drive::{How, drive};
use super::exit::{Exit, Failure};
use crate::actors::pipeline::IngestRequest;
use crate::actors::records_intake::RecordsRequest;
use crate::config::{Argument, Config};
use crate::engine::Engine;
use crate::intake::Walk;
use crate::intake::walk::{WalkError, resolve};
use crate::records::Shape;

pub fn run(context: &Context, args: &args::Ingest) -> Result<Exit, Failure> {
    let address = args.metrics_addr.map(|a| Argument::new("--metrics-addr", "http.metrics_address", a.to_string()));
    let config = context.config_with(address.into_iter().collect())?;
    match args.records.shape {
        Some(_) => drop(records(args)?),
        None => check(args, &config)?,
    }
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
    let engine = Engine::create(config).await?;
    let request = IngestRequest {
        paths: if args.records.shape.is_some() { Vec::new() } else { args.paths.clone() },
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        prune: args.prune,
        records: records(args)?,
        wait: args.wait,
        polls_only: false,
    };
    let how = How { command: command(args), progress: args.progress, json: args.json };
    drive(context, &engine, request, how).await
}

fn records(args: &args::Ingest) -> Result<Option<RecordsRequest>, Failure> {
    if args.records.shape.is_some() && (args.prune || !args.include.is_empty() || !args.exclude.is_empty()) {
        return Err(Failure::usage("--include, --exclude and --prune are for folders of documents, not for records"));
    }
    records_of(&args.records, &args.paths)
}

/// What the files hold, where they are records.
pub fn records_of(args: &args::RecordArgs, paths: &[PathBuf]) -> Result<Option<RecordsRequest>, Failure> {
    let shape = match (args.shape, &args.id, &args.text) {
        (None, None, None) => return Ok(None),
        (None, ..) => return Err(Failure::usage("--id and --text name fields of records: say `--as records` as well")),
        (Some(RecordShape::Receipts), None, None) => Shape::Receipts,
        (Some(RecordShape::Receipts), ..) => {
            return Err(Failure::usage("receipts have their own ids and texts: leave --id and --text out"));
        }
        (Some(RecordShape::Records), Some(id), Some(text)) => Shape::Records { id: id.clone(), text: text.clone() },
        (Some(RecordShape::Records), ..) => return Err(Failure::usage("--as records needs --id and --text")),
    };
    let mut files = Vec::new();
    for path in paths {
        let resolved = resolve(path).map_err(|e| Failure::usage(e.to_string()))?;
        if !resolved.is_file() {
            let text = format!("{} is no file: records come from files of JSON lines", path.display());
            return Err(Failure::usage(text));
        }
        files.push(resolved);
    }
    Ok(Some(RecordsRequest { files, shape, collection: args.collection.clone() }))
}

/// What the user typed, in short: for whoever finds the folder taken.
fn command(args: &args::Ingest) -> String {
    let path = args.paths.first().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let more = if args.paths.len() > 1 { " …" } else { "" };
    super::output::printable(&format!("docweir ingest {path}{more}"))
}
