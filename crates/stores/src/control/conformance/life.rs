//! Tests the life of a document and its concurrent writers.

use docweir_core::error::StageError;

use super::*;

async fn events(f: &impl World, id: &DocumentId) -> Vec<String> {
    f.store().audit(id, None, 1000).await.unwrap().into_iter().map(|e| e.event_type).collect()
}

pub async fn a_whole_life_with_its_audit_log_and_its_metrics(f: &mut impl World) {
    let key = register_one(f, "a.pdf").await;
    let claim = claim_one(f).await;
    assert_eq!((&claim.key.id, claim.key.version, claim.stage), (&key.id, 1, Stage::Extraction));
    finish(f.store(), &claim).await.unwrap();
    let record = f.store().record(&key.id).await.unwrap();
    assert_eq!((record.status, record.current_stage.as_str()), (DocumentStatus::Completed, "STAGE_5_COMPLETE"));
    assert_eq!((record.processing_version.as_str(), record.source_bucket.as_str()), ("v1", "file://"));
    assert_eq!(record.ttl, NOW / 1_000_000 + 90 * 86_400);
    assert_eq!(record.stage_status.len(), 5);

    let mut expected = vec!["DOCUMENT_RECEIVED", "STATUS_CHANGE"];
    for _ in Stage::ALL {
        expected.extend(["STAGE_IN_PROGRESS", "STAGE_COMPLETED"]);
    }
    expected.push("DOCUMENT_COMPLETED");
    assert_eq!(events(f, &key.id).await, expected);
    assert_eq!(f.metric("DocumentsProcessed").await, 1.0);
    assert_eq!(f.metric("ExtractionDuration").await, 1.5);
    assert_eq!(f.metric("TokensProcessed").await, 40.0);
    assert_eq!(f.metric("chunking.completed").await, 1.0);
    assert_eq!(f.metric("loading.vectors_uploaded").await, 3.0);
}

pub async fn audit_comes_in_pages_and_never_collides(f: &mut impl World) {
    let key = register_one(f, "a.pdf").await;
    let claim = claim_one(f).await;
    for _ in 0..100 {
        f.store().apply(&claim.key, started(Stage::Extraction)).await.unwrap();
    }
    let all = f.store().audit(&key.id, None, 1000).await.unwrap();
    assert_eq!(all.len(), 102, "all entries have the same microsecond");
    let mut paged = f.store().audit(&key.id, None, 30).await.unwrap();
    while paged.len() < all.len() {
        let after = paged.last().unwrap().timestamp.clone();
        paged.extend(f.store().audit(&key.id, Some(&after), 30).await.unwrap());
    }
    assert_eq!(paged, all);
    assert!(all[0].timestamp.starts_with("2025-11-21T09:40:00.000000Z#"), "{}", all[0].timestamp);
}

pub async fn first_in_first_out(f: &mut impl World) {
    let mut order = Vec::new();
    for batch in [["c", "a"], ["d", "b"]] {
        let documents = batch.iter().map(|s| document(s, "x")).collect();
        for r in f.store().register(documents).await.unwrap() {
            let Registered::New(key) = r else { panic!("{r:?}") };
            order.push(key.id);
        }
        f.clock().advance(Duration::from_micros(1));
    }
    let ids = |claims: Vec<Claim>| claims.into_iter().map(|c| c.key.id).collect::<Vec<_>>();
    assert_eq!(ids(f.store().claim("o", LEASE, 3, None).await.unwrap()), order[..3]);
    assert_eq!(ids(f.store().claim("o", LEASE, 3, None).await.unwrap()), order[3..]);
    assert!(f.store().claim("o", LEASE, 3, None).await.unwrap().is_empty());
    assert!(f.store().claim("o", LEASE, 0, None).await.unwrap().is_empty());
    // Documents with expired leases and pending documents share one queue.
    f.clock().advance(LEASE);
    let late = register_one(f, "late").await;
    let mut all = order.clone();
    all.push(late.id);
    assert_eq!(ids(f.store().claim("p", LEASE, 99, None).await.unwrap()), all);
    // A process does not claim its own documents again, however long it was suspended.
    f.clock().advance(2 * LEASE);
    assert!(f.store().claim("p", LEASE, 99, None).await.unwrap().is_empty());
    assert_eq!(f.store().claim("q", LEASE, 99, None).await.unwrap().len(), all.len());
}

