//! Defines the lifecycle rules of the buckets, and detects rules that archive or delete required objects.
//!
//! Artefacts of stages are read again only when a document is retried from a stage. Such retries are rare after a
//! month, so older artefacts are archived. Vector files, leases, batches and quarantined documents are never archived
//! or deleted.

use docweir_aws::s3::LifecycleRule;

/// Prefixes of the artefacts of stages.
const ARTEFACTS: [&str; 4] = ["extracted/", "chunks/", "enriched/", "embeddings/"];
/// Prefixes of objects that must always be readable.
const LIVE: [&str; 5] = ["vectors/", "batches/", "input/", "errors/", "leases/"];
/// Number of days after which unfinished uploads are aborted. Unfinished uploads cost money and appear in no listing.
const ABORT_DAYS: u32 = 7;

/// Returns the lifecycle rules for the bucket of artefacts. Artefacts are archived after `days` days; 0 means that
/// they are never archived.
pub fn archiving(prefix: &str, days: u32) -> Vec<LifecycleRule> {
    if days == 0 {
        return abandoned();
    }
    let rule = |artefacts: &&str| LifecycleRule {
        id: format!("docweir-archive-{}", artefacts.trim_end_matches('/')),
        prefix: under(prefix, artefacts),
        archive_days: Some(days),
        expire_days: None,
        abort_days: None,
    };
    ARTEFACTS.iter().map(rule).chain(abandoned()).collect()
}

/// Returns the rules for a bucket of vector files. These rules only abort unfinished uploads.
pub fn abandoned() -> Vec<LifecycleRule> {
    vec![LifecycleRule {
        id: "docweir-abandoned-uploads".into(),
        prefix: String::new(),
        archive_days: None,
        expire_days: None,
        abort_days: Some(ABORT_DAYS),
    }]
}

fn under(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") }
}

/// Returns a description of the harm if a rule archives or deletes objects that Docweir needs. Returns `None` if the
/// rule is harmless.
pub fn harm(rule: &LifecycleRule, prefix: &str) -> Option<String> {
    if rule.archive_days.is_none() && rule.expire_days.is_none() {
        return None;
    }
    let does = if rule.expire_days.is_some() { "deletes" } else { "archives" };
    let met = LIVE.iter().map(|live| under(prefix, live)).find(|live| {
        // A rule on a part of the prefix harms as much as one on the whole.
        live.starts_with(&rule.prefix) || rule.prefix.starts_with(live.as_str())
    })?;
    Some(format!("lifecycle rule `{}` {does} required objects under `{met}`; remove or narrow the rule", rule.id))
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::DocumentId;
    use docweir_stages::{chunk, embed};

    use super::*;

    fn rule(prefix: &str, archive_days: Option<u32>, expire_days: Option<u32>) -> LifecycleRule {
        LifecycleRule { id: "theirs".into(), prefix: prefix.into(), archive_days, expire_days, abort_days: None }
    }

    #[test]
    fn our_own_rules_touch_artefacts_and_nothing_that_is_needed() {
        for prefix in ["", "team/docweir"] {
            let rules = archiving(prefix, 30);
            assert!(rules.iter().all(|rule| harm(rule, prefix).is_none()), "{rules:?}");
            let id = DocumentId::mint(0, 1);
            let meets = |key: &str| {
                let key = under(prefix, key);
                rules.iter().any(|rule| rule.archive_days.is_some() && key.starts_with(&rule.prefix))
            };
            for artefact in [
                chunk::artefact::chunks_key(&id),
                chunk::artefact::enriched_key(&id),
                embed::artefact::key(&id),
                format!("extracted/{id}/metadata.json"),
            ] {
                assert!(meets(&artefact), "{artefact} is never archived");
            }
            for needed in [
                "vectors/chunks/MANIFEST",
                "vectors/chunks/LEASE",
                "vectors/chunks/delta/01J.parquet",
                "vectors/chunks/snap/01J.snap",
                "batches/01J.jsonl",
                "input/_quarantine/doc_1/v1/a.pdf",
                "errors/doc_1/v1/chunking_1.json",
            ] {
                assert!(!meets(needed), "{needed} is archived");
            }
        }
    }

    #[test]
    fn rules_of_others_that_do_harm_are_found() {
        let table = [
            (rule("", Some(30), None), true),
            (rule("", None, Some(365)), true),
            (rule("vectors/", None, Some(7)), true),
            (rule("vectors/chunks/delta/", None, Some(7)), true),
            (rule("vec", Some(1), None), true),
            (rule("extracted/", None, Some(7)), false),
            (rule("logs/", None, Some(7)), false),
            (rule("", None, None), false),
        ];
        for (rule, harmful) in table {
            assert_eq!(harm(&rule, "").is_some(), harmful, "{rule:?}");
        }
    }
}
