//! Tests the behaviour that every store of items and batches must have. Each backend runs this suite on itself.

mod model;
mod tables;

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::clock::UnixMicros;
use docweir_core::documents::Sha256Hex;
use docweir_core::model::ModelIdentity;
use docweir_core::money::Nanodollars;
use serde_json::Map;

pub use model::nothing_is_lost_doubled_or_stale;
pub use tables::*;

use super::*;
use crate::ledger::{Budget, GroupBy, Ledger, Mode, Spend};

/// Time of the tests: 2096-11-22 00:00. The time lies in the future, because servers expire items by the real clock.
pub const NOW: UnixMicros = 4_004_380_800_000_000;

/// Provides a store under test and its ledger.
#[async_trait(?Send)]
pub trait World {
    fn batches(&self) -> &dyn Batches;
    fn ledger(&self) -> &dyn Ledger;
    /// Returns the key of a document's text.
    fn text_key(&self, document: &str, text: &str) -> String;
    /// Returns `true` if the store keeps one item for a text that several documents request, and `false` if it keeps
    /// one item per document.
    fn shares_texts(&self) -> bool;
}

/// Generates one test per behaviour. `$world` creates a fresh `World`, or returns `None` if its test server is not
/// available.
#[macro_export]
macro_rules! batches_conformance {
    ($world:expr, $($behaviour:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $behaviour() {
            if let Some(world) = $world.await {
                $crate::batches::conformance::$behaviour(&world).await;
            }
        })*
    };
    ($world:expr) => {
        $crate::batches_conformance!(
            $world,
            a_record_goes_from_none_to_success_and_stays_there,
            what_changed_or_was_deleted_since_it_was_sent_is_stale,
            a_row_that_should_not_be_in_the_vector_store_is_known_until_it_has_left,
            items_without_an_answer_are_sent_again_and_not_for_ever,
            packing_keeps_every_limit,
            documents_wait_for_texts_that_are_sent_once,
            a_document_that_gives_up_leaves_nothing_that_is_paid_for,
            what_is_not_worth_a_batch_goes_live,
            nothing_that_is_on_its_way_is_embedded_at_once_as_well,
            a_text_that_is_refused_costs_its_document_no_other,
            what_a_document_asked_for_before_is_not_sent_for_it,
            other_metadata_needs_no_other_vector,
            what_the_vector_store_lost_is_embedded_again,
            lines_that_are_named_fail_alone,
            live_calls_take_records_and_give_them_back,
            a_batch_is_recorded_at_each_step_and_found,
            a_large_item_comes_back_whole,
            collections_are_bound_to_a_model,
            what_waits_is_counted_by_space,
            a_table_is_owed_an_answer_until_it_was_told_this_one,
            what_its_table_has_no_more_is_forgotten_by_its_version,
        );
    };
}

pub struct BatchFixture<'a> {
    pub w: &'a dyn World,
    pub space: Space,
}

fn model() -> ModelIdentity {
    let metric = docweir_core::model::Metric::Cosine;
    ModelIdentity { id: "m".into(), weights: "served".into(), dimension: 2, metric }
}

pub fn item(key: &str, input: &str) -> NewItem {
    let shown =
        DisplayData { text: input.into(), kind: "line".into(), source: "file:///x".into(), metadata: Map::new() };
    NewItem {
        key: key.into(),
        input: input.into(),
        tokens: input.len() as u64,
        noise: input.is_empty(),
        shown,
        origin: None,
    }
}

/// Returns an item that comes from a user's table.
pub fn item_of(table: &str, key: &str, input: &str) -> NewItem {
    let origin = Some(Origin { table: table.into(), place: serde_json::json!({"key": key}) });
    NewItem { origin, ..item(key, input) }
}

pub fn texts(list: &[&str]) -> Vec<Text> {
    list.iter().map(|t| Text { text: (*t).into(), tokens: t.len() as u64 }).collect()
}

impl<'a> BatchFixture<'a> {
    pub fn records(w: &'a dyn World) -> Self {
        Self { w, space: Space::Records("receipt_lines".into()) }
    }

