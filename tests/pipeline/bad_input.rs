//! Tests input that cannot be processed. Each bad input is reported with a clear reason, the exit code reports the
//! failure, and all other input is processed.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::kit::{Ran, Running, TestFolder, eventually, results};

/// Returns the file name and the error code of each quarantined document, sorted by name.
fn reasons(ran: &Ran) -> Vec<(String, String)> {
    let summary = ran.summary();
    let mut reasons: Vec<_> = summary["quarantined"]
        .as_array()
        .unwrap()
        .iter()
        .map(|q| (crate::kit::file_name(&q["source"]), q["error"]["code"].as_str().unwrap().to_owned()))
        .collect();
    reasons.sort();
    reasons
}

#[test]
fn each_bad_file_has_its_reason_and_the_good_one_is_done() {
    let place = TestFolder::new();
    place.write("good.pdf", docweir_testkit::two_pages(1));
    place.write("empty.pdf", b"");
    place.write("image.pdf", b"\x89PNG\r\n\x1a\n0000");
    place.write("locked.pdf", docweir_testkit::hostile::encrypted_aes());
    place.write("scan.pdf", docweir_testkit::hostile::no_text());
    let ran = place.ingest(&[]);
    ran.code(3);
    let expected = [
        ("empty.pdf", "empty_file"),
        ("image.pdf", "unknown_type"),
        ("locked.pdf", "encrypted"),
        ("scan.pdf", "no_text"),
    ];
    assert_eq!(reasons(&ran), expected.map(|(n, r)| (n.to_owned(), r.to_owned())));
    assert_eq!(ran.summary()["completed"], 1);

    // The next run does not retry the bad files, but it still reports them.
    let again = place.ingest(&[]);
    again.code(3);
    assert_eq!((&again.summary()["completed"], &again.summary()["still_quarantined"]), (&0.into(), &4.into()));

    // The failed artefact and the original are kept.
    let listed = place.run(["quarantine", "list", "--json"]);
    listed.code(0);
    assert_eq!(listed.json().len(), 4);
    let record = &place.records().into_iter().find(|r| r["status"] == "QUARANTINED").unwrap();
    for key in ["quarantine_artefact", "quarantine_original"] {
        let object = place.state().join("objects").join(record[key].as_str().unwrap());
        assert!(object.exists(), "{}", object.display());
    }
}

#[test]
fn a_quarantined_document_goes_on_when_its_cause_is_mended() {
    let place = TestFolder::new();
    let path = place.write("scan.pdf", docweir_testkit::hostile::no_text());
    place.ingest(&[]).code(3);
    place.run(["quarantine", "replay", path.to_str().unwrap()]).code(0);
    place.ingest(&["--set", "extract.options.accept_textless=true"]).code(0);
    place.assert_complete(1);
    let left = crate::kit::files(&place.state().join("objects/input/_quarantine")).len();
    assert_eq!(left, 0, "the copies in quarantine must be deleted after a successful replay");
}

#[test]
fn damaged_and_hostile_files_cost_no_more_than_themselves() {
    let place = TestFolder::new();
    place.generate(3);
    let all = docweir_testkit::hostile::all();
    for file in &all {
        place.write(format!("hostile-{}", file.name), &file.bytes);
    }
    let ran = place.ingest(&[
        "--set",
        "extract.options.stall_seconds=3",
        "--set",
        "extract.options.cpu_seconds=5",
        "--set",
        "extract.options.deadline_seconds=10",
        "--set",
        "retry.waits_seconds=[0.0]",
    ]);
    let summary = ran.summary();
    let done = summary["completed"].as_u64().unwrap();
    let quarantined = summary["quarantined"].as_array().unwrap().len() as u64;
    assert!(done >= 3, "{summary}");
    assert!(matches!(ran.status.code(), Some(0 | 3)));
    let records = place.records();
    assert_eq!(records.len() as u64, done + quarantined, "each file must be completed or quarantined");
}

#[test]
fn a_path_that_is_not_there_and_an_empty_folder() {
    let place = TestFolder::new();
    let ran = place.run(["ingest", "nowhere"]);
    ran.code(2);
    assert!(ran.err.contains("no such file or folder: nowhere"), "{}", ran.err);
    assert!(!place.state().exists(), "a mistyped path must not create a state folder");
    let ran = place.ingest(&[]);
    ran.code(0);
    assert_eq!(ran.summary()["files"], 0);
}

#[test]
fn a_pipe_and_a_device_are_no_documents_and_hold_nothing_up() {
    let place = TestFolder::new();
    place.write("good.txt", "A document.\n");
    let pipe = place.path().join("pipe.txt");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let ran = place.run(["ingest", "docs", "pipe.txt", "/dev/zero", "--json", "--progress", "none"]);
    assert_eq!(ran.summary()["completed"], 1);
    ran.code(3);
    let unreadable: Vec<_> = ran.json().into_iter().filter(|e| e["event"] == "unreadable").collect();
    assert_eq!(unreadable.len(), 2, "{unreadable:?}");
    assert!(unreadable.iter().all(|e| e["reason"] == "not a regular file"), "{unreadable:?}");
}

