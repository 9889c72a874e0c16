//! Tests what happens to documents when folders change: links, files that are left alone, moves and removals.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::kit::{TestFolder, file_name};

/// Returns the id and the source's path below the test folder for each document that is not deleted.
fn documents(place: &TestFolder) -> Vec<(String, String)> {
    let root = std::fs::canonicalize(place.path()).unwrap();
    let root = format!("file://{}/", root.display());
    let records = place.records().into_iter().filter(|r| r["status"] != "DELETED");
    let mut all: Vec<_> = records
        .map(|r| {
            let source = r["source"].as_str().unwrap();
            (r["document_id"].as_str().unwrap().to_owned(), source.strip_prefix(&root).unwrap_or(source).to_owned())
        })
        .collect();
    all.sort_by(|a, b| a.1.cmp(&b.1));
    all
}

#[test]
fn the_files_of_a_config_map_keep_their_names_when_it_changes() {
    let place = TestFolder::new();
    place.write("..2026_01/rules.txt", "The harbour opens at six.\n");
    place.write("..2026_01/notes.md", "# Notes\n\nThe lamp is lit.\n");
    place.write("..2026_01/logo.png", "x");
    symlink("..2026_01", place.docs().join("..data")).unwrap();
    for name in ["rules.txt", "notes.md", "logo.png"] {
        symlink(format!("..data/{name}"), place.docs().join(name)).unwrap();
    }
    symlink("/etc/hostname", place.docs().join("outside.txt")).unwrap();
    let first = place.ingest(&[]);
    let summary = first.code(0).summary();
    assert_eq!((&summary["completed"], &summary["files"]), (&2.into(), &2.into()), "{summary}");
    let left = &summary["left_alone"];
    assert_eq!((&left["links"], &left["hidden"]), (&1.into(), &2.into()), "{left}");
    assert_eq!((&left["by_extension"], &left["extensions"]["png"]), (&1.into(), &1.into()), "{left}");
    let before = documents(&place);
    let names: Vec<&str> = before.iter().map(|(_, source)| source.as_str()).collect();
    assert_eq!(names, ["docs/notes.md", "docs/rules.txt"]);

    // The map is replaced as Kubernetes does it: a new folder, then one rename.
    place.write("..2026_02/rules.txt", "The harbour opens at seven.\n");
    place.write("..2026_02/notes.md", "# Notes\n\nThe lamp is lit.\n");
    symlink("..2026_02", place.docs().join("..data_tmp")).unwrap();
    std::fs::rename(place.docs().join("..data_tmp"), place.docs().join("..data")).unwrap();
    std::fs::remove_dir_all(place.docs().join("..2026_01")).unwrap();
    let second = place.ingest(&["--prune"]);
    let summary = second.code(0).summary();
    assert_eq!((&summary["replaced"], &summary["unchanged"], &summary["deleted"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!(documents(&place), before);
    assert_eq!((place.found("seven"), place.found("six")), (vec!["rules.txt".to_owned()], vec![]));
    // Each command names the document by the path that its user sees.
    place.run(["delete", "docs/rules.txt"]).code(0);
    assert_eq!(place.found("seven"), Vec::<String>::new());
    let plain = place.run(["ingest", "docs", "--progress", "none"]);
    assert!(plain.code(0).out.contains("left alone"), "{}", plain.out);
}

#[test]
fn a_folder_that_is_empty_or_lost_too_much_is_not_pruned() {
    let place = TestFolder::new();
    let name = |n: usize| format!("{n:02}.txt");
    for n in 0..24 {
        place.write(name(n), format!("Letter number {n} about the harbour.\n"));
    }
    place.ingest(&[]).code(0);
    let complete = place.found("harbour").len();
    assert_eq!(complete, 24);
    // The disk is not mounted.
    let (docs, away) = (place.docs(), place.path().join("away"));
    std::fs::rename(&docs, &away).unwrap();
    std::fs::create_dir(&docs).unwrap();
    let refused = place.ingest(&["--prune"]);
    let summary = refused.code(1).summary();
    let told = &summary["prune_refused"][0];
    assert_eq!((&told["gone"], &told["documents"], &summary["deleted"]), (&24.into(), &24.into(), &0.into()), "{told}");
    let shown = place.run(["ingest", "docs", "--prune", "--progress", "none"]);
    assert!(shown.code(1).out.contains("Not pruned") && shown.out.contains("--prune=force"), "{}", shown.out);
    assert_eq!(place.found("harbour").len(), 24);
    let status = place.run(["status"]);
    assert!(status.code(0).out.contains("without file") && status.out.contains("24  of 24 checked"), "{}", status.out);

    // It is mounted again, and eleven of the 24 files are gone.
    std::fs::remove_dir(&docs).unwrap();
    std::fs::rename(&away, &docs).unwrap();
    for n in 0..11 {
        std::fs::remove_file(docs.join(name(n))).unwrap();
    }
    assert_eq!(place.ingest(&["--prune"]).code(1).summary()["prune_refused"][0]["gone"], 11);
    assert_eq!(place.ingest(&["--prune", "--set", "intake.prune_percent=50"]).code(0).summary()["deleted"], 11);
    for n in 11..24 {
        std::fs::remove_file(docs.join(name(n))).unwrap();
    }
    place.ingest(&["--prune"]).code(1);
    assert_eq!(place.ingest(&["--prune=force"]).code(0).summary()["deleted"], 13);
    assert_eq!(place.found("harbour"), Vec::<String>::new());
    assert!(place.ingest(&["--prune=all"]).code(2).err.contains("force"));
}

#[test]
fn a_moved_file_keeps_its_document_and_nothing_is_embedded() {
    let place = TestFolder::new();
    place.write("old/a.txt", "Alpha sails at dawn.\n");
    place.write("old/b.md", "# Bravo\n\nBravo rests.\n");
    place.write("same.txt", "Charlie was here twice.\n");
    place.write("old/same.txt", "Charlie was here twice.\n");
    place.ingest(&[]).code(0);
    let before = documents(&place);
    std::fs::rename(place.docs().join("old"), place.docs().join("new")).unwrap();
    std::fs::rename(place.docs().join("new/a.txt"), place.docs().join("new/renamed.txt")).unwrap();
    let moved = place.ingest(&[]);
    let events = moved.code(0).json();
    let summary = moved.summary();
    let counts = ["moved", "registered", "vectors", "tokens", "cached_tokens", "unchanged"];
    let counts = counts.map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counts, [3, 0, 3, 0, 0, 1], "{summary}");
    let stages: Vec<&Value> = events.iter().filter(|e| e["event"] == "stage_completed").map(|e| &e["stage"]).collect();
    assert_eq!(stages, ["loading"; 3], "nothing but loading is done again");
    let after = documents(&place);
    let expected = ["docs/new/b.md", "docs/new/renamed.txt", "docs/new/same.txt", "docs/same.txt"];
    assert_eq!(after.iter().map(|(_, source)| source.as_str()).collect::<Vec<_>>(), expected);
    let mut ids: Vec<_> = [&before, &after].map(|all| all.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>()).into();
    ids.iter_mut().for_each(|ids| ids.sort());
    assert_eq!(ids[0], ids[1], "each document keeps its id");
    assert_eq!(place.found("alpha"), ["renamed.txt"]);
    let told: Vec<String> = events.iter().filter(|e| e["event"] == "moved").map(|e| file_name(&e["to"])).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    let again = place.ingest(&["--prune"]).code(0).summary();
    assert_eq!((&again["unchanged"], &again["deleted"]), (&4.into(), &0.into()), "{again}");
    place.assert_complete(4);

    // A file that was moved over another one replaces it, and the passage is found once.
    std::fs::rename(place.docs().join("new/renamed.txt"), place.docs().join("new/b.md")).unwrap();
    place.ingest(&[]).code(0);
    assert_eq!((place.found("alpha"), place.found("bravo")), (vec!["b.md".to_owned()], vec![]));
    // A copy is not a move.
    std::fs::copy(place.docs().join("new/b.md"), place.docs().join("new/copy.txt")).unwrap();
    place.ingest(&[]).code(0);
    let mut found = place.found("alpha");
    found.sort();
    assert_eq!(found, ["b.md", "copy.txt"]);
}

#[test]
fn a_file_that_was_moved_before_it_was_processed_is_processed_at_its_new_place() {
    let place = TestFolder::new();
    place.write("old/a.txt", "Alpha sails at dawn.\n");
    place.write("old/b.txt", "# Bravo\n\nBravo rests.\n");
    place.run(["submit", "docs"]).code(0);
    std::fs::rename(place.docs().join("old"), place.docs().join("new")).unwrap();
    // The run may claim the documents before it finds the files at their new place.
    place.ingest(&[]).code(0);
    assert_eq!((place.found("alpha"), place.found("bravo")), (vec!["a.txt".to_owned()], vec!["b.txt".to_owned()]));
    place.assert_complete(2);
    // A new name that gives the file another type is a change of the document.
    std::fs::rename(place.docs().join("new/b.txt"), place.docs().join("new/b.md")).unwrap();
    let summary = place.ingest(&[]).code(0).summary();
    assert_eq!((&summary["moved"], &summary["pages"]), (&1.into(), &1.into()), "{summary}");
    let b = place.records().into_iter().find(|r| file_name(&r["source"]) == "b.md").unwrap();
    assert_eq!(b["media_type"], "text/markdown", "{b}");
}

#[test]
fn a_document_of_a_disk_that_is_not_mounted_stays() {
    let place = TestFolder::new();
    let disk = place.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    for n in 0..3 {
        std::fs::write(disk.join(format!("{n}.txt")), format!("Letter {n} of the disk.\n")).unwrap();
        place.write(format!("{n}.txt"), format!("Letter {n} of the folder.\n"));
    }
    place.run(["ingest", "docs", "disk", "--progress", "none"]).code(0);
    // The files of the disk are copied over those of the folder, and the disk is unmounted.
    for n in 0..3 {
        std::fs::rename(disk.join(format!("{n}.txt")), place.docs().join(format!("{n}.txt"))).unwrap();
    }
    let summary = place.ingest(&[]).code(0).summary();
    assert_eq!((&summary["replaced"], &summary["deleted"], &summary["moved"]), (&3.into(), &0.into(), &0.into()));
    assert_eq!(documents(&place).len(), 6);
}

#[test]
fn an_empty_name_deletes_nothing() {
    let place = TestFolder::new();
    place.write("a.txt", "Alpha.\n");
    place.ingest(&[]).code(0);
    for name in ["", "file://", "file:///", "s3://"] {
        place.run(["delete", name]).code(1);
        assert_eq!(place.found("alpha"), ["a.txt"], "{name:?}");
    }
}

#[test]
fn a_folder_is_deleted_even_if_it_no_longer_exists() {
    let place = TestFolder::new();
    for (name, text) in [("old/a.txt", "Alpha.\n"), ("old/deep/b.txt", "Bravo.\n"), ("older.txt", "Charlie.\n")] {
        place.write(name, text);
    }
    place.ingest(&[]).code(0);
    std::fs::remove_dir_all(place.docs().join("old")).unwrap();
    let deleted = place.run(["delete", "docs/old"]);
    assert_eq!(deleted.code(0).out.lines().count(), 2, "{}", deleted.out);
    assert_eq!((place.found("alpha"), place.found("bravo")), (vec![], vec![]));
    assert_eq!(place.found("charlie"), ["older.txt"]);
    place.run(["delete", "docs/old"]).code(1);
    place.run(["delete", "docs"]).code(0);
    assert_eq!(place.found("charlie"), Vec::<String>::new());
}
