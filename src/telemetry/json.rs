//! Formats log lines as flat JSON objects, one per line. Tools such as CloudWatch Logs Insights and jq then find
//! `document_id` at the top level of a line.
//!
//! Only the span of a document adds its fields to a line. Spans of libraries are left out, because they are verbose
//! and meant for debugging.

use std::fmt;

use docweir_core::clock::{SharedClock, timestamp};
use docweir_core::display::to_json;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::trace::DOCUMENT;

/// Formats each event as a JSON line. Needs [`JsonFields`] as the formatter of spans.
pub struct JsonLines(pub SharedClock);

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let metadata = event.metadata();
        line.insert("timestamp".into(), timestamp(self.0.now()).into());
        line.insert("level".into(), metadata.level().as_str().into());
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        if let Some(message) = fields.0.remove("message") {
            line.insert("message".into(), message);
        }
        line.insert("target".into(), metadata.target().into());
        let spans = context.event_scope().into_iter().flatten().filter(|span| span.name() == DOCUMENT);
        for span in spans {
            let extensions = span.extensions();
            let Some(written) = extensions.get::<FormattedFields<JsonFields>>() else { continue };
            if let Ok(of_span) = serde_json::from_str::<Map<String, Value>>(&written.fields) {
                // The innermost span comes first, so its fields win.
                of_span.into_iter().for_each(|(name, value)| keep(&mut line, name, value));
            }
        }
        fields.0.into_iter().for_each(|(name, value)| keep(&mut line, name, value));
        let text = to_json(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{text}")
    }
}

/// Adds a field to a log line, unless the line already has a field with the same name. An added field therefore
/// cannot replace, for example, the line's level.
fn keep(line: &mut Map<String, Value>, name: String, value: Value) {
    line.entry(name).or_insert(value);
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use docweir_core::clock::ManualClock;
    use docweir_core::documents::{DocumentId, Stage};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::telemetry::trace;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Page {
        type Writer = Page;

        fn make_writer(&'a self) -> Page {
            self.clone()
        }
    }

    #[test]
    fn a_line_is_a_flat_object_with_what_it_is_about() {
        let page = Page::default();
        let log = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines(Arc::new(ManualClock::at(1_000_001))))
            .with_writer(page.clone())
            .with_max_level(tracing::Level::WARN)
            .finish();
        let id = DocumentId::parse("doc_a").unwrap();
        tracing::subscriber::with_default(log, || {
            tracing::warn!(wait_seconds = 0.5, level = "mine", "a \"quoted\" word");
            trace::span(&id, 3, Stage::Chunking, 2).in_scope(|| {
                tracing::error_span!("of a library", secret = 1).in_scope(|| tracing::warn!(n = 7, "in it"));
                tracing::info!("not shown");
            });
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let target = module_path!();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(
            lines[0],
            serde_json::json!({ "timestamp": "1970-01-01T00:00:01.000001Z", "level": "WARN", "target": target,
                "message": "a \"quoted\" word", "wait_seconds": 0.5 })
        );
        assert_eq!(
            lines[1],
            serde_json::json!({ "timestamp": "1970-01-01T00:00:01.000001Z", "level": "WARN", "target": target,
                "message": "in it", "n": 7, "document_id": "doc_a", "version": 3, "stage": "chunking", "attempt": 2,
                "trace_id": trace::trace_id(&id, 3) })
        );
    }
}
