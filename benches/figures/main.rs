//! Measures the performance figures of the project: `cargo bench --bench figures [-- PART…]`.
//!
//! - `kernel`: documents per second through five pools whose stages do nothing, in memory and with the control store.
//! - `overhead`: the pipeline compared with a plain parallel loop over the same stages, stores and commits. The
//!   embedder takes 1 ms per chunk.
//! - `memory`: 500 and 10,000 generated documents of two pages through the real binary, with the test embedder.
//! - `model`: 1,000 such documents with the real model, if it is on this machine.
//!
//! Each part runs alone, because two cores cannot hold two measurements. Absolute figures depend on the machine and
//! its load; ratios are taken within one run.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a bench measures or dies")]

mod binary;
mod kernel;
mod overhead;

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
        println!("no part `{unknown}`; choose kernel, overhead, memory or model");
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

/// Writes generated documents of two pages, with seeds from 0.
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
