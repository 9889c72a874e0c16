//! Counts and publishes the metrics of a pool. By Prometheus convention, the metrics are named
//! `docweir_pool_<thing>_<unit>[_total]{pool="…"}`.

use std::sync::Arc;
use std::time::Duration;

use docweir_core::error::{ErrorClass, StageError};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::stats::{Counts, PoolStats};

/// Metrics of pools. Each entry gives the name, kind and description of one metric.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("docweir_pool_jobs_done_total", "counter", "number of jobs that a pool finished"),
    ("docweir_pool_attempts_failed_total", "counter", "number of failed attempts, by class of the error"),
    ("docweir_pool_jobs_quarantined_total", "counter", "number of jobs that were quarantined"),
    ("docweir_pool_jobs_parked_total", "counter", "number of jobs that were parked until a time or an event"),
    ("docweir_pool_jobs_fenced_total", "counter", "number of jobs that were dropped because another process owns them"),
    ("docweir_pool_worker_restarts_total", "counter", "number of restarts of workers that had died"),
    ("docweir_pool_worker_hangs_total", "counter", "number of workers replaced because they exceeded a deadline"),
    ("docweir_pool_job_seconds", "histogram", "duration of one attempt"),
    ("docweir_pool_blocked_seconds", "histogram", "time that a finished job waited for room in the next pool"),
    ("docweir_pool_queued_jobs", "gauge", "number of jobs that wait for a worker"),
    ("docweir_pool_in_flight_jobs", "gauge", "number of jobs in the pool, in any phase"),
    ("docweir_pool_in_flight_bytes", "gauge", "memory of all jobs in the pool, in bytes"),
    ("docweir_pool_oldest_queued_seconds", "gauge", "waiting time of the oldest queued job"),
    ("docweir_pool_workers", "gauge", "number of running workers"),
    ("docweir_pool_busy_workers", "gauge", "number of workers that run a job now"),
];

/// Registers the descriptions of metrics with the installed metrics recorder.
pub fn describe(metrics: &[(&'static str, &'static str, &'static str)]) {
    for (name, kind, meaning) in metrics {
        match *kind {
            "counter" => metrics::describe_counter!(*name, *meaning),
            "gauge" => metrics::describe_gauge!(*name, *meaning),
            _ => metrics::describe_histogram!(*name, *meaning),
        }
    }
}

pub(super) struct PoolMetrics {
    pub counts: Counts,
    pool: Arc<str>,
    done: Counter,
    quarantined: Counter,
    parked: Counter,
    fenced: Counter,
    restarts: Counter,
    hangs: Counter,
    job: Histogram,
    blocked: Histogram,
    gauges: [Gauge; 6],
}

impl PoolMetrics {
    pub fn new(pool: &Arc<str>) -> Self {
        let label = || [("pool", pool.to_string())];
        Self {
            counts: Counts::default(),
            done: counter!("docweir_pool_jobs_done_total", &label()),
            quarantined: counter!("docweir_pool_jobs_quarantined_total", &label()),
            parked: counter!("docweir_pool_jobs_parked_total", &label()),
            fenced: counter!("docweir_pool_jobs_fenced_total", &label()),
            restarts: counter!("docweir_pool_worker_restarts_total", &label()),
            hangs: counter!("docweir_pool_worker_hangs_total", &label()),
            job: histogram!("docweir_pool_job_seconds", &label()),
            blocked: histogram!("docweir_pool_blocked_seconds", &label()),
            gauges: [
                gauge!("docweir_pool_queued_jobs", &label()),
                gauge!("docweir_pool_in_flight_jobs", &label()),
                gauge!("docweir_pool_in_flight_bytes", &label()),
                gauge!("docweir_pool_oldest_queued_seconds", &label()),
                gauge!("docweir_pool_workers", &label()),
                gauge!("docweir_pool_busy_workers", &label()),
            ],
            pool: pool.clone(),
        }
    }

    pub fn done(&mut self) {
        self.counts.done += 1;
        self.done.increment(1);
    }

    pub fn failed(&mut self, error: &StageError) {
        let class = match error.class {
            ErrorClass::Throttled => {
                self.counts.throttled += 1;
                "throttled"
            }
            ErrorClass::System => "system",
            ErrorClass::Unavailable => "unavailable",
            ErrorClass::Transient => "transient",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Crash => "crash",
            ErrorClass::Permanent => "permanent",
        };
        if !matches!(error.class, ErrorClass::Throttled | ErrorClass::System | ErrorClass::Unavailable) {
            self.counts.failed += 1;
        }
        counter!("docweir_pool_attempts_failed_total", "pool" => self.pool.to_string(), "class" => class).increment(1);
    }

    pub fn quarantined(&mut self) {
        self.counts.quarantined += 1;
        self.quarantined.increment(1);
    }

    pub fn parked(&mut self) {
        self.counts.parked += 1;
        self.parked.increment(1);
    }

    pub fn released(&mut self) {
        self.counts.released += 1;
    }

    pub fn fenced(&mut self) {
        self.counts.fenced += 1;
        self.fenced.increment(1);
    }

    pub fn restarted(&mut self) {
        self.counts.restarts += 1;
        self.restarts.increment(1);
    }

    pub fn escalated(&mut self) {
        self.counts.escalations += 1;
    }

    pub fn hung(&mut self) {
        self.counts.hung += 1;
        self.hangs.increment(1);
    }

    pub fn abandoned(&mut self) {
        self.counts.abandoned += 1;
    }

    pub fn job_seconds(&mut self, took: Duration) {
        self.counts.job_seconds += took.as_secs_f64();
        self.job.record(took.as_secs_f64());
    }

    pub fn blocked_seconds(&mut self, took: Duration) {
        self.counts.blocked_seconds += took.as_secs_f64();
        self.blocked.record(took.as_secs_f64());
    }

    pub fn gauges(&self, stats: &PoolStats) {
        let values = [
            stats.queued as f64,
            stats.in_flight as f64,
            stats.bytes as f64,
            stats.oldest_queued_seconds,
            stats.workers as f64,
            stats.busy as f64,
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value);
        }
    }
}
