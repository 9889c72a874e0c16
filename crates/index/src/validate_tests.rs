//! Tests the rules of the protocol, with tables of cases.

use docweir_core::model::Metric;

use super::*;

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
        snapshot: Some(proposed(file.into(), FileKind::Snapshot, 1, base)),
        base_version: base,
        inputs: inputs.iter().map(|s| s.to_string()).collect(),
        epoch,
        commit_id: file.into(),
    }
}

/// Returns a manifest at version 3. Writer u has added file a, writer v file b, and writer u file c.
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

/// Checks that a collection stays writable however many writers it has had. The whole manifest is rewritten with each
/// commit, so its list of writers must be limited.
#[test]
fn the_list_of_writers_is_limited_and_no_commit_is_applied_twice() {
    let mut m = Manifest::empty("chunks", 0);
    for n in 0..5_000 {
        // One writer commits again and again, and each of the others once.
        m = may_append(&m, &append(&format!("a{n}"), m.version, "always", n + 1), STAMP).unwrap();
        m = may_append(&m, &append(&format!("f{n}"), m.version, &format!("w{n}"), 1), STAMP).unwrap();
        m.live.clear();
        assert!(m.writers.len() <= 512, "{}", m.writers.len());
    }
    assert!(m.writers.len() > 256 && m.writers.contains_key("always"));
    // A commit whose reply was lost is either recognised or refused, even if its file is no longer listed.
    for n in 0..5_000 {
        let again = append(&format!("f{n}"), 2 * n + 1, &format!("w{n}"), 1);
        match may_append(&m, &again, STAMP).unwrap_err() {
            Refusal::AlreadyCommitted { last_seq: 1 } => assert!(n > 4_000),
            Refusal::BelowFloor { .. } => assert!(n < 4_999),
            other => panic!("{n}: {other:?}"),
        }
    }
}

/// Checks that a commit which is so old that the list of writers has no room for it starts again.
#[test]
fn a_commit_below_the_floor_that_it_would_raise_is_refused() {
    let mut m = Manifest::empty("chunks", 0);
    for n in 0..512 {
        m = may_append(&m, &append(&format!("f{n}"), m.version, &format!("w{n}"), 1), STAMP).unwrap();
    }
    assert_eq!((m.gc_floor, m.writers.len()), (0, 512));
    let late = may_append(&m, &append("late", 0, "late", 1), STAMP).map(|next| next.version);
    assert!(matches!(late, Err(Refusal::BelowFloor { base: 0, floor }) if floor > 0), "{late:?}");
    let next = may_append(&m, &append("late", 512, "late", 1), STAMP).unwrap();
    assert_eq!((next.writers.len(), next.horizons().retained_from), (384, 0));
    assert!(next.writers.values().all(|mark| mark.at_version >= next.gc_floor));
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
    let back = may_roll_back(&m, 2, "back", STAMP).unwrap();
    assert_eq!(resolve_unknown(&back, &append("c", 2, "u", 2)), Resolution::Overtaken, "undone before the reply");
    assert_eq!(resolve_unknown(&back, &append("a", 0, "u", 1)), Resolution::Committed { version: 1 });
}

#[test]
fn a_snapshot_takes_the_place_of_its_inputs_and_of_nothing_else() {
    let m = three();
    let next = may_install_snapshot(&m, &install("s", 2, &["a", "b"], 5), STAMP).unwrap();
    assert_eq!(next.live.iter().map(|f| f.file.as_str()).collect::<Vec<_>>(), ["c", "s"]);
    assert_eq!((next.version, next.epoch, next.removed.len()), (4, 5, 2));
    assert!(next.removed.iter().all(|r| r.at_version == 4));
    assert_eq!(next.live_at(3).len(), 3, "the previous version can still be derived");

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
fn inputs_of_which_nothing_is_left_go_without_a_snapshot() {
    let m = three();
    let nothing = Install { snapshot: None, ..install("s", 2, &["a", "b"], 1) };
    let next = may_install_snapshot(&m, &nothing, STAMP).unwrap();
    assert_eq!((next.live.len(), next.removed.len()), (1, 2));
    assert!(is_installed(&next, &nothing) && !is_installed(&m, &nothing));
}

#[test]
fn an_installation_is_recognised_for_as_long_as_it_is_known() {
    let m = three();
    let first = install("s", 2, &["a", "b"], 1);
    let next = may_install_snapshot(&m, &first, STAMP).unwrap();
    let later = may_install_snapshot(&next, &install("t", 4, &["s", "c"], 1), STAMP).unwrap();
    assert_eq!([&m, &next, &later].map(|m| is_installed(m, &first)), [false, true, true]);
}

#[test]
fn a_rollback_is_a_new_version_with_old_content() {
    let m = may_install_snapshot(&three(), &install("s", 3, &["a", "b"], 5), STAMP).unwrap();
    let m = may_append(&m, &append("d", 4, "u", 3), STAMP).unwrap();
    let back = may_roll_back(&m, 2, "back", STAMP).unwrap();
    let names = |m: &Manifest, v| m.live_at(v).iter().map(|f| f.file.clone()).collect::<Vec<_>>();
    assert_eq!((back.version, back.epoch, back.gc_floor), (6, 5, 6));
    assert_eq!(back.writers, m.writers);
    for (version, files) in [
        (2, vec!["a", "b"]),
        (3, vec!["a", "b", "c"]),
        (4, vec!["c", "s"]),
        (5, vec!["c", "s", "d"]),
        (6, vec!["a", "b"]),
    ] {
        assert_eq!(names(&back, version), files, "version {version}");
    }
    assert!(Manifest::parse("k", &back.to_bytes()).is_ok());
    let again = may_roll_back(&back, 5, "forth", STAMP).unwrap();
    assert_eq!(names(&again, 7), ["c", "d", "s"]);

    // Files staged before the rollback may not commit after it.
    let merged = install("t", 5, &["a", "b"], 6);
    assert!(matches!(may_install_snapshot(&back, &merged, STAMP), Err(Refusal::BelowFloor { base: 5, floor: 6 })));
    assert!(matches!(may_append(&back, &append("e", 5, "w", 1), STAMP), Err(Refusal::BelowFloor { .. })));

    let mut kept = m.clone();
    kept.retained_from = 3;
    for target in [2, 5, 9] {
        let refusal = Refusal::NotRetained { asked: target, retained: 3, version: 5 };
        assert_eq!(may_roll_back(&kept, target, "back", STAMP), Err(refusal));
    }
}

#[test]
fn versions_win_and_commits_do_not() {
    let p = |version, tombstone, file| Precedence { version, tombstone, file };
    let ordered = [p(1, false, "z"), p(1, true, "a"), p(2, false, "a"), p(2, false, "b"), p(2, true, "a")];
    assert!(ordered.is_sorted());
}
