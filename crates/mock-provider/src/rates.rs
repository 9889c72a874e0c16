//! Limits requests and tokens per minute for each key and model.
//!
//! Each budget is a bucket that starts full and refills continuously. A request that is refused because of the token
//! limit uses up one request but no tokens. A request that is refused because of the request limit uses up nothing. If
//! it used up a request, the refused retries of several clients could keep the request budget empty forever. A request
//! with more tokens than the bucket can hold is admitted when the bucket is full, and leaves a negative level. A
//! request with more tokens than the limit per minute is always refused.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::millis;
use crate::options;
use crate::problem::Problem;

/// Amount by which a budget may fall short of a request that is still admitted. This tolerance covers rounding errors,
/// because the client was asked to wait for a rounded number of milliseconds.
const SLACK: f64 = 1e-6;

#[derive(Debug)]
struct Bucket {
    limit: u64,
    capacity: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    fn new(limit: u64, burst_share: f64, now: Duration) -> Self {
        let capacity = (limit as f64 * burst_share.clamp(0.0, 1.0)).max(1.0);
        Self { limit, capacity, level: capacity, at: now }
    }

    fn per_second(&self) -> f64 {
        (self.limit as f64 / 60.0).max(1e-9)
    }

    /// Takes an amount, or returns the wait until enough is available.
    fn take(&mut self, amount: u64, now: Duration) -> Result<(), Duration> {
        self.refill(now);
        let needed = (amount as f64).min(self.capacity);
        if self.level + SLACK < needed {
            return Err(Duration::from_secs_f64((needed - self.level) / self.per_second()));
        }
        self.level -= amount as f64;
        Ok(())
    }

    fn refill(&mut self, now: Duration) {
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.per_second();
        self.level = (self.level + gained).min(self.capacity);
        self.at = self.at.max(now);
    }

    fn remaining(&self) -> u64 {
        // A negative level counts as nothing left; the cast turns it into 0.
        (self.level + SLACK).floor() as u64
    }

    fn reset(&self) -> Duration {
        Duration::from_secs_f64((self.capacity - self.level).max(0.0) / self.per_second())
    }
}

#[derive(Debug)]
struct Pair {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// Holds the buckets of all keys and models. The caller passes in the time, measured from any fixed moment.
#[derive(Debug)]
pub struct Buckets {
    rates: options::Rates,
    pairs: HashMap<(String, String), Pair>,
}

impl Buckets {
    pub fn new(rates: options::Rates) -> Self {
        Self { rates, pairs: HashMap::new() }
    }

    fn pair(&mut self, key: &str, model: &str, now: Duration) -> &mut Pair {
        let rates = &self.rates;
        self.pairs.entry((key.into(), model.into())).or_insert_with(|| Pair {
            requests: rates.requests_per_minute.map(|n| Bucket::new(n, rates.burst_share, now)),
            tokens: rates.tokens_per_minute.map(|n| Bucket::new(n, rates.burst_share, now)),
        })
    }

    /// Takes one request from the budget.
    pub fn request(&mut self, key: &str, model: &str, now: Duration) -> Result<(), Problem> {
        let pair = self.pair(key, model, now);
        let Some(bucket) = &mut pair.requests else { return Ok(()) };
        match bucket.take(1, now) {
            Ok(()) => Ok(()),
            Err(wait) => {
                let (limit, used) = (bucket.limit, bucket.limit.saturating_sub(bucket.remaining()));
                let text = refusal(model, "requests per min (RPM)", limit, used, 1, wait);
                Err(limited("requests", text, Some(wait), pair))
            }
        }
    }

    /// Takes tokens from the budget, and returns the headers of the reply.
    pub fn tokens(
        &mut self,
        key: &str,
        model: &str,
        amount: u64,
        now: Duration,
    ) -> Result<Vec<(&'static str, String)>, Problem> {
        let pair = self.pair(key, model, now);
        let Some(bucket) = &mut pair.tokens else { return Ok(headers(pair)) };
        if amount > bucket.limit {
            let text = format!(
                "Request too large for {model} in organization org-mock on tokens per min (TPM): Limit {}, \
                 Requested {amount}. The input or output tokens must be reduced in order to run successfully.",
                bucket.limit
            );
            return Err(limited("tokens", text, None, pair));
        }
        match bucket.take(amount, now) {
            Ok(()) => Ok(headers(pair)),
            Err(wait) => {
                let (limit, used) = (bucket.limit, bucket.limit.saturating_sub(bucket.remaining()));
                let text = refusal(model, "tokens per min (TPM)", limit, used, amount, wait);
                Err(limited("tokens", text, Some(wait), pair))
            }
        }
    }
}

fn refusal(model: &str, what: &str, limit: u64, used: u64, asked: u64, wait: Duration) -> String {
    format!(
        "Rate limit reached for {model} in organization org-mock on {what}: Limit {limit}, Used {used}, Requested \
         {asked}. Please try again in {}. Visit https://platform.openai.com/account/rate-limits to learn more.",
        written(wait)
    )
}

fn limited(kind: &'static str, message: String, wait: Option<Duration>, pair: &Pair) -> Problem {
    let mut problem = Problem::new(429, message).kind(kind).code("rate_limit_exceeded").retry_after(wait);
    problem.headers = headers(pair);
    problem
}

fn headers(pair: &Pair) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(bucket) = &pair.requests {
        out.push(("x-ratelimit-limit-requests", bucket.limit.to_string()));
        out.push(("x-ratelimit-remaining-requests", bucket.remaining().to_string()));
        out.push(("x-ratelimit-reset-requests", written(bucket.reset())));
    }
    if let Some(bucket) = &pair.tokens {
        out.push(("x-ratelimit-limit-tokens", bucket.limit.to_string()));
        out.push(("x-ratelimit-remaining-tokens", bucket.remaining().to_string()));
        out.push(("x-ratelimit-reset-tokens", written(bucket.reset())));
    }
    out
}

