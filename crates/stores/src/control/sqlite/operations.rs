//! Implements the store's operations inside a transaction.

use std::time::Duration;

use docweir_core::clock::timestamp;
use docweir_core::documents::{DocumentId, MediaType};
use rusqlite::params;

use super::failure::OpResult;
use super::rows;
use super::unit::{Changed, Unit};
use super::writer::CommitDurability;
use crate::control::rules::{self, Taken};
use crate::control::{
    ChildChanges, Claim, ClaimFilter, ClaimKey, ControlError, ControlRecord, DocumentKey, DocumentStatus, Intent,
    NewDocument, Registered, RemovedChild, Transition,
};

/// Selects pending documents that a user asked to process. The plus keeps SQLite from reading all pending documents through
/// an index on `status`.
pub const URGENT_DOCUMENTS: &str =
    "urgent = 1 AND +status = 'PENDING' AND (?2 IS NULL OR intent = ?2) ORDER BY updated_at, rowid LIMIT ?1";
/// Selects documents in progress whose lease has expired, except those of the claimant.
const DOCUMENTS_LEFT_BEHIND: &str = "status = 'IN_PROGRESS' AND COALESCE(lease_expires_at, '') <= ?1 \
    AND (?3 IS NULL OR intent = ?3) AND lease_owner IS NOT ?4 ORDER BY COALESCE(lease_expires_at, ''), rowid LIMIT ?2";
/// Selects the other pending documents.
pub const PENDING_DOCUMENTS: &str = "status = 'PENDING' AND urgent = 0 ORDER BY updated_at, rowid LIMIT ?1";

pub fn key(record: &ControlRecord) -> DocumentKey {
    DocumentKey { id: record.document_id.clone(), version: record.version }
}

pub fn register(unit: &mut Unit<'_>, document: NewDocument) -> OpResult<Registered> {
    if let Some(mut record) = unit.by_source(&document.source)? {
        let (answer, effects) = rules::register(&mut record, document, unit.now);
        if let Some(effects) = effects {
            unit.save(&mut record, Changed::All, effects)?;
        }
        return Ok(answer);
    }
    let id = unused_id(unit)?;
    let (mut record, effects) = rules::new_record(document, id, unit.terms.max_retries, unit.now);
    unit.save(&mut record, Changed::New, effects)?;
    Ok(Registered::New(key(&record)))
}

pub fn register_changed(unit: &mut Unit<'_>, claim: &ClaimKey, document: NewDocument) -> OpResult<Registered> {
    let mut record = unit.by_id(&claim.id)?;
    let (answer, effects) = rules::register_changed(record.as_mut(), claim, document, unit.now)?;
    if let (Some(record), Some(effects)) = (&mut record, effects) {
        unit.save(record, Changed::All, effects)?;
    }
    Ok(answer)
}

pub fn relocate(unit: &mut Unit<'_>, id: &DocumentId, source: &str, media_type: MediaType) -> OpResult<DocumentKey> {
    if unit.by_source(source)?.is_some() {
        return Err(ControlError::Refused(format!("another document has the source {source}")).into());
    }
    let mut record = unit.existing(id)?;
    let effects = rules::relocate(&mut record, source, media_type)?;
    unit.save(&mut record, Changed::Source, effects)?;
    Ok(key(&record))
}

fn unused_id(unit: &Unit<'_>) -> OpResult<DocumentId> {
    // Another process may have created the same id in the same microsecond, or a transaction may register very many
    // documents at one time.
    let mut id = DocumentId::in_order(unit.now);
    while unit.by_id(&id)?.is_some() {
        id = DocumentId::mint(unit.now, fastrand::u32(..));
    }
    Ok(id)
}

