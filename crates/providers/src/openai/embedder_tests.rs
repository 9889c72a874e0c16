//! Tests the embedder against a mock provider that implements the real protocol, enforces its limits and records its
//! charges.

use docweir_admission::AdmissionOptions;
use docweir_core::cancel::Cancel;
use docweir_core::clock::SystemClock;
use docweir_core::error::ErrorClass;
use docweir_mock_provider::{Act, MockProvider, On, Options, Rates, Rule, vector};
use docweir_stages::embed::deciding;
use docweir_stores::ledger::{Amount, CostLine, GroupBy, Ledger, SqliteLedger};
use docweir_stores::paid;
use docweir_stores::sqlite::OpenOptions;

use super::*;
use crate::account::{Alerts, BUDGET_SPENT, BudgetOptions};
use crate::prices::PriceOptions;

fn mock(change: impl FnOnce(&mut Options)) -> MockProvider {
    let mut options = Options::default();
    change(&mut options);
    MockProvider::start(options).unwrap()
}

fn options(mock: &MockProvider) -> OpenAiOptions {
    OpenAiOptions {
        base_url: mock.base_url().to_owned(),
        request_seconds: 5.0,
        limits: AdmissionOptions { backoff_initial_seconds: 0.05, max_wait_seconds: 5.0, ..Default::default() },
        ..OpenAiOptions::default()
    }
}

fn embedder(options: OpenAiOptions) -> OpenAiEmbedder {
    let client = Client::new(&options, "test-key".into()).unwrap();
    let admission = Admission::new("the model", options.limits.clone(), fastrand::Rng::with_seed(1));
    OpenAiEmbedder::new(client, admission, options, "chunks", None, PriceOptions::default().text_embedding_3_small)
}

/// Returns the batch if every text has a vector. Otherwise, returns the error that `deciding` selects from the errors
/// of the texts.
async fn embed(embedder: &OpenAiEmbedder, texts: &[&str]) -> Result<EmbedBatch, StageError> {
    let batch = embed_each(embedder, texts).await?;
    deciding(&batch.vectors).map_or(Ok(batch), Err)
}

async fn embed_each(embedder: &OpenAiEmbedder, texts: &[&str]) -> Result<EmbedBatch, StageError> {
    embedder.embed(texts.iter().map(|t| (*t).to_owned()).collect(), Call::for_a_test()).await
}

fn assert_vectors(batch: &EmbedBatch, texts: &[&str], dimensions: usize) {
    assert_eq!(batch.vectors.len(), texts.len());
    for (made, text) in batch.vectors.iter().zip(texts) {
        let made = made.as_ref().unwrap();
        let near: f32 = made.iter().zip(vector(text, dimensions)).map(|(a, b)| a * b).sum();
        assert!(made.len() == dimensions && (near - 1.0).abs() < 1e-4, "{text}: {near}");
    }
}

#[tokio::test]
async fn vectors_tokens_and_cost_are_the_providers() {
    let mock = mock(|_| {});
    let texts = ["A stale lease is fenced.", "日本語の文", "A stale lease is fenced."];
    let batch = embed(&embedder(options(&mock)), &texts).await.unwrap();
    assert_vectors(&batch, &texts, 1_536);
    let charges = mock.charges();
    assert_eq!((charges.live.requests, batch.tokens), (1, charges.live.tokens));
    assert_eq!((batch.cost_usd * 1e9).round() as u64, charges.live.nanodollars);
    let fewer = embedder(OpenAiOptions { dimensions: 256, ..options(&mock) });
    assert_eq!(fewer.identity().dimension, 256);
    assert_vectors(&embed(&fewer, &texts).await.unwrap(), &texts, 256);
}