/// Formats a duration as OpenAI does: `0s`, `120ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`.
pub fn written(duration: Duration) -> String {
    let all = millis(duration) + u64::from(!duration.subsec_nanos().is_multiple_of(1_000_000));
    if all > 0 && all < 1000 {
        return format!("{all}ms");
    }
    let (minutes, rest) = (all / 60_000, all % 60_000);
    let mut seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn buckets(requests: u64, tokens: u64, burst_share: f64) -> Buckets {
        let (requests_per_minute, tokens_per_minute) = (Some(requests), Some(tokens));
        Buckets::new(options::Rates { requests_per_minute, tokens_per_minute, burst_share })
    }

    fn header(headers: &[(&str, String)], name: &str) -> String {
        headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()).unwrap()
    }

    #[test]
    fn durations_are_written_like_openai_does() {
        for (ms, text) in [
            (0, "0s"),
            (120, "120ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (10_000, "10s"),
            (60_000, "1m0s"),
            (90_500, "1m30.5s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(written(at(ms)), text);
        }
        assert_eq!(written(Duration::from_micros(1)), "1ms", "never too early");
    }

    #[test]
    fn a_minute_may_be_used_at_once_and_comes_back_bit_by_bit() {
        let mut buckets = buckets(3, 6_000, 1.0);
        for _ in 0..3 {
            buckets.request("k", "m", at(0)).unwrap();
        }
        let refused = buckets.request("k", "m", at(5_000)).unwrap_err();
        assert_eq!((refused.status, refused.code, refused.kind), (429, Some("rate_limit_exceeded"), "requests"));
        assert_eq!(refused.retry_after, Some(at(15_000)));
        buckets.request("k", "m", at(20_000)).unwrap();
        buckets.request("other", "m", at(20_000)).unwrap();
        buckets.request("k", "other", at(20_000)).unwrap();
    }

    #[test]
    fn refused_tokens_are_not_used() {
        let mut buckets = buckets(100, 6_000, 1.0);
        let headers = buckets.tokens("k", "m", 5_000, at(0)).unwrap();
        assert_eq!(header(&headers, "x-ratelimit-limit-tokens"), "6000");
        assert_eq!(header(&headers, "x-ratelimit-remaining-tokens"), "1000");
        assert_eq!(header(&headers, "x-ratelimit-reset-tokens"), "50s");
        for _ in 0..3 {
            let refused = buckets.tokens("k", "m", 3_000, at(0)).unwrap_err();
            assert_eq!((refused.kind, refused.retry_after), ("tokens", Some(at(20_000))));
            assert_eq!(header(&refused.headers, "x-ratelimit-remaining-tokens"), "1000");
        }
        buckets.tokens("k", "m", 3_000, at(20_000)).unwrap();
    }

    #[test]
    fn more_than_a_minute_never_passes_and_more_than_a_burst_does_in_the_end() {
        let mut buckets = buckets(100, 6_000, 0.1);
        assert_eq!(buckets.tokens("k", "m", 6_001, at(0)).unwrap_err().retry_after, None);
        buckets.tokens("k", "m", 3_000, at(0)).unwrap();
        let refused = buckets.tokens("k", "m", 100, at(0)).unwrap_err();
        assert_eq!(refused.retry_after, Some(at(25_000)), "2,400 of debt and 100 to take, at 100 a second");
        buckets.tokens("k", "m", 100, at(25_000)).unwrap();
    }

    #[test]
    fn no_limit_has_no_headers() {
        let mut buckets = Buckets::new(options::Rates::default());
        buckets.request("k", "m", at(0)).unwrap();
        assert_eq!(buckets.tokens("k", "m", u64::MAX, at(0)).unwrap(), []);
    }
}
