//! Provides a test folder and a mock provider that accepts batches, fails on demand, and records its charges.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use docweir::config::{Argument, Config, Source};
use docweir::engine::Engine;
use docweir_mock_provider::{Act, MockProvider, On, Options, Rule, vector};
use serde_json::{Value, json};

use crate::kit::{Ran, Running, TestFolder};

pub const DIMENSIONS: usize = 64;

/// Combines a test folder with a mock provider that accepts batches.
pub struct BatchTest {
    pub place: TestFolder,
    pub mock: MockProvider,
}

impl BatchTest {
    pub fn new(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options { charges_by_text: true, ..Options::default() };
        options.pace.validate = Duration::from_millis(10);
        options.pace.finalize = Duration::from_millis(10);
        change(&mut options);
        Self { place: TestFolder::new(), mock: MockProvider::start(options).unwrap() }
    }

    pub fn with_faults(faults: Vec<Rule>) -> Self {
        Self::new(|o| o.faults = faults)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command
            .env("OPENAI_API_KEY", "test-key")
            .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", self.mock.base_url())
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__DIMENSIONS", DIMENSIONS.to_string())
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__LIMITS__BACKOFF_INITIAL_SECONDS", "0.05")
            .env("DOCWEIR__EMBED__MODE", "batch")
            .env("DOCWEIR__BATCH__POLL_SECONDS", "0.05")
            .env("DOCWEIR__BATCH__CONFIRM_SECONDS", "0.2")
            .env("DOCWEIR__BATCH__RECORD_ITEMS", "20")
            .env("DOCWEIR__BATCH__MAX_ATTEMPTS", "8");
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Writes `n` records to `products.jsonl`; `text` returns the text of each.
    pub fn records(&self, n: usize, text: impl Fn(usize) -> String) {
        write_records(&self.place, n, text);
    }

    pub fn ingest_records(&self, more: &[&str]) -> Ran {
        self.run(&[RECORDS, more].concat())
    }

    /// Returns the text and the vector of every visible row of a collection, by the row's key.
    pub fn rows(&self, collection: &str) -> BTreeMap<String, (String, Vec<f32>)> {
        let folder = Argument::new("--state", "state.folder", self.place.state().to_str().unwrap());
        let config = Config::load(&Source::None, [], vec![folder]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let view = runtime.block_on(async {
            let engine = Engine::open(config).await.unwrap();
            (engine.open_collection())(collection).unwrap().view().await.unwrap()
        });
        let mut all = BTreeMap::new();
        for (_, rows) in view.each_document() {
            for row in rows {
                assert!(all.insert(row.chunk_id.clone(), (row.text, row.vector)).is_none(), "{} twice", row.chunk_id);
            }
        }
        all
    }

    /// Asserts that each record is stored once, with its current text and the vector of that text.
    #[track_caller]
    pub fn assert_rows(&self, n: usize, text: impl Fn(usize) -> String) {
        let rows = self.rows("products");
        assert_eq!(rows.len(), n);
        for i in 0..n {
            let (found, made) = &rows[&format!("P-{i:04}")];
            assert_eq!(*found, text(i));
            let near: f32 = made.iter().zip(vector(&text(i), DIMENSIONS)).map(|(a, b)| a * b).sum();
            assert!((near - 1.0).abs() < 1e-3, "P-{i:04}: {near}");
        }
    }

    /// Returns three sums that the program reports, in nanodollars: the settled amount, the reserved amount and the
    /// amount in doubt.
    #[track_caller]
    pub fn cost(&self) -> (u64, u64, u64) {
        let lines = self.run(&["cost", "--by", "mode", "--json"]);
        let nanos = |line: &Value, name: &str| (line[name].as_f64().unwrap() * 1e9).round() as u64;
        lines.code(0).json().iter().fold((0, 0, 0), |(s, r, d), line| {
            (s + nanos(line, "usd"), r + nanos(line, "reserved_usd"), d + nanos(line, "in_doubt_usd"))
        })
    }

    #[track_caller]
    pub fn assert_ledger_agree(&self) {
        assert_eq!(self.cost(), (self.mock.charges().nanodollars(), 0, 0));
    }

    /// Asserts that every batch has ended, both in the store and at the provider, and that no batch file is left.
    #[track_caller]
    pub fn assert_all_ended(&self) {
        let list = self.run(&["batch", "list", "--json", "--top", "1000"]).code(0).json();
        for batch in list.iter().filter(|line| line.get("batch_id").is_some()) {
            assert!(batch["ended_at"].is_string(), "{batch}");
        }
        for batch in self.mock.charges().batches {
            let ended = matches!(batch.status.as_str(), "completed" | "failed" | "expired" | "cancelled");
            assert!(ended, "{batch:?}");
        }
        let left: Vec<_> = ["batches", "objects/batches"]
            .iter()
            .flat_map(|folder| crate::kit::files(&self.place.state().join(folder)))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub fn items(&self, space: &str) -> Value {
        let list = self.run(&["batch", "list", "--json"]).code(0).json();
        list.iter().map(|line| line["items"].clone()).find(|items| items["space"] == space).unwrap_or_default()
    }
}

/// Writes `n` records to `products.jsonl`; `text` returns the text of each.
pub fn write_records(place: &TestFolder, n: usize, text: impl Fn(usize) -> String) {
    let mut lines = String::new();
    for i in 0..n {
        let record = json!({"sku": format!("P-{i:04}"), "description": text(i), "price": i});
        writeln!(lines, "{record}").unwrap();
    }
    std::fs::write(place.path().join("products.jsonl"), lines).unwrap();
}

pub const RECORDS: &[&str] = &[
    "ingest",
    "products.jsonl",
    "--as",
    "records",
    "--id",
    "sku",
    "--text",
    "description",
    "--collection",
    "products",
    "--json",
    "--progress",
    "none",
];

pub fn plain(i: usize) -> String {
    format!("product number {i}, of kind {}", i % 7)
}

pub fn batches(faults: Vec<Rule>) -> BatchTest {
    BatchTest::with_faults(faults)
}

pub fn outcome(act: Act) -> Rule {
    Rule::new(On::BatchOutcome, act)
}