/// Checks that abandoned documents in progress are claimed before pending documents, even if the pending documents
/// have waited longer since their last change.
pub async fn what_was_begun_and_left_goes_before_what_was_not_begun(f: &mut impl World) {
    let begun = register_one(f, "begun").await;
    let claim = claim_one(f).await;
    f.clock().advance(Duration::from_secs(1));
    let waits = register_one(f, "waits").await;
    f.clock().advance(Duration::from_secs(1));
    f.store().apply(&claim.key, started(Stage::Extraction)).await.unwrap();
    f.clock().advance(2 * LEASE);
    let claims = f.store().claim("other", LEASE, 9, None).await.unwrap();
    assert_eq!(claims.into_iter().map(|c| c.key.id).collect::<Vec<_>>(), [begun.id, waits.id]);
}

pub async fn claims_of_deletions(f: &mut impl World) {
    let (deleted, kept) = (register_one(f, "a").await, register_one(f, "b").await);
    f.store().request_delete(&deleted.id).await.unwrap();
    let ids = async |only| -> Vec<DocumentId> {
        let claims = f.store().claim("o", LEASE, 9, only).await.unwrap();
        for claim in &claims {
            finish(f.store(), claim).await.unwrap();
        }
        claims.into_iter().map(|c| c.key.id).collect()
    };
    assert_eq!(ids(Some(ClaimFilter::Deletions)).await, vec![deleted.id.clone()]);
    assert_eq!(ids(Some(ClaimFilter::Deletions)).await, []);
    assert_eq!(ids(None).await, [kept.id]);
    // A deleted document that is set to pending by hand is processed again.
    f.set_by_hand(&deleted.id, "PENDING").await;
    assert_eq!(ids(Some(ClaimFilter::Deletions)).await, []);
    assert_eq!(ids(None).await, vec![deleted.id.clone()]);
    assert_eq!(f.store().record(&deleted.id).await.unwrap().version, 3);
}

/// Checks that what a user asked for comes before all other work, and keeps its place until it is done.
pub async fn commands_come_before_other_work(f: &mut impl World) {
    let done = register_one(f, "done").await;
    let claim = claim_one(f).await;
    finish(f.store(), &claim).await.unwrap();
    let mut waits = Vec::new();
    for n in 0..30 {
        f.clock().advance(Duration::from_millis(1));
        waits.push(register_one(f, &format!("waits {n}")).await.id);
    }
    assert_eq!(f.store().pending(99).await.unwrap(), 30);
    assert_eq!((f.store().pending(30).await.unwrap(), f.store().pending(7).await.unwrap()), (30, 7));
    assert_eq!(f.store().claim("o", LEASE, 9, Some(ClaimFilter::Commands)).await.unwrap(), []);
    f.clock().advance(Duration::from_millis(1));
    let again = f.store().reset(&done.id, None).await.unwrap();
    f.clock().advance(Duration::from_millis(1));
    let deleted = f.store().request_delete(&waits[20]).await.unwrap();
    let ids = |claims: &[Claim]| claims.iter().map(|claim| claim.key.id.clone()).collect::<Vec<_>>();
    let claims = f.store().claim("o", LEASE, 9, Some(ClaimFilter::Commands)).await.unwrap();
    assert_eq!((ids(&claims), claims[0].urgent), (vec![again.id.clone(), deleted.id.clone()], true));
    // Released work is still urgent, and comes before the others in a claim of any work.
    let released = |claim: &Claim| Transition::Released { stage: claim.stage };
    for claim in &claims {
        f.clock().advance(Duration::from_millis(1));
        f.store().apply(&claim.key, released(claim)).await.unwrap();
    }
    let first = f.store().claim("o", LEASE, 3, None).await.unwrap();
    assert_eq!(ids(&first), [again.id.clone(), deleted.id.clone(), waits[0].clone()]);
    assert_eq!(f.store().claim("o", LEASE, 9, Some(ClaimFilter::Commands)).await.unwrap(), []);
    finish(f.store(), &first[1]).await.unwrap();
    finish(f.store(), &first[0]).await.unwrap();
    // What was retried and is complete is no longer urgent.
    assert!(!f.store().record(&again.id).await.unwrap().urgent);
    assert!(!f.store().record(&deleted.id).await.unwrap().urgent);
    f.set_by_hand(&again.id, "PENDING").await;
    assert_eq!(f.store().claim("o", LEASE, 9, Some(ClaimFilter::Commands)).await.unwrap(), []);
}

