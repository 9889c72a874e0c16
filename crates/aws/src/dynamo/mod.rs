//! Calls DynamoDB to read items by key, write items conditionally, and run transactions and queries.
//!
//! # Layout
//! - [`Dynamo`] – the calls
//! - [`expression`] – conditions and updates, with their names and values
//! - `write`: writes of one item
//! - [`value`] – conversion between items and JSON
//! - [`table`] – tables, their indexes and the expiry of items

pub mod expression;
pub mod table;
pub mod value;
pub mod write;

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
pub use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::{KeysAndAttributes, Select};
use docweir_core::backoff::Backoff;
use tokio::time::{Duration, sleep};

pub use expression::Expression;
pub use write::Write;

use crate::access::{Aws, count, fault_of, once};
use crate::fault::{Fault, FaultKind};

/// Maps the names of an item's attributes to their values.
pub type Item = HashMap<String, AttributeValue>;

/// Largest number of keys in one batch read, and of writes in one transaction.
pub const MOST: usize = 100;
/// Maximum size of one transaction, in bytes. DynamoDB allows 4 MB but measures sizes differently, so this limit
/// leaves a margin.
pub const MOST_BYTES: usize = 3_500_000;

/// Wait times between the retries of keys that DynamoDB left unprocessed.
const UNPROCESSED: Backoff = Backoff::doubling(Duration::from_millis(50), Duration::from_millis(50 * 64));

/// Waits before a retry and returns the incremented number of tries. The wait starts at `wait` and doubles with each
/// try, up to 64 times `wait`. Returns `None` without waiting if a retry cannot succeed, or if no attempts are left.
pub async fn again(wait: Duration, tries: u32, attempts: u32, fault: &Fault) -> Option<u32> {
    if !fault.kind.can_pass() || tries >= attempts {
        return None;
    }
    sleep(Backoff::doubling(wait, wait * 64).with_jitter(0.5, 1.5).wait(tries, fastrand::f64())).await;
    Some(tries + 1)
}

/// Converts bytes to the type of a binary attribute.
pub fn blob(bytes: &[u8]) -> aws_smithy_types::Blob {
    aws_smithy_types::Blob::new(bytes)
}

/// Sends calls to DynamoDB. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dynamo {
    client: Client,
    attempts: u32,
}

/// Describes a query in a table or in an index. The query returns the items that have one given hash key, ordered by
/// range key.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub table: String,
    pub index: Option<String>,
    pub key: Expression,
    pub filter: Option<Expression>,
    pub descending: bool,
    /// Maximum number of items in one page, before the filter is applied.
    pub limit: Option<usize>,
    /// Key at which the previous page ended. The query continues after this key.
    pub start: Option<Item>,
    pub consistent: bool,
}

/// Holds one page of query results.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub items: Vec<Item>,
    /// Start of the next page, for [`Query::start`]; `None` after the last page.
    pub next: Option<Item>,
}

/// Describes why a transaction failed. The transaction was not applied, or its outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    pub fault: Fault,
    /// Reasons of the failure, with one entry for each write, in the order of the writes. An entry is `None` if its
    /// write did not cause the failure. The list is empty if no particular write caused the failure.
    pub reasons: Vec<Option<FaultKind>>,
}

