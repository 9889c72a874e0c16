//! Measures the speed and peak memory of the docweir program on generated documents.

use std::path::Path;
use std::process::Command;

use crate::generate;
use crate::peaks::{Usage, measured};

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
    let mut command = Command::new(env!("CARGO_BIN_EXE_docweir"));
    command.args(["ingest", "docs", "--json", "--progress", "none"]).current_dir(place.path());
    command.env("DOCWEIR__EMBED__OPTIONS__PROVIDER", provider);
    let (summary, seconds, Usage { own: peak, children, .. }) = measured(command);
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
