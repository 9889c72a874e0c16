//! Implements `docweir ingest`, which indexes folders, files, objects and records.

use std::path::PathBuf;

use docweir_aws::is_table_name;
use docweir_records::Shape;
use docweir_records::table::is_collection_name;
use docweir_stores::batches::DOCUMENTS;

use super::args::{self, PruneMode, RecordShape};
use super::context::Context;
use super::drive::drive;
use crate::actors::records_intake::RecordsRequest;
use crate::config::{Argument, Config};
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::intake::Walk;
use crate::intake::walk::{WalkError, resolve};
use crate::pipeline::IngestRequest;

pub fn run(context: &Context, args: &args::Ingest) -> Result<Exit, Failure> {
    let address = args.metrics_addr.map(|a| Argument::new("--metrics-addr", "http.metrics_address", a.to_string()));
    let config = context.config_with(address.into_iter().collect())?;
    if records(args, &config)?.is_none() {
        if args.paths.iter().any(|path| path.starts_with("dynamodb:")) {
            return Err(Failure::usage("a DynamoDB table holds records: add `--as receipts` or `--as records`"));
        }
        check(args, &config)?;
    }
    context.with_actors(ingest(context, args, config))
}

/// Reports a missing path or an invalid glob before any work starts.
fn check(args: &args::Ingest, config: &Config) -> Result<(), Failure> {
    let mut options = config.settings.intake.clone();
    options.include.extend(args.include.iter().cloned());
    options.exclude.extend(args.exclude.iter().cloned());
    match Walk::new(&split(&args.paths).1, &options) {
        Ok(_) => Ok(()),
        Err(e @ (WalkError::Missing(_) | WalkError::Glob(_))) => Err(Failure::usage(e.to_string())),
        Err(e @ WalkError::Unreadable { .. }) => Err(Failure::usage(format!("{e}; check the permissions"))),
    }
}

async fn ingest(context: &Context, args: &args::Ingest, config: Config) -> Result<Exit, Failure> {
    let records = records(args, &config)?;
    if args.prune.is_some() && config.settings.state.control_in() != "sqlite" {
        let text = "--prune needs a local control store, because other machines may add documents to a shared one; \
            use `docweir delete` for documents whose files are gone";
        return Err(Failure::usage(text));
    }
    let engine = Engine::create(config).await?;
    let (objects, paths) = split(&args.paths);
    let request = IngestRequest {
        paths: if args.records.shape.is_some() { Vec::new() } else { paths },
        objects,
        serves: false,
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        prune: args.prune.is_some(),
        force_prune: args.prune == Some(PruneMode::Force),
        records,
        wait: args.run.wait,
        polls_only: false,
    };
    drive(context, &engine, request, command(args), &args.run).await
}

/// Separates S3 URIs from local paths.
pub fn split(paths: &[PathBuf]) -> (Vec<String>, Vec<PathBuf>) {
    let uri = |path: &PathBuf| path.to_str().filter(|text| text.starts_with("s3://")).map(str::to_owned);
    let (objects, paths): (Vec<_>, Vec<_>) = paths.iter().cloned().partition(|path| uri(path).is_some());
    (objects.iter().filter_map(uri).collect(), paths)
}

fn records(args: &args::Ingest, config: &Config) -> Result<Option<RecordsRequest>, Failure> {
    if args.records.shape.is_some() && (args.prune.is_some() || !args.include.is_empty() || !args.exclude.is_empty()) {
        return Err(Failure::usage("--include, --exclude and --prune apply to folders of documents, not to records"));
    }
    records_of(&args.records, &args.paths, &config.settings.state.collection)
}

/// Converts the arguments into a request to ingest records. Returns `None` if the arguments ask for documents
/// instead. `documents` is the name of the collection of documents.
pub fn records_of(
    args: &args::RecordArgs,
    paths: &[PathBuf],
    documents: &str,
) -> Result<Option<RecordsRequest>, Failure> {
    let shape = match (args.shape, &args.id, &args.text) {
        (None, None, None) if args.collection.is_none() => return Ok(None),
        (None, ..) => {
            let text = "--id, --text and --collection apply to records: add `--as records` \
                (for documents, use `--set state.collection=NAME`)";
            return Err(Failure::usage(text));
        }
        (Some(RecordShape::Receipts), None, None) if args.collection.is_none() => Shape::Receipts,
        (Some(RecordShape::Receipts), ..) => {
            return Err(Failure::usage(
                "receipts have fixed ids, texts and collections: remove --id, --text and --collection",
            ));
        }
        (Some(RecordShape::Records), Some(id), Some(text)) => Shape::Records { id: id.clone(), text: text.clone() },
        (Some(RecordShape::Records), ..) => return Err(Failure::usage("--as records needs --id and --text")),
    };
    let (mut files, mut tables) = (Vec::new(), Vec::new());
    for path in paths {
        if let Some(name) = path.to_str().and_then(|text| text.strip_prefix("dynamodb://")) {
            if !is_table_name(name) {
                return Err(Failure::usage("a table of records must be written as dynamodb://TABLE"));
            }
            tables.push(name.to_owned());
            continue;
        }
        let resolved = resolve(path).map_err(|e| Failure::usage(e.to_string()))?;
        if !resolved.is_file() {
            let text = format!("{} is not a file: records are read from files of JSON lines", path.display());
            return Err(Failure::usage(text));
        }
        // A file that is named twice is read once; otherwise, each of its records would have a repeated id.
        if !files.contains(&resolved) {
            files.push(resolved);
        }
    }
    let collection = args.collection.clone().unwrap_or_else(|| "records".into());
    if !is_collection_name(&collection) || collection == documents || collection == DOCUMENTS {
        let text = format!(
            "--collection `{}`: use lower-case letters, digits, `_` and `-`, but not the collection of documents",
            super::output::printable(&collection)
        );
        return Err(Failure::usage(text));
    }
    Ok(Some(RecordsRequest { files, tables, shape, collection }))
}

/// Returns a short form of the command line. It is stored in the lock of the state folder, so that another process
/// that needs the lock can name this command in its error message.
fn command(args: &args::Ingest) -> String {
    let path = args.paths.first().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let more = if args.paths.len() > 1 { " …" } else { "" };
    super::output::printable(&format!("docweir ingest {path}{more}"))
}