pub async fn a_lease_ends_is_renewed_and_is_taken_over(f: &mut impl World) {
    register_one(f, "a").await;
    let first = claim_one(f).await;
    f.store().apply(&first.key, started(Stage::Extraction)).await.unwrap();
    f.clock().advance(LEASE / 2);
    assert_eq!(f.store().renew(std::slice::from_ref(&first.key), LEASE).await.unwrap(), []);
    f.clock().advance(LEASE / 2);
    assert!(f.store().claim("other", LEASE, 9, None).await.unwrap().is_empty(), "renewed");
    f.clock().advance(LEASE / 2);
    let second = f.store().claim("other", LEASE, 9, None).await.unwrap().remove(0);
    assert_eq!((second.key.epoch, second.interruptions), (2, 1));
    assert_eq!(
        f.store().renew(&[first.key.clone(), second.key.clone()], LEASE).await.unwrap(),
        vec![first.key.clone()]
    );
    let late = f.store().apply(&first.key, completed(Stage::Extraction)).await;
    assert!(matches!(late, Err(ControlError::Fenced(c)) if c == first.key));
    let taken_over = f.store().audit(&second.key.id, None, 99).await.unwrap();
    assert_eq!(taken_over.last().unwrap().metadata["taken_over_from"], "owner");
    assert_eq!(taken_over.len(), 4, "a fenced write leaves no audit entry");
}

pub async fn a_reset_with_a_shell_is_picked_up_and_fences_the_work_under_way(f: &mut impl World) {
    let key = register_one(f, "a").await;
    let claim = claim_one(f).await;
    f.store().apply(&claim.key, started(Stage::Extraction)).await.unwrap();
    f.set_by_hand(&key.id, "PENDING").await;
    let late = f.store().apply(&claim.key, completed(Stage::Extraction)).await;
    assert!(matches!(late, Err(ControlError::Fenced(_))), "{late:?}");
    assert_eq!(f.store().renew(std::slice::from_ref(&claim.key), LEASE).await.unwrap(), [claim.key]);
    let again = claim_one(f).await;
    assert_eq!((again.key.version, again.key.epoch), (1, 2), "claimed although its lease has not expired");
    finish(f.store(), &again).await.unwrap();

    // A completed document restarts and keeps its place in the queue.
    f.set_by_hand(&key.id, "PENDING").await;
    f.clock().advance(Duration::from_secs(1));
    register_one(f, "b").await;
    let claims = f.store().claim("owner", LEASE, 2, None).await.unwrap();
    assert_eq!(
        claims.iter().map(|c| (c.key.version, c.stage)).collect::<Vec<_>>(),
        [(2, Stage::Extraction), (1, Stage::Extraction)]
    );
    assert_eq!(claims[0].key.id, key.id);
    assert_eq!(claims[0].loaded_version, Some(1));
}

pub async fn quarantine_retry_discard(f: &mut impl World) {
    let key = register_one(f, "a").await;
    let claim = claim_one(f).await;
    let error = StageError::permanent("encrypted", "the file is encrypted");
    let quarantined = Transition::Quarantined {
        stage: Stage::Extraction,
        error: error.clone(),
        artefact: Some("errors/a".into()),
        original: Some("input/_quarantine/a".into()),
    };
    f.store().apply(&claim.key, quarantined.clone()).await.unwrap();
    let record = f.store().record(&key.id).await.unwrap();
    assert_eq!(
        (record.status, record.last_error, record.error_stage),
        (DocumentStatus::Quarantined, Some(error), Some(claim.stage))
    );
    assert_eq!(record.quarantine_artefact.as_deref(), Some("errors/a"));
    assert_eq!(f.metric("DocumentsFailed").await, 1.0);

    assert_eq!(f.store().reset(&key.id, None).await.unwrap(), key);
    let claim = claim_one(f).await;
    f.store().apply(&claim.key, quarantined).await.unwrap();
    f.store().discard(&key.id).await.unwrap();
    assert_eq!(f.store().record(&key.id).await.unwrap().status, DocumentStatus::Failed);
    let nobody = DocumentId::parse("doc_x").unwrap();
    assert!(matches!(f.store().discard(&nobody).await, Err(ControlError::NotFound(id)) if id == "doc_x"));
    assert!(matches!(f.store().record(&nobody).await, Err(ControlError::NotFound(_))));
    assert!(matches!(f.store().discard(&key.id).await, Err(ControlError::Refused(_))));
}

