//! Tests documents within documents.

use docweir_core::member::member_source;

use super::*;

/// Returns a child as the extraction of its parent reports it.
pub fn child(parent: &Claim, name: &str, content: &str) -> NewDocument {
    let source = member_source(&parent.source, name).unwrap();
    NewDocument { source, parent: Some(parent.key.id.clone()), ..document("", content) }
}

async fn record_of(f: &impl World, parent: &Claim, name: &str) -> ControlRecord {
    let source = member_source(&parent.source, name).unwrap();
    f.store().by_source(&source).await.unwrap().unwrap_or_else(|| panic!("{source} has no record"))
}

async fn children(f: &impl World, id: &DocumentId) -> Vec<DocumentId> {
    f.store().record(id).await.unwrap().children
}

/// Completes all pending work. Returns the source and intent of each completed claim.
async fn finish_all(f: &impl World) -> Vec<(String, Intent)> {
    let mut done = Vec::new();
    loop {
        let claims = f.store().claim("owner", LEASE, 99, None).await.unwrap();
        if claims.is_empty() {
            return done;
        }
        for claim in claims {
            if claim.intent == Intent::Delete {
                f.store().set_children(&claim.key, Vec::new()).await.unwrap();
            }
            finish(f.store(), &claim).await.unwrap();
            done.push((claim.source, claim.intent));
        }
    }
}

/// Registers a new version of a parent, and claims this version.
async fn changed(f: &impl World, parent: &str, content: &str) -> Claim {
    f.store().register(vec![document(parent, content)]).await.unwrap();
    claim_one(f).await
}

async fn sets(f: &impl World, parent: &Claim, named: &[(&str, &str)]) -> ChildChanges {
    let documents = named.iter().map(|(name, content)| child(parent, name, content)).collect();
    f.store().set_children(&parent.key, documents).await.unwrap()
}

pub async fn children_are_registered_kept_and_removed(f: &mut impl World) {
    register_one(f, "mail").await;
    let parent = claim_one(f).await;
    assert_eq!((&parent.parent, &parent.children), (&None, &vec![]));
    let changes = sets(f, &parent, &[("a", "1"), ("b", "1")]).await;
    let [Registered::New(a), Registered::New(b)] = &changes.registered[..] else { panic!("{changes:?}") };
    assert_eq!(changes.removed, []);
    assert_eq!(children(f, &parent.key.id).await, [a.id.clone(), b.id.clone()]);
    let record = record_of(f, &parent, "a").await;
    assert_eq!((&record.document_id, &record.parent), (&a.id, &Some(parent.key.id.clone())));
    assert_eq!((record.status, record.version), (DocumentStatus::Pending, 1));

    // A repeat changes nothing and writes nothing.
    let audit_log = f.store().audit(&parent.key.id, None, 99).await.unwrap();
    assert_eq!(audit_log.last().unwrap().event_type, "CHILDREN_CHANGED");
    let again = sets(f, &parent, &[("a", "1"), ("b", "1")]).await;
    let unchanged = |key: &DocumentKey| Registered::Unchanged(key.clone(), DocumentStatus::Pending);
    assert_eq!(again, ChildChanges { registered: vec![unchanged(a), unchanged(b)], removed: Vec::new() });
    assert_eq!(f.store().audit(&parent.key.id, None, 99).await.unwrap(), audit_log);

    finish(f.store(), &parent).await.unwrap();
    assert_eq!(finish_all(f).await.len(), 2);
    let parent = changed(f, "mail", "two").await;
    assert_eq!(parent.children, [a.id.clone(), b.id.clone()]);
    let changes = sets(f, &parent, &[("b", "2"), ("c", "1")]).await;
    let [Registered::Replaces(b), Registered::New(c)] = &changes.registered[..] else { panic!("{changes:?}") };
    assert_eq!(changes.removed, [RemovedChild { id: a.id.clone(), source: record.source.clone() }]);
    assert_eq!(children(f, &parent.key.id).await, [b.id.clone(), c.id.clone()]);
    finish(f.store(), &parent).await.unwrap();
    let done = finish_all(f).await;
    assert_eq!(done.iter().filter(|(_, intent)| *intent == Intent::Delete).count(), 1);
    assert_eq!(f.store().record(&a.id).await.unwrap().status, DocumentStatus::Deleted);
    assert_eq!(record_of(f, &parent, "b").await.loaded_version, Some(2));
}

pub async fn a_fenced_claim_sets_no_children(f: &mut impl World) {
    register_one(f, "mail").await;
    let stalled = claim_one(f).await;
    sets(f, &stalled, &[("kept", "1")]).await;
    let kept = record_of(f, &stalled, "kept").await;
    f.clock().advance(2 * LEASE);
    let claims = f.store().claim("other", LEASE, 9, None).await.unwrap();
    let successor = claims.into_iter().find(|claim| claim.key.id == stalled.key.id).unwrap();
    for late in [vec![], vec![child(&stalled, "late", "1")]] {
        let answer = f.store().set_children(&stalled.key, late).await;
        assert!(matches!(&answer, Err(ControlError::Fenced(key)) if *key == stalled.key), "{answer:?}");
    }
    let late = member_source(&stalled.source, "late").unwrap();
    assert_eq!(f.store().by_source(&late).await.unwrap(), None);
    assert_eq!(children(f, &stalled.key.id).await, std::slice::from_ref(&kept.document_id));
    assert_eq!(f.store().record(&kept.document_id).await.unwrap().intent, Intent::Process);
    sets(f, &successor, &[("kept", "1")]).await;
    assert_eq!(children(f, &stalled.key.id).await, [kept.document_id]);
}