    pub fn texts(w: &'a dyn World) -> Self {
        Self { w, space: Space::Texts("m/2".into()) }
    }

    pub fn b(&self) -> &'a dyn Batches {
        self.w.batches()
    }

    fn key(&self, document: &str, text: &str) -> String {
        self.w.text_key(document, text)
    }

    pub async fn put(&self, items: &[(&str, &str)]) -> Put {
        self.b().put(&self.space, items.iter().map(|(k, i)| item(k, i)).collect()).await.unwrap()
    }

    pub fn order(&self, id: &str, most_requests: usize) -> Order {
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

    pub async fn pack(&self, id: &str, most: usize) -> Vec<String> {
        match self.b().pack(self.order(id, most)).await.unwrap() {
            Packed::Batch(batch, _) => {
                let requests = self.b().requests(id, 0, 1_000).await.unwrap();
                assert_eq!(batch.items, requests.len() as u64);
                requests.into_iter().map(|r| r.key).collect()
            }
            Packed::Nothing => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    /// Records results for the given keys, as the harvester does. Returns the keys whose results are stale.
    pub async fn harvest(&self, batch: &str, keys: &[&str]) -> Vec<String> {
        let keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
        let sent = self.b().sent(batch, keys.clone()).await.unwrap();
        let stale = keys.iter().zip(&sent).filter(|(_, s)| s.is_none()).map(|(k, _)| k.clone()).collect();
        let made = sent.into_iter().flatten().map(|s| StoredVector {
            item: s.item,
            version: s.version,
            tokens: s.tokens,
            vector: s.shown.is_none().then(|| vec![s.tokens as f32, 1.0]),
        });
        self.b().made(batch, made.collect()).await.unwrap();
        stale
    }

    pub fn ending(status: BatchStatus, charged_tokens: u64) -> Ending {
        Ending {
            status,
            charged_tokens: Some(charged_tokens),
            usd_per_million_tokens: 0.01,
            most_attempts: 3,
            undone: status == BatchStatus::Cancelled,
            error: None,
        }
    }

    pub async fn end(&self, batch: &str, status: BatchStatus, charged_tokens: u64) {
        self.b().end(batch, Self::ending(status, charged_tokens)).await.unwrap();
    }

    /// Returns the number of items in each status, in the order none, pending, success, failed, noise.
    pub async fn counts(&self) -> [u64; 5] {
        let all = self.b().counts().await.unwrap();
        all.first().map_or([0; 5], |c| [c.none, c.pending, c.success, c.failed, c.noise])
    }

    pub async fn batch(&self, id: &str) -> Batch {
        self.b().batch(id).await.unwrap().unwrap()
    }
}

pub async fn a_record_goes_from_none_to_success_and_stays_there(w: &dyn World) {
    let d = BatchFixture::records(w);
    let put = d.put(&[("a", "one"), ("b", "two"), ("c", ""), ("d", "four")]).await;
    assert_eq!(put, Put { new: 4, noise: 1, ..Put::default() });
    assert_eq!(d.pack("b1", 2).await, ["a", "b"]);
    assert_eq!(d.counts().await, [1, 2, 0, 0, 1]);
    assert_eq!(d.harvest("b1", &["b", "a"]).await, Vec::<String>::new());
    d.end("b1", BatchStatus::Completed, 6).await;
    assert_eq!((d.pack("b2", 9).await, d.counts().await), (vec!["d".to_owned()], [0, 1, 2, 0, 1]));
    // Repeated discovery resets nothing.
    assert_eq!(
        d.put(&[("a", "one"), ("c", ""), ("d", "four")]).await,
        Put { unchanged: 3, noise: 1, ..Put::default() }
    );
    assert_eq!(d.counts().await, [0, 1, 2, 0, 1]);
    let lines = d.w.ledger().report(GroupBy::Subject, "", 10).await.unwrap();
    assert_eq!(lines.iter().map(|l| (l.settled.cost.0, l.reserved.cost.0)).collect::<Vec<_>>(), [(60, 0), (0, 40)]);
}

pub async fn what_changed_or_was_deleted_since_it_was_sent_is_stale(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")]).await;
    d.pack("b1", 9).await;
    assert_eq!(d.put(&[("a", "ONE"), ("d", "")]).await, Put { changed: 2, noise: 1, ..Put::default() });
    assert_eq!(d.b().delete(&d.space, vec!["b".into(), "x".into()]).await.unwrap(), 1);
    // The text was changed and changed back: it was sent as an earlier version, so the result is stale.
    d.put(&[("c", "drei")]).await;
    d.put(&[("c", "three")]).await;
    assert_eq!(d.harvest("b1", &["a", "b", "c", "d", "nobody"]).await, ["a", "b", "c", "d", "nobody"]);
    d.end("b1", BatchStatus::Completed, 15).await;
    assert_eq!((d.batch("b1").await.stored, d.batch("b1").await.stale), (0, 4));
    assert_eq!((d.pack("b2", 9).await, d.counts().await), (vec!["a".to_owned(), "c".to_owned()], [0, 2, 0, 0, 1]));
}

pub async fn a_row_that_should_not_be_in_the_vector_store_is_known_until_it_has_left(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "one"), ("b", "two")]).await;
    d.pack("b1", 9).await;
    let sent = d.b().sent("b1", vec!["a".into(), "b".into()]).await.unwrap();
    // The item is deleted between the query and the confirmation that it is stored: its row exists and must be
    // removed.
    d.b().delete(&d.space, vec!["a".into()]).await.unwrap();
    let made = |s: &Sent| StoredVector { item: s.item.clone(), version: s.version, tokens: s.tokens, vector: None };
    d.b().made("b1", sent.iter().flatten().map(made).collect()).await.unwrap();
    d.end("b1", BatchStatus::Completed, 6).await;
    let removals = d.b().removals(&d.space, 10).await.unwrap();
    assert_eq!(removals.iter().map(|r| (r.key.as_str(), r.version)).collect::<Vec<_>>(), [("a", 2)]);
    d.b().removed(removals).await.unwrap();
    assert_eq!(d.b().removals(&d.space, 10).await.unwrap(), []);
    // The item returns with a version above its tombstone's. The other item becomes noise, so its row must be
    // removed.
    d.put(&[("a", "one"), ("b", "")]).await;
    d.pack("b2", 9).await;
    let sent = d.b().sent("b2", vec!["a".into()]).await.unwrap();
    assert_eq!(sent[0].as_ref().unwrap().version, 3);
    assert_eq!(d.b().removals(&d.space, 10).await.unwrap()[0].key, "b");
}

