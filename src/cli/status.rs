//! Implements `docweir status`, which shows an overview of the index or one document in detail.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use docweir_core::clock::timestamp;
use docweir_core::model::ModelIdentity;
use docweir_stores::batches::Counts;
use docweir_stores::control::rules::next_step;
use docweir_stores::control::{ControlRecord, DocumentStatus, RecordFilter, Resume};
use docweir_stores::queues::DeadLetters;
use docweir_stores::state::LockHolder;
use serde::Serialize;

use super::args;
use super::batch;
use super::context::Context;
use super::documents::{each, find};
use super::drive::place_of_state;
use super::gone_sources::GoneSources;
use super::output::{Out, count, duration, plural, printable};
use super::table::{Cell, Paint, Table, left, right};
use crate::actors::outages::{Outage, published};
use crate::backends::cloud;
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::intake::source;

/// Maximum number of stages or quarantine reasons that a line lists. Further ones are only counted.
const REASONS: usize = 5;

pub fn run(context: &Context, args: &args::Status) -> Result<Exit, Failure> {
    context.block_on(async {
        let engine = Engine::open_to_read(context.config()?).await?;
        match &args.document {
            Some(name) => {
                let record = find(engine.control.as_ref(), name, &context.here).await?;
                match args.json {
                    true => context.out.json(&record),
                    false => one(context, &record).iter().for_each(|line| context.out.line(line)),
                }
            }
            None if args.all => all(context, &engine, args.json).await?,
            None => {
                let status = Overview::of(&engine).await?;
                match args.json {
                    true => context.out.json(&status),
                    false => status.lines(&context.out).iter().for_each(|line| context.out.line(line)),
                }
            }
        }
        Ok(Exit::Success)
    })
}

/// Returns the display form of a status, such as `in progress`.
pub fn word(status: DocumentStatus) -> &'static str {
    match status {
        DocumentStatus::Pending => "pending",
        DocumentStatus::InProgress => "in progress",
        DocumentStatus::Completed => "completed",
        DocumentStatus::Failed => "failed",
        DocumentStatus::Parked => "parked",
        DocumentStatus::Quarantined => "quarantined",
        DocumentStatus::Deleted => "deleted",
    }
}

fn paint(status: DocumentStatus) -> Paint {
    match status {
        DocumentStatus::Completed => Paint::Green,
        DocumentStatus::Quarantined | DocumentStatus::Failed => Paint::Red,
        DocumentStatus::Deleted => Paint::Dim,
        DocumentStatus::Pending | DocumentStatus::InProgress | DocumentStatus::Parked => Paint::Yellow,
    }
}

#[derive(Serialize)]
struct Overview {
    state: String,
    /// Number of documents by status.
    documents: BTreeMap<String, u64>,
    /// Number of unfinished documents by next stage.
    stages: BTreeMap<String, u64>,
    /// Number of quarantined documents by reason.
    reasons: BTreeMap<String, u64>,
    sources: GoneSources,
    index: Index,
    /// Number of items in each status, listed for each collection of records and for the documents. In a collection
    /// of records, an item is a record. For documents, an item is a text that a batch embeds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    items: Vec<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working: Option<LockHolder>,
    /// Outages for whose end a running process waits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outages: Vec<Outage>,
    /// Messages that failed, by dead-letter queue. `None` if the queues cannot be inspected.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters: Option<Vec<DeadLetters>>,
}

/// Returns the failed messages of the configured queues. Does not wait long for a queue, because the other numbers do
/// not depend on it.
async fn dead_letters(engine: &Engine) -> Option<Vec<DeadLetters>> {
    const MAX_WAIT: Duration = Duration::from_secs(5);
    let settings = &engine.config.settings;
    settings.queues.addresses().next()?;
    match tokio::time::timeout(MAX_WAIT, cloud::dead_letters(settings)).await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::warn!(%error, "dead letters not counted");
            None
        }
        Err(_) => {
            tracing::warn!("dead letters not counted: SQS does not answer");
            None
        }
    }
}

#[derive(Serialize)]
struct Index {
    collection: String,
    documents: u64,
    chunks: u64,
    model: Option<ModelIdentity>,
    manifest_version: u64,
    files: u64,
    bytes: u64,
}

