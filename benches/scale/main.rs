//! Measures whether the cost of an operation grows with the collection: `cargo bench --bench scale -- N…`.
//!
//! For each number of documents, the docweir program ingests that many generated text files of about 600 bytes, with state
//! in a folder and the test embedder. The figures of each step are printed as one table, with one column for each number.
//! All files are in a temporary folder, which `TMPDIR` selects. A million documents need about 30 GB there.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints figures")]

#[path = "../figures/peaks.rs"]
mod peaks;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use peaks::{Usage, measured};
use serde_json::Value;

/// Number of documents in one folder.
const FOLDER: u64 = 1_000;
/// Number of calls of which the median counts.
const CALLS: usize = 5;
/// Maximum time to wait until `docweir serve` is ready.
const START_UP_LIMIT: Duration = Duration::from_secs(300);
/// Numbers of documents, if the command line names none.
const DEFAULT: [u64; 2] = [1_000, 10_000];

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut sizes = Vec::new();
    for argument in &arguments {
        match argument.replace([',', '_'], "").parse::<u64>() {
            Ok(documents @ 200..) => sizes.push(documents),
            _ => {
                println!("`{argument}` is not a number of documents; give numbers from 200 on");
                return 2.into();
            }
        }
    }
    if sizes.is_empty() {
        sizes = DEFAULT.to_vec();
    }
    let tables: Vec<Vec<(&str, String)>> = sizes.iter().map(|documents| measure(*documents)).collect();
    println!("{:44}{}", "documents", cells(sizes.iter().map(u64::to_string)));
    for (row, (name, _)) in tables[0].iter().enumerate() {
        println!("{name:44}{}", cells(tables.iter().map(|table| table[row].1.clone())));
    }
    std::process::ExitCode::SUCCESS
}

fn cells(values: impl Iterator<Item = String>) -> String {
    values.fold(String::new(), |mut line, value| {
        write!(line, "{value:>14}").unwrap();
        line
    })
}

/// Runs all steps with a number of documents. Returns the name and the value of each figure.
fn measure(documents: u64) -> Vec<(&'static str, String)> {
    let place = Place { folder: tempfile::tempdir().unwrap(), changed: false.into() };
    (0..documents).for_each(|number| place.write(number));
    let mut rows = Vec::new();
    let mut run = |name: &'static str, counted: &str, more: &[&str], expected: u64| {
        let (summary, seconds, usage) = place.ingest(more);
        assert_eq!(summary[counted], expected, "{name}: {summary}");
        rows.push((name, format!("{:.0}", expected as f64 / seconds)));
        (seconds, usage)
    };
    let (first_seconds, first) = run("first ingest, documents/s", "completed", &[], documents);
    let (unchanged_seconds, unchanged) = run("unchanged rerun, documents/s", "unchanged", &[], documents);
    let (bytes, files) = place.size();
    place.changed.set(true);
    let (_, again) = run("rerun with other chunks, documents/s", "completed", &[], documents);
    let removed = documents / 100;
    (0..removed).for_each(|number| std::fs::remove_file(place.path(number * 100)).unwrap());
    let (prune_seconds, pruned) = run("prune of 1 %, documents/s", "deleted", &["--prune"], removed);
    rows.push(("the same run, s", format!("{prune_seconds:.1}")));
    rows.push(("unchanged rerun, s", format!("{unchanged_seconds:.1}")));
    // All of these documents are left.
    let key = |number: u64| place.path(number).to_str().unwrap().to_owned();
    let mut odd = (1..documents).step_by(2);
    let mut next = || key(odd.next().unwrap());
    rows.push(("delete, ms", place.median(|| vec!["delete".into(), next()])));
    rows.push(("retry, ms", place.median(|| vec!["retry".into(), next()])));
    rows.push(("audit, ms", place.median(|| vec!["audit".into(), next()])));
    rows.push(("status, ms", place.median(|| vec!["status".into()])));
    rows.push(("start-up of `serve` until ready, ms", place.start_up()));
    rows.push(("search, ms", place.median(|| vec!["search".into(), "apples of the north".into()])));
    place.write(documents);
    let one = Instant::now();
    place.run(&["ingest", &key(documents), "--json", "--progress", "none"]);
    rows.push(("ingest of one more document, ms", format!("{:.0}", one.elapsed().as_secs_f64() * 1e3)));
    let busy = first.actors_seconds / first_seconds;
    rows.push(("actors' thread, first ingest, % busy", format!("{:.0}", busy * 100.0)));
    rows.push(("it would be full at, documents/s", format!("{:.0}", documents as f64 / first.actors_seconds)));
    for (name, usage) in [
        ("anonymous memory, first ingest, MB", first),
        ("anonymous memory, unchanged rerun, MB", unchanged),
        ("anonymous memory, other chunks, MB", again),
        ("anonymous memory, prune, MB", pruned),
    ] {
        rows.push((name, format!("{:.0}", usage.anonymous)));
    }
    rows.push(("state, bytes for each document", format!("{}", bytes / documents)));
    rows.push(("state, files for each document", format!("{:.2}", files as f64 / documents as f64)));
    rows
}