pub async fn items_without_an_answer_are_sent_again_and_not_for_ever(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "one"), ("b", "two")]).await;
    for n in 1..=3 {
        let id = format!("b{n}");
        assert_eq!(d.pack(&id, 9).await, ["a", "b"]);
        // A cancelled batch does not count as an attempt.
        d.end(&format!("b{n}"), BatchStatus::Cancelled, 0).await;
    }
    for n in 4..=6 {
        let id = format!("b{n}");
        assert_eq!(d.pack(&id, 9).await, ["a", "b"]);
        if n == 5 {
            d.harvest(&id, &["a"]).await;
            let refusal = Refusal { key: "b".into(), error: "500".into(), again: true };
            d.b().refused(&id, vec![refusal], 3).await.unwrap();
            d.end(&id, BatchStatus::Completed, 3).await;
            break;
        }
        d.end(&id, BatchStatus::Expired, 0).await;
    }
    assert_eq!(d.pack("b7", 9).await, ["b"]);
    d.end("b7", BatchStatus::Expired, 0).await;
    assert_eq!(d.counts().await, [0, 0, 1, 1, 0]);
    assert_eq!((d.batch("b7").await.failed, d.batch("b5").await.returned, d.batch("b5").await.stored), (1, 1, 1));
    assert_eq!(d.b().retry(Some("b5")).await.unwrap(), 0);
    assert_eq!((d.b().retry(Some("b7")).await.unwrap(), d.pack("b8", 9).await), (1, vec!["b".to_owned()]));
}