impl Overview {
    async fn of(engine: &Engine) -> Result<Self, Failure> {
        let control = engine.control.as_ref();
        let documents = control.counts().await?;
        let waiting = control.waiting().await?;
        let vectors = engine.vectors()?;
        let (manifest, totals) = (vectors.manifest().await?, vectors.totals().await?);
        let index = Index {
            collection: vectors.collection().to_owned(),
            documents: totals.documents,
            chunks: totals.rows,
            model: manifest.as_ref().and_then(|m| m.model().cloned()),
            manifest_version: totals.version,
            files: manifest.as_ref().map_or(0, |m| m.live.len() as u64),
            bytes: manifest.iter().flat_map(|m| &m.live).map(|f| f.bytes).sum(),
        };
        let items = match engine.has_ledger() {
            true => engine.batches()?.counts().await?,
            false => Vec::new(),
        };
        // A shared store is far away, and the files of its documents are seldom on this machine.
        let sources = match engine.is_shared() {
            true => GoneSources::default(),
            false => GoneSources::count(control).await?,
        };
        let state = place_of_state(engine, Path::new(""));
        Ok(Self {
            state,
            documents,
            stages: waiting.steps,
            reasons: waiting.reasons,
            sources,
            index,
            items,
            working: engine.working(),
            outages: published(engine.state.root()),
            dead_letters: dead_letters(engine).await,
        })
    }

    fn lines(&self, out: &Out) -> Vec<String> {
        let mut lines = vec![format!("{}  {}", out.bold("Documents"), out.dim(&printable(&self.state)))];
        let mut table = Table::indented(2);
        let list = |counts: &BTreeMap<String, u64>| {
            let mut sorted: Vec<_> = counts.iter().collect();
            sorted.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), name.as_str()));
            let named = sorted.iter().take(REASONS).map(|(name, n)| format!("{name} {}", count(**n)));
            let more = sorted.len().saturating_sub(REASONS);
            named.chain((more > 0).then(|| format!("and {more} more"))).collect::<Vec<_>>().join(", ")
        };
        let unfinished = [DocumentStatus::Pending, DocumentStatus::InProgress, DocumentStatus::Parked];
        let mut named = unfinished.iter().filter(|s| self.count(**s) > 0).count();
        let statuses = [
            DocumentStatus::Completed,
            DocumentStatus::Pending,
            DocumentStatus::InProgress,
            DocumentStatus::Parked,
            DocumentStatus::Quarantined,
            DocumentStatus::Failed,
            DocumentStatus::Deleted,
        ];
        for status in statuses {
            let n = self.count(status);
            if n == 0 && status != DocumentStatus::Completed {
                continue;
            }
            let mut aside = String::new();
            if unfinished.contains(&status) {
                // The next stages of all unfinished documents are printed once, on the last of their lines.
                named -= 1;
                aside = if named == 0 { format!("next: {}", list(&self.stages)) } else { String::new() };
            } else if status == DocumentStatus::Quarantined {
                aside = list(&self.reasons);
            }
            table.row([
                left(word(status)).painted(paint(status)),
                right(count(n)),
                left(printable(&aside)).painted(Paint::Dim),
            ]);
        }
        if self.sources.gone > 0 {
            let of = format!(
                "of {} checked; `docweir ingest FOLDER --prune` or `docweir delete PATH`",
                count(self.sources.checked)
            );
            table.row([
                left("without file").painted(Paint::Yellow),
                right(count(self.sources.gone)),
                left(of).painted(Paint::Dim),
            ]);
        }
        lines.extend(table.lines(out));
        lines.extend([String::new(), out.bold("Index")]);
        lines.extend(self.index.table().lines(out));
        if !self.items.is_empty() {
            lines.extend([String::new(), out.bold("Records and batches")]);
            lines.extend(batch::items(&self.items).lines(out).into_iter().map(|line| format!("  {line}")));
        }
        if let Some(held) = &self.working {
            lines.extend([String::new(), out.yellow(&printable(&held.to_string()))]);
        }
        for outage in &self.outages {
            let since = timestamp(outage.since);
            let waiting = plural(outage.waiting as u64, "document");
            let text = format!("Outage since {since}: {}; {waiting} in progress wait", outage.line());
            lines.extend([String::new(), out.red(&printable(&text))]);
        }
        for dead in self.dead_letters.iter().flatten().filter(|dead| dead.messages > 0) {
            let messages = plural(dead.messages, "failed message");
            let text = format!("{messages} in {}; `docweir queue redrive` moves them back", dead.queue);
            lines.extend([String::new(), out.red(&printable(&text))]);
        }
        if self.count(DocumentStatus::Quarantined) > 0 {
            lines.extend([String::new(), format!("{} docweir quarantine list", out.dim("why:"))]);
        }
        lines
    }

    fn count(&self, status: DocumentStatus) -> u64 {
        let name = serde_json::to_value(status).ok();
        let name = name.as_ref().and_then(|v| v.as_str()).unwrap_or_default();
        self.documents.get(name).copied().unwrap_or_default()
    }
}

