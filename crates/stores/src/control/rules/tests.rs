//! Tests the decisions of the rules with tables of cases. The tests of each store cover how the decisions are stored.

use std::time::Duration;

use docweir_core::clock::timestamp;
use docweir_core::documents::{DocumentId, MediaType, Sha256Hex};

use super::*;
use crate::control::{
    ControlError, DocumentStatus::*, Intent, NewDocument, Registered, Resume, StageOutput, Transition,
};

pub(in crate::control::rules) const NOW: UnixMicros = 1_763_718_000_000_000;
const LEASE: Duration = Duration::from_secs(60);

pub(in crate::control::rules) fn document(content: &str) -> NewDocument {
    NewDocument {
        source: "file:///papers/a.pdf".into(),
        content: Sha256Hex::of(content.as_bytes()),
        fingerprint: Sha256Hex::of(b"configuration"),
        bytes: 3,
        media_type: MediaType::Pdf,
        tenant: "default".into(),
        weight: 1,
        tag: None,
        parent: None,
    }
}

pub(in crate::control::rules) fn pending() -> ControlRecord {
    new_record(document("one"), DocumentId::mint(NOW, 7), 3, NOW).0
}

pub(in crate::control::rules) fn claimed(record: &mut ControlRecord) -> crate::control::Claim {
    match take(record, "owner", LEASE, NOW, true) {
        Taken::Claim(claim, _) => *claim,
        Taken::NeedsVersion => panic!("minting was allowed"),
    }
}

fn do_stage(record: &mut ControlRecord, stage: Stage) -> Effects {
    apply(record, Transition::StageStarted { stage }, NOW).unwrap();
    let output = Some(StageOutput { key: format!("{stage}/x"), sha256: Sha256Hex::of(stage.name().as_bytes()) });
    let metrics = [("openai_cost_usd", 0.25), ("tokens_processed", 7.0), ("bad", f64::NAN), ("status", 1.0)];
    let metrics = metrics.map(|(k, v)| (k.to_owned(), v)).into();
    apply(record, Transition::StageCompleted { stage, output, metrics, duration: LEASE }, NOW).unwrap()
}

pub(in crate::control::rules) fn complete(record: &mut ControlRecord) -> Effects {
    for stage in &Stage::ALL[..4] {
        do_stage(record, *stage);
    }
    apply(record, Transition::StageStarted { stage: Stage::Loading }, NOW).unwrap();
    apply(record, Transition::Completed { metrics: Default::default(), duration: LEASE }, NOW).unwrap()
}

fn error() -> StageError {
    StageError::transient("cut", "the line was cut")
}

fn quarantine(record: &mut ControlRecord, stage: Stage) {
    let (artefact, original) = (Some("errors/x".into()), Some("input/_quarantine/x".into()));
    apply(record, Transition::Quarantined { stage, error: error(), artefact, original }, NOW).unwrap();
}

fn event_types(effects: &Effects) -> Vec<&str> {
    effects.events.iter().map(|e| e.event_type.as_str()).collect()
}

#[test]
fn a_document_passes_its_stages() {
    let mut r = pending();
    assert_eq!((r.source_bucket.as_str(), r.source_s3_key.as_str()), ("file://", "/papers/a.pdf"));
    let claim = claimed(&mut r);
    assert_eq!((claim.key.epoch, claim.stage, claim.attempts, claim.interruptions), (1, Stage::Extraction, 0, 0));
    let mut seen = vec![];
    for stage in &Stage::ALL[..4] {
        let effects = do_stage(&mut r, *stage);
        assert_eq!(event_types(&effects), ["STAGE_COMPLETED"]);
        assert_eq!(effects.events[0].output_s3_key, Some(format!("{stage}/x")));
        assert!(effects.metrics.contains(&("EmbeddingCost".into(), 0.25)), "{:?}", effects.metrics);
        assert!(effects.metrics.contains(&(format!("{stage}.tokens_processed"), 7.0)), "{:?}", effects.metrics);
        let extraction = effects.metrics.iter().any(|m| m.0 == "ExtractionDuration");
        assert_eq!(extraction, *stage == Stage::Extraction);
        seen.push(r.current_stage.clone());
        let entry = &r.stage_status[stage];
        assert_eq!(entry.metrics.keys().collect::<Vec<_>>(), ["openai_cost_usd", "tokens_processed"]);
        assert!(entry.started_at.is_some() && entry.duration_seconds == Some(60.0), "{entry:?}");
    }
    assert_eq!(seen, ["STAGE_2_CHUNKING", "STAGE_3_ENRICHMENT", "STAGE_4_EMBEDDING", "STAGE_5_LOADING"]);
    let effects = apply(&mut r, Transition::Completed { metrics: Default::default(), duration: LEASE }, NOW).unwrap();
    assert_eq!(event_types(&effects), ["STAGE_COMPLETED", "DOCUMENT_COMPLETED"]);
    assert_eq!(effects.events[1].worker_id.as_deref(), Some("owner"));
    assert!(effects.metrics.contains(&("DocumentsProcessed".into(), 1.0)));
    assert_eq!((r.status, r.current_stage.as_str(), r.loaded_version), (Completed, "STAGE_5_COMPLETE", Some(1)));
    assert_eq!((r.lease_owner, r.completed_at), (None, Some(timestamp(NOW))));
}

