//! Implements `docweir batch`, which lists, sends, polls, cancels and retries batches.

use std::sync::Arc;

use docweir_core::money::Nanodollars;
use docweir_stores::batches::{Batch, Batches, Counts};
use docweir_stores::paid::PaidError as Broken;
use serde_json::json;

use super::args;
use super::context::Context;
use super::drive::drive;
use super::output::{count, plural, printable};
use super::table::{Paint, Table, left, right};
use crate::actors::batches::EmbedMode;
use crate::config::Provider;
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::pipeline::IngestRequest;

pub fn run(context: &Context, command: &args::Batch) -> Result<Exit, Failure> {
    match command {
        args::Batch::List { top, json } => context.block_on(list(context, *top, *json)),
        args::Batch::Show { batch, json } => context.block_on(show(context, batch, *json)),
        args::Batch::Submit(run) => context.with_actors(work(context, run, "submit")),
        args::Batch::Poll(run) => context.with_actors(work(context, run, "poll")),
        args::Batch::Cancel { batches } => context.block_on(cancel(context, batches)),
        args::Batch::Retry { batch } => context.block_on(retry(context, batch.as_deref())),
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Failure::system(broken.to_string())
    }
}

/// Opens the engine, and the store of items and batches. The store is `None` if no ledger exists.
async fn open(context: &Context) -> Result<(Engine, Option<Arc<dyn Batches>>), Failure> {
    with_batches(Engine::open(context.config()?).await?)
}

/// Opens the same as [`open`], for a command that only reads.
async fn open_to_read(context: &Context) -> Result<(Engine, Option<Arc<dyn Batches>>), Failure> {
    with_batches(Engine::open_to_read(context.config()?).await?)
}

fn with_batches(engine: Engine) -> Result<(Engine, Option<Arc<dyn Batches>>), Failure> {
    let batches = match engine.has_ledger() {
        true => Some(engine.batches()?),
        false => None,
    };
    Ok((engine, batches))
}

/// Runs the pipeline without new files, to send or poll batches. If the configuration sets `embed.mode` to `live`,
/// the verb `submit` overrides this setting, so that batches are sent.
async fn work(context: &Context, run: &args::Run, verb: &str) -> Result<Exit, Failure> {
    let mut config = context.config()?;
    let embed = &mut config.settings.embed;
    if embed.options.provider != Provider::Openai {
        let text = "batches need an endpoint: set `embed.options.provider = \"openai\"`";
        return Err(Failure::new(Exit::Configuration, text));
    }
    if verb == "submit" && embed.mode == EmbedMode::Live {
        embed.mode = EmbedMode::Batch;
    }
    let engine = Engine::open(config).await?;
    let request = IngestRequest { wait: run.wait, polls_only: verb == "poll", ..IngestRequest::default() };
    drive(context, &engine, request, format!("docweir batch {verb}"), run).await
}

async fn list(context: &Context, top: usize, json: bool) -> Result<Exit, Failure> {
    let (_, batches) = open_to_read(context).await?;
    let (counts, list) = match &batches {
        Some(batches) => (batches.counts().await?, batches.list(top).await?),
        None => (Vec::new(), Vec::new()),
    };
    if json {
        counts.iter().for_each(|c| context.out.json(&json!({"items": c})));
        list.iter().for_each(|b| context.out.json(&machine(b)));
        return Ok(Exit::Success);
    }
    if counts.is_empty() && list.is_empty() {
        context.out.line("No batches exist, and no items wait to be sent");
        return Ok(Exit::Success);
    }
    if !counts.is_empty() {
        items(&counts).print(&context.out);
    }
    if !list.is_empty() {
        if !counts.is_empty() {
            context.out.line("");
        }
        table(&list).print(&context.out);
    }
    Ok(Exit::Success)
}

/// Returns a table with the number of items in each collection, by status.
pub fn items(counts: &[Counts]) -> Table {
    let mut table = Table::new().head(&["collection", "waiting", "in a batch", "done", "failed", "noise"]);
    for c in counts {
        let failed = if c.failed > 0 { Paint::Red } else { Paint::Plain };
        table.row([
            left(printable(&c.space)),
            right(count(c.none)),
            right(count(c.pending)),
            right(count(c.success)),
            right(count(c.failed)).painted(failed),
            right(count(c.noise)),
        ]);
    }
    table
}

fn table(batches: &[Batch]) -> Table {
    let head =
        ["batch", "collection", "status", "items", "tokens", "sent (UTC)", "stored", "failed", "stale", "resent"];
    let mut table = Table::new().head(&head);
    for b in batches {
        let sent = b.submitted_at.as_deref().and_then(|at| at.get(..16)).unwrap_or_default().replace('T', " ");
        let status = if b.cancel && b.ended_at.is_none() { "canceling".into() } else { b.status.name().to_lowercase() };
        table.row([
            left(b.id.as_str()),
            left(printable(b.space.shown())),
            left(status),
            right(count(b.items)),
            right(count(b.tokens)),
            left(sent),
            right(count(b.stored)),
            right(count(b.failed)),
            right(count(b.stale)),
            right(count(b.returned)),
        ]);
    }
    table
}

