//! Tests that a second run processes only changed documents, and that each change takes effect in one step.

use crate::kit::TestFolder;

#[test]
fn a_second_run_does_nothing_and_a_changed_file_is_replaced() {
    let place = TestFolder::new();
    place.write("a.md", "# Leases\n\nA lease is a promise with an end.\n");
    place.write("b.txt", "Fencing tokens only grow.\n");
    let first = place.ingest(&[]);
    first.code(0);
    assert_eq!((&first.summary()["completed"], &first.summary()["unchanged"]), (&2.into(), &0.into()));

    let second = place.ingest(&[]);
    second.code(0);
    assert_eq!((&second.summary()["completed"], &second.summary()["unchanged"]), (&0.into(), &2.into()));

    place.write("a.md", "# Locks\n\nA mutex is no lease.\n");
    let third = place.ingest(&[]);
    third.code(0);
    let summary = third.summary();
    assert_eq!((&summary["completed"], &summary["replaced"], &summary["unchanged"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(place.found("promise"), Vec::<String>::new(), "the old text must be gone");
    assert_eq!(place.found("mutex"), ["a.md"]);
    place.assert_complete(2);
}

#[test]
fn another_configuration_is_a_change_and_the_cache_pays_for_most_of_it() {
    let place = TestFolder::new();
    place.generate(3);
    place.ingest(&[]).code(0);
    let again = place.ingest(&["--set", "chunk.options.target_chars=600", "--set", "chunk.options.min_chars=200"]);
    again.code(0);
    assert_eq!(again.summary()["replaced"], 3);
    place.ingest(&[]).code(0);
    let back = place.ingest(&[]);
    assert_eq!(back.summary()["unchanged"], 3);
    place.assert_complete(3);
}

#[test]
fn what_left_the_folder_stays_until_it_is_pruned() {
    let place = TestFolder::new();
    place.write("keep.txt", "A keeper of the peace.\n");
    let gone = place.write("gone.txt", "A vanishing act.\n");
    place.ingest(&[]).code(0);
    std::fs::remove_file(gone).unwrap();
    place.ingest(&[]).code(0);
    assert_eq!(place.found("vanishing"), ["gone.txt"]);
    let pruned = place.ingest(&["--prune"]);
    pruned.code(0);
    assert_eq!(pruned.summary()["deleted"], 1);
    assert_eq!(place.found("vanishing"), Vec::<String>::new());
    assert_eq!(place.found("keeper"), ["keep.txt"]);
    // When the file exists again, its document is ingested again.
    place.write("gone.txt", "A vanishing act.\n");
    place.ingest(&[]).code(0);
    assert_eq!(place.found("vanishing"), ["gone.txt"]);
}

#[test]
fn the_same_content_at_two_places_is_two_documents() {
    let place = TestFolder::new();
    place.write("one.txt", "Twins look alike.\n");
    place.write("two.txt", "Twins look alike.\n");
    let ran = place.ingest(&[]);
    ran.code(0);
    assert_eq!(ran.summary()["completed"], 2);
    let mut found = place.found("twins");
    found.sort();
    assert_eq!(found, ["one.txt", "two.txt"]);
}

#[test]
fn deleting_takes_effect_at_once_and_is_undone_by_the_next_change() {
    let place = TestFolder::new();
    let path = place.write("a.txt", "Ephemeral words.\n");
    place.ingest(&[]).code(0);
    place.run(["delete", path.to_str().unwrap()]).code(0);
    assert_eq!(place.found("ephemeral"), Vec::<String>::new());
    let artefacts = place.artefacts("extracted/");
    assert!(artefacts.is_empty(), "artefacts are left: {artefacts:?}");
    place.ingest(&[]).code(0);
    assert_eq!(place.found("ephemeral"), ["a.txt"], "the file still exists, so it is ingested again");
}