#[test]
fn interruptions_count_starts_without_an_end() {
    use Transition::*;
    let stage = Stage::Chunking;
    let ends = [
        (StageCompleted { stage, output: None, metrics: Default::default(), duration: LEASE }, 0),
        (StageRetry { stage, error: error(), wait: LEASE, consumes_attempt: true }, 1),
        (StageRetry { stage, error: error(), wait: LEASE, consumes_attempt: false }, 0),
        (Parked { stage, reason: "budget".into(), resume: Resume::On("month".into()) }, 0),
        (Quarantined { stage, error: error(), artefact: None, original: None }, 0),
        (Released { stage }, 0),
    ];
    for (end, attempts) in ends {
        let mut r = pending();
        claimed(&mut r);
        do_stage(&mut r, Stage::Extraction);
        for deaths in 0..3 {
            assert_eq!(r.interruptions, deaths);
            apply(&mut r, StageStarted { stage }, NOW).unwrap();
            // The process dies here; the next one claims the record after the lease has expired.
            let claim = claimed(&mut r);
            assert_eq!((claim.interruptions, claim.stage), (deaths + 1, stage));
        }
        apply(&mut r, end.clone(), NOW).unwrap();
        assert_eq!((r.interruptions, r.retry_count), (0, attempts), "{end:?}");
    }
}

#[test]
fn how_each_end_leaves_the_record() {
    use Transition::*;
    let stage = Stage::Extraction;
    let retry = StageRetry { stage, error: error(), wait: LEASE, consumes_attempt: true };
    let parked = Parked { stage, reason: "budget".into(), resume: Resume::At(NOW) };
    let quarantined = Quarantined { stage, error: error(), artefact: None, original: None };
    let table = [
        (retry, InProgress, "RETRY_QUEUED", Pending, vec!["STAGE_FAILED"]),
        (parked, Parked_, "STAGE_1_EXTRACTION", Parked_, vec!["STATUS_CHANGE"]),
        (quarantined, Quarantined_, "FAILED", Quarantined_, vec!["STAGE_FAILED", "DOCUMENT_FAILED"]),
        (Released { stage }, Pending, "STAGE_1_EXTRACTION", Pending, vec!["STATUS_CHANGE"]),
    ];
    for (transition, status, current, entry, events) in table {
        let mut r = pending();
        claimed(&mut r);
        apply(&mut r, StageStarted { stage }, NOW).unwrap();
        let effects = apply(&mut r, transition.clone(), NOW).unwrap();
        assert_eq!((r.status, r.current_stage.as_str()), (status, current), "{transition:?}");
        assert_eq!(r.stage_status[&stage].status, entry, "{transition:?}");
        assert_eq!(event_types(&effects), events);
        assert!(effects.events.iter().all(|e| e.worker_id.as_deref() == Some("owner")), "{effects:?}");
        assert_eq!(r.lease_owner.is_some(), status == InProgress, "{transition:?}");
        if let Some(failed) = effects.events.iter().find(|e| e.event_type == "STAGE_FAILED") {
            assert_eq!(failed.error_type.as_deref(), Some("cut"));
            assert_eq!(
                (&failed.metadata["attempt"], &failed.metadata["error_class"]),
                (&1.into(), &"transient".into())
            );
        }
    }
}