pub async fn packing_keeps_every_limit(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "aaaa"), ("b", "bbbb"), ("c", "cccc"), ("d", "dddd")]).await;
    let full = d.b().pack(Order { most_tokens: 3, ..d.order("b0", 9) }).await.unwrap();
    assert_eq!(full, Packed::Full);
    let budget = |nanos| Budget { run: Some(Nanodollars(nanos)), day: None };
    assert!(matches!(
        d.b().pack(Order { budget: budget(30), ..d.order("b0", 9) }).await.unwrap(),
        Packed::Refused { .. }
    ));
    assert_eq!(d.counts().await, [4, 0, 0, 0, 0], "nothing was taken");
    for (id, order) in [
        ("b1", Order { most_tokens: 7, ..d.order("b1", 9) }),
        ("b2", Order { most_bytes: 9, ..d.order("b2", 9) }),
        ("b3", Order { budget: budget(150), ..d.order("b3", 9) }),
    ] {
        assert!(matches!(d.b().pack(order).await.unwrap(), Packed::Batch(..)));
        assert_eq!(d.batch(id).await.items, 1, "{id}");
    }
    assert_eq!((d.pack("b4", 1).await.len(), d.b().pack(d.order("b5", 9)).await.unwrap()), (1, Packed::Nothing));
}

