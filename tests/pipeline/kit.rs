//! Provides a folder of documents, a state folder, and the binary that works on both.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use docweir::config::{Argument, Config, Source};
use docweir::engine::Engine;
use docweir_core::clock::{SharedClock, SystemClock};
use docweir_objects::local::{LocalObjectOptions, LocalObjectStore};
use docweir_objects::{ObjectStore, Pages};
use docweir_stores::packed::PackedObjects;
use serde_json::Value;

pub struct TestFolder {
    dir: tempfile::TempDir,
}

/// Holds the exit status and the output of a command.
pub struct Ran {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            status: output.status,
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn code(&self, expected: i32) -> &Self {
        assert_eq!(self.status.code(), Some(expected), "\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    /// Parses each line of standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// Returns the summary of `ingest --json`.
    #[track_caller]
    pub fn summary(&self) -> Value {
        let last = self.json().pop().unwrap_or_else(|| panic!("no summary: {}", self.err));
        assert_eq!(last["event"], "summary", "{last}");
        last
    }
}

impl TestFolder {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("docs")).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn docs(&self) -> PathBuf {
        self.dir.path().join("docs")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join(".docweir")
    }

    pub fn write(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.docs().join(Path::new(name.as_ref()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes `n` generated documents of two pages each.
    pub fn generate(&self, n: u64) {
        for seed in 0..n {
            self.write(format!("{seed:04}.pdf"), docweir_testkit::two_pages(seed));
        }
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_docweir"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DOCWEIR") {
                command.env_remove(name);
            }
        }
        command.env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "hashed");
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs `ingest docs --json` with the arguments in `more`.
    pub fn ingest(&self, more: &[&str]) -> Ran {
        self.run([&["ingest", "docs", "--json", "--progress", "none"], more].concat())
    }

    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(command.spawn().unwrap()))
    }

    /// Starts `ingest docs --json` with the arguments in `more`, and returns while it runs.
    pub fn spawn_ingest(&self, more: &[&str]) -> Running {
        self.spawn(&[&["ingest", "docs", "--json", "--progress", "none"], more].concat())
    }

    /// Returns the file names of the documents that a full-text search finds.
    #[track_caller]
    pub fn found(&self, query: &str) -> Vec<String> {
        let ran = self.run(["search", "--mode", "full-text", "-k", "50", "--json", query]);
        assert!(matches!(ran.status.code(), Some(0 | 1)), "{}", ran.err);
        let mut names: Vec<String> = ran.json().iter().flat_map(results).map(|hit| file_name(&hit["source"])).collect();
        names.dedup();
        names
    }

    /// Returns all control records.
    #[track_caller]
    pub fn records(&self) -> Vec<Value> {
        let ran = self.run(["status", "--all", "--json"]);
        ran.code(0);
        ran.json()
    }

    /// Returns the texts of all passages that a search can find now, by the file name of their document. This function
    /// calls the library directly and does not run the binary. The map is empty before the first run.
    pub fn visible(&self) -> BTreeMap<String, Vec<String>> {
        if !self.state().join("control.db").exists() {
            return BTreeMap::new();
        }
        let folder = Argument::new("--state", "state.folder", self.state().to_str().unwrap());
        let config = Config::load(&Source::None, [], vec![folder]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let view =
            runtime.block_on(async { Engine::open(config).await.unwrap().vectors().unwrap().view().await.unwrap() });
        let mut visible = BTreeMap::new();
        for entry in view.documents() {
            let rows = view.rows_of(&entry.id);
            assert_eq!(rows.len(), entry.rows as usize, "{entry:?}");
            visible.insert(file_name(&entry.source.as_str().into()), rows.into_iter().map(|row| row.text).collect());
        }
        visible
    }

    /// Returns the artefacts whose keys begin with `prefix`, wherever they are stored. The map is empty before the
    /// first run.
    pub fn artefacts(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        if !self.state().join("objects").exists() {
            return BTreeMap::new();
        }
        let clock: SharedClock = Arc::new(SystemClock);
        let files = LocalObjectStore::open(&self.state().join("objects"), LocalObjectOptions::default(), &clock);
        let rows = self.state().join("artefacts.db");
        let objects = PackedObjects::new(&rows, Arc::new(files.unwrap()), 0, clock);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut found = BTreeMap::new();
            let mut pages = Pages::new(&objects, prefix);
            while let Some(page) = pages.next().await.unwrap() {
                for object in page {
                    // It may be deleted meanwhile.
                    if let Ok((body, _)) = objects.get(&object.key).await {
                        found.insert(object.key, body.to_vec());
                    }
                }
            }
            found
        })
    }

    /// Asserts that every control record is complete, and that the index contains exactly `documents` documents.
    #[track_caller]
    pub fn assert_complete(&self, documents: usize) {
        let records = self.records();
        let statuses: Vec<_> = records.iter().filter(|r| r["status"] != "COMPLETED").collect();
        assert!(statuses.is_empty(), "not complete: {statuses:?}");
        assert_eq!(records.len(), documents);
        let status = self.run(["status", "--json"]);
        status.code(0);
        let index = &status.json()[0]["index"];
        assert_eq!(index["documents"], documents, "{index}");
    }
}

pub fn results(answer: &Value) -> Vec<Value> {
    answer["results"].as_array().cloned().unwrap_or_default()
}

pub fn file_name(source: &Value) -> String {
    Path::new(source.as_str().unwrap()).file_name().unwrap().to_string_lossy().into_owned()
}

/// Holds a running process and kills it when dropped, so that it does not outlive its test.
pub struct Running(Option<Child>);

impl Running {
    pub fn of(child: Child) -> Self {
        Self(Some(child))
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    pub fn finish(mut self) -> Ran {
        Ran::of(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Polls until `holds` returns true, and panics after one minute.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "not true within one minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
