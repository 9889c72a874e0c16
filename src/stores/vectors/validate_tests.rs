//! Tables of the protocol's decisions.

use super::*;
use crate::stages::model::Metric;

const STAMP: Stamp = Stamp { now: 1_000_000, history_entries: 64 };

fn model(id: &str) -> ModelIdentity {
    ModelIdentity { id: id.into(), weights: "w".into(), dimension: 3, metric: Metric::Cosine }
}

fn append(file: &str, base: u64, writer: &str, sequence: u64) -> Append {
    Append {
        file: proposed(file.into(), FileKind::Delta, 1, base),
        model: Some(model("m")),
        writer: writer.into(),
        sequence,
        commit_id: format!("{writer}-{sequence}"),
    }
}

fn install(file: &str, base: u64, inputs: &[&str], epoch: u64) -> Install {
    Install {
        snapshot: proposed(file.into(), FileKind::Snapshot, 1, base),
        inputs: inputs.iter().map(|s| s.to_string()).collect(),
        epoch,
        commit_id: file.into(),
    }
}

/// Version 3: files a, b, c by writers u, v, u.
fn three() -> Manifest {
    let mut m = Manifest::empty("chunks", 0);
    for (i, (file, writer, seq)) in [("a", "u", 1), ("b", "v", 1), ("c", "u", 2)].into_iter().enumerate() {
        let stamp = Stamp { now: 1_000_000 * (i as i64 + 1), ..STAMP };
        m = may_append(&m, &append(file, i as u64, writer, seq), stamp).unwrap();
    }
    m
}