#[tokio::test]
async fn requests_are_within_every_limit() {
    let mock = mock(|o| (o.limits.inputs_per_request, o.limits.tokens_per_request) = (5, 40));
    let embedder = embedder(OpenAiOptions { max_inputs: 5, max_request_tokens: 40, ..options(&mock) });
    let texts: Vec<String> = (0..37).map(|n| format!("passage {n} {}", "word ".repeat(n % 13))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_vectors(&embed(&embedder, &texts).await.unwrap(), &texts, 1_536);
    let charges = mock.charges();
    assert!(charges.refused.is_empty() && charges.live.requests >= 8, "{charges:?}");
}

#[tokio::test]
async fn a_text_that_is_refused_is_found_by_halves_and_its_neighbours_are_paid_once() {
    for poison in [0, 11, 15] {
        let mock = mock(|o| (o.limits.tokens_per_input, o.charges_by_text) = (50, true));
        let texts: Vec<String> =
            (0..16).map(|n| format!("passage {n} {}", "word ".repeat(if n == poison { 60 } else { 1 }))).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batch = embed_each(&embedder(options(&mock)), &texts).await.unwrap();
        for (n, (made, text)) in batch.vectors.iter().zip(&texts).enumerate() {
            match made {
                Ok(made) => {
                    let near: f32 = made.iter().zip(vector(text, 1_536)).map(|(a, b)| a * b).sum();
                    assert!(n != poison && (near - 1.0).abs() < 1e-4, "{n}");
                }
                Err(error) => {
                    assert_eq!(
                        (n, error.class, error.code.as_str()),
                        (poison, ErrorClass::Permanent, "provider_refused")
                    );
                }
            }
        }
        let charges = mock.charges();
        assert_eq!(charges.texts_paid_twice(), Vec::<&str>::new());
        assert_eq!(batch.tokens, charges.live.tokens);
        // The refused requests have sixteen, eight, four, two and one texts.
        assert_eq!(charges.refused.values().sum::<u64>(), 5, "{charges:?}");
    }
}

#[tokio::test]
async fn what_was_made_is_handed_over_when_the_next_request_fails() {
    let mock = mock(|o| o.faults = vec![Rule::new(On::Embeddings, Act::Status).code(500).after(1).times(1)]);
    let embedder = embedder(OpenAiOptions { max_inputs: 2, ..options(&mock) });
    let batch = embed_each(&embedder, &["a", "b", "c", "d"]).await.unwrap();
    let codes: Vec<_> = batch.vectors.iter().map(|v| v.as_ref().map_or_else(|e| e.code.as_str(), |_| "")).collect();
    assert_eq!(codes, ["", "", "provider_failed", "provider_failed"]);
    assert_eq!(batch.tokens, mock.charges().live.tokens);
}

#[tokio::test]
async fn an_endpoint_that_refuses_everything_is_no_fault_of_the_texts() {
    let mock = mock(|o| o.faults = vec![Rule::new(On::Embeddings, Act::Status).code(400)]);
    let error = embed(&embedder(options(&mock)), &["a", "b", "c", "d"]).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::System, "provider_refused"), "{error}");
    // The refused requests have four, two and one texts; the last one is the probe.
    assert_eq!(mock.charges().refused[&400], 4);
}

#[tokio::test]
async fn throttling_slows_and_fails_nothing() {
    let mock = mock(|o| {
        o.rates = Rates { tokens_per_minute: Some(6_000), requests_per_minute: None, burst_share: 0.01 };
        o.faults = vec![Rule::new(On::Embeddings, Act::Status).code(429).retry_after(0.2).times(2)];
    });
    let embedder = Arc::new(embedder(options(&mock)));
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..12 {
        let embedder = embedder.clone();
        calls.spawn(async move { embed(&embedder, &[&format!("passage {n} {}", "word ".repeat(20))]).await });
    }
    let tokens: u64 = calls.join_all().await.into_iter().map(|done| done.unwrap().tokens).sum();
    // The limit is a hundred tokens per second, and sixty at once.
    let least = (tokens as f64 - 60.0) / 100.0;
    assert!(began.elapsed().as_secs_f64() > least, "{tokens} tokens in {:?}", began.elapsed());
    let charges = mock.charges();
    assert_eq!(charges.live.tokens, tokens);
    assert!(charges.refused[&429] <= 4, "{:?}", charges.refused);
}

/// Returns options with a timeout of 30 seconds. For a rule that delays the answer on purpose, the timeout is half a
/// second, so that the call fails.
fn with_long_timeout(rule: &Rule, options: OpenAiOptions) -> OpenAiOptions {
    OpenAiOptions { request_seconds: if rule.act == Act::Slow { 0.5 } else { 30.0 }, ..options }
}

#[tokio::test]
async fn each_failure_has_its_class() {
    let on = |act| Rule::new(On::Embeddings, act).times(1);
    let table = [
        (on(Act::Status).code(500), ErrorClass::Unavailable, "provider_failed"),
        (on(Act::CutBefore), ErrorClass::Unavailable, "provider_failed"),
        (on(Act::CutAfter), ErrorClass::Unavailable, "provider_failed"),
        (on(Act::CutMiddle), ErrorClass::Unavailable, "provider_failed"),
        (on(Act::Slow).seconds(8.0), ErrorClass::Unavailable, "provider_failed"),
        (on(Act::Garbage), ErrorClass::Unavailable, "provider_garbled"),
        (on(Act::MissingVector), ErrorClass::Unavailable, "provider_garbled"),
        (on(Act::WrongDimension), ErrorClass::System, "wrong_dimension"),
        (on(Act::Nan), ErrorClass::Transient, "bad_vector"),
        (on(Act::Status).code(401), ErrorClass::System, "provider_key"),
        (on(Act::Status).code(404), ErrorClass::System, "provider_path"),
        (on(Act::InsufficientQuota), ErrorClass::Unavailable, "insufficient_quota"),
    ];
    let mock = mock(|_| {});
    for (rule, class, code) in table {
        mock.set_faults(vec![rule.clone()]).unwrap();
        let error = embed(&embedder(with_long_timeout(&rule, options(&mock))), &["one", "two"]).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (class, code), "{rule:?}: {error}");
        assert!(!error.to_string().contains("test-key"), "{error}");
    }
    mock.set_faults(vec![on(Act::ShuffledData)]).unwrap();
    let texts = ["one", "two", "three"];
    assert_vectors(&embed(&embedder(options(&mock)), &texts).await.unwrap(), &texts, 1_536);
}

