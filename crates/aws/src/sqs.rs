//! Receives, hides, deletes and sends messages of SQS queues.
//!
//! A received message is hidden for a limited time. If it is not deleted during this time, SQS delivers it again.
//! Messages are therefore delivered at least once, and in any order. SQS counts the deliveries of each message. If
//! the queue has a redrive policy, SQS moves a message to the dead-letter queue after too many deliveries.
//!
//! A queue whose name ends in `.fifo` delivers the messages of a group in order. While one message of a group is
//! hidden, SQS delivers no other message of this group. This client sends each message with its own group, so that no
//! message delays another. No consumer depends on the order of messages.
//!
//! Every call except [`Queue::receive`] is safe to repeat. If the reply to a receive call is lost, the received
//! messages stay hidden until their visibility timeout ends.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName, QueueAttributeName};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::timeout::TimeoutConfig;
use serde_json::{Value, json};

use crate::access::{Aws, count, fault_of};
use crate::fault::{Fault, FaultKind, kind};

/// Largest number of messages that one call receives or deletes.
pub const MOST: usize = 10;
/// Maximum time for which one call waits for a message.
pub const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Maximum time for which a message can be hidden, counted from the moment it was received.
pub const LONGEST_HIDDEN: Duration = Duration::from_secs(12 * 3_600);
/// Maximum delivery delay of a sent message.
const LONGEST_DELAY: Duration = Duration::from_secs(900);

/// Sends calls to SQS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sqs {
    client: Client,
    aws: Aws,
}

/// Sends and receives messages of one queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    sqs: Sqs,
    url: String,
}

/// Holds a received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    pub body: String,
    /// Receipt handle of this message. Calls that delete or hide the message need this handle.
    pub receipt: String,
    /// Number of times that this message has been received, including this time.
    pub receives: u32,
}

/// Describes a redrive policy. If a message was received too often, SQS moves the message to the dead-letter queue
/// that this policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// ARN of the dead-letter queue.
    pub dead_letters: String,
    /// Number of times that a message can be received before SQS moves it to the dead-letter queue.
    pub receives: u32,
}

impl Redrive {
    /// Returns the name of the dead-letter queue.
    pub fn name(&self) -> &str {
        self.dead_letters.rsplit(':').next().unwrap_or_default()
    }

    /// Returns the id of the account that owns the dead-letter queue, if its ARN states one.
    fn account(&self) -> Option<&str> {
        self.dead_letters.rsplit(':').nth(1).filter(|account| !account.is_empty())
    }
}

/// Describes a queue to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    pub name: String,
    /// Default time for which a received message is hidden. A receiver may choose another time.
    pub hidden: Duration,
    /// Time after which SQS deletes a message that no consumer has deleted.
    pub kept: Duration,
    pub redrive: Option<Redrive>,
}

/// Holds the attributes of an existing queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    pub arn: String,
    pub redrive: Option<Redrive>,
    /// Access policy of the queue, as JSON.
    pub policy: Option<String>,
    /// Approximate number of messages that can be received.
    pub waiting: u64,
    /// Approximate number of messages that were received and are hidden.
    pub hidden: u64,
}

