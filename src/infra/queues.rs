//! Manages the configured queues and their dead-letter queues, and configures buckets to send notifications to the
//! event queue.
//!
//! S3 sends events only to standard queues. A FIFO queue receives events from an EventBridge rule, which Docweir does
//! not manage.

use std::time::Duration;

use docweir_aws::s3::{Bucket, QueueNotification, S3};
use docweir_aws::sqs::{Queue, QueueSpec, QueueState, Redrive, Sqs, is_fifo};
use docweir_aws::{Aws, Fault, FaultKind};
use docweir_core::documents::Sha256Hex;

use super::queue_policy::with_leave;
use super::{RequiredResource, State};
use crate::actors::queues::{QueueOptions, queue_name};
use crate::config::Settings;

/// Kinds of events that a bucket must send.
const EVENTS: [&str; 3] = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"];
/// Time for which a queue keeps unread messages.
const KEPT: Duration = Duration::from_secs(14 * 86_400);

pub struct QueueInfra {
    sqs: Sqs,
    options: QueueOptions,
    /// Names of the queues. If there is an event queue, its name is the first.
    names: Vec<String>,
    /// Buckets and prefixes that receive documents.
    places: Vec<(Bucket, String)>,
}

impl QueueInfra {
    pub fn of(settings: &Settings, aws: &Aws, s3: &S3) -> Self {
        let options = settings.queues.clone();
        let names = options.named().map(str::to_owned).collect();
        let tells = !options.intake.is_empty() && !is_fifo(queue_name(&options.intake));
        let watched = if tells { options.watched(&settings.buckets.artefacts) } else { Vec::new() };
        let places = watched.into_iter().map(|(bucket, prefix)| (s3.bucket(&bucket), prefix)).collect();
        Self { sqs: Sqs::new(aws, &options.endpoint), options, names, places }
    }

    pub async fn look(&self) -> Result<Vec<RequiredResource>, Fault> {
        let mut things = Vec::new();
        for name in &self.names {
            let found = self.state(name).await?;
            let state = match found.as_ref().map(|(_, state)| &state.redrive) {
                None => State::Missing(format!("create the queue and its dead-letter queue {}", dead_letters(name))),
                Some(None) => State::Missing(format!("set the dead-letter queue {}", dead_letters(name))),
                Some(Some(_)) => State::Correct,
            };
            things.push(RequiredResource { kind: "queue", name: name.clone(), state, note: None });
        }
        for (bucket, prefix) in &self.places {
            let name = format!("{}/{prefix}", bucket.name());
            let state = self.telling(bucket, prefix).await?;
            things.push(RequiredResource { kind: "events", name, state, note: None });
        }
        Ok(things)
    }

    pub async fn apply(&self) -> Result<(), Fault> {
        for name in &self.names {
            let found = self.state(name).await?;
            if found.as_ref().is_some_and(|(_, state)| state.redrive.is_some()) {
                continue;
            }
            let redrive = Redrive { dead_letters: self.dead_letters(name).await?, receives: self.options.max_receives };
            match found {
                Some((queue, _)) => queue.set_redrive(&redrive).await?,
                None => {
                    let hidden = Duration::from_secs(self.options.hidden_seconds);
                    let spec = QueueSpec { name: name.clone(), hidden, kept: KEPT, redrive: Some(redrive) };
                    self.sqs.create(&spec).await?;
                }
            }
        }
        for (bucket, prefix) in &self.places {
            self.tell(bucket, prefix).await?;
        }
        Ok(())
    }

    async fn state(&self, name: &str) -> Result<Option<(Queue, QueueState)>, Fault> {
        let Some(queue) = self.sqs.find(name).await? else { return Ok(None) };
        Ok(queue.state().await?.map(|state| (queue, state)))
    }

    /// Returns the ARN of a queue's dead-letter queue. Creates the dead-letter queue if it does not exist.
    async fn dead_letters(&self, name: &str) -> Result<String, Fault> {
        let name = dead_letters(name);
        let found = match self.state(&name).await? {
            Some((_, state)) => state,
            None => {
                let kept = Duration::from_secs(u64::from(self.options.dead_letter_days) * 86_400);
                let spec = QueueSpec { name: name.clone(), hidden: Duration::from_secs(30), kept, redrive: None };
                let made = self.sqs.create(&spec).await?.state().await?;
                made.ok_or_else(|| Fault::new(FaultKind::Unknown, "not available yet", format!("the queue {name}")))?
            }
        };
        Ok(found.arn)
    }

