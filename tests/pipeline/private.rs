//! Tests that private data stays private. Other users cannot read the state, and a document that takes control of its
//! parser cannot read API keys. Text that must be redacted is not kept.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::kit::{TestFolder, eventually};

/// Returns the mode of every file and folder at and below `path`, with its name.
fn modes(path: &Path) -> Vec<(u32, String)> {
    let entries = walkdir::WalkDir::new(path).into_iter().map(Result::unwrap);
    entries.map(|e| (e.metadata().unwrap().mode() & 0o777, e.path().display().to_string())).collect()
}

#[test]
fn state_is_private_whatever_the_umask() {
    let place = TestFolder::new();
    place.write("secret.md", "# Salaries\n\nThe figures of the board.\n");
    let program = place.command(["x"]).get_program().to_owned();
    let ingest = |umask: &str, more: &str| {
        let mut shell = Command::new("sh");
        let line = format!("umask {umask}; exec \"$0\" ingest docs --progress none {more}");
        shell.args(["-c", &line]).arg(&program).current_dir(place.path());
        shell.env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "hashed");
        assert!(shell.status().unwrap().success());
    };
    ingest("000", "");
    for (mode, name) in modes(&place.state()) {
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
    // State of an earlier version, which everybody could read, is closed by the next command.
    std::fs::set_permissions(place.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
    place.run(["status"]).code(0);
    assert_eq!(std::fs::metadata(place.state()).unwrap().mode() & 0o777, 0o700);

    ingest("000", "--state shared --set state.group_access=true");
    let shared = modes(&place.path().join("shared"));
    assert!(shared.iter().all(|(mode, _)| mode & 0o007 == 0), "{shared:?}");
    assert!(shared.iter().any(|(mode, _)| mode & 0o060 == 0o060), "the group must be able to work: {shared:?}");
}

/// Tries to read the environment of the running program from another process of the same user, as a hijacked parser
/// process could. The attempt must fail.
#[test]
fn the_environment_of_a_running_process_is_hidden_from_its_user() {
    const NOBODY: &str = "65534";
    let is_root = rustix::process::geteuid().is_root();
    let place = TestFolder::new();
    place.write("a.md", "# A\n\nText.\n");
    let as_user = |program: &std::ffi::OsStr| {
        // Root may read everything, so the test runs both processes as another user.
        let mut command = Command::new(if is_root { "setpriv".as_ref() } else { program });
        if is_root {
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
        }
        command
    };
    // The program must be executable for that user, wherever it was built.
    let program = place.path().join("docweir");
    std::fs::copy(place.command(["x"]).get_program(), &program).unwrap();
    if is_root {
        for path in [place.path().to_owned(), place.path().join("docs")] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
    }
    let mut serve = as_user(program.as_os_str());
    serve.args(["serve", "--progress", "none"]).current_dir(place.path());
    serve.env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "hashed").env("OPENAI_API_KEY", "sk-do-not-show");
    let mut serve = serve.spawn().unwrap();
    let environ = format!("/proc/{}/environ", serve.id());
    eventually("the service has its state", || place.state().join("format").exists());
    let read = as_user("cat".as_ref()).arg(&environ).output().unwrap();
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert!(!read.status.success() && read.stdout.is_empty(), "{}", String::from_utf8_lossy(&read.stdout));
}

/// Replaces files in the state folder by named pipes, as an attacker could. Opening a pipe normally waits for a writer,
/// which never comes here. Each command must end instead of waiting.
#[test]
fn a_pipe_in_the_state_is_an_error_and_no_wait() {
    let place = TestFolder::new();
    place.write("a.md", "# A\n\nText.\n");
    place.ingest(&[]).code(0);
    let objects = place.state().join("objects");
    let manifest = crate::kit::files(&objects).into_iter().find(|path| path.ends_with("MANIFEST")).unwrap();
    let data = crate::kit::files(&objects).into_iter().find(|path| path.extension().is_some_and(|e| e == "parquet"));
    for file in [manifest, data.unwrap(), place.state().join("format")] {
        let kept = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for args in [&["search", "text"][..], &["store", "verify"], &["status"]] {
            let mut command = place.command(args);
            let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
            let mut ended = None;
            eventually("the command ends", || {
                ended = child.try_wait().unwrap();
                ended.is_some()
            });
            let may_succeed = args == ["status"] && !file.ends_with("format");
            assert!(may_succeed || !ended.unwrap().success(), "{args:?} with a pipe as {}", file.display());
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, kept).unwrap();
    }
    place.run(["search", "text"]).code(0);

    // Nor may the folder be a link: its target could be readable or writable by others.
    let elsewhere = place.path().join("elsewhere");
    std::fs::rename(&objects, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &objects).unwrap();
    let ran = place.run(["search", "text"]);
    assert!(!ran.status.success() && ran.err.contains("symbolic link"), "{}", ran.err);
}

/// Checks that redaction leaves the original text in no file of the state folder. This holds for a complete document,
/// and for a document that is quarantined after its text was extracted. It also holds when the next run has ended after
/// a crash between two stages.
#[test]
fn text_before_redaction_is_not_kept() {
    const PRIVATE: &str = "zenobia.q@example.org";
    let place = TestFolder::new();
    place.write("letter.md", format!("# A letter\n\nWrite to {PRIVATE} about the lease of the flat.\n"));
    let redact = ["--set", "enrich.options.redact=true", "--set", "quarantine.copy_original=false"];
    let holders = || {
        let contains = |body: &[u8]| body.windows(PRIVATE.len()).any(|window| window == PRIVATE.as_bytes());
        let holds = |path: &std::path::PathBuf| contains(&std::fs::read(path).unwrap());
        let packed = place.artefacts("").into_iter().filter(|(_, body)| contains(body));
        let packed = packed.map(|(key, _)| std::path::PathBuf::from(key));
        packed.chain(crate::kit::files(&place.state()).into_iter().filter(holds)).collect::<Vec<_>>()
    };
    // The program dies between the end of enrichment and the deletion.
    let mut crashing = place.command(["ingest", "docs", "--json", "--progress", "none"]);
    crashing.args(redact).env("DOCWEIR_FAILPOINT", "enrichment.persisted=1");
    assert!(!crashing.output().unwrap().status.success());
    assert!(!holders().is_empty(), "the crash left the text, or this test tests nothing");
    place.ingest(&redact).code(0);
    assert_eq!(holders(), Vec::<std::path::PathBuf>::new());
    assert!(place.run(["search", "lease of the flat"]).code(0).out.contains("[REDACTED_EMAIL]"));

    // A stage between extraction and redaction always fails, so the document is quarantined.
    place.write("letter.md", format!("# Another letter\n\nWrite to {PRIVATE} about the house.\n"));
    let mut failing = place.command(["ingest", "docs", "--json", "--progress", "none"]);
    failing.args(redact).args(["--set", "retry.waits_seconds=[0.0]"]).env("DOCWEIR_FAILPOINT", "chunking.work=panic:*");
    assert_eq!(failing.output().unwrap().status.code(), Some(3));
    assert_eq!(holders(), Vec::<std::path::PathBuf>::new());
}