/// Holds the documents and the state of one measurement.
struct Place {
    folder: tempfile::TempDir,
    /// True once another chunk length is configured.
    changed: std::cell::Cell<bool>,
}

impl Place {
    fn path(&self, number: u64) -> PathBuf {
        self.folder.path().join(format!("docs/{:04}/{number:07}.txt", number / FOLDER))
    }

    /// Writes a document of one page, whose text differs from that of all others.
    fn write(&self, number: u64) {
        let path = self.path(number);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = format!("Report {number} on the harvest of apples.\n\n");
        for line in 0..8 {
            let place = (number * 31 + line * 7) % 9_973;
            writeln!(text, "In orchard {place}, row {line} yields {} baskets of fruit each week.", number % 997)
                .unwrap();
        }
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_docweir"));
        command.args(arguments).current_dir(self.folder.path()).env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "hashed");
        if self.changed.get() {
            command.env("DOCWEIR__CHUNK__OPTIONS__TARGET_CHARS", "1000");
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {} {told}", output.status);
        output
    }

    /// Ingests the documents. Returns the summary, the duration in seconds and the usage.
    fn ingest(&self, more: &[&str]) -> (Value, f64, Usage) {
        measured(self.command(&[&["ingest", "docs", "--json", "--progress", "none"], more].concat()))
    }

    /// Returns the median duration of a command, in milliseconds.
    fn median(&self, mut arguments: impl FnMut() -> Vec<String>) -> String {
        let mut times: Vec<f64> = (0..CALLS)
            .map(|_| {
                let arguments = arguments();
                let began = Instant::now();
                self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
                began.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        format!("{:.0}", times[CALLS / 2])
    }

    /// Returns the time from the start of `docweir serve` until it is ready, in milliseconds.
    fn start_up(&self) -> String {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let began = Instant::now();
        let mut serving =
            self.command(&["serve", "--metrics-addr", &port.to_string()]).stderr(Stdio::null()).spawn().unwrap();
        let is_ready = || {
            let mut stream = TcpStream::connect(port).ok()?;
            stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        };
        while is_ready().is_none() {
            assert!(began.elapsed() < START_UP_LIMIT && serving.try_wait().unwrap().is_none(), "serve is not ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        let took = began.elapsed();
        serving.kill().unwrap();
        serving.wait().unwrap();
        format!("{:.0}", took.as_secs_f64() * 1e3)
    }

    /// Returns the bytes on the disk and the number of the files in the state folder.
    fn size(&self) -> (u64, u64) {
        fn add(folder: &Path, sum: &mut (u64, u64)) {
            use std::os::unix::fs::MetadataExt;
            for entry in std::fs::read_dir(folder).unwrap() {
                let (path, data) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
                sum.0 += data.blocks() * 512;
                match data.is_dir() {
                    true => add(&path, sum),
                    false => sum.1 += 1,
                }
            }
        }
        let mut sum = (0, 0);
        add(&self.folder.path().join(".docweir"), &mut sum);
        sum
    }
}
