//! Who may change the manifest, and to what: the rules of the protocol as functions without I/O.
//!
//! Each takes the manifest that is to be replaced and gives the one to swap in, or the reason for a refusal. They are
//! run on the very state that the swap is conditional on; a conflict means that they are run again on the new one.
//! A lease never stands in for any of them.
//!
//! | guard | without it |
//! | --- | --- |
//! | writer's sequence number | reply lost, merged away, appended again: rows twice |
//! | `base_version >= gc_floor` | the collector deletes a staged file that then commits |
//! | all inputs still live | two compactors install the same rows twice |
//! | `epoch` | a superseded compactor commits |
//! | model of the generation | scores of two models are compared |

use super::manifest::{
    FORMAT, FileKind, HistoryEntry, LiveFile, Manifest, ManifestVersion, RemovedFile, WriterMark, thin,
};
use crate::clock::{UnixMicros, timestamp};
use crate::documents::Version;
use crate::stages::model::ModelIdentity;

/// A delta that wants to become live.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// `added_version` is set by the swap.
    pub file: LiveFile,
    /// `None` for a delta without vectors.
    pub model: Option<ModelIdentity>,
    pub writer: String,
    pub sequence: u64,
    pub commit_id: String,
}

/// A snapshot that wants to take the place of its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Install {
    /// `added_version` is set by the swap.
    pub snapshot: LiveFile,
    /// Names of the files that it holds the rows of.
    pub inputs: Vec<String>,
    /// Of the lease under which it was made.
    pub epoch: u64,
    pub commit_id: String,
}

/// When, and how much of the past is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub now: UnixMicros,
    pub history_entries: usize,
}

/// Why the manifest stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This commit, or a later one of the same writer, is in the manifest already.
    AlreadyCommitted {
        last_seq: u64,
    },
    /// Staged before the floor: its file may be deleted at any moment.
    BelowFloor {
        base: ManifestVersion,
        floor: ManifestVersion,
    },
    /// Staged against a version that does not exist: another store's file.
    FromTheFuture {
        base: ManifestVersion,
        version: ManifestVersion,
    },
    OtherGeneration {
        file: u32,
        manifest: u32,
    },
    OtherModel {
        stored: Box<ModelIdentity>,
        given: Box<ModelIdentity>,
    },
    /// Names are never used twice.
    NameReused(String),
    /// Merged or removed by somebody else meanwhile.
    InputNotLive(String),
    NoInputs,
    /// The lease was taken over.
    StaleEpoch {
        epoch: u64,
        manifest: u64,
    },
    /// The floor only rises, up to the current version.
    FloorOutOfRange {
        asked: ManifestVersion,
        floor: ManifestVersion,
        version: ManifestVersion,
    },
    /// Still live, or not below the floor: must not be forgotten.
    StillNeeded(String),
}

/// What became of a swap whose reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Committed { version: ManifestVersion },
    NotCommitted,
}

/// May this delta become live?
pub fn may_append(manifest: &Manifest, append: &Append, stamp: Stamp) -> Result<Manifest, Refusal> {
    if let Some(mark) = manifest.writers.get(&append.writer)
        && mark.last_seq >= append.sequence
    {
        return Err(Refusal::AlreadyCommitted { last_seq: mark.last_seq });
    }
    may_add(manifest, &append.file)?;
    let mut next = manifest.clone();
    if let Some(given) = &append.model {
        may_mix(manifest.model(), given)?;
        if let Some(generation) = next.generations.iter_mut().find(|g| g.number == manifest.generation) {
            generation.model.get_or_insert_with(|| given.clone());
        }
    }
    let version = advance(&mut next, &append.commit_id, stamp);
    next.live.push(LiveFile { added_version: version, ..append.file.clone() });
    let mark = WriterMark { last_seq: append.sequence, at_version: version };
    next.writers.insert(append.writer.clone(), mark);
    Ok(next)
}

/// May these vectors stand beside those?
pub fn may_mix(stored: Option<&ModelIdentity>, given: &ModelIdentity) -> Result<(), Refusal> {
    match stored {
        Some(stored) if stored != given => {
            Err(Refusal::OtherModel { stored: Box::new(stored.clone()), given: Box::new(given.clone()) })
        }
        _ => Ok(()),
    }
}

/// Looks at the manifest after a swap of which nobody knows whether it was applied.
pub fn resolve_unknown(manifest: &Manifest, append: &Append) -> Resolution {
    let by_writer = manifest.writers.get(&append.writer).is_some_and(|mark| mark.last_seq >= append.sequence);
    if !by_writer && manifest.commit_id != append.commit_id {
        return Resolution::NotCommitted;
    }
    let mut files = manifest.live.iter().chain(manifest.removed.iter().map(|r| &r.file));
    let version = files.find(|f| f.file == append.file.file).map_or(manifest.version, |f| f.added_version);
    Resolution::Committed { version }
}