#[allow(non_upper_case_globals, reason = "a status has the name of a transition")]
const Parked_: DocumentStatus = Parked;
#[allow(non_upper_case_globals, reason = "a status has the name of a transition")]
const Quarantined_: DocumentStatus = Quarantined;

#[test]
fn starting_a_stage_again_forgets_what_came_after_it() {
    let mut r = pending();
    claimed(&mut r);
    for stage in &Stage::ALL[..3] {
        do_stage(&mut r, *stage);
    }
    apply(&mut r, Transition::StageStarted { stage: Stage::Chunking }, NOW).unwrap();
    assert_eq!(first_unfinished(&r), Some(Stage::Chunking));
    assert_eq!(r.stage_status.keys().collect::<Vec<_>>(), [&Stage::Extraction, &Stage::Chunking]);
}

#[test]
fn a_claim_ends_with_another_claim_or_version_or_a_reset_by_hand() {
    let mut r = pending();
    let claim = claimed(&mut r).key;
    check_claim(Some(&r), &claim).unwrap();
    let fenced =
        |r: Option<&ControlRecord>| matches!(check_claim(r, &claim), Err(ControlError::Fenced(c)) if c == claim);
    assert!(fenced(None));
    let changes: [fn(&mut ControlRecord); 3] = [|r| r.epoch += 1, |r| r.version += 1, |r| r.status = Pending];
    for change in changes {
        let mut other = r.clone();
        change(&mut other);
        assert!(fenced(Some(&other)), "{other:?}");
    }
}

#[test]
fn what_a_reset_by_hand_leads_to() {
    // The document was finished, so it gets a new version from the start.
    let mut r = pending();
    claimed(&mut r);
    complete(&mut r);
    r.status = Pending;
    let before = r.clone();
    assert!(matches!(take(&mut r, "o", LEASE, NOW, false), Taken::NeedsVersion));
    assert_eq!(r, before);
    let claim = claimed(&mut r);
    assert_eq!((claim.key.version, claim.stage, claim.loaded_version), (2, Stage::Extraction, Some(1)));
    assert!(claim.outputs.is_empty());

    // The document was finished and its stage map was emptied by hand: it still gets a new version.
    let mut r = before.clone();
    r.stage_status.clear();
    assert_eq!(claimed(&mut r).key.version, 2);

    // A document that was quarantined or interrupted at a stage continues there, with its counters at zero.
    for status in [Quarantined, InProgress] {
        let mut r = pending();
        claimed(&mut r);
        do_stage(&mut r, Stage::Extraction);
        apply(&mut r, Transition::StageStarted { stage: Stage::Chunking }, NOW).unwrap();
        if status == Quarantined {
            quarantine(&mut r, Stage::Chunking);
        }
        (r.status, r.retry_count) = (Pending, 0);
        let claim = claimed(&mut r);
        assert_eq!((claim.key.version, claim.stage, claim.interruptions), (1, Stage::Chunking, 0), "{status:?}");
        assert_eq!(claim.outputs.keys().collect::<Vec<_>>(), [&Stage::Extraction]);
        let kept = if status == Quarantined { 2 } else { 0 };
        assert_eq!(claim.kept.len(), kept, "kept until the document is complete");
    }

    // A deleted document returns with a version above its tombstone's.
    let mut r = pending();
    request_delete(&mut r).unwrap();
    claimed(&mut r);
    apply(&mut r, Transition::Deleted, NOW).unwrap();
    r.status = Pending;
    let claim = claimed(&mut r);
    assert_eq!((claim.intent, claim.key.version, claim.stage), (Intent::Process, 3, Stage::Extraction));
}

#[test]
fn a_death_between_the_last_stage_and_the_completion_leads_back_to_loading() {
    let mut r = pending();
    claimed(&mut r);
    for stage in Stage::ALL {
        do_stage(&mut r, stage);
    }
    let claim = claimed(&mut r);
    assert_eq!((claim.key.version, claim.stage), (1, Stage::Loading));
    assert_eq!(claim.outputs.len(), 4);
}

