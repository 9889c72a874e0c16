//! Tests Docweir together with independent programs. Parquet readers open the files of the vector store, and an
//! independent server that speaks OpenAI's protocol receives batches. `scripts/test` installs these programs. Without
//! them, the tests print a message and are skipped.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::kit::{Ran, Running, TestFolder, eventually, files};

/// Returns the Python interpreter of the environment in which the independent programs are installed.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("DOCWEIR_TEST_PYTHON").map(PathBuf::from).filter(|p| p.exists());
    if python.is_none() {
        println!("skipped: DOCWEIR_TEST_PYTHON does not name a Python interpreter; run scripts/test");
    }
    python
}

#[test]
fn delta_files_open_in_duckdb_pyarrow_and_polars() {
    let Some(python) = python() else { return };
    let place = TestFolder::new();
    place.generate(5);
    place.write("empty.txt", "");
    place.write("ärger.md", "# Überschrift\n\nEin Absatz mit Umlauten, 日本語 und «Zeichen».\n");
    place.ingest(&["--set", "compaction.automatic=false"]);
    place.write("0001.pdf", docweir_testkit::two_pages(77));
    place.ingest(&["--set", "compaction.automatic=false"]);
    let deltas: Vec<PathBuf> = files(&place.state().join("objects/vectors/chunks/delta"));
    let deltas: Vec<_> = deltas.into_iter().filter(|f| f.extension().is_some_and(|e| e == "parquet")).collect();
    assert!(deltas.len() >= 2, "{deltas:?}");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python/open_delta.py");
    let opened = Command::new(python).arg(script).args(&deltas).output().unwrap();
    let ran = Ran::of(opened);
    assert_eq!(ran.code(0).out.lines().count(), deltas.len(), "{}", ran.out);
}

/// Runs the server `llmock` until it is dropped.
struct Llmock {
    _running: Running,
    port: u16,
}

impl Llmock {
    fn start(python: &std::path::Path) -> Self {
        // The port was free a moment ago, and no other test uses fixed ports.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(python.with_file_name("llmock"));
        command.args(["serve", "--host", "127.0.0.1", "--port", &port.to_string(), "--log-level", "info"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        // Reads the log to its end, because a full pipe would block the server.
        std::thread::spawn(move || log.lines().for_each(drop));
        eventually("llmock answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { _running: Running::of(child), port }
    }
}

#[test]
fn documents_and_records_pass_a_server_that_nobody_here_wrote() {
    let Some(python) = python() else { return };
    let server = Llmock::start(&python);
    for mode in ["live", "batch"] {
        let place = TestFolder::new();
        place.generate(4);
        let lines: String = (0..30).map(|i| format!("{{\"id\": {i}, \"text\": \"record number {i}\"}}\n")).collect();
        std::fs::write(place.path().join("records.jsonl"), lines).unwrap();
        let run = |args: &[&str]| {
            let mut command = place.command(args);
            command
                .env("OPENAI_API_KEY", "test-key")
                .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
                .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", format!("http://127.0.0.1:{}/v1", server.port))
                .env("DOCWEIR__EMBED__MODE", mode)
                .env("DOCWEIR__BATCH__POLL_SECONDS", "0.2");
            Ran::of(command.output().unwrap())
        };
        run(&["ingest", "docs", "--wait", "--progress", "none"]).code(0);
        place.assert_complete(4);
        let records = ["ingest", "records.jsonl", "--as", "records", "--id", "id", "--text", "text"];
        let ran = run(&[&records[..], &["--wait", "--json", "--progress", "none"]].concat());
        assert_eq!(ran.code(0).summary()["records"]["stored"], 30, "{mode}: {}", ran.out);
        let found = run(&["search", "--collection", "records", "--json", "-k", "3", "number 7"]);
        assert!(found.code(0).out.contains("record number"), "{mode}: {}", found.out);
    }
}
