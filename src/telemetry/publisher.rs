//! Sends the process's metrics to CloudWatch at regular intervals, and the last values when the process ends.
//!
//! CloudWatch counts a value twice if the value is sent twice, and misses a value that is dropped. What happens to a
//! value therefore depends on the reply to the call that sent it:
//! - accepted: the value is done;
//! - refused temporarily: the value is sent again at the next interval, but the number of such values is limited;
//! - refused permanently: the value is lost;
//! - no reply: the value may have arrived. It is counted as in doubt and not sent again.
//!
//! Lost values and values in doubt are counted and reported.
//!
//! Failures to publish metrics never make a run fail.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::clock::SharedClock;
use metrics::counter;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::emf;
use super::figures::Figures;
use super::names::{Datum, datum, is_published};
use super::options::CloudWatchOptions;

/// Metrics about the publisher itself, each with its name, kind and description. They are only on the `/metrics`
/// page, because a publisher that fails cannot publish its own failure.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("docweir_cloudwatch_data_sent_total", "counter", "number of metric values that CloudWatch accepted"),
    ("docweir_cloudwatch_data_lost_total", "counter", "number of metric values that were refused or dropped"),
    ("docweir_cloudwatch_data_in_doubt_total", "counter", "number of metric values whose reply was lost"),
];

/// Pause between two attempts to publish the last values at the end of a run.
const PAUSE: Duration = Duration::from_millis(250);

/// Describes the result of one attempt to send metric values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PutResult {
    pub sent: usize,
    /// Number of values that were refused permanently.
    pub lost: usize,
    pub in_doubt: usize,
    /// Values that were not sent now and may be sent later.
    pub left: Vec<Datum>,
    /// Reason why some values were not sent.
    pub why: Option<String>,
}

/// Sends metric values to a destination, such as CloudWatch's API.
#[async_trait]
pub trait MetricSink: Send + Sync + 'static {
    async fn put(&self, data: Vec<Datum>) -> PutResult;
}

/// Counts all metric values of a run, separately for each result of sending a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub sent: u64,
    pub lost: u64,
    pub in_doubt: u64,
}

/// Collects the metrics of a process and sends them to CloudWatch.
pub struct Publisher {
    figures: Figures,
    clock: SharedClock,
    options: CloudWatchOptions,
    to: Box<dyn MetricSink>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pending: VecDeque<Datum>,
    totals: Totals,
}

impl Publisher {
    pub fn new(options: CloudWatchOptions, clock: SharedClock, to: Box<dyn MetricSink>) -> Arc<Self> {
        Arc::new(Self { figures: Figures::new(is_published), clock, options, to, state: Mutex::default() })
    }

