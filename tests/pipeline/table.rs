//! Provides a DynamoDB table of a user's application, a proxy in front of DynamoDB, and a mock provider that accepts
//! batches.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use docweir::config::{Argument, Config, Source};
use docweir::engine::Engine;
use docweir_aws::dynamo::table::{Index, Key, Table};
use docweir_aws::dynamo::{Dynamo, Expression, Item, Query, Write, value};
use docweir_aws::{Aws, AwsOptions};
use docweir_mock_provider::{MockProvider, Options};
use docweir_testkit::proxy::{Act, Proxy};
use serde_json::{Map, Value, json};

use crate::account::dynamo;
use crate::kit::{Ran, TestFolder};

pub const IMAGE: &str = "77d54558-60e9-588f-b59d-b48ccb1181d8";
pub const RECEIPTS: usize = 20;
/// Number of lines per receipt.
pub const LINES: usize = 3;
/// Number of words per receipt that are embedded.
pub const WORDS: usize = 6;
/// Number of words per receipt that are not embedded, because they contain no letter and no digit. Such words are
/// called noise.
pub const NOISE: usize = 1;
const ITEMS: usize = RECEIPTS * (LINES + WORDS + NOISE);

/// Counts the program's calls to the table, and records the statuses that it writes.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Number of calls by operation.
    pub calls: BTreeMap<String, usize>,
    /// Statuses that were written to each item, in order, by the item's sort key.
    pub written: BTreeMap<String, Vec<String>>,
}

impl Asked {
    fn note(&mut self, table: &str, head: &str, body: &[u8]) -> Option<String> {
        let target = head.lines().find(|line| line.to_ascii_lowercase().starts_with("x-amz-target:"))?;
        let operation = target.rsplit('.').next()?.trim().to_owned();
        let body: Value = serde_json::from_slice(body).ok()?;
        if body["TableName"] != table && body["RequestItems"].get(table).is_none() {
            return None;
        }
        *self.calls.entry(operation.clone()).or_default() += 1;
        if operation == "UpdateItem" {
            let status = body["ExpressionAttributeValues"][":status"]["S"].as_str()?.to_owned();
            self.written.entry(body["Key"]["SK"]["S"].as_str()?.to_owned()).or_default().push(status);
        }
        Some(operation)
    }

    pub fn times(&self, operation: &str) -> usize {
        self.calls.get(operation).copied().unwrap_or_default()
    }
}

pub struct UserTable {
    pub place: TestFolder,
    pub mock: MockProvider,
    pub table: String,
    proxy: Proxy,
    asked: Arc<Mutex<Asked>>,
    dynamo: Dynamo,
    runtime: tokio::runtime::Runtime,
}

impl UserTable {
    /// Starts the provider and the proxy. Returns `None` if the DynamoDB server is not installed.
    pub fn new(dynoxide: bool, change: impl FnOnce(&mut Options)) -> Option<Self> {
        let server = dynamo(dynoxide)?;
        let mut options = Options { charges_by_text: true, ..Options::default() };
        options.pace.validate = Duration::from_millis(10);
        options.pace.finalize = Duration::from_millis(10);
        change(&mut options);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = server.endpoint();
        let aws = AwsOptions { region: "eu-central-1".into(), endpoint: endpoint.into(), ..AwsOptions::default() };
        let dynamo = runtime.block_on(async { Dynamo::new(&Aws::find(aws).await.with_keys("test", "test"), "") });
        let stall = Self {
            place: TestFolder::new(),
            mock: MockProvider::start(options).unwrap(),
            table: format!("t{:08x}-receipts", fastrand::u32(..)),
            proxy: Proxy::start(endpoint.trim_start_matches("http://")).unwrap(),
            asked: Arc::default(),
            dynamo,
            runtime,
        };
        stall.network(|_| Act::Pass);
        Some(stall)
    }

    /// Creates the table, with or without its index.
    pub fn make(&self, index: bool) {
        let by_status = Index {
            name: "embedding-status-index",
            key: Key { hash: "embedding_status", range: Some("SK") },
            holds: &[],
        };
        let table = Table {
            name: self.table.clone(),
            key: Key { hash: "PK", range: Some("SK") },
            indexes: if index { vec![by_status] } else { Vec::new() },
            expires: None,
        };
        self.runtime.block_on(self.dynamo.create(&table, Duration::from_secs(30))).unwrap();
    }