impl Dynamo {
    /// Creates a client for `endpoint`; empty means the shared AWS endpoint.
    pub fn new(aws: &Aws, endpoint: &str) -> Self {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&aws.sdk);
        if !endpoint.is_empty() {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()), attempts: aws.options.attempts }
    }

    /// Returns the item with this key.
    pub async fn get(&self, table: &str, key: Item, consistent: bool) -> Result<Option<Item>, Fault> {
        let call = self.client.get_item().table_name(table).set_key(Some(key)).consistent_read(consistent);
        Ok(told("GetItem", call.send().await)?.item)
    }

    /// Returns the items with these keys, in any order. Accepts any number of keys and omits keys without an item.
    pub async fn get_many(&self, table: &str, keys: Vec<Item>, consistent: bool) -> Result<Vec<Item>, Fault> {
        let mut found = Vec::with_capacity(keys.len());
        for part in keys.chunks(MOST) {
            let mut wanted = part.to_vec();
            let mut tries = 0;
            while !wanted.is_empty() {
                let keys = KeysAndAttributes::builder().set_keys(Some(wanted)).consistent_read(consistent).build();
                let keys = keys.map_err(|e| Fault::new(FaultKind::Invalid, "not sent", e.to_string()))?;
                let call = self.client.batch_get_item().request_items(table, keys);
                let answer = told("BatchGetItem", call.send().await)?;
                found.extend(answer.responses.into_iter().flatten().flat_map(|(_, items)| items));
                wanted = answer.unprocessed_keys.into_iter().flatten().flat_map(|(_, keys)| keys.keys).collect();
                tries = self.pause(tries, wanted.len()).await?;
            }
        }
        Ok(found)
    }

    /// Applies one write. The write is never sent twice. If the reply is lost, the error is [`FaultKind::Unknown`].
    pub async fn write(&self, write: Write) -> Result<(), Fault> {
        let once = aws_sdk_dynamodb::config::Config::builder().retry_config(once());
        match write {
            Write::Put { table, item, condition } => {
                let condition = condition.unwrap_or_default();
                let call = self
                    .client
                    .put_item()
                    .table_name(table)
                    .set_item(Some(item))
                    .set_condition_expression(condition.text())
                    .set_expression_attribute_names(condition.names())
                    .set_expression_attribute_values(condition.values());
                told("PutItem", call.customize().config_override(once).send().await).map(drop)
            }
            Write::Update { table, key, update, condition } => {
                let condition = condition.unwrap_or_default();
                let both = update.clone().and(condition.clone());
                let call = self
                    .client
                    .update_item()
                    .table_name(table)
                    .set_key(Some(key))
                    .set_update_expression(update.text())
                    .set_condition_expression(condition.text())
                    .set_expression_attribute_names(both.names())
                    .set_expression_attribute_values(both.values());
                told("UpdateItem", call.customize().config_override(once).send().await).map(drop)
            }
            Write::Delete { table, key, condition } => {
                let condition = condition.unwrap_or_default();
                let call = self
                    .client
                    .delete_item()
                    .table_name(table)
                    .set_key(Some(key))
                    .set_condition_expression(condition.text())
                    .set_expression_attribute_names(condition.names())
                    .set_expression_attribute_values(condition.values());
                told("DeleteItem", call.customize().config_override(once).send().await).map(drop)
            }
            Write::Check { .. } => Err(Fault::new(FaultKind::Invalid, "not sent", "a check needs a transaction")),
        }
    }

    /// Applies all writes, or none of them. The SDK may retry the call, because DynamoDB applies a transaction only
    /// once if the same token arrives again within ten minutes.
    pub async fn transact(&self, token: &str, writes: Vec<Write>) -> Result<(), Cancelled> {
        let mut items = Vec::with_capacity(writes.len());
        for write in writes {
            let item = write.into_item().map_err(|e| Fault::new(FaultKind::Invalid, "not sent", e.to_string()))?;
            items.push(item);
        }
        let call = self.client.transact_write_items().client_request_token(token).set_transact_items(Some(items));
        let answer = call.send().await;
        count("dynamodb", "TransactWriteItems", answer.is_err());
        match answer {
            Ok(_) => Ok(()),
            Err(error) => Err(cancelled(&error)),
        }
    }

    /// Returns one page of query results.
    pub async fn query(&self, query: &Query) -> Result<Page, Fault> {
        let answer = told("Query", self.asked(query).send().await)?;
        let next = answer.last_evaluated_key.filter(|key| !key.is_empty());
        Ok(Page { items: answer.items.unwrap_or_default(), next })
    }

    /// Returns the number of items that match a query, without transferring the items.
    pub async fn count(&self, query: &Query) -> Result<u64, Fault> {
        let (mut total, mut query) = (0, query.clone());
        loop {
            let answer = told("Query", self.asked(&query).select(Select::Count).send().await)?;
            total += u64::try_from(answer.count).unwrap_or(0);
            query.start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if query.start.is_none() {
                return Ok(total);
            }
        }
    }

    fn asked(&self, query: &Query) -> QueryFluentBuilder {
        let filter = query.filter.clone().unwrap_or_default();
        let both = query.key.clone().and(filter.clone());
        let limit = query.limit.map(|n| i32::try_from(n.max(1)).unwrap_or(i32::MAX));
        self.client
            .query()
            .table_name(&query.table)
            .set_index_name(query.index.clone())
            .set_key_condition_expression(query.key.text())
            .set_filter_expression(filter.text())
            .set_expression_attribute_names(both.names())
            .set_expression_attribute_values(both.values())
            .scan_index_forward(!query.descending)
            .set_limit(limit)
            .set_exclusive_start_key(query.start.clone())
            .consistent_read(query.consistent)
    }

    /// Waits before the retry of unprocessed keys and returns the incremented number of tries. Returns at once if
    /// `left`, the number of unprocessed keys, is 0.
    async fn pause(&self, tries: u32, left: usize) -> Result<u32, Fault> {
        if left == 0 {
            return Ok(tries);
        }
        if tries >= self.attempts * 2 {
            let text = format!("{left} keys are still unprocessed after {tries} retries");
            return Err(Fault::new(FaultKind::Throttled, "UnprocessedKeys", text));
        }
        sleep(UNPROCESSED.limit(tries)).await;
        Ok(tries + 1)
    }
}