#[test]
fn registering() {
    let same = |r: &mut ControlRecord| register(r, document("one"), NOW);
    // An unchanged file stays unchanged, whatever its status.
    for status in [Pending, InProgress, Completed, Failed, Parked, Quarantined] {
        let mut r = pending();
        r.status = status;
        let before = r.clone();
        let (answer, effects) = same(&mut r);
        assert!(matches!(answer, Registered::Unchanged(_, s) if s == status), "{answer:?}");
        assert!(effects.is_none() && r == before);
    }
    for (what, other) in [
        ("content", document("two")),
        ("configuration", NewDocument { fingerprint: Sha256Hex::of(b"other"), ..document("one") }),
    ] {
        let mut r = pending();
        let claim = claimed(&mut r).key;
        do_stage(&mut r, Stage::Extraction);
        quarantine(&mut r, Stage::Chunking);
        r.retry_count = 2;
        let (answer, effects) = register(&mut r, other.clone(), NOW + 1);
        assert!(matches!(&answer, Registered::Replaces(k) if k.version == 2), "{what}: {answer:?}");
        assert_eq!(event_types(&effects.unwrap()), ["DOCUMENT_RECEIVED"]);
        assert!(check_claim(Some(&r), &claim).is_err());
        assert_eq!((r.status, r.current_stage.as_str(), r.retry_count), (Pending, "SUBMITTED", 0));
        assert!(r.stage_status.is_empty() && r.last_error.is_none() && r.quarantine_artefact.is_some());
        assert_eq!((&r.content_sha256, &r.fingerprint), (&other.content, &other.fingerprint));
        assert_eq!((r.created_at, r.upload_timestamp), (timestamp(NOW), timestamp(NOW + 1)));
    }
    // A document that is scheduled for deletion, or deleted, becomes wanted again.
    let mut r = pending();
    request_delete(&mut r).unwrap();
    let mut wanted_again = r.clone();
    assert!(matches!(same(&mut wanted_again).0, Registered::Replaces(k) if k.version == 3));
    assert_eq!(wanted_again.intent, Intent::Process);
    claimed(&mut r);
    apply(&mut r, Transition::Deleted, NOW).unwrap();
    assert!(matches!(same(&mut r).0, Registered::New(k) if k.version == 3 && k.id == r.document_id));
}

#[test]
fn retrying() {
    let quarantined = || {
        let mut r = pending();
        claimed(&mut r);
        do_stage(&mut r, Stage::Extraction);
        do_stage(&mut r, Stage::Chunking);
        quarantine(&mut r, Stage::Enrichment);
        r
    };
    for (from, expected) in [
        (None, Ok(Stage::Enrichment)),
        (Some(Stage::Enrichment), Ok(Stage::Enrichment)),
        (Some(Stage::Extraction), Ok(Stage::Extraction)),
        (Some(Stage::Embedding), Err("from embedding: enrichment has no result yet; retry it from enrichment")),
    ] {
        let mut r = quarantined();
        let before = r.clone();
        match (reset(&mut r, from), expected) {
            (Ok(effects), Ok(stage)) => {
                assert_eq!(event_types(&effects), ["STATUS_CHANGE"]);
                assert_eq!((r.status, r.current_stage.as_str(), r.version), (Pending, "RETRY_QUEUED", 1));
                assert_eq!((first_unfinished(&r), r.retry_count), (Some(stage), 0));
                assert_eq!((r.quarantine_artefact.is_some(), r.last_error), (true, None));
            }
            (Err(e), Err(part)) => {
                assert!(e.to_string().contains(part), "{e}");
                assert_eq!(r, before);
            }
            (result, _) => panic!("{from:?}: {result:?}"),
        }
    }
    // A completed document gets a new version and keeps the results that are still valid.
    let mut r = pending();
    claimed(&mut r);
    complete(&mut r);
    reset(&mut r, Some(Stage::Embedding)).unwrap();
    let claim = claimed(&mut r);
    assert_eq!((claim.key.version, claim.stage, claim.outputs.len()), (2, Stage::Embedding, 3));

    for (status, part) in
        [(Pending, "the next run processes it"), (InProgress, "wait until it ends"), (Deleted, "ingest its file")]
    {
        let mut r = pending();
        r.status = status;
        let e = reset(&mut r, None).unwrap_err().to_string();
        assert!(e.contains(part), "{e}");
    }
}

