//! Tests the ledger on two real servers, and through a proxy that injects faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use docweir_aws::{Aws, AwsOptions};
use docweir_core::clock::ManualClock;
use docweir_stores::ledger::conformance::{self, ENTRY_DAYS, NOW, World, given, spend};
use docweir_stores::ledger::{Mode, Period};
use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::{shared_dynoxide, shared_ministack};

use super::*;

/// Holds a ledger with its own table. Other processes may reach the table through a proxy.
struct LedgerFixture {
    dynamo: Dynamo,
    theirs: Dynamo,
    options: DynamoOptions,
    clock: Arc<ManualClock>,
    ledger: DynamoLedger,
}

async fn dynamo(endpoint: &str) -> Dynamo {
    let options = AwsOptions { region: "eu-central-1".into(), endpoint: endpoint.into(), ..AwsOptions::default() };
    Dynamo::new(&Aws::find(options).await.with_keys("test", "test"), "")
}

impl LedgerFixture {
    async fn new(endpoint: &str, theirs: &str) -> Self {
        let (dynamo, theirs) = (dynamo(endpoint).await, dynamo(theirs).await);
        let options = DynamoOptions {
            ledger_table: format!("ledger-{:08x}", fastrand::u32(..)),
            attempts: 40,
            ..DynamoOptions::default()
        };
        dynamo.create(&table(&options), Duration::from_secs(30)).await.unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let ledger = DynamoLedger::open(dynamo.clone(), &options, ENTRY_DAYS, clock.clone());
        Self { dynamo, theirs, options, clock, ledger }
    }
}

#[async_trait(?Send)]
impl World for LedgerFixture {
    fn ledger(&self) -> &dyn Ledger {
        &self.ledger
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn another(&self) -> Box<dyn Ledger> {
        Box::new(DynamoLedger::open(self.theirs.clone(), &self.options, ENTRY_DAYS, self.clock.clone()))
    }
}

mod ministack {
    use super::*;

    async fn world() -> Option<LedgerFixture> {
        let server = shared_ministack()?;
        Some(LedgerFixture::new(server.endpoint(), server.endpoint()).await)
    }

    docweir_stores::ledger_conformance!(world());
}

mod dynoxide {
    use super::*;

    async fn world() -> Option<LedgerFixture> {
        let server = shared_dynoxide()?;
        Some(LedgerFixture::new(server.endpoint(), server.endpoint()).await)
    }

    docweir_stores::ledger_conformance!(world());
}

fn answer(status: &str, word: &str) -> Act {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{word}","message":"oh"}}"#);
    Act::Reply(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()))
}

/// Makes a quarter of all calls fail or lose their replies. Returns the proxy and a counter of the affected calls.
fn on_a_bad_day(endpoint: &str) -> (Proxy, Arc<AtomicU64>) {
    let proxy = Proxy::start(endpoint.trim_start_matches("http://")).unwrap();
    let (faults, mut random) = (Arc::new(AtomicU64::new(0)), fastrand::Rng::with_seed(11));
    let counted = faults.clone();
    let acts = [
        Act::LoseRequest,
        Act::LoseReply,
        Act::LoseReply,
        answer("400 Bad Request", "ProvisionedThroughputExceededException"),
        answer("400 Bad Request", "TransactionConflictException"),
        answer("500 Internal Server Error", "InternalServerError"),
    ];
    proxy.set(move |_| {
        if random.f64() > 0.25 {
            return Act::Pass;
        }
        counted.fetch_add(1, Ordering::Relaxed);
        acts[random.usize(..acts.len())].clone()
    });
    (proxy, faults)
}

fn sums_are_those_of_the_entries_whatever_fails(endpoint: &str) {
    let (proxy, faults) = on_a_bad_day(endpoint);
    let address = format!("http://{}", proxy.address());
    conformance::sums_are_what_entries_add_up_to(6, async || LedgerFixture::new(endpoint, &address).await);
    assert!(faults.load(Ordering::Relaxed) > 20, "{faults:?}");
}

#[test]
fn sums_are_those_of_the_entries_whatever_fails_on_ministack() {
    if let Some(server) = shared_ministack() {
        sums_are_those_of_the_entries_whatever_fails(server.endpoint());
    }
}

#[test]
fn sums_are_those_of_the_entries_whatever_fails_on_dynoxide() {
    if let Some(server) = shared_dynoxide() {
        sums_are_those_of_the_entries_whatever_fails(server.endpoint());
    }
}