    /// Sets the rule for all further calls to this table. `rule` receives the operation's name and returns the action
    /// of the proxy.
    pub fn network(&self, mut rule: impl FnMut(&str) -> Act + Send + 'static) {
        let (asked, table) = (self.asked.clone(), self.table.clone());
        self.proxy.set_by_all(move |head, body| match asked.lock().unwrap().note(&table, head, body) {
            Some(operation) => rule(&operation),
            None => Act::Pass,
        });
    }

    /// Returns the calls to the table since this method was last called.
    pub fn asked(&self) -> Asked {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        self.configure(&mut command);
        command
    }

    /// Configures a command to use this table and this provider.
    pub fn configure(&self, command: &mut Command) {
        command
            .env("DOCWEIR__AWS__REGION", "eu-central-1")
            .env("DOCWEIR__DYNAMODB__ENDPOINT", format!("http://{}", self.proxy.address()))
            .env("OPENAI_API_KEY", "test-key")
            .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", self.mock.base_url())
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__DIMENSIONS", "64")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__LIMITS__BACKOFF_INITIAL_SECONDS", "0.05")
            .env("DOCWEIR__EMBED__MODE", "batch")
            .env("DOCWEIR__BATCH__POLL_SECONDS", "0.05")
            .env("DOCWEIR__BATCH__CONFIRM_SECONDS", "0.2")
            .env("DOCWEIR__BATCH__MAX_ATTEMPTS", "8");
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    pub fn uri(&self) -> String {
        format!("dynamodb://{}", self.table)
    }

    /// Runs `ingest dynamodb://TABLE --as receipts --json` with the arguments in `more`.
    pub fn receipts(&self, more: &[&str]) -> Ran {
        self.run(&[&["ingest", &self.uri(), "--as", "receipts", "--json", "--progress", "none"], more].concat())
    }

    // ── the application ────────────────────────────────────────────────────────────────────────────────────────────

    pub fn put(&self, item: Value) {
        let Value::Object(item) = item else { panic!("not an object: {item}") };
        let write = Write::Put { table: self.table.clone(), item: value::object(item), condition: None };
        self.runtime.block_on(self.dynamo.write(write)).unwrap();
    }

    pub fn delete(&self, sk: &str) {
        let write = Write::Delete { table: self.table.clone(), key: key(sk), condition: None };
        self.runtime.block_on(self.dynamo.write(write)).unwrap();
    }

    /// Sets attributes of an item.
    pub fn set(&self, sk: &str, attributes: &[(&str, &str)]) {
        let sets: Vec<String> = attributes.iter().map(|(name, _)| format!("#{name} = :{name}")).collect();
        let update = attributes.iter().fold(Expression::new(format!("SET {}", sets.join(", "))), |e, (name, value)| {
            e.name(&format!("#{name}"), name).string(&format!(":{name}"), *value)
        });
        let write = Write::Update { table: self.table.clone(), key: key(sk), update, condition: None };
        self.runtime.block_on(self.dynamo.write(write)).unwrap();
    }

    /// Puts twenty receipts of ten items each into the table. The status `NONE` of each item means that the item is not
    /// embedded yet.
    pub fn stock(&self) {
        for receipt in 1..=RECEIPTS {
            for item in receipt_items(receipt) {
                self.put(item);
            }
        }
    }

    /// Returns every item of the table, by the item's sort key.
    pub fn items(&self) -> BTreeMap<String, Map<String, Value>> {
        let mut query = Query {
            table: self.table.clone(),
            key: Expression::new("PK = :pk").string(":pk", format!("IMAGE#{IMAGE}")),
            consistent: true,
            ..Query::default()
        };
        let mut all = BTreeMap::new();
        loop {
            let page = self.runtime.block_on(self.dynamo.query(&query)).unwrap();
            for item in page.items.into_iter().map(value::json) {
                all.insert(item["SK"].as_str().unwrap().to_owned(), item);
            }
            query.start = page.next;
            if query.start.is_none() {
                return all;
            }
        }
    }

    pub fn status(&self, sk: &str) -> Value {
        self.items().get(sk).map(|item| item["embedding_status"].clone()).unwrap_or_default()
    }

    // ── the results ────────────────────────────────────────────────────────────────────────────────────────────────

