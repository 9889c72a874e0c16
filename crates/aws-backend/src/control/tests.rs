//! Tests the control store on two real servers, and through a proxy that injects faults.

use std::sync::Arc;

use docweir_aws::AwsOptions;
use docweir_aws::dynamo::AttributeValue;
use docweir_testkit::servers::{shared_dynoxide, shared_ministack};

use docweir_aws::Aws;
use docweir_aws::dynamo::{Dynamo, Expression};
use docweir_core::clock::ManualClock;
use std::time::Duration;

use async_trait::async_trait;
use docweir_aws::DynamoOptions;
use docweir_core::documents::{DocumentId, Sha256Hex, Stage};
use docweir_stores::control::conformance::*;
use docweir_stores::control::*;

use super::store::*;
use super::*;

struct Fixture {
    aws: Aws,
    dynamo: Dynamo,
    options: DynamoOptions,
    clock: Arc<ManualClock>,
    store: DynamoControlStore,
}

/// Returns an AWS configuration with a region and credentials that a local server accepts.
async fn aws(endpoint: &str) -> Aws {
    Aws::find(AwsOptions { region: "eu-central-1".into(), endpoint: endpoint.into(), ..AwsOptions::default() })
        .await
        .with_keys("test", "test")
}

impl Fixture {
    async fn new(endpoint: &str) -> Self {
        let aws = aws(endpoint).await;
        let dynamo = Dynamo::new(&aws, "");
        let name = |what: &str| format!("{what}-{:08x}", fastrand::u32(..));
        let options = DynamoOptions {
            control_table: name("control"),
            audit_table: name("audit"),
            metrics_table: name("metrics"),
            state_table: name("state"),
            ledger_table: name("ledger"),
            batches_table: name("batches"),
            // Some servers expire items by the real clock, so the audit entries must live long.
            audit_days: 36_500,
            // These tests send one command after the other.
            pace_milliseconds: 0,
            ..DynamoOptions::default()
        };
        for table in tables::tables(&options) {
            dynamo.create(&table, Duration::from_secs(30)).await.unwrap();
        }
        let clock = Arc::new(ManualClock::at(NOW));
        let store = DynamoControlStore::open(&aws, dynamo.clone(), options.clone(), clock.clone());
        Self { aws, dynamo, options, clock, store }
    }
}

#[async_trait(?Send)]
impl World for Fixture {
    fn store(&self) -> &dyn ControlStore {
        &self.store
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn set_by_hand(&self, id: &DocumentId, status: &str) {
        let update = Expression::new("SET #status = :status, retry_count = :zero").name("#status", "status");
        let update = update.string(":status", status).number(":zero", 0);
        let (table, key) = (self.options.control_table.clone(), items::key(id));
        let write = docweir_aws::dynamo::Write::Update { table, key, update, condition: None };
        self.dynamo.write(write).await.unwrap();
    }

    async fn metric(&self, metric: &str) -> f64 {
        self.store.flush().await.unwrap();
        let key = [("date", "2025-11-21"), ("metric_type", metric)];
        let key = key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned()))).into();
        let item = self.dynamo.get(&self.options.metrics_table, key, true).await.unwrap().unwrap();
        item["value"].as_n().unwrap().parse().unwrap()
    }

    async fn reopen(&mut self) {
        self.store = DynamoControlStore::open(&self.aws, self.dynamo.clone(), self.options.clone(), self.clock.clone());
    }
}

mod ministack {
    use super::*;

    async fn world() -> Option<Fixture> {
        Some(Fixture::new(shared_ministack()?.endpoint()).await)
    }

    docweir_stores::control_conformance!(world());

    #[test]
    fn the_store_does_what_the_model_does() {
        let Some(server) = shared_ministack() else { return };
        does_what_the_model_does(8, async || Fixture::new(server.endpoint()).await);
    }
}

mod dynoxide {
    use super::*;

    async fn world() -> Option<Fixture> {
        Some(Fixture::new(shared_dynoxide()?.endpoint()).await)
    }

    docweir_stores::control_conformance!(world());

    #[test]
    fn the_store_does_what_the_model_does() {
        let Some(server) = shared_dynoxide() else { return };
        does_what_the_model_does(8, async || Fixture::new(server.endpoint()).await);
    }
}

#[path = "children_tests.rs"]
mod children;

mod faults {
    use std::sync::atomic::{AtomicU64, Ordering};

    use docweir_testkit::proxy::{Act, Proxy};

    use super::*;

