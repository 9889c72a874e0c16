//! What is kept of the past, and what may be deleted.
//!
//! Two horizons of the manifest, each a version that only rises:
//!
//! | horizon | below it | what it is for |
//! | --- | --- | --- |
//! | `gc_floor` | nothing staged may commit any more | orphans (staged and never named) may go, tombstones may be dropped |
//! | `retained_from` | no version can be seen or gone back to | files that only such versions name may go |
//!
//! Clocks decide where a horizon is *put*; whether a file may be deleted follows from the horizons alone. So what is
//! garbage stays garbage for ever, and a collector that was stopped for a day and goes on does no harm.

use serde::{Deserialize, Serialize};

use super::manifest::{FileKind, Manifest, ManifestVersion};
use super::planted::{Bug, planted};
use super::validate::{Refusal, Stamp, advance};

/// Where the past ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Horizons {
    pub gc_floor: ManifestVersion,
    pub retained_from: ManifestVersion,
}

/// `[retention]` of config.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionOptions {
    /// Versions that are so many of the newest snapshots old can be gone back to. Default 4.
    pub snapshots: usize,
    /// Seconds for which every version can be gone back to: merged deltas are kept so long. Default 604,800 (7 days).
    pub merged_seconds: u64,
    /// Files that are merged and still kept, at most: of a busy collection older versions can't be gone back to, whatever
    /// their age, so that its manifest stays small. Default 5,000.
    pub max_files: usize,
    /// Seconds that a commit or a merge may take; what was staged and not named for so long is deleted. Default 86,400
    /// (1 day).
    pub staged_seconds: u64,
    /// Seconds for which a reader's mark spares what it reads, unless it is renewed. Default 3,600.
    pub pin_seconds: u64,
    /// Seconds between two looks at what can be deleted. Default 600.
    pub poll_seconds: u64,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self {
            snapshots: 4,
            merged_seconds: 7 * 86_400,
            max_files: 5_000,
            staged_seconds: 86_400,
            pin_seconds: 3_600,
            poll_seconds: 600,
        }
    }
}

impl RetentionOptions {
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("is {value}, must be between {low} and {high}")));
            }
        };
        const TEN_YEARS: u64 = 315_360_000;
        range("snapshots", self.snapshots as u64, 0, 1_000);
        range("merged_seconds", self.merged_seconds, 0, TEN_YEARS);
        range("max_files", self.max_files as u64, 10, 1_000_000);
        range("staged_seconds", self.staged_seconds, 1, TEN_YEARS);
        range("pin_seconds", self.pin_seconds, 10, 604_800);
        range("poll_seconds", self.poll_seconds, 1, 86_400);
        found
    }
}

impl Manifest {
    pub fn horizons(&self) -> Horizons {
        Horizons { gc_floor: self.gc_floor, retained_from: self.retained_from }
    }

    /// The version that was current at a time, as far as the history tells.
    fn current_at(&self, ms: i64) -> Option<ManifestVersion> {
        self.history.iter().rev().find(|h| h.at_ms <= ms).map(|h| h.version)
    }
}

/// Where the horizons may be put now; `None` where both stand there already.
pub fn due(manifest: &Manifest, now_ms: i64, options: &RetentionOptions) -> Option<Horizons> {
    let ago = |seconds: u64| now_ms.saturating_sub(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX));
    let now = manifest.horizons();
    let gc_floor = manifest.current_at(ago(options.staged_seconds)).unwrap_or(0).max(now.gc_floor);
    let by_age = manifest.current_at(ago(options.merged_seconds)).unwrap_or(0);
    let retained_from = by_age.min(oldest_snapshot_kept(manifest, options.snapshots)).max(now.retained_from);
    let full = newest_given_up(manifest, options.max_files);
    let due = Horizons { gc_floor: gc_floor.max(full), retained_from: retained_from.max(full) };
    (due != now).then_some(due)
}

/// The version that removed the newest of the files that are too many; 0 where there are none. All that they were staged
/// against is older.
fn newest_given_up(manifest: &Manifest, most: usize) -> ManifestVersion {
    let mut versions: Vec<_> = manifest.removed.iter().map(|r| r.at_version).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.get(most).copied().unwrap_or_default()
}

/// The version that the oldest of the `keep` newest snapshots came in with; the newest version where there are fewer
/// or none has to be kept.
fn oldest_snapshot_kept(manifest: &Manifest, keep: usize) -> ManifestVersion {
    let snapshots = manifest.files().filter(|f| f.kind == FileKind::Snapshot);
    let mut versions: Vec<_> = snapshots.map(|f| f.added_version).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.dedup();
    let oldest = keep.checked_sub(1).and_then(|last| versions.get(last.min(versions.len().saturating_sub(1))));
    oldest.copied().unwrap_or(manifest.version)
}

/// May the horizons rise? Writers that have done nothing since the floor are forgotten: whatever they may still try was
/// staged below it.
pub fn may_raise(manifest: &Manifest, to: Horizons, commit_id: &str, stamp: Stamp) -> Result<Manifest, Refusal> {
    let now = manifest.horizons();
    let top = manifest.version + 1;
    let risen = to.gc_floor >= now.gc_floor && to.retained_from >= now.retained_from && to != now;
    if !risen || to.gc_floor > top || to.retained_from > top {
        return Err(Refusal::HorizonOutOfRange { asked: to, now, version: manifest.version });
    }
    let mut next = manifest.clone();
    advance(&mut next, commit_id, stamp);
    next.gc_floor = to.gc_floor;
    next.retained_from = to.retained_from;
    next.writers.retain(|_, mark| mark.at_version >= to.gc_floor);
    Ok(next)
}

/// May this file be deleted? `base_version` is what it was staged against. Files that a reader's mark names are for
/// the caller to spare.
pub fn is_garbage(manifest: &Manifest, file: &str, base_version: ManifestVersion) -> bool {
    let reachable = |r: &super::manifest::RemovedFile| r.file.file == file && r.at_version > manifest.retained_from;
    !manifest.is_live(file) && base_version < manifest.gc_floor && !manifest.removed.iter().any(reachable)
}

/// May a merge leave out a tombstone of an input that came in with `added_version`? Only when all that may still commit
/// was staged after it could be seen. The caller has seen, too, that no live file outside the merge holds an older
/// version of the document.
pub fn may_drop_tombstone(manifest: &Manifest, added_version: ManifestVersion) -> bool {
    added_version <= manifest.gc_floor || planted(Bug::TombstonesDropped)
}

/// Takes files that have been deleted out of the list of the removed. Not those that are live again: an older version
/// that a reader has marked would lose them.
pub fn may_forget(manifest: &Manifest, files: &[String], commit_id: &str, stamp: Stamp) -> Result<Manifest, Refusal> {
    for r in manifest.removed.iter().filter(|r| files.contains(&r.file.file)) {
        // Forgotten too early, its name could be used again, and `as_of` would not find it.
        let reachable = r.at_version > manifest.retained_from || r.file.base_version >= manifest.gc_floor;
        if reachable || manifest.is_live(&r.file.file) {
            return Err(Refusal::StillNeeded(r.file.file.clone()));
        }
    }
    let mut next = manifest.clone();
    advance(&mut next, commit_id, stamp);
    next.removed.retain(|r| !files.contains(&r.file.file));
    Ok(next)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
