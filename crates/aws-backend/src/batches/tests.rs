//! Tests the store on two real servers, through a proxy that injects faults, and with processes that die or stall.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use docweir_aws::dynamo::Dynamo;
use docweir_aws::{Aws, AwsOptions};
use docweir_core::clock::ManualClock;
use docweir_objects::memory::MemoryObjects;
use docweir_stores::batches::conformance::{self, BatchFixture, NOW, World, texts};
use docweir_stores::ledger::{GroupBy, Ledger};
use docweir_stores::paid::PaidError;
use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::{shared_dynoxide, shared_ministack};

use super::*;
use crate::ledger;
use crate::ledger::DynamoLedger;

/// Holds a table, a ledger and the process that is the leader for batches.
struct BatchesFixture {
    options: DynamoOptions,
    objects: Arc<MemoryObjects>,
    clock: Arc<ManualClock>,
    endpoint: String,
    ledger: Arc<DynamoLedger>,
    batches: DynamoBatches,
}

async fn dynamo(endpoint: &str, attempts: u32) -> Dynamo {
    let options =
        AwsOptions { region: "eu-central-1".into(), endpoint: endpoint.into(), attempts, ..AwsOptions::default() };
    Dynamo::new(&Aws::find(options).await.with_keys("test", "test"), "")
}

impl BatchesFixture {
    /// Creates the tables at `endpoint`. The first process instead uses `theirs`, an endpoint that may be a proxy to
    /// the same server.
    async fn new(endpoint: &str, theirs: &str, attempts: u32) -> Self {
        let direct = dynamo(endpoint, 3).await;
        let name = |what: &str| format!("{what}-{:08x}", fastrand::u32(..));
        let options = DynamoOptions {
            ledger_table: name("ledger"),
            batches_table: name("batches"),
            attempts: if attempts == 1 { 1 } else { 40 },
            ..DynamoOptions::default()
        };
        direct.create(&table(&options), Duration::from_secs(30)).await.unwrap();
        direct.create(&ledger::table(&options), Duration::from_secs(30)).await.unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let objects = Arc::new(MemoryObjects::new(clock.clone()));
        let theirs = dynamo(theirs, attempts).await;
        let ledger = Arc::new(DynamoLedger::open(theirs.clone(), &options, 90, clock.clone()));
        let batches = DynamoBatches::new(theirs, &options, ledger.clone(), objects.clone(), clock.clone());
        batches.take_over(1).await.unwrap();
        Self { options, objects, clock, endpoint: endpoint.into(), ledger, batches }
    }

    /// Returns another process with the same tables.
    async fn another(&self) -> Self {
        let options = DynamoOptions { attempts: 40, ..self.options.clone() };
        let direct = dynamo(&self.endpoint, 3).await;
        let ledger = Arc::new(DynamoLedger::open(direct.clone(), &options, 90, self.clock.clone()));
        let (objects, clock) = (self.objects.clone(), self.clock.clone());
        let batches = DynamoBatches::new(direct, &options, ledger.clone(), objects.clone(), clock.clone());
        Self { options, objects, clock, endpoint: self.endpoint.clone(), ledger, batches }
    }

    /// Returns the amounts that are settled, reserved and in doubt, in nanodollars.
    async fn spent(&self) -> (u64, u64, u64) {
        let lines = self.ledger.report(GroupBy::Day, "", 9).await.unwrap();
        lines
            .iter()
            .fold((0, 0, 0), |(s, r, d), l| (s + l.settled.cost.0, r + l.reserved.cost.0, d + l.in_doubt.cost.0))
    }
}

#[async_trait(?Send)]
impl World for BatchesFixture {
    fn batches(&self) -> &dyn Batches {
        &self.batches
    }

    fn ledger(&self) -> &dyn Ledger {
        self.ledger.as_ref()
    }

    fn text_key(&self, document: &str, text: &str) -> String {
        item::text_key(document, Sha256Hex::of(text.as_bytes()).as_str())
    }

    fn shares_texts(&self) -> bool {
        false
    }
}

mod ministack {
    use super::*;

    async fn world() -> Option<BatchesFixture> {
        let server = shared_ministack()?;
        Some(BatchesFixture::new(server.endpoint(), server.endpoint(), 3).await)
    }

    docweir_stores::batches_conformance!(world());

    #[test]
    fn nothing_is_lost_doubled_or_stale() {
        let Some(server) = shared_ministack() else { return };
        let world = async || BatchesFixture::new(server.endpoint(), server.endpoint(), 3).await;
        conformance::nothing_is_lost_doubled_or_stale(4, world);
    }
}

mod dynoxide {
    use super::*;

    async fn world() -> Option<BatchesFixture> {
        let server = shared_dynoxide()?;
        Some(BatchesFixture::new(server.endpoint(), server.endpoint(), 3).await)
    }

