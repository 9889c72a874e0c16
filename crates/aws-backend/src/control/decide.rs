//! What is asked of one document, and what the rules make of it: without I/O, so that it can be decided again when
//! somebody else has written meanwhile.

use std::time::Duration;

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::{DocumentId, Sha256Hex, Stage, Version};
use docweir_stores::control::rules::{self, Effects, Taken};
use docweir_stores::control::{
    Claim, ClaimKey, ControlError, ControlRecord, DocumentKey, Intent, NewDocument, Registered, Resume, Status,
    Transition,
};

#[derive(Clone, Debug)]
pub enum Command {
    Register(NewDocument),
    Claim {
        owner: String,
        lease: Duration,
        only: Option<Intent>,
    },
    Renew {
        claim: ClaimKey,
        lease: Duration,
    },
    Apply {
        claim: ClaimKey,
        transition: Transition,
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
    Delete,
    Discard,
    /// Of who waits for this word, or for a time that has come.
    Resume {
        word: Option<String>,
    },
}

#[derive(Clone, Debug)]
pub enum Answer {
    Registered(Registered),
    /// `None` where somebody else was faster.
    Claimed(Option<Box<Claim>>),
    Key(DocumentKey),
    /// Whether it came to that: a renewal, a completion, a resumption.
    Yes(bool),
}

/// What there is, or is to be made.
pub enum Found {
    Record(Box<ControlRecord>),
    /// No such document; a source that is registered gets this id.
    Nothing(DocumentId),
}

/// The record as it is after the command, with what is to be written beside it; no effects where nothing is written.
pub struct Decided {
    pub record: Option<Box<ControlRecord>>,
    pub effects: Option<Effects>,
    pub answer: Answer,
}

impl Decided {
    fn nothing(answer: Answer) -> Self {
        Self { record: None, effects: None, answer }
    }

    fn written(record: Box<ControlRecord>, effects: Effects, answer: Answer) -> Self {
        Self { record: Some(record), effects: Some(effects), answer }
    }
}

fn key(record: &ControlRecord) -> DocumentKey {
    DocumentKey { id: record.document_id.clone(), version: record.version }
}

pub fn decide(command: &Command, found: &Found, max_retries: u32, now: UnixMicros) -> Result<Decided, ControlError> {
    let mut record = match (found, command) {
        (Found::Nothing(id), Command::Register(document)) => {
            let (record, effects) = rules::new_record(document.clone(), id.clone(), max_retries, now);
            let answer = Answer::Registered(Registered::New(key(&record)));
            return Ok(Decided::written(Box::new(record), effects, answer));
        }
        (Found::Nothing(_), Command::Claim { .. }) => return Ok(Decided::nothing(Answer::Claimed(None))),
        (Found::Nothing(_), Command::MarkLoaded { .. } | Command::Renew { .. } | Command::Resume { .. }) => {
            return Ok(Decided::nothing(Answer::Yes(false)));
        }
        (Found::Nothing(_), Command::Apply { claim, .. } | Command::Reversion { claim, .. }) => {
            return Err(ControlError::Fenced(claim.clone()));
        }
        (Found::Nothing(id), Command::Reset { .. } | Command::Delete | Command::Discard) => {
            return Err(ControlError::NotFound(id.to_string()));
        }
        (Found::Record(record), _) => record.clone(),
    };
    match command {
        Command::Register(document) => {
            let (answer, effects) = rules::register(&mut record, document.clone(), now);
            let answer = Answer::Registered(answer);
            Ok(match effects {
                Some(effects) => Decided::written(record, effects, answer),
                None => Decided::nothing(answer),
            })
        }
        Command::Claim { owner, lease, only } => {
            if !is_free(&record, owner, now) || only.is_some_and(|only| only != record.intent) {
                return Ok(Decided::nothing(Answer::Claimed(None)));
            }
            Ok(match rules::take(&mut record, owner, *lease, now, true) {
                Taken::Claim(claim, effects) => Decided::written(record, effects, Answer::Claimed(Some(claim))),
                Taken::NeedsVersion => Decided::nothing(Answer::Claimed(None)),
            })
        }
        Command::Renew { claim, lease } => {
            if rules::check_claim(Some(&record), claim).is_err() {
                return Ok(Decided::nothing(Answer::Yes(false)));
            }
            record.lease_expires_at = Some(timestamp(rules::after(now, *lease)));
            Ok(Decided::written(record, Effects::default(), Answer::Yes(true)))
        }
        Command::Apply { claim, transition } => {
            rules::check_claim(Some(&record), claim)?;
            let effects = rules::apply(&mut record, transition.clone(), now)?;
            Ok(Decided::written(record, effects, Answer::Yes(true)))
        }
        Command::Reversion { claim, fingerprint } => {
            rules::check_claim(Some(&record), claim)?;
            let (claim, effects) = rules::reversion(&mut record, fingerprint)?;
            Ok(Decided::written(record, effects, Answer::Claimed(Some(Box::new(claim)))))
        }
        Command::MarkLoaded { version } => Ok(match rules::mark_loaded(&mut record, *version, now) {
            Some((effects, completes)) => Decided::written(record, effects, Answer::Yes(completes)),
            None => Decided::nothing(Answer::Yes(false)),
        }),
        Command::Reset { from } => {
            let effects = rules::reset(&mut record, *from)?;
            let answer = Answer::Key(key(&record));
            Ok(Decided::written(record, effects, answer))
        }
        Command::Delete => {
            let effects = rules::request_delete(&mut record)?;
            let answer = Answer::Key(key(&record));
            Ok(match effects {
                Some(effects) => Decided::written(record, effects, answer),
                None => Decided::nothing(answer),
            })
        }
        Command::Discard => {
            let effects = rules::discard(&mut record)?;
            Ok(Decided::written(record, effects, Answer::Yes(true)))
        }
        Command::Resume { word } => {
            let wanted = match (&record.parked_resume, word) {
                (Some(Resume::On(waits_for)), Some(word)) => waits_for == word,
                (Some(Resume::At(at)), _) => *at <= now,
                _ => false,
            };
            if record.status != Status::Parked || !wanted {
                return Ok(Decided::nothing(Answer::Yes(false)));
            }
            let effects = rules::resume(&mut record);
            Ok(Decided::written(record, effects, Answer::Yes(true)))
        }
    }
}

/// Pending, or in the hands of somebody else whose lease is over. Its own a process has in hand, however long it was
/// suspended.
fn is_free(record: &ControlRecord, owner: &str, now: UnixMicros) -> bool {
    match record.status {
        Status::Pending => true,
        Status::InProgress => {
            let over = record.lease_expires_at.as_deref().unwrap_or_default() <= timestamp(now).as_str();
            over && record.lease_owner.as_deref() != Some(owner)
        }
        _ => false,
    }
}
