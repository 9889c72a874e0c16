//! Decides which changes of the manifest are permitted. Each rule of the protocol is a function without I/O.
//!
//! Each function takes the current manifest and returns the next manifest, or the reason for a refusal. The caller
//! then swaps the manifest, on condition that the current manifest has not changed. After a conflict, the function
//! runs again on the new manifest. The rules apply even if a process holds the lease.
//!
//! | guard | failure that it prevents |
//! | --- | --- |
//! | writer's sequence number | a commit whose reply was lost and whose delta was merged is appended a second time |
//! | `base_version >= gc_floor` | the collector deletes a staged file that then commits |
//! | all inputs still live | two compactors install the same rows twice |
//! | `epoch` | a superseded compactor commits |
//! | rollback raises the floor | an older merge has dropped a tombstone that the restored version needs |
//! | model of the generation | scores of two models are compared |

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::Version;
use docweir_core::model::ModelIdentity;

use super::manifest::{
    FORMAT, FileKind, HistoryEntry, LiveFile, Manifest, ManifestVersion, RemovedFile, WriterMark, thin,
};
use super::planted::{SkippedRule, planted};
use super::retention::Horizons;

/// Describes a request to add a delta to the live files.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// File to add. The swap sets `added_version`.
    pub file: LiveFile,
    /// Model of the vectors; `None` for a delta without vectors.
    pub model: Option<ModelIdentity>,
    pub writer: String,
    pub sequence: u64,
    pub commit_id: String,
}

/// Describes a request to replace input files by a merged snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Install {
    /// Snapshot to add; `None` if no documents were left after the merge. The swap sets `added_version`.
    pub snapshot: Option<LiveFile>,
    /// Manifest version that the merge had read when it selected its inputs.
    pub base_version: ManifestVersion,
    /// Names of the files that the snapshot replaces.
    pub inputs: Vec<String>,
    /// Epoch of the lease that the compactor held during the merge.
    pub epoch: u64,
    pub commit_id: String,
}

/// Holds the time of a change, and the maximum length of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub now: UnixMicros,
    pub history_entries: usize,
}

/// Describes why a change of the manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The manifest already contains this commit, or contains a later commit of the same writer.
    AlreadyCommitted {
        last_seq: u64,
    },
    /// The base version is below `gc_floor`. The collector may delete the staged file at any moment, so the manifest
    /// must not list the file.
    BelowFloor {
        base: ManifestVersion,
        floor: ManifestVersion,
    },
    /// The base version does not exist yet. The file belongs to another store, or the manifest was restored from an
    /// older backup.
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
    /// The name was used before. Names are never used twice.
    NameReused(String),
    /// The input was merged or removed by another process.
    InputNotLive(String),
    NoInputs,
    /// The lease was taken over by another process.
    StaleEpoch {
        epoch: u64,
        manifest: u64,
    },
    /// A requested horizon is out of range. A horizon may never fall, and may rise at most to the version number that
    /// the swap makes. At least one of the two horizons must rise.
    HorizonOutOfRange {
        asked: Horizons,
        now: Horizons,
        version: ManifestVersion,
    },
    /// The version is older than the retained versions, or is not in the past.
    NotRetained {
        asked: ManifestVersion,
        retained: ManifestVersion,
        version: ManifestVersion,
    },
    /// The file belongs to a retained version, so its entry must stay.
    StillNeeded(String),
}

/// Reports whether a swap was applied although its reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Committed {
        version: ManifestVersion,
    },
    NotCommitted,
    /// The swap was applied. Since then, a merge has replaced the file, or a rollback has undone the commit. The file
    /// is no longer live, and `gc_floor` has risen above the base version. The caller checks whether the documents
    /// are still wanted, and commits them again. Committing again is always harmless.
    Overtaken,
}

/// Maximum number of writers that a manifest lists. Each commit rewrites the list.
const MAX_WRITERS: usize = 512;
/// Number of writers that stay listed when the list has become too long.
const KEPT_WRITERS: usize = MAX_WRITERS / 4 * 3;

/// Returns the next manifest with a delta added to the live files, or the reason for a refusal.
///
/// If the list of writers becomes too long, the writers whose last commits are the oldest leave it. `gc_floor` then
/// rises above their last commits. A repetition of such a commit is no longer recognised, but it is refused, because it
/// was staged below `gc_floor`. The commit itself is refused as well if it was staged below the risen floor. Its writer
/// then begins again on the current version.
pub fn may_append(manifest: &Manifest, append: &Append, stamp: Stamp) -> Result<Manifest, Refusal> {
    if let Some(mark) = manifest.writers.get(&append.writer)
        && mark.last_seq >= append.sequence
        && !planted(SkippedRule::NoSequence)
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
    limit_writers(&mut next);
    may_base(&next, append.file.base_version)?;
    Ok(next)
}

