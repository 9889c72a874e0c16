//! Tests operations on the vector files: merging, searching an earlier version, verifying, rolling back, exporting and
//! erasing. Some tests kill or stop a process during such an operation.

use rustix::process::Signal;
use serde_json::Value;

use crate::kit::{Ran, TestFolder, eventually, files, results};

/// Ingests each document in a separate run, so that each document has its own delta.
fn runs(place: &TestFolder, numbers: std::ops::Range<u64>) {
    for n in numbers {
        place.write(format!("{n:04}.txt"), format!("The lease of harbour {n} is fenced by epoch {n}.\n"));
        place.ingest(&["--set", "compaction.automatic=false"]).code(0);
    }
}

fn info(place: &TestFolder) -> Value {
    place.run(["store", "info", "--json"]).code(0).json().remove(0)
}

fn live(place: &TestFolder, kind: &str) -> usize {
    info(place)["live"].as_array().unwrap().iter().filter(|f| f["kind"] == kind).count()
}

/// Runs a fixed set of queries, and returns the passages that they find with their scores.
fn answers(place: &TestFolder) -> Vec<String> {
    let ask = |query: &str, mode: &str| {
        let ran = place.run(["search", "--mode", mode, "-k", "5", "--json", query]);
        ran.json()
            .iter()
            .flat_map(results)
            .map(|hit| format!("{} {}", hit["chunk_id"], hit["score"]))
            .collect::<Vec<_>>()
    };
    [("harbour 3", "hybrid"), ("lease", "full-text"), ("fenced epoch", "vector")]
        .iter()
        .flat_map(|(q, m)| ask(q, m))
        .collect()
}