#[tokio::test]
async fn a_dead_endpoint_is_left_alone_after_a_few_failures() {
    let mock = mock(|o| o.faults = vec![Rule::new(On::Embeddings, Act::Status).code(503)]);
    let embedder = embedder(options(&mock));
    for _ in 0..5 {
        assert_eq!(embed(&embedder, &["x"]).await.unwrap_err().code, "provider_failed");
    }
    for _ in 0..20 {
        let error = embed(&embedder, &["x"]).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Unavailable, "provider_down"), "{error}");
        assert!(error.retry_after.is_some());
    }
    assert_eq!(mock.charges().refused[&503], 5);
}

#[tokio::test]
async fn a_text_that_fails_again_and_again_is_not_charged_while_the_endpoint_is_down() {
    let mock = mock(|o| o.faults = vec![Rule::new(On::Embeddings, Act::Status).code(500)]);
    let limits = AdmissionOptions { failures: 100, ..options(&mock).limits };
    let embedder = embedder(OpenAiOptions { limits, ..options(&mock) });
    for _ in 0..20 {
        assert_eq!(embed(&embedder, &["x"]).await.unwrap_err().class, ErrorClass::Unavailable);
    }
}

#[tokio::test]
async fn answers_that_cannot_be_read_shut_the_gate_and_are_quoted() {
    for (waits, class) in [(false, ErrorClass::System), (true, ErrorClass::Unavailable)] {
        let mock = mock(|o| o.faults = vec![Rule::new(On::Embeddings, Act::Garbage)]);
        let limits = AdmissionOptions { unreadable_answers: 3, down_seconds: 60.0, ..options(&mock).limits };
        let embedder = embedder(OpenAiOptions { limits, waits_if_unreadable: waits, ..options(&mock) });
        for _ in 0..2 {
            let error = embed(&embedder, &["x"]).await.unwrap_err();
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::Unavailable, "provider_garbled"), "{error}");
        }
        for _ in 0..5 {
            let error = embed(&embedder, &["x"]).await.unwrap_err();
            assert_eq!((error.class, error.code.as_str()), (class, "provider_unreadable"), "{error}");
            assert!(error.message.contains("200 OK: <html><body>upstream says hello"), "{error}");
        }
        assert_eq!(mock.charges().live.requests, 3, "no more calls are made");
    }
}

#[tokio::test]
async fn nobody_there_is_said() {
    // Port 1 is reserved, so nothing listens on it.
    let base_url = "http://127.0.0.1:1/v1".to_owned();
    let error = embed(&embedder(OpenAiOptions { base_url, ..OpenAiOptions::default() }), &["x"]).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Unavailable, "provider_failed"));
    assert!(error.message.contains("no connection"), "{error}");
}