pub async fn parked_documents_wait_for_their_event_or_their_time(f: &mut impl World) {
    let resumes = [Resume::On("batch-1".into()), Resume::On("batch-2".into()), Resume::At(NOW + 10_000_000)];
    for (i, resume) in resumes.into_iter().enumerate() {
        register_one(f, &format!("{i}")).await;
        let claim = claim_one(f).await;
        let parked = Transition::Parked { stage: Stage::Extraction, reason: "a batch".into(), resume };
        f.store().apply(&claim.key, parked).await.unwrap();
    }
    assert_eq!(f.store().counts().await.unwrap()["PARKED"], 3);
    assert_eq!(f.store().resume(None).await.unwrap(), 0);
    assert!(f.store().claim("o", LEASE, 9, None).await.unwrap().is_empty());
    assert_eq!(f.store().resume(Some("batch-1")).await.unwrap(), 1);
    assert_eq!(f.store().resume(Some("batch-1")).await.unwrap(), 0);
    f.clock().advance(Duration::from_secs(10));
    assert_eq!(f.store().resume(None).await.unwrap(), 1);
    assert_eq!(f.store().claim("o", LEASE, 9, None).await.unwrap().len(), 2);
}

pub async fn held_documents_wait_for_a_user_or_a_change(f: &mut impl World) {
    let mut keys = Vec::new();
    for source in ["a", "b", "c"] {
        keys.push(register_one(f, source).await);
        let claim = claim_one(f).await;
        finish(f.store(), &claim).await.unwrap();
    }
    let waits = register_one(f, "d").await;
    for key in &keys {
        let held = f.store().hold(&key.id, Some(Stage::Loading), "a rollback").await.unwrap();
        assert_eq!(held, DocumentKey { version: 2, ..key.clone() });
    }
    assert_eq!(f.store().hold(&waits.id, None, "a rollback").await.unwrap(), waits);
    assert!(matches!(f.store().hold(&waits.id, None, "again").await, Err(ControlError::Refused(_))));
    let record = f.store().record(&keys[0].id).await.unwrap();
    assert_eq!((record.status, record.parked_reason.as_deref()), (DocumentStatus::Parked, Some("a rollback")));
    // Neither time nor an unchanged file releases them.
    f.clock().advance(Duration::from_secs(1_000_000));
    assert_eq!(f.store().resume(None).await.unwrap(), 0);
    let again = ["a", "b", "c", "d"].map(|source| document(source, "one"));
    let again = f.store().register(again.into()).await.unwrap();
    assert!(again.iter().all(|r| matches!(r, Registered::Unchanged(_, DocumentStatus::Parked))), "{again:?}");
    // Nor does another configuration.
    let configured = NewDocument { fingerprint: Sha256Hex::of(b"new"), ..document("a", "one") };
    let again = f.store().register(vec![configured]).await.unwrap();
    assert!(matches!(again[..], [Registered::Unchanged(_, DocumentStatus::Parked)]), "{again:?}");
    assert!(f.store().claim("o", LEASE, 9, None).await.unwrap().is_empty());
    // A changed file, a retry and a release of all do.
    f.store().register(vec![document("a", "two")]).await.unwrap();
    assert_eq!(claim_one(f).await.key.version, 3);
    f.store().reset(&keys[1].id, None).await.unwrap();
    let claim = claim_one(f).await;
    assert_eq!((claim.key.version, claim.stage), (2, Stage::Loading));
    assert_eq!(f.store().resume(Some(rules::RELEASED)).await.unwrap(), 2);
    assert_eq!(f.store().claim("o", LEASE, 9, None).await.unwrap().len(), 2);
}

pub async fn the_manifest_completes(f: &mut impl World) {
    let key = register_one(f, "a").await;
    let claim = claim_one(f).await;
    let unknown = DocumentKey { id: DocumentId::parse("doc_gone").unwrap(), version: 1 };
    assert_eq!(f.store().mark_loaded(&[key.clone(), unknown]).await.unwrap(), 1);
    assert_eq!(f.store().mark_loaded(std::slice::from_ref(&key)).await.unwrap(), 0);
    assert_eq!(f.store().record(&key.id).await.unwrap().status, DocumentStatus::Completed);
    assert!(matches!(f.store().apply(&claim.key, done()).await, Err(ControlError::Fenced(_))));
}