pub async fn documents_wait_for_texts_that_are_sent_once(w: &dyn World) {
    let d = BatchFixture::texts(w);
    let ask = async |doc: &str, list: &[&str]| d.b().ask(doc, &d.space, texts(list)).await.unwrap();
    assert_eq!(ask("doc1", &["one", "both"]).await, TextLookup::Waits(2));
    assert_eq!(ask("doc2", &["both"]).await, TextLookup::Waits(1));
    assert_eq!(ask("doc2", &["both"]).await, TextLookup::Waits(1), "a repeated request must wait as before");
    // If texts are not shared, each document has its own.
    let shared = w.shares_texts();
    let one = d.key("doc1", "one");
    let mut both = vec![d.key("doc1", "both"), d.key("doc2", "both")];
    both.dedup();
    assert_eq!(both.len(), if shared { 1 } else { 2 });
    let sent: Vec<String> = [one.clone()].into_iter().chain(both.clone()).collect();
    assert_eq!(d.pack("b1", 9).await, sent);
    d.harvest("b1", &both.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(d.b().ready("", 9).await.unwrap(), ["doc2"]);
    assert_eq!(ask("doc1", &["one", "both"]).await, TextLookup::Waits(1));
    d.harvest("b1", &sent.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(d.b().ready("", 9).await.unwrap(), ["doc1", "doc2"]);
    assert_eq!(d.b().ready("doc1", 9).await.unwrap(), ["doc2"]);
    let charged = if shared { 9 } else { 13 };
    d.end("b1", BatchStatus::Completed, charged).await;
    assert_eq!(d.b().ready("", 9).await.unwrap(), ["doc1", "doc2"]);
    // Each token is charged to one document.
    let vectors = vec![vec![3.0, 1.0], vec![4.0, 1.0]];
    assert_eq!(ask("doc1", &["one", "both"]).await, TextLookup::Ready { vectors, tokens: 7 });
    d.b().taken("doc1").await.unwrap();
    let theirs = if shared { 0 } else { 4 };
    assert_eq!(ask("doc2", &["both"]).await, TextLookup::Ready { vectors: vec![vec![4.0, 1.0]], tokens: theirs });
    d.b().taken("doc2").await.unwrap();
    assert_eq!((d.counts().await, d.b().ready("", 9).await.unwrap()), ([0; 5], Vec::<String>::new()));
    let lines = w.ledger().report(GroupBy::Subject, "", 10).await.unwrap();
    let charged: Vec<_> = lines.iter().map(|l| (l.name.as_str(), l.settled.tokens)).collect();
    let expected: &[(&str, u64)] =
        if shared { &[("b1", 2), ("doc1", 7)] } else { &[("b1", 2), ("doc1", 7), ("doc2", 4)] };
    assert_eq!(charged, expected);
}

pub async fn a_document_that_gives_up_leaves_nothing_that_is_paid_for(w: &dyn World) {
    let d = BatchFixture::texts(w);
    let ask = async |doc: &str, list: &[&str]| d.b().ask(doc, &d.space, texts(list)).await.unwrap();
    ask("doc1", &["one"]).await;
    d.b().taken("doc1").await.unwrap();
    assert_eq!(d.pack("b0", 9).await, Vec::<String>::new());
    // The text is already in a batch: no document wants its result.
    ask("doc1", &["two"]).await;
    d.pack("b1", 9).await;
    d.b().taken("doc1").await.unwrap();
    assert_eq!(d.harvest("b1", &[&d.key("doc1", "two")]).await, [d.key("doc1", "two")]);
    d.end("b1", BatchStatus::Completed, 3).await;
    assert_eq!(d.counts().await, [0; 5]);
    // The text is refused for good: the document gets the error, and may try again.
    ask("doc1", &["bad"]).await;
    d.pack("b2", 9).await;
    d.b()
        .refused("b2", vec![Refusal { key: d.key("doc1", "bad"), error: "400".into(), again: false }], 3)
        .await
        .unwrap();
    d.end("b2", BatchStatus::Completed, 0).await;
    assert_eq!(d.b().ready("", 9).await.unwrap(), ["doc1"]);
    assert_eq!(ask("doc1", &["bad"]).await, TextLookup::Failed("400".into()));
    assert_eq!(ask("doc1", &["bad"]).await, TextLookup::Waits(1));
}

pub async fn what_is_not_worth_a_batch_goes_live(w: &dyn World) {
    let d = BatchFixture::texts(w);
    let ask = async |doc: &str| d.b().ask(doc, &d.space, texts(&["one", "two"])).await.unwrap();
    ask("doc1").await;
    assert_eq!(
        (d.b().send_live(&d.space).await.unwrap(), d.b().ready("", 9).await.unwrap()),
        (1, vec!["doc1".to_owned()])
    );
    assert_eq!(ask("doc1").await, TextLookup::Live { vectors: vec![None, None], tokens: 0 });
    // Results of a live call are stored, so that they are paid for only once.
    let made = vec![(Sha256Hex::of(b"one"), vec![1.0, 0.0])];
    d.b().made_live("doc1", &d.space, made).await.unwrap();
    assert_eq!(ask("doc1").await, TextLookup::Live { vectors: vec![Some(vec![1.0, 0.0]), None], tokens: 3 });
    d.b().taken("doc1").await.unwrap();
    assert_eq!((d.counts().await, d.pack("b1", 9).await), ([0; 5], Vec::new()));
}

pub async fn nothing_that_is_on_its_way_is_embedded_at_once_as_well(w: &dyn World) {
    let d = BatchFixture::texts(w);
    let ask = async || d.b().ask("doc1", &d.space, texts(&["one", "two"])).await.unwrap();
    ask().await;
    d.pack("b1", 1).await;
    assert_eq!((d.b().send_live(&d.space).await.unwrap(), ask().await), (1, TextLookup::Waits(2)));
    d.harvest("b1", &[&d.key("doc1", "one")]).await;
    d.b().send_live(&d.space).await.unwrap();
    assert_eq!(ask().await, TextLookup::Live { vectors: vec![Some(vec![3.0, 1.0]), None], tokens: 3 });
}

pub async fn a_text_that_is_refused_costs_its_document_no_other(w: &dyn World) {
    let d = BatchFixture::texts(w);
    let ask = async || d.b().ask("doc1", &d.space, texts(&["good", "bad"])).await.unwrap();
    ask().await;
    d.pack("b1", 9).await;
    d.harvest("b1", &[&d.key("doc1", "good")]).await;
    d.b()
        .refused("b1", vec![Refusal { key: d.key("doc1", "bad"), error: "400".into(), again: false }], 3)
        .await
        .unwrap();
    d.end("b1", BatchStatus::Completed, 4).await;
    assert_eq!(ask().await, TextLookup::Failed("400".into()));
    // A retry sends only the refused text.
    assert_eq!((ask().await, d.pack("b2", 9).await), (TextLookup::Waits(1), vec![d.key("doc1", "bad")]));
}

pub async fn what_a_document_asked_for_before_is_not_sent_for_it(w: &dyn World) {
    let d = BatchFixture::texts(w);
    d.b().ask("doc1", &d.space, texts(&["old", "both"])).await.unwrap();
    d.b().ask("doc1", &d.space, texts(&["both", "new"])).await.unwrap();
    assert_eq!(d.pack("b1", 9).await, [d.key("doc1", "both"), d.key("doc1", "new")]);
    // After a change of the model, the document is listed as waiting for another model.
    let other = Space::Texts("other/2".into());
    assert_eq!(d.b().documents_of_other_models(Some(&d.space), 9).await.unwrap(), Vec::<String>::new());
    assert_eq!(d.b().documents_of_other_models(Some(&other), 9).await.unwrap(), ["doc1"]);
    assert_eq!(d.b().documents_of_other_models(None, 9).await.unwrap(), ["doc1"]);
}

pub async fn other_metadata_needs_no_other_vector(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "one"), ("b", "two")]).await;
    d.pack("b1", 1).await;
    d.harvest("b1", &["a"]).await;
    d.end("b1", BatchStatus::Completed, 3).await;
    let dearer = |key: &str, input: &str| {
        let mut item = item(key, input);
        item.shown.metadata.insert("price".into(), 7.into());
        item
    };
    let put = d.b().put(&d.space, vec![dearer("a", "one"), dearer("b", "two")]).await.unwrap();
    assert_eq!(put.changed, 2);
    // The record with a vector keeps it; the other is sent with its new data.
    let changed = d.b().to_refresh(&d.space, 9).await.unwrap();
    assert_eq!(changed.iter().map(|s| (s.key.as_str(), s.version)).collect::<Vec<_>>(), [("a", 2)]);
    assert_eq!(d.pack("b2", 9).await, ["b"]);
    d.b().refreshed(vec![(changed[0].item.clone(), 2, true)]).await.unwrap();
    assert_eq!((d.counts().await, d.b().to_refresh(&d.space, 9).await.unwrap().len()), ([0, 1, 1, 0, 0], 0));
    // If the vector is missing after all, the record is sent too.
    d.b().put(&d.space, vec![item("a", "one")]).await.unwrap();
    let changed = d.b().to_refresh(&d.space, 9).await.unwrap();
    d.b().refreshed(vec![(changed[0].item.clone(), changed[0].version, false)]).await.unwrap();
    assert_eq!(d.pack("b3", 9).await, ["a"]);
}

