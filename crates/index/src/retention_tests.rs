//! Tests which versions are kept and which files may be deleted, with tables of cases.

use super::*;
use crate::validate::{Append, Install, may_append, may_install_snapshot, may_roll_back, proposed};

const KEEP: RetentionOptions = RetentionOptions {
    snapshots: 2,
    merged_seconds: 100,
    max_files: 9,
    staged_seconds: 10,
    pin_seconds: 60,
    poll_seconds: 600,
};

fn at(second: i64) -> Stamp {
    Stamp { now: second * 1_000_000, history_entries: 64 }
}

fn append(m: &Manifest, file: &str, writer: &str, second: i64) -> Manifest {
    let sequence = m.writers.get(writer).map_or(1, |w| w.last_seq + 1);
    let file = proposed(file.into(), FileKind::Delta, 1, m.version);
    let commit_id = file.file.clone();
    may_append(m, &Append { file, model: None, writer: writer.into(), sequence, commit_id }, at(second)).unwrap()
}

fn merge(m: &Manifest, file: &str, inputs: &[&str], second: i64) -> Manifest {
    let snapshot = Some(proposed(file.into(), FileKind::Snapshot, 1, m.version));
    let inputs = inputs.iter().map(|s| s.to_string()).collect();
    let install = Install { snapshot, base_version: m.version, inputs, epoch: 1, commit_id: file.into() };
    may_install_snapshot(m, &install, at(second)).unwrap()
}

/// Returns a manifest at version 4. Writer u adds file a at 1 s, writer v adds b at 2 s, snapshot s replaces both at
/// 3 s, and writer u adds c at 4 s.
fn four() -> Manifest {
    let m = append(&Manifest::empty("chunks", 0), "a", "u", 1);
    let m = append(&m, "b", "v", 2);
    append(&merge(&m, "s", &["a", "b"], 3), "c", "u", 4)
}

#[test]
fn horizons_follow_the_clock_and_the_number_of_snapshots() {
    let m = four();
    let table = [
        (4, None, "nothing is old"),
        (12, Some((2, 0)), "files staged before 2 s may not commit"),
        (103, Some((4, 3)), "the version of the only snapshot is kept"),
        (9_999, Some((4, 3)), "however old it is"),
    ];
    for (second, expected, why) in table {
        let expected = expected.map(|(gc_floor, retained_from)| Horizons { gc_floor, retained_from });
        assert_eq!(due(&m, second * 1000, &KEEP), expected, "{why}");
    }
    let none = RetentionOptions { snapshots: 0, ..KEEP };
    assert_eq!(due(&m, 9_999_000, &none), Some(Horizons { gc_floor: 4, retained_from: 4 }));
    let m = merge(&m, "t", &["s", "c"], 5);
    assert_eq!(due(&m, 9_999_000, &KEEP).map(|h| h.retained_from), Some(3), "two snapshots");
    let m = merge(&append(&m, "d", "u", 6), "w", &["t", "d"], 7);
    assert_eq!(due(&m, 9_999_000, &KEEP).map(|h| h.retained_from), Some(5), "the newer two of three");
    assert_eq!(due(&m, 50_000, &KEEP).map(|h| h.retained_from), Some(0), "all versions of the last 100 s");
}

/// Checks that removed files above the limit are dropped, even if they were removed recently. The whole manifest is
/// rewritten with each commit, so it must stay small. It cannot list all files that a busy collection merges in a
/// week.
#[test]
fn more_files_than_may_be_kept_are_given_up() {
    let mut m = Manifest::empty("chunks", 0);
    for n in 0..30 {
        m = append(&m, &format!("d{n}"), "u", 1);
        m = append(&m, &format!("e{n}"), "u", 1);
        m = merge(&m, &format!("s{n}"), &[&format!("d{n}"), &format!("e{n}")], 1);
    }
    assert_eq!(m.removed.len(), 60);
    let few = RetentionOptions { max_files: 60, ..KEEP };
    assert_eq!(due(&m, 1_000, &few), None);
    // The 51st newest was removed by the fifth merge, which made version 15.
    let few = RetentionOptions { max_files: 50, ..KEEP };
    let to = due(&m, 1_000, &few).unwrap();
    assert_eq!(to, Horizons { gc_floor: 15, retained_from: 15 });
    let m = may_raise(&m, to, "gc", at(1)).unwrap();
    let gone: Vec<String> = (0..5).flat_map(|n| [format!("d{n}"), format!("e{n}")]).collect();
    assert!(gone.iter().all(|file| is_garbage(&m, file, 14)));
    let m = may_forget(&m, &gone, "forget", at(1)).unwrap();
    assert_eq!(m.removed.len(), 50);
    assert_eq!(due(&m, 1_000, &few), None);
}