#[test]
fn deleting_and_discarding() {
    let mut r = pending();
    let claim = claimed(&mut r).key;
    assert!(request_delete(&mut r).unwrap().is_some());
    assert!(check_claim(Some(&r), &claim).is_err(), "the current work is void");
    assert_eq!((r.version, r.status), (2, Pending));
    assert!(request_delete(&mut r).unwrap().is_none(), "requested twice");
    let claim = claimed(&mut r);
    assert_eq!((claim.intent, claim.stage, claim.key.version), (Intent::Delete, Stage::Loading, 2));
    let completed = Transition::Completed { metrics: Default::default(), duration: LEASE };
    assert!(matches!(apply(&mut r, completed, NOW), Err(ControlError::Refused(_))));
    apply(&mut r, Transition::Deleted, NOW).unwrap();
    assert_eq!((r.status, r.loaded_version, r.current_stage.as_str()), (Deleted, None, "DELETED"));
    assert!(request_delete(&mut r).unwrap_err().to_string().contains("it is DELETED"));

    let mut r = pending();
    assert!(discard(&mut r).unwrap_err().to_string().contains("only quarantined"));
    claimed(&mut r);
    assert!(matches!(apply(&mut r, Transition::Deleted, NOW), Err(ControlError::Refused(_))));
    quarantine(&mut r, Stage::Extraction);
    discard(&mut r).unwrap();
    assert_eq!((r.status, r.quarantine_artefact), (Failed, None));
    assert!(r.last_error.is_some(), "the reason of the failure is kept");
}

#[test]
fn what_the_manifest_says() {
    let completes = |r: &mut ControlRecord, version| mark_loaded(r, version, NOW).map(|(_, completes)| completes);
    // The process died between the write of the manifest and the write of the record.
    let mut r = pending();
    let claim = claimed(&mut r).key;
    assert_eq!(completes(&mut r, 1), Some(true));
    assert_eq!((r.status, r.loaded_version, first_unfinished(&r)), (Completed, Some(1), None));
    assert!(check_claim(Some(&r), &claim).is_err());
    // The record already knows this version: a reset by hand stays.
    r.status = Pending;
    assert_eq!(completes(&mut r, 1), None);
    assert_eq!(r.status, Pending);
    // An older version is loaded while a newer one is processed.
    let mut r = pending();
    register(&mut r, document("two"), NOW);
    assert_eq!(completes(&mut r, 1), Some(false));
    assert_eq!((r.status, r.loaded_version), (Pending, Some(1)));
    // A power loss undid the record's update to version 5, which was already loaded.
    assert_eq!(completes(&mut r, 5), Some(true));
    assert_eq!((r.version, r.status), (5, Completed));
    // The document is deleted: versions that the tombstone covers have no effect.
    let mut r = pending();
    request_delete(&mut r).unwrap();
    assert_eq!(completes(&mut r, 2), None);
    claimed(&mut r);
    apply(&mut r, Transition::Deleted, NOW).unwrap();
    assert_eq!(completes(&mut r, 1), None);
    assert_eq!(r.status, Deleted);
}

#[test]
fn a_new_configuration_while_it_is_worked_on() {
    let mut r = pending();
    let old = claimed(&mut r).key;
    do_stage(&mut r, Stage::Extraction);
    let (claim, _) = reversion(&mut r, &Sha256Hex::of(b"new")).unwrap();
    assert!(check_claim(Some(&r), &old).is_err());
    check_claim(Some(&r), &claim.key).unwrap();
    assert_eq!((claim.key.version, claim.stage, claim.outputs.len()), (2, Stage::Extraction, 0));
    assert_eq!((claim.fingerprint, r.status), (Sha256Hex::of(b"new"), InProgress));
    let mut r = pending();
    request_delete(&mut r).unwrap();
    claimed(&mut r);
    assert!(matches!(reversion(&mut r, &Sha256Hex::of(b"new")), Err(ControlError::Refused(_))));
}

#[test]
fn resuming() {
    let mut r = pending();
    claimed(&mut r);
    do_stage(&mut r, Stage::Extraction);
    let stage = Stage::Chunking;
    apply(&mut r, Transition::Parked { stage, reason: "budget".into(), resume: Resume::On("x".into()) }, NOW).unwrap();
    let effects = resume(&mut r);
    assert_eq!(effects.events[0].metadata["waited_for"], "budget");
    assert_eq!((r.status, &r.parked_reason, &r.parked_resume), (Pending, &None, &None));
    assert_eq!(claimed(&mut r).stage, stage);
}
