//! Grants claims on documents, and checks whether claims are still valid.

use std::time::Duration;

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::Stage;

use super::{Effects, after, blank, end_claim, entry, leave_aside, start_anew};
use crate::control::{Claim, ClaimKey, ControlError, ControlRecord, DocumentStatus, Intent, StageOutput, StageRecord};

/// Reports the outcome of an attempt to claim a record.
#[derive(Debug)]
pub enum Taken {
    Claim(Box<Claim>, Effects),
    /// The record needs a new version before it can be claimed, but the caller of [`take`] did not allow a new version
    /// (`may_mint`). The record is unchanged.
    NeedsVersion,
}

/// Returns the first stage without a result. A document that is scheduled for deletion has only the last stage, which
/// writes the tombstone.
pub fn first_unfinished(record: &ControlRecord) -> Option<Stage> {
    let done = |s: &Stage| record.stage_status.get(s).is_some_and(|e| e.status == DocumentStatus::Completed);
    match record.intent {
        Intent::Process => Stage::ALL.into_iter().find(|s| !done(s)),
        Intent::Delete => Some(Stage::Loading),
    }
}

/// Fails unless `claim` is the newest claim on the record and the record is `IN_PROGRESS`. The status is checked too,
/// because a person who sets it to `PENDING` wants the result of the current work to be ignored.
pub fn check_claim(record: Option<&ControlRecord>, claim: &ClaimKey) -> Result<(), ControlError> {
    let valid = record.is_some_and(|r| {
        r.status == DocumentStatus::InProgress && r.version == claim.version && r.epoch == claim.epoch
    });
    if valid { Ok(()) } else { Err(ControlError::Fenced(claim.clone())) }
}

/// Claims a record. The caller must have checked that the record is `PENDING`, or `IN_PROGRESS` with an expired lease.
///
/// A pending record without unfinished stages was reset by hand and restarts with a new version. A pending record
/// whose version is already loaded also gets a new version, because two results of one version would be
/// indistinguishable.
///
/// A new version must survive a power loss. A caller whose write may be lost in a power loss passes `false` as
/// `may_mint`. In this case, a record that needs a new version is not claimed; the result is [`Taken::NeedsVersion`].
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
        // Releases and retries reset this counter, so a value above zero dates from before a reset by hand.
        record.interruptions = 0;
        leave_aside(record);
    }
    // A process died after the last stage and before the completion, so the loading stage checks the manifest again.
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
        .with_some("reason", reset_by_hand.then_some("reset by hand; restarting with a new version"))
        .with_some("taken_over_from", previous_owner.filter(|_| was == DocumentStatus::InProgress));
    Taken::Claim(Box::new(claim(record, stage)), effects)
}

/// Returns the claim of the process that holds the record's current lease. The claim begins at `stage`.
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
        urgent: record.urgent,
        outputs: record.stage_status.iter().filter_map(output).collect(),
        loaded_version: record.loaded_version,
        kept: [&record.quarantine_artefact, &record.quarantine_original].into_iter().flatten().cloned().collect(),
    }
}

/// Ends the claim and sets the status. All transitions that end a claim call this.
pub fn finish(record: &mut ControlRecord, status: DocumentStatus) {
    record.status = status;
    if matches!(status, DocumentStatus::Completed | DocumentStatus::Deleted) {
        record.quarantine_artefact = None;
        record.quarantine_original = None;
    }
    record.interruptions = 0;
    // Released work is still to be done.
    record.urgent &= status == DocumentStatus::Pending;
    end_claim(record);
}
