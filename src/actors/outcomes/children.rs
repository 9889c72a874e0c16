//! Registers the documents that extraction found within a document, and removes them when the document is deleted.

use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_core::member::member_source;
use docweir_stores::control::{ChildChanges, Claim, ControlError, NewDocument, Registered};

use super::context::StageContext;
use super::errors::control;
use crate::messages::event::Event;
use crate::messages::job::NewChild;

/// Describes the result of registering the children of a document.
pub(super) enum Declared {
    /// The children are durable, or there were none to register.
    Yes,
    /// The claim is no longer valid, because another process holds a newer one.
    Superseded,
    /// The children cannot be registered, so the document must be quarantined.
    Refused(StageError),
}

/// Error code for children that cannot be ingested.
const CODE: &str = "children_refused";

/// Returns the children of a document as documents to register. Each child is named as a member of the document, and
/// gets the document's tenant and configuration.
///
/// # Errors
/// Returns a permanent error if a child's name cannot be part of a source.
pub fn documents(parent: &Claim, children: &[NewChild]) -> Result<Vec<NewDocument>, StageError> {
    let document = |child: &NewChild| {
        let source = member_source(&parent.source, &child.name);
        Ok(NewDocument {
            source: source.map_err(|e| StageError::permanent(CODE, e.to_string()))?,
            content: child.content.clone(),
            fingerprint: parent.fingerprint.clone(),
            bytes: child.bytes,
            media_type: child.media_type,
            tenant: parent.tenant.clone(),
            weight: parent.weight,
            tag: None,
            parent: Some(parent.key.id.clone()),
        })
    };
    children.iter().map(document).collect()
}

impl StageContext {
    /// Makes the children of a document durable. If a document has no children and never had any, the control store
    /// is not called.
    pub(super) async fn declare_children(&self, claim: &Claim, children: &[NewChild]) -> Result<Declared, StageError> {
        // An earlier attempt under this claim may have registered children.
        if children.is_empty() && !self.claims.may_have_children(&claim.key) {
            return Ok(Declared::Yes);
        }
        let documents = match documents(claim, children) {
            Ok(documents) => documents,
            Err(error) => return Ok(Declared::Refused(error)),
        };
        self.claims.found_children(&claim.key);
        let sources: Vec<String> = documents.iter().map(|document| document.source.clone()).collect();
        match self.control.set_children(&claim.key, documents).await {
            Ok(changes) => {
                failpoint::reach("extraction.children", &claim.source);
                self.report(sources, changes);
                Ok(Declared::Yes)
            }
            Err(ControlError::Fenced(_)) => {
                self.lost(claim).await?;
                Ok(Declared::Superseded)
            }
            Err(ControlError::Refused(reason)) => Ok(Declared::Refused(StageError::permanent(CODE, reason))),
            Err(error) => Err(control(error)),
        }
    }

    /// Requests the removal of all children of a document, because the document itself is being deleted. Returns
    /// `false` if the claim is no longer valid.
    pub(super) async fn remove_children(&self, claim: &Claim) -> Result<bool, StageError> {
        if claim.children.is_empty() {
            return Ok(true);
        }
        match self.control.set_children(&claim.key, Vec::new()).await {
            Ok(changes) => {
                failpoint::reach("removal.children", &claim.source);
                self.report(Vec::new(), changes);
                Ok(true)
            }
            Err(ControlError::Fenced(_)) => {
                self.lost(claim).await?;
                Ok(false)
            }
            Err(error) => Err(control(error)),
        }
    }

    fn report(&self, sources: Vec<String>, changes: ChildChanges) {
        for (source, answer) in sources.into_iter().zip(changes.registered) {
            let (key, replaces) = match answer {
                Registered::New(key) => (key, false),
                Registered::Replaces(key) => (key, true),
                // The user did not ingest the child directly, so an unchanged child is not reported.
                Registered::Unchanged(..) => continue,
            };
            self.events.emit(Event::Registered { document: key.id, version: key.version, source, replaces });
        }
        for child in changes.removed {
            self.events.emit(Event::RemovalRequested { document: child.id, source: child.source });
        }
    }
}