impl From<Fault> for Cancelled {
    fn from(fault: Fault) -> Self {
        Self { fault, reasons: Vec::new() }
    }
}

fn cancelled(
    error: &SdkError<TransactWriteItemsError, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
) -> Cancelled {
    let fault = fault_of(error);
    let Some(TransactWriteItemsError::TransactionCanceledException(exception)) = error.as_service_error() else {
        return fault.into();
    };
    let reason = |code: Option<&str>| match code {
        None | Some("None") => None,
        Some("ConditionalCheckFailed" | "DuplicateItem") => Some(FaultKind::Condition),
        Some("TransactionConflict") => Some(FaultKind::Conflict),
        Some("ThrottlingError" | "ProvisionedThroughputExceeded") => Some(FaultKind::Throttled),
        Some(_) => Some(FaultKind::Invalid),
    };
    let reasons: Vec<_> = exception.cancellation_reasons().iter().map(|r| reason(r.code())).collect();
    // Permanent reasons take precedence, because a retry cannot fix them.
    let worst = [FaultKind::Invalid, FaultKind::Condition, FaultKind::Throttled, FaultKind::Conflict]
        .into_iter()
        .find(|kind| reasons.contains(&Some(*kind)));
    let kind = worst.unwrap_or(FaultKind::Conflict);
    let message = exception.cancellation_reasons().iter().find_map(|r| r.message()).unwrap_or_default().to_owned();
    Cancelled { fault: Fault { kind, message, ..fault }, reasons }
}

/// Counts a call in the metrics and converts its error to a [`Fault`].
fn told<T, E>(
    operation: &'static str,
    answer: Result<T, SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>>,
) -> Result<T, Fault>
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
{
    count("dynamodb", operation, answer.is_err());
    answer.map_err(|error| {
        let fault = fault_of(&error);
        let kind = refined(fault.kind, &fault.message);
        Fault { kind, ..fault }
    })
}

/// Classifies the state of an index. DynamoDB reports it as an invalid request, and only the message tells it.
fn refined(kind: FaultKind, message: &str) -> FaultKind {
    match kind {
        FaultKind::Invalid if message.contains("have the specified index") => FaultKind::NotFound,
        // The index becomes readable by itself.
        FaultKind::Invalid if message.contains("backfilling global secondary index") => FaultKind::Throttled,
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_an_index_is_told_by_the_message() {
        let table = [
            ("The table does not have the specified index: by_status", FaultKind::NotFound),
            ("Cannot read from backfilling global secondary index: by_status", FaultKind::Throttled),
            ("One or more parameter values were invalid", FaultKind::Invalid),
        ];
        for (message, expected) in table {
            assert_eq!(refined(FaultKind::Invalid, message), expected, "{message}");
            assert_eq!(refined(FaultKind::Denied, message), FaultKind::Denied, "{message}");
        }
    }
}
