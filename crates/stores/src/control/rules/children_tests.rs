use docweir_core::documents::Sha256Hex;
use docweir_core::member::member_source;

use super::super::tests::{NOW, claimed, complete, document, pending};
use super::super::{discard, reset};
use super::*;
use crate::control::DocumentStatus::*;

fn id(n: u32) -> DocumentId {
    DocumentId::mint(NOW, n)
}

fn child(parent: &ControlRecord, name: &str) -> NewDocument {
    let source = member_source(&parent.source, name).unwrap();
    NewDocument { source, parent: Some(parent.document_id.clone()), ..document(name) }
}

fn child_record(parent: &ControlRecord, n: u32) -> ControlRecord {
    super::super::new_record(child(parent, "a.pdf"), id(n), 3, NOW).0
}

#[test]
fn children_are_checked_before_anything_is_written() {
    let parent = pending();
    let named = |n: usize| (0..n).map(|i| child(&parent, &i.to_string())).collect::<Vec<_>>();
    assert!(check_children(&parent, &[]).is_ok());
    assert!(check_children(&parent, &named(MAX_CHILDREN)).is_ok());
    let one = || child(&parent, "a");
    let table = [
        (named(MAX_CHILDREN + 1), "more than the limit of 1000"),
        (vec![one(), one()], "two documents with the same name"),
        (vec![NewDocument { parent: None, ..one() }], "can't be the parent"),
        (vec![NewDocument { parent: Some(id(9)), ..one() }], "can't be the parent"),
        (vec![NewDocument { source: parent.source.clone(), ..one() }], "can't be the parent"),
        (vec![NewDocument { source: "file:///other#member=a".into(), ..one() }], "can't be the parent"),
    ];
    for (children, text) in table {
        let refused = check_children(&parent, &children).unwrap_err().to_string();
        assert!(refused.contains(text) && refused.contains(parent.document_id.as_str()), "{refused}");
    }
    let mut deleted = pending();
    request_delete(&mut deleted).unwrap();
    assert!(check_children(&deleted, &[one()]).is_err());
    assert!(check_children(&deleted, &[]).is_ok());
}

#[test]
fn the_list_is_written_before_the_children_and_marked_after_them() {
    let mut parent = pending();
    assert!(announce_children(&mut parent, &[]).is_none());
    assert!(finish_children(&mut parent, &[], 0, 0).is_none(), "a document without children costs no write");
    let list = [id(1), id(2)];
    assert!(announce_children(&mut parent, &list).unwrap().events.is_empty());
    assert_eq!((parent.children.as_slice(), &parent.children_content), (list.as_slice(), &None));
    assert!(!stays_deleted(&parent, &list[0]), "not all are registered: a repeat registers them");
    let effects = finish_children(&mut parent, &list, 2, 0).unwrap();
    assert_eq!(effects.events[0].event_type, "CHILDREN_CHANGED");
    assert_eq!(
        (&effects.events[0].metadata["children"], &effects.events[0].metadata["registered"]),
        (&2.into(), &2.into())
    );
    assert!(stays_deleted(&parent, &list[0]) && !stays_deleted(&parent, &id(3)));
    assert!(announce_children(&mut parent, &list).is_none());
    assert!(finish_children(&mut parent, &list, 0, 0).is_none(), "nothing is new");
    parent.content_sha256 = Sha256Hex::of(b"other");
    assert!(!stays_deleted(&parent, &list[0]));
    assert!(finish_children(&mut parent, &[], 0, 2).is_some());
    assert_eq!((parent.children.len(), &parent.children_content), (0, &None));
}

#[test]
fn a_document_that_is_to_be_deleted_keeps_its_list_and_wants_all_of_them_again_later() {
    let mut parent = pending();
    finish_children(&mut parent, &[id(1)], 1, 0);
    request_delete(&mut parent).unwrap();
    assert!(announce_children(&mut parent, &[]).is_none());
    assert!(finish_children(&mut parent, &[], 0, 0).is_none());
    assert!(finish_children(&mut parent, &[], 0, 1).is_some());
    assert_eq!(parent.children, [id(1)]);
    register(&mut parent, document("one"), NOW);
    assert_eq!(parent.children, [id(1)]);
    assert!(!stays_deleted(&parent, &id(1)), "they were deleted with it");
}

#[test]
fn a_child_is_removed_by_its_parent_alone_and_once() {
    let parent = pending();
    let mut record = child_record(&parent, 1);
    assert!(remove_child(&mut record, &id(9)).is_none(), "it belongs to another document");
    let effects = remove_child(&mut record, &parent.document_id).unwrap();
    assert_eq!(effects.events[0].metadata["parent"], parent.document_id.as_str());
    assert_eq!((record.status, record.intent, record.version), (Pending, Intent::Delete, 2));
    assert!(remove_child(&mut record, &parent.document_id).is_none());
    record.status = Deleted;
    assert!(remove_child(&mut record, &parent.document_id).is_none());
}

#[test]
fn a_child_that_was_deleted_by_itself_stays_deleted_where_it_is_to() {
    let parent = pending();
    let fresh = || child_record(&parent, 1);
    let deleted = || ControlRecord { status: Deleted, ..fresh() };
    let leaving = || {
        let mut record = fresh();
        request_delete(&mut record).unwrap();
        record
    };
    let again = || child(&parent, "a.pdf");
    let changed = || NewDocument { content: Sha256Hex::of(b"changed"), ..again() };
    let table = [
        (fresh(), again(), true, None),
        (fresh(), again(), false, None),
        (fresh(), changed(), true, Some(2)),
        (deleted(), again(), true, None),
        (deleted(), changed(), true, None),
        (deleted(), again(), false, Some(2)),
        (leaving(), again(), true, None),
        (leaving(), again(), false, Some(3)),
        // A former stand-alone file becomes a member.
        (ControlRecord { parent: None, ..fresh() }, again(), true, Some(2)),
    ];
    for (mut record, child, stays, version) in table {
        let was = record.clone();
        let (answer, effects) = register_child(&mut record, child, stays, NOW);
        assert_eq!(effects.is_some(), version.is_some(), "{was:?}");
        assert_eq!(answer.key().version, version.unwrap_or(was.version));
        assert_eq!(record.parent.as_ref(), Some(&parent.document_id));
    }
}

#[test]
fn other_commands_leave_parent_and_children_alone() {
    let mut record = child_record(&pending(), 1);
    finish_children(&mut record, &[id(2)], 1, 0);
    let family = |r: &ControlRecord| (r.parent.clone(), r.children.clone(), r.children_content.clone());
    let before = family(&record);
    let claim = claimed(&mut record);
    assert_eq!((claim.parent, claim.children), (before.0.clone(), before.1.clone()));
    complete(&mut record);
    reset(&mut record, None).unwrap();
    assert_eq!(family(&record), before);
    record.status = Quarantined;
    discard(&mut record).unwrap();
    assert_eq!(family(&record), before);
}
