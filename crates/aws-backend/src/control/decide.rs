//! Defines the commands on one document, and decides their effects by the shared rules. This module performs no I/O,
//! so a command can be decided again if another process has changed the document.

use std::time::Duration;

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::{DocumentId, Sha256Hex, Stage, Version};
use docweir_stores::control::rules::{self, Effects, Taken};
use docweir_stores::control::{
    Claim, ClaimFilter, ClaimKey, ControlError, ControlRecord, DocumentKey, DocumentStatus, NewDocument, Registered,
    Resume, Transition,
};

#[derive(Clone, Debug)]
pub enum Command {
    Register(NewDocument),
    /// Registers a child of a claimed document. In all other respects it works like [`Command::Register`].
    RegisterChild {
        child: NewDocument,
        /// Id under which the parent lists the child. The child gets this id only if no document exists for its source
        /// yet.
        id: DocumentId,
        stays_deleted: bool,
        under: ClaimKey,
    },
    /// Requests the removal of a child. The parent is claimed, and its new content no longer contains the child.
    RemoveChild {
        under: ClaimKey,
    },
    /// Stores the list of a claimed document's children, before the children are registered.
    AnnounceChildren {
        claim: ClaimKey,
        children: Vec<DocumentId>,
    },
    /// Records that all children of a claimed document are registered.
    FinishChildren {
        claim: ClaimKey,
        children: Vec<DocumentId>,
        registered: usize,
        removed: usize,
    },
    Claim {
        owner: String,
        lease: Duration,
        only: Option<ClaimFilter>,
    },
    Renew {
        claim: ClaimKey,
        lease: Duration,
    },
    Apply {
        claim: ClaimKey,
        transition: Transition,
    },
    /// Registers the changed content of a claimed document.
    RegisterChanged {
        claim: ClaimKey,
        document: NewDocument,
    },
    Reversion {
        claim: ClaimKey,
        fingerprint: Sha256Hex,
    },
    MarkLoaded {
        version: Version,
    },
    Reset {
        from: Option<Stage>,
    },
    Hold {
        from: Option<Stage>,
        reason: String,
    },
    Delete,
    Discard,
    /// Makes a parked document pending if the document waits for the event that `word` names, or for a time that has
    /// passed. If `word` is `None`, no event has occurred.
    Resume {
        word: Option<String>,
    },
}

