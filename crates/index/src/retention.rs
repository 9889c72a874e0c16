//! Decides which past versions are kept and which files may be deleted.
//!
//! The manifest has two horizons. A horizon is a version number that can only rise:
//!
//! | horizon | versions below it | purpose |
//! | --- | --- | --- |
//! | `gc_floor` | cannot be the base of a commit | orphans (staged, never listed) may be deleted, tombstones dropped |
//! | `retained_from` | cannot be viewed or rolled back to | files that only these versions list may be deleted |
//!
//! Clocks determine only how far a horizon is *raised*. Whether a file may be deleted depends only on the horizons. A
//! file that may be deleted now may therefore be deleted at any later time, and a collector that was suspended for a
//! day can safely resume.

use serde::{Deserialize, Serialize};

use super::manifest::{FileKind, Manifest, ManifestVersion};
use super::planted::{SkippedRule, planted};
use super::validate::{Refusal, Stamp, advance};

/// Holds the two horizons of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Horizons {
    pub gc_floor: ManifestVersion,
    pub retained_from: ManifestVersion,
}

/// Configures how long past versions are kept: `[retention]` of config.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionOptions {
    /// Number of newest snapshots that stay available for rollback. All versions since the oldest of these snapshots
    /// stay available too.
    pub snapshots: usize,
    /// Time, in seconds, during which every past version stays available for rollback. The files of these versions
    /// take up space, including the deltas that were already merged.
    pub merged_seconds: u64,
    /// Maximum number of merged files that are kept, so that the manifest stays small. In a busy collection, this
    /// limit can remove old versions before `merged_seconds` has passed.
    pub max_files: usize,
    /// Maximum duration of a commit or a merge, in seconds. Files that were staged but not committed within this time
    /// are deleted.
    pub staged_seconds: u64,
    /// Time, in seconds, after which a reader's pin expires if the reader does not renew it. A pinned version is not
    /// deleted.
    pub pin_seconds: u64,
    /// Interval between two searches for files to delete, in seconds.
    #[serde(skip)]
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
    /// Returns the invalid fields, each with a description of the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must be between {low} and {high}, not {value}")));
            }
        };
        const TEN_YEARS: u64 = 315_360_000;
        range("snapshots", self.snapshots as u64, 0, 1_000);
        range("merged_seconds", self.merged_seconds, 0, TEN_YEARS);
        range("max_files", self.max_files as u64, 10, 1_000_000);
        range("staged_seconds", self.staged_seconds, 1, TEN_YEARS);
        range("pin_seconds", self.pin_seconds, 10, 604_800);
        found
    }
}

impl Manifest {
    pub fn horizons(&self) -> Horizons {
        Horizons { gc_floor: self.gc_floor, retained_from: self.retained_from }
    }

    /// Returns the version that was current at the given time, in Unix milliseconds. Returns `None` if the history
    /// begins after this time.
    fn current_at(&self, ms: i64) -> Option<ManifestVersion> {
        self.history.iter().rev().find(|h| h.at_ms <= ms).map(|h| h.version)
    }
}

/// Returns the highest horizons that the retention options allow now. Returns `None` if the manifest already has
/// these horizons.
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

/// Returns the version to which both horizons must rise so that at most `most` removed files are kept. Returns 0 if
/// no more than `most` files are listed as removed. Otherwise the files that were removed first are surplus, and the
/// result is the version that removed the newest surplus file. All surplus files were staged before this version, so
/// they become garbage.
fn newest_given_up(manifest: &Manifest, most: usize) -> ManifestVersion {
    let mut versions: Vec<_> = manifest.removed.iter().map(|r| r.at_version).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.get(most).copied().unwrap_or_default()
}

/// Returns the version in which the oldest kept snapshot was added. The `keep` newest snapshots are kept; if there
/// are fewer snapshots, all are kept. Returns the current version if there is no snapshot or `keep` is 0.
fn oldest_snapshot_kept(manifest: &Manifest, keep: usize) -> ManifestVersion {
    let snapshots = manifest.files().filter(|f| f.kind == FileKind::Snapshot);
    let mut versions: Vec<_> = snapshots.map(|f| f.added_version).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.dedup();
    let oldest = keep.checked_sub(1).and_then(|last| versions.get(last.min(versions.len().saturating_sub(1))));
    oldest.copied().unwrap_or(manifest.version)
}

/// Returns the next manifest, with its horizons raised to `to`, or the reason for a refusal. Also removes the entry
/// of each writer whose last commit is below the new `gc_floor`. The entry served to recognise a repeated commit. It
/// is no longer needed, because a commit that was staged below `gc_floor` is refused anyway.
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

/// Returns whether the horizons allow the deletion of a file. `base_version` is the manifest version that the commit
/// or merge had read before it wrote the file. The caller must also check that no reader has pinned the file.
pub fn is_garbage(manifest: &Manifest, file: &str, base_version: ManifestVersion) -> bool {
    let reachable = |r: &super::manifest::RemovedFile| r.file.file == file && r.at_version > manifest.retained_from;
    !manifest.is_live(file) && base_version < manifest.gc_floor && !manifest.removed.iter().any(reachable)
}

/// Returns whether a merge may drop a tombstone. `added_version` is the manifest version in which the tombstone became
/// live. Merges keep this version. A tombstone may be dropped once all commits that were staged before `added_version`
/// are refused. Until then, such a commit could restore the deleted document. The caller also checks that no other live
/// file holds an older version of the deleted document.
pub fn may_drop_tombstone(manifest: &Manifest, added_version: ManifestVersion) -> bool {
    added_version <= manifest.gc_floor || planted(SkippedRule::TombstonesDropped)
}

/// Returns the next manifest without the entries of the given deleted files, or the reason for a refusal. Refuses to
/// remove the entry of a file that is not garbage. A rollback may have made this file live again, and a reader that
/// has pinned an older version needs the entry to find the file.
pub fn may_forget(manifest: &Manifest, files: &[String], commit_id: &str, stamp: Stamp) -> Result<Manifest, Refusal> {
    for r in manifest.removed.iter().filter(|r| files.contains(&r.file.file)) {
        // If an entry were removed too early, the name could be reused, and `as_of` would not find the file.
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