pub async fn what_the_vector_store_lost_is_embedded_again(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "one"), ("b", "two"), ("c", "three")]).await;
    d.pack("b1", 9).await;
    d.harvest("b1", &["a", "b", "c"]).await;
    d.end("b1", BatchStatus::Completed, 11).await;
    let held: HeldVersion = Arc::new(|key: &str| match key {
        "a" => Some(1),
        // This row is left from an earlier state folder; its version is above the known one.
        "b" => Some(5),
        _ => None,
    });
    assert_eq!(d.b().reconcile(&d.space, held).await.unwrap(), 2);
    assert_eq!(d.pack("b2", 9).await, ["b", "c"]);
    let versions = d.b().sent("b2", vec!["b".into(), "c".into()]).await.unwrap();
    assert_eq!(versions.into_iter().flatten().map(|s| s.version).collect::<Vec<_>>(), [6, 2]);
}

pub async fn lines_that_are_named_fail_alone(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "one"), ("b", "two"), ("c", "three")]).await;
    d.pack("b1", 9).await;
    let named = Refusal { key: "b".into(), error: "too_long in line 2".into(), again: false };
    d.b().refused("b1", vec![named], 9).await.unwrap();
    d.end("b1", BatchStatus::Cancelled, 0).await;
    assert_eq!((d.counts().await, d.pack("b2", 9).await), ([2, 0, 0, 1, 0], vec!["a".to_owned(), "c".to_owned()]));
}

