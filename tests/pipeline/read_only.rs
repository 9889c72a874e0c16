//! Tests that commands which only read work on a state folder that they may not write.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::{Ran, Running, TestFolder, eventually};
use crate::shop::{batches, plain};

/// User and group without any rights of their own.
const NOBODY: &str = "65534";

const READING: [&[&str]; 11] = [
    &["search", "harbour"],
    &["search", "--mode", "vector", "--json", "harbour"],
    &["status"],
    &["status", "--json"],
    &["status", "--all"],
    &["status", "docs/0.txt"],
    &["audit", "docs/0.txt"],
    &["store", "info"],
    &["store", "verify"],
    &["quarantine", "list"],
    &["cost"],
];

/// Holds an index with a quarantined and a replaced document.
struct Place {
    folder: TestFolder,
    program: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = TestFolder::new();
        for n in 0..3 {
            folder.write(format!("{n}.txt"), format!("The lease of harbour {n} is fenced.\n"));
        }
        folder.ingest(&[]).code(0);
        folder.write("0.txt", "The lease of harbour 7 is fenced.\n");
        folder.write("broken.pdf", "%PDF-1.7 no more");
        folder.ingest(&[]).code(3);
        let program = program_for_all(&folder);
        Self { folder, program }
    }

    fn as_nobody(&self, args: &[&str]) -> Ran {
        as_nobody(&self.program, &self.folder.command(args))
    }

    /// Returns what the owner of the state sees, one answer a command.
    fn answers(&self) -> Vec<String> {
        READING.iter().map(|args| self.folder.run(*args).code(0).out.clone()).collect()
    }

    #[track_caller]
    fn nobody_sees(&self, expected: &[String]) {
        let before = listing(&self.folder.state());
        for (args, expected) in READING.iter().zip(expected) {
            let ran = self.as_nobody(args);
            assert_eq!(ran.code(0).out, *expected, "{args:?}");
            assert!(!ran.err.contains("WARN"), "{args:?}: {}", ran.err);
        }
        assert_eq!(listing(&self.folder.state()), before, "reading left files behind");
    }
}

/// Copies the program into the test folder, because the build folder may be readable by root only.
fn program_for_all(folder: &TestFolder) -> PathBuf {
    let program = folder.path().join("docweir-bin");
    std::fs::copy(env!("CARGO_BIN_EXE_docweir"), &program).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Runs a command as a user without any rights.
fn as_nobody(program: &Path, plain: &Command) -> Ran {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
    command.args(plain.get_args()).current_dir(plain.get_current_dir().unwrap()).env("HOME", "/nonexistent");
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ran::of(command.output().unwrap())
}

/// Makes folders and files readable for every user, and writable for none.
fn close_for_writing(folder: &Path) {
    for entry in walkdir::WalkDir::new(folder).contents_first(true).into_iter().filter_map(Result::ok) {
        let mode = if entry.file_type().is_dir() { 0o555 } else { 0o444 };
        match std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode)) {
            // A running service removes files.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.unwrap(),
        }
    }
}

/// Returns every path below a folder with its time of modification.
fn listing(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.map(|e| (e.path().to_owned(), e.metadata().unwrap().modified().unwrap())).collect()
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root to run as another user");
    }
    root
}

#[test]
fn another_user_who_may_only_read_sees_the_same_as_the_owner() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let expected = place.answers();
    // After a command, SQLite has removed its log and its shared memory.
    assert!(!place.folder.state().join("control.db-wal").exists());
    close_for_writing(&place.folder.state());
    place.nobody_sees(&expected);
    let refused = place.as_nobody(&["delete", "docs/1.txt"]);
    assert!(!refused.status.success() && refused.err.contains("writable"), "{}", refused.err);
}

