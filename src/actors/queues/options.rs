//! Defines the options for receiving messages from SQS queues.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueOptions {
    /// Queue of bucket events, as a URL or name. `docweir serve` ingests the objects that the events name. If empty,
    /// no events are received. S3 sends events only to standard queues. To send events to a FIFO queue (`NAME.fifo`),
    /// set up a rule of EventBridge; `docweir infra` does not create one.
    pub intake: String,
    /// Queue of requests to merge vector files, as a URL or name. `docweir serve` fulfils the requests. If empty, no
    /// requests are received or sent.
    pub compaction: String,
    /// Endpoint of SQS. If empty, `aws.endpoint` is used; if both are empty, AWS's own endpoint.
    pub endpoint: String,
    /// Locations where documents arrive, each as `BUCKET/PREFIX/`. Events about objects elsewhere are ignored. If the
    /// list is empty, the only location is the folder `input/` in `buckets.artefacts`.
    pub watch: Vec<String>,
    /// If true, the deletion of an object in the bucket also removes the object's document from the index.
    pub follow_removals: bool,
    /// If true, no merge request is sent after vector files were added. If false, a request is sent to the queue
    /// `queues.compaction`, provided that this key is set and the control records are in DynamoDB.
    pub skip_notification: bool,
    /// Maximum number of event messages that are handled at the same time. Messages that wait for an unavailable service
    /// do not count. A larger number registers objects faster but
    /// uses more memory.
    pub messages: usize,
    /// Number of pending documents from which no further messages are received. A message is acknowledged once its
    /// documents are registered, so this bounds the documents that wait in the control store.
    pub max_pending: usize,
    /// Maximum time that one call waits for messages, in seconds. With a longer time, fewer calls are paid for.
    pub wait_seconds: u64,
    /// Time, in seconds, for which a received message is hidden from other consumers. While the message is being
    /// handled, this time is extended repeatedly. If the process dies, the queue delivers the message again after
    /// this time.
    pub hidden_seconds: u64,
    /// Maximum time, in seconds, that a message is held while S3 or DynamoDB is unavailable. After this time, the
    /// message is returned to the queue.
    pub hold_seconds: u64,
    /// Number of times that a failing message is received before it moves to the dead-letter queue (`docweir infra
    /// apply` sets this up). Without a dead-letter queue, the message is then deleted.
    pub max_receives: u32,
    /// Wait after the first failed call to a queue, in seconds. Each consecutive failure doubles the wait.
    pub backoff_initial_seconds: f64,
    /// Maximum wait after a failed call to a queue, in seconds.
    pub backoff_max_seconds: f64,
    /// Number of days that dead-letter queues keep a message. Applies only to queues that `docweir infra apply`
    /// creates.
    pub dead_letter_days: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            intake: String::new(),
            compaction: String::new(),
            endpoint: String::new(),
            watch: Vec::new(),
            follow_removals: false,
            skip_notification: false,
            messages: 20,
            max_pending: 1_000,
            wait_seconds: 20,
            hidden_seconds: 120,
            hold_seconds: 39_600,
            max_receives: 5,
            backoff_initial_seconds: 1.0,
            backoff_max_seconds: 60.0,
            dead_letter_days: 14,
        }
    }
}