/// Returns whether a process has stopped itself.
fn is_stopped(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
}

/// Changes the file between each registration and the reading that follows. The program stops itself there, so the test
/// does not depend on the speed of the machine.
#[test]
fn a_file_that_never_rests_is_given_up() {
    let place = TestFolder::new();
    place.write("growing.txt", "0\n");
    let limits = ["--set", "intake.max_changes=3", "--set", "retry.waits_seconds=[0.0]"];
    let mut command = place.command([&["ingest", "docs", "--json", "--progress", "none"][..], &limits].concat());
    command.env("DOCWEIR_FAILPOINT", "extraction.begun=stop:*").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::of(command.spawn().unwrap());
    let mut changes = 0;
    eventually("the run ends", || {
        if is_stopped(running.id()) {
            changes += 1;
            place.write("growing.txt", "1\n".repeat(changes + 1));
            running.signal(rustix::process::Signal::CONT);
        }
        !running.is_running()
    });
    let ran = running.finish();
    ran.code(3);
    assert_eq!(reasons(&ran), [("growing.txt".to_owned(), "source_unstable".to_owned())]);
    assert!(changes >= 3, "{changes}");
    place.ingest(&[]).code(0);
    place.assert_complete(1);
}

/// Replaces the folder of a registered file by a link to a folder outside, between registration and reading.
#[test]
fn a_folder_that_becomes_a_link_does_not_lead_out() {
    let place = TestFolder::new();
    place.write("inner/a.txt", "Inside.\n");
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("a.txt"), "Outside and secret.\n").unwrap();
    let mut command = place.command(["ingest", "docs", "--json", "--progress", "none"]);
    command.env("DOCWEIR_FAILPOINT", "extraction.begun=stop:*").stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = Running::of(command.spawn().unwrap());
    let inner = place.docs().join("inner");
    eventually("the run stops itself before it reads the file", || is_stopped(running.id()));
    std::fs::rename(&inner, place.docs().join(".moved")).unwrap();
    std::os::unix::fs::symlink(outside.path(), &inner).unwrap();
    running.signal(rustix::process::Signal::CONT);
    let ran = running.finish();
    ran.code(3);
    assert_eq!(reasons(&ran), [("a.txt".to_owned(), "not_a_file".to_owned())]);
    assert!(ran.out.contains("symbolic link"), "{}", ran.out);
    assert_eq!(place.visible().len(), 0);
}

#[test]
fn what_was_left_alone_is_not_pruned_and_what_was_given_up_is_not_told_again() {
    let place = TestFolder::new();
    place.write("a.txt", "One.\n");
    place.write("NOTES", "Without an extension: named by hand.\n");
    place.write("empty.pdf", "");
    place.ingest(&["docs/NOTES"]).code(3);
    let gone = place.write("gone.txt", "Soon gone.\n");
    place.ingest(&["--prune", "--exclude", "a.txt"]).code(3);
    std::fs::remove_file(gone).unwrap();
    place.ingest(&["--prune", "--exclude", "a.txt"]).code(3);
    let names: Vec<String> = place.visible().into_keys().collect();
    assert_eq!(names, ["NOTES", "a.txt"]);
    place.run(["quarantine", "discard", "docs/empty.pdf"]).code(0);
    place.ingest(&[]).code(0);
}

#[test]
fn a_name_that_is_not_utf8() {
    let place = TestFolder::new();
    place.write(std::ffi::OsStr::from_bytes(b"caf\xe9.txt"), "A latin name.\n");
    place.ingest(&[]).code(0);
    let ran = place.run(["search", "--mode", "full-text", "--json", "latin"]);
    ran.code(0);
    assert_eq!(results(&ran.json()[0]).len(), 1);
    let records = place.records();
    assert!(records[0]["source"].as_str().unwrap().ends_with("/caf%E9.txt"), "{}", records[0]["source"]);
}

#[test]
fn five_thousand_pages_are_processed_and_a_limit_refuses_them_by_name() {
    let place = TestFolder::new();
    place.write("long.pdf", docweir_testkit::pages(5_000, 7));
    let refused = place.ingest(&["--set", "extract.options.limits.pages=4999"]);
    refused.code(3);
    assert_eq!(reasons(&refused), [("long.pdf".to_owned(), "too_many_pages".to_owned())]);
    let said = refused.summary()["quarantined"][0]["error"]["message"].to_string();
    assert!(said.contains("4999") && said.contains("pages"), "{said}");
    let ran = place.ingest(&[]);
    ran.code(0);
    assert_eq!(ran.summary()["pages"], 5_000);
}