    /// Returns the event queue and its state.
    async fn events(&self) -> Result<Option<(Queue, QueueState)>, Fault> {
        match self.names.first() {
            Some(name) => self.state(name).await,
            None => Ok(None),
        }
    }

    /// Checks two things: whether a bucket is configured to send its events to the event queue, and whether the
    /// policy of the queue permits this.
    async fn telling(&self, bucket: &Bucket, prefix: &str) -> Result<State, Fault> {
        let missing = |what: &str| Ok(State::Missing(what.to_owned()));
        let Some((_, queue)) = self.events().await? else { return missing("send events to the queue") };
        if with_leave(queue.policy.as_deref(), &queue.arn, bucket.name()).is_some() {
            return missing("allow the bucket to send events to the queue, and send them");
        }
        let there = match bucket.queue_notifications().await {
            Ok(there) => there,
            Err(fault) if fault.kind == FaultKind::NotFound => return missing("send events to the queue"),
            Err(fault) => return Err(fault),
        };
        match there.iter().any(|told| serves(told, &queue.arn, prefix)) {
            true => Ok(State::Correct),
            false => missing("send events to the queue"),
        }
    }

    /// Configures a bucket to send its events to the event queue. The permission to send is granted first, because S3
    /// refuses a configuration without this permission.
    async fn tell(&self, bucket: &Bucket, prefix: &str) -> Result<(), Fault> {
        if self.telling(bucket, prefix).await? == State::Correct {
            return Ok(());
        }
        let Some((queue, state)) = self.events().await? else { return Ok(()) };
        if let Some(policy) = with_leave(state.policy.as_deref(), &state.arn, bucket.name()) {
            queue.set_policy(&policy).await?;
        }
        let digest = Sha256Hex::of(prefix.as_bytes());
        let notification = QueueNotification {
            // The id depends only on the prefix, so the next `apply` replaces this notification.
            id: format!("docweir-{}", digest.as_str().get(..12).unwrap_or_default()),
            queue: state.arn,
            prefix: prefix.to_owned(),
            suffix: String::new(),
            events: EVENTS.map(str::to_owned).into(),
        };
        bucket.put_queue_notification(&notification).await
    }
}

/// Returns the name of the dead-letter queue of the queue `name`.
pub fn dead_letters(name: &str) -> String {
    match name.strip_suffix(".fifo") {
        Some(name) => format!("{name}-dead.fifo"),
        None => format!("{name}-dead"),
    }
}

/// Returns whether a configured notification covers all required events. The events are those of all objects below
/// `prefix`, and they must go to `queue`.
fn serves(told: &QueueNotification, queue: &str, prefix: &str) -> bool {
    let covers = |event: &&str| {
        let kind = event.trim_end_matches('*');
        told.events.iter().any(|e| e == event || e.strip_suffix('*').is_some_and(|wide| kind.starts_with(wide)))
    };
    told.queue == queue && told.suffix.is_empty() && prefix.starts_with(&told.prefix) && EVENTS.iter().all(covers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_notification_serves_and_a_narrower_one_does_not() {
        let told = |prefix: &str, suffix: &str, events: &[&str]| QueueNotification {
            id: "x".into(),
            queue: "q".into(),
            prefix: prefix.into(),
            suffix: suffix.into(),
            events: events.iter().map(|e| (*e).to_owned()).collect(),
        };
        let table = [
            (told("input/", "", &EVENTS), true),
            (told("", "", &EVENTS), true),
            (told("in", "", &["s3:*"]), true),
            (told("input/a/", "", &EVENTS), false),
            (told("input/", ".pdf", &EVENTS), false),
            (told("input/", "", &["s3:ObjectCreated:*"]), false),
            (told("input/", "", &["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]), false),
            (told("input/", "", &["s3:ObjectCreated:Put", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"]), false),
        ];
        for (told, right) in table {
            assert_eq!(serves(&told, "q", "input/"), right, "{told:?}");
            assert!(!serves(&told, "other", "input/"));
        }
        assert_eq!((dead_letters("a").as_str(), dead_letters("a.fifo").as_str()), ("a-dead", "a-dead.fifo"));
    }
}
