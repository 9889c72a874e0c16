//! Measures the speed and memory of Docweir's vector store. The first argument selects the measurement:
//!
//! - `--data DIR --json SIZE…` measures ingest, opening with an empty page cache, and queries, and prints the figures
//!   as JSON lines. `benches/vectors/run` compares these lines with those of other vector stores.
//!   `benches/vectors/peers.py` describes the files in DIR and the figures.
//! - `merges DIR` measures the time and the anonymous memory of merging many deltas into one snapshot.
//! - `growth DIR` measures the cost of a commit, a view and a search as the number of deltas grows.
//! - `recall [ROWS]` measures the recall of searches by codes for embeddings of many shapes.
//! - `embed DIR MODEL TEXT…` creates the vectors that the measurements with a DIR read.
//!
//! In the comparison, ingest, opening and queries each run in a separate process. The other vector stores are measured
//! in the same way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark prints its measurements and panics on errors"
)]

mod embed;
mod growth;
mod merges;
mod peers;
mod recall;

use std::path::Path;
use std::sync::Arc;

use docweir_core::clock::{SharedClock, SystemClock};
use docweir_core::documents::DocumentId;
use docweir_core::model::{Metric, ModelIdentity, Span};
use docweir_index::{DocumentRows, Row, VectorOptions, VectorStore, Write};
use docweir_objects::local::{LocalObjectOptions, LocalObjectStore};
use serde_json::{Map, Value};

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--data", data, "--json", sizes @ ..] => sizes.iter().for_each(|size| peers::run(Path::new(data), size)),
        ["phase", phase, data, size, work] => peers::phase(phase, Path::new(data), size, Path::new(work)),
        ["merges", data] => merges::run(Path::new(data)),
        ["merge", work, memory] => merges::one(Path::new(work), memory.parse().unwrap()),
        ["growth", data] => growth::run(Path::new(data)),
        ["recall"] => recall::run(50_000),
        ["recall", rows] => recall::run(rows.parse().unwrap()),
        ["embed", data, model, texts @ ..] => embed::run(Path::new(data), Path::new(model), texts),
        _ => println!(
            "usage: `--data DIR --json SIZE…`, `merges DIR`, `growth DIR`, `recall [ROWS]` or `embed DIR MODEL TEXT…`"
        ),
    }
    std::process::ExitCode::SUCCESS
}

/// Opens the vector store in a folder, as the docweir program does.
fn open(folder: &Path) -> Arc<VectorStore> {
    let clock: SharedClock = Arc::new(SystemClock);
    let objects = LocalObjectStore::open(folder, LocalObjectOptions::default(), &clock).unwrap();
    Arc::new(VectorStore::new(Arc::new(objects), "chunks", clock, VectorOptions::default()).unwrap())
}

fn model(dimension: u32) -> ModelIdentity {
    ModelIdentity { id: "bench".into(), weights: "w".into(), dimension, metric: Metric::Cosine }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Returns the CPU time of all threads of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // The values are in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn status(key: &str) -> u64 {
    docweir_core::memory::status_bytes("/proc/self/status", key).unwrap()
}

/// Returns the value of the field `bucket` of a row, which is a number from 0 to 99. The filters of the benchmark
/// select rows by this field. The function `bucket` in data.py computes the same value for the other vector stores.
fn bucket(id: usize) -> u64 {
    (((id as u64).wrapping_mul(2_654_435_761) & 0xffff_ffff) >> 16) % 100
}

/// Number of rows per document.
const ROWS: usize = 10;

/// Returns documents of ten rows each. `vectors` holds the vector components of all rows, one row after another.
/// `first` is the number of the first of these rows.
fn documents(first: usize, vectors: &[f32], dimension: usize, text: impl Fn(usize) -> String) -> Vec<Write> {
    let rows: Vec<&[f32]> = vectors.chunks_exact(dimension).collect();
    let document = |(n, rows): (usize, &[&[f32]])| {
        let start = first + n * ROWS;
        let row = |(i, vector): (usize, &&[f32])| Row {
            chunk_id: (start + i).to_string(),
            ordinal: i as u32,
            kind: "text".into(),
            text: text(start + i),
            heading_path: Vec::new(),
            pages: (1, 1),
            span: Span { start: 0, end: 0, start_byte: 0, end_byte: 0 },
            boxes: Vec::new(),
            tokens: 0,
            language: None,
            metadata: Map::from_iter([("bucket".to_owned(), Value::from(bucket(start + i)))]).into(),
            vector: vector.to_vec(),
        };
        Write::Upsert(DocumentRows {
            document_id: DocumentId::parse(&format!("doc_{start:09}")).unwrap(),
            version: 1,
            source: format!("file:///{start}.pdf"),
            parent: None,
            metadata: Map::new(),
            rows: rows.iter().enumerate().map(row).collect(),
        })
    };
    rows.chunks(ROWS).enumerate().map(document).collect()
}