/// May this snapshot take the place of its inputs? Deltas that arrived meanwhile stay live.
pub fn may_install_snapshot(manifest: &Manifest, install: &Install, stamp: Stamp) -> Result<Manifest, Refusal> {
    if install.epoch < manifest.epoch {
        return Err(Refusal::StaleEpoch { epoch: install.epoch, manifest: manifest.epoch });
    }
    may_add(manifest, &install.snapshot)?;
    if install.inputs.is_empty() {
        return Err(Refusal::NoInputs);
    }
    for name in &install.inputs {
        // An input that came in after the snapshot was planned can't be in it.
        let held = manifest.live.iter().find(|f| f.file == *name);
        if held.is_none_or(|f| f.added_version > install.snapshot.base_version) {
            return Err(Refusal::InputNotLive(name.clone()));
        }
    }
    let mut next = manifest.clone();
    let version = advance(&mut next, &install.commit_id, stamp);
    let at_ms = next.history.last().map_or(0, |h| h.at_ms);
    let (inputs, kept) = next.live.into_iter().partition(|f| install.inputs.contains(&f.file));
    let inputs: Vec<LiveFile> = inputs;
    next.live = kept;
    next.live.push(LiveFile { added_version: version, ..install.snapshot.clone() });
    next.removed.extend(inputs.into_iter().map(|file| RemovedFile { file, at_version: version, at_ms }));
    next.epoch = install.epoch;
    Ok(next)
}

/// The highest floor that leaves alone what was staged within the grace: the version that was current `grace_ms` ago.
pub fn floor_after_grace(manifest: &Manifest, now_ms: i64, grace_ms: i64) -> Option<ManifestVersion> {
    let then = now_ms.saturating_sub(grace_ms);
    let current = manifest.history.iter().rev().find(|h| h.at_ms <= then)?;
    (current.version > manifest.gc_floor).then_some(current.version)
}

/// May the floor rise? Writers that have done nothing since are forgotten: whatever they may still try was staged
/// below the floor.
pub fn may_raise_floor(
    manifest: &Manifest,
    floor: ManifestVersion,
    commit_id: &str,
    stamp: Stamp,
) -> Result<Manifest, Refusal> {
    if floor <= manifest.gc_floor || floor > manifest.version {
        return Err(Refusal::FloorOutOfRange { asked: floor, floor: manifest.gc_floor, version: manifest.version });
    }
    let mut next = manifest.clone();
    advance(&mut next, commit_id, stamp);
    next.gc_floor = floor;
    next.writers.retain(|_, mark| mark.at_version >= floor);
    Ok(next)
}

/// May the collector delete this file? Once true it stays true, so a collector that was paused does no harm.
/// Pins and retained versions are for the caller to spare.
pub fn is_garbage(
    manifest: &Manifest,
    file: &str,
    base_version: ManifestVersion,
    now_ms: i64,
    reader_grace_ms: i64,
) -> bool {
    let live = manifest.live.iter().any(|f| f.file == file);
    let removed = manifest.removed.iter().filter(|r| r.file.file == file).map(|r| r.at_ms).max();
    let forgotten = removed.is_none_or(|at_ms| at_ms <= now_ms.saturating_sub(reader_grace_ms));
    !live && base_version < manifest.gc_floor && forgotten
}

/// Takes deleted files out of the removed list.
pub fn may_forget(manifest: &Manifest, deleted: &[String], commit_id: &str, stamp: Stamp) -> Result<Manifest, Refusal> {
    for name in deleted {
        let live = manifest.live.iter().any(|f| f.file == *name);
        let needed = manifest.removed.iter().any(|r| r.file.file == *name && r.file.base_version >= manifest.gc_floor);
        if live || needed {
            return Err(Refusal::StillNeeded(name.clone()));
        }
    }
    let mut next = manifest.clone();
    advance(&mut next, commit_id, stamp);
    next.removed.retain(|r| !deleted.contains(&r.file.file));
    Ok(next)
}

/// One document version (or its tombstone) in one file, in the order in which they win: the highest version, whatever
/// the order of commits; at the same version a tombstone over rows; then the newer file name. The last case is a
/// commit that was repeated after a lost reply: both hold the same rows, and one of them is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence<'a> {
    pub version: Version,
    pub tombstone: bool,
    pub file: &'a str,
}

fn may_add(manifest: &Manifest, file: &LiveFile) -> Result<(), Refusal> {
    if file.base_version > manifest.version {
        return Err(Refusal::FromTheFuture { base: file.base_version, version: manifest.version });
    }
    if file.base_version < manifest.gc_floor {
        return Err(Refusal::BelowFloor { base: file.base_version, floor: manifest.gc_floor });
    }
    if file.generation != manifest.generation {
        return Err(Refusal::OtherGeneration { file: file.generation, manifest: manifest.generation });
    }
    let mut known = manifest.live.iter().chain(manifest.removed.iter().map(|r| &r.file));
    if known.any(|f| f.file == file.file) {
        return Err(Refusal::NameReused(file.file.clone()));
    }
    Ok(())
}

/// The part that is the same for every swap.
fn advance(next: &mut Manifest, commit_id: &str, stamp: Stamp) -> ManifestVersion {
    next.format = FORMAT;
    next.version += 1;
    next.commit_id = commit_id.to_owned();
    next.updated_at = timestamp(stamp.now);
    let before = next.history.last().map_or(i64::MIN, |h| h.at_ms);
    next.history.push(HistoryEntry { version: next.version, at_ms: before.max(stamp.now.div_euclid(1000)) });
    thin(&mut next.history, stamp.history_entries);
    next.version
}

/// A live file that is about to be proposed; `added_version` is filled in by the swap.
pub fn proposed(file: String, kind: FileKind, generation: u32, base_version: ManifestVersion) -> LiveFile {
    LiveFile {
        file,
        kind,
        generation,
        base_version,
        added_version: 0,
        rows: 0,
        documents: 0,
        tombstones: 0,
        bytes: 0,
        crc32: 0,
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