/// A killed process leaves a log with content behind. A copy of the folder may hold the log and not the shared memory,
/// or no empty folders.
#[test]
fn a_copy_from_a_running_or_killed_process_is_read_with_its_log() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.folder.write("late.txt", "The lease of harbour 9 came late.\n");
    let mut killed = place.folder.command(["ingest", "docs", "--progress", "none"]);
    killed.env("DOCWEIR_FAILPOINT", "commit.staged=1");
    assert!(!killed.status().unwrap().success());
    let state = place.folder.state();
    let log = state.join("control.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0, "the test needs a log with content");
    // The owner reads a copy, because reading as the owner would remove the log.
    let copy = |to: &str| {
        let to = place.folder.path().join(to);
        let done = Command::new("cp").args(["-a"]).arg(&state).arg(&to).status().unwrap();
        assert!(done.success());
        to
    };
    let kept = copy("kept");
    let expected = place.answers();
    for without in [&[][..], &["control.db-shm", "paid.db-shm"], &["control.db-shm", "objects/.tmp", "objects/.locks"]]
    {
        std::fs::remove_dir_all(&state).unwrap();
        assert!(Command::new("cp").arg("-a").arg(&kept).arg(&state).status().unwrap().success());
        for name in without {
            let path = state.join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap()
            } else {
                std::fs::remove_file(path).ok();
            }
        }
        assert!(std::fs::metadata(&log).unwrap().len() > 0);
        close_for_writing(&state);
        place.nobody_sees(&expected);
    }
}

/// Checks the commands that read records and the ledger. A query of a paid model is refused, because its cost could not
/// be recorded.
#[test]
fn records_and_costs_are_read_without_permission_to_write() {
    if !is_root() {
        return;
    }
    let shop = batches(Vec::new());
    shop.records(20, plain);
    shop.ingest_records(&["--wait"]).code(0);
    let reading: [&[&str]; 6] = [
        &["status"],
        &["cost"],
        &["cost", "--by", "collection", "--json"],
        &["batch", "list"],
        &["store", "info", "--set", "state.collection=products"],
        &["search", "--collection", "products", "--mode", "full-text", "product"],
    ];
    let expected: Vec<_> = reading.iter().map(|args| shop.run(args).code(0).out.clone()).collect();
    let program = program_for_all(&shop.place);
    close_for_writing(&shop.place.state());
    for (args, expected) in reading.iter().zip(expected) {
        let ran = as_nobody(&program, &shop.command(args));
        assert_eq!(ran.code(0).out, expected, "{args:?}");
    }
    let before = shop.mock.charges().nanodollars();
    let refused = as_nobody(&program, &shop.command(&["search", "--collection", "products", "product"]));
    assert!(!refused.status.success() && refused.err.contains("opened for reading"), "{}", refused.err);
    assert_eq!(shop.mock.charges().nanodollars(), before);
}

#[test]
fn another_user_reads_while_the_owner_works() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let state = place.folder.state();
    // The service closes its folder to others when it starts, and only then.
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut serve = place.folder.command(["serve", "--progress", "none"]);
    serve.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut serve = Running::of(serve.spawn().unwrap());
    let is_closed = || std::fs::metadata(&state).unwrap().permissions().mode() & 0o077 == 0;
    eventually("the service closes its folder", is_closed);
    // The service may still open databases, whose new files are its own until the test opens them to others.
    let reads = |args: &[&str]| {
        close_for_writing(&state);
        place.as_nobody(args).status.success()
    };
    for args in READING {
        eventually(&format!("another user can run {args:?}"), || reads(args));
    }
    assert!(serve.is_running());
}

#[test]
fn a_read_only_disk_is_read() {
    let Some(disk) = docweir_testkit::processes::SmallDisk::new(64 << 20) else { return };
    let folder = TestFolder::new();
    folder.write("0.txt", "The lease of harbour 0 is fenced.\n");
    let state = disk.path().join("state");
    let with_state = |args: &[&str]| folder.run([&["--state", state.to_str().unwrap()], args].concat());
    with_state(&["ingest", "docs", "--progress", "none"]).code(0);
    let expected: Vec<_> = READING.iter().map(|args| with_state(args).code(0).out.clone()).collect();
    disk.make_read_only();
    for (args, expected) in READING.iter().zip(expected) {
        let ran = with_state(args);
        assert_eq!((ran.code(0).out.as_str(), ran.err.as_str()), (expected.as_str(), ""), "{args:?}");
    }
    let refused = with_state(&["retry", "docs/0.txt"]);
    assert!(!refused.status.success() && refused.err.contains("writable"), "{}", refused.err);
}
