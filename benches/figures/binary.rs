//! Measures the speed and peak memory of the docweir program on generated documents.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::generate;

/// Compares the peak memory of a large run with that of a small run. The goal is a ratio of at most 1.3.
pub fn memory() {
    let [few, many] = [500, 10_000].map(|documents| ingest(documents, "hashed"));
    println!("  peak memory with 10,000 documents, divided by peak memory with 500: {:.2}\n", many / few);
}

pub fn model() {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    if cache.is_some_and(|c| c.join("docweir/models").is_dir()) {
        ingest(1_000, "local");
    } else {
        println!("  skipped: the model is not on this machine; `docweir ingest` downloads it\n");
    }
}

/// Runs one ingest and prints its figures. Returns the peak memory of the process in MB.
fn ingest(documents: u64, provider: &str) -> f64 {
    let place = tempfile::tempdir().unwrap();
    generate(&place.path().join("docs"), documents);
    let started = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_docweir"))
        .args(["ingest", "docs", "--json", "--progress", "none"])
        .current_dir(place.path())
        .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", provider)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let peaks = Peaks::watch(child.id());
    let output = child.wait_with_output().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let (peak, children) = peaks.end();
    assert!(output.status.success(), "{}", output.status);
    let summary: Value =
        serde_json::from_slice(output.stdout.trim_ascii_end().rsplit(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!(summary["completed"], documents);
    let rate = |key: &str| summary[key].as_f64().unwrap_or(f64::NAN) / seconds;
    println!(
        "  {documents} documents, {provider} embedder: {seconds:.1} s, {:.0} documents/s, {:.0} pages/s, {:.0} chunks/s, \
         {:.0} tokens/s, peak {peak:.0} MB, extractors {children:.0} MB",
        documents as f64 / seconds,
        rate("pages"),
        rate("chunks"),
        rate("tokens"),
    );
    peak
}

/// Finds two peaks of resident memory, in MB: that of a process, and that of all its children together. The memory is
/// sampled every 10 ms.
struct Peaks(std::thread::JoinHandle<(f64, f64)>);

impl Peaks {
    fn watch(pid: u32) -> Self {
        Self(std::thread::spawn(move || {
            let (mut own, mut children) = (0.0f64, 0.0f64);
            while let Some(peak) = status(pid, "VmHWM:") {
                own = own.max(peak);
                let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
                let each = listed.split_whitespace().filter_map(|child| status(child.parse().ok()?, "VmRSS:"));
                children = children.max(each.sum());
                std::thread::sleep(Duration::from_millis(10));
            }
            (own, children)
        }))
    }

    fn end(self) -> (f64, f64) {
        self.0.join().unwrap()
    }
}

/// Reads one line of `/proc/PID/status` and returns its value in MB. Returns `None` after the process has ended.
fn status(pid: u32, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