/// Checks that repeated reservations with the same id reserve money only once, and that a live process keeps its
/// reservations.
#[tokio::test]
async fn a_name_is_reserved_once_and_a_living_process_keeps_what_is_its_own() {
    let Some(server) = shared_dynoxide() else { return };
    let fixture = LedgerFixture::new(server.endpoint(), server.endpoint()).await;
    let id = fixture.ledger.entry_of("batch_1");
    let spent = Spend { mode: Mode::Batch, ..spend("r", "batch_1", 10) };
    for _ in 0..2 {
        let asked = fixture.ledger.reserve_as(id.clone(), spent.clone(), Budget::default()).await.unwrap();
        assert!(matches!(asked, ReservationOutcome::Given(r) if r.id == id && r.day.0 == 200));
    }
    let budget = Budget { run: Some(Nanodollars(500)), day: Some(Nanodollars(10_000)) };
    assert_eq!(fixture.ledger.room("r", budget).await.unwrap(), Some(Nanodollars(300)));
    assert_eq!(fixture.ledger.room("other", budget).await.unwrap(), Some(Nanodollars(500)));
    assert_eq!(fixture.ledger.room("r", Budget::default()).await.unwrap(), None);
    given(&fixture.ledger, spend("r", "live", 10)).await;
    let other = fixture.another().await;
    assert_eq!(other.doubt_others("x").await.unwrap(), 0);
    // The next reservation comes when less than half of the lease is left, so it renews the lease.
    fixture.clock.advance(Duration::from_secs(fixture.options.ledger_lease_seconds * 3 / 4));
    given(&fixture.ledger, spend("r", "live", 10)).await;
    fixture.clock.advance(Duration::from_secs(fixture.options.ledger_lease_seconds / 2));
    assert_eq!(other.doubt_others("x").await.unwrap(), 0);
    fixture.clock.advance(Duration::from_secs(fixture.options.ledger_lease_seconds));
    assert_eq!(other.doubt_others("x").await.unwrap(), 2);
}

/// Checks that a process renews its lease while a call is in progress, so that the reservation for this call is not
/// marked as in doubt.
#[tokio::test]
async fn signs_of_life_are_given_while_a_call_is_under_way() {
    let Some(server) = shared_dynoxide() else { return };
    let mut fixture = LedgerFixture::new(server.endpoint(), server.endpoint()).await;
    fixture.options.ledger_lease_seconds = 3;
    fixture.ledger = DynamoLedger::open(fixture.dynamo.clone(), &fixture.options, ENTRY_DAYS, fixture.clock.clone());
    let call = given(&fixture.ledger, spend("r", "live", 10)).await;
    let key = items::process_key(&fixture.ledger.process);
    let until = async || {
        let lease = fixture.dynamo.get(&fixture.options.ledger_table, key.clone(), true).await.unwrap().unwrap();
        items::integer(&lease, items::UNTIL)
    };
    let first = until().await;
    fixture.clock.advance(Duration::from_secs(2));
    let extended = async {
        while until().await <= first {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), extended).await.unwrap();
    fixture.ledger.settle(&call.id, 10, Nanodollars(200)).await.unwrap();
}

/// Checks that refused attempts leave no money reserved, even if their replies were lost.
#[tokio::test]
async fn what_is_refused_on_a_bad_day_leaves_nothing() {
    let Some(server) = shared_dynoxide() else { return };
    let (proxy, _) = on_a_bad_day(server.endpoint());
    let fixture = LedgerFixture::new(server.endpoint(), &format!("http://{}", proxy.address())).await;
    let budget = Budget { run: None, day: Some(Nanodollars(1_000)) };
    let processes = [fixture.another().await, fixture.another().await];
    let asks = (0..40).map(|n| processes[n % 2].reserve(spend("r", &n.to_string(), 20), budget));
    let asked: Vec<ReservationOutcome> =
        futures_util::future::join_all(asks).await.into_iter().map(Result::unwrap).collect();
    let given = asked.iter().filter(|asked| matches!(asked, ReservationOutcome::Given(_))).count();
    let refused = asked.iter().filter(|a| matches!(a, ReservationOutcome::Refused { period: Period::Day, .. })).count();
    assert_eq!((given, refused), (2, 38));
    let line = &fixture.ledger.report(GroupBy::Day, "", 9).await.unwrap()[0];
    assert_eq!((line.reserved.calls, line.reserved.cost), (2, Nanodollars(800)));
}