    docweir_stores::batches_conformance!(world());

    #[test]
    fn nothing_is_lost_doubled_or_stale() {
        let Some(server) = shared_dynoxide() else { return };
        let world = async || BatchesFixture::new(server.endpoint(), server.endpoint(), 3).await;
        conformance::nothing_is_lost_doubled_or_stale(8, world);
    }
}

fn answer(status: &str, word: &str) -> Act {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{word}","message":"oh"}}"#);
    Act::Reply(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()))
}

fn whatever_fails_nothing_is_lost_doubled_or_stale(endpoint: &str) {
    let proxy = Proxy::start(endpoint.trim_start_matches("http://")).unwrap();
    let (faults, mut random) = (Arc::new(AtomicU64::new(0)), fastrand::Rng::with_seed(5));
    let counted = faults.clone();
    let acts = [
        Act::LoseRequest,
        Act::LoseReply,
        Act::LoseReply,
        answer("400 Bad Request", "ProvisionedThroughputExceededException"),
        answer("500 Internal Server Error", "InternalServerError"),
    ];
    proxy.set(move |_| {
        if random.f64() > 0.2 {
            return Act::Pass;
        }
        counted.fetch_add(1, Ordering::Relaxed);
        acts[random.usize(..acts.len())].clone()
    });
    let address = format!("http://{}", proxy.address());
    conformance::nothing_is_lost_doubled_or_stale(3, async || BatchesFixture::new(endpoint, &address, 3).await);
    assert!(faults.load(Ordering::Relaxed) > 20, "{faults:?}");
}

#[test]
fn whatever_fails_nothing_is_lost_doubled_or_stale_on_ministack() {
    if let Some(server) = shared_ministack() {
        whatever_fails_nothing_is_lost_doubled_or_stale(server.endpoint());
    }
}

#[test]
fn whatever_fails_nothing_is_lost_doubled_or_stale_on_dynoxide() {
    if let Some(server) = shared_dynoxide() {
        whatever_fails_nothing_is_lost_doubled_or_stale(server.endpoint());
    }
}

/// Simulates a process that dies after `requests` requests: no later request arrives. If `reply` is true, the reply
/// to the last request is lost. Otherwise, the last request itself is lost.
fn dies_after(proxy: &Proxy, requests: u64, reply: bool) {
    let mut left = requests;
    proxy.set(move |_| match left {
        0 => Act::LoseRequest,
        1 => {
            left = 0;
            if reply { Act::LoseReply } else { Act::LoseRequest }
        }
        _ => {
            left -= 1;
            Act::Pass
        }
    });
}

/// Repeats an operation in several processes. The first process dies at its first request, the second process at its
/// second request, and so on. After each death, another process takes over. Returns when the operation completes.
async fn killed_at_each_request(
    endpoint: &str,
    reply: bool,
    before: impl AsyncFn(&BatchesFixture),
    operation: impl AsyncFn(&BatchesFixture) -> bool,
    after: impl AsyncFn(&BatchesFixture, u64),
) -> u64 {
    let proxy = Proxy::start(endpoint.trim_start_matches("http://")).unwrap();
    let address = format!("http://{}", proxy.address());
    for requests in 1..200 {
        proxy.set(|_| Act::Pass);
        let shop = BatchesFixture::new(endpoint, &address, 1).await;
        before(&shop).await;
        dies_after(&proxy, requests, reply);
        let done = operation(&shop).await;
        let next = shop.another().await;
        next.batches.take_over(2).await.unwrap();
        after(&next, requests).await;
        if done {
            return requests;
        }
    }
    panic!("the operation never completed");
}

const RECORDS: [(&str, &str); 5] = [("a", "one"), ("b", "two"), ("c", "three"), ("d", "four"), ("e", "five")];