impl Command {
    /// Returns the claim on the parent document, or `None` if this command depends on no such claim. The claim must be
    /// valid when the command is written.
    pub fn under(&self) -> Option<&ClaimKey> {
        match self {
            Self::RegisterChild { under, .. } | Self::RemoveChild { under } => Some(under),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub enum ControlReply {
    Registered(Registered),
    /// The claim, or `None` if the document is not available, for example because another process claimed it first.
    Claimed(Option<Box<Claim>>),
    Key(DocumentKey),
    /// True if the command took effect. Used for renewals, completions and resumptions, among others.
    Yes(bool),
}

/// Holds the state of a document before a command.
pub enum Current {
    Record(Box<ControlRecord>),
    /// The document does not exist. A registration would create the document with this id.
    Nothing(DocumentId),
}

/// Holds the record after a command, the effects to write with it, and the reply. If there are no effects, nothing is
/// written.
pub struct Decided {
    pub record: Option<Box<ControlRecord>>,
    pub effects: Option<Effects>,
    pub answer: ControlReply,
}

impl Decided {
    fn nothing(answer: ControlReply) -> Self {
        Self { record: None, effects: None, answer }
    }

    fn written(record: Box<ControlRecord>, effects: Effects, answer: ControlReply) -> Self {
        Self { record: Some(record), effects: Some(effects), answer }
    }

    /// Returns a decision that writes the record if there are effects, and writes nothing otherwise.
    fn perhaps(record: Box<ControlRecord>, effects: Option<Effects>, answer: ControlReply) -> Self {
        match effects {
            Some(effects) => Self::written(record, effects, answer),
            None => Self::nothing(answer),
        }
    }
}

fn key(record: &ControlRecord) -> DocumentKey {
    DocumentKey { id: record.document_id.clone(), version: record.version }
}

pub fn decide(command: &Command, found: &Current, max_retries: u32, now: UnixMicros) -> Result<Decided, ControlError> {
    let mut record = match (found, command) {
        (Current::Nothing(id), Command::Register(document)) => {
            let (record, effects) = rules::new_record(document.clone(), id.clone(), max_retries, now);
            let answer = ControlReply::Registered(Registered::New(key(&record)));
            return Ok(Decided::written(Box::new(record), effects, answer));
        }
        (Current::Nothing(_), Command::RegisterChild { child, id, .. }) => {
            let (record, effects) = rules::new_record(child.clone(), id.clone(), max_retries, now);
            let answer = ControlReply::Registered(Registered::New(key(&record)));
            return Ok(Decided::written(Box::new(record), effects, answer));
        }
        (Current::Nothing(_), Command::RemoveChild { .. }) => return Ok(Decided::nothing(ControlReply::Yes(false))),
        (Current::Nothing(_), Command::Claim { .. }) => return Ok(Decided::nothing(ControlReply::Claimed(None))),
        (Current::Nothing(_), Command::MarkLoaded { .. } | Command::Renew { .. } | Command::Resume { .. }) => {
            return Ok(Decided::nothing(ControlReply::Yes(false)));
        }
        (
            Current::Nothing(_),
            Command::Apply { claim, .. }
            | Command::RegisterChanged { claim, .. }
            | Command::Reversion { claim, .. }
            | Command::AnnounceChildren { claim, .. }
            | Command::FinishChildren { claim, .. },
        ) => return Err(ControlError::Fenced(claim.clone())),
        (Current::Nothing(id), Command::Reset { .. } | Command::Hold { .. } | Command::Delete | Command::Discard) => {
            return Err(ControlError::NotFound(id.to_string()));
        }
        (Current::Record(record), _) => record.clone(),
    };
    match command {
        Command::Register(document) => {
            let (answer, effects) = rules::register(&mut record, document.clone(), now);
            Ok(Decided::perhaps(record, effects, ControlReply::Registered(answer)))
        }
        Command::RegisterChild { child, stays_deleted, .. } => {
            let (answer, effects) = rules::register_child(&mut record, child.clone(), *stays_deleted, now);
            Ok(Decided::perhaps(record, effects, ControlReply::Registered(answer)))
        }
        Command::RemoveChild { under } => {
            let effects = rules::remove_child(&mut record, &under.id);
            let answer = ControlReply::Yes(effects.is_some());
            Ok(Decided::perhaps(record, effects, answer))
        }
        Command::AnnounceChildren { claim, children } => {
            rules::check_claim(Some(&record), claim)?;
            let effects = rules::announce_children(&mut record, children);
            Ok(Decided::perhaps(record, effects, ControlReply::Yes(true)))
        }
        Command::FinishChildren { claim, children, registered, removed } => {
            rules::check_claim(Some(&record), claim)?;
            let effects = rules::finish_children(&mut record, children, *registered, *removed);
            Ok(Decided::perhaps(record, effects, ControlReply::Yes(true)))
        }
        Command::Claim { owner, lease, only } => {
            if !is_free(&record, owner, now) || only.is_some_and(|only| !only.admits(&record)) {
                return Ok(Decided::nothing(ControlReply::Claimed(None)));
            }
            Ok(match rules::take(&mut record, owner, *lease, now, true) {
                Taken::Claim(claim, effects) => Decided::written(record, effects, ControlReply::Claimed(Some(claim))),
                Taken::NeedsVersion => Decided::nothing(ControlReply::Claimed(None)),
            })
        }
        Command::Renew { claim, lease } => {
            if rules::check_claim(Some(&record), claim).is_err() {
                return Ok(Decided::nothing(ControlReply::Yes(false)));
            }
            record.lease_expires_at = Some(timestamp(rules::after(now, *lease)));
            Ok(Decided::written(record, Effects::default(), ControlReply::Yes(true)))
        }
        Command::Apply { claim, transition } => {
            rules::check_claim(Some(&record), claim)?;
            let effects = rules::apply(&mut record, transition.clone(), now)?;
            Ok(Decided::written(record, effects, ControlReply::Yes(true)))
        }
        Command::RegisterChanged { claim, document } => {
            let (answer, effects) = rules::register_changed(Some(&mut record), claim, document.clone(), now)?;
            Ok(Decided::perhaps(record, effects, ControlReply::Registered(answer)))
        }
        Command::Reversion { claim, fingerprint } => {
            rules::check_claim(Some(&record), claim)?;
            let (claim, effects) = rules::reversion(&mut record, fingerprint)?;
            Ok(Decided::written(record, effects, ControlReply::Claimed(Some(Box::new(claim)))))
        }
        Command::MarkLoaded { version } => Ok(match rules::mark_loaded(&mut record, *version, now) {
            Some((effects, completes)) => Decided::written(record, effects, ControlReply::Yes(completes)),
            None => Decided::nothing(ControlReply::Yes(false)),
        }),
        Command::Reset { from } => {
            let effects = rules::reset(&mut record, *from)?;
            let answer = ControlReply::Key(key(&record));
            Ok(Decided::written(record, effects, answer))
        }
        Command::Hold { from, reason } => {
            let effects = rules::hold(&mut record, *from, reason)?;
            let answer = ControlReply::Key(key(&record));
            Ok(Decided::written(record, effects, answer))
        }
        Command::Delete => {
            let effects = rules::request_delete(&mut record)?;
            let answer = ControlReply::Key(key(&record));
            Ok(Decided::perhaps(record, effects, answer))
        }
        Command::Discard => {
            let effects = rules::discard(&mut record)?;
            Ok(Decided::written(record, effects, ControlReply::Yes(true)))
        }
        Command::Resume { word } => {
            let wanted = match (&record.parked_resume, word) {
                (Some(Resume::On(waits_for)), Some(word)) => waits_for == word,
                (Some(Resume::At(at)), _) => *at <= now,
                _ => false,
            };
            if record.status != DocumentStatus::Parked || !wanted {
                return Ok(Decided::nothing(ControlReply::Yes(false)));
            }
            let effects = rules::resume(&mut record);
            Ok(Decided::written(record, effects, ControlReply::Yes(true)))
        }
    }
}

/// Returns whether `owner` may claim a document. The document must be pending, or be claimed by another process whose
/// lease has expired. A process never takes over its own documents, even if it was suspended for longer than its
/// lease.
fn is_free(record: &ControlRecord, owner: &str, now: UnixMicros) -> bool {
    match record.status {
        DocumentStatus::Pending => true,
        DocumentStatus::InProgress => {
            let over = record.lease_expires_at.as_deref().unwrap_or_default() <= timestamp(now).as_str();
            over && record.lease_owner.as_deref() != Some(owner)
        }
        _ => false,
    }
}
