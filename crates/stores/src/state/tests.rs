use std::path::Path;
use std::time::Duration;

use docweir_core::clock::{ManualClock, SystemClock};
use docweir_testkit::processes::{SmallDisk, child, folder_of_child};

use super::*;

fn open(path: &Path) -> StateFolder {
    StateFolder::open_or_create(path).unwrap()
}

#[test]
fn a_folder_is_made_once_and_opened_ever_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/.docweir");
    let made = open(&path);
    assert!(made.objects().is_dir() && made.cache().is_dir());
    assert_eq!(std::fs::read_to_string(path.join(".gitignore")).unwrap(), "*\n");
    assert_eq!(std::fs::read_to_string(path.join("format")).unwrap(), "docweir state 1\n");
    std::fs::write(path.join("objects/x"), "kept").unwrap();
    open(&path);
    assert_eq!(StateFolder::open_existing(&path).unwrap().root(), made.root());
    assert!(path.join("objects/x").exists());
}

#[test]
fn what_is_no_state_folder_is_told_apart_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let missing = StateFolder::open_existing(&dir.path().join("none")).unwrap_err();
    assert!(matches!(missing, StateError::Missing(_)) && missing.to_string().contains("docweir ingest"), "{missing}");

    std::fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    for error in [StateFolder::open_or_create(dir.path()), StateFolder::open_existing(dir.path())] {
        assert!(matches!(error, Err(StateError::Foreign(_))), "{error:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let file = StateFolder::open_or_create(&dir.path().join("thesis.tex")).unwrap_err().to_string();
    assert!(file.contains("it is a file"), "{file}");
}

#[test]
fn a_folder_whose_making_was_cut_short_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    open(&path);
    std::fs::remove_file(path.join("format")).unwrap();
    std::fs::write(path.join("format.new123"), "docw").unwrap();
    assert!(matches!(StateFolder::open_existing(&path), Err(StateError::Missing(_))));
    open(&path);
    StateFolder::open_existing(&path).unwrap();
}

#[test]
fn formats() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    open(&path);
    for (text, newer) in
        [("docweir state 2\n", true), ("docweir state 99", true), ("", false), ("docweir state x", false)]
    {
        std::fs::write(path.join("format"), text).unwrap();
        for error in [StateFolder::open_or_create(&path), StateFolder::open_existing(&path)] {
            let error = error.unwrap_err();
            assert_eq!(matches!(error, StateError::Newer { .. }), newer, "{text:?}: {error}");
            assert_eq!(matches!(error, StateError::Damaged(_)), !newer, "{text:?}: {error}");
        }
    }
    std::fs::write(path.join("format"), [0xff, 0xfe]).unwrap();
    assert!(matches!(StateFolder::open_existing(&path), Err(StateError::Damaged(_))));
}

#[test]
fn the_second_orchestrator_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir.path().join("s"));
    let clock = ManualClock::at(1_763_718_000_000_000);
    let lock = state.lock_orchestrator("docweir ingest papers", &clock).unwrap();
    let error = state.lock_orchestrator("docweir serve", &clock).unwrap_err();
    let text = error.to_string();
    let LockError::Held(held) = error else { panic!("{text}") };
    assert_eq!((held.pid, held.command.as_str()), (std::process::id(), "docweir ingest papers"));
    assert_eq!(held.started, "2025-11-21T09:40:00.000000Z");
    assert!(text.contains("(`docweir ingest papers`, since 2025-11-21T09:40:00.000000Z) is working on"), "{text}");
    drop(lock);
    drop(state.lock_orchestrator("docweir serve", &clock).unwrap());
}

#[test]
fn a_holder_of_whom_nothing_is_known_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir.path().join("s"));
    let file = File::create(state.root().join("lock")).unwrap();
    file.lock().unwrap();
    let error = state.lock_orchestrator("docweir serve", &SystemClock).unwrap_err().to_string();
    assert!(error.starts_with("another docweir is working on"), "{error}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process of its own, until it is killed")]
fn holds_the_lock_until_killed() {
    let Some(folder) = folder_of_child() else { return };
    let _lock = open(&folder).lock_orchestrator("docweir ingest", &SystemClock).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "waits for another process")]
fn the_lock_dies_with_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir.path().join("s"));
    let mut holder = child(module_path!(), "holds_the_lock_until_killed", state.root());
    let held = (0..1000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        match state.lock_orchestrator("docweir serve", &SystemClock) {
            Err(LockError::Held(held)) => Some(held),
            _ => None,
        }
    });
    assert_eq!(held.unwrap().pid, holder.id());
    holder.kill().unwrap();
    holder.wait().unwrap();
    state.lock_orchestrator("docweir serve", &SystemClock).unwrap();
}

#[test]
fn full_and_read_only_disks_say_what_to_do() {
    let Some(disk) = SmallDisk::new(16 * 1024) else { return };
    let filler = std::fs::write(disk.path().join("filler"), vec![0; 64 * 1024]);
    assert!(filler.is_err());
    let full = StateFolder::open_or_create(&disk.path().join("s")).unwrap_err().to_string();
    assert!(full.contains("free some space"), "{full}");
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    let state = open(&disk.path().join("s"));

    disk.make_read_only();
    StateFolder::open_existing(&disk.path().join("s")).unwrap();
    for error in [
        StateFolder::open_or_create(&disk.path().join("t")).unwrap_err().to_string(),
        state.lock_orchestrator("docweir ingest", &SystemClock).unwrap_err().to_string(),
    ] {
        assert!(error.contains("mount the disk for writing"), "{error}");
    }
}

#[test]
fn no_two_owners_have_one_name() {
    let clock = ManualClock::at(1);
    let (a, b) = (owner_id(&clock), owner_id(&clock));
    assert_ne!(a, b);
    assert!(a.contains(&format!("-{}-", std::process::id())), "{a}");
}
