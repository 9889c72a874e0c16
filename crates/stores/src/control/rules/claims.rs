//! Who may work on a document: taking it, and telling whether it is still theirs.

use std::time::Duration;

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::Stage;

use super::{Effects, after, blank, end_claim, entry, leave_aside, start_anew};
use crate::control::{Claim, ClaimKey, ControlError, ControlRecord, DocumentStatus, Intent, StageOutput, StageRecord};

/// What came of taking a record.
#[derive(Debug)]
pub enum Taken {
    Claim(Box<Claim>, Effects),
    /// It needs a new version first, and the caller said not to mint one. The record is as it was.
    NeedsVersion,
}

/// The first stage that has no result. A deletion has one stage only, the last: its tombstone.
pub fn first_unfinished(record: &ControlRecord) -> Option<Stage> {
    let done = |s: &Stage| record.stage_status.get(s).is_some_and(|e| e.status == DocumentStatus::Completed);
    match record.intent {
        Intent::Process => Stage::ALL.into_iter().find(|s| !done(s)),
        Intent::Delete => Some(Stage::Loading),
    }
}

/// Fails unless `claim` is the newest claim on the record and the record is still being worked on. The status counts
/// too: someone who sets it to `PENDING` by hand means that the work now under way is not to count.
pub fn check_claim(record: Option<&ControlRecord>, claim: &ClaimKey) -> Result<(), ControlError> {
    let valid = record.is_some_and(|r| {
        r.status == DocumentStatus::InProgress && r.version == claim.version && r.epoch == claim.epoch
    });
    if valid { Ok(()) } else { Err(ControlError::Fenced(claim.clone())) }
}

/// Claims a record that is `PENDING`, or `IN_PROGRESS` with its lease over (the caller has made sure of that).
///
/// A pending record with nothing left to do was reset by hand: it starts anew under a new version, and so does one
/// whose version is already loaded, because two results under one version could not be told apart. Minting a version
/// must survive a power loss, hence `may_mint`.
pub fn take(record: &mut ControlRecord, owner: &str, lease: Duration, now: UnixMicros, may_mint: bool) -> Taken {
    let was = record.status;
    let unfinished = first_unfinished(record);
    let loaded = record.intent == Intent::Process && record.loaded_version >= Some(record.version);
    let reset_by_hand = was == DocumentStatus::Pending && (unfinished.is_none() || loaded);
    if reset_by_hand {
        if !may_mint {
            return Taken::NeedsVersion;
        }
        start_anew(record);
    }
    if was == DocumentStatus::Pending {
        // Releases and retries leave no interruptions behind, so these would be of before a reset by hand.
        record.interruptions = 0;
        leave_aside(record);
    }
    // A process that died between the last stage and the completion: the manifest is asked again.
    let stage = first_unfinished(record).unwrap_or(Stage::Loading);
    if entry(record, stage).status == DocumentStatus::Completed {
        *entry(record, stage) = blank(DocumentStatus::Pending);
    }
    let previous_owner = record.lease_owner.take();
    record.status = DocumentStatus::InProgress;
    record.epoch += 1;
    record.lease_owner = Some(owner.to_owned());
    record.lease_expires_at = Some(timestamp(after(now, lease)));

    let mut effects = Effects::default();
    effects
        .status_change(record, was)
        .with("stage", stage.name())
        .with_some("reason", reset_by_hand.then_some("reset by hand: starts anew"))
        .with_some("taken_over_from", previous_owner.filter(|_| was == DocumentStatus::InProgress));
    Taken::Claim(Box::new(claim(record, stage)), effects)
}

/// The claim that the record now grants.
pub fn claim(record: &ControlRecord, stage: Stage) -> Claim {
    let output = |(&stage, e): (&Stage, &StageRecord)| {
        let (key, sha256) = (e.output_s3_key.clone()?, e.output_sha256.clone()?);
        (e.status == DocumentStatus::Completed).then_some((stage, StageOutput { key, sha256 }))
    };
    Claim {
        key: ClaimKey { id: record.document_id.clone(), version: record.version, epoch: record.epoch },
        intent: record.intent,
        source: record.source.clone(),
        content: record.content_sha256.clone(),
        fingerprint: record.fingerprint.clone(),
        bytes: record.file_size_bytes,
        media_type: record.media_type,
        tenant: record.tenant.clone(),
        weight: record.weight,
        parent: record.parent.clone(),
        children: record.children.clone(),
        stage,
        attempts: record.retry_count,
        interruptions: record.interruptions,
        outputs: record.stage_status.iter().filter_map(output).collect(),
        loaded_version: record.loaded_version,
        kept: [&record.quarantine_artefact, &record.quarantine_original].into_iter().flatten().cloned().collect(),
    }
}

/// Ends the claim with `status`; what the transitions that end a claim have in common.
pub fn finish(record: &mut ControlRecord, status: DocumentStatus) {
    record.status = status;
    if matches!(status, DocumentStatus::Completed | DocumentStatus::Deleted) {
        record.quarantine_artefact = None;
        record.quarantine_original = None;
    }
    record.interruptions = 0;
    end_claim(record);
}
