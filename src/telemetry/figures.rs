//! Collects the metrics of the process between two calls of `take`. Each increment is reported exactly once. If an
//! increment occurs during a call, either this call or the next call reports it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Maximum number of metric series; further series are not published. The pools and their labels need far fewer
/// series. If this limit is reached, some label has too many different values.
const MOST: usize = 10_000;

/// Summarises the samples that a histogram recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Samples {
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

/// Holds the value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Amount by which a counter grew since the last call of `take`.
    Count(u64),
    /// Current value of a gauge.
    Level(f64),
    Samples(Samples),
}

/// Describes one series by the name and the labels of its metric, and gives the value of the series.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: Value,
}

/// Collects the metrics whose names a filter accepts. Clones share the same values.
#[derive(Clone)]
pub struct Figures {
    wanted: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    series: Arc<RwLock<HashMap<Key, Series>>>,
}

enum Series {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Sums>),
}

impl Figures {
    pub fn new(wanted: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { wanted: Arc::new(wanted), series: Arc::default() }
    }

    /// Returns the current value of every gauge, and the growth of every counter and histogram since the last call.
    /// Unchanged counters and histograms are left out. The result is sorted by name and labels.
    pub fn take(&self) -> Vec<Figure> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let mut figures: Vec<Figure> = series
            .iter()
            .filter_map(|(key, series)| {
                let value = match series {
                    Series::Counter(count) => Value::Count(Some(count.swap(0, Ordering::AcqRel)).filter(|n| *n > 0)?),
                    Series::Gauge(level) => Value::Level(f64::from_bits(level.load(Ordering::Acquire))),
                    Series::Histogram(sums) => {
                        Value::Samples(sums.0.lock().unwrap_or_else(PoisonError::into_inner).take()?)
                    }
                };
                let labels = key.labels().map(|l| (l.key().to_owned(), l.value().to_owned())).collect();
                Some(Figure { name: key.name().to_owned(), labels, value })
            })
            .collect();
        figures.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
        figures
    }

    /// Returns the series with the given key, and creates the series if necessary. Returns `None` if the filter
    /// rejects the name of the metric, or if there are too many series.
    fn series<T>(&self, key: &Key, make: fn() -> Series, same: fn(&Series) -> Option<Arc<T>>) -> Option<Arc<T>> {
        if !(self.wanted)(key.name()) {
            return None;
        }
        if let Some(found) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return same(found);
        }
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST && !all.contains_key(key) {
            tracing::error!(name = key.name(), "too many metric series; this series is not published");
            return None;
        }
        same(all.entry(key.clone()).or_insert_with(make))
    }
}

impl Recorder for Figures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let same = |series: &Series| if let Series::Counter(c) = series { Some(c.clone()) } else { None };
        let found = self.series(key, || Series::Counter(Arc::default()), same);
        found.map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let same = |series: &Series| if let Series::Gauge(g) = series { Some(g.clone()) } else { None };
        let found = self.series(key, || Series::Gauge(Arc::default()), same);
        found.map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let same = |series: &Series| if let Series::Histogram(h) = series { Some(h.clone()) } else { None };
        let found = self.series(key, || Series::Histogram(Arc::default()), same);
        found.map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

#[derive(Default)]
struct Sums(Mutex<Option<Samples>>);

impl HistogramFn for Sums {
    fn record(&self, value: f64) {
        // An infinite or undefined value would make the sum useless.
        if !value.is_finite() {
            return;
        }
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sums.unwrap_or(Samples { count: 0, sum: 0.0, min: value, max: value });
        *sums = Some(Samples {
            count: before.count + 1,
            sum: before.sum + value,
            min: before.min.min(value),
            max: before.max.max(value),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_taken_once_and_none_is_lost_among_threads() {
        let figures = Figures::new(|name| name != "unwanted");
        let count = |figures: &[Figure]| -> u64 {
            figures
                .iter()
                .map(|f| match f.value {
                    Value::Count(n) => n,
                    Value::Samples(s) => s.count,
                    Value::Level(_) => 0,
                })
                .sum()
        };
        let mut taken = 0;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    metrics::with_local_recorder(&figures, || {
                        for n in 0..5_000 {
                            metrics::counter!("done", "stage" => "a").increment(1);
                            metrics::counter!("unwanted").increment(1);
                            metrics::histogram!("took").record(f64::from(n % 10));
                            metrics::gauge!("left").set(f64::from(n));
                        }
                    });
                });
            }
            for _ in 0..200 {
                taken += count(&figures.take());
                std::thread::yield_now();
            }
        });
        let last = figures.take();
        assert_eq!(taken + count(&last), 4 * 5_000 * 2);
        assert!(last.iter().any(|f| f.name == "left" && f.value == Value::Level(4_999.0)), "{last:?}");
        assert_eq!(count(&figures.take()), 0);
    }

    #[test]
    fn samples_are_summed() {
        let figures = Figures::new(|_| true);
        metrics::with_local_recorder(&figures, || {
            [2.0, 0.5, f64::NAN, 4.0].iter().for_each(|n| metrics::histogram!("took").record(*n));
        });
        let expected = Value::Samples(Samples { count: 3, sum: 6.5, min: 0.5, max: 4.0 });
        assert_eq!(figures.take()[0].value, expected);
        assert_eq!(figures.take(), []);
    }
}
