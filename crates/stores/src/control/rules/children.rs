//! What becomes of the documents that a document contains.
//!
//! A backend that can't write everything in one step goes in this order, each step under the parent's claim:
//! removal of children that are no longer there, the list ([`announce_children`]), the children themselves
//! ([`register_child`]), the mark that all is done ([`finish_children`]). Wherever it is cut off, a child with a record
//! is listed by its parent or on its way out, and the repeat does the rest.

use std::collections::HashSet;

use docweir_core::clock::UnixMicros;
use docweir_core::documents::DocumentId;
use docweir_core::member::split_member;

use super::commands::{key, register, request_delete};
use super::{Effects, events};
use crate::control::{ControlError, ControlRecord, DocumentStatus, Intent, NewDocument, Registered};

/// Most documents that one document may contain. The list stands in the parent's record, which is written whole with
/// every transition: 1,000 ids are 30 KB of the 400 KB that an item of DynamoDB holds.
pub const MAX_CHILDREN: usize = 1_000;

/// Checks that `children` may be the children of this document.
///
/// # Errors
/// Refuses more than [`MAX_CHILDREN`], a source that is named twice or names no member of the document, another parent,
/// and children of a document that is to be deleted.
pub fn check_children(parent: &ControlRecord, children: &[NewDocument]) -> Result<(), ControlError> {
    let id = &parent.document_id;
    let refused = |what: String| Err(ControlError::Refused(format!("document {id} {what}")));
    if children.len() > MAX_CHILDREN {
        let found = children.len();
        return refused(format!("contains {found} documents, more than the limit of {MAX_CHILDREN}: split it"));
    }
    if parent.intent == Intent::Delete && !children.is_empty() {
        return refused("is to be deleted: it can't be given children".into());
    }
    let mut sources = HashSet::with_capacity(children.len());
    for child in children {
        let container = split_member(&child.source).map(|(container, _)| container);
        if child.parent.as_ref() != Some(id) || container != Some(parent.source.as_str()) {
            return refused(format!("can't be the parent of {}", child.source));
        }
        if !sources.insert(child.source.as_str()) {
            return refused(format!("contains two documents of one name: {}", child.source));
        }
    }
    Ok(())
}

/// Returns whether a child that was deleted by itself stays deleted: the parent lists it and has not changed since the
/// list was made.
pub fn stays_deleted(parent: &ControlRecord, child: &DocumentId) -> bool {
    parent.children_content.as_ref() == Some(&parent.content_sha256) && parent.children.contains(child)
}

/// Registers a child whose source has a record, as [`register`] does. With `stays_deleted` one that is deleted, or about
/// to be, is left alone.
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

/// Requests removal of a child that its parent no longer contains. Returns `None` where nothing is to be written: it is
/// deleted, or about to be, or belongs to another document by now.
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

/// Writes the list before the children have records. Returns `None` where it says so already.
pub fn announce_children(parent: &mut ControlRecord, children: &[DocumentId]) -> Option<Effects> {
    if parent.intent == Intent::Delete || parent.children == children {
        return None;
    }
    parent.children = children.to_vec();
    parent.children_content = None;
    Some(Effects::default())
}

/// Writes that the children are those of the parent's content. `registered` and `removed` count what was changed.
/// Returns `None` where nothing is new.
///
/// A parent that is to be deleted keeps its list, so that erasing it later still finds them.
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
