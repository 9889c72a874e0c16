//! Tests which files are merged at what time, with tables of cases.

use super::*;
use crate::manifest::HistoryEntry;
use crate::validate::proposed;

fn options() -> CompactionOptions {
    CompactionOptions {
        deltas: 4,
        delta_bytes: 1_000,
        delta_age_seconds: 60,
        tier_factor: 4,
        smallest_tier_rows: 100,
        ..CompactionOptions::default()
    }
}

/// Returns a manifest of files with the given numbers of rows, in this order. Names of deltas begin with `d`. Each
/// file is added one second after the previous one.
fn manifest(files: &[(&str, u64)]) -> Manifest {
    let mut manifest = Manifest::empty("chunks", 0);
    for (i, (name, rows)) in files.iter().enumerate() {
        let kind = if name.starts_with('d') { FileKind::Delta } else { FileKind::Snapshot };
        let version = i as u64 + 1;
        let file = LiveFile {
            added_version: version,
            rows: *rows,
            bytes: 100,
            ..proposed((*name).into(), kind, 1, version - 1)
        };
        manifest.live.push(file);
        manifest.history.push(HistoryEntry { version, at_ms: 1_000 * version as i64 });
        manifest.version = version;
    }
    manifest
}

fn due(files: &[(&str, u64)], now_ms: i64) -> Option<String> {
    let (files, _) = next_group(&manifest(files), now_ms, &options(), Mode::Due, u64::MAX)?;
    Some(files.iter().map(|f| f.file.as_str()).collect::<Vec<_>>().join(" "))
}

#[test]
fn deltas_go_together_for_each_reason() {
    assert_eq!(due(&[("d1", 5), ("d2", 5), ("d3", 5)], 5_000), None, "few, small and young");
    assert_eq!(due(&[("d1", 5), ("d2", 5), ("d3", 5), ("d4", 5)], 5_000).as_deref(), Some("d1 d2 d3 d4"));
    assert_eq!(due(&[("d1", 5), ("d2", 5)], 61_000).as_deref(), Some("d1 d2"), "the first is a minute old");
    assert_eq!(due(&[("d1", 5)], 61_000).as_deref(), Some("d1"), "even a single file opens faster as a snapshot");
    let mut large = manifest(&[("d1", 5), ("d2", 5)]);
    large.live[0].bytes = 950;
    assert_eq!(next_group(&large, 3_000, &options(), Mode::Due, u64::MAX).map(|(_, why)| why), Some("large deltas"));
}

#[test]
fn a_large_snapshot_is_left_alone_by_small_deltas() {
    let files = [("s", 1_000), ("d1", 5), ("d2", 5), ("d3", 5), ("d4", 5)];
    assert_eq!(due(&files, 9_000).as_deref(), Some("d1 d2 d3 d4"));
}

#[test]
fn snapshots_of_a_size_go_together() {
    let small = [("a", 90), ("b", 80), ("c", 70), ("big", 5_000)];
    assert_eq!(due(&small, 9_000), None, "three of four");
    let full = [("a", 90), ("b", 80), ("c", 70), ("big", 5_000), ("e", 100), ("f", 101)];
    assert_eq!(due(&full, 9_000).as_deref(), Some("a b c e"), "101 rows are in the next tier");
}

#[test]
fn everything_goes_together_when_the_rest_is_as_large() {
    let files = [("big", 500), ("a", 300), ("b", 200)];
    assert_eq!(due(&files, 9_000).as_deref(), Some("big a b"));
    assert_eq!(due(&[("big", 500), ("a", 300), ("b", 100)], 9_000), None);
    assert_eq!(due(&[("s", 10), ("d1", 10)], 9_000), None, "young deltas wait, whatever their size");
    let mut deleted = manifest(&[("big", 500), ("a", 10)]);
    deleted.live[0].documents = 50;
    assert!(next_group(&deleted, 9_000, &options(), Mode::Due, u64::MAX).is_none());
    deleted.live[1].tombstones = 49;
    assert_eq!(
        next_group(&deleted, 9_000, &options(), Mode::Due, u64::MAX).map(|(f, _)| f.len()),
        Some(2),
        "nearly all is gone"
    );
}

/// Checks that kept tombstones do not make each merge of deltas rewrite the whole collection. The tombstones of the
/// largest snapshot hide no row of this snapshot.
#[test]
fn tombstones_that_were_merged_are_no_reason_to_rewrite_everything() {
    let mut m = manifest(&[("s", 500), ("d1", 5), ("d2", 5), ("d3", 5), ("d4", 5)]);
    (m.live[0].documents, m.live[0].tombstones) = (50, 1_000);
    let names = |m: &Manifest| -> Vec<String> {
        let (files, _) = next_group(m, 9_000, &options(), Mode::Due, u64::MAX).unwrap();
        files.into_iter().map(|f| f.file).collect()
    };
    assert_eq!(names(&m), ["d1", "d2", "d3", "d4"]);
    // Tombstones in other files may hide most of the rows of the largest snapshot.
    m.live[2].tombstones = 49;
    assert_eq!(names(&m).len(), 5);
}

#[test]
fn all_means_all_unless_nothing_would_change() {
    let all =
        |files: &[(&str, u64)]| next_group(&manifest(files), 0, &options(), Mode::All, u64::MAX).map(|(f, _)| f.len());
    assert_eq!(all(&[("s", 10), ("d1", 5)]), Some(2));
    assert_eq!(all(&[("d1", 5)]), Some(1));
    assert_eq!(all(&[("s", 10)]), None);
    assert_eq!(all(&[]), None);
    let mut deleted = manifest(&[("s", 10)]);
    deleted.live[0].tombstones = 1;
    assert!(next_group(&deleted, 0, &options(), Mode::All, u64::MAX).is_none(), "the tombstone is still needed");
    deleted.gc_floor = 1;
    assert!(next_group(&deleted, 0, &options(), Mode::All, u64::MAX).is_some(), "a tombstone may be dropped");
}

/// Checks that every row is rewritten only a few times, however long the collection grows. This is the purpose of
/// tiers.
#[test]
fn rows_are_written_a_few_times() {
    let options = CompactionOptions { deltas: 16, smallest_tier_rows: 1_000, tier_factor: 8, ..options() };
    let mut m = Manifest::empty("chunks", 0);
    let (mut written, mut name) = (0, 0);
    let mut most_files = 0;
    for _ in 0..10_000 {
        name += 1;
        let file = proposed(format!("d{name}"), FileKind::Delta, 1, 0);
        m.live.push(LiveFile { rows: 100, bytes: 1, ..file });
        while let Some((group, _)) = next_group(&m, 0, &options, Mode::Due, u64::MAX) {
            let rows = group.iter().map(|f| f.rows).sum();
            written += rows;
            m.live.retain(|f| !group.iter().any(|g| g.file == f.file));
            name += 1;
            m.live.push(LiveFile { rows, bytes: 1, ..proposed(format!("s{name}"), FileKind::Snapshot, 1, 0) });
        }
        most_files = most_files.max(m.live.len());
    }
    let amplification = written as f64 / 1e6;
    println!("a million rows in commits of 100: each is written {amplification:.2} times, {most_files} files at most");
    assert!(amplification < 7.0 && most_files < 60, "{amplification} {most_files}");
}
