//! Installs the metrics recorder of the process. The recorder passes metrics to the `/metrics` page, to the
//! publisher, or to both.

use std::sync::Arc;

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn};
use metrics::{Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::figures::Figures;
use super::{actors, documents, publisher};
use crate::supervisors::metrics as pools;

/// Installs the requested recorders, once per process. Returns the handle of the `/metrics` page. Returns `None` if
/// the page is not requested, or if another recorder was already installed.
pub fn install(page: bool, figures: Option<Figures>) -> Option<PrometheusHandle> {
    let page = page.then(|| PrometheusBuilder::new().build_recorder());
    let handle = page.as_ref().map(PrometheusRecorder::handle);
    let installed = match (page, figures) {
        (None, None) => return None,
        (Some(page), None) => metrics::set_global_recorder(page).is_ok(),
        (None, Some(figures)) => metrics::set_global_recorder(figures).is_ok(),
        (Some(page), Some(figures)) => metrics::set_global_recorder(Both(page, figures)).is_ok(),
    };
    [pools::METRICS, actors::COMPACTION, actors::QUEUES, actors::SEARCH, documents::METRICS, publisher::METRICS]
        .into_iter()
        .for_each(pools::describe);
    handle.filter(|_| installed)
}

/// Passes every metric to both recorders.
struct Both(PrometheusRecorder, Figures);

struct Pair<T>(T, T);

impl Recorder for Both {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let pair = Pair(self.0.register_counter(key, metadata), self.1.register_counter(key, metadata));
        Counter::from_arc(Arc::new(pair))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let pair = Pair(self.0.register_gauge(key, metadata), self.1.register_gauge(key, metadata));
        Gauge::from_arc(Arc::new(pair))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let pair = Pair(self.0.register_histogram(key, metadata), self.1.register_histogram(key, metadata));
        Histogram::from_arc(Arc::new(pair))
    }
}

impl CounterFn for Pair<Counter> {
    fn increment(&self, value: u64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.0.absolute(value);
        self.1.absolute(value);
    }
}

impl GaugeFn for Pair<Gauge> {
    fn increment(&self, value: f64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn decrement(&self, value: f64) {
        self.0.decrement(value);
        self.1.decrement(value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
        self.1.set(value);
    }
}

impl HistogramFn for Pair<Histogram> {
    fn record(&self, value: f64) {
        self.0.record(value);
        self.1.record(value);
    }
}
