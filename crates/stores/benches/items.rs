//! Measures how many seconds SQLite takes to store, send and complete the 50,000 records of one batch. Run the
//! benchmark with `cargo bench -p docweir-stores --bench items [-- ITEMS]`.
//!
//! Each step is timed separately, and handles records in groups of the same size as in the pipeline. The last two
//! steps use a second batch. The first of these steps packs the batch; the second one ends the batch before any item
//! has an answer.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints its measurements and may panic"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use docweir_core::clock::SystemClock;
use docweir_core::model::{Metric, ModelIdentity};
use docweir_core::money::Nanodollars;
use docweir_stores::batches::{
    BatchStatus, Batches, DisplayData, Ending, NewItem, Order, Packed, Space, SqliteBatches, StoredVector,
};
use docweir_stores::ledger::{Budget, Mode, Spend};
use docweir_stores::paid;
use docweir_stores::sqlite::OpenOptions;

/// Default number of records in the batch. The command line can set another number.
const ITEMS: usize = 50_000;
/// Number of records in one call of `put`.
const PUT: usize = 1_000;
/// Number of result lines in one group. One call of `sent` finds the items for a group of lines, and one call of
/// `made` records the results in the group.
const GROUP: usize = 4_000;

const OPTIONS: OpenOptions = OpenOptions::durable(Duration::from_secs(5), 1_000, 8_192);

fn main() {
    let items = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(ITEMS);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(folder.path(), items));
}

async fn run(folder: &Path, items: usize) {
    let database = paid::open(&folder.join("paid.db"), &OPTIONS).unwrap();
    let batches: Arc<dyn Batches> = Arc::new(SqliteBatches::new(database, Arc::new(SystemClock)));
    let space = Space::Records("receipt_lines".into());
    let keys: Vec<String> = (0..items).map(|n| format!("IMAGE#{}#LINE#{n:06}", n / 40)).collect();

    for name in ["put", "put the same"] {
        let mut seconds = 0.0;
        for part in keys.chunks(PUT) {
            let part = part.iter().map(|key| record(key)).collect();
            let begun = Instant::now();
            batches.put(&space, part).await.unwrap();
            seconds += begun.elapsed().as_secs_f64();
        }
        print(name, seconds);
    }
    pack(&batches, "batch_1", items).await;
    let (mut seconds_sent, mut seconds_made) = (0.0, 0.0);
    for part in keys.chunks(GROUP) {
        let begun = Instant::now();
        let sent = batches.sent("batch_1", part.to_vec()).await.unwrap();
        seconds_sent += begun.elapsed().as_secs_f64();
        let made = |s: docweir_stores::batches::Sent| StoredVector {
            item: s.item,
            version: s.version,
            tokens: 9,
            vector: None,
        };
        let made: Vec<StoredVector> = sent.into_iter().flatten().map(made).collect();
        assert_eq!(made.len(), part.len());
        let begun = Instant::now();
        batches.made("batch_1", made).await.unwrap();
        seconds_made += begun.elapsed().as_secs_f64();
    }
    print("sent", seconds_sent);
    print("made", seconds_made);
    end(&batches, "end", "batch_1").await;

    for part in keys.chunks(PUT) {
        let changed = |key: &String| NewItem { input: format!("{key} changed"), ..record(key) };
        batches.put(&space, part.iter().map(changed).collect()).await.unwrap();
    }
    pack(&batches, "batch_2", items).await;
    end(&batches, "end without answers", "batch_2").await;
}

async fn pack(batches: &Arc<dyn Batches>, id: &str, items: usize) {
    let begun = Instant::now();
    let packed = batches.pack(order(id, items)).await.unwrap();
    print("pack", begun.elapsed().as_secs_f64());
    assert!(matches!(packed, Packed::Batch(batch, _) if batch.items == items as u64));
}

async fn end(batches: &Arc<dyn Batches>, name: &str, id: &str) {
    let ending = Ending {
        status: BatchStatus::Completed,
        charged_tokens: Some(9),
        usd_per_million_tokens: 0.01,
        most_attempts: 3,
        undone: false,
        error: None,
    };
    let begun = Instant::now();
    batches.end(id, ending).await.unwrap();
    print(name, begun.elapsed().as_secs_f64());
}

fn print(name: &str, seconds: f64) {
    println!("{name:<20} {seconds:7.3} s");
}

fn record(key: &str) -> NewItem {
    let text = format!("Milk 1.5 % 1 l, {key}");
    let metadata = [("page".to_owned(), 1.into()), ("confidence".to_owned(), 0.99.into())].into_iter().collect();
    NewItem {
        key: key.to_owned(),
        input: format!("<LINE>{text}</LINE> <CONTEXT>Supermarket, 12.03.2024, total 14.90</CONTEXT>"),
        tokens: 32,
        noise: false,
        shown: DisplayData { text, kind: "line".into(), source: "file:///receipts/1.json".into(), metadata },
        origin: None,
    }
}

fn order(id: &str, items: usize) -> Order {
    Order {
        id: id.into(),
        space: Space::Records("receipt_lines".into()),
        model: ModelIdentity { id: "m".into(), weights: "served".into(), dimension: 2, metric: Metric::Cosine },
        endpoint: "https://example.com/v1".into(),
        most_requests: items,
        most_bytes: u64::MAX,
        most_tokens: u64::MAX,
        line_bytes: Arc::new(|key, input| (key.len() + input.len()) as u64),
        spend: Spend {
            run: "r".into(),
            mode: Mode::Batch,
            stage: "embedding".into(),
            model: "m".into(),
            collection: "receipt_lines".into(),
            subject: String::new(),
            tokens: 0,
            cost: Nanodollars::ZERO,
        },
        usd_per_million_tokens: 0.01,
        budget: Budget::default(),
    }
}
