//! Measures the performance figures of the project: `cargo bench --bench figures [-- PART…]`.
//!
//! - `kernel`: documents per second through five pools whose stages do nothing, in memory and with the control store.
//! - `overhead`: run time of the pipeline compared with that of a plain parallel loop. The loop runs the same stages,
//!   writes the same records and makes the same kind of commits. The embedder takes 1 ms per chunk.
//! - `memory`: peak memory of the docweir program while it ingests 500 and 10,000 generated documents of two pages
//!   each, with the test embedder.
//! - `model`: ingest of 1,000 generated documents of two pages each with the production model. This part is skipped if
//!   the model is not on this machine.
//!
//! Only one part runs at a time, because parallel measurements would disturb each other on a machine with two cores.
//! Absolute figures depend on the machine and its load, so ratios are computed within one run.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints figures")]

mod binary;
mod kernel;
mod overhead;
mod peaks;

use std::path::Path;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    // The pipeline starts its extractors as child processes of this program.
    if arguments.first().is_some_and(|a| a == "__extract-worker") {
        return docweir_extract::worker_main();
    }
    let parts: [(&str, fn()); 4] =
        [("kernel", kernel::run), ("overhead", overhead::run), ("memory", binary::memory), ("model", binary::model)];
    if let Some(unknown) = arguments.iter().find(|a| parts.iter().all(|(name, _)| name != a)) {
        println!("unknown part `{unknown}`; choose kernel, overhead, memory or model");
        return 2.into();
    }
    for (name, run) in parts {
        if arguments.is_empty() || arguments.iter().any(|a| a == name) {
            println!("{name}");
            run();
        }
    }
    std::process::ExitCode::SUCCESS
}

/// Writes generated documents of two pages each. The seeds start at 0.
fn generate(folder: &Path, documents: u64) {
    std::fs::create_dir_all(folder).unwrap();
    for seed in 0..documents {
        std::fs::write(folder.join(format!("{seed:06}.pdf")), docweir_testkit::two_pages(seed)).unwrap();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
