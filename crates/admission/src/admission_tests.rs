//! Tests admission against a provider that enforces its limits, on a paused clock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bucket::Bucket;
use super::*;

/// Simulates a provider with a limit of tokens per minute, and counts its calls.
struct Provider {
    tokens: Mutex<Bucket>,
    per_minute: f64,
    used: AtomicU64,
    calls: AtomicU64,
    refused: AtomicU64,
    reports: bool,
}

impl Provider {
    fn new(per_minute: f64, burst: Duration, reports: bool) -> Arc<Self> {
        let tokens = Mutex::new(Bucket::new(per_minute, burst, Instant::now()));
        let (used, calls, refused) = Default::default();
        Arc::new(Self { tokens, per_minute, used, calls, refused, reports })
    }

    /// Takes the tokens from the budget when the call arrives, and answers after a random time.
    async fn call(&self, tokens: u64, random: &mut fastrand::Rng) -> CallOutcome {
        tokio::time::sleep(Duration::from_millis(random.u64(5..60))).await;
        let now = Instant::now();
        let (taken, wait, left) = {
            let mut bucket = self.tokens.lock().unwrap();
            let wait = bucket.wait_for(tokens as f64, now);
            if wait.is_zero() {
                bucket.take(tokens as f64, now);
            }
            (wait.is_zero(), wait, bucket.level(now))
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
        let report = self.reports.then_some(Observed {
            token_limit: Some(self.per_minute),
            tokens_left: Some(left.max(0.0).floor()),
            ..Observed::default()
        });
        tokio::time::sleep(Duration::from_millis(random.u64(50..1_500))).await;
        if taken {
            self.used.fetch_add(tokens, Ordering::Relaxed);
            CallOutcome::Answered(report)
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            CallOutcome::Throttled(Some(wait), report)
        }
    }
}

/// Returns two shares. The first is the used share of the provider's token budget; the first minute is not counted.
/// The second is the refused share of all calls.
async fn load(provider: &Arc<Provider>, options: AdmissionOptions, minutes: u64) -> (f64, f64) {
    let admission = Admission::new("test", options, fastrand::Rng::with_seed(3));
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..24 {
        let (admission, provider) = (admission.clone(), provider.clone());
        workers.spawn(async move {
            let mut random = fastrand::Rng::with_seed(n);
            while Instant::now() < end {
                // The sizes range from a single passage to a full request.
                let tokens = random.u64(100..40_000);
                let mut turn = None;
                while Instant::now() < end {
                    let ask = Ask { lane: "chunks".into(), weight: 1, tokens, turn };
                    let Ok(permit) = admission.enter(ask, &Cancel::default()).await else { continue };
                    turn = Some(permit.turn());
                    let outcome = provider.call(tokens, &mut random).await;
                    permit.end(&outcome);
                    if matches!(outcome, CallOutcome::Answered(_)) {
                        break;
                    }
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = provider.used.load(Ordering::Relaxed);
    tokio::time::sleep_until(end).await;
    let used = provider.used.load(Ordering::Relaxed) - before;
    workers.abort_all();
    let calls = provider.calls.load(Ordering::Relaxed) as f64;
    let refused = provider.refused.load(Ordering::Relaxed) as f64;
    (used as f64 / (provider.per_minute * (minutes - 1) as f64), refused / calls)
}

#[tokio::test(start_paused = true)]
async fn a_million_tokens_a_minute_are_used_and_hardly_a_call_is_refused() {
    let million = AdmissionOptions { requests_per_minute: 0, tokens_per_minute: 1_000_000, ..Default::default() };
    // The configured limit is right, far too high or too low. The provider saves up a minute or a few seconds, and
    // may report its budget.
    let table = [
        (1_000_000, 60, true),
        (1_000_000, 60, false),
        (1_000_000, 10, true),
        (1_000_000, 4, true),
        (20_000_000, 60, true),
        (100_000, 60, true),
    ];
    for (configured, burst, reports) in table {
        let provider = Provider::new(1_000_000.0, Duration::from_secs(burst), reports);
        let options = AdmissionOptions { tokens_per_minute: configured, ..million.clone() };
        let (used, refused) = load(&provider, options, 11).await;
        let what = format!("{configured}, {burst} s, reports {reports}: {used:.3} used, {refused:.4} refused");
        println!("{what}");
        assert!(used >= 0.95 && refused <= 0.01, "{what}");
    }
}

fn ask() -> Ask {
    Ask { lane: "chunks".into(), weight: 1, tokens: 100, turn: None }
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_goes_and_comes_again() {
    let options = AdmissionOptions { concurrency: 1, max_wait_seconds: 5.0, ..Default::default() };
    let admission = Admission::new("test", options, fastrand::Rng::with_seed(3));
    let held = admission.enter(ask(), &Cancel::default()).await.ok().unwrap();
    let began = Instant::now();
    let refused = admission.enter(ask(), &Cancel::default()).await.err().unwrap();
    assert!((5.0..6.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    let error = refused.into_error("the model");
    assert_eq!(
        (error.class, error.retry_after),
        (docweir_core::error::ErrorClass::Throttled, Some(Duration::from_secs(5)))
    );
    assert_eq!(admission.status().waiting.len(), 0, "a refused call leaves the queue");
    drop(held);
    assert!(admission.enter(ask(), &Cancel::default()).await.is_ok(), "a dropped permit is free again");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_when_there_is_no_money() {
    let options = AdmissionOptions { concurrency: 1, ..Default::default() };
    let admission = Admission::new("test", options, fastrand::Rng::with_seed(3));
    let held = admission.enter(ask(), &Cancel::default()).await.ok().unwrap();
    let waiting = tokio::spawn({
        let admission = admission.clone();
        async move { admission.enter(ask(), &Cancel::default()).await.err() }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    held.end(&CallOutcome::QuotaSpent);
    let error = waiting.await.unwrap().unwrap().into_error("text-embedding-3-small");
    assert_eq!(
        (error.code.as_str(), error.class),
        ("insufficient_quota", docweir_core::error::ErrorClass::Unavailable)
    );
    assert!(error.message.contains("no credit left") && error.retry_after.is_some(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait() {
    let options = AdmissionOptions { concurrency: 1, ..Default::default() };
    let admission = Admission::new("test", options, fastrand::Rng::with_seed(3));
    let _held = admission.enter(ask(), &Cancel::default()).await.ok().unwrap();
    let cancel = Cancel::default();
    let waiting = tokio::spawn({
        let (admission, cancel) = (admission.clone(), cancel.clone());
        async move { admission.enter(ask(), &cancel).await.err() }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    cancel.cancel();
    assert!(matches!(waiting.await.unwrap(), Some(Refused::Cancelled(_))));
}