/// Removes the writers with the oldest commits if the list of writers is too long, and raises `gc_floor` accordingly.
fn limit_writers(next: &mut Manifest) {
    if next.writers.len() <= MAX_WRITERS {
        return;
    }
    let mut versions: Vec<_> = next.writers.values().map(|mark| mark.at_version).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let oldest_kept = versions.get(KEPT_WRITERS - 1).copied().unwrap_or_default();
    next.gc_floor = next.gc_floor.max(oldest_kept);
    next.writers.retain(|_, mark| mark.at_version >= next.gc_floor);
}

/// Checks whether new vectors may be stored alongside the existing vectors. `given` is the model of the new vectors,
/// and `stored` is the model of the existing ones.
pub fn may_mix(stored: Option<&ModelIdentity>, given: &ModelIdentity) -> Result<(), Refusal> {
    match stored {
        Some(stored) if stored != given => {
            Err(Refusal::OtherModel { stored: Box::new(stored.clone()), given: Box::new(given.clone()) })
        }
        _ => Ok(()),
    }
}

/// Determines whether an append was applied, if the reply to the append was lost. The current manifest shows the
/// outcome.
pub fn resolve_unknown(manifest: &Manifest, append: &Append) -> Resolution {
    let by_writer = manifest.writers.get(&append.writer).is_some_and(|mark| mark.last_seq >= append.sequence);
    let by_writer = by_writer && !planted(SkippedRule::NoSequence);
    if !by_writer && manifest.commit_id != append.commit_id {
        return Resolution::NotCommitted;
    }
    if append.file.base_version < manifest.gc_floor && !manifest.is_live(&append.file.file) {
        return Resolution::Overtaken;
    }
    let version = manifest.files().find(|f| f.file == append.file.file).map_or(manifest.version, |f| f.added_version);
    Resolution::Committed { version }
}

/// Returns the next manifest, which lists a snapshot instead of its inputs, or the reason for a refusal. Deltas stay
/// live if they were committed after the merge was planned.
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
        // An input that was added after the merge was planned cannot be part of the snapshot.
        let held = manifest.live.iter().find(|f| f.file == *name);
        if held.is_none_or(|f| f.added_version > install.base_version) && !planted(SkippedRule::InputsNeedNotBeLive) {
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

/// Determines whether a snapshot was installed, if the reply to the swap was lost. The current manifest shows the
/// outcome.
pub fn is_installed(manifest: &Manifest, install: &Install) -> bool {
    let known = |name: &str| manifest.files().any(|f| f.file == name);
    manifest.commit_id == install.commit_id || install.snapshot.as_ref().is_some_and(|s| known(&s.file))
}

/// Returns the next manifest, which has the content of version `target`, or the reason for a refusal. Only the
/// content is restored. The version number still rises, and the sequence numbers and the epoch keep their current
/// values.
///
/// The next manifest refuses all files that were staged before the rollback. One of these files may be the result of
/// a merge that dropped a tombstone, and the restored content may need this tombstone. A writer with a commit in
/// progress must check again whether its documents are still wanted.
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
    if !planted(SkippedRule::RollbackKeepsFloor) {
        next.gc_floor = version;
    }
    Ok(next)
}

/// Orders the versions of one document by precedence. A version is either a set of rows or a tombstone. The highest
/// version wins, whatever the order of commits. At equal versions, a tombstone wins over rows. If both files hold
/// rows of the same version, the file with the newer name wins. This happens only if a commit was repeated after a
/// lost reply, and the rows in both files are then the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence<'a> {
    pub version: Version,
    pub tombstone: bool,
    pub file: &'a str,
}

/// Checks whether a file that was staged against `base` may still be committed.
fn may_base(manifest: &Manifest, base: ManifestVersion) -> Result<(), Refusal> {
    if base > manifest.version {
        return Err(Refusal::FromTheFuture { base, version: manifest.version });
    }
    if base < manifest.gc_floor && !planted(SkippedRule::NoFloor) {
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

/// Moves live files to the list of removed files. `which` selects the files to move. The entry of a removed file
/// records the new manifest version as the version that removed the file.
fn remove(next: &mut Manifest, which: impl Fn(&LiveFile) -> bool) {
    let (at_version, at_ms) = (next.version, next.history.last().map_or(0, |h| h.at_ms));
    let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut next.live).into_iter().partition(which);
    next.live = kept;
    next.removed.extend(gone.into_iter().map(|file| RemovedFile { file, at_version, at_ms }));
}

/// Applies the changes that every swap makes, and returns the new version.
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

/// Creates the manifest entry of a file to be added. The caller sets the counts, and the swap sets `added_version`.
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
