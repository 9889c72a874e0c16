//! Implements `docweir quarantine`, which lists, shows, replays and discards documents that failed.

use std::ffi::OsString;

use docweir_core::documents::{DocumentId, Stage};
use docweir_objects::ObjectError;
use docweir_stores::control::{ControlRecord, DocumentStatus, RecordFilter};
use serde::Serialize;

use super::args;
use super::context::Context;
use super::documents::{each, find};
use super::output::{Out, plural, printable};
use super::table::{Paint, Table, left};
use crate::actors::quarantine::Failure as Failed;
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::intake::source;

pub fn run(context: &Context, command: &args::Quarantine) -> Result<Exit, Failure> {
    context.block_on(async {
        let engine = match command {
            args::Quarantine::List { .. } | args::Quarantine::Show { .. } => {
                Engine::open_to_read(context.config()?).await?
            }
            args::Quarantine::Replay { .. } | args::Quarantine::Discard { .. } => {
                Engine::open(context.config()?).await?
            }
        };
        match command {
            args::Quarantine::List { json } => list(context, &engine, *json).await,
            args::Quarantine::Show { document } => {
                let record = find(engine.control.as_ref(), document, &context.here).await?;
                show(context, &engine, &record).await
            }
            args::Quarantine::Replay { documents, all } => replay(context, &engine, documents, *all).await,
            args::Quarantine::Discard { documents } => discard(context, &engine, documents).await,
        }
    })
}

/// Describes a quarantined document as one line of `docweir quarantine list --json`.
#[derive(Serialize)]
struct Entry<'a> {
    document: &'a DocumentId,
    source: &'a str,
    stage: Option<Stage>,
    code: &'a str,
    message: &'a str,
    attempts: u32,
    since: &'a str,
    artefact: Option<&'a str>,
    original: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn of(record: &'a ControlRecord) -> Self {
        let error = record.last_error.as_ref();
        Self {
            document: &record.document_id,
            source: &record.source,
            stage: record.error_stage,
            code: error.map_or("unknown", |e| e.code.as_str()),
            message: error.map_or("", |e| e.message.as_str()),
            attempts: record.retry_count,
            since: &record.updated_at,
            artefact: record.quarantine_artefact.as_deref(),
            original: record.quarantine_original.as_deref(),
        }
    }
}

fn quarantined() -> RecordFilter {
    RecordFilter { status: Some(DocumentStatus::Quarantined), ..RecordFilter::default() }
}

async fn list(context: &Context, engine: &Engine, json: bool) -> Result<Exit, Failure> {
    let out = &context.out;
    let mut table = Table::new().head(&["document", "source", "stage", "error", ""]);
    let mut found = 0u64;
    each(engine.control.as_ref(), &quarantined(), |record| {
        found += 1;
        let entry = Entry::of(&record);
        if json {
            out.json(&entry);
            return;
        }
        table.row([
            left(record.document_id.as_str()),
            left(source::display(&record.source, &context.here)),
            left(entry.stage.map(Stage::verb).unwrap_or_default()),
            left(printable(entry.code)).painted(Paint::Red),
            left(printable(&entry.message.replace('\n', " "))),
        ]);
    })
    .await?;
    if !json {
        match found {
            0 => out.line("nothing is quarantined"),
            _ => table.print(out),
        }
    }
    Ok(Exit::Success)
}

/// Prints the stored error report of a quarantined document in readable form.
async fn show(context: &Context, engine: &Engine, record: &ControlRecord) -> Result<Exit, Failure> {
    let shown = source::display(&record.source, &context.here);
    let Some(key) = record.quarantine_artefact.as_deref().filter(|_| record.status == DocumentStatus::Quarantined)
    else {
        let word = super::status::word(record.status);
        return Err(Failure::no(format!(
            "{shown} is not quarantined but {word}; run `docweir status {shown}` for details"
        )));
    };
    let failed = match engine.objects.get(key).await {
        Ok((body, _)) => serde_json::from_slice::<Failed>(&body).map_err(|e| {
            Failure::system(format!(
                "cannot parse the error report `{key}` (line {}); run `docweir quarantine replay {shown}`",
                e.line()
            ))
        })?,
        Err(ObjectError::NotFound(_)) => {
            return Err(Failure::no(format!(
                "the error report `{key}` no longer exists; `docweir status {shown}` shows the error"
            )));
        }
        Err(e) => return Err(e.into()),
    };
    lines(&failed, key, &shown, &engine.objects.location(), &context.out).iter().for_each(|l| context.out.line(l));
    Ok(Exit::Success)
}