pub async fn a_new_configuration_replaces_and_reversion_keeps_the_claim(f: &mut impl World) {
    let key = register_one(f, "a").await;
    let claim = claim_one(f).await;
    let new = f.store().reversion(&claim.key, &Sha256Hex::of(b"new")).await.unwrap();
    assert_eq!(new.key.version, 2);
    assert!(matches!(f.store().reversion(&claim.key, &Sha256Hex::of(b"x")).await, Err(ControlError::Fenced(_))));
    finish(f.store(), &new).await.unwrap();
    let same = NewDocument { fingerprint: Sha256Hex::of(b"new"), ..document("a", "one") };
    let unchanged = f.store().register(vec![same]).await.unwrap();
    assert_eq!(unchanged, [Registered::Unchanged(DocumentKey { version: 2, ..key }, DocumentStatus::Completed)]);
}

pub async fn lists_filter_and_come_in_pages(f: &mut impl World) {
    let documents = ["x/1", "x/2", "x/3", "x_4", "y/1%25"].map(|s| document(s, "c")).into();
    f.store().register(documents).await.unwrap();
    claim_one(f).await;
    let list = async |status, prefix: Option<&str>| {
        let filter = RecordFilter { status, source_prefix: prefix.map(|p| format!("file:///{p}")) };
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = f.store().list(&filter, after.as_ref(), 2).await.unwrap();
            if page.is_empty() {
                break;
            }
            after = page.last().map(|r| r.document_id.clone());
            all.extend(page);
        }
        assert!(all.is_sorted_by_key(|r| r.document_id.clone()));
        let mut sources: Vec<_> = all.into_iter().map(|r| r.source.trim_start_matches("file:///").to_owned()).collect();
        sources.sort();
        sources
    };
    assert_eq!(list(None, None).await, ["x/1", "x/2", "x/3", "x_4", "y/1%25"]);
    assert_eq!(list(None, Some("x/")).await, ["x/1", "x/2", "x/3"]);
    assert_eq!(list(None, Some("x_")).await, ["x_4"], "no wildcard");
    assert_eq!(list(None, Some("y/1%")).await, ["y/1%25"]);
    assert_eq!(list(Some(DocumentStatus::InProgress), None).await, ["x/1"]);
    assert_eq!(list(Some(DocumentStatus::Pending), Some("x/")).await, ["x/2", "x/3"]);
    let by_source = f.store().by_source("file:///x_4").await.unwrap().unwrap();
    assert_eq!(by_source.source_s3_key, "/x_4");
    assert_eq!(f.store().by_source("file:///none").await.unwrap(), None);
}

pub async fn the_same_file_twice_in_one_batch_is_one_document(f: &mut impl World) {
    let batch = vec![document("a", "1"), document("a", "1"), document("a", "2")];
    let answers = f.store().register(batch).await.unwrap();
    let [Registered::New(a), Registered::Unchanged(b, DocumentStatus::Pending), Registered::Replaces(c)] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert!(a == b && c.id == a.id && c.version == 2);
}

/// Checks that a file that changes while its document is deleted does not bring the document back.
pub async fn changed_content_is_registered_only_under_a_valid_claim(f: &mut impl World) {
    let key = register_one(f, "a.pdf").await;
    let claim = claim_one(f).await;
    let changed = f.store().register_changed(&claim.key, document("a.pdf", "two")).await.unwrap();
    assert_eq!(changed, Registered::Replaces(DocumentKey { id: key.id.clone(), version: 2 }));
    let again = f.store().register_changed(&claim.key, document("a.pdf", "three")).await;
    assert!(matches!(again, Err(ControlError::Fenced(_))), "the claim has ended: {again:?}");

    let claim = claim_one(f).await;
    f.store().request_delete(&key.id).await.unwrap();
    let late = f.store().register_changed(&claim.key, document("a.pdf", "three")).await;
    assert!(matches!(late, Err(ControlError::Fenced(_))), "{late:?}");
    let removal = claim_one(f).await;
    assert_eq!(removal.intent, Intent::Delete);
    let late = f.store().register_changed(&removal.key, document("a.pdf", "three")).await;
    assert!(matches!(late, Err(ControlError::Fenced(_))), "{late:?}");
    finish(f.store(), &removal).await.unwrap();
    assert_eq!(f.store().record(&key.id).await.unwrap().status, DocumentStatus::Deleted);
}