pub async fn live_calls_take_records_and_give_them_back(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "one"), ("b", "two"), ("c", "three")]).await;
    let take = async |name: &str| d.b().take_live(name, &d.space, 9, 6, 1 << 20).await.unwrap();
    let ids = |taken: &[(Sent, String)]| taken.iter().map(|(sent, _)| sent.item.clone()).collect::<Vec<_>>();
    let taken = take("live:1").await;
    let names: Vec<_> = taken.iter().map(|(sent, input)| (sent.key.as_str(), input.as_str())).collect();
    assert_eq!(names, [("a", "one"), ("b", "two")]);
    d.b().give_back_live("live:1", ids(&taken)).await.unwrap();
    assert_eq!((d.counts().await, take("live:2").await.len()), ([3, 0, 0, 0, 0], 2));
    assert_eq!(d.b().forget_live().await.unwrap(), 2, "the process died");
    let taken = ids(&take("live:3").await);
    assert_eq!(taken.len(), 2);
    // One item is refused individually; the other has changed since it was claimed.
    d.b().put(&d.space, vec![item("b", "TWO")]).await.unwrap();
    assert_eq!(d.b().held_live("live:3", taken.clone()).await.unwrap(), [true, false]);
    // The item has had two attempts: one was abandoned, and this one.
    assert!(!d.b().fail_live("live:3", &taken[0], "odd", 3).await.unwrap());
    assert_eq!(d.counts().await, [3, 0, 0, 0, 0], "it is sent again");
    d.b().give_back_live("live:3", taken).await.unwrap();
    let taken = ids(&take("live:4").await);
    assert!(d.b().fail_live("live:4", &taken[0], "odd", 3).await.unwrap());
    assert_eq!(d.counts().await[3], 1, "it has had three attempts");
    assert!(d.b().fail_live("live:4", &taken[1], "refused", 0).await.unwrap());
    assert_eq!(d.counts().await, [1, 0, 0, 2, 0]);
}

/// Checks the record of a batch at each step, and the queries that find the batch.
pub async fn a_batch_is_recorded_at_each_step_and_found(w: &dyn World) {
    let d = BatchFixture::records(w);
    d.put(&[("a", "one"), ("b", "two")]).await;
    d.pack("b1", 1).await;
    d.pack("b2", 1).await;
    let ids = |batches: Vec<Batch>| batches.into_iter().map(|b| b.id).collect::<Vec<_>>();
    assert_eq!(ids(d.b().open().await.unwrap()), ["b1", "b2"]);
    assert_eq!((ids(d.b().list(9).await.unwrap()).len(), d.b().queued_tokens().await.unwrap()), (2, 6));
    d.b().uploaded("b1", "file-1").await.unwrap();
    d.b().asked("b1").await.unwrap();
    assert!(d.batch("b1").await.asked_at.is_some());
    d.b().not_taken("b1").await.unwrap();
    assert!(!d.batch("b1").await.unconfirmed);
    d.b().asked("b1").await.unwrap();
    d.b().unconfirmed("b1").await.unwrap();
    assert!(d.batch("b1").await.unconfirmed);
    assert_eq!(d.batch("b1").await.twins, [""; 0]);
    d.b().twins("b1", &["batch_x".into(), "batch_y".into()]).await.unwrap();
    assert_eq!(d.batch("b1").await.twins, ["batch_x", "batch_y"]);
    d.b().file_lost("b1").await.unwrap();
    let batch = d.batch("b1").await;
    assert_eq!((batch.asked_at, batch.input_file_id, batch.status), (None, None, BatchStatus::Pending));
    d.b().uploaded("b1", "file-2").await.unwrap();
    d.b().asked("b1").await.unwrap();
    d.b().taken_over("b1", "batch_abc").await.unwrap();
    assert_eq!(d.batch("batch_abc").await.id, "b1");
    let checked = Checked {
        status: BatchStatus::InProgress,
        done: 1,
        charged_tokens: Some(3),
        output_file_id: Some("out".into()),
        error_file_id: None,
        expires_at: None,
        error: Some("odd".into()),
        error_lines: vec![2],
    };
    d.b().checked("b1", checked.clone()).await.unwrap();
    d.b().checked("b1", Checked { charged_tokens: None, error: None, output_file_id: None, ..checked }).await.unwrap();
    d.b().warned("b1").await.unwrap();
    assert!(d.b().cancel("b1").await.unwrap());
    let batch = d.batch("b1").await;
    assert_eq!((batch.status, batch.done, batch.charged_tokens), (BatchStatus::InProgress, 1, Some(3)));
    assert_eq!((batch.output_file_id, batch.error.as_deref(), batch.error_lines), (None, Some("odd"), vec![2]));
    assert!(batch.warned && batch.cancel && batch.submitted_at.is_some() && batch.checked_at.is_some());
    d.end("b1", BatchStatus::Cancelled, 0).await;
    d.end("b1", BatchStatus::Completed, 9).await;
    let batch = d.batch("b1").await;
    assert_eq!(
        (batch.status, batch.returned, batch.charged_tokens),
        (BatchStatus::Cancelled, 1, Some(0)),
        "it ends once"
    );
    assert!(!d.b().cancel("b1").await.unwrap());
    assert_eq!(ids(d.b().open().await.unwrap()), ["b2"]);
    // The charge is unknown, so its money is in doubt.
    d.b().end("b2", Ending { charged_tokens: None, ..BatchFixture::ending(BatchStatus::Failed, 0) }).await.unwrap();
    let charged = &w.ledger().report(GroupBy::Day, "", 9).await.unwrap()[0];
    assert_eq!((charged.settled.cost.0, charged.reserved.cost.0, charged.in_doubt.cost.0), (0, 0, 30));
}

