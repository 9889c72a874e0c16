//! Batches and records: the real binary against a stand-in that speaks OpenAI's protocol, forgets what it is told to
//! forget, and keeps its own books.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use docweir::config::{Argument, Config, Source};
use docweir::engine::Engine;
use docweir_standin::{Act, On, Options, Pace, Rule, Standin, vector};
use serde_json::{Value, json};

use crate::kit::{Place, Ran, Running, eventually, results};

const DIMENSIONS: usize = 64;

/// A place, and a provider that takes batches.
struct Shop {
    place: Place,
    standin: Standin,
}

impl Shop {
    fn new(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options { books_by_text: true, ..Options::default() };
        options.pace.validate = Duration::from_millis(10);
        options.pace.finalize = Duration::from_millis(10);
        change(&mut options);
        Self { place: Place::new(), standin: Standin::start(options).unwrap() }
    }

    fn with_faults(faults: Vec<Rule>) -> Self {
        Self::new(|o| o.faults = faults)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command
            .env("OPENAI_API_KEY", "test-key")
            .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", self.standin.base_url())
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__DIMENSIONS", DIMENSIONS.to_string())
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__LIMITS__BACKOFF_INITIAL_SECONDS", "0.05")
            .env("DOCWEIR__EMBED__MODE", "batch")
            .env("DOCWEIR__BATCH__POLL_SECONDS", "0.05")
            .env("DOCWEIR__BATCH__SETTLE_SECONDS", "0.2")
            .env("DOCWEIR__BATCH__RECORD_ITEMS", "20")
            .env("DOCWEIR__BATCH__MAX_ATTEMPTS", "8");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// `n` records with a text each, in a file.
    fn records(&self, n: usize, text: impl Fn(usize) -> String) {
        write_records(&self.place, n, text);
    }

    fn ingest_records(&self, more: &[&str]) -> Ran {
        self.run(&[RECORDS, more].concat())
    }

    /// Texts and vectors of every row that a search of a collection can see, by its key.
    fn rows(&self, collection: &str) -> BTreeMap<String, (String, Vec<f32>)> {
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

    /// Each record once, with the vector of the text that it has now.
    #[track_caller]
    fn assert_rows(&self, n: usize, text: impl Fn(usize) -> String) {
        let rows = self.rows("products");
        assert_eq!(rows.len(), n);
        for i in 0..n {
            let (found, made) = &rows[&format!("P-{i:04}")];
            assert_eq!(*found, text(i));
            let near: f32 = made.iter().zip(vector(&text(i), DIMENSIONS)).map(|(a, b)| a * b).sum();
            assert!((near - 1.0).abs() < 1e-3, "P-{i:04}: {near}");
        }
    }

    /// Nanodollars that are settled, under way and in doubt, by the program's own word.
    #[track_caller]
    fn cost(&self) -> (u64, u64, u64) {
        let lines = self.run(&["cost", "--by", "mode", "--json"]);
        let nanos = |line: &Value, name: &str| (line[name].as_f64().unwrap() * 1e9).round() as u64;
        lines.code(0).json().iter().fold((0, 0, 0), |(s, r, d), line| {
            (s + nanos(line, "usd"), r + nanos(line, "reserved_usd"), d + nanos(line, "in_doubt_usd"))
        })
    }

    #[track_caller]
    fn assert_books_agree(&self) {
        assert_eq!(self.cost(), (self.standin.books().nanodollars(), 0, 0));
    }

    /// Every batch has ended here, and over there.
    #[track_caller]
    fn assert_all_ended(&self) {
        let list = self.run(&["batch", "list", "--json", "--top", "1000"]).code(0).json();
        for batch in list.iter().filter(|line| line.get("batch_id").is_some()) {
            assert!(batch["ended_at"].is_string(), "{batch}");
        }
        for batch in self.standin.books().batches {
            let ended = matches!(batch.status.as_str(), "completed" | "failed" | "expired" | "cancelled");
            assert!(ended, "{batch:?}");
        }
        let left: Vec<_> = ["batches", "objects/batches"]
            .iter()
            .flat_map(|folder| crate::kit::files(&self.place.state().join(folder)))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    fn items(&self, space: &str) -> Value {
        let list = self.run(&["batch", "list", "--json"]).code(0).json();
        list.iter().map(|line| line["items"].clone()).find(|items| items["space"] == space).unwrap_or_default()
    }
}

/// `n` records with a text each, in a file.
pub fn write_records(place: &Place, n: usize, text: impl Fn(usize) -> String) {
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

fn batches(faults: Vec<Rule>) -> Shop {
    Shop::with_faults(faults)
}

fn outcome(act: Act) -> Rule {
    Rule::new(On::BatchOutcome, act)
}

#[test]
fn documents_are_embedded_by_batches_at_half_the_price() {
    // Longer than the run that sends it, on a busy machine too.
    let shop = Shop::new(|o| o.pace.validate = Duration::from_secs(4));
    shop.place.generate(12);
    let ingest = ["ingest", "docs", "--json", "--progress", "none"];
    // The run ends, the documents wait: nothing of them is held.
    let summary = shop.run(&ingest).code(0).summary();
    assert_eq!((&summary["parked"], &summary["completed"]), (&json!(12), &json!(0)), "{summary}");
    assert_eq!(summary["batches"]["submitted"], 1, "{summary}");
    assert_eq!(
        shop.place.records()[0]["parked_reason"].as_str().unwrap().split(" that").next(),
        Some("waits for a batch")
    );
    // What came back goes on.
    let summary = shop.run(&["batch", "poll", "--wait", "--json", "--progress", "none"]).code(0).summary();
    assert_eq!(summary["completed"], 12, "{summary}");
    shop.place.assert_complete(12);
    let books = shop.standin.books();
    assert_eq!((books.live.requests, books.texts_paid_twice().len()), (0, 0), "{books:?}");
    assert_eq!(summary["tokens"], books.batch.tokens);
    assert_eq!((summary["cost_usd"].as_f64().unwrap() * 1e9).round() as u64, books.batch.nanodollars);
    shop.assert_books_agree();
    shop.assert_all_ended();
    // By document, and nothing twice: a changed document pays for what has changed.
    let by_document = shop.run(&["cost", "--by", "document", "--json"]);
    assert_eq!(by_document.code(0).json().len(), 12);
    shop.run(&ingest).code(0);
    assert_eq!(shop.standin.books().batch.tokens, books.batch.tokens);
    let marker = docweir_testkit::marker(7, 1);
    let found = shop.run(&["search", &marker, "--json"]);
    assert!(found.code(0).out.contains("0007.pdf"), "{}", found.out);
}

#[test]
fn with_wait_one_command_does_it_all() {
    let shop = batches(Vec::new());
    shop.place.generate(5);
    let ran = shop.run(&["ingest", "docs", "--wait", "--progress", "plain"]);
    ran.code(0);
    shop.place.assert_complete(5);
    assert!(ran.err.contains("sent: batch_") && ran.err.contains("completed: batch_"), "{}", ran.err);
    shop.assert_books_agree();
}

#[test]
fn vectors_that_come_as_numbers_are_those_that_come_as_base64() {
    let shop = Shop::new(|o| o.floats = true);
    shop.records(50, plain);
    shop.ingest_records(&["--wait"]).code(0);
    shop.assert_rows(50, plain);
    shop.assert_books_agree();
}

#[test]
fn whatever_becomes_of_a_batch_each_record_is_stored_once_and_each_cent_is_known() {
    // What a batch's fate is, how many of its rows are paid for a second time, and what is left undone.
    let table = [
        (outcome(Act::Expire).share(0.5).times(2), 0),
        (outcome(Act::Fail).times(2), 0),
        (outcome(Act::Cancel).share(0.3).times(1), 0),
        (outcome(Act::Shuffled), 0),
        (outcome(Act::BadLine).share(0.1).times(2), 4),
        (outcome(Act::DuplicateLines).share(0.5), 0),
        (outcome(Act::ErrorLines).share(0.25).code(500).times(2), 0),
        (outcome(Act::Truncated).times(1), 1),
        (outcome(Act::MissingLines).share(0.1).times(2), 4),
        (outcome(Act::WrongDimension).share(0.1).times(1), 2),
        (outcome(Act::Nan).share(0.1).times(1), 2),
    ];
    for (rule, twice) in table {
        let shop = batches(vec![rule.clone()]);
        shop.records(60, plain);
        let ran = shop.ingest_records(&["--wait"]);
        let summary = ran.code(0).summary();
        assert_eq!(summary["records"]["stored"], 60, "{rule:?} {summary}");
        shop.assert_rows(60, plain);
        shop.assert_all_ended();
        let books = shop.standin.books();
        // Rows of the missing lines were never done over there.
        let most = if rule.act == Act::MissingLines { 0 } else { twice };
        assert!(books.custom_ids_paid_twice().len() <= most, "{rule:?} {:?}", books.custom_ids_paid_twice());
        shop.assert_books_agree();
    }
}

#[test]
fn what_is_refused_for_itself_fails_alone_and_can_be_tried_again() {
    let shop = batches(vec![outcome(Act::ErrorLines).share(0.1).code(400).times(1)]);
    shop.records(20, plain);
    let ran = shop.ingest_records(&["--wait"]);
    assert_eq!(ran.code(3).summary()["records"]["failed"], 2, "{}", ran.out);
    assert_eq!((&shop.items("products")["success"], &shop.items("products")["failed"]), (&json!(18), &json!(2)));
    // Discovery again changes nothing; asked for, they are sent again.
    let again = shop.ingest_records(&["--wait"]);
    assert_eq!(again.code(3).summary()["records"]["still_failed"], 2, "{}", again.out);
    assert_eq!(shop.items("products")["failed"], 2);
    shop.run(&["batch", "retry"]).code(0);
    shop.run(&["batch", "submit", "--wait", "--progress", "none"]).code(0);
    shop.assert_rows(20, plain);
    shop.assert_books_agree();
}

#[test]
fn a_bad_record_costs_its_line_and_no_other() {
    let shop = batches(Vec::new());
    shop.records(3, plain);
    let path = shop.place.path().join("products.jsonl");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{{\"sku\": 7}}\nnonsense\n{good}[1]\n{{\"sku\":\"n\",\"description\":\" \"}}\n"))
        .unwrap();
    let ran = shop.ingest_records(&["--wait"]);
    let summary = ran.code(3).summary();
    let lines: Vec<_> = summary["records"]["refused"].as_array().unwrap().iter().map(|r| r["line"].clone()).collect();
    assert_eq!(lines, [json!(1), json!(2), json!(6)], "{summary}");
    assert_eq!((&summary["records"]["new"], &summary["records"]["noise"]), (&json!(4), &json!(1)));
    shop.assert_rows(3, plain);
}

#[test]
fn what_changed_or_was_deleted_since_it_was_sent_is_not_stored() {
    let shop = Shop::new(|o| o.pace.validate = Duration::from_secs(5));
    shop.records(20, plain);
    shop.ingest_records(&[]).code(0);
    // Two change on their way, and one goes.
    let changed = |i: usize| if i < 2 { format!("quite another thing {i}") } else { plain(i) };
    shop.records(20, changed);
    shop.ingest_records(&[]).code(0);
    shop.run(&["delete", "--collection", "products", "P-0005"]).code(0);
    let ran = shop.run(&["batch", "poll", "--wait", "--json", "--progress", "none"]);
    let summary = ran.code(0).summary();
    assert_eq!(summary["batches"]["stale"], 3, "{summary}");
    let rows = shop.rows("products");
    assert_eq!(rows.len(), 19);
    assert!(!rows.contains_key("P-0005"));
    assert_eq!(rows["P-0001"].0, changed(1));
    shop.assert_books_agree();
    // Deleted after it was stored, it leaves; put in again, it is there again.
    shop.run(&["delete", "--collection", "products", "P-0006"]).code(0);
    assert_eq!(shop.rows("products").len(), 18);
    shop.ingest_records(&["--wait"]).code(0);
    shop.assert_rows(20, changed);
}

/// Where a process can be made to die, on the way out and on the way back.
const PLACES: [&str; 15] = [
    "records.put",
    "batch.packed",
    "batch.written",
    "batch.sent",
    "batch.uploaded",
    "batch.asked",
    "batch.created",
    "batch.taken",
    "harvest.fetched",
    "harvest.committed",
    "harvest.marked",
    "harvest.stored",
    "harvest.ended",
    "records.taken",
    "records.committed",
];

#[test]
fn killed_at_each_step_nothing_is_lost_and_nothing_is_paid_twice() {
    for place in PLACES {
        let shop = batches(Vec::new());
        shop.records(50, plain);
        let live = place.starts_with("records.") && place != "records.put";
        let mode = format!("embed.mode={}", if live { "live" } else { "batch" });
        let args = [RECORDS, &["--wait", "--set", &mode]].concat();
        let killed = shop.command(&args).env("DOCWEIR_FAILPOINT", format!("{place}=1")).output().unwrap();
        assert_eq!(killed.status.code(), None, "{place}: {}", String::from_utf8_lossy(&killed.stderr));
        let ran = shop.run(&args);
        ran.code(0);
        shop.assert_rows(50, plain);
        shop.assert_all_ended();
        let books = shop.standin.books();
        assert_eq!(books.custom_ids_paid_twice(), Vec::<&str>::new(), "{place}");
        let (settled, reserved, doubt) = shop.cost();
        let charged = books.nanodollars();
        assert!(
            reserved == 0 && settled <= charged && charged <= settled + doubt,
            "{place}: {settled} {charged} {doubt}"
        );
        if !live {
            assert_eq!((settled, doubt), (charged, 0), "{place}");
        }
    }
}

#[test]
fn a_reply_that_was_lost_is_looked_for_before_anything_is_sent_again() {
    for act in [Act::CutAfter, Act::CutMiddle, Act::CutBefore, Act::Garbage] {
        let shop = batches(vec![Rule::new(On::Batches, act).times(2)]);
        shop.records(20, plain);
        shop.ingest_records(&["--wait"]).code(0);
        shop.assert_rows(20, plain);
        assert_eq!(shop.standin.books().batches.len(), 1, "{act:?}");
        shop.assert_books_agree();
    }
}

/// Kills at random moments: `DOCWEIR_TEST_KILLS` of them.
#[test]
fn killed_at_random_moments_with_a_provider_that_fails_nothing_is_lost_or_doubled() {
    let kills: u64 = std::env::var("DOCWEIR_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let faults = vec![
        Rule::new(On::Batches, Act::CutAfter).probability(0.1),
        Rule::new(On::Batches, Act::Status).code(503).probability(0.1),
        Rule::new(On::Files, Act::CutAfter).probability(0.1),
        Rule::new(On::Files, Act::Status).code(429).retry_after(0.05).probability(0.1),
        Rule::new(On::Content, Act::CutMiddle).probability(0.1),
        outcome(Act::Expire).share(0.5).probability(0.1),
        outcome(Act::Cancel).share(0.5).probability(0.05),
        outcome(Act::ErrorLines).share(0.1).code(500).probability(0.1),
        outcome(Act::DuplicateLines).share(0.3).probability(0.1),
    ];
    let shop = Shop::new(|o| {
        o.faults = faults;
        o.pace = Pace { items_per_second: Some(600.0), ..o.pace.clone() };
    });
    let mut random = fastrand::Rng::with_seed(7);
    let (mut killed, mut round) = (0, 0);
    let text = |round: usize| {
        move |i: usize| if i % 10 == round % 10 { format!("{} anew {round}", plain(i)) } else { plain(i) }
    };
    while killed < kills {
        // Each round a tenth of the records has another text, sent or not.
        shop.records(150, text(round));
        let args = [RECORDS, &["--wait"]].concat();
        let mut running = shop.spawn(&args);
        std::thread::sleep(Duration::from_millis(random.u64(30..1_200)));
        let hit = running.is_running();
        if hit {
            running.signal(rustix::process::Signal::KILL);
        }
        let ran = running.finish();
        assert!(hit || ran.status.code() == Some(0), "{}", ran.err);
        killed += u64::from(hit);
        round += usize::from(!hit || killed % 4 == 0);
    }
    shop.records(150, text(round));
    shop.standin.set_faults(Vec::new()).unwrap();
    let ran = shop.ingest_records(&["--wait"]);
    ran.code(0);
    shop.assert_rows(150, text(round));
    shop.assert_all_ended();
    shop.assert_books_agree();
}

#[test]
fn a_spent_budget_pauses_and_says_so() {
    let shop = batches(Vec::new());
    shop.records(60, plain);
    let ran = shop.run(&[RECORDS, &["--wait", "--set", "budget.run_usd=0.000004"]].concat());
    ran.code(0);
    let notices: Vec<_> = ran.json().iter().filter(|e| e["event"] == "notice").map(|e| e["text"].to_string()).collect();
    assert!(notices.iter().any(|n| n.contains("budget.run_usd")), "{notices:?}");
    assert!(notices.iter().any(|n| n.contains("% of the budget")), "{notices:?}");
    assert!(shop.standin.books().nanodollars() <= 4_000);
    let left = shop.items("products");
    assert_eq!(left["pending"], 0, "what was paid for is taken in");
    assert!(left["none"].as_u64().unwrap() > 0 && left["success"].as_u64().unwrap() > 0, "{left}");
    shop.run(&["batch", "submit", "--wait", "--progress", "none"]).code(0);
    shop.assert_rows(60, plain);
    shop.assert_books_agree();
}

#[test]
fn documents_wait_for_money_and_go_on_with_it() {
    let shop = batches(Vec::new());
    shop.place.generate(10);
    let ingest = ["ingest", "docs", "--json", "--progress", "none", "--set", "embed.mode=live"];
    let ran = shop.run(&[&ingest[..], &["--set", "budget.day_usd=0.000012"]].concat());
    let summary = ran.code(0).summary();
    let (done, parked) = (summary["completed"].as_u64().unwrap(), summary["parked"].as_u64().unwrap());
    assert!(done > 0 && parked > 0 && done + parked == 10, "{summary}");
    assert!(shop.standin.books().nanodollars() <= 12_000);
    // The same day, with the same budget: nothing is spent, nothing is lost.
    let again = shop.run(&[&ingest[..], &["--set", "budget.day_usd=0.000012"]].concat());
    assert_eq!(again.code(0).summary()["parked"], parked, "{}", again.out);
    shop.run(&ingest).code(0);
    shop.place.assert_complete(10);
    shop.assert_books_agree();
}

#[test]
fn what_saves_little_is_embedded_at_once() {
    let shop = batches(Vec::new());
    shop.place.generate(3);
    let auto = ["--wait", "--set", "embed.mode=auto", "--json", "--progress", "none"];
    shop.run(&[&["ingest", "docs"], &auto[..]].concat()).code(0);
    shop.place.assert_complete(3);
    let books = shop.standin.books();
    assert!(books.batch.requests == 0 && books.live.requests > 0, "{books:?}");
    // And what saves enough is not.
    shop.records(20, plain);
    shop.run(&[RECORDS, &["--wait", "--set", "embed.mode=auto", "--set", "batch.min_saving_usd=0"]].concat()).code(0);
    assert_eq!(shop.standin.books().batch.requests, 20);
    shop.assert_rows(20, plain);
    shop.assert_books_agree();
}

#[test]
fn a_batch_is_called_off_and_its_items_wait_again() {
    let shop = Shop::new(|o| o.pace.items_per_second = Some(1.0));
    shop.records(20, plain);
    shop.ingest_records(&[]).code(0);
    let list = shop.run(&["batch", "list", "--json"]).code(0).json();
    let id = list.iter().find_map(|l| l["batch_id"].as_str()).unwrap().to_owned();
    let shown = shop.run(&["batch", "show", &id]);
    assert!(shown.code(0).out.contains("products"), "{}", shown.out);
    shop.run(&["batch", "cancel", &id]).code(0);
    eventually("the batch is called off", || {
        shop.run(&["batch", "poll", "--progress", "none"]).code(0);
        let list = shop.run(&["batch", "list", "--json"]).code(0).json();
        list.iter().any(|l| l["batch_id"] == *id && l["status"] == "CANCELLED" && l["ended_at"].is_string())
    });
    shop.assert_books_agree();
    assert_ne!(shop.items("products")["success"], 20);
    shop.run(&["batch", "cancel", &id]).code(1);
    shop.run(&["batch", "show", "batch_nobody"]).code(1);
}

#[test]
fn receipts_become_lines_and_words_that_are_found_by_what_is_known_of_them() {
    let shop = batches(Vec::new());
    let word = |id: usize, text: &str, x: f64| {
        let bounding_box = json!({"x": x, "y": 0.5, "width": 0.1, "height": 0.03});
        json!({"word_id": id, "text": text, "bounding_box": bounding_box, "confidence": 0.9})
    };
    let mut lines = String::new();
    for n in 0..30 {
        let words = [word(1, "TOTAL", 0.1), word(2, &format!("{n}.50"), 0.7), word(3, "*", 0.9)];
        let bounding_box = json!({"x": 0.1, "y": 0.5, "width": 0.8, "height": 0.03});
        let text = format!("TOTAL {n}.50 *");
        let line = json!({"line_id": 1, "text": text, "bounding_box": bounding_box, "confidence": 0.9, "words": words});
        let image = format!("00000000-0000-4000-8000-{n:012}");
        let receipt = json!({"image_id": image, "receipt_id": 1, "source": format!("shop/{}", n % 3), "lines": [line]});
        writeln!(lines, "{receipt}").unwrap();
    }
    std::fs::write(shop.place.path().join("receipts.jsonl"), lines).unwrap();
    let ingest = ["ingest", "receipts.jsonl", "--as", "receipts", "--wait", "--json", "--progress", "none"];
    let summary = shop.run(&ingest).code(0).summary();
    assert_eq!(summary["records"]["stored"], 90, "{summary}");
    assert_eq!(summary["records"]["noise"], 30);
    assert_eq!((shop.rows("receipt_lines").len(), shop.rows("receipt_words").len()), (30, 60));
    let key = "IMAGE#00000000-0000-4000-8000-000000000007#RECEIPT#00001#LINE#00001#WORD#00002";
    let input = "<TARGET>7.50</TARGET> <POS>middle-right</POS> <CONTEXT>TOTAL *</CONTEXT>";
    let (text, made) = &shop.rows("receipt_words")[key];
    let near: f32 = made.iter().zip(vector(input, DIMENSIONS)).map(|(a, b)| a * b).sum();
    assert!(text == "7.50" && near > 0.999, "{text} {near}");
    let search = |more: &[&str]| {
        let base = ["search", "--collection", "receipt_words", "--json", "-k", "60", "total"];
        let ran = shop.run(&[&base[..], more].concat());
        ran.json().iter().flat_map(results).collect::<Vec<_>>()
    };
    let found = search(&["--filter", "metadata.source=shop/1", "--filter", "metadata.left=<EDGE>"]);
    assert_eq!(found.len(), 10, "{found:?}");
    assert!(found.iter().all(|hit| hit["text"] == "TOTAL"), "{found:?}");
    // Again: nothing is new, nothing is paid.
    let charged = shop.standin.books().nanodollars();
    let summary = shop.run(&ingest).code(0).summary();
    assert_eq!((&summary["records"]["unchanged"], shop.standin.books().nanodollars()), (&json!(120), charged));
    shop.assert_books_agree();
}

#[test]
fn records_need_no_provider() {
    let shop = batches(Vec::new());
    shop.records(40, plain);
    let ran = Ran::of(shop.place.command(RECORDS).output().unwrap());
    let summary = ran.code(0).summary();
    assert_eq!(summary["records"]["stored"], 40, "{summary}");
    assert_eq!(shop.rows("products").len(), 40);
    let search = ["search", "--collection", "products", "--json", "--filter", "metadata.price<=3", "product"];
    let found = Ran::of(shop.place.command(search).output().unwrap());
    assert_eq!(found.json().iter().flat_map(results).count(), 4, "{}", found.out);
    assert_eq!(shop.standin.books().nanodollars(), 0);
    // Batches are for providers.
    let mode = shop.place.command([RECORDS, &["--set", "embed.mode=batch"]].concat()).output().unwrap();
    assert!(Ran::of(mode).code(2).err.contains("embed.mode"));
}

#[test]
fn a_provider_that_fails_now_and_then_loses_no_record_that_is_embedded_at_once() {
    let on = |act| Rule::new(On::Embeddings, act).probability(0.2);
    let shop = batches(vec![on(Act::Status).code(500), on(Act::CutBefore)]);
    shop.records(400, plain);
    let ran =
        shop.run(&[RECORDS, &["--set", "embed.mode=live", "--set", "embed.options.openai.max_inputs=10"]].concat());
    assert_eq!(ran.code(0).summary()["records"]["stored"], 400, "{}", ran.out);
    shop.assert_rows(400, plain);
    let (settled, reserved, doubt) = shop.cost();
    let charged = shop.standin.books().nanodollars();
    assert!(reserved == 0 && settled <= charged && charged <= settled + doubt, "{settled} {charged} {doubt}");
    let by = shop.run(&["cost", "--by", "collection", "--json"]).code(0).json();
    assert_eq!(by.iter().map(|line| line["name"].clone()).collect::<Vec<_>>(), [json!("products")]);
}

#[test]
fn records_that_are_refused_at_once_cost_their_neighbours_nothing() {
    let shop = Shop::new(|o| o.limits.tokens_per_input = 100);
    // Three that the provider takes for too long, and we do not: in one call, two of them side by side.
    let text = |i: usize| format!("{} {}", plain(i), "word ".repeat(if [0, 57, 58].contains(&i) { 200 } else { 0 }));
    shop.records(200, text);
    let live = ["--set", "embed.mode=live"];
    let summary = shop.ingest_records(&live).code(3).summary();
    assert_eq!((&summary["records"]["stored"], &summary["records"]["failed"]), (&json!(197), &json!(3)), "{summary}");
    // Shorter now, they are embedded, and nothing else is.
    shop.records(200, |i| if [0, 57, 58].contains(&i) { plain(i) } else { text(i) });
    let summary = shop.ingest_records(&live).code(0).summary();
    assert_eq!(summary["records"]["stored"], 3, "{summary}");
    let books = shop.standin.books();
    assert_eq!(books.texts_paid_twice(), Vec::<&str>::new());
    assert_eq!(shop.rows("products").len(), 200);
    shop.assert_books_agree();
}

/// Each id and each vector of many: `DOCWEIR_TEST_ITEMS` of them.
#[test]
fn many_records_pass_a_few_batches_each_with_its_own_vector() {
    let items = std::env::var("DOCWEIR_TEST_ITEMS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let shop = Shop::new(|o| {
        (o.books_by_text, o.faults) = (false, vec![outcome(Act::Shuffled)]);
        o.limits.enqueued_tokens = 1_000_000_000;
    });
    shop.records(items, plain);
    let limits = ["--set", "batch.record_items=0", "--set", "batch.max_enqueued_tokens=1000000000"];
    let ran = shop.ingest_records(&[&["--wait"], &limits[..]].concat());
    assert_eq!(ran.code(0).summary()["records"]["stored"], items, "{}", ran.out);
    shop.assert_rows(items, plain);
    shop.assert_books_agree();
}

#[test]
fn only_what_is_embedded_has_to_be_paid_again() {
    let shop = batches(Vec::new());
    shop.records(20, plain);
    shop.ingest_records(&["--wait"]).code(0);
    let charged = shop.standin.books().nanodollars();
    // Another file with other prices: the texts are the same.
    let text = std::fs::read_to_string(shop.place.path().join("products.jsonl")).unwrap();
    std::fs::write(shop.place.path().join("products.jsonl"), text.replace("\"price\":", "\"cost\":")).unwrap();
    // The same file, fields and collection.
    let estimate = shop.run(&[&["estimate"], &RECORDS[1..11]].concat());
    assert_eq!((&estimate.code(0).json()[0]["tokens"], &estimate.json()[0]["batch_usd"]), (&json!(0), &json!(0.0)));
    let summary = shop.ingest_records(&["--wait"]).code(0).summary();
    assert_eq!((&summary["records"]["changed"], &summary["records"]["stored"]), (&json!(20), &json!(20)), "{summary}");
    assert_eq!(shop.standin.books().nanodollars(), charged);
    shop.assert_rows(20, plain);
    let search = ["search", "--collection", "products", "--json", "--filter", "metadata.cost=3", "product"];
    assert_eq!(shop.run(&search).json().iter().flat_map(results).count(), 1);
    shop.assert_books_agree();
}

#[test]
fn looking_sends_nothing() {
    let shop = Shop::new(|o| {
        o.faults = vec![outcome(Act::Expire).share(0.5).times(1)];
        o.pace.validate = Duration::from_secs(4);
    });
    shop.records(20, plain);
    shop.ingest_records(&[]).code(0);
    // What is configured by default is live, and what came back half done is not embedded at once for it.
    shop.run(&["batch", "poll", "--wait", "--progress", "none", "--set", "embed.mode=live"]).code(0);
    assert_eq!((&shop.items("products")["none"], shop.standin.books().live.requests), (&json!(10), 0));
    shop.run(&["batch", "submit", "--wait", "--progress", "none"]).code(0);
    shop.assert_rows(20, plain);
    shop.assert_books_agree();
}

#[test]
fn a_wrong_address_or_another_model_gives_up_no_batch() {
    let shop = Shop::new(|o| o.pace.validate = Duration::from_secs(4));
    shop.records(20, plain);
    shop.ingest_records(&[]).code(0);
    let poll = ["batch", "poll", "--wait", "--progress", "none"];
    let elsewhere = format!("embed.options.openai.base_url={}/nowhere", shop.standin.base_url());
    shop.run(&[&poll[..], &["--set", &elsewhere]].concat()).code(0);
    let other = "embed.options.openai.model=text-embedding-3-large";
    shop.run(&[&poll[..], &["--set", other]].concat()).code(0);
    // Its records are of a model, and of no other.
    let ran = shop.run(&[RECORDS, &["--set", other]].concat());
    assert!(ran.code(4).err.contains("text-embedding-3-small"), "{}", ran.err);
    Ran::of(shop.place.command(["ingest", "docs", "--progress", "none"]).output().unwrap()).code(0);
    assert_eq!(shop.items("products")["pending"], 20);
    shop.run(&poll).code(0);
    shop.assert_rows(20, plain);
    assert_eq!(shop.standin.books().batches.len(), 1);
    shop.assert_books_agree();
}

#[test]
fn a_document_that_is_deleted_while_it_waits_is_not_sent() {
    let shop = batches(Vec::new());
    shop.place.generate(3);
    let ingest = ["ingest", "docs", "--json", "--progress", "none", "--set", "budget.run_usd=0.00000001"];
    assert_eq!(shop.run(&ingest).code(0).summary()["parked"], 3);
    shop.run(&["erase", "docs/0001.pdf"]).code(0);
    let left = shop.items("documents")["none"].as_u64().unwrap();
    shop.run(&["batch", "submit", "--wait", "--progress", "none"]).code(0);
    assert_eq!(shop.standin.books().batch.inputs, left);
    assert_eq!(shop.place.records().iter().filter(|r| r["status"] == "COMPLETED").count(), 2);
    let erased = docweir_testkit::marker(1, 1);
    for file in ["paid.db", "paid.db-wal"] {
        let body = std::fs::read(shop.place.state().join(file)).unwrap_or_default();
        assert!(!body.windows(erased.len()).any(|w| w == erased.as_bytes()), "{file}");
    }
    shop.assert_books_agree();
}

#[test]
fn where_nobody_takes_batches_any_more_documents_go_on() {
    let shop = Shop::new(|o| o.pace.items_per_second = Some(0.1));
    shop.place.generate(3);
    let ingest = ["ingest", "docs", "--json", "--progress", "none"];
    assert_eq!(shop.run(&ingest).code(0).summary()["parked"], 3);
    let ran = Ran::of(shop.place.command(ingest).output().unwrap());
    assert_eq!(ran.code(0).summary()["completed"], 3, "{}", ran.out);
    shop.place.assert_complete(3);
}

#[test]
fn records_that_a_rollback_took_away_are_embedded_again() {
    let shop = batches(Vec::new());
    shop.records(20, plain);
    shop.ingest_records(&["--wait"]).code(0);
    let text = |i: usize| if i < 5 { format!("another text {i}") } else { plain(i) };
    shop.records(30, text);
    shop.ingest_records(&["--wait"]).code(0);
    let collection = ["--set", "state.collection=products"];
    let info = shop.run(&[&["store", "info", "--json"], &collection[..]].concat());
    let version = info.code(0).json()[0]["version"].as_u64().unwrap();
    let ran = shop.run(&[&["store", "rollback", "1"], &collection[..]].concat());
    assert!(ran.code(0).out.contains("15 records") || version > 2, "{}", ran.out);
    shop.ingest_records(&["--wait"]).code(0);
    shop.assert_rows(30, text);
    let verify = shop.run(&[&["store", "verify", "--json"], &collection[..]].concat());
    verify.code(0);
}