/// Declares the children of a document in one transaction, so that no intermediate step is visible.
pub fn set_children(unit: &mut Unit<'_>, claim: &ClaimKey, children: Vec<NewDocument>) -> OpResult<ChildChanges> {
    let record = unit.by_id(&claim.id)?;
    rules::check_claim(record.as_ref(), claim)?;
    let mut parent = record.ok_or_else(|| ControlError::Fenced(claim.clone()))?;
    rules::check_children(&parent, &children)?;
    let mut changes = ChildChanges::default();
    let (mut ids, mut registered) = (Vec::with_capacity(children.len()), 0);
    for child in children {
        let answer = match unit.by_source(&child.source)? {
            Some(mut record) => {
                let stays_deleted = rules::stays_deleted(&parent, &record.document_id);
                let (answer, effects) = rules::register_child(&mut record, child, stays_deleted, unit.now);
                if let Some(effects) = effects {
                    unit.save(&mut record, Changed::All, effects)?;
                }
                answer
            }
            None => register(unit, child)?,
        };
        registered += usize::from(!matches!(answer, Registered::Unchanged(..)));
        ids.push(answer.key().id.clone());
        changes.registered.push(answer);
    }
    for id in parent.children.iter().filter(|id| !ids.contains(id)) {
        let Some(mut record) = unit.by_id(id)? else { continue };
        if let Some(effects) = rules::remove_child(&mut record, &claim.id) {
            unit.save(&mut record, Changed::All, effects)?;
            changes.removed.push(RemovedChild { id: record.document_id, source: record.source });
        }
    }
    if let Some(effects) = rules::finish_children(&mut parent, &ids, registered, changes.removed.len()) {
        unit.save(&mut parent, Changed::All, effects)?;
    }
    Ok(changes)
}

pub fn claim(
    unit: &mut Unit<'_>,
    owner: &str,
    lease: Duration,
    limit: usize,
    only: Option<ClaimFilter>,
    may_mint: bool,
) -> OpResult<(Vec<(String, Claim)>, usize)> {
    let n = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    let delete = (only == Some(ClaimFilter::Deletions)).then(|| rows::word(&Intent::Delete));
    let mut found = unit.select(URGENT_DOCUMENTS, params![n(limit), delete], limit)?;
    if only != Some(ClaimFilter::Commands) {
        // Only the documents in flight are in progress, so this scan by status is short. The claimant's own documents are
        // skipped: after a suspend or a step of the clock its leases have expired, but it is still working on them.
        found.extend(unit.select(
            DOCUMENTS_LEFT_BEHIND,
            params![timestamp(unit.now), n(limit), delete, owner],
            limit,
        )?);
    }
    if only.is_none() && found.len() < limit {
        let left = limit - found.len();
        found.extend(unit.select(PENDING_DOCUMENTS, params![n(left)], left)?);
    }
    // Documents in progress come before other pending ones: they were claimed first, although their last change is later.
    found.sort_by(|a, b| {
        let place = |r: &ControlRecord| (!r.urgent, r.status == DocumentStatus::Pending, r.updated_at.clone());
        place(a).cmp(&place(b))
    });
    found.truncate(limit);
    let mut claims = Vec::with_capacity(found.len());
    let mut need_version = 0;
    for mut record in found {
        let waited_since = record.updated_at.clone();
        match rules::take(&mut record, owner, lease, unit.now, may_mint) {
            Taken::Claim(claim, effects) => {
                unit.save(&mut record, Changed::All, effects)?;
                claims.push((waited_since, *claim));
            }
            Taken::NeedsVersion => need_version += 1,
        }
    }
    Ok((claims, need_version))
}

pub fn apply(unit: &mut Unit<'_>, claim: &ClaimKey, transition: Transition) -> OpResult<()> {
    let changed = match transition {
        Transition::StageStarted { .. } | Transition::StageCompleted { .. } | Transition::StageRetry { .. } => {
            Changed::Progress
        }
        _ => Changed::All,
    };
    let record = unit.by_id(&claim.id)?;
    rules::check_claim(record.as_ref(), claim)?;
    let mut record = record.ok_or_else(|| ControlError::Fenced(claim.clone()))?;
    let effects = rules::apply(&mut record, transition, unit.now)?;
    unit.save(&mut record, changed, effects)
}

/// Returns whether a transition must survive a power loss, or only the end of the process. A power loss may undo the
/// progress of stages, because stage results are verified by hashes and stages can be repeated. A power loss must not
/// undo that a document is parked, has failed permanently, is complete or is deleted.
pub fn durability(transition: &Transition) -> CommitDurability {
    match transition {
        Transition::Quarantined { .. } | Transition::Completed { .. } | Transition::Deleted => {
            CommitDurability::PowerLoss
        }
        // Parked work may have been paid for. The batch that it waits for must find the document again.
        Transition::Parked { .. } => CommitDurability::PowerLoss,
        Transition::StageStarted { .. }
        | Transition::StageCompleted { .. }
        | Transition::StageRetry { .. }
        | Transition::Released { .. } => CommitDurability::Process,
    }
}

pub fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
