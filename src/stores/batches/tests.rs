use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::money::Nanodollars;
use crate::stores::ledger::{Budget, By, Ledger, Mode, Spend, SqliteLedger};
use crate::stores::paid;
use crate::stores::sqlite::OpenOptions;

const OPTIONS: OpenOptions = OpenOptions { busy: Duration::from_secs(5), wal_pages: 1_000, page_cache_kibibytes: 512 };

struct Desk {
    batches: Batches,
    ledger: SqliteLedger,
    space: Space,
    _folder: tempfile::TempDir,
}

fn desk(space: Space) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let database = paid::open(&folder.path().join("paid.db"), &OPTIONS).unwrap();
    let clock = Arc::new(ManualClock::at(1_795_305_600_000_000));
    let ledger = SqliteLedger::new(database.clone(), clock.clone());
    Desk { batches: Batches::new(database, clock), ledger, space, _folder: folder }
}

fn records() -> Desk {
    desk(Space::Records("receipt_lines".into()))
}

fn model() -> ModelIdentity {
    let metric = crate::stages::model::Metric::Cosine;
    ModelIdentity { id: "m".into(), weights: "served".into(), dimension: 2, metric }
}

fn run<T, E: std::fmt::Debug>(future: impl Future<Output = std::result::Result<T, E>>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future).unwrap()
}

fn item(key: &str, input: &str) -> NewItem {
    let shown = Shown { text: input.into(), kind: "line".into(), source: "file:///x".into(), metadata: Map::new() };
    NewItem { key: key.into(), input: input.into(), tokens: input.len() as u64, noise: input.is_empty(), shown }
}

impl Desk {
    fn put(&self, items: &[(&str, &str)]) -> Put {
        run(self.batches.put(&self.space, items.iter().map(|(k, i)| item(k, i)).collect()))
    }

    fn order(&self, id: &str, most_requests: usize) -> Order {
        Order {
            id: id.into(),
            space: self.space.clone(),
            model: model(),
            endpoint: "https://example.com/v1".into(),
            most_requests,
            most_bytes: 1_000_000,
            most_tokens: 1_000_000,
            line_bytes: Arc::new(|key, input| (key.len() + input.len()) as u64),
            spend: Spend {
                run: "r".into(),
                mode: Mode::Batch,
                stage: "embedding".into(),
                model: "m".into(),
                collection: "c".into(),
                subject: String::new(),
                tokens: 0,
                cost: Nanodollars::ZERO,
            },
            usd_per_million_tokens: 0.01,
            budget: Budget::default(),
        }
    }