impl Sqs {
    /// Creates a client for `endpoint`; empty means the shared AWS endpoint.
    pub fn new(aws: &Aws, endpoint: &str) -> Self {
        let mut config = Builder::from(&aws.sdk);
        if !endpoint.is_empty() {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()), aws: aws.clone() }
    }

    /// Returns a handle of the queue at `url`, without checking that the queue exists.
    pub fn at(&self, url: &str) -> Queue {
        Queue { sqs: self.clone(), url: url.to_owned() }
    }

    /// Returns the queue of this account with the given name, or `None` if no queue has this name.
    pub async fn find(&self, name: &str) -> Result<Option<Queue>, Fault> {
        self.find_in(name, None).await
    }

    /// Finds a queue by its name and the account that owns it; `None` means this account.
    async fn find_in(&self, name: &str, account: Option<&str>) -> Result<Option<Queue>, Fault> {
        let call = self.client.get_queue_url().queue_name(name);
        match done("GetQueueUrl", call.set_queue_owner_aws_account_id(account.map(str::to_owned)).send().await) {
            Ok(found) => Ok(found.queue_url.map(|url| self.at(&url))),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Returns the dead-letter queue that a redrive policy names, or `None` if it does not exist. It belongs to the account
    /// of the queue that has the policy, which may be another account than that of the credentials.
    pub async fn dead_letters(&self, redrive: &Redrive) -> Result<Option<Queue>, Fault> {
        self.find_in(redrive.name(), redrive.account()).await
    }

    /// Creates a queue. Succeeds if a queue with the same name and attributes already exists.
    pub async fn create(&self, spec: &QueueSpec) -> Result<Queue, Fault> {
        let seconds = |duration: Duration| duration.as_secs().to_string();
        let mut call = self
            .client
            .create_queue()
            .queue_name(&spec.name)
            .attributes(QueueAttributeName::VisibilityTimeout, seconds(spec.hidden))
            .attributes(QueueAttributeName::MessageRetentionPeriod, seconds(spec.kept));
        if is_fifo(&spec.name) {
            // Duplicates are detected by content, because senders such as EventBridge set no deduplication id.
            call = call.attributes(QueueAttributeName::FifoQueue, "true");
            call = call.attributes(QueueAttributeName::ContentBasedDeduplication, "true");
        }
        if let Some(redrive) = &spec.redrive {
            call = call.attributes(QueueAttributeName::RedrivePolicy, redrive.policy());
        }
        let url = done("CreateQueue", call.send().await)?.queue_url;
        let url = url.ok_or_else(|| Fault::new(FaultKind::Unknown, "no URL", "the server returned no queue URL"))?;
        Ok(self.at(&url))
    }
}

impl Redrive {
    fn policy(&self) -> String {
        json!({ "deadLetterTargetArn": self.dead_letters, "maxReceiveCount": self.receives }).to_string()
    }

    /// Parses a redrive policy from JSON. Returns `None` if the text is not a redrive policy.
    fn parse(policy: &str) -> Option<Self> {
        let policy: Value = serde_json::from_str(policy).ok()?;
        // People write the count as a number or as a string.
        let receives = match policy.get("maxReceiveCount")? {
            Value::String(text) => text.parse().ok()?,
            number => u32::try_from(number.as_u64()?).ok()?,
        };
        Some(Self { dead_letters: policy.get("deadLetterTargetArn")?.as_str()?.to_owned(), receives })
    }
}

impl Queue {
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the name of the queue, which is the last part of its URL.
    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }

    /// Receives up to `most` messages and hides each for the duration `hidden`. Waits up to `wait` for the first
    /// message. Returns an empty list if no message arrives in this time.
    pub async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Message>, Fault> {
        let wait = wait.min(LONGEST_WAIT);
        let attempt = Duration::from_secs_f64(self.sqs.aws.options.attempt_seconds) + wait;
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(attempt).build();
        let call = self
            .sqs
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(most.clamp(1, MOST)).unwrap_or(1))
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(hidden.min(LONGEST_HIDDEN)))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(Builder::new().timeout_config(timeouts));
        let received = done("ReceiveMessage", call.send().await)?.messages.unwrap_or_default();
        let message = |message: aws_sdk_sqs::types::Message| {
            let receives = message
                .attributes()
                .and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount))
                .and_then(|count| count.parse().ok());
            Some(Message {
                receives: receives.unwrap_or(1),
                id: message.message_id.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
                // A message without a receipt handle cannot be deleted or hidden. SQS delivers it again.
                receipt: message.receipt_handle?,
            })
        };
        Ok(received.into_iter().filter_map(message).collect())
    }

    /// Hides a message for the duration `hidden` from now on. A duration of zero makes the message available at once.
    pub async fn hide(&self, receipt: &str, hidden: Duration) -> Result<(), Fault> {
        let call = self.sqs.client.change_message_visibility().queue_url(&self.url).receipt_handle(receipt);
        let call = call.visibility_timeout(seconds(hidden.min(LONGEST_HIDDEN)));
        done("ChangeMessageVisibility", call.send().await).map(drop)
    }

    /// Deletes at most [`MOST`] messages, given by their receipt handles. Returns the handles of the messages that
    /// were not deleted, each with its error.
    pub async fn delete(&self, receipts: &[String]) -> Result<Vec<(String, Fault)>, Fault> {
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let entry = |(n, receipt): (usize, &String)| {
            DeleteMessageBatchRequestEntry::builder().id(n.to_string()).receipt_handle(receipt).build()
        };
        let entries = receipts.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(|e| Fault::new(FaultKind::Invalid, "not sent", e.to_string()))?;
        let call = self.sqs.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
        let failed = done("DeleteMessageBatch", call.send().await)?.failed;
        let failed = failed.into_iter().filter_map(|entry| {
            let receipt = receipts.get(entry.id.parse::<usize>().ok()?)?;
            // A fault of the service is temporary, so it is classified as status 503.
            let status = if entry.sender_fault { 400 } else { 503 };
            let fault = Fault::new(kind(&entry.code, status), entry.code, entry.message.unwrap_or_default());
            Some((receipt.clone(), fault))
        });
        Ok(failed.collect())
    }

    /// Sends a message that becomes available after `delay`. A FIFO queue ignores the delay, because SQS cannot delay
    /// single messages of such a queue.
    pub async fn send(&self, body: &str, delay: Duration) -> Result<(), Fault> {
        let call = self.sqs.client.send_message().queue_url(&self.url).message_body(body);
        let call = match is_fifo(self.name()) {
            true => {
                let own = format!("{:032x}", fastrand::u128(..));
                call.message_group_id(&own).message_deduplication_id(own)
            }
            false => call.delay_seconds(seconds(delay.min(LONGEST_DELAY))),
        };
        done("SendMessage", call.send().await).map(drop)
    }

    /// Returns the attributes of the queue, or `None` if the queue does not exist.
    pub async fn state(&self) -> Result<Option<QueueState>, Fault> {
        use QueueAttributeName as Name;
        let call = self.sqs.client.get_queue_attributes().queue_url(&self.url).attribute_names(Name::All);
        let found = match done("GetQueueAttributes", call.send().await) {
            Ok(found) => found.attributes.unwrap_or_default(),
            Err(fault) if fault.kind == FaultKind::NotFound => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let text = |name| found.get(&name).filter(|text| !text.is_empty()).cloned();
        let number = |name| found.get(&name).and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok(Some(QueueState {
            arn: text(Name::QueueArn).unwrap_or_default(),
            redrive: text(Name::RedrivePolicy).as_deref().and_then(Redrive::parse),
            policy: text(Name::Policy),
            waiting: number(Name::ApproximateNumberOfMessages),
            hidden: number(Name::ApproximateNumberOfMessagesNotVisible),
        }))
    }

    /// Replaces the access policy of the queue with `policy`, as JSON.
    pub async fn set_policy(&self, policy: &str) -> Result<(), Fault> {
        self.set(QueueAttributeName::Policy, policy.to_owned()).await
    }

    pub async fn set_redrive(&self, redrive: &Redrive) -> Result<(), Fault> {
        self.set(QueueAttributeName::RedrivePolicy, redrive.policy()).await
    }

    async fn set(&self, name: QueueAttributeName, value: String) -> Result<(), Fault> {
        let call = self.sqs.client.set_queue_attributes().queue_url(&self.url);
        let call = call.set_attributes(Some(HashMap::from([(name, value)])));
        done("SetQueueAttributes", call.send().await).map(drop)
    }
}