async fn show(context: &Context, id: &str, json: bool) -> Result<Exit, Failure> {
    let (engine, batches) = open_to_read(context).await?;
    let batch = find(batches.as_ref(), id).await?;
    if json {
        context.out.json(&machine(&batch));
        return Ok(Exit::Success);
    }
    let price = engine.config.settings.prices.of(&engine.config.settings.embed.options.openai.model).batch;
    let cost = |tokens: u64| Nanodollars::of_tokens(tokens, price).to_string();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let rows = [
        ("batch", batch.id.clone()),
        ("collection", batch.space.shown().to_owned()),
        ("status", batch.status.name().to_lowercase()),
        ("items", count(batch.items)),
        ("tokens", format!("{} ({})", count(batch.tokens), cost(batch.tokens))),
        ("charged", batch.charged_tokens.map_or_else(|| "-".into(), |t| format!("{} ({})", count(t), cost(t)))),
        ("id at provider", text(&batch.provider_id)),
        ("done at provider", count(batch.done)),
        ("created", batch.created_at.clone()),
        ("sent", text(&batch.submitted_at)),
        ("polled", text(&batch.checked_at)),
        ("expires", text(&batch.expires_at)),
        ("ended", text(&batch.ended_at)),
        ("stored", count(batch.stored)),
        ("failed", count(batch.failed)),
        ("stale", count(batch.stale)),
        ("resent", count(batch.returned)),
        ("error", text(&batch.error)),
    ];
    let mut table = Table::new();
    for (name, value) in rows {
        table.row([left(name).painted(Paint::Dim), left(printable(&value))]);
    }
    table.print(&context.out);
    Ok(Exit::Success)
}

async fn find(batches: Option<&Arc<dyn Batches>>, id: &str) -> Result<Batch, Failure> {
    let found = match batches {
        Some(batches) => batches.batch(id).await?,
        None => None,
    };
    found.ok_or_else(|| Failure::no(format!("no batch `{}`; `docweir batch list` lists all batches", printable(id))))
}

async fn cancel(context: &Context, ids: &[String]) -> Result<Exit, Failure> {
    let (engine, batches) = open(context).await?;
    let mut all = Exit::Success;
    for id in ids {
        let batch = find(batches.as_ref(), id).await?;
        let cancelled = match &batches {
            Some(batches) => batches.cancel(&batch.id).await?,
            None => false,
        };
        if cancelled {
            let when = match engine.working() {
                Some(held) => format!("by the running `{}` (process {})", held.command, held.pid),
                None => "by the next `docweir batch poll`".into(),
            };
            context.out.line(format!("{}: will be cancelled {when}", batch.id));
        } else {
            context.out.line(format!("{}: already ended ({})", batch.id, batch.status.name().to_lowercase()));
            all = Exit::Failed;
        }
    }
    Ok(all)
}

async fn retry(context: &Context, id: Option<&str>) -> Result<Exit, Failure> {
    let (_, batches) = open(context).await?;
    let id = match id {
        Some(id) => Some(find(batches.as_ref(), id).await?.id),
        None => None,
    };
    let again = match &batches {
        Some(batches) => batches.retry(id.as_deref()).await?,
        None => 0,
    };
    match again {
        0 => context.out.line("No records have failed"),
        n => context.out.line(format!("{} sent again by the next `docweir batch submit` or `docweir ingest`", is(n))),
    }
    Ok(Exit::Success)
}

fn is(n: u64) -> String {
    let verb = if n == 1 { "is" } else { "are" };
    format!("{} {verb}", plural(n, "record"))
}

/// Returns a batch as JSON. The keys are the column names of the batch's record.
fn machine(b: &Batch) -> serde_json::Value {
    json!({
        "batch_id": b.id,
        "space": b.space.shown(),
        "status": b.status,
        "items": b.items,
        "tokens": b.tokens,
        "charged_tokens": b.charged_tokens,
        "provider_id": b.provider_id,
        "input_file_id": b.input_file_id,
        "output_file_id": b.output_file_id,
        "error_file_id": b.error_file_id,
        "done": b.done,
        "cancel": b.cancel,
        "created_at": b.created_at,
        "submitted_at": b.submitted_at,
        "checked_at": b.checked_at,
        "expires_at": b.expires_at,
        "ended_at": b.ended_at,
        "stored": b.stored,
        "failed": b.failed,
        "stale": b.stale,
        "returned": b.returned,
        "error": b.error,
    })
}