#[test]
fn without_permission_to_read_a_file_the_rest_is_done() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to run as another user");
        return;
    }
    let place = TestFolder::new();
    place.write("open.txt", "Everybody may read.\n");
    let closed = place.write("closed.txt", "Nobody may read.\n");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(place.path(), everybody).unwrap();
    let plain = place.command(["ingest", "docs", "--json", "--progress", "none"]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(copy_of_the_binary(&place));
    command.args(plain.get_args()).current_dir(place.path());
    command.env("HOME", place.path()).env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "hashed");
    let ran = Ran::of(command.output().unwrap());
    ran.code(3);
    let summary = ran.summary();
    assert_eq!(summary["completed"], 1);
    let unreadable = &summary["unreadable"][0];
    assert!(unreadable["source"].as_str().unwrap().ends_with("closed.txt"));
    assert!(unreadable["reason"].as_str().unwrap().contains("ermission denied"), "{unreadable}");
}

/// Copies the binary into the test folder, so that a user other than root can run it. The build folder may be readable
/// by root only.
fn copy_of_the_binary(place: &TestFolder) -> std::path::PathBuf {
    let copy = place.path().join("docweir-bin");
    std::fs::copy(env!("CARGO_BIN_EXE_docweir"), &copy).unwrap();
    copy
}

#[test]
fn a_full_disk_ends_the_run_with_its_own_code_and_the_next_run_completes() {
    let Some(disk) = Disk::of(4) else { return };
    let place = TestFolder::new();
    place.generate(60);
    let state = disk.path.join("state");
    let ran = place.ingest(&["--state", state.to_str().unwrap()]);
    ran.code(70);
    assert!(ran.err.contains("space"), "the message does not name the disk space: {}", ran.err);
    disk.resize(512);
    let ran = place.ingest(&["--state", state.to_str().unwrap()]);
    ran.code(0);
    let status = place.run(["--state", state.to_str().unwrap(), "status", "--json"]);
    assert_eq!(status.json()[0]["index"]["documents"], 60);
}

#[test]
fn a_read_only_disk_is_told_as_such() {
    let Some(disk) = Disk::of(8) else { return };
    let place = TestFolder::new();
    place.generate(1);
    disk.remount("ro");
    let ran = place.ingest(&["--state", disk.path.join("state").to_str().unwrap()]);
    ran.code(70);
    assert!(ran.err.to_lowercase().contains("read-only"), "{}", ran.err);
}

#[test]
fn a_slip_in_the_configuration_names_key_line_and_what_was_meant() {
    let place = TestFolder::new();
    std::fs::write(place.path().join("docweir.toml"), "[chunk.options]\ntarget_chars = 900\nmax_char = 5\n").unwrap();
    let ran = place.ingest(&[]);
    ran.code(4);
    for part in ["docweir.toml:3", "chunk.options.max_char", "chunk.options.max_chars"] {
        assert!(ran.err.contains(part), "the message lacks {part}: {}", ran.err);
    }
    std::fs::write(place.path().join("docweir.toml"), "\n[retry]\nattempts = 0\n").unwrap();
    let ran = place.run(["config", "check"]);
    ran.code(4);
    assert!(ran.err.contains("docweir.toml:3") && ran.err.contains("retry.attempts"), "{}", ran.err);
}

/// Mounts a small file system, and unmounts it when dropped.
struct Disk {
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn of(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "docweir-test"])
            .arg(dir.path())
            .status();
        if !mounted.is_ok_and(|s| s.success()) {
            println!("skipped: cannot mount a small file system here");
            return None;
        }
        Some(Self { path: dir.path().to_owned(), _dir: dir })
    }

    fn resize(&self, mebibytes: u32) {
        self.remount(&format!("size={mebibytes}m"));
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.path).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

/// Runs under a limit on the address space that is too low for an extraction process. That is a fault of the machine, so
/// no document is quarantined.
#[test]
fn a_machine_that_cannot_start_extraction_is_reported_and_no_document_is_blamed() {
    let place = TestFolder::new();
    place.write("good.txt", "A good document.\n");
    let limited = |args: &[&str]| {
        let command = place.command(args);
        let mut shell = Command::new("bash");
        shell.args(["-c", "ulimit -v 550000; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Ran::of(shell.current_dir(command.get_current_dir().unwrap()).output().unwrap())
    };
    let ran = limited(&["ingest", "docs", "--json", "--progress", "none"]);
    ran.code(70);
    assert!(ran.err.contains("ulimit -v"), "{}", ran.err);
    assert_eq!(ran.err.lines().filter(|line| line.contains("docweir: ")).count(), 1, "{}", ran.err);
    let checked = limited(&["doctor"]);
    checked.code(1);
    assert!(checked.out.contains("address space") && checked.out.contains("ulimit -v"), "{}", checked.out);
    place.ingest(&[]).code(0);
    place.assert_complete(1);
}
