//! Writes metrics in CloudWatch's embedded metric format (EMF). CloudWatch extracts the metrics from these log lines.

use serde_json::{Map, Value, json};

use super::names::{Datum, DatumValue};

/// Maximum number of metrics in one line.
const MOST: usize = 100;

/// Formats metrics as log lines. Metrics with the same time and the same dimensions share a line, up to 100 metrics
/// per line. A metric name occurs at most once per line.
pub fn lines(namespace: &str, data: &[Datum]) -> Vec<String> {
    let mut groups: Vec<Vec<&Datum>> = Vec::new();
    for datum in data {
        let fits = |group: &&mut Vec<&Datum>| {
            let same = group.first().is_some_and(|d| d.at == datum.at && d.dimensions == datum.dimensions);
            same && group.len() < MOST && group.iter().all(|d| d.name != datum.name)
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(datum),
            None => groups.push(vec![datum]),
        }
    }
    groups.iter().filter_map(|group| line(namespace, group)).collect()
}

fn line(namespace: &str, group: &[&Datum]) -> Option<String> {
    let first = group.first()?;
    let names: Vec<&str> = first.dimensions.iter().map(|(name, _)| name.as_str()).collect();
    let metrics: Vec<Value> = group.iter().map(|d| json!({ "Name": d.name, "Unit": d.unit.name() })).collect();
    let mut line = Map::new();
    let directive = json!({ "Namespace": namespace, "Dimensions": [names], "Metrics": metrics });
    line.insert("_aws".into(), json!({ "Timestamp": first.at / 1_000, "CloudWatchMetrics": [directive] }));
    line.extend(first.dimensions.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))));
    for datum in group {
        let value = match datum.value {
            DatumValue::One(value) => json!(value),
            DatumValue::Samples(s) => json!({ "Min": s.min, "Max": s.max, "Sum": s.sum, "Count": s.count }),
        };
        line.insert(datum.name.clone(), value);
    }
    serde_json::to_string(&line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::figures::Samples;
    use crate::telemetry::names::Unit;

    fn datum(name: &str, stage: &str, value: DatumValue) -> Datum {
        let dimensions = vec![("environment".into(), "test".into()), ("stage".into(), stage.into())];
        Datum { name: name.into(), dimensions, at: 1_763_793_000_123_456, unit: Unit::Count, value }
    }

    #[test]
    fn a_line_holds_what_shares_its_dimensions() {
        let samples = DatumValue::Samples(Samples { count: 2, sum: 3.5, min: 1.0, max: 2.5 });
        let data = [
            datum("DocumentsProcessed", "extraction", DatumValue::One(3.0)),
            datum("DocumentsProcessed", "loading", DatumValue::One(2.0)),
            datum("ExtractionDuration", "extraction", samples),
        ];
        let lines: Vec<Value> = lines("Docweir", &data).iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            json!({
                "_aws": { "Timestamp": 1_763_793_000_123_i64, "CloudWatchMetrics": [{
                    "Namespace": "Docweir",
                    "Dimensions": [["environment", "stage"]],
                    "Metrics": [{ "Name": "DocumentsProcessed", "Unit": "Count" }, { "Name": "ExtractionDuration", "Unit": "Count" }],
                }] },
                "environment": "test",
                "stage": "extraction",
                "DocumentsProcessed": 3.0,
                "ExtractionDuration": { "Min": 1.0, "Max": 2.5, "Sum": 3.5, "Count": 2 },
            })
        );
        assert_eq!((&lines[1]["stage"], &lines[1]["DocumentsProcessed"]), (&json!("loading"), &json!(2.0)));
    }

    #[test]
    fn no_line_has_too_many_and_no_figure_is_lost() {
        let mut data: Vec<Datum> = (0..250).map(|n| datum(&format!("M{n}"), "a", DatumValue::One(1.0))).collect();
        data.push(datum("M0", "a", DatumValue::One(1.0)));
        let lines = lines("Docweir", &data);
        let count = |line: &String| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().len()
        };
        let counts: Vec<usize> = lines.iter().map(count).collect();
        assert_eq!(counts, [100, 101 - 1, 51], "{counts:?}");
    }
}