/// Returns whether a queue of this name is a FIFO queue.
pub fn is_fifo(name: &str) -> bool {
    name.ends_with(".fifo")
}

/// Converts a duration to whole seconds, rounded up.
fn seconds(duration: Duration) -> i32 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(whole).unwrap_or(i32::MAX)
}

/// Counts a call in the metrics and converts its error to a [`Fault`].
fn done<T, E>(operation: &'static str, result: Result<T, SdkError<E, HttpResponse>>) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    count("sqs", operation, result.is_err());
    result.map_err(|error| fault_of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_policy_is_read_as_people_and_services_write_it() {
        let redrive = Redrive { dead_letters: "arn:aws:sqs:eu-central-1:1:dead".into(), receives: 5 };
        assert_eq!(Redrive::parse(&redrive.policy()), Some(redrive.clone()));
        let quoted = redrive.policy().replace(":5", ":\"5\"");
        assert_eq!(Redrive::parse(&quoted), Some(redrive), "{quoted}");
        for none in
            ["", "{}", "[]", r#"{"maxReceiveCount": 5}"#, r#"{"deadLetterTargetArn": "a", "maxReceiveCount": "x"}"#]
        {
            assert_eq!(Redrive::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_part_of_a_second_is_a_whole_one() {
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(20)), 20);
    }
}