/// Checks that the retention ends in a busy collection. The manifest lists far fewer versions than it has, and the
/// listed version that the retention needs must be among them at any time.
#[test]
fn a_busy_collection_gives_up_versions_that_are_old_enough() {
    const HOUR: i64 = 3_600;
    let options = RetentionOptions { snapshots: 0, ..RetentionOptions::default() };
    // Twenty thousand versions in fourteen days, evenly spread or in a burst at the beginning of each hour.
    for spread in [true, false] {
        let mut m = Manifest::empty("chunks", 0);
        for n in 0..20_160 {
            let second = if spread { n * 60 } else { n / 60 * HOUR + n % 60 };
            advance(&mut m, "commit", Stamp { now: second * 1_000_000, history_entries: 256 });
            if second > 9 * 24 * HOUR && n % 100 == 0 {
                let to = due(&m, second * 1_000, &options).unwrap();
                let minutes = |version: ManifestVersion| (n - version as i64 + 1) as f64;
                let (retained, floor) = (minutes(to.retained_from), minutes(to.gc_floor));
                let (week, day) = (7.0 * 1_440.0, 1_440.0);
                assert!(retained > week - 61.0 && retained < 1.2 * week, "{n}: retained for {retained} minutes");
                assert!(floor > day - 61.0 && floor < 1.2 * day, "{n}: floor {floor} minutes ago");
            }
        }
        assert!(m.history.len() <= 256);
    }
}

#[test]
fn horizons_only_rise() {
    let m = four();
    let to = |gc_floor, retained_from| Horizons { gc_floor, retained_from };
    let next = may_raise(&m, to(3, 2), "gc", at(9)).unwrap();
    assert_eq!((next.version, next.horizons()), (5, to(3, 2)));
    assert_eq!(next.writers.keys().collect::<Vec<_>>(), ["u"], "v has done nothing since version 2");
    for asked in [to(3, 2), to(2, 3), to(4, 1), to(7, 2), to(3, 7)] {
        assert!(matches!(may_raise(&next, asked, "gc", at(9)), Err(Refusal::HorizonOutOfRange { .. })), "{asked:?}");
    }
    let top = may_raise(&next, to(6, 6), "gc", at(9)).unwrap();
    assert_eq!(top.version, 6, "up to the version that it makes");
}

#[test]
fn garbage_is_what_nobody_can_need_any_more() {
    let m = four();
    let raised = |gc_floor, retained_from| may_raise(&m, Horizons { gc_floor, retained_from }, "gc", at(9)).unwrap();
    let table = [
        ("c", 3, raised(5, 5), false, "live"),
        ("a", 0, raised(5, 2), false, "version 2 lists it and is kept"),
        ("a", 0, raised(5, 3), true, "no retained version lists it"),
        ("orphan", 3, raised(3, 0), false, "may still commit"),
        ("orphan", 3, raised(4, 0), true, "staged below the floor and never listed"),
    ];
    for (file, base, manifest, expected, why) in table {
        assert_eq!(is_garbage(&manifest, file, base), expected, "{file}: {why}");
    }
    let m = raised(5, 3);
    let forgotten = may_forget(&m, &["a".into()], "gc", at(9)).unwrap();
    assert_eq!(forgotten.removed.iter().map(|r| r.file.file.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(may_forget(&raised(5, 2), &["a".into()], "gc", at(9)), Err(Refusal::StillNeeded("a".into())));
}

#[test]
fn what_is_live_again_is_no_garbage_and_is_not_forgotten() {
    let back = may_roll_back(&four(), 2, "back", at(5)).unwrap();
    let m = may_raise(&back, Horizons { gc_floor: 6, retained_from: 6 }, "gc", at(6)).unwrap();
    assert!(!is_garbage(&m, "a", 0) && is_garbage(&m, "s", 2) && is_garbage(&m, "c", 3));
    // A reader that pinned version 3, when both were removed, still needs the entries.
    assert_eq!(may_forget(&m, &["a".into(), "s".into()], "gc", at(7)), Err(Refusal::StillNeeded("a".into())));
    let forgotten = may_forget(&m, &["s".into(), "c".into()], "gc", at(7)).unwrap();
    assert_eq!((forgotten.live.len(), forgotten.removed.len()), (2, 2));
    assert!(Manifest::parse("k", &forgotten.to_bytes()).is_ok());
}
