//! Implements `docweir audit`, which prints the audit log of a document.

use docweir_stores::control::AuditEvent;

use super::args;
use super::context::Context;
use super::documents::find;
use super::output::{duration, printable};
use super::table::{Paint, Table, left, right};
use crate::engine::Engine;
use crate::exit::{Exit, Failure};

const PAGE: usize = 1_000;

pub fn run(context: &Context, args: &args::Audit) -> Result<Exit, Failure> {
    context.block_on(async {
        let engine = Engine::open_to_read(context.config()?).await?;
        let record = find(engine.control.as_ref(), &args.document, &context.here).await?;
        let mut events: Vec<AuditEvent> = Vec::new();
        loop {
            let after = events.last().map(|e| e.timestamp.clone());
            let page = engine.control.audit(&record.document_id, after.as_deref(), PAGE).await?;
            let full = page.len() == PAGE;
            if args.json {
                page.iter().for_each(|event| context.out.json(event));
                events = page.into_iter().next_back().into_iter().collect();
            } else {
                events.extend(page);
            }
            if !full {
                break;
            }
        }
        if !args.json {
            table(&events).print(&context.out);
        }
        Ok(Exit::Success)
    })
}

fn table(events: &[AuditEvent]) -> Table {
    let mut table = Table::new().head(&["time (UTC)", "event", "stage", "status", "attempt", "took", "details"]);
    for event in events {
        let number = |name: &str| event.metadata.get(name).and_then(serde_json::Value::as_u64);
        // Cuts `2026-11-21T09:30:00.000123Z#ULID` to milliseconds.
        let time = event.timestamp.get(..23).unwrap_or(&event.timestamp).replace('T', " ");
        let status = event.status.map(super::status::word).unwrap_or_default();
        let error = event.error_type.as_deref().unwrap_or_default();
        let what = match (&event.error_message, &event.output_s3_key) {
            (Some(message), _) if error.is_empty() => message.clone(),
            (Some(message), _) => format!("{error}: {message}"),
            (None, Some(key)) => key.clone(),
            (None, None) if !error.is_empty() => error.to_owned(),
            (None, None) => event.metadata.get("reason").and_then(|r| r.as_str()).unwrap_or_default().to_owned(),
        };
        let failed = event.error_message.is_some() || !error.is_empty();
        table.row([
            left(time),
            left(event.event_type.as_str()),
            left(event.stage.map(|s| s.verb()).unwrap_or_default()),
            left(status),
            right(number("attempt").map(|n| n.to_string()).unwrap_or_default()),
            right(event.duration_seconds.map(duration).unwrap_or_default()),
            left(printable(&what.replace('\n', " "))).painted(if failed { Paint::Red } else { Paint::Dim }),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::{DocumentId, Stage};
    use docweir_stores::control::DocumentStatus;

    use super::*;
    use crate::cli::output::Out;

    #[test]
    fn an_event_is_a_line_with_its_error() {
        let event = AuditEvent {
            document_id: DocumentId::mint(0, 1),
            timestamp: "2026-11-21T09:30:00.000123Z#01ABC".into(),
            event_type: "STAGE_FAILED".into(),
            stage: Some(Stage::Extraction),
            status: Some(DocumentStatus::Failed),
            processing_version: "v1".into(),
            metadata: serde_json::Map::from_iter([("attempt".to_owned(), 2.into())]),
            worker_id: None,
            duration_seconds: Some(1.25),
            output_s3_key: None,
            error_type: Some("encrypted".into()),
            error_message: Some("needs a\npassword \x1b".into()),
        };
        let lines = table(&[event]).lines(&Out { colour: false });
        assert_eq!(
            lines[1],
            "2026-11-21 09:30:00.000  STAGE_FAILED  extract  failed        2  1.2 s  encrypted: needs a password \u{fffd}"
        );
    }
}
