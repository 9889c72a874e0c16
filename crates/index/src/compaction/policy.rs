//! Decides which files to merge. The decision depends only on the manifest.
//!
//! The policy is size-tiered, so a row is rewritten only a few times instead of at every merge:
//! - Deltas are merged together when there are many, when they are large, or when one is old.
//! - Snapshots of one tier are merged together when there are eight. Each tier is eight times as large as the one
//!   below.
//! - All files are merged when the largest snapshot is no larger than all other files together. By then, many rows of
//!   the largest snapshot may be superseded or deleted. In a collection that keeps doubling, these merges of all files
//!   rewrite each row two more times.

use super::options::CompactionOptions;
use crate::manifest::{FileKind, LiveFile, Manifest};
use crate::retention::may_drop_tombstone;

/// Selects how much to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Merges only the files that are due for a merge.
    Due,
    /// Merges all files into one.
    All,
}

/// Returns the files to merge next, in the manifest's order, and the reason for this merge. Returns `None` if no
/// merge is due.
pub fn next_group(
    manifest: &Manifest,
    now_ms: i64,
    options: &CompactionOptions,
    mode: Mode,
) -> Option<(Vec<LiveFile>, &'static str)> {
    let live = &manifest.live;
    let is = |kind| move |f: &&LiveFile| f.kind == kind;
    let deltas: Vec<&LiveFile> = live.iter().filter(is(FileKind::Delta)).collect();
    let snapshots: Vec<&LiveFile> = live.iter().filter(is(FileKind::Snapshot)).collect();
    let group = |files: Vec<&LiveFile>, why| Some((files.into_iter().cloned().collect(), why));

    if mode == Mode::All {
        // A single snapshot is already the result of a merge, unless its tombstones may be dropped now.
        let droppable = |s: &&LiveFile| s.tombstones > 0 && may_drop_tombstone(manifest, s.added_version);
        let worth = !deltas.is_empty() || snapshots.len() > 1 || snapshots.iter().any(droppable);
        return if worth { group(live.iter().collect(), "everything") } else { None };
    }

    let rows = |files: &[&LiveFile]| files.iter().map(|f| f.rows).sum::<u64>();
    let due = deltas_due(manifest, &deltas, now_ms, options);
    let largest = snapshots.iter().max_by_key(|s| s.rows);
    if let Some(largest) = largest.filter(|largest| largest.rows > 0)
        && (due.is_some() || snapshots.len() > 1)
        && rows(&snapshots) + rows(&deltas) - largest.rows + deleted(live, largest) >= largest.rows
    {
        return group(live.iter().collect(), "the other files are as large as the largest snapshot");
    }
    if let Some(why) = due {
        return group(deltas, why);
    }
    let tier = |f: &LiveFile| tier(f.rows, options);
    let mut tiers: Vec<u32> = snapshots.iter().map(|s| tier(s)).collect();
    tiers.sort_unstable();
    let full = tiers.chunk_by(|a, b| a == b).find(|same| same.len() >= options.tier_factor)?.first().copied()?;
    group(snapshots.into_iter().filter(|s| tier(s) == full).collect(), "a tier is full")
}

fn deltas_due(
    manifest: &Manifest,
    deltas: &[&LiveFile],
    now_ms: i64,
    options: &CompactionOptions,
) -> Option<&'static str> {
    if deltas.len() >= options.deltas {
        return Some("many deltas");
    }
    if deltas.len() > 1 && deltas.iter().map(|d| d.bytes).sum::<u64>() >= options.delta_bytes {
        return Some("large deltas");
    }
    let age = i64::try_from(options.delta_age_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    // A history that was thinned out may lack the version itself. The next listed version is later, so the delta
    // looks younger.
    let came =
        |d: &LiveFile| manifest.history.iter().find(|h| h.version >= d.added_version).map_or(now_ms, |h| h.at_ms);
    deltas.iter().any(|d| now_ms.saturating_sub(came(d)) >= age).then_some("old deltas")
}

/// Returns an estimate of the number of rows of `largest` that tombstones hide. The estimate is the number of tombstones
/// in other files times the average number of rows per document. The tombstones of `largest` itself hide none of its
/// rows, because the merge that kept the tombstones has removed the rows.
fn deleted(live: &[LiveFile], largest: &LiveFile) -> u64 {
    let (rows, documents) = live.iter().fold((0, 0), |(r, d), f| (r + f.rows, d + f.documents));
    let others = live.iter().filter(|f| f.file != largest.file);
    others.map(|f| f.tombstones).sum::<u64>().saturating_mul(rows.div_ceil(documents.max(1)))
}

/// Returns the tier to which a snapshot with `rows` rows belongs. Tier 0 holds up to `smallest_tier_rows` rows per
/// snapshot, and each further tier holds `tier_factor` times as many as the tier below.
fn tier(rows: u64, options: &CompactionOptions) -> u32 {
    let mut size = options.smallest_tier_rows.max(1);
    let mut tier = 0;
    while rows > size {
        size = size.saturating_mul(options.tier_factor as u64);
        tier += 1;
    }
    tier
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