/// Checks that the store accepts an item of its maximum size.
pub async fn a_large_item_comes_back_whole(w: &dyn World) {
    let d = BatchFixture::records(w);
    let most = w.batches().most_item_bytes().unwrap_or(1 << 20);
    let text = "x".repeat(most / 2 - 1_000);
    d.put(&[("large", &text)]).await;
    assert_eq!(d.pack("b1", 9).await, ["large"]);
    assert_eq!(d.harvest("b1", &["large"]).await, Vec::<String>::new());
    d.end("b1", BatchStatus::Completed, 1).await;
    assert_eq!(d.counts().await, [0, 0, 1, 0, 0]);
}

pub async fn collections_are_bound_to_a_model(w: &dyn World) {
    let b = w.batches();
    let other = ModelIdentity { id: "other".into(), ..model() };
    assert_eq!(b.bind("products", &model()).await.unwrap(), model());
    assert_eq!(b.bind("products", &other).await.unwrap(), model());
    assert_eq!(b.bind("words", &other).await.unwrap(), other);
    let names: Vec<_> = b.collections().await.unwrap().into_iter().map(|(name, model)| (name, model.id)).collect();
    assert_eq!(names, [("products".to_owned(), "m".to_owned()), ("words".to_owned(), "other".to_owned())]);
}

pub async fn what_waits_is_counted_by_space(w: &dyn World) {
    let (records, documents) = (BatchFixture::records(w), BatchFixture::texts(w));
    assert_eq!(w.batches().waiting().await.unwrap(), []);
    records.put(&[("a", "one"), ("b", "four"), ("c", ""), ("b", "five")]).await;
    documents.b().ask("doc1", &documents.space, texts(&["text"])).await.unwrap();
    let mut waiting = w.batches().waiting().await.unwrap();
    waiting.sort_by_key(|(space, _)| space.name());
    let sums: Vec<_> = waiting.iter().map(|(space, w)| (space.name(), w.items, w.tokens)).collect();
    assert_eq!(sums, [("receipt_lines".to_owned(), 2, 7), ("texts/m/2".to_owned(), 1, 4)]);
    assert!(w.batches().is_any_waiting(&records.space).await.unwrap());
    records.pack("b1", 9).await;
    assert!(!w.batches().is_any_waiting(&records.space).await.unwrap());
    assert!(w.batches().is_waiting("doc1").await.unwrap() && !w.batches().is_waiting("doc2").await.unwrap());
    assert!(!w.batches().is_done("receipt_lines", "b", "five").await.unwrap());
    records.harvest("b1", &["b"]).await;
    assert!(w.batches().is_done("receipt_lines", "b", "five").await.unwrap());
    assert!(!w.batches().is_done("receipt_lines", "b", "four").await.unwrap());
}
