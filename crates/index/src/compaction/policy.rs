//! Which files to merge: a decision on the manifest alone.
//!
//! Size-tiered, so that a row is written a few times and not at every merge:
//! - deltas go together when there are many, when they are large, or when one has waited long;
//! - snapshots of one size (a factor of eight) go together when there are eight of them;
//! - everything goes together when all that is not in the largest snapshot is as large as that: it may be full of rows
//!   that were replaced or deleted, and doubling costs each row two more writes over the life of a collection.

use super::options::CompactionOptions;
use crate::manifest::{FileKind, LiveFile, Manifest};

/// How much is to be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What has become due.
    Due,
    /// Everything into one file.
    All,
}

/// The files to merge next, in the manifest's order, and why; `None` where nothing is due.
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
        // A single snapshot with nothing to leave out is what a merge would make.
        let worth = !deltas.is_empty() || snapshots.len() > 1 || snapshots.iter().any(|s| s.tombstones > 0);
        return if worth { group(live.iter().collect(), "everything") } else { None };
    }

    let rows = |files: &[&LiveFile]| files.iter().map(|f| f.rows).sum::<u64>();
    let due = deltas_due(manifest, &deltas, now_ms, options);
    let largest = snapshots.iter().map(|s| s.rows).max();
    if let Some(largest) = largest.filter(|&largest| largest > 0)
        && (due.is_some() || snapshots.len() > 1)
        && rows(&snapshots) + rows(&deltas) - largest + deleted(live) >= largest
    {
        return group(live.iter().collect(), "the rest is as large as the largest snapshot");
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
    // A thinned history may have lost the version itself: the next one it has is later, so a delta looks younger.
    let came =
        |d: &LiveFile| manifest.history.iter().find(|h| h.version >= d.added_version).map_or(now_ms, |h| h.at_ms);
    deltas.iter().any(|d| now_ms.saturating_sub(came(d)) >= age).then_some("old deltas")
}

/// Rows that tombstones hide, guessed by how many a document has.
fn deleted(live: &[LiveFile]) -> u64 {
    let (rows, documents) = live.iter().fold((0, 0), |(r, d), f| (r + f.rows, d + f.documents));
    live.iter().map(|f| f.tombstones).sum::<u64>().saturating_mul(rows.div_ceil(documents.max(1)))
}

/// 0 up to the smallest size, one more for each factor.
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
