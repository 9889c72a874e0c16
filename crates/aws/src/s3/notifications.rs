//! Configures which events of a bucket are sent to which queue.

use aws_sdk_s3::types::{
    Event, FilterRule, FilterRuleName, NotificationConfiguration, NotificationConfigurationFilter, QueueConfiguration,
    S3KeyFilter,
};
use aws_smithy_types::error::operation::BuildError;

use super::Bucket;
use crate::{Fault, FaultKind};

/// Describes which events of a bucket are sent to which queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueNotification {
    /// Id of the notification configuration, unique in the bucket.
    pub id: String,
    /// ARN of the queue that receives the events.
    pub queue: String,
    /// Prefix of the keys whose events are sent.
    pub prefix: String,
    /// Suffix of the keys whose events are sent; empty means all keys.
    pub suffix: String,
    /// Event types, such as `s3:ObjectCreated:*`.
    pub events: Vec<String>,
}

impl Bucket {
    /// Returns all configurations that send events of this bucket to queues.
    pub async fn queue_notifications(&self) -> Result<Vec<QueueNotification>, Fault> {
        Ok(self.notifications().await?.queue_configurations().iter().map(plain).collect())
    }

    /// Adds a configuration, or replaces the configuration with the same id. All other configurations are preserved.
    /// S3 stores all configurations in one document, so two concurrent calls may overwrite each other's change.
    pub async fn put_queue_notification(&self, notification: &QueueNotification) -> Result<(), Fault> {
        let mut all = self.notifications().await?;
        let queues = all.queue_configurations.get_or_insert_default();
        queues.retain(|other| other.id() != Some(notification.id.as_str()));
        queues.push(sdk(notification).map_err(|e| Fault::new(FaultKind::Invalid, "not sent", e.to_string()))?);
        let call = self.s3.client.put_bucket_notification_configuration().bucket(&self.name);
        self.s3.done("PutBucketNotificationConfiguration", call.notification_configuration(all).send().await).map(drop)
    }

    async fn notifications(&self) -> Result<NotificationConfiguration, Fault> {
        let call = self.s3.client.get_bucket_notification_configuration().bucket(&self.name);
        let found = self.s3.done("GetBucketNotificationConfiguration", call.send().await)?;
        Ok(NotificationConfiguration::builder()
            .set_topic_configurations(found.topic_configurations)
            .set_queue_configurations(found.queue_configurations)
            .set_lambda_function_configurations(found.lambda_function_configurations)
            .set_event_bridge_configuration(found.event_bridge_configuration)
            .build())
    }
}

fn sdk(notification: &QueueNotification) -> Result<QueueConfiguration, BuildError> {
    let rule = |name, value: &str| (!value.is_empty()).then(|| FilterRule::builder().name(name).value(value).build());
    let rules =
        [rule(FilterRuleName::Prefix, &notification.prefix), rule(FilterRuleName::Suffix, &notification.suffix)];
    let rules: Vec<FilterRule> = rules.into_iter().flatten().collect();
    let filter = (!rules.is_empty()).then(|| {
        let key = S3KeyFilter::builder().set_filter_rules(Some(rules)).build();
        NotificationConfigurationFilter::builder().key(key).build()
    });
    QueueConfiguration::builder()
        .id(&notification.id)
        .queue_arn(&notification.queue)
        .set_events(Some(notification.events.iter().map(|event| Event::from(event.as_str())).collect()))
        .set_filter(filter)
        .build()
}

fn plain(found: &QueueConfiguration) -> QueueNotification {
    let rules = found.filter().and_then(|filter| filter.key()).map(|key| key.filter_rules()).unwrap_or_default();
    let rule = |name: &str| {
        // Some servers write `Prefix`, others `prefix`.
        let rule = rules.iter().find(|rule| rule.name().is_some_and(|n| n.as_str().eq_ignore_ascii_case(name)));
        rule.and_then(|rule| rule.value()).unwrap_or_default().to_owned()
    };
    QueueNotification {
        id: found.id().unwrap_or_default().to_owned(),
        queue: found.queue_arn().to_owned(),
        prefix: rule("prefix"),
        suffix: rule("suffix"),
        events: found.events().iter().map(|event| event.as_str().to_owned()).collect(),
    }
}
