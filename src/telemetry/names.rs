//! Converts metrics to the names, units and dimensions that CloudWatch shows.
//!
//! Four metrics keep the names and dimensions of the system that Docweir replaces. The other names are derived from
//! the internal names: `docweir_pool_jobs_done_total` becomes `PoolJobsDone`. The label `pool` becomes the dimension
//! `stage`, so all metrics of a stage have the same dimension.

use docweir_core::clock::UnixMicros;
use docweir_core::documents::Stage;

use super::figures::{Figure, Value};
use super::{actors, documents};
use crate::supervisors::metrics as pools;

/// Metrics that have the same names as in the system that Docweir replaces.
const GIVEN: &[(&str, &str)] = &[
    ("docweir_documents_processed_total", "DocumentsProcessed"),
    ("docweir_documents_failed_total", "DocumentsFailed"),
    ("docweir_extraction_duration_seconds", "ExtractionDuration"),
    ("docweir_embedding_cost_nanodollars_total", "EmbeddingCost"),
];

/// Lists the CloudWatch units that Docweir uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Seconds,
    Bytes,
    /// No unit. Amounts of money have no unit, because CloudWatch knows no unit for dollars.
    None,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Seconds => "Seconds",
            Unit::Bytes => "Bytes",
            Unit::None => "None",
        }
    }
}

/// Represents a metric value as it is published to CloudWatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    pub name: String,
    pub dimensions: Vec<(String, String)>,
    pub at: UnixMicros,
    pub unit: Unit,
    pub value: DatumValue,
}

/// Represents a published value: a single number, or the summary of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DatumValue {
    One(f64),
    Samples(super::figures::Samples),
}

/// Returns whether a metric is published to CloudWatch. All other metrics, such as the calls by operation, are only
/// on the `/metrics` page. The reason is that CloudWatch charges for each combination of name and labels.
pub fn is_published(name: &str) -> bool {
    let lists = [documents::METRICS, pools::METRICS, actors::COMPACTION];
    lists.iter().flat_map(|list| list.iter()).any(|(published, ..)| *published == name)
}

/// Converts a collected metric to the form in which it is published.
pub fn datum(figure: Figure, environment: &str, at: UnixMicros) -> Datum {
    let unit = match figure.name.as_str() {
        name if name.contains("_nanodollars") => Unit::None,
        name if name.ends_with("_seconds") => Unit::Seconds,
        name if name.trim_end_matches("_total").ends_with("_bytes") => Unit::Bytes,
        _ => Unit::Count,
    };
    let value = match figure.value {
        Value::Count(n) if unit == Unit::None => DatumValue::One(n as f64 / 1e9),
        Value::Count(n) => DatumValue::One(n as f64),
        Value::Level(level) => DatumValue::One(level),
        Value::Samples(samples) => DatumValue::Samples(samples),
    };
    let mut dimensions = vec![("environment".to_owned(), environment.to_owned())];
    dimensions.extend(figure.labels.into_iter().map(|(label, value)| match label.as_str() {
        "pool" => {
            let stage = value.parse::<Stage>().map(|stage| stage.name().to_owned());
            ("stage".to_owned(), stage.unwrap_or(value))
        }
        _ => (label, value),
    }));
    Datum { name: name(&figure.name), dimensions, at, unit, value }
}

fn name(ours: &str) -> String {
    if let Some((_, given)) = GIVEN.iter().find(|(name, _)| *name == ours) {
        return (*given).to_owned();
    }
    let words = ours.trim_start_matches("docweir_").trim_end_matches("_total").split('_');
    words
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::figures::Samples;

    #[test]
    fn figures_have_their_names_dimensions_and_units() {
        let samples = Samples { count: 2, sum: 3.0, min: 1.0, max: 2.0 };
        let table = [
            (
                "docweir_documents_processed_total",
                ("stage", "loading"),
                Value::Count(3),
                "DocumentsProcessed",
                Unit::Count,
            ),
            ("docweir_documents_failed_total", ("stage", "loading"), Value::Count(3), "DocumentsFailed", Unit::Count),
            (
                "docweir_extraction_duration_seconds",
                ("stage", "loading"),
                Value::Samples(samples),
                "ExtractionDuration",
                Unit::Seconds,
            ),
            ("docweir_pool_jobs_done_total", ("pool", "load"), Value::Count(3), "PoolJobsDone", Unit::Count),
            ("docweir_pool_job_seconds", ("pool", "load"), Value::Samples(samples), "PoolJobSeconds", Unit::Seconds),
            ("docweir_pool_in_flight_bytes", ("pool", "load"), Value::Level(3.0), "PoolInFlightBytes", Unit::Bytes),
            (
                "docweir_compaction_read_bytes_total",
                ("stage", "loading"),
                Value::Count(3),
                "CompactionReadBytes",
                Unit::Bytes,
            ),
        ];
        for (ours, (label, value), figure, theirs, unit) in table {
            assert!(is_published(ours), "{ours}");
            let labels = vec![(label.to_owned(), value.to_owned())];
            let datum = datum(Figure { name: ours.into(), labels, value: figure }, "test", 7);
            assert_eq!((datum.name.as_str(), datum.unit, datum.at), (theirs, unit, 7));
            let expected = [("environment", "test"), ("stage", "loading")].map(|(n, v)| (n.to_owned(), v.to_owned()));
            assert_eq!(datum.dimensions, expected, "{ours}");
        }
        assert!(!is_published("docweir_aws_calls_total"));
    }

    #[test]
    fn money_is_in_dollars() {
        let name = "docweir_embedding_cost_nanodollars_total".to_owned();
        let datum = datum(Figure { name, labels: Vec::new(), value: Value::Count(1_234_567_891) }, "test", 0);
        assert_eq!((datum.name.as_str(), datum.unit), ("EmbeddingCost", Unit::None));
        assert_eq!(datum.value, DatumValue::One(1.234_567_891));
    }
}