    /// Returns a store whose calls go through a proxy.
    async fn behind_a_proxy(endpoint: &str) -> (Proxy, Fixture) {
        let mut f = Fixture::new(endpoint).await;
        let proxy = Proxy::start(endpoint.trim_start_matches("http://")).unwrap();
        f.aws = aws(&format!("http://{}", proxy.address())).await;
        f.dynamo = Dynamo::new(&f.aws, "");
        f.reopen().await;
        (proxy, f)
    }

    fn answer(status: &str, word: &str) -> Act {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{word}","message":"oh"}}"#);
        Act::Reply(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()))
    }

    /// Claims documents. While the store is busy, the call is retried, as the pipeline does.
    async fn claim_with_retries(store: &DynamoControlStore, owner: &str, limit: usize) -> Vec<Claim> {
        for _ in 0..50 {
            match store.claim(owner, LEASE, limit, None).await {
                Err(ControlError::Busy(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                claims => return claims.unwrap(),
            }
        }
        panic!("the store stayed busy");
    }

    async fn whatever_fails_each_document_has_its_life_and_its_audit_log_once(endpoint: &str) {
        let (proxy, f) = behind_a_proxy(endpoint).await;
        let (faults, mut random) = (Arc::new(AtomicU64::new(0)), fastrand::Rng::with_seed(7));
        let counted = faults.clone();
        let acts = [
            Act::LoseRequest,
            Act::LoseReply,
            answer("400 Bad Request", "ProvisionedThroughputExceededException"),
            answer("500 Internal Server Error", "InternalServerError"),
        ];
        proxy.set(move |_| {
            if random.f64() > 0.25 {
                return Act::Pass;
            }
            counted.fetch_add(1, Ordering::Relaxed);
            acts[random.usize(..acts.len())].clone()
        });
        const DOCUMENTS: usize = 40;
        let documents = (0..DOCUMENTS).map(|i| document(&format!("{i}"), "x")).collect();
        let registered = f.store.register(documents).await.unwrap();
        assert!(registered.iter().all(|r| matches!(r, Registered::New(_))), "{registered:?}");
        let mut done = 0;
        while done < DOCUMENTS {
            let claims = claim_with_retries(&f.store, "owner", 8).await;
            let work = claims.iter().map(|claim| finish(&f.store, claim));
            for ended in futures_util::future::join_all(work).await {
                ended.unwrap();
                done += 1;
            }
        }
        f.store.flush().await.unwrap();
        proxy.set(|_| Act::Pass);
        assert!(faults.load(Ordering::Relaxed) > 20, "{faults:?}");
        assert_eq!(f.store.counts().await.unwrap(), [("COMPLETED".to_owned(), DOCUMENTS as u64)].into());
        for registered in registered {
            let Registered::New(key) = registered else { unreachable!() };
            let audit_log = f.store.audit(&key.id, None, 99).await.unwrap();
            // The entries are: received, claimed, five stages started and completed, document completed.
            assert_eq!(audit_log.len(), 13, "{audit_log:?}");
            assert_eq!(f.store.record(&key.id).await.unwrap().epoch, 1);
        }
        assert_eq!(f.metric("DocumentsProcessed").await, DOCUMENTS as f64);
        assert_eq!(f.metric("TokensProcessed").await, 40.0 * DOCUMENTS as f64);
    }

    #[tokio::test]
    async fn whatever_fails_on_ministack() {
        let Some(server) = shared_ministack() else { return };
        whatever_fails_each_document_has_its_life_and_its_audit_log_once(server.endpoint()).await;
    }

    #[tokio::test]
    async fn whatever_fails_on_dynoxide() {
        let Some(server) = shared_dynoxide() else { return };
        whatever_fails_each_document_has_its_life_and_its_audit_log_once(server.endpoint()).await;
    }

    /// Returns a rule for the proxy. The proxy applies the first act to the first request of the given kind, the second
    /// act to the second such request, and so on. All other requests pass unchanged.
    fn in_turn(kind: &'static str, acts: Vec<Act>) -> impl FnMut(&str) -> Act + Send + 'static {
        let mut acts = acts.into_iter();
        let subject = format!("dynamodb_20120810.{kind}\r\n").to_lowercase();
        move |head| if head.to_lowercase().contains(&subject) { acts.next().unwrap_or(Act::Pass) } else { Act::Pass }
    }

    #[tokio::test]
    async fn what_was_applied_by_an_attempt_before_the_last_is_not_applied_again() {
        let Some(server) = shared_dynoxide() else { return };
        let (proxy, f) = behind_a_proxy(server.endpoint()).await;
        let key = register_one(&f, "a").await;
        let busy = || answer("400 Bad Request", "ProvisionedThroughputExceededException");
        // The reply is lost, and the retries of the SDK are throttled.
        let acts = || vec![Act::LoseReply, busy(), busy(), busy(), busy(), busy()];
        proxy.set(in_turn("TransactWriteItems", acts()));
        let claim = claim_one(&f).await;
        for transition in [started(Stage::Extraction), completed(Stage::Extraction)] {
            proxy.set(in_turn("TransactWriteItems", acts()));
            f.store.apply(&claim.key, transition).await.unwrap();
        }
        let audit_log = f.store.audit(&key.id, None, 99).await.unwrap();
        assert_eq!(audit_log.len(), 4, "{audit_log:?}");
        assert_eq!(f.store.record(&key.id).await.unwrap().interruptions, 0);
    }

    #[tokio::test]
    async fn what_was_registered_a_moment_ago_is_claimed_though_the_index_does_not_know_of_it() {
        let Some(server) = shared_dynoxide() else { return };
        let (proxy, f) = behind_a_proxy(server.endpoint()).await;
        let none = r#"{"Items":[],"Count":0,"ScannedCount":0}"#;
        let none = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{none}", none.len());
        let key = register_one(&f, "a").await;
        proxy.set(in_turn("Query", vec![Act::Reply(none); 20]));
        assert_eq!(claim_one(&f).await.key.id, key.id);
        assert!(f.store.claim("other", LEASE, 9, None).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_item_that_makes_no_sense_stands_in_nobodys_way() {
        let Some(server) = shared_ministack() else { return };
        let f = Fixture::new(server.endpoint()).await;
        let key = register_one(&f, "a").await;
        // An update with a mistyped id creates an item.
        let nobody = DocumentId::parse("doc_mistyped").unwrap();
        f.set_by_hand(&nobody, "PENDING").await;
        let update = Expression::new("SET updated_at = :first").string(":first", "2020-01-01T00:00:00.000000Z");
        let (table, at) = (f.options.control_table.clone(), items::key(&nobody));
        let write = docweir_aws::dynamo::Write::Update { table, key: at, update, condition: None };
        f.dynamo.write(write).await.unwrap();
        assert_eq!(claim_one(&f).await.key.id, key.id);
        assert!(f.store.claim("owner", LEASE, 9, None).await.unwrap().is_empty());
        let listed = f.store.list(&RecordFilter::default(), None, 9).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert!(matches!(f.store.reset(&nobody, None).await, Err(ControlError::Refused(_))));
    }

    #[tokio::test]
    async fn more_commands_on_a_document_than_one_write_takes() {
        let Some(server) = shared_dynoxide() else { return };
        let f = Fixture::new(server.endpoint()).await;
        let key = register_one(&f, "a").await;
        let claim = claim_one(&f).await;
        let many = (0..40).map(|_| f.store.apply(&claim.key, started(Stage::Extraction)));
        for done in futures_util::future::join_all(many).await {
            done.unwrap();
        }
        assert_eq!(f.store.audit(&key.id, None, 99).await.unwrap().len(), 42);
    }

    /// Checks that an error with a long text fits into an item, which is limited to 400 KB.
    #[tokio::test]
    async fn an_error_as_long_as_a_book_is_kept_in_short() {
        let Some(server) = shared_dynoxide() else { return };
        let f = Fixture::new(server.endpoint()).await;
        let key = register_one(&f, "a").await;
        let claim = claim_one(&f).await;
        let error = docweir_core::error::StageError::transient("long", "ü".repeat(300_000));
        let retry = Transition::StageRetry { stage: Stage::Extraction, error, wait: LEASE, consumes_attempt: true };
        f.store.apply(&claim.key, retry).await.unwrap();
        let kept = f.store.record(&key.id).await.unwrap().last_error.unwrap();
        assert!(kept.message.ends_with('…') && kept.message.len() < 9_000, "{}", kept.message.len());
    }

    async fn two_replicas_never_hold_a_document_at_once(endpoint: &str) {
        let f = Fixture::new(endpoint).await;
        f.store.register((0..60).map(|i| document(&format!("{i}"), "x")).collect()).await.unwrap();
        let replicas: Vec<_> = (0..4)
            .map(|_| DynamoControlStore::open(&f.aws, f.dynamo.clone(), f.options.clone(), f.clock.clone()))
            .collect();
        let all = replicas.iter().enumerate().map(|(n, store)| async move {
            let mut mine = Vec::new();
            loop {
                let claims = claim_with_retries(store, &format!("replica-{n}"), 5).await;
                if claims.is_empty() && !store.counts().await.unwrap().contains_key("PENDING") {
                    return mine;
                }
                mine.extend(claims);
            }
        });
        let claims: Vec<Vec<Claim>> = futures_util::future::join_all(all).await;
        let mut ids: Vec<_> = claims.iter().flatten().map(|claim| claim.key.id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), claims.iter().flatten().count()), (60, 60), "each once");
        // The replica with the most claims is paused. Its documents are taken over, and its later writes are refused.
        let stopped = (0..replicas.len()).max_by_key(|n| claims[*n].len()).unwrap();
        let taker = (stopped + 1) % replicas.len();
        f.clock.advance(2 * LEASE);
        let taken = claim_with_retries(&replicas[taker], &format!("replica-{taker}"), 99).await;
        assert_eq!(taken.len(), 60 - claims[taker].len());
        for claim in &claims[stopped] {
            let late = replicas[stopped].apply(&claim.key, started(Stage::Extraction)).await;
            assert!(matches!(late, Err(ControlError::Fenced(_))), "{late:?}");
        }
        let lost = &claims[stopped][0].key;
        assert_eq!(replicas[stopped].renew(std::slice::from_ref(lost), LEASE).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn replicas_on_ministack() {
        let Some(server) = shared_ministack() else { return };
        two_replicas_never_hold_a_document_at_once(server.endpoint()).await;
    }

    #[tokio::test]
    async fn replicas_on_dynoxide() {
        let Some(server) = shared_dynoxide() else { return };
        two_replicas_never_hold_a_document_at_once(server.endpoint()).await;
    }

    /// Checks that an event resumes all parked documents, even if they fill more than one page of the index.
    #[tokio::test]
    async fn however_many_wait_for_a_word_all_hear_it() {
        let Some(server) = shared_dynoxide() else { return };
        let f = Fixture::new(server.endpoint()).await;
        const DOCUMENTS: usize = 520;
        f.store.register((0..DOCUMENTS).map(|i| document(&format!("{i}"), "x")).collect()).await.unwrap();
        let claims = f.store.claim("owner", LEASE, DOCUMENTS, None).await.unwrap();
        assert_eq!(claims.len(), DOCUMENTS);
        let parked = || Transition::Parked {
            stage: Stage::Extraction,
            reason: "money".into(),
            resume: Resume::On("budget".into()),
        };
        let parking = claims.iter().map(|claim| f.store.apply(&claim.key, parked()));
        futures_util::future::try_join_all(parking).await.unwrap();
        assert_eq!(f.store.resume(Some("budget")).await.unwrap(), DOCUMENTS as u64);
        assert_eq!(f.store.counts().await.unwrap(), [("PENDING".to_owned(), DOCUMENTS as u64)].into());
    }

    #[tokio::test]
    async fn what_comes_within_the_pace_is_written_together_and_the_first_does_not_wait() {
        let Some(server) = shared_ministack() else { return };
        let f = Fixture::new(server.endpoint()).await;
        let pace = Duration::from_secs(3);
        let options = DynamoOptions { pace_milliseconds: 3_000, ..f.options.clone() };
        let store = DynamoControlStore::open(&f.aws, f.dynamo.clone(), options, f.clock.clone());
        let began = tokio::time::Instant::now();
        store.register(vec![document("a", "1")]).await.unwrap();
        assert!(began.elapsed() < pace, "{:?}", began.elapsed());
        let later = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            store.register(vec![document("c", "1")]).await
        };
        let (second, third) = tokio::join!(store.register(vec![document("b", "1")]), later);
        assert!(matches!((&second.unwrap()[0], &third.unwrap()[0]), (Registered::New(_), Registered::New(_))));
        // Sequential writes would have waited twice.
        assert!((pace..2 * pace).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_missing_table_is_said_with_what_to_do() {
        let Some(server) = shared_ministack() else { return };
        let aws = aws(server.endpoint()).await;
        let dynamo = Dynamo::new(&aws, "");
        let options = DynamoOptions { state_table: "none".into(), ..DynamoOptions::default() };
        let store = DynamoControlStore::open(&aws, dynamo, options, Arc::new(ManualClock::at(NOW)));
        let error = store.register(vec![document("a", "b")]).await.unwrap_err().to_string();
        assert!(error.contains("docweir infra apply"), "{error}");
    }

    /// Checks that Docweir processes a record of the former system, which lacks the attributes that Docweir adds.
    #[tokio::test]
    async fn a_record_that_others_made_is_taken_up() {
        let Some(server) = shared_ministack() else { return };
        let f = Fixture::new(server.endpoint()).await;
        let id = DocumentId::parse("doc_20250131_abc123").unwrap();
        let mut item = items::key(&id);
        let texts = [
            ("source_bucket", "papers"),
            ("source_s3_key", "input/a b.pdf"),
            ("upload_timestamp", "2025-01-31T10:00:00Z"),
            ("updated_at", "2025-01-31T10:00:00Z"),
            ("status", "PENDING"),
            ("current_stage", "SUBMITTED"),
            ("team", "reports"),
        ];
        item.extend(texts.map(|(name, text)| (name.to_owned(), items::string(text))));
        item.insert("max_retries".into(), AttributeValue::N("3".into()));
        let table = f.options.control_table.clone();
        f.dynamo.write(docweir_aws::dynamo::Write::Put { table, item, condition: None }).await.unwrap();
        let claim = claim_one(&f).await;
        assert_eq!((claim.source.as_str(), claim.key.version), ("s3://papers/input/a b.pdf", 1));
        // The content was unknown, so the content that is found makes a new version of the same document.
        let new = NewDocument { source: claim.source.clone(), ..document("x", "found") };
        let registered = f.store.register(vec![new]).await.unwrap().remove(0);
        assert!(matches!(&registered, Registered::Replaces(key) if key.id == id && key.version == 2), "{registered:?}");
        let claim = claim_one(&f).await;
        finish(&f.store, &claim).await.unwrap();
        let item = f.dynamo.get(&f.options.control_table, items::key(&id), true).await.unwrap().unwrap();
        assert_eq!((items::text(&item, "status"), items::text(&item, "team")), (Some("COMPLETED"), Some("reports")));
    }
}

/// Checks that the tag of an object is stored with its registration, and changes only with the next registration.
async fn marks_are_kept_with_registrations(f: &Fixture) {
    let store = &f.store;
    let object = |source: &str, content: &str| NewDocument { source: source.into(), ..document("x", content) };
    let with = |tag: &str, content: &str| NewDocument { tag: Some(tag.into()), ..object("s3://b/a.pdf", content) };
    let seen = |tag: &str, content: &str| KnownObject { tag: tag.into(), content: Sha256Hex::of(content.as_bytes()) };
    let known = async |source: &str| {
        let known = store.seen(&[source.to_owned(), "s3://b/nobody.pdf".into()]).await.unwrap();
        assert!(known.iter().all(|(_, record)| record.source == source), "{known:?}");
        known.into_iter().map(|(seen, _)| seen).next()
    };
    assert_eq!(known("s3://b/a.pdf").await, None);
    store.register(vec![with("1", "one")]).await.unwrap();
    assert_eq!(known("s3://b/a.pdf").await, Some(seen("1", "one")));
    // The same content with another tag is not a new version, but the new tag is stored.
    let again = store.register(vec![with("2", "one")]).await.unwrap().remove(0);
    assert!(matches!(again, Registered::Unchanged(..)), "{again:?}");
    assert_eq!(known("s3://b/a.pdf").await, Some(seen("2", "one")));
    let replaced = store.register(vec![with("3", "two")]).await.unwrap().remove(0);
    let Registered::Replaces(key) = replaced else { panic!("{replaced:?}") };
    assert_eq!(known("s3://b/a.pdf").await, Some(seen("3", "two")));
    assert_eq!(store.by_source("s3://b/a.pdf").await.unwrap().unwrap().document_id, key.id);
    // A registration without a tag leaves the stored tag unchanged.
    store.register(vec![object("s3://b/a.pdf", "three")]).await.unwrap();
    assert_eq!(known("s3://b/a.pdf").await, Some(seen("3", "two")));
    // Many sources are registered at once, some of them twice.
    let many = (0..40).map(|n| NewDocument { tag: Some(n.to_string()), ..object(&format!("s3://b/{}", n % 20), "x") });
    store.register(many.collect()).await.unwrap();
    let sources: Vec<_> = (0..20).map(|n| format!("s3://b/{n}")).collect();
    let known = store.seen(&sources).await.unwrap();
    assert_eq!(known.len(), 20);
    for (seen, record) in known {
        let n: u32 = record.source.strip_prefix("s3://b/").unwrap().parse().unwrap();
        assert_eq!(seen.tag, (n + 20).to_string(), "the last one counts");
    }
}

#[tokio::test]
async fn marks_are_kept_on_ministack() {
    let Some(server) = shared_ministack() else { return };
    marks_are_kept_with_registrations(&Fixture::new(server.endpoint()).await).await;
}

#[tokio::test]
async fn marks_are_kept_on_dynoxide() {
    let Some(server) = shared_dynoxide() else { return };
    marks_are_kept_with_registrations(&Fixture::new(server.endpoint()).await).await;
}
