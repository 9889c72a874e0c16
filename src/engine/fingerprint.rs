//! Computes a fingerprint of all settings that can change the result of processing a document.
//!
//! Two runs with the same fingerprint produce the same index from the same file. A run therefore skips a file if
//! neither the file nor the fingerprint has changed. Workers, queues, waits and deadlines affect only when and how
//! fast work is done, so they are not part of the fingerprint.

use docweir_core::documents::Sha256Hex;
use docweir_core::model::ModelIdentity;
use serde_json::{Value, json};

use crate::config::{Provider, Settings};

/// Version of the pipeline's code, as far as the code affects results. A developer increases the version when a stage
/// gives a new result for the same input. The next run then processes every document again.
pub const PIPELINE_FORMAT: u32 = 4;

/// Writes all settings that can change the result of processing a document as canonical JSON, and returns the SHA-256
/// of this JSON text.
pub fn fingerprint(settings: &Settings, model: &ModelIdentity) -> Sha256Hex {
    let extract = &settings.extract.options;
    let (local, openai) = (&settings.embed.options.model, &settings.embed.options.openai);
    // These settings determine the maximum length of a chunk and the handling of longer ones.
    let embed = match settings.embed.options.provider {
        Provider::Local => json!({ "best_tokens": local.best_tokens }),
        Provider::Openai => json!({ "max_input_tokens": openai.max_input_tokens, "over_long": openai.over_long }),
        Provider::Hashed => Value::Null,
    };
    let enrich = settings.enrich.options.shape();
    let all = json!({
        "format": PIPELINE_FORMAT,
        "extract": {
            "accept_textless": extract.accept_textless,
            "document_info": extract.document_info,
            // A document that exceeded a limit is processed again when the limit changes.
            "limits": extract.limits,
        },
        "chunk": settings.chunk.options,
        "enrich": enrich,
        "model": model,
        "embed": embed,
    });
    let mut canonical = String::new();
    write(&all, &mut canonical);
    Sha256Hex::of(canonical.as_bytes())
}

/// Writes JSON without white space. The members of each object are sorted by name.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (i, (name, value)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use docweir_core::model::Metric;
    use docweir_stages::enrich::EnrichProvider;

    use super::*;

    fn model() -> ModelIdentity {
        ModelIdentity { id: "m".into(), weights: "w".into(), dimension: 8, metric: Metric::Cosine }
    }

    fn of(change: impl FnOnce(&mut Settings)) -> Sha256Hex {
        let mut settings = Settings::default();
        change(&mut settings);
        fingerprint(&settings, &model())
    }

    #[test]
    fn what_shapes_the_result_changes_it() {
        type Change = fn(&mut Settings);
        let table: [(&str, Change); 14] = [
            ("best_tokens", |s| s.embed.options.model.best_tokens += 1),
            ("provider", |s| s.embed.options.provider = Provider::Openai),
            ("max_input_tokens", |s| {
                s.embed.options.provider = Provider::Openai;
                s.embed.options.openai.max_input_tokens += 1;
            }),
            ("accept_textless", |s| s.extract.options.accept_textless = !s.extract.options.accept_textless),
            ("document_info", |s| s.extract.options.document_info = !s.extract.options.document_info),
            ("limits.pages", |s| s.extract.options.limits.pages += 1),
            ("limits.text_bytes", |s| s.extract.options.limits.text_bytes += 1),
            ("chunk.target_chars", |s| s.chunk.options.target_chars += 1),
            ("chunk.heading_max_chars", |s| s.chunk.options.heading_max_chars += 1),
            ("enrich.redact", |s| s.enrich.options.redact = !s.enrich.options.redact),
            ("enrich.redact_kinds", |s| s.enrich.options.redact_kinds = vec!["EMAIL".into()]),
            ("enrich.provider", |s| s.enrich.options.provider = EnrichProvider::Comprehend),
            ("comprehend.apis", |s| {
                s.enrich.options.provider = EnrichProvider::Comprehend;
                s.enrich.options.comprehend.apis.truncate(2);
            }),
            ("comprehend.languages", |s| {
                s.enrich.options.provider = EnrichProvider::Comprehend;
                s.enrich.options.comprehend.languages.truncate(2);
            }),
        ];
        let mut seen = std::collections::BTreeMap::from([(of(|_| {}), "nothing")]);
        for (name, change) in table {
            if let Some(other) = seen.insert(of(change), name) {
                panic!("{name} gives the fingerprint of {other}");
            }
        }
        let models = [
            ModelIdentity { id: "n".into(), ..model() },
            ModelIdentity { weights: "v".into(), ..model() },
            ModelIdentity { dimension: 9, ..model() },
        ];
        for model in models {
            let fingerprint = fingerprint(&Settings::default(), &model);
            assert!(seen.insert(fingerprint, "a model").is_none(), "{model:?}");
        }
    }

    #[test]
    fn what_only_changes_speed_or_waiting_does_not() {
        type Change = fn(&mut Settings);
        let table: [(&str, Change); 11] = [
            ("another provider's", |s| s.embed.options.openai.max_input_tokens += 1),
            ("another enricher's", |s| s.enrich.options.comprehend.apis.truncate(2)),
            ("requests a second", |s| s.enrich.options.comprehend.requests_per_second += 1.0),
            ("workers", |s| s.extract.workers.min += 1),
            ("queues", |s| s.chunk.queue_documents += 1),
            ("deadlines", |s| s.embed.deadline_seconds += 1),
            ("children", |s| s.extract.options.memory_limit_bytes += 1),
            ("waiting time", |s| s.extract.options.stall_seconds += 1),
            ("retries", |s| s.retry.attempts += 1),
            ("commits", |s| s.load.options.max_documents += 1),
            ("search", |s| s.search.top += 1),
        ];
        for (name, change) in table {
            assert_eq!(of(change), of(|_| {}), "{name}");
        }
    }

    #[test]
    fn what_pays_and_waits_for_comprehend_does_not_shape_it() {
        let with = |change: fn(&mut Settings)| {
            of(|s| {
                s.enrich.options.provider = EnrichProvider::Comprehend;
                change(s);
            })
        };
        assert_eq!(with(|s| s.enrich.options.comprehend.endpoint = "http://127.0.0.1:1".into()), with(|_| {}));
        assert_eq!(with(|s| s.enrich.options.comprehend.concurrency += 1), with(|_| {}));
    }

    /// Checks that the options of the local enricher keep their names. Other names would change the fingerprint, and
    /// every document of an older index would be processed again.
    #[test]
    fn the_local_enrichers_fingerprint_stays() {
        let options = serde_json::to_value(docweir_stages::enrich::EnrichOptions::default().shape()).unwrap();
        let names: Vec<&str> = options.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "entities",
            "key_phrases",
            "language",
            "max_findings",
            "max_key_phrases",
            "min_confidence",
            "patterns",
            "personal_data",
            "redact",
            "redact_kinds",
        ];
        assert_eq!(names, expected);
        assert_eq!(options["min_confidence"].to_string(), "0.699999988079071");
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let mut out = String::new();
        write(&json!({"b": [1, {"d": null, "c": "ü\""}], "a": 0.5}), &mut out);
        assert_eq!(out, r#"{"a":0.5,"b":[1,{"c":"ü\"","d":null}]}"#);
    }
}