#[tokio::test]
async fn a_minute_that_is_smaller_than_a_request_makes_smaller_requests() {
    let mock = mock(|o| {
        o.rates = Rates { tokens_per_minute: Some(60_000), requests_per_minute: None, burst_share: 1.0 };
    });
    // The configured limit is far too high; the first answer reports the real one.
    let embedder = embedder(options(&mock));
    let texts: Vec<String> = (0..40).map(|n| format!("passage {n} {}", "word ".repeat(2_000))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let began = Instant::now();
    let first = embed(&embedder, &texts[..32]).await;
    // A request of 64,000 tokens is halved. Both halves together exceed the saved-up minute by four seconds.
    let batch = first.unwrap();
    assert_eq!(batch.vectors.len(), 32);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stop_ends_a_call_that_hangs() {
    let mock = mock(|o| o.faults = vec![Rule::new(On::Embeddings, Act::Slow).seconds(30.0)]);
    let embedder = Arc::new(embedder(OpenAiOptions { request_seconds: 60.0, ..options(&mock) }));
    let cancel = Cancel::default();
    let call = tokio::spawn({
        let (embedder, cancel) = (embedder.clone(), cancel.clone());
        async move { embedder.embed(vec!["x".into()], Call { subject: "x", collection: None, cancel: &cancel }).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    cancel.cancel();
    assert_eq!(call.await.unwrap().unwrap_err().class, ErrorClass::Timeout);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// Holds a mock provider, and a folder for the ledger of the account.
struct PaidFixture {
    folder: tempfile::TempDir,
    mock: MockProvider,
}

impl PaidFixture {
    fn new(faults: Vec<Rule>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), mock: mock(|o| o.faults = faults) }
    }

    fn ledger(&self) -> SqliteLedger {
        let options = OpenOptions::durable(Duration::from_secs(5), 1_000, 512);
        let database = paid::open(&self.folder.path().join("paid.db"), &options).unwrap();
        SqliteLedger::new(database, Arc::new(SystemClock))
    }

    fn embedder(&self, run_usd: f64) -> OpenAiEmbedder {
        let options = options(&self.mock);
        let account = Account {
            ledger: Arc::new(self.ledger()),
            run: "a run".into(),
            stage: "embedding",
            model: options.model.clone(),
            collection: "chunks".into(),
            price: PriceOptions::default().of(&options.model),
            options: BudgetOptions { run_usd, ..BudgetOptions::default() },
            alerts: Alerts::new(Arc::new(|_| {})),
        };
        let client = Client::new(&options, "test-key".into()).unwrap();
        let admission = Admission::new("the model", options.limits.clone(), fastrand::Rng::with_seed(1));
        OpenAiEmbedder::new(
            client,
            admission,
            options,
            "chunks",
            Some(account),
            PriceOptions::default().text_embedding_3_small,
        )
    }

    /// Returns three amounts in nanodollars: settled, reserved and in doubt.
    async fn sums(&self) -> (u64, u64, u64) {
        let lines = self.ledger().report(GroupBy::Stage, "", 10).await.unwrap();
        let sum = |of: fn(&CostLine) -> Amount| lines.iter().map(|l| of(l).cost.0).sum();
        (sum(|l| l.settled), sum(|l| l.reserved), sum(|l| l.in_doubt))
    }
}

#[tokio::test]
async fn the_ledger_agree_with_the_providers_however_a_call_ends() {
    let on = |act| Rule::new(On::Embeddings, act).times(1);
    // Calls that were certainly not charged cost nothing. Calls that may have been charged are in doubt.
    let table = [
        (None, false),
        (Some(on(Act::Status).code(500)), false),
        (Some(on(Act::Status).code(400)), false),
        (Some(on(Act::Status).code(401)), false),
        (Some(on(Act::InsufficientQuota)), false),
        (Some(on(Act::CutBefore)), true),
        (Some(on(Act::CutAfter)), true),
        (Some(on(Act::CutMiddle)), true),
        (Some(on(Act::Garbage)), true),
        (Some(on(Act::MissingVector)), true),
        (Some(on(Act::Nan)), false),
        (Some(on(Act::WrongDimension)), false),
    ];
    for (rule, doubtful) in table {
        let p = PaidFixture::new(rule.clone().into_iter().collect());
        let _ = embed(&p.embedder(0.0), &["a stale lease", "is fenced"]).await;
        let charged = p.mock.charges().live.nanodollars;
        let (settled, reserved, doubt) = p.sums().await;
        assert_eq!((reserved, doubt > 0), (0, doubtful), "{rule:?}");
        assert!(settled <= charged && charged <= settled + doubt, "{rule:?}: {settled} {charged} {doubt}");
        assert!(doubtful || settled == charged, "{rule:?}: {settled} {charged}");
    }
}

#[tokio::test]
async fn a_budget_stops_before_it_is_passed() {
    let p = PaidFixture::new(Vec::new());
    let embedder = p.embedder(1e-6);
    let mut calls = tokio::task::JoinSet::new();
    let embedder = Arc::new(embedder);
    for n in 0..40 {
        let embedder = embedder.clone();
        calls.spawn(async move { embed(&embedder, &[&format!("passage {n}")]).await });
    }
    let ended = calls.join_all().await;
    let spent = ended.iter().filter_map(|e| e.as_ref().err()).filter(|e| e.code == BUDGET_SPENT).count();
    let done = ended.iter().filter(|e| e.is_ok()).count();
    let charged = p.mock.charges().live.nanodollars;
    assert_eq!(spent + done, 40, "{ended:?}");
    assert!(spent > 0 && charged <= 1_000 && charged > 900, "{spent} {charged}");
    assert_eq!(p.sums().await, (charged, 0, 0));
    let error = ended.into_iter().find_map(Result::err).unwrap();
    assert!(error.message.contains("budget.run_usd"), "{error}");
}