impl Index {
    fn table(&self) -> Table {
        let mut table = Table::indented(2);
        let name = |text: &str| left(text).painted(Paint::Dim);
        let model =
            self.model.as_ref().map_or("none yet".to_owned(), |m| format!("{}, {} dimensions", m.id, m.dimension));
        table.row([name("documents"), left(count(self.documents))]);
        table.row([name("chunks"), left(count(self.chunks))]);
        table.row([name("model"), left(printable(&model))]);
        let files = format!("{}, {:.1} MB", plural(self.files, "file"), self.bytes as f64 / 1e6);
        table.row([name("manifest"), left(format!("version {}, {files}", self.manifest_version))]);
        table
    }
}

/// Prints one line per document. A line is printed as soon as the control record of the document is read, because a
/// state folder may hold a million documents.
async fn all(context: &Context, engine: &Engine, json: bool) -> Result<(), Failure> {
    let out = &context.out;
    if !json {
        out.line(out.dim(&format!("{:<28}  {:<11}  {:<8}  {:>4}  source", "document", "status", "next", "v")));
    }
    each(engine.control.as_ref(), &RecordFilter::default(), |record| match json {
        true => out.json(&record),
        false => out.line(row(&record, out, &context.here)),
    })
    .await
}

fn row(record: &ControlRecord, out: &Out, here: &std::path::Path) -> String {
    let unfinished = !matches!(record.status, DocumentStatus::Completed | DocumentStatus::Deleted);
    format!(
        "{:<28}  {}  {:<8}  {:>4}  {}",
        record.document_id.as_str(),
        paint(record.status).on(out, &format!("{:<11}", word(record.status))),
        if unfinished { next_step(record) } else { "" },
        record.version,
        source::display(&record.source, here),
    )
}