#[tokio::test]
async fn killed_at_each_request_of_packing_nothing_is_lost_and_no_money_is_left_behind() {
    let Some(server) = shared_dynoxide() else { return };
    for reply in [false, true] {
        let before = async |shop: &BatchesFixture| {
            BatchFixture::records(shop).put(&RECORDS).await;
        };
        let operation = async |shop: &BatchesFixture| {
            let fixture = BatchFixture::records(shop);
            fixture.b().pack(fixture.order("b1", 4)).await.is_ok()
        };
        let after = async |next: &BatchesFixture, requests: u64| {
            let fixture = BatchFixture::records(next);
            let open = fixture.b().open().await.unwrap();
            let [none, pending, ..] = fixture.counts().await;
            let packed: u64 = open.iter().map(|batch| batch.items).sum();
            assert_eq!((none + pending, pending), (5, packed), "after {requests}");
            let tokens: u64 = open.iter().map(|batch| batch.tokens).sum();
            assert_eq!(next.spent().await, (0, 10 * tokens, 0), "after {requests}");
            for batch in open {
                let keys: Vec<String> =
                    fixture.b().requests(&batch.id, 0, 9).await.unwrap().into_iter().map(|r| r.key).collect();
                assert_eq!(keys.len() as u64, batch.items);
                fixture.harvest(&batch.id, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
                fixture.end(&batch.id, BatchStatus::Completed, batch.tokens).await;
            }
            while !fixture.pack(&format!("next{}", fastrand::u32(..)), 9).await.is_empty() {}
            let [none, pending, success, ..] = fixture.counts().await;
            assert_eq!((none, pending + success), (0, 5), "after {requests}");
        };
        let requests = killed_at_each_request(server.endpoint(), reply, before, operation, after).await;
        assert!(requests > 8, "{requests}");
    }
}

#[tokio::test]
async fn killed_at_each_request_of_its_end_a_batch_is_counted_and_settled_once() {
    let Some(server) = shared_dynoxide() else { return };
    for reply in [false, true] {
        let before = async |shop: &BatchesFixture| {
            let fixture = BatchFixture::records(shop);
            fixture.put(&RECORDS).await;
            fixture.pack("b1", 9).await;
            fixture.harvest("b1", &["a", "c"]).await;
            fixture.put(&[("d", "vier")]).await;
        };
        let operation = async |shop: &BatchesFixture| {
            let fixture = BatchFixture::records(shop);
            fixture.b().end("b1", BatchFixture::ending(BatchStatus::Completed, 8)).await.is_ok()
        };
        let after = async |next: &BatchesFixture, requests: u64| {
            let fixture = BatchFixture::records(next);
            // The poller reads the open batches, which finishes this one if it is still open.
            fixture.b().open().await.unwrap();
            fixture.end("b1", BatchStatus::Completed, 8).await;
            let batch = fixture.batch("b1").await;
            let sums = (batch.stored, batch.returned, batch.stale, batch.failed);
            assert_eq!(sums, (2, 2, 1, 0), "after {requests}: {batch:?}");
            assert!(batch.ended_at.is_some() && fixture.b().open().await.unwrap().is_empty());
            assert_eq!((fixture.counts().await, next.spent().await), ([3, 0, 2, 0, 0], (80, 0, 0)), "after {requests}");
        };
        let requests = killed_at_each_request(server.endpoint(), reply, before, operation, after).await;
        assert!(requests > 8, "{requests}");
    }
}

#[tokio::test]
async fn killed_at_each_request_of_its_end_documents_go_on_and_pay_once() {
    let Some(server) = shared_dynoxide() else { return };
    let before = async |shop: &BatchesFixture| {
        let fixture = BatchFixture::texts(shop);
        for document in ["doc1", "doc2"] {
            fixture.b().ask(document, &fixture.space, texts(&["one", "two"])).await.unwrap();
        }
        fixture.pack("b1", 9).await;
        let key = |text: &str| shop.text_key("doc1", text);
        fixture.harvest("b1", &[&key("one"), &key("two")]).await;
        // The document continues before the batch has ended, but its share of the cost is still recorded.
        assert!(matches!(
            fixture.b().ask("doc1", &fixture.space, texts(&["one", "two"])).await.unwrap(),
            TextLookup::Ready { .. }
        ));
        fixture.b().taken("doc1").await.unwrap();
    };
    let ending = || Ending { most_attempts: 1, ..BatchFixture::ending(BatchStatus::Expired, 7) };
    let operation = async |shop: &BatchesFixture| shop.batches.end("b1", ending()).await.is_ok();
    let after = async |next: &BatchesFixture, requests: u64| {
        let fixture = BatchFixture::texts(next);
        fixture.b().open().await.unwrap();
        fixture.b().end("b1", ending()).await.unwrap();
        let batch = fixture.batch("b1").await;
        assert_eq!((batch.stored, batch.failed), (2, 2), "after {requests}");
        assert_eq!(fixture.b().ready("", 9).await.unwrap(), ["doc2"], "the texts failed, so the document is woken");
        let lines = next.ledger.report(GroupBy::Subject, "", 9).await.unwrap();
        let charged: Vec<_> = lines.iter().map(|l| (l.name.as_str(), l.settled.tokens)).collect();
        assert_eq!((charged, next.spent().await), (vec![("b1", 1), ("doc1", 6)], (70, 0, 0)), "after {requests}");
    };
    let requests = killed_at_each_request(server.endpoint(), true, before, operation, after).await;
    assert!(requests > 8, "{requests}");
}

/// Checks that a paused leader cannot write to batches after another process has taken over, and that the items of
/// the paused leader's batches return to the backlog.
#[tokio::test]
async fn whoever_was_taken_over_from_writes_to_no_batch() {
    let Some(server) = shared_dynoxide() else { return };
    let stalled = BatchesFixture::new(server.endpoint(), server.endpoint(), 3).await;
    let (before, next) = (BatchFixture::records(&stalled), stalled.another().await);
    let fixture = BatchFixture::records(&next);
    before.put(&RECORDS).await;
    let none = next.batches.pack(fixture.order("b0", 9)).await;
    assert!(matches!(none, Err(PaidError::Fenced(_))), "not the leader yet: {none:?}");
    before.pack("b1", 2).await;
    next.batches.take_over(2).await.unwrap();
    let refused = [
        stalled.batches.uploaded("b1", "file").await,
        stalled.batches.asked("b1").await,
        stalled.batches.taken_over("b1", "batch_x").await,
        stalled.batches.end("b1", BatchFixture::ending(BatchStatus::Failed, 0)).await,
    ];
    assert!(refused.iter().all(|r| matches!(r, Err(PaidError::Fenced(_)))), "{refused:?}");
    // The new leader finds a batch that the old one packs later, and only the new one can write to it.
    before.pack("b2", 2).await;
    let ids: Vec<_> = fixture.b().open().await.unwrap().into_iter().map(|b| b.id).collect();
    assert_eq!(ids, ["b1", "b2"]);
    assert!(matches!(stalled.batches.asked("b2").await, Err(PaidError::Fenced(_))));
    for id in ids {
        fixture.end(&id, BatchStatus::Failed, 0).await;
    }
    assert_eq!((fixture.counts().await, next.spent().await), ([5, 0, 0, 0, 0], (0, 0, 0)));
    // Every process may enqueue items and request cancellations.
    before.put(&[("f", "six")]).await;
    assert_eq!(fixture.counts().await[0], 6);
}

/// Checks that no reservation stays behind if a leader is paused just before it reserves the money of a batch, and
/// continues after another process has undone the batch.
#[tokio::test]
async fn a_leader_that_is_paused_before_its_reservation_reserves_nothing_later() {
    let Some(server) = shared_dynoxide() else { return };
    let proxy = Proxy::start(server.endpoint().trim_start_matches("http://")).unwrap();
    let shop = BatchesFixture::new(server.endpoint(), &format!("http://{}", proxy.address()), 3).await;
    let fixture = BatchFixture::records(&shop);
    fixture.put(&RECORDS).await;
    let (reserving, mut is_reserving) = tokio::sync::mpsc::unbounded_channel();
    let (goes_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let table = shop.options.ledger_table.clone();
    let mut paused = false;
    proxy.set_by_all(move |head, body| {
        let reserves = head.contains("TransactWriteItems") && String::from_utf8_lossy(body).contains(&table);
        if reserves && !std::mem::replace(&mut paused, true) {
            reserving.send(()).unwrap();
            may_go_on.recv().unwrap();
        }
        Act::Pass
    });
    let next = shop.another().await;
    let takes_over = async {
        is_reserving.recv().await.unwrap();
        next.batches.take_over(2).await.unwrap();
        assert!(next.batches.open().await.unwrap().is_empty(), "the batch is undone");
        goes_on.send(()).unwrap();
    };
    let (packed, ()) = tokio::join!(shop.batches.pack(fixture.order("b1", 4)), takes_over);
    assert!(matches!(packed, Err(PaidError::Fenced(_))), "{packed:?}");
    assert_eq!(next.spent().await, (0, 0, 0));
    assert_eq!(BatchFixture::records(&next).counts().await, [5, 0, 0, 0, 0]);
    // The new leader packs the same items.
    BatchFixture::records(&next).pack("b2", 9).await;
    assert!(next.spent().await.1 > 0);
}

/// Checks that claimed items return to the backlog if the record of their batch does not exist. This happens if a
/// leader is paused, another process undoes the leader's batch, and the leader then claims more items and dies.
#[tokio::test]
async fn items_of_a_batch_that_is_none_wait_again() {
    let Some(server) = shared_dynoxide() else { return };
    let shop = BatchesFixture::new(server.endpoint(), server.endpoint(), 3).await;
    let fixture = BatchFixture::records(&shop);
    fixture.put(&RECORDS).await;
    fixture.pack("b1", 2).await;
    let key = record_key("b1");
    let (table, dynamo) = (shop.options.batches_table.clone(), dynamo(server.endpoint(), 3).await);
    let gone = docweir_aws::dynamo::Write::Delete { table, key, condition: None };
    dynamo.write(gone).await.unwrap();
    assert_eq!(fixture.counts().await, [3, 2, 0, 0, 0]);
    let next = shop.another().await;
    next.batches.take_over(2).await.unwrap();
    assert_eq!(BatchFixture::records(&next).counts().await, [5, 0, 0, 0, 0]);
}

fn record_key(id: &str) -> docweir_aws::dynamo::Item {
    record::key(id).attributes()
}