    fn pack(&self, id: &str, most: usize) -> Vec<String> {
        match run(self.batches.pack(self.order(id, most))) {
            Packed::Batch(batch, _) => {
                let requests = run(self.batches.requests(id, 0, 1_000));
                assert_eq!(batch.items, requests.len() as u64);
                requests.into_iter().map(|r| r.key).collect()
            }
            Packed::Nothing => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    /// Keeps the results of these keys, as a harvest does; returns those that were stale.
    fn harvest(&self, batch: &str, keys: &[&str]) -> Vec<String> {
        let keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
        let sent = run(self.batches.sent(batch, keys.clone()));
        let stale = keys.iter().zip(&sent).filter(|(_, s)| s.is_none()).map(|(k, _)| k.clone()).collect();
        let made = sent.into_iter().flatten().map(|s| Made {
            item: s.item,
            version: s.version,
            tokens: s.tokens,
            vector: s.shown.is_none().then(|| vec![s.tokens as f32, 1.0]),
        });
        run(self.batches.made(batch, made.collect()));
        stale
    }

    fn end(&self, batch: &str, status: Status, charged_tokens: u64) {
        let undone = status == Status::Cancelled;
        run(self.batches.end(
            batch,
            Ending {
                status,
                charged_tokens: Some(charged_tokens),
                usd_per_million_tokens: 0.01,
                most_attempts: 3,
                undone,
                error: None,
            },
        ));
    }

    /// none, pending, success, failed, noise
    fn counts(&self) -> [u64; 5] {
        let all = run(self.batches.counts());
        all.first().map_or([0; 5], |c| [c.none, c.pending, c.success, c.failed, c.noise])
    }

    fn batch(&self, id: &str) -> Batch {
        run(self.batches.batch(id)).unwrap()
    }
}

#[test]
fn a_record_goes_from_none_to_success_and_stays_there() {
    let d = records();
    let put = d.put(&[("a", "one"), ("b", "two"), ("c", ""), ("d", "four")]);
    assert_eq!(put, Put { new: 4, noise: 1, ..Put::default() });
    assert_eq!(d.pack("b1", 2), ["a", "b"]);
    assert_eq!(d.counts(), [1, 2, 0, 0, 1]);
    assert_eq!(d.harvest("b1", &["b", "a"]), Vec::<String>::new());
    d.end("b1", Status::Completed, 6);
    assert_eq!((d.pack("b2", 9), d.counts()), (vec!["d".to_owned()], [0, 1, 2, 0, 1]));
    // Discovery, again and again, resets nothing.
    assert_eq!(d.put(&[("a", "one"), ("c", ""), ("d", "four")]), Put { unchanged: 3, noise: 1, ..Put::default() });
    assert_eq!(d.counts(), [0, 1, 2, 0, 1]);
    let lines = run(d.ledger.report(By::Subject, "", 10));
    assert_eq!(lines.iter().map(|l| (l.settled.cost.0, l.reserved.cost.0)).collect::<Vec<_>>(), [(60, 0), (0, 40)]);
}

#[test]
fn what_changed_or_was_deleted_since_it_was_sent_is_stale() {
    let d = records();
    d.put(&[("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")]);
    d.pack("b1", 9);
    assert_eq!(d.put(&[("a", "ONE"), ("d", "")]), Put { changed: 2, noise: 1, ..Put::default() });
    assert_eq!(run(d.batches.delete(&d.space, vec!["b".into(), "x".into()])), 1);
    // Changed there and back: what was sent is not what it is now, though it reads the same.
    d.put(&[("c", "drei")]);
    d.put(&[("c", "three")]);
    assert_eq!(d.harvest("b1", &["a", "b", "c", "d", "nobody"]), ["a", "b", "c", "d", "nobody"]);
    d.end("b1", Status::Completed, 15);
    assert_eq!((d.batch("b1").stored, d.batch("b1").stale), (0, 4));
    assert_eq!((d.pack("b2", 9), d.counts()), (vec!["a".to_owned(), "c".to_owned()], [0, 2, 0, 0, 1]));
}

#[test]
fn a_row_that_should_not_be_in_the_vector_store_is_known_until_it_has_left() {
    let d = records();
    d.put(&[("a", "one"), ("b", "two")]);
    d.pack("b1", 9);
    let sent = run(d.batches.sent("b1", vec!["a".into(), "b".into()]));
    // Deleted between the look and the word that it is stored: the row is there and has to go.
    run(d.batches.delete(&d.space, vec!["a".into()]));
    let made = |s: &Sent| Made { item: s.item, version: s.version, tokens: s.tokens, vector: None };
    run(d.batches.made("b1", sent.iter().flatten().map(made).collect()));
    d.end("b1", Status::Completed, 6);
    let removals = run(d.batches.removals(&d.space, 10));
    assert_eq!(removals.iter().map(|r| (r.key.as_str(), r.version)).collect::<Vec<_>>(), [("a", 2)]);
    run(d.batches.removed(removals));
    assert_eq!(run(d.batches.removals(&d.space, 10)), []);
    // It comes back above its tombstone; and as noise the other one leaves.
    d.put(&[("a", "one"), ("b", "")]);
    d.pack("b2", 9);
    let sent = run(d.batches.sent("b2", vec!["a".into()]));
    assert_eq!(sent[0].as_ref().unwrap().version, 3);
    assert_eq!(run(d.batches.removals(&d.space, 10))[0].key, "b");
}

#[test]
fn items_without_an_answer_are_sent_again_and_not_for_ever() {
    let d = records();
    d.put(&[("a", "one"), ("b", "two")]);
    for n in 1..=3 {
        let id = format!("b{n}");
        assert_eq!(d.pack(&id, 9), ["a", "b"]);
        // Cancelled batches are nobody's attempt.
        d.end(&format!("b{n}"), Status::Cancelled, 0);
    }
    for n in 4..=6 {
        let id = format!("b{n}");
        assert_eq!(d.pack(&id, 9), ["a", "b"]);
        if n == 5 {
            d.harvest(&id, &["a"]);
            let refusal = Refusal { key: "b".into(), error: "500".into(), again: true };
            run(d.batches.refused(&id, vec![refusal], 3));
            d.end(&id, Status::Completed, 3);
            break;
        }
        d.end(&id, Status::Expired, 0);
    }
    assert_eq!(d.pack("b7", 9), ["b"]);
    d.end("b7", Status::Expired, 0);
    assert_eq!(d.counts(), [0, 0, 1, 1, 0]);
    assert_eq!((d.batch("b7").failed, d.batch("b5").returned, d.batch("b5").stored), (1, 1, 1));
    assert_eq!(run(d.batches.retry(Some("b5"))), 0);
    assert_eq!((run(d.batches.retry(Some("b7"))), d.pack("b8", 9)), (1, vec!["b".to_owned()]));
}

#[test]
fn packing_keeps_every_limit() {
    let d = records();
    d.put(&[("a", "aaaa"), ("b", "bbbb"), ("c", "cccc"), ("d", "dddd")]);
    let full = run(d.batches.pack(Order { most_tokens: 3, ..d.order("b0", 9) }));
    assert_eq!(full, Packed::Full);
    let budget = |nanos| Budget { run: Some(Nanodollars(nanos)), day: None };
    assert!(matches!(run(d.batches.pack(Order { budget: budget(30), ..d.order("b0", 9) })), Packed::Refused { .. }));
    assert_eq!(d.counts(), [4, 0, 0, 0, 0], "nothing was taken");
    for (id, order) in [
        ("b1", Order { most_tokens: 7, ..d.order("b1", 9) }),
        ("b2", Order { most_bytes: 9, ..d.order("b2", 9) }),
        ("b3", Order { budget: budget(150), ..d.order("b3", 9) }),
    ] {
        assert!(matches!(run(d.batches.pack(order)), Packed::Batch(..)));
        assert_eq!(d.batch(id).items, 1, "{id}");
    }
    assert_eq!((d.pack("b4", 1).len(), run(d.batches.pack(d.order("b5", 9)))), (1, Packed::Nothing));
}

fn texts(list: &[&str]) -> Vec<Text> {
    list.iter().map(|t| Text { text: (*t).into(), tokens: t.len() as u64 }).collect()
}

fn key(text: &str) -> String {
    crate::documents::Sha256Hex::of(text.as_bytes()).to_string()
}

#[test]
fn documents_wait_for_texts_that_are_sent_once() {
    let d = desk(Space::Texts("m/2".into()));
    let ask = |doc: &str, list: &[&str]| run(d.batches.ask(doc, &d.space, texts(list)));
    assert_eq!(ask("doc1", &["one", "both"]), Answer::Waits(2));
    assert_eq!(ask("doc2", &["both"]), Answer::Waits(1));
    assert_eq!(ask("doc2", &["both"]), Answer::Waits(1), "asked again it waits as before");
    assert_eq!(d.pack("b1", 9), [key("one"), key("both")]);
    d.harvest("b1", &[&key("both")]);
    assert_eq!(run(d.batches.ready("", 9)), ["doc2"]);
    assert_eq!(ask("doc1", &["one", "both"]), Answer::Waits(1));
    d.harvest("b1", &[&key("one"), &key("both")]);
    d.end("b1", Status::Completed, 9);
    assert_eq!(run(d.batches.ready("", 9)), ["doc1", "doc2"]);
    // Each token is in one document's books.
    let vectors = vec![vec![3.0, 1.0], vec![4.0, 1.0]];
    assert_eq!(ask("doc1", &["one", "both"]), Answer::Ready { vectors, tokens: 7 });
    run(d.batches.taken("doc1"));
    assert_eq!(ask("doc2", &["both"]), Answer::Ready { vectors: vec![vec![4.0, 1.0]], tokens: 0 });
    run(d.batches.taken("doc2"));
    assert_eq!((d.counts(), run(d.batches.ready("", 9))), ([0; 5], Vec::<String>::new()));
    let lines = run(d.ledger.report(By::Subject, "", 10));
    let books: Vec<_> = lines.iter().map(|l| (l.name.as_str(), l.settled.tokens)).collect();
    assert_eq!(books, [("b1", 2), ("doc1", 7)]);
}

#[test]
fn a_document_that_gives_up_leaves_nothing_that_is_paid_for() {
    let d = desk(Space::Texts("m/2".into()));
    let ask = |doc: &str, list: &[&str]| run(d.batches.ask(doc, &d.space, texts(list)));
    ask("doc1", &["one"]);
    run(d.batches.taken("doc1"));
    assert_eq!(d.pack("b0", 9), Vec::<String>::new());
    // On its way already: its result is nobody's.
    ask("doc1", &["two"]);
    d.pack("b1", 9);
    run(d.batches.taken("doc1"));
    assert_eq!(d.harvest("b1", &[&key("two")]), [key("two")]);
    d.end("b1", Status::Completed, 3);
    assert_eq!(d.counts(), [0; 5]);
    // Refused for good: the document is told, and may try again from the beginning.
    ask("doc1", &["bad"]);
    d.pack("b2", 9);
    run(d.batches.refused("b2", vec![Refusal { key: key("bad"), error: "400".into(), again: false }], 3));
    d.end("b2", Status::Completed, 0);
    assert_eq!(run(d.batches.ready("", 9)), ["doc1"]);
    assert_eq!(ask("doc1", &["bad"]), Answer::Failed("400".into()));
    assert_eq!(ask("doc1", &["bad"]), Answer::Waits(1));
}

#[test]
fn what_is_not_worth_a_batch_goes_live() {
    let d = desk(Space::Texts("m/2".into()));
    let ask = |doc: &str| run(d.batches.ask(doc, &d.space, texts(&["one", "two"])));
    ask("doc1");
    assert_eq!((run(d.batches.send_live(&d.space)), run(d.batches.ready("", 9))), (1, vec!["doc1".to_owned()]));
    assert_eq!(ask("doc1"), Answer::Live { vectors: vec![None, None], tokens: 0 });
    // What was made is kept, so that it is paid once whatever comes.
    let made = vec![(crate::documents::Sha256Hex::of(b"one"), vec![1.0, 0.0])];
    run(d.batches.made_live(&d.space, made));
    assert_eq!(ask("doc1"), Answer::Live { vectors: vec![Some(vec![1.0, 0.0]), None], tokens: 3 });
    run(d.batches.taken("doc1"));
    assert_eq!((d.counts(), d.pack("b1", 9)), ([0; 5], Vec::new()));
}

#[test]
fn nothing_that_is_on_its_way_is_embedded_at_once_as_well() {
    let d = desk(Space::Texts("m/2".into()));
    let ask = || run(d.batches.ask("doc1", &d.space, texts(&["one", "two"])));
    ask();
    d.pack("b1", 1);
    assert_eq!((run(d.batches.send_live(&d.space)), ask()), (1, Answer::Waits(2)));
    d.harvest("b1", &[&key("one")]);
    run(d.batches.send_live(&d.space));
    assert_eq!(ask(), Answer::Live { vectors: vec![Some(vec![3.0, 1.0]), None], tokens: 3 });
}

#[test]
fn a_text_that_is_refused_costs_its_document_no_other() {
    let d = desk(Space::Texts("m/2".into()));
    let ask = || run(d.batches.ask("doc1", &d.space, texts(&["good", "bad"])));
    ask();
    d.pack("b1", 9);
    d.harvest("b1", &[&key("good")]);
    run(d.batches.refused("b1", vec![Refusal { key: key("bad"), error: "400".into(), again: false }], 3));
    d.end("b1", Status::Completed, 4);
    assert_eq!(ask(), Answer::Failed("400".into()));
    // Tried again, it is the refused one alone that is sent.
    assert_eq!((ask(), d.pack("b2", 9)), (Answer::Waits(1), vec![key("bad")]));
}

#[test]
fn what_a_document_asked_for_before_is_not_sent_for_it() {
    let d = desk(Space::Texts("m/2".into()));
    run(d.batches.ask("doc1", &d.space, texts(&["old", "both"])));
    run(d.batches.ask("doc1", &d.space, texts(&["both", "new"])));
    assert_eq!(d.pack("b1", 9), [key("both"), key("new")]);
    // And where the model is another one by now, nothing is waited for.
    let other = Space::Texts("other/2".into());
    assert_eq!(run(d.batches.strangers(Some(&d.space), 9)), Vec::<String>::new());
    assert_eq!(run(d.batches.strangers(Some(&other), 9)), ["doc1"]);
    assert_eq!(run(d.batches.strangers(None, 9)), ["doc1"]);
}

#[test]
fn other_metadata_needs_no_other_vector() {
    let d = records();
    d.put(&[("a", "one"), ("b", "two")]);
    d.pack("b1", 1);
    d.harvest("b1", &["a"]);
    d.end("b1", Status::Completed, 3);
    let dearer = |key: &str, input: &str| {
        let mut item = item(key, input);
        item.shown.metadata.insert("price".into(), 7.into());
        item
    };
    let put = run(d.batches.put(&d.space, vec![dearer("a", "one"), dearer("b", "two")]));
    assert_eq!(put.changed, 2);
    // The one that has a vector keeps it; the other is sent as it is now.
    let changed = run(d.batches.to_refresh(&d.space, 9));
    assert_eq!(changed.iter().map(|s| (s.key.as_str(), s.version)).collect::<Vec<_>>(), [("a", 2)]);
    assert_eq!(d.pack("b2", 9), ["b"]);
    run(d.batches.refreshed(vec![(changed[0].item, 2, true)]));
    assert_eq!((d.counts(), run(d.batches.to_refresh(&d.space, 9)).len()), ([0, 1, 1, 0, 0], 0));
    // Where its vector is not there after all, it is sent too.
    run(d.batches.put(&d.space, vec![item("a", "one")]));
    let changed = run(d.batches.to_refresh(&d.space, 9));
    run(d.batches.refreshed(vec![(changed[0].item, changed[0].version, false)]));
    assert_eq!(d.pack("b3", 9), ["a"]);
}

#[test]
fn what_the_vector_store_lost_is_embedded_again() {
    let d = records();
    d.put(&[("a", "one"), ("b", "two"), ("c", "three")]);
    d.pack("b1", 9);
    d.harvest("b1", &["a", "b", "c"]);
    d.end("b1", Status::Completed, 11);
    let held = |key: &str| match key {
        "a" => Some(1),
        // Of an earlier life, above what is known here.
        "b" => Some(5),
        _ => None,
    };
    assert_eq!(run(d.batches.reconcile(&d.space, held)), 2);
    assert_eq!(d.pack("b2", 9), ["b", "c"]);
    let versions = run(d.batches.sent("b2", vec!["b".into(), "c".into()]));
    assert_eq!(versions.into_iter().flatten().map(|s| s.version).collect::<Vec<_>>(), [6, 2]);
}

#[test]
fn lines_that_are_named_fail_alone() {
    let d = records();
    d.put(&[("a", "one"), ("b", "two"), ("c", "three")]);
    d.pack("b1", 9);
    assert_eq!(run(d.batches.blame("b1", &[2, 9], "too_long in line 2")), 1);
    d.end("b1", Status::Cancelled, 0);
    assert_eq!((d.counts(), d.pack("b2", 9)), ([2, 0, 0, 1, 0], vec!["a".to_owned(), "c".to_owned()]));
}

#[test]
fn live_calls_take_records_and_give_them_back() {
    let d = records();
    d.put(&[("a", "one"), ("b", "two"), ("c", "three")]);
    let take = |name: &str| {
        let taken = run(d.batches.take_live(name, &d.space, 9, 6, 1 << 20));
        taken.into_iter().map(|(s, input)| (s.key, input)).collect::<Vec<_>>()
    };
    assert_eq!(take("live:1"), [("a".to_owned(), "one".to_owned()), ("b".to_owned(), "two".to_owned())]);
    run(d.batches.give_back_live("live:1"));
    assert_eq!((d.counts(), take("live:2").len()), ([3, 0, 0, 0, 0], 2));
    assert_eq!((run(d.batches.forget_live()), take("live:3").len()), (2, 2), "the process died");
    // One is refused for itself, and the other was changed meanwhile.
    run(d.batches.put(&d.space, vec![item("b", "TWO")]));
    assert_eq!(run(d.batches.held_live("live:3", vec![1, 2])), [true, false]);
    run(d.batches.fail_live("live:3", 1, "refused"));
    assert_eq!(d.counts(), [2, 0, 0, 1, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever happens in between: an item is in one batch at a time, a result is kept only for the text that was sent,
    /// and what is left when all batches have ended is sent again, or has failed.
    #[test]
    fn nothing_is_lost_doubled_or_stale(steps in prop::collection::vec((0u8..7, 0usize..6, 0usize..4), 1..60)) {
        let d = records();
        let mut sent: BTreeMap<String, HashMap<String, String>> = BTreeMap::new();
        let mut truth: HashMap<String, String> = HashMap::new();
        for (n, (what, which, text)) in steps.into_iter().enumerate() {
            let (key, input) = (format!("k{which}"), format!("text {text}"));
            let open = sent.keys().nth(which % sent.len().max(1)).cloned();
            match (what, open) {
                (0 | 1, _) => {
                    d.put(&[(&key, &input)]);
                    truth.insert(key, input);
                }
                (2, _) => {
                    run(d.batches.delete(&d.space, vec![key.clone()]));
                    truth.remove(&key);
                }
                (3, _) => {
                    let id = format!("b{n}");
                    let requests = d.pack(&id, 1 + text);
                    let all = sent.values().flat_map(|b| b.keys());
                    for key in &requests {
                        let current = truth.get(key).cloned();
                        prop_assert!(current.is_some(), "{key} was deleted and is sent");
                        let twice = all.clone().filter(|k| *k == key).count();
                        let elsewhere = sent.values().filter(|b| b.get(key) == current.as_ref()).count();
                        prop_assert!(twice == 0 || elsewhere <= twice);
                    }
                    if !requests.is_empty() {
                        sent.insert(id, requests.into_iter().map(|k| (k.clone(), truth[&k].clone())).collect());
                    }
                }
                (4, Some(id)) => {
                    // Every result, some of them twice.
                    let keys: Vec<&str> = sent[&id].keys().map(String::as_str).collect();
                    let found = run(d.batches.sent(&id, keys.iter().map(|k| (*k).to_owned()).collect()));
                    for found in found.iter().flatten() {
                        prop_assert_eq!(Some(&sent[&id][&found.key]), truth.get(&found.key), "stale");
                        prop_assert_eq!(&found.shown.as_ref().unwrap().text, &truth[&found.key]);
                    }
                    d.harvest(&id, &keys);
                }
                (5, Some(id)) => {
                    sent.remove(&id);
                    d.end(&id, Status::Completed, 1);
                }
                (6, Some(id)) => {
                    let key = sent[&id].keys().next().cloned().unwrap();
                    run(d.batches.refused(&id, vec![Refusal { key, error: "500".into(), again: true }], 1_000));
                }
                _ => {}
            }
        }
        for id in sent.keys() {
            d.end(id, Status::Completed, 1);
        }
        let [none, pending, success, failed, noise] = d.counts();
        prop_assert_eq!((none + success + failed, pending, noise), (truth.len() as u64, 0, 0));
    }
}