    /// Returns the text of every row of a collection, by the row's key.
    pub fn rows(&self, collection: &str) -> BTreeMap<String, String> {
        let folder = Argument::new("--state", "state.folder", self.place.state().to_str().unwrap());
        let config = Config::load(&Source::None, [], vec![folder]).unwrap();
        let view = self.runtime.block_on(async {
            let engine = Engine::open(config).await.unwrap();
            (engine.open_collection())(collection).unwrap().view().await.unwrap()
        });
        let mut all = BTreeMap::new();
        for (_, rows) in view.each_document() {
            for row in rows {
                assert!(all.insert(row.chunk_id.clone(), row.text).is_none(), "{} twice", row.chunk_id);
            }
        }
        all
    }

    /// Asserts that each item in the table has its final status, and that each line and word has a row in its
    /// collection.
    #[track_caller]
    pub fn assert_told(&self) {
        let (lines, words) = (self.rows("receipt_lines"), self.rows("receipt_words"));
        assert_eq!((lines.len(), words.len()), (RECEIPTS * LINES, RECEIPTS * WORDS));
        for (key, text) in self.told() {
            assert_eq!(lines.get(&key).or_else(|| words.get(&key)), Some(&text), "{key}");
        }
    }

    /// Returns the keys and texts of all lines and words except noise. Asserts that the table marks each of them as
    /// embedded.
    #[track_caller]
    pub fn told(&self) -> BTreeMap<String, String> {
        let items = self.items();
        assert_eq!(items.len(), ITEMS);
        let mut told = BTreeMap::new();
        for (sk, item) in items {
            let key = format!("IMAGE#{IMAGE}#{sk}");
            let attribute = if sk.contains("#WORD#") { "word_embedding_id" } else { "line_embedding_id" };
            if item["text"] == ":" {
                assert_eq!((&item["embedding_status"], item.get(attribute)), (&json!("NOISE"), None), "{sk}");
                continue;
            }
            assert_eq!((&item["embedding_status"], &item[attribute]), (&json!("SUCCESS"), &json!(key)), "{sk}");
            told.insert(key, item["text"].as_str().unwrap().to_owned());
        }
        told
    }

    /// Asserts that nothing was paid for twice, and that the ledger equals the provider's charges.
    #[track_caller]
    pub fn assert_ledger(&self) {
        let charges = self.mock.charges();
        assert_eq!(charges.custom_ids_paid_twice(), Vec::<&str>::new());
        let lines = self.run(&["cost", "--by", "mode", "--json"]).code(0).json();
        let nanos = |name: &str| lines.iter().map(|l| (l[name].as_f64().unwrap() * 1e9).round() as u64).sum::<u64>();
        assert_eq!((nanos("usd"), nanos("reserved_usd"), nanos("in_doubt_usd")), (charges.nanodollars(), 0, 0));
    }
}

fn key(sk: &str) -> Item {
    let Value::Object(key) = json!({"PK": format!("IMAGE#{IMAGE}"), "SK": sk}) else { panic!() };
    value::object(key)
}

/// Returns the sort key of a line.
pub fn line(receipt: usize, line: usize) -> String {
    format!("RECEIPT#{receipt:05}#LINE#{line:05}")
}

pub fn word(receipt: usize, at: usize, word: usize) -> String {
    format!("{}#WORD#{word:05}", line(receipt, at))
}

/// Returns the items of a receipt: its lines from top to bottom, and two words for each line. The last line has a third
/// word, a colon, which counts as noise.
pub fn receipt_items(receipt: usize) -> Vec<Value> {
    let item = |sk: String, text: String, [x, y]: [f64; 2]| {
        let bounds = json!({"x": x, "y": y, "width": 0.2, "height": 0.04});
        json!({
            "PK": format!("IMAGE#{IMAGE}"), "SK": sk, "text": text, "bounding_box": bounds, "confidence": 0.9,
            "embedding_status": "NONE",
        })
    };
    let mut items = Vec::new();
    for at in 1..=LINES {
        let y = 0.9 - at as f64 * 0.1;
        items.push(item(line(receipt, at), format!("article{at} of{receipt}"), [0.1, y]));
        items.push(item(word(receipt, at, 1), format!("article{at}"), [0.1, y]));
        items.push(item(word(receipt, at, 2), format!("of{receipt}"), [0.4, y]));
    }
    items.push(item(word(receipt, LINES, 3), ":".into(), [0.7, 0.9 - LINES as f64 * 0.1]));
    items
}