#[test]
fn an_append_adds_one_file_and_one_version() {
    let m = three();
    assert_eq!((m.version, m.live.len(), m.model()), (3, 3, Some(&model("m"))));
    assert_eq!(m.live.iter().map(|f| f.added_version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(m.writers["u"], WriterMark { last_seq: 2, at_version: 3 });
    assert_eq!(m.commit_id, "u-2");
    assert_eq!(m.history.iter().map(|h| (h.version, h.at_ms)).collect::<Vec<_>>(), [(1, 1000), (2, 2000), (3, 3000)]);
}

#[test]
fn appends_are_refused_for_each_reason() {
    let mut m = three();
    m.gc_floor = 2;
    let other_generation = {
        let mut a = append("d", 3, "u", 3);
        a.file.generation = 2;
        a
    };
    let other_model = Append { model: Some(model("other")), ..append("d", 3, "u", 3) };
    let mut removed = m.clone();
    removed.removed.push(RemovedFile { file: removed.live.remove(0), at_version: 3, at_ms: 0 });
    let table: Vec<(&Manifest, Append, Refusal)> = vec![
        (&m, append("d", 3, "u", 2), Refusal::AlreadyCommitted { last_seq: 2 }),
        (&m, append("d", 3, "u", 1), Refusal::AlreadyCommitted { last_seq: 2 }),
        (&m, append("d", 1, "u", 3), Refusal::BelowFloor { base: 1, floor: 2 }),
        (&m, append("d", 4, "u", 3), Refusal::FromTheFuture { base: 4, version: 3 }),
        (&m, other_generation, Refusal::OtherGeneration { file: 2, manifest: 1 }),
        (&m, other_model, Refusal::OtherModel { stored: Box::new(model("m")), given: Box::new(model("other")) }),
        (&m, append("b", 3, "u", 3), Refusal::NameReused("b".into())),
        (&removed, append("a", 3, "u", 3), Refusal::NameReused("a".into())),
    ];
    for (manifest, a, refusal) in table {
        assert_eq!(may_append(manifest, &a, STAMP), Err(refusal));
    }
    assert!(may_append(&m, &append("d", 2, "u", 3), STAMP).is_ok(), "exactly at the floor is allowed");
    let no_vectors = Append { model: None, ..append("d", 3, "u", 3) };
    assert_eq!(may_append(&m, &no_vectors, STAMP).unwrap().model(), Some(&model("m")), "a delete fits every model");
}

#[test]
fn a_lost_reply_is_resolved_by_sequence_or_commit_id() {
    let m = three();
    let table = [
        (append("c", 2, "u", 2), Resolution::Committed { version: 3 }),
        (append("a", 0, "u", 1), Resolution::Committed { version: 1 }),
        (append("d", 3, "u", 3), Resolution::NotCommitted),
        (append("d", 3, "w", 1), Resolution::NotCommitted),
        (Append { commit_id: "u-2".into(), ..append("c", 2, "w", 9) }, Resolution::Committed { version: 3 }),
    ];
    for (a, expected) in table {
        assert_eq!(resolve_unknown(&m, &a), expected);
    }
}

#[test]
fn a_snapshot_takes_the_place_of_its_inputs_and_of_nothing_else() {
    let m = three();
    let next = may_install_snapshot(&m, &install("s", 2, &["a", "b"], 5), STAMP).unwrap();
    assert_eq!(next.live.iter().map(|f| f.file.as_str()).collect::<Vec<_>>(), ["c", "s"]);
    assert_eq!((next.version, next.epoch, next.removed.len()), (4, 5, 2));
    assert!(next.removed.iter().all(|r| r.at_version == 4));
    assert_eq!(next.live_at(3).len(), 3, "the version before can still be told");

    let mut floored = m.clone();
    floored.gc_floor = 3;
    let table = [
        (&next, install("t", 4, &["c", "s"], 4), Refusal::StaleEpoch { epoch: 4, manifest: 5 }),
        (&next, install("t", 4, &["a", "c"], 5), Refusal::InputNotLive("a".into())),
        (&m, install("t", 2, &["a", "c"], 5), Refusal::InputNotLive("c".into())),
        (&m, install("t", 3, &[], 5), Refusal::NoInputs),
        (&floored, install("t", 2, &["a"], 5), Refusal::BelowFloor { base: 2, floor: 3 }),
        (&m, install("t", 9, &["a"], 5), Refusal::FromTheFuture { base: 9, version: 3 }),
        (&m, install("c", 3, &["a"], 5), Refusal::NameReused("c".into())),
    ];
    for (manifest, i, refusal) in table {
        assert_eq!(may_install_snapshot(manifest, &i, STAMP), Err(refusal));
    }
}

#[test]
fn the_floor_rises_to_the_version_that_was_current_before_the_grace() {
    let m = three();
    for (now, grace, expected) in
        [(3000, 0, Some(3)), (3000, 500, Some(2)), (3000, 1000, Some(2)), (3000, 2500, None), (9000, 100, Some(3))]
    {
        assert_eq!(floor_after_grace(&m, now, grace), expected, "now {now}, grace {grace}");
    }
    let next = may_raise_floor(&m, 3, "gc", STAMP).unwrap();
    assert_eq!((next.version, next.gc_floor), (4, 3));
    assert_eq!(next.writers.keys().collect::<Vec<_>>(), ["u"], "v has done nothing since version 2");
    assert_eq!(floor_after_grace(&next, 3000, 0), Some(4), "times never run backwards");
    for asked in [0, 3, 5] {
        let refusal = Refusal::FloorOutOfRange { asked, floor: 3, version: 4 };
        assert_eq!(may_raise_floor(&next, asked, "gc", STAMP), Err(refusal));
    }
}

#[test]
fn garbage_is_what_nobody_can_need_any_more() {
    let m =
        may_install_snapshot(&three(), &install("s", 2, &["a", "b"], 1), Stamp { now: 4_000_000, ..STAMP }).unwrap();
    let m = may_raise_floor(&m, 3, "gc", Stamp { now: 5_000_000, ..STAMP }).unwrap();
    let table = [
        ("c", 2, 9_000, false, "live"),
        ("s", 2, 9_000, false, "live"),
        ("a", 0, 4_500, false, "a reader of the version before may still be at it"),
        ("a", 0, 5_000, true, "merged and past the grace"),
        ("orphan", 2, 5_000, true, "staged below the floor and never committed"),
        ("fresh", 3, 9_000, false, "may still commit"),
    ];
    for (file, base, now, expected, why) in table {
        assert_eq!(is_garbage(&m, file, base, now, 1_000), expected, "{file}: {why}");
    }
    let forgotten = may_forget(&m, &["a".into()], "gc", STAMP).unwrap();
    assert_eq!(forgotten.removed.iter().map(|r| r.file.file.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(may_forget(&m, &["c".into()], "gc", STAMP), Err(Refusal::StillNeeded("c".into())));
}

#[test]
fn versions_win_and_commits_do_not() {
    let p = |version, tombstone, file| Precedence { version, tombstone, file };
    let ordered = [p(1, false, "z"), p(1, true, "a"), p(2, false, "a"), p(2, false, "b"), p(2, true, "a")];
    assert!(ordered.is_sorted());
}