impl QueueOptions {
    /// Returns each field that is out of range, together with an error message.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("messages", self.messages as f64, 1.0, 1_000.0);
        range("max_pending", self.max_pending as f64, 1.0, 100_000.0);
        // Without a wait, calls would follow each other immediately, and each call costs money.
        range("wait_seconds", self.wait_seconds as f64, 1.0, 20.0);
        range("hidden_seconds", self.hidden_seconds as f64, 3.0, 43_200.0);
        // SQS hides a message for at most twelve hours after its receipt.
        range("hold_seconds", self.hold_seconds as f64, 1.0, 42_000.0);
        range("max_receives", f64::from(self.max_receives), 1.0, 1_000.0);
        range("backoff_initial_seconds", self.backoff_initial_seconds, 0.01, 3_600.0);
        range("backoff_max_seconds", self.backoff_max_seconds, self.backoff_initial_seconds.max(0.01), 3_600.0);
        range("dead_letter_days", f64::from(self.dead_letter_days), 1.0, 14.0);
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with `http://` or `https://`".into()));
        }
        for (field, queue) in [("intake", &self.intake), ("compaction", &self.compaction)] {
            let letters = queue.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            if !(queue.starts_with("http") || letters && queue.len() <= 80) {
                found.push((field, "must be empty, or the URL or name of a queue".into()));
            }
        }
        if !self.intake.is_empty() && self.intake == self.compaction {
            found.push(("compaction", "must differ from `queues.intake`".into()));
        }
        if self.watch.iter().any(|place| place.contains("://") || place.split('/').next().is_none_or(str::is_empty)) {
            found.push(("watch", "must contain locations as `BUCKET/PREFIX/`".into()));
        }
        found
    }

    /// Returns the configured queues, each as a URL or name.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        [&self.intake, &self.compaction].into_iter().map(String::as_str).filter(|queue| !queue.is_empty())
    }

    /// Returns the names of the configured queues.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.addresses().map(queue_name)
    }

    /// Returns the bucket and prefix of each location where documents arrive. `artefacts` is the location of
    /// artefacts, as `BUCKET/PREFIX`.
    pub fn watched(&self, artefacts: &str) -> Vec<(String, String)> {
        let split = |place: &str| {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            (bucket.to_owned(), prefix.to_owned())
        };
        if self.watch.is_empty() {
            let place = artefacts.trim_end_matches('/');
            return if place.is_empty() { Vec::new() } else { vec![split(&format!("{place}/input/"))] };
        }
        self.watch.iter().map(|place| split(place)).collect()
    }
}

/// Returns the name of a queue that is given by its URL or name.
pub fn queue_name(queue: &str) -> &str {
    queue.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(QueueOptions::default().problems(), []);
        let wrong = QueueOptions {
            intake: "a b".into(),
            compaction: "https://sqs.eu-central-1.amazonaws.com/1/x".into(),
            endpoint: "localhost".into(),
            watch: vec!["s3://b/in/".into()],
            messages: 0,
            wait_seconds: 21,
            hidden_seconds: 1,
            hold_seconds: 43_200,
            max_receives: 0,
            backoff_initial_seconds: 2.0,
            backoff_max_seconds: 1.0,
            dead_letter_days: 15,
            ..QueueOptions::default()
        };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        let all = [
            "messages",
            "wait_seconds",
            "hidden_seconds",
            "hold_seconds",
            "max_receives",
            "backoff_max_seconds",
            "dead_letter_days",
            "endpoint",
            "intake",
            "watch",
        ];
        assert_eq!(fields, all);
        let both = QueueOptions { intake: "one".into(), compaction: "one".into(), ..QueueOptions::default() };
        assert_eq!(both.problems().len(), 1);
    }

    #[test]
    fn documents_arrive_below_input_unless_it_is_said_otherwise() {
        let of = |watch: &[&str], artefacts: &str| {
            let watch = watch.iter().map(|w| (*w).to_owned()).collect();
            QueueOptions { watch, ..QueueOptions::default() }.watched(artefacts)
        };
        let pair = |bucket: &str, prefix: &str| (bucket.to_owned(), prefix.to_owned());
        assert_eq!(of(&[], "docs"), [pair("docs", "input/")]);
        assert_eq!(of(&[], "docs/team/"), [pair("docs", "team/input/")]);
        assert_eq!(of(&[], ""), []);
        assert_eq!(of(&["a", "b/in/"], "docs"), [pair("a", ""), pair("b", "in/")]);
        assert_eq!(queue_name("https://sqs.eu-central-1.amazonaws.com/1/x"), "x");
        assert_eq!(queue_name("x"), "x");
    }
}
