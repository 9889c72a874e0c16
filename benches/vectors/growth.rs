//! Measures the cost of a commit, a view and a search as the number of deltas grows, with and without compaction.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use docweir_core::cancel::Cancel;
use docweir_index::compaction::{CompactionOptions, Compactor, Installed, Mode as Compaction};
use docweir_index::{Mode, SearchRequest};

use crate::{block_on, documents, model, open};

const DIMENSION: usize = 384;
/// Number of rows per commit.
const BATCH: usize = 100;

pub fn run(data: &Path) {
    println!("| deltas | commit, ms | view after it, ms | vector, ms | hybrid, ms | files |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    row(data, false);
    println!("\nWith compaction of due files after each commit:\n");
    println!("| commits | commit, ms | view after it, ms | vector, ms | hybrid, ms | files |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    row(data, true);
}

fn row(data: &Path, compacting: bool) {
    let work = tempfile::tempdir_in(data).unwrap();
    let mut base = File::open(data.join("base100k.f32")).unwrap();
    block_on(async {
        let store = open(work.path());
        let mut writer = store.writer();
        let mut compactor = Compactor::new(store.clone(), CompactionOptions::default());
        let (mut written, mut committed) = (0u64, 0u64);
        for n in 1..=1_000usize {
            let mut bytes = vec![0; 4 * DIMENSION * BATCH];
            base.read_exact(&mut bytes).unwrap();
            let vectors: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let text = |row: usize| format!("line {row} of a receipt with {} words on it", row % 7);
            let writes = documents(n * BATCH, &vectors, DIMENSION, text);
            let started = Instant::now();
            committed += writer.commit(writes, &model(DIMENSION as u32)).await.unwrap().bytes;
            let commit = started.elapsed();
            while compacting && let Some((manifest, inputs, why)) = compactor.due(Compaction::Due).await.unwrap() {
                let staged = compactor.merge(&manifest, &inputs, why, &Cancel::default()).await.unwrap();
                written += staged.report.written_bytes;
                assert!(matches!(compactor.install(&staged, 1).await.unwrap(), Installed::Yes(_)));
            }
            if [1, 10, 100, 300, 1_000].contains(&n) {
                // The previous view is cached; this measures the wait of a reader after a commit.
                let started = Instant::now();
                let view = store.view().await.unwrap();
                let opened = started.elapsed();
                let search = |mode| {
                    let request = SearchRequest {
                        mode,
                        ..SearchRequest::new("receipt line 77", Some(vectors[..DIMENSION].to_vec()), 10)
                    };
                    view.search(&request).unwrap();
                    let started = Instant::now();
                    (0..20).for_each(|_| drop(view.search(&request).unwrap()));
                    started.elapsed().as_secs_f64() * 1e3 / 20.0
                };
                println!(
                    "| {n} | {:.1} | {:.1} | {:.2} | {:.2} | {} |",
                    commit.as_secs_f64() * 1e3,
                    opened.as_secs_f64() * 1e3,
                    search(Mode::Vector),
                    search(Mode::default()),
                    view.manifest().live.len()
                );
            } else if n % 10 == 9 {
                drop(store.view().await.unwrap());
            }
        }
        if compacting {
            println!("\n{:.2} bytes written by compaction per committed byte", written as f64 / committed as f64);
        }
    });
}
