//! Measures the time and memory of a merge of many deltas into one snapshot.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use docweir_core::cancel::Cancel;
use docweir_index::compaction::{CompactionOptions, Compactor, Installed, Mode};

use crate::{block_on, documents, model, open};

/// Runs all merges. The vectors are read from `base1m.f32` in the folder `data`.
pub fn run(data: &Path) {
    println!("| rows | dimensions | deltas | seconds | anonymous memory at most, MB | written, MB |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    // The receipt system that Docweir replaces needed 19 s and 7.8 GB for this size.
    merge(data, 1_856, 1_536, 20, 48 << 20);
    merge(data, 100_000, 384, 40, 256 << 20);
    merge(data, 1_000_000, 384, 400, 480 << 20);
}

fn merge(data: &Path, rows: usize, dimension: usize, deltas: usize, memory: u64) {
    let work = tempfile::tempdir_in(data).unwrap();
    let mut base = File::open(data.join("base1m.f32")).unwrap();
    block_on(async {
        let mut writer = open(work.path()).writer();
        let batch = rows.div_ceil(deltas);
        for first in (0..rows).step_by(batch) {
            let n = batch.min(rows - first);
            let mut bytes = vec![0; 4 * dimension * n];
            base.read_exact(&mut bytes).unwrap();
            let mut vectors: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            // A row made of several rows of the file does not have unit length.
            for row in vectors.chunks_exact_mut(dimension) {
                let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.iter_mut().for_each(|x| *x /= length);
            }
            let text = |row: usize| format!("line {row} of a receipt with some words on it, as long as such a line is");
            writer.commit(documents(first, &vectors, dimension, text), &model(dimension as u32)).await.unwrap();
        }
    });
    // A separate process is measured, because memory used before would be counted.
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).arg("merge").arg(work.path()).arg(memory.to_string()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("| {rows} | {dimension} | {deltas} | {} |", String::from_utf8_lossy(&output.stdout).trim());
}

pub fn one(work: &Path, memory: u64) {
    let started = Instant::now();
    let sampler = Sampler::start();
    let report = block_on(async {
        let options = CompactionOptions { memory_bytes: memory, ..CompactionOptions::default() };
        let mut compactor = Compactor::new(open(work), options);
        let (manifest, inputs, why) = compactor.due(Mode::All).await.unwrap().unwrap();
        let staged = compactor.merge(&manifest, &inputs, why, &Cancel::default()).await.unwrap();
        assert!(matches!(compactor.install(&staged, 1).await.unwrap(), Installed::Yes(_)));
        staged.report
    });
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{:.3} | {:.0} | {:.0}",
        started.elapsed().as_secs_f64(),
        megabytes(sampler.peak().max(report.peak_memory_bytes)),
        megabytes(report.written_bytes)
    );
}

/// Samples the anonymous memory of the process every millisecond, to find its peak. The measurement that a merge
/// makes itself is not enough: it reads the memory at a few points only, and the peak may lie between two points.
struct Sampler {
    peak: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Sampler {
    fn start() -> Self {
        let peak = std::sync::Arc::<std::sync::atomic::AtomicU64>::default();
        let seen = peak.clone();
        std::thread::spawn(move || {
            loop {
                seen.fetch_max(docweir_core::memory::anonymous_bytes(), std::sync::atomic::Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        Self { peak }
    }

    fn peak(&self) -> u64 {
        self.peak.load(std::sync::atomic::Ordering::Relaxed)
    }
}
