//! Holds the documents whose commands wait to be written, and groups them into transactions.

use std::collections::HashMap;

use docweir_aws::dynamo::{Item, MOST, MOST_BYTES, Write};
use docweir_core::documents::DocumentId;
use docweir_stores::control::{ClaimKey, ControlError};
use tokio::time::Instant;

use super::decide::{Command, ControlReply};
use super::items::{self, WRITE_ID};
use super::writer::{Job, Subject};

/// Maximum number of commands on one document in one write.
const MOST_OF_ONE: usize = 16;

/// Holds a document, and the commands on this document whose effects are written together.
pub struct Document {
    pub subject: Subject,
    pub jobs: Vec<Job>,
    /// Parent document's claim, if all jobs depend on this claim; `None` if the jobs depend on no claim.
    pub under: Option<Box<ClaimKey>>,
    /// Prepared writes that may already have been applied.
    pub uncertain: Vec<Prepared>,
    /// If true, the document is written in its own transaction.
    pub alone: bool,
    /// Time at which the first of the commands was taken from the queue.
    pub began: Instant,
}

/// Holds the pending writes to one document's record, and the answers to the commands that caused these writes.
#[derive(Default)]
pub struct Prepared {
    pub write_id: String,
    pub writes: Vec<Write>,
    pub answers: Vec<Result<ControlReply, ControlError>>,
    pub metrics: Vec<(String, f64)>,
    /// Id of the document, and the time since which the document has been pending. The time is `None` if the document
    /// is not pending after the write.
    pub left: Option<(DocumentId, Option<String>)>,
}

/// Groups the commands by document, and keeps their order.
pub fn documents(jobs: Vec<Job>) -> Vec<Document> {
    let mut all: Vec<Document> = Vec::new();
    let mut latest: HashMap<Subject, usize> = HashMap::new();
    for job in jobs {
        // The caller is gone, so nothing would use a claim.
        if job.reply.is_closed() {
            continue;
        }
        let under = job.command.under();
        let joins = |d: &Document| d.jobs.len() < MOST_OF_ONE && d.under.as_deref() == under;
        let place = latest.get(&job.subject).copied().filter(|i| all.get(*i).is_some_and(joins));
        match place.and_then(|i| all.get_mut(i)) {
            Some(document) => document.jobs.push(job),
            None => {
                latest.insert(job.subject.clone(), all.len());
                let (subject, under) = (job.subject.clone(), under.cloned().map(Box::new));
                all.push(Document {
                    subject,
                    jobs: vec![job],
                    under,
                    uncertain: Vec::new(),
                    alone: false,
                    began: Instant::now(),
                });
            }
        }
    }
    all
}

/// Checks whether one of the document's uncertain writes was applied. The item contains the id of the write that was
/// applied last. Returns `Ok` with the document and the applied write. If none was applied, returns the document
/// unchanged, as `Err`.
pub fn already_applied(mut document: Document, item: &Item) -> Result<(Document, Prepared), Document> {
    let write_id = items::text(item, WRITE_ID);
    match document.uncertain.iter().position(|prepared| write_id == Some(prepared.write_id.as_str())) {
        Some(at) => {
            let applied = document.uncertain.swap_remove(at);
            Ok((document, applied))
        }
        None => Err(document),
    }
}

/// Replies to the commands on a document whose item cannot be parsed, so that these commands do not block other
/// documents. No claim succeeds, existing claims count as invalid, and most other commands are refused.
pub fn unreadable(document: Document) {
    for job in document.jobs {
        let text = "the item can't be parsed (see the log); correct the item, or delete it and submit its file again";
        let answer = match &job.command {
            Command::Claim { .. } => Ok(ControlReply::Claimed(None)),
            Command::Renew { .. } | Command::MarkLoaded { .. } | Command::Resume { .. } => Ok(ControlReply::Yes(false)),
            Command::Apply { claim, .. }
            | Command::RegisterChanged { claim, .. }
            | Command::Reversion { claim, .. }
            | Command::AnnounceChildren { claim, .. }
            | Command::FinishChildren { claim, .. } => Err(ControlError::Fenced(claim.clone())),
            // The document counts as missing, so there is nothing to remove.
            Command::RemoveChild { .. } => Ok(ControlReply::Yes(false)),
            Command::Register(_)
            | Command::RegisterChild { .. }
            | Command::Reset { .. }
            | Command::Hold { .. }
            | Command::Delete
            | Command::Discard => Err(ControlError::Refused(format!("{:?}: {text}", job.subject))),
        };
        let _ = job.reply.send(answer);
    }
}

pub fn answer(document: Document, answers: Vec<Result<ControlReply, ControlError>>) {
    for (job, answer) in document.jobs.into_iter().zip(answers) {
        let _ = job.reply.send(answer);
    }
}

/// Splits documents into transactions of limited size. Each document is written in a single transaction. All
/// documents of a transaction depend on the same claim, or none of them depends on a claim.
pub fn packed(mut prepared: Vec<(Document, Prepared)>) -> Vec<Vec<(Document, Prepared)>> {
    let mut parts: Vec<Vec<(Document, Prepared)>> = Vec::new();
    let (mut writes, mut bytes, mut under) = (usize::MAX, usize::MAX, None);
    prepared.sort_by_cached_key(|(document, _)| document.under.as_ref().map(|claim| (claim.id.clone(), claim.epoch)));
    for (document, ready) in prepared {
        let size: usize = ready.writes.iter().map(Write::bytes).sum();
        // A transaction with a claim needs room for the check of the claim.
        let most = MOST - usize::from(document.under.is_some());
        let full = writes.saturating_add(ready.writes.len()) > most || bytes.saturating_add(size) > MOST_BYTES;
        let other = document.under != under;
        under.clone_from(&document.under);
        if full || other || document.alone {
            parts.push(Vec::new());
            (writes, bytes) = (0, 0);
        }
        writes += ready.writes.len();
        bytes += size;
        if document.alone {
            (writes, bytes) = (usize::MAX, usize::MAX);
        }
        if let Some(part) = parts.last_mut() {
            part.push((document, ready));
        }
    }
    parts
}