fn lines(failed: &Failed, key: &str, shown: &str, store: &str, out: &Out) -> Vec<String> {
    let mut lines =
        vec![out.bold(shown), format!("  {}: {}", out.red(&failed.error.code), printable(&failed.error.message))];
    lines.extend(failed.error.causes.iter().map(|c| format!("  {} {}", out.dim("because"), printable(c))));
    let mut table = Table::indented(2);
    let mut row = |name: &str, text: String| table.row([left(name).painted(Paint::Dim), left(printable(&text))]);
    row("document", failed.document_id.to_string());
    row("version", failed.version.to_string());
    row("stage", failed.stage.verb().to_owned());
    row("attempts", format!("{}, {}", failed.attempts, class(&failed.error)));
    row("since", failed.quarantined_at.clone());
    row("artefact", format!("{store}/{key}"));
    if let Some(input) = &failed.input {
        row("input", format!("{store}/{}", input.key));
    }
    match (&failed.original, &failed.original_missing) {
        (Some(original), _) => row("original", format!("{store}/{original}")),
        (None, Some(reason)) => row("original", format!("not stored: {reason}")),
        (None, None) => {}
    }
    lines.push(String::new());
    lines.extend(table.lines(out));
    lines.push(String::new());
    lines.push(format!("  {} docweir quarantine replay {}", out.dim("retry:"), failed.document_id));
    lines
}

/// Describes the class of an error and whether a retry can succeed.
fn class(error: &docweir_core::error::StageError) -> &'static str {
    use docweir_core::error::ErrorClass::*;
    match error.class {
        Permanent => "permanent: fails again until the file or the configuration changes",
        Throttled => "throttled",
        Transient => "transient: a retry may succeed",
        Timeout => "deadline exceeded",
        Crash => "crashed",
        Unavailable => "outage of a store or the machine: a retry may succeed",
        System => "system failure",
    }
}

async fn replay(context: &Context, engine: &Engine, names: &[OsString], all: bool) -> Result<Exit, Failure> {
    let control = engine.control.as_ref();
    let mut ids = Vec::new();
    if all {
        each(control, &quarantined(), |record| ids.push(record.document_id)).await?;
        if ids.is_empty() {
            context.out.line("nothing is quarantined");
            return Ok(Exit::Success);
        }
    }
    for name in names {
        ids.push(expect_quarantined(context, engine, name).await?.document_id);
    }
    for id in &ids {
        control.reset(id, None).await?;
    }
    let it = if ids.len() == 1 { "it is" } else { "they are" };
    let count = plural(ids.len() as u64, "document");
    context.out.line(format!("{count} pending again: {it} processed from the failed stage {}", engine.picked_up()));
    Ok(Exit::Success)
}

async fn discard(context: &Context, engine: &Engine, names: &[OsString]) -> Result<Exit, Failure> {
    // Resolve all names before anything is discarded.
    let mut records = Vec::new();
    for name in names {
        records.push(expect_quarantined(context, engine, name).await?);
    }
    let quarantine = engine.quarantine_store();
    for record in records {
        engine.control.discard(&record.document_id).await?;
        quarantine.forget([&record.quarantine_artefact, &record.quarantine_original].into_iter().flatten()).await;
        let earlier = match record.loaded_version {
            Some(version) => format!("; version {version} stays in the index"),
            None => String::new(),
        };
        let shown = source::display(&record.source, &context.here);
        context.out.line(format!("discarded: {shown}{earlier}"));
    }
    Ok(Exit::Success)
}

async fn expect_quarantined(context: &Context, engine: &Engine, name: &OsString) -> Result<ControlRecord, Failure> {
    let record = find(engine.control.as_ref(), name, &context.here).await?;
    if record.status == DocumentStatus::Quarantined {
        return Ok(record);
    }
    let (shown, word) = (source::display(&record.source, &context.here), super::status::word(record.status));
    Err(Failure::no(format!("{shown} is not quarantined but {word}; run `docweir retry {shown}` to process it again")))
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::Sha256Hex;
    use docweir_core::error::StageError;

    use super::*;

    #[test]
    fn a_failure_is_shown_with_its_causes_and_the_way_on() {
        let mut error = StageError::permanent("damaged_pdf", "the file can't be read");
        error.causes.push("no trailer \x1b".into());
        let failed = Failed {
            document_id: DocumentId::mint(0, 1),
            version: 2,
            source: "file:///a.pdf".into(),
            content_sha256: Sha256Hex::of(b"x"),
            stage: Stage::Extraction,
            error,
            attempts: 1,
            quarantined_at: "2026-11-21T09:30:00.000123Z".into(),
            input: None,
            original: None,
            original_missing: Some("too large".into()),
        };
        let text = lines(&failed, "errors/doc/v2.json", "a.pdf", "/s/objects", &Out { colour: false }).join("\n");
        assert!(
            text.starts_with("a.pdf\n  damaged_pdf: the file can't be read\n  because no trailer \u{fffd}\n"),
            "{text}"
        );
        assert!(
            text.contains("  artefact  /s/objects/errors/doc/v2.json\n  original  not stored: too large\n"),
            "{text}"
        );
        assert!(text.ends_with("docweir quarantine replay doc_19700101_000000_00000001"), "{text}");
    }
}