fn verify(place: &TestFolder) {
    let ran = place.run(["store", "verify", "--json"]);
    ran.code(0);
    let found = ran.json().remove(0);
    assert_eq!(
        (&found["verified"]["findings"], &found["disagreements"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
}

#[test]
fn files_are_merged_and_every_answer_stays_the_same() {
    let place = TestFolder::new();
    runs(&place, 0..6);
    assert_eq!((live(&place, "delta"), live(&place, "snapshot")), (6, 0));
    let before = answers(&place);
    assert!(before.len() >= 10, "{before:?}");
    let ran = place.run(["compact", "--all"]);
    assert!(ran.code(0).out.contains("merged 6 files"), "{}", ran.out);
    assert_eq!((live(&place, "delta"), live(&place, "snapshot")), (0, 1));
    assert_eq!(answers(&place), before);
    assert!(place.run(["compact", "--all"]).code(0).out.contains("nothing to merge"));
    place.assert_complete(6);
    verify(&place);

    // After the merge, one document is replaced, one is deleted and one is added.
    place.write("0003.txt", "Something else entirely.\n");
    std::fs::remove_file(place.docs().join("0004.txt")).unwrap();
    runs(&place, 6..7);
    place.ingest(&["--prune"]).code(0);
    let now = place.found("harbour");
    assert_eq!(now, place.found("lease"));
    assert!(!now.contains(&"0003.txt".to_owned()) && !now.contains(&"0004.txt".to_owned()), "{now:?}");
    place.run(["compact", "--all"]).code(0);
    assert_eq!(place.found("harbour"), now);
    verify(&place);
}

/// Checks that a second run does not reset finished documents. The former system, which Docweir replaces, reset them
/// (its fault R11).
#[test]
fn r11_running_again_does_nothing_again() {
    let place = TestFolder::new();
    runs(&place, 0..3);
    place.run(["compact", "--all"]).code(0);
    let before = info(&place)["version"].clone();
    let records = place.records();
    let summary = place.ingest(&[]).code(0).summary();
    assert_eq!((&summary["completed"], &info(&place)["version"]), (&0.into(), &before), "{summary}");
    assert_eq!(place.records(), records);
}

#[test]
fn short_runs_do_not_pile_up_their_deltas() {
    let place = TestFolder::new();
    for n in 0..6 {
        place.write(format!("{n}.txt"), format!("Passage number {n}.\n"));
        place.ingest(&["--set", "compaction.deltas=3"]).code(0);
    }
    assert!(live(&place, "delta") < 3 && live(&place, "snapshot") >= 1);
    place.assert_complete(6);
}

#[test]
fn killed_at_each_step_of_a_merge_and_a_collection_nothing_is_lost() {
    let steps: [(&str, &[&str]); 7] = [
        ("compaction.written", &["compact", "--all"]),
        ("compaction.staged", &["compact", "--all"]),
        ("compaction.validated", &["compact", "--all"]),
        ("collect.raised", &["store", "gc", "--all"]),
        ("collect.deleting", &["store", "gc", "--all"]),
        ("collect.deleted", &["store", "gc", "--all"]),
        ("commit.staged", &["ingest", "docs", "--progress", "none"]),
    ];
    let place = TestFolder::new();
    runs(&place, 0..4);
    for (n, (step, args)) in steps.into_iter().enumerate() {
        // Each step needs files to merge, garbage to collect, or a document that only the killed commit would add.
        let before = (n as u64 + 1) * 10;
        runs(&place, before..before + 2);
        if step.starts_with("collect.") {
            place.run(["compact", "--all"]).code(0);
            runs(&place, before + 2..before + 3);
        }
        if step.starts_with("commit.") {
            place.write("9999.txt", "Committed at last.\n");
        }
        let expected = answers(&place);
        let mut command = place.command(args);
        command.env("DOCWEIR_FAILPOINT", format!("{step}=1"));
        let status = command.status().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{step}");
        assert_eq!(answers(&place), expected, "{step}");
        verify(&place);
        // The command is repeated without a kill. The lease of the killed process would block the command until it
        // expires, so the lease is removed.
        std::fs::remove_file(place.state().join("objects/vectors/chunks/LEASE")).ok();
        place.run(args).code(0);
        if !step.starts_with("commit.") {
            assert_eq!(answers(&place), expected, "{step}");
        }
        verify(&place);
    }
    place.run(["compact", "--all"]).code(0);
    place.run(["store", "gc", "--all"]).code(0);
    let verified = place.run(["store", "verify", "--json"]).json().remove(0);
    assert_eq!(verified["verified"]["orphans"], serde_json::json!([]));
    assert_eq!(files(&place.state().join("objects/vectors/chunks/delta")).len(), 0);
    assert_eq!(files(&place.state().join("objects/vectors/chunks/snap")).len(), 1);
}

#[test]
fn a_holder_that_is_stopped_past_its_lease_changes_nothing_when_it_goes_on() {
    let place = TestFolder::new();
    runs(&place, 0..3);
    let lease = ["--set", "compaction.lease_seconds=3", "--set", "compaction.heartbeat_seconds=1"];
    let compact = [&["compact", "--all"], &lease[..]].concat();
    let mut command = place.command(&compact);
    command.env("DOCWEIR_FAILPOINT", "compaction.staged=stop:1");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let stopped = crate::kit::Running::of(command.spawn().unwrap());
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", stopped.id())).unwrap();
    eventually("the process has stopped itself", || state().contains(") T "));

    assert_eq!(place.run(&compact).status.code(), Some(5), "the lease must still be valid");
    runs(&place, 3..5);
    eventually("the lease has ended", || place.run(&compact).status.code() == Some(0));
    let before = info(&place);
    let expected = answers(&place);
    assert_eq!((live(&place, "snapshot"), live(&place, "delta")), (1, 0));

    stopped.signal(Signal::CONT);
    let ran = stopped.finish();
    assert!(ran.code(5).err.contains("no data is lost"), "{}", ran.err);
    let after = info(&place);
    assert_eq!((&after["live"], &after["epoch"]), (&before["live"], &before["epoch"]));
    assert_eq!(answers(&place), expected);
    verify(&place);
}

#[test]
fn one_can_look_at_go_back_to_and_export_what_was() {
    let place = TestFolder::new();
    place.write("a.txt", "The first harbour.\n");
    place.ingest(&[]).code(0);
    let first = info(&place)["version"].as_u64().unwrap();
    place.write("a.txt", "The second harbour.\n");
    place.write("b.txt", "Another one.\n");
    place.ingest(&[]).code(0);

    let texts = |ran: &Ran| {
        let hits = ran.json().iter().flat_map(results).collect::<Vec<_>>();
        hits.iter().map(|h| h["text"].as_str().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    let search = |more: &[&str]| place.run([&["search", "--mode", "full-text", "--json", "harbour"], more].concat());
    assert_eq!(texts(&search(&[])), ["The second harbour."]);
    assert_eq!(texts(&search(&["--as-of", &first.to_string()])), ["The first harbour."]);
    let refused = search(&["--as-of", "99"]);
    assert!(refused.status.code() != Some(0) && refused.err.contains("are kept"), "{}", refused.err);

    let ran = place.run(["store", "rollback", &first.to_string()]);
    assert!(ran.code(0).out.contains("2 documents pending again"), "{}", ran.out);
    assert!(ran.out.contains("the next `docweir ingest` applies the undone changes again"), "{}", ran.out);
    assert_eq!(texts(&search(&[])), ["The first harbour."]);
    let export = place.run(["store", "export", "out"]);
    assert!(export.code(0).out.contains("wrote 1 passage"), "{}", export.out);
    assert!(place.run(["store", "export", "out"]).err.contains("is not empty"));
    assert_eq!(std::fs::read(place.path().join("out/part-00000.parquet")).unwrap()[..4], *b"PAR1");

    place.ingest(&[]).code(0);
    place.assert_complete(2);
    assert_eq!(texts(&search(&[])), ["The second harbour."]);
    verify(&place);
}

#[test]
fn what_is_erased_is_nowhere_any_more() {
    let place = TestFolder::new();
    place.write("secret.txt", "The password of harbour nine is xyzzy-plugh.\n");
    place.write("public.txt", "Harbour ten is open to everybody.\n");
    place.ingest(&[]).code(0);
    place.write("secret.txt", "The password of harbour nine is now plover-xyzzy.\n");
    place.ingest(&[]).code(0);
    place.run(["compact", "--all"]).code(0);
    let ran = place.run(["erase", "docs/secret.txt"]);
    assert!(ran.code(0).out.contains("erased: docs/secret.txt"), "{}{}", ran.out, ran.err);
    // The cache does not know which vectors belong to the document's earlier version, so it deletes all vectors.
    assert!(ran.out.contains("3 vectors deleted from the cache"), "{}", ran.out);
    let (verified, unchecked) = ran.out.split_once("Not checked").unwrap();
    let after = verified.split_once("Verified as deleted").unwrap().1;
    assert!(["index", "objects", "cache"].iter().all(|what| after.contains(what)), "{}", ran.out);
    assert!(
        ["docs/secret.txt: still there", "backups", "90 days"].iter().all(|t| unchecked.contains(t)),
        "{}",
        ran.out
    );
    for file in files(&place.state()) {
        let body = std::fs::read(&file).unwrap();
        let held = |word: &str| body.windows(word.len()).any(|w| w == word.as_bytes());
        assert!(!held("xyzzy"), "{} still contains the text", file.display());
    }
    assert_eq!(place.found("harbour"), ["public.txt"]);
    verify(&place);
}

/// Holds the documents whose changes a rollback has undone. An ingest leaves such a document as it is until its file
/// changes or a user retries it.
#[test]
fn what_a_rollback_has_undone_can_be_held() {
    for pending_first in [false, true] {
        let place = TestFolder::new();
        let write = |name: &str, content: &str| place.write(name, format!("The {content} harbour.\n"));
        for name in ["a.txt", "b.txt", "c.txt", "same.txt"] {
            write(name, &format!("first {name}"));
        }
        place.ingest(&[]).code(0);
        let version = info(&place)["version"].to_string();
        for name in ["a.txt", "b.txt", "c.txt", "new.txt"] {
            write(name, &format!("second {name}"));
        }
        place.ingest(&[]).code(0);
        if pending_first {
            place.run(["store", "rollback", &version]).code(0);
        }
        let ran = place.run(["store", "rollback", &version, "--hold"]);
        assert!(ran.code(0).out.contains("4 documents held"), "{}", ran.out);
        let seconds = || {
            let rows = place.visible();
            let mut names: Vec<_> =
                rows.iter().filter(|(_, rows)| rows[0].contains("second")).map(|r| r.0.clone()).collect();
            names.sort();
            (rows.len(), names.join(" "))
        };
        for _ in 0..2 {
            place.ingest(&[]).code(0);
            assert_eq!(seconds(), (4, String::new()));
        }
        assert_eq!(place.run(["status", "--json"]).json()[0]["documents"]["PARKED"], 4);
        let shown = place.run(["status", "docs/a.txt"]);
        assert!(
            shown.code(0).out.contains("held by `docweir store rollback --hold` until docweir retry"),
            "{}",
            shown.out
        );

        write("a.txt", "second and changed");
        place.run(["retry", "docs/b.txt"]).code(0);
        place.ingest(&[]).code(0);
        assert_eq!(seconds(), (4, "a.txt b.txt".to_owned()));
        let ran = place.run(["retry", "--held"]);
        assert!(ran.code(0).out.contains("2 held documents pending again"), "{}", ran.out);
        place.ingest(&[]).code(0);
        assert_eq!(seconds(), (5, "a.txt b.txt c.txt new.txt".to_owned()));
        place.assert_complete(5);
        verify(&place);
        assert!(place.run(["retry", "--held"]).code(0).out.contains("no document is held"));
    }
}

/// Restores a deleted document by a rollback. After that, `delete` and `erase` must be able to remove it again.
#[test]
fn what_a_rollback_brought_back_can_be_deleted_again() {
    let place = TestFolder::new();
    place.write("a.txt", "The password of the harbour is xyzzy.\n");
    place.write("b.txt", "An open harbour.\n");
    place.ingest(&[]).code(0);
    let version = info(&place)["version"].to_string();
    for command in ["delete", "erase"] {
        place.run(["delete", "docs/a.txt"]).code(0);
        assert_eq!(place.found("harbour"), ["b.txt"]);
        let ran = place.run(["store", "rollback", &version]);
        assert!(ran.code(0).out.contains("can be found again"), "{}", ran.out);
        assert_eq!(place.found("harbour").len(), 2);
        place.run(["store", "verify"]).code(1);
        let ran = place.run([command, "docs/a.txt"]);
        assert!(ran.code(0).out.contains("deleted again"), "{}", ran.out);
        assert_eq!(place.found("harbour"), ["b.txt"]);
        verify(&place);
    }
    for file in files(&place.state()) {
        let body = std::fs::read(&file).unwrap();
        assert!(!body.windows(5).any(|w| w == b"xyzzy"), "{} still contains the text", file.display());
    }
}

#[test]
fn damage_is_found_and_said() {
    let place = TestFolder::new();
    runs(&place, 0..2);
    place.run(["compact", "--all"]).code(0);
    let snapshot = files(&place.state().join("objects/vectors/chunks/snap")).remove(0);
    let mut body = std::fs::read(&snapshot).unwrap();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    std::fs::write(&snapshot, body).unwrap();
    let ran = place.run(["store", "verify"]);
    ran.code(1);
    assert!(ran.out.contains("does not match its checksum") && ran.out.contains("rollback"), "{}", ran.out);
}

#[test]
fn a_lost_manifest_is_said_and_rebuilt() {
    let place = TestFolder::new();
    runs(&place, 0..5);
    place.run(["delete", "docs/0004.txt"]).code(0);
    place.run(["compact", "--all"]).code(0);
    runs(&place, 5..7);
    let before = answers(&place);
    let manifest = place.state().join("objects/vectors/chunks/MANIFEST");
    std::fs::remove_file(&manifest).unwrap();
    let count = files(&place.state().join("objects/vectors/chunks")).len();
    for args in [&["ingest", "docs", "--progress", "none"][..], &["search", "harbour"], &["store", "gc", "--all"]] {
        let ran = place.run(args);
        ran.code(70);
        assert!(ran.err.contains("missing") && ran.err.contains("store verify --repair"), "{args:?}: {}", ran.err);
    }
    assert_eq!(files(&place.state().join("objects/vectors/chunks")).len(), count);
    let repaired = place.run(["store", "verify", "--repair"]);
    assert!(repaired.code(0).out.contains("rebuilt the manifest from"), "{}", repaired.out);
    assert_eq!(answers(&place), before, "the deleted document is not found again");
    verify(&place);
    // Documents that the control store does not know are kept and reported.
    std::fs::remove_file(&manifest).unwrap();
    let control = place.state().join("control.db");
    std::fs::rename(&control, place.path().join("control.db")).unwrap();
    let unknown = place.run(["store", "verify", "--repair"]);
    assert!(unknown.code(1).out.contains("docweir delete doc_"), "{}", unknown.out);
    for file in ["control.db-wal", "control.db-shm"] {
        let _ = std::fs::remove_file(place.state().join(file));
    }
    std::fs::rename(place.path().join("control.db"), &control).unwrap();
    assert_eq!(answers(&place), before);
    // Without any file, the documents are loaded again from their artefacts.
    std::fs::remove_dir_all(place.state().join("objects/vectors/chunks")).unwrap();
    place.ingest(&[]).code(70);
    place.run(["store", "verify", "--repair"]).code(0);
    let again = place.ingest(&[]);
    assert_eq!(again.code(0).summary()["tokens"], 0);
    assert_eq!(answers(&place), before);
}
