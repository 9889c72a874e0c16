//! Decides how the records of a document and of its children change. A child is a document that another document
//! contains.
//!
//! A backend that cannot write all changes in one step performs the following steps in this order, each under the
//! parent's claim:
//! 1. remove children that are no longer contained;
//! 2. write the list ([`announce_children`]);
//! 3. register the children ([`register_child`]);
//! 4. mark the list as complete ([`finish_children`]).
//!
//! After an interruption at any point, each child that has a record is in the list of its parent or is being removed.
//! Repeating the steps completes the change.

use std::collections::HashSet;

use docweir_core::clock::UnixMicros;
use docweir_core::documents::DocumentId;
use docweir_core::member::split_member;

use super::commands::{key, register, request_delete};
use super::{Effects, events};
use crate::control::{ControlError, ControlRecord, DocumentStatus, Intent, NewDocument, Registered};

/// Maximum number of documents that one document may contain. The list is part of the parent's record, and every
/// transition writes the whole record. In DynamoDB, 1,000 ids take 30 KB of the 400 KB that an item may have.
pub const MAX_CHILDREN: usize = 1_000;

/// Checks that `children` may be the children of `parent`.
///
/// # Errors
/// Refuses more than [`MAX_CHILDREN`] children, duplicate sources, sources that are not members of the document,
/// children with a different parent, and children of a document that is scheduled for deletion.
pub fn check_children(parent: &ControlRecord, children: &[NewDocument]) -> Result<(), ControlError> {
    let id = &parent.document_id;
    let refused = |what: String| Err(ControlError::Refused(format!("document {id} {what}")));
    if children.len() > MAX_CHILDREN {
        let found = children.len();
        return refused(format!("contains {found} documents, more than the limit of {MAX_CHILDREN}: split it"));
    }
    if parent.intent == Intent::Delete && !children.is_empty() {
        return refused("is scheduled for deletion and can't get children".into());
    }
    let mut sources = HashSet::with_capacity(children.len());
    for child in children {
        let container = split_member(&child.source).map(|(container, _)| container);
        if child.parent.as_ref() != Some(id) || container != Some(parent.source.as_str()) {
            return refused(format!("can't be the parent of {}", child.source));
        }
        if !sources.insert(child.source.as_str()) {
            return refused(format!("contains two documents with the same name: {}", child.source));
        }
    }
    Ok(())
}

/// Returns whether a child that was deleted separately from its parent stays deleted. The child stays deleted if the
/// parent lists it and the parent's content has not changed since the list was made.
pub fn stays_deleted(parent: &ControlRecord, child: &DocumentId) -> bool {
    parent.children_content.as_ref() == Some(&parent.content_sha256) && parent.children.contains(child)
}

/// Registers a child whose source already has a record. This works like [`register`], with one exception: if
/// `stays_deleted` is true, a child that is deleted or scheduled for deletion is not changed.
pub fn register_child(
    record: &mut ControlRecord,
    child: NewDocument,
    stays_deleted: bool,
    now: UnixMicros,
) -> (Registered, Option<Effects>) {
    let deleted = record.status == DocumentStatus::Deleted || record.intent == Intent::Delete;
    if stays_deleted && deleted && record.parent == child.parent {
        return (Registered::Unchanged(key(record), record.status), None);
    }
    register(record, child, now)
}

/// Schedules a child for deletion, because its parent no longer contains it. Returns `None` if the child is already
/// deleted, is scheduled for deletion, or now belongs to another document.
pub fn remove_child(record: &mut ControlRecord, parent: &DocumentId) -> Option<Effects> {
    if record.parent.as_ref() != Some(parent) || record.status == DocumentStatus::Deleted {
        return None;
    }
    let mut effects = request_delete(record).ok().flatten()?;
    if let Some(event) = effects.events.last_mut() {
        event.with("reason", "its parent no longer contains it").with("parent", parent.as_str());
    }
    Some(effects)
}

/// Writes the list of children to the parent's record before the children are registered. Returns `None` if the record
/// already has this list.
pub fn announce_children(parent: &mut ControlRecord, children: &[DocumentId]) -> Option<Effects> {
    if parent.intent == Intent::Delete || parent.children == children {
        return None;
    }
    parent.children = children.to_vec();
    parent.children_content = None;
    Some(Effects::default())
}

/// Marks the parent's list of children as complete for the current content. `registered` and `removed` are the numbers
/// of children that were registered and removed. Returns `None` if nothing has changed.
///
/// A parent that is scheduled for deletion keeps its list, so that a later `docweir erase` still finds the children.
pub fn finish_children(
    parent: &mut ControlRecord,
    children: &[DocumentId],
    registered: usize,
    removed: usize,
) -> Option<Effects> {
    let mut changed = registered + removed > 0;
    if parent.intent == Intent::Process {
        let content = (!children.is_empty()).then(|| parent.content_sha256.clone());
        changed |= parent.children != children || parent.children_content != content;
        parent.children = children.to_vec();
        parent.children_content = content;
    }
    if !changed {
        return None;
    }
    let mut effects = Effects::default();
    effects
        .event(parent, events::CHILDREN_CHANGED)
        .with("children", children.len())
        .with("registered", registered)
        .with("removed", removed);
    Some(effects)
}

#[cfg(test)]
#[path = "children_tests.rs"]
mod tests;