pub async fn a_deleted_parent_takes_its_children_along(f: &mut impl World) {
    let key = register_one(f, "mail").await;
    let parent = claim_one(f).await;
    sets(f, &parent, &[("a", "1"), ("inner", "1")]).await;
    finish(f.store(), &parent).await.unwrap();
    let claims = f.store().claim("owner", LEASE, 9, None).await.unwrap();
    let inner = claims.iter().find(|claim| claim.source.ends_with("inner")).unwrap();
    sets(f, inner, &[("b", "1")]).await;
    for claim in &claims {
        finish(f.store(), claim).await.unwrap();
    }
    finish_all(f).await;
    assert_eq!(f.store().counts().await.unwrap(), [("COMPLETED".to_owned(), 4)].into());

    f.store().request_delete(&key.id).await.unwrap();
    let removal = claim_one(f).await;
    assert_eq!((removal.intent, removal.children.len()), (Intent::Delete, 2));
    let changes = sets(f, &removal, &[]).await;
    assert_eq!((changes.registered.len(), changes.removed.len()), (0, 2));
    // The children are scheduled for deletion before the parent's own removal is complete.
    assert_eq!(record_of(f, &parent, "a").await.intent, Intent::Delete);
    assert_eq!(sets(f, &removal, &[]).await, ChildChanges::default(), "a repeat changes nothing");
    finish(f.store(), &removal).await.unwrap();
    finish_all(f).await;
    assert_eq!(f.store().counts().await.unwrap(), [("DELETED".to_owned(), 4)].into());
    assert_eq!(children(f, &key.id).await.len(), 2, "a later erasure must find the children");

    // When the parent is registered again, its children come back.
    let parent = changed(f, "mail", "one").await;
    let changes = sets(f, &parent, &[("a", "1")]).await;
    assert!(matches!(&changes.registered[..], [Registered::New(_)]), "{changes:?}");
    assert_eq!(changes.removed, []);
}

pub async fn a_child_that_was_deleted_stays_so_until_its_parent_changes(f: &mut impl World) {
    let key = register_one(f, "mail").await;
    let parent = claim_one(f).await;
    let both = [("a", "1"), ("b", "1")];
    sets(f, &parent, &both).await;
    finish(f.store(), &parent).await.unwrap();
    finish_all(f).await;
    let a = record_of(f, &parent, "a").await.document_id;
    f.store().request_delete(&a).await.unwrap();
    finish_all(f).await;

    // The content is unchanged, as in a retry of a completed document.
    f.store().reset(&key.id, None).await.unwrap();
    let parent = claim_one(f).await;
    let changes = sets(f, &parent, &both).await;
    assert!(matches!(
        &changes.registered[..],
        [Registered::Unchanged(_, DocumentStatus::Deleted), Registered::Unchanged(..)]
    ));
    finish(f.store(), &parent).await.unwrap();
    assert_eq!(finish_all(f).await, []);
    assert_eq!(children(f, &key.id).await.len(), 2);

    let parent = changed(f, "mail", "two").await;
    let changes = sets(f, &parent, &both).await;
    assert!(matches!(&changes.registered[..], [Registered::New(key), Registered::Unchanged(..)] if key.id == a));
}

pub async fn children_that_can_not_be_are_refused_whole(f: &mut impl World) {
    let key = register_one(f, "mail").await;
    let parent = claim_one(f).await;
    let named = |n: usize| (0..n).map(|i| child(&parent, &i.to_string(), "1")).collect::<Vec<_>>();
    let stray = NewDocument { parent: None, ..child(&parent, "x", "1") };
    for wrong in [named(rules::MAX_CHILDREN + 1), [named(2), named(1)].concat(), [named(1), vec![stray]].concat()] {
        let answer = f.store().set_children(&parent.key, wrong).await;
        assert!(matches!(answer, Err(ControlError::Refused(_))), "{answer:?}");
    }
    assert_eq!(children(f, &key.id).await, []);
    assert_eq!(f.store().counts().await.unwrap(), [("IN_PROGRESS".to_owned(), 1)].into());
}

pub async fn a_hundred_children_at_once(f: &mut impl World) {
    let key = register_one(f, "mail").await;
    let parent = claim_one(f).await;
    let named = |n: usize| (0..n).map(|i| child(&parent, &i.to_string(), "1")).collect::<Vec<_>>();
    let changes = f.store().set_children(&parent.key, named(100)).await.unwrap();
    let ids: Vec<_> = changes.registered.iter().map(|answer| answer.key().id.clone()).collect();
    assert_eq!(children(f, &key.id).await, ids);
    f.store().set_children(&parent.key, named(1)).await.unwrap();
    assert_eq!(children(f, &key.id).await, ids[..1]);
    let mut leaving = 0;
    for id in &ids {
        leaving += usize::from(f.store().record(id).await.unwrap().intent == Intent::Delete);
    }
    assert_eq!(leaving, 99);
}
