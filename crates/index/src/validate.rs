//! Who may change the manifest, and to what: the rules of the protocol as functions without I/O.
//!
//! Each takes the manifest that is to be replaced and gives the one to swap in, or the reason for a refusal. They are
//! run on the very state that the swap is conditional on; a conflict means that they are run again on the new one.
//! A lease never stands in for any of them.
//!
//! | guard | without it |
//! | --- | --- |
//! | writer's sequence number | reply lost, merged away, appended again (names that are known stand in its way, too) |
//! | `base_version >= gc_floor` | the collector deletes a staged file that then commits |
//! | all inputs still live | two compactors install the same rows twice |
//! | `epoch` | a superseded compactor commits |
//! | rollback raises the floor | what was merged before it takes a tombstone along that the old version needs |
//! | model of the generation | scores of two models are compared |

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::Version;
use docweir_core::model::ModelIdentity;

use super::manifest::{
    FORMAT, FileKind, HistoryEntry, LiveFile, Manifest, ManifestVersion, RemovedFile, WriterMark, thin,
};
use super::planted::{Bug, planted};
use super::retention::Horizons;

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
    /// `added_version` is set by the swap. `None` where nothing of the inputs is left.
    pub snapshot: Option<LiveFile>,
    /// The manifest version that the merge was planned on.
    pub base_version: ManifestVersion,
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
    /// Both horizons only rise, up to the version that the swap makes, and one of them has to.
    HorizonOutOfRange {
        asked: Horizons,
        now: Horizons,
        version: ManifestVersion,
    },
    /// Older than what is kept, or not in the past.
    NotRetained {
        asked: ManifestVersion,
        retained: ManifestVersion,
        version: ManifestVersion,
    },
    /// Part of a version that is retained: must not be forgotten.
    StillNeeded(String),
}

/// What became of a swap whose reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Committed {
        version: ManifestVersion,
    },
    NotCommitted,
    /// It was applied, and the floor has passed it since: it may have been rolled back. To ask whether it is still wanted
    /// and to commit it again is right either way.
    Overtaken,
}

/// May this delta become live?
pub fn may_append(manifest: &Manifest, append: &Append, stamp: Stamp) -> Result<Manifest, Refusal> {
    if let Some(mark) = manifest.writers.get(&append.writer)
        && mark.last_seq >= append.sequence
        && !planted(Bug::NoSequence)
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
    let by_writer = by_writer && !planted(Bug::NoSequence);
    if !by_writer && manifest.commit_id != append.commit_id {
        return Resolution::NotCommitted;
    }
    if append.file.base_version < manifest.gc_floor && !manifest.is_live(&append.file.file) {
        return Resolution::Overtaken;
    }
    let version = manifest.files().find(|f| f.file == append.file.file).map_or(manifest.version, |f| f.added_version);
    Resolution::Committed { version }
}

/// May this snapshot take the place of its inputs? Deltas that arrived meanwhile stay live.
pub fn may_install_snapshot(manifest: &Manifest, install: &Install, stamp: Stamp) -> Result<Manifest, Refusal> {
    if install.epoch < manifest.epoch {
        return Err(Refusal::StaleEpoch { epoch: install.epoch, manifest: manifest.epoch });
    }
    may_base(manifest, install.base_version)?;
    if let Some(snapshot) = &install.snapshot {
        may_add(manifest, snapshot)?;
    }
    if install.inputs.is_empty() {
        return Err(Refusal::NoInputs);
    }
    for name in &install.inputs {
        // An input that came in after the snapshot was planned can't be in it.
        let held = manifest.live.iter().find(|f| f.file == *name);
        if held.is_none_or(|f| f.added_version > install.base_version) && !planted(Bug::InputsNeedNotBeLive) {
            return Err(Refusal::InputNotLive(name.clone()));
        }
    }
    let mut next = manifest.clone();
    let version = advance(&mut next, &install.commit_id, stamp);
    remove(&mut next, |f| install.inputs.contains(&f.file));
    next.live.extend(install.snapshot.iter().map(|s| LiveFile { added_version: version, ..s.clone() }));
    next.epoch = install.epoch;
    Ok(next)
}

/// Looks at the manifest after an installation of which nobody knows whether it was applied.
pub fn is_installed(manifest: &Manifest, install: &Install) -> bool {
    let known = |name: &str| manifest.files().any(|f| f.file == name);
    manifest.commit_id == install.commit_id || install.snapshot.as_ref().is_some_and(|s| known(&s.file))
}

/// May the collection go back to what it held at `target`? That is a new version with old content: all that only grows
/// keeps growing. What was staged before is refused from now on: a merge that was planned on what is undone here may
/// have left out a tombstone that the old files need, and whoever has a commit under way must ask anew whether it is
/// still wanted.
pub fn may_roll_back(
    manifest: &Manifest,
    target: ManifestVersion,
    commit_id: &str,
    stamp: Stamp,
) -> Result<Manifest, Refusal> {
    if target < manifest.retained_from || target >= manifest.version {
        let (retained, version) = (manifest.retained_from, manifest.version);
        return Err(Refusal::NotRetained { asked: target, retained, version });
    }
    let wanted: Vec<LiveFile> = manifest.live_at(target).into_iter().cloned().collect();
    if let Some(other) = wanted.iter().find(|f| f.generation != manifest.generation) {
        return Err(Refusal::OtherGeneration { file: other.generation, manifest: manifest.generation });
    }
    let mut next = manifest.clone();
    let version = advance(&mut next, commit_id, stamp);
    remove(&mut next, |f| !wanted.iter().any(|w| w.file == f.file));
    let back = wanted.into_iter().filter(|f| !manifest.is_live(&f.file));
    next.live.extend(back.map(|f| LiveFile { added_version: version, ..f }));
    if !planted(Bug::RollbackKeepsFloor) {
        next.gc_floor = version;
    }
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

/// May what was staged against `base` still come in?
fn may_base(manifest: &Manifest, base: ManifestVersion) -> Result<(), Refusal> {
    if base > manifest.version {
        return Err(Refusal::FromTheFuture { base, version: manifest.version });
    }
    if base < manifest.gc_floor && !planted(Bug::NoFloor) {
        return Err(Refusal::BelowFloor { base, floor: manifest.gc_floor });
    }
    Ok(())
}

fn may_add(manifest: &Manifest, file: &LiveFile) -> Result<(), Refusal> {
    may_base(manifest, file.base_version)?;
    if file.generation != manifest.generation {
        return Err(Refusal::OtherGeneration { file: file.generation, manifest: manifest.generation });
    }
    if manifest.files().any(|f| f.file == file.file) {
        return Err(Refusal::NameReused(file.file.clone()));
    }
    Ok(())
}

/// Takes live files out, as of the version that is being made.
fn remove(next: &mut Manifest, which: impl Fn(&LiveFile) -> bool) {
    let (at_version, at_ms) = (next.version, next.history.last().map_or(0, |h| h.at_ms));
    let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut next.live).into_iter().partition(which);
    next.live = kept;
    next.removed.extend(gone.into_iter().map(|file| RemovedFile { file, at_version, at_ms }));
}

/// The part that is the same for every swap.
pub(super) fn advance(next: &mut Manifest, commit_id: &str, stamp: Stamp) -> ManifestVersion {
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
