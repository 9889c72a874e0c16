//! Decides which files to merge. The decision depends only on the manifest.
//!
//! The policy is size-tiered, so a row is rewritten only a few times instead of at every merge:
//! - Deltas are merged together when there are many, when they are large, or when one is old.
//! - Snapshots of one tier are merged together when there are eight. Each tier is eight times as large as the one
//!   below.
//! - All files are merged when the largest snapshot is no larger than all other files together. By then, many rows of
//!   the largest snapshot may be superseded or deleted. In a collection that keeps doubling, these merges of all files
//!   rewrite each row two more times.
//!
//! A merged file must not be larger than the local copies of remote files may be. Otherwise no process could open it.
//! Fewer files are then merged, and snapshots near this limit stay as they are, with their superseded rows.

use std::collections::HashSet;

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
/// merge is due. `max_bytes` limits the size of the merged file, which is estimated.
pub fn next_group(
    manifest: &Manifest,
    now_ms: i64,
    options: &CompactionOptions,
    mode: Mode,
    max_bytes: u64,
) -> Option<(Vec<LiveFile>, &'static str)> {
    let live = &manifest.live;
    // A file that is too large by itself can take part in no merge.
    let is = |kind| move |f: &&LiveFile| f.kind == kind && estimate(f) <= max_bytes;
    let deltas: Vec<&LiveFile> = live.iter().filter(is(FileKind::Delta)).collect();
    let mut snapshots: Vec<&LiveFile> = live.iter().filter(is(FileKind::Snapshot)).collect();
    let fits = |files: &[&LiveFile]| files.iter().map(|f| estimate(f)).fold(0, u64::saturating_add) <= max_bytes;
    let group = |files: &[&LiveFile], why| {
        let names: HashSet<&str> = files.iter().map(|f| f.file.as_str()).collect();
        Some((live.iter().filter(|f| names.contains(f.file.as_str())).cloned().collect(), why))
    };

    if mode == Mode::All {
        // A single snapshot is already the result of a merge, unless its tombstones may be dropped now.
        let droppable = |s: &&LiveFile| s.tombstones > 0 && may_drop_tombstone(manifest, s.added_version);
        snapshots.sort_by_key(|s| s.bytes);
        let all = [deltas, snapshots].concat();
        let part = first_that_fit(&all, max_bytes);
        let worth = |files: &[&LiveFile]| files.len() > 1 || files.iter().any(|f| f.kind == FileKind::Delta);
        return match part.len() == all.len() {
            true if worth(part) || part.iter().any(droppable) => group(part, "everything"),
            false if worth(part) => group(part, "as many files as fit into one"),
            _ => None,
        };
    }

    let due = deltas_due(manifest, &deltas, now_ms, options);
    snapshots.sort_by_key(|s| std::cmp::Reverse(s.rows));
    if let Some((largest, files)) = with_largest(&snapshots, &deltas, fits)
        && (due.is_some() || files.len() > deltas.len() + 1)
        && files.iter().map(|f| f.rows).sum::<u64>() - largest.rows + deleted(&files, largest) >= largest.rows
    {
        return group(&files, "the other files are as large as the largest snapshot");
    }
    if let Some(why) = due {
        return group(first_that_fit(&deltas, max_bytes), why);
    }
    let tier = |f: &LiveFile| tier(f.rows, options);
    // Smallest tier first, and the smallest files of a tier first.
    snapshots.sort_by_key(|s| (tier(s), s.bytes));
    let full = snapshots.chunk_by(|a, b| tier(a) == tier(b)).filter(|same| same.len() >= options.tier_factor);
    let mergeable = full.map(|same| first_that_fit(same, max_bytes)).find(|files| files.len() > 1)?;
    group(mergeable, "a tier is full")
}

/// Returns the largest snapshot that fits into one file together with all smaller snapshots and all deltas, and these
/// files. `snapshots` begins with the largest. Returns `None` if no snapshot with rows fits.
fn with_largest<'f>(
    snapshots: &[&'f LiveFile],
    deltas: &[&'f LiveFile],
    fits: impl Fn(&[&LiveFile]) -> bool,
) -> Option<(&'f LiveFile, Vec<&'f LiveFile>)> {
    (0..snapshots.len()).find_map(|skipped| {
        let files = [snapshots.get(skipped..)?, deltas].concat();
        let largest = *files.first().filter(|largest| largest.rows > 0)?;
        fits(&files).then_some((largest, files))
    })
}

/// Returns the first files whose merged file is at most `max_bytes` large.
fn first_that_fit<'s, 'f>(files: &'s [&'f LiveFile], max_bytes: u64) -> &'s [&'f LiveFile] {
    let mut sum = 0u64;
    let fitting = files.iter().take_while(|f| {
        sum = sum.saturating_add(estimate(f));
        sum <= max_bytes
    });
    files.get(..fitting.count()).unwrap_or_default()
}

/// Returns an estimate of the number of bytes that a file adds to a merged file. A snapshot also holds the codes of the
/// vectors and the full-text index, which a delta lacks. Merging snapshots makes their indexes hardly any larger.
fn estimate(file: &LiveFile) -> u64 {
    match file.kind {
        FileKind::Delta => file.bytes.saturating_mul(2),
        FileKind::Snapshot => file.bytes.saturating_add(file.bytes / 16),
    }
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

/// Returns an estimate of the number of rows of `largest` that tombstones hide. The estimate is the number of
/// tombstones in other files times the average number of rows per document. The tombstones of `largest` itself hide
/// none of its rows, because the merge that kept the tombstones has removed the rows.
fn deleted(files: &[&LiveFile], largest: &LiveFile) -> u64 {
    let (rows, documents) = files.iter().fold((0, 0), |(r, d), f| (r + f.rows, d + f.documents));
    let others = files.iter().filter(|f| f.file != largest.file);
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