    /// Returns the recorder that collects the metrics. The recorder must be installed before anything is counted.
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// Publishes all metrics at the configured interval, until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.options.interval()).await;
            self.publish().await;
        }
    }

    /// Publishes all pending values. The publication continues even if the caller stops waiting, because the result
    /// of a cancelled call to CloudWatch would be unknown.
    pub async fn publish(self: &Arc<Self>) {
        let this = self.clone();
        let _ = tokio::spawn(async move { this.publish_all().await }).await;
    }

    /// Publishes the remaining values within `cloudwatch.flush_seconds`. Returns the totals of the run.
    pub async fn flush(self: &Arc<Self>) -> Totals {
        let until = Instant::now() + self.options.flush();
        loop {
            let publishing = tokio::time::timeout_at(until, self.publish()).await;
            let Ok(mut state) = self.state.try_lock() else {
                // A call is still running, and its result is needed for the totals.
                return self.given_up().await;
            };
            if publishing.is_ok() && state.pending.is_empty() {
                return state.totals;
            }
            if Instant::now() + PAUSE >= until {
                let left = state.pending.len();
                state.pending.clear();
                state.lose(
                    left,
                    "CloudWatch did not accept the values within `cloudwatch.flush_seconds` at the end of the run",
                );
                return state.totals;
            }
            drop(state);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for a call to CloudWatch that is still running after `cloudwatch.flush_seconds`, because the totals need
    /// the call's result. The call has its own time limit. All values that are still unsent after the call are
    /// counted as lost.
    async fn given_up(&self) -> Totals {
        let mut state = self.state.lock().await;
        let left = state.pending.len();
        state.pending.clear();
        state
            .lose(left, "CloudWatch did not accept the values within `cloudwatch.flush_seconds` at the end of the run");
        state.totals
    }

    async fn publish_all(&self) {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        state.pending.extend(self.figures.take().into_iter().map(|f| datum(f, &self.options.environment, now)));
        let surplus = state.pending.len().saturating_sub(self.options.max_pending);
        if surplus > 0 {
            state.pending.drain(..surplus);
            state.lose(surplus, "too many values waited for CloudWatch, so the oldest were dropped");
        }
        if state.pending.is_empty() {
            return;
        }
        let data = Vec::from(std::mem::take(&mut state.pending));
        let put = self.to.put(data).await;
        state.totals.sent += put.sent as u64;
        counter!("docweir_cloudwatch_data_sent_total").increment(put.sent as u64);
        let why = put.why.unwrap_or_default();
        if !put.left.is_empty() {
            tracing::warn!(figures = put.left.len(), why, "metrics not published; retrying at the next interval");
        }
        state.pending = put.left.into();
        state.lose(put.lost, &why);
        if put.in_doubt > 0 {
            state.totals.in_doubt += put.in_doubt as u64;
            counter!("docweir_cloudwatch_data_in_doubt_total").increment(put.in_doubt as u64);
            tracing::warn!(figures = put.in_doubt, why, "metrics in doubt because the reply was lost; not retrying");
        }
    }
}

impl State {
    fn lose(&mut self, figures: usize, why: &str) {
        if figures > 0 {
            self.totals.lost += figures as u64;
            counter!("docweir_cloudwatch_data_lost_total").increment(figures as u64);
            tracing::warn!(figures, why, "metrics lost");
        }
    }
}

/// Function that receives each written line.
pub type Lines = Arc<dyn Fn(String) + Send + Sync>;

/// Writes metric values as lines of the embedded metric format.
pub struct EmfLines {
    pub namespace: String,
    pub lines: Lines,
}

#[async_trait]
impl MetricSink for EmfLines {
    async fn put(&self, data: Vec<Datum>) -> PutResult {
        emf::lines(&self.namespace, &data).into_iter().for_each(|line| (self.lines)(line));
        PutResult { sent: data.len(), ..PutResult::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use docweir_core::clock::ManualClock;

    use super::*;
    use crate::telemetry::names::DatumValue;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum FakeReply {
        MetricSink,
        Later,
        Never,
        Lost,
        /// The fake CloudWatch accepts the values after this number of seconds.
        After(u64),
    }

    #[derive(Clone, Default)]
    struct FakeCloudWatch(Arc<StdMutex<(Vec<FakeReply>, Vec<Datum>)>>);

    #[async_trait]
    impl MetricSink for FakeCloudWatch {
        async fn put(&self, data: Vec<Datum>) -> PutResult {
            let answer = match self.0.lock().unwrap().0 {
                ref mut answers if answers.len() > 1 => answers.remove(0),
                ref answers => answers.first().copied().unwrap_or(FakeReply::MetricSink),
            };
            let (n, why) = (data.len(), Some("a reason".to_owned()));
            match answer {
                FakeReply::Later => PutResult { left: data, why, ..PutResult::default() },
                FakeReply::Never => PutResult { lost: n, why, ..PutResult::default() },
                FakeReply::Lost => PutResult { in_doubt: n, why, ..PutResult::default() },
                FakeReply::MetricSink | FakeReply::After(_) => {
                    if let FakeReply::After(seconds) = answer {
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                    }
                    self.0.lock().unwrap().1.extend(data);
                    PutResult { sent: n, ..PutResult::default() }
                }
            }
        }
    }

    impl FakeCloudWatch {
        fn total(&self) -> f64 {
            let value = |d: &Datum| if let DatumValue::One(n) = d.value { n } else { 0.0 };
            self.0.lock().unwrap().1.iter().map(value).sum()
        }
    }

    fn publisher(answers: &[FakeReply]) -> (FakeCloudWatch, Arc<Publisher>) {
        let cloudwatch = FakeCloudWatch::default();
        cloudwatch.0.lock().unwrap().0 = answers.to_vec();
        let clock = Arc::new(ManualClock::at(1_000_000));
        let options = CloudWatchOptions { max_pending: 1_000, ..CloudWatchOptions::default() };
        (cloudwatch.clone(), Publisher::new(options, clock, Box::new(cloudwatch)))
    }

    fn count(publisher: &Publisher, n: u64) {
        metrics::with_local_recorder(&publisher.figures(), || {
            counter!("docweir_documents_processed_total", "stage" => "loading").increment(n);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_counted_arrives_once_in_all() {
        let (cloudwatch, publisher) =
            publisher(&[FakeReply::MetricSink, FakeReply::Later, FakeReply::Later, FakeReply::MetricSink]);
        let running = tokio::spawn(publisher.clone().run());
        for n in 1..=10 {
            count(&publisher, n);
            tokio::time::sleep(Duration::from_secs(47)).await;
        }
        running.abort();
        count(&publisher, 100);
        let totals = publisher.flush().await;
        assert_eq!(cloudwatch.total(), 155.0);
        assert_eq!((totals.lost, totals.in_doubt), (0, 0));
        assert_eq!(totals.sent, cloudwatch.0.lock().unwrap().1.len() as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_under_way_at_the_end_is_waited_for_and_not_made_again() {
        let (cloudwatch, publisher) = publisher(&[FakeReply::After(5), FakeReply::MetricSink]);
        count(&publisher, 7);
        let running = tokio::spawn(publisher.clone().run());
        tokio::time::sleep(Duration::from_secs(62)).await;
        running.abort();
        count(&publisher, 1);
        assert_eq!(publisher.flush().await, Totals { sent: 2, ..Totals::default() });
        assert_eq!(cloudwatch.total(), 8.0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_sent_is_counted() {
        for (answer, expected) in [
            (FakeReply::Never, Totals { lost: 1, ..Totals::default() }),
            (FakeReply::Lost, Totals { in_doubt: 1, ..Totals::default() }),
            (FakeReply::Later, Totals { lost: 1, ..Totals::default() }),
            (FakeReply::After(60), Totals { sent: 1, ..Totals::default() }),
        ] {
            let (cloudwatch, publisher) = publisher(&[answer]);
            count(&publisher, 3);
            let begun = Instant::now();
            assert_eq!(publisher.flush().await, expected, "{answer:?}");
            assert!(begun.elapsed() <= Duration::from_secs(60), "{answer:?}");
            assert_eq!(cloudwatch.total(), if expected.sent > 0 { 3.0 } else { 0.0 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_has_a_limit_and_the_oldest_goes_first() {
        let (cloudwatch, publisher) = publisher(&[FakeReply::Later]);
        for _ in 0..1_500 {
            count(&publisher, 1);
            publisher.publish().await;
        }
        cloudwatch.0.lock().unwrap().0 = vec![FakeReply::MetricSink];
        let totals = publisher.flush().await;
        assert_eq!(totals, Totals { sent: 1_000, lost: 500, in_doubt: 0 });
        assert_eq!(cloudwatch.total(), 1_000.0);
    }
}