/// Returns the lines that describe one document in detail.
fn one(context: &Context, record: &ControlRecord) -> Vec<String> {
    let out = &context.out;
    let mut lines = vec![out.bold(&source::display(&record.source, &context.here))];
    let mut table = Table::indented(2);
    let mut row = |name: &str, value: Cell| table.row([left(name).painted(Paint::Dim), value]);
    row("document", left(record.document_id.as_str()));
    row("status", left(word(record.status)).painted(paint(record.status)));
    if !matches!(record.status, DocumentStatus::Completed | DocumentStatus::Deleted) {
        row("next", left(next_step(record)));
    }
    let visible = match record.loaded_version {
        Some(v) if v == record.version => "in the index".to_owned(),
        Some(v) => format!("version {v} is in the index"),
        None => "not in the index".to_owned(),
    };
    row("version", left(format!("{}, {visible}", record.version)));
    row("type", left(format!("{}, {} bytes", record.media_type.as_str(), count(record.file_size_bytes))));
    if let Some(parent) = &record.parent {
        row("contained in", left(parent.as_str()));
    }
    if !record.children.is_empty() {
        row("contains", left(plural(record.children.len() as u64, "document")));
    }
    row("content", left(record.content_sha256.as_str()));
    row("configuration", left(record.fingerprint.as_str()));
    row("attempts", left(format!("{} of {} failed", record.retry_count, record.max_retries)));
    if record.interruptions > 0 {
        row("interruptions", left(format!("{} (the process ended during this stage)", record.interruptions)));
    }
    if let Some(reason) = &record.parked_reason {
        let until = match &record.parked_resume {
            Some(Resume::On(event)) => format!("until {event}"),
            Some(Resume::At(at)) => format!("until {}", docweir_core::clock::timestamp(*at)),
            None => String::new(),
        };
        row("parked", left(printable(&format!("{reason} {until}"))));
    }
    if let Some(owner) = &record.lease_owner {
        let until = record.lease_expires_at.as_deref().unwrap_or("?");
        row("claimed by", left(printable(&format!("{owner} until {until}, epoch {}", record.epoch))));
    }
    row("received", left(record.created_at.as_str()));
    row("updated", left(record.updated_at.as_str()));
    if let Some(at) = &record.completed_at {
        row("completed", left(at.as_str()));
    }
    lines.extend(table.lines(out));
    if !record.stage_status.is_empty() {
        lines.push(String::new());
        lines.extend(stages(record).lines(out));
    }
    if let Some(error) = &record.last_error {
        let at = record.error_stage.map(|s| format!(" at {}", s.verb())).unwrap_or_default();
        lines.extend([String::new(), format!("{}{at}", out.red(&error.code))]);
        lines.push(format!("  {}", printable(&error.message)));
        lines.extend(error.causes.iter().map(|cause| format!("  {} {}", out.dim("because"), printable(cause))));
    }
    if record.status == DocumentStatus::Quarantined {
        lines.extend([String::new(), format!("{} docweir quarantine show {}", out.dim("more:"), record.document_id)]);
    }
    lines
}

fn stages(record: &ControlRecord) -> Table {
    let mut table = Table::indented(2).head(&["stage", "status", "took", "numbers", "result"]);
    for (stage, entry) in &record.stage_status {
        let numbers: Vec<String> = entry.metrics.iter().map(|(name, n)| format!("{name} {n}")).collect();
        table.row([
            left(stage.verb()),
            left(word(entry.status)).painted(paint(entry.status)),
            right(entry.duration_seconds.map(duration).unwrap_or_default()),
            left(numbers.join(", ")),
            left(printable(entry.output_s3_key.as_deref().unwrap_or_default())).painted(Paint::Dim),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_names_reasons_and_leaves_out_what_is_zero() {
        let counts = |list: &[(&str, u64)]| list.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect();
        let overview = Overview {
            state: "/data/.docweir".into(),
            sources: GoneSources { gone: 7, checked: 1200 },
            documents: counts(&[
                ("COMPLETED", 1200),
                ("PENDING", 3),
                ("IN_PROGRESS", 2),
                ("QUARANTINED", 4),
                ("PARKED", 0),
            ]),
            stages: counts(&[("extract", 4), ("embed", 1)]),
            reasons: counts(&[("encrypted", 3), ("no_text", 1)]),
            index: Index {
                collection: "chunks".into(),
                documents: 1200,
                chunks: 34567,
                model: None,
                manifest_version: 17,
                files: 1,
                bytes: 3_210_000,
            },
            items: Vec::new(),
            working: None,
            outages: Vec::new(),
            dead_letters: Some(vec![
                DeadLetters { queue: "intake-dead".into(), messages: 2 },
                DeadLetters { queue: "merge-dead".into(), messages: 0 },
            ]),
        };
        let expected = "\
Documents  /data/.docweir
  completed     1,200
  pending           3
  in progress       2  next: extract 4, embed 1
  quarantined       4  encrypted 3, no_text 1
  without file      7  of 1,200 checked; `docweir ingest FOLDER --prune` or `docweir delete PATH`

Index
  documents  1,200
  chunks     34,567
  model      none yet
  manifest   version 17, 1 file, 3.2 MB

2 failed messages in intake-dead; `docweir queue redrive` moves them back

why: docweir quarantine list";
        assert_eq!(overview.lines(&Out { colour: false }).join("\n"), expected);
    }

    #[test]
    fn every_status_has_a_word_of_its_own() {
        let all = DocumentStatus::ALL;
        let words: std::collections::BTreeSet<_> = all.into_iter().map(word).collect();
        assert_eq!(words.len(), all.len());
    }
}
