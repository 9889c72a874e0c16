//! Checks queues, the table of records, and Comprehend, if the settings use them.

use std::time::Duration;

use docweir_aws::comprehend::Comprehend;
use docweir_aws::dynamo::Dynamo;
use docweir_aws::sqs::{Redrive, Sqs};
use docweir_aws::{Aws, Fault, FaultKind};
use docweir_aws_backend::record_table::DynamoRecordTable;
use docweir_stages::enrich::EnrichProvider;
use docweir_stores::record_table::TableError;
use tokio::time::timeout;

use super::{blamed, within};
use crate::config::Settings;
use crate::doctor::Finding;

/// Text of the test call to Comprehend. The call costs three units, which is $0.0003.
const WORD: &str = "docweir";

/// Returns whether the settings use queues, a table of records, or Comprehend.
pub fn are_used(settings: &Settings) -> bool {
    settings.queues.named().next().is_some() || asks_comprehend(settings) || !settings.records.table.name.is_empty()
}

pub async fn examine(settings: &Settings, aws: &Aws, each: &mut dyn FnMut(Finding)) {
    let sqs = Sqs::new(aws, &settings.queues.endpoint);
    for name in settings.queues.named() {
        let found = within(settings, queue(&sqs, name)).await;
        each(found.unwrap_or_else(|fault| blamed("queue", name, "be inspected", &fault)));
    }
    let table = &settings.records.table;
    if !table.name.is_empty() {
        let dynamo = Dynamo::new(aws, &settings.dynamodb.endpoint);
        let tables = DynamoRecordTable::new(dynamo, table.clone(), 0);
        const CHECK: &str = "records";
        let limit = Duration::from_secs(settings.doctor.answer_seconds);
        each(match timeout(limit, tables.try_out(&table.name)).await {
            Ok(Ok(())) => Finding::fine(CHECK, &table.name, "can be queried, read and updated"),
            Ok(Err(TableError::Broken { reason, hint, .. })) => Finding::problem(CHECK, &table.name, reason, hint),
            Ok(Err(TableError::Busy { reason, .. })) => {
                Finding::problem(CHECK, &table.name, reason, "retry in a moment")
            }
            Err(_) => {
                let text = format!("does not answer within {} s", limit.as_secs());
                Finding::problem(CHECK, &table.name, text, "check the network and `dynamodb.endpoint`")
            }
        });
    }
    if asks_comprehend(settings) {
        let options = &settings.enrich.options.comprehend;
        let client = Comprehend::new(aws, &options.endpoint, Duration::from_secs_f64(options.request_seconds));
        each(match within(settings, client.languages(vec![WORD.into()])).await {
            Ok(_) => Finding::fine("comprehend", "", "answers"),
            Err(fault) => blamed("comprehend", "", "be called", &fault),
        });
    }
}

fn asks_comprehend(settings: &Settings) -> bool {
    settings.enrich.options.provider == EnrichProvider::Comprehend
}

/// Returns the number of messages that wait in a dead-letter queue.
async fn waiting_dead_letters(sqs: &Sqs, redrive: &Redrive) -> Result<u64, Fault> {
    let Some(dead) = sqs.dead_letters(redrive).await? else { return Ok(0) };
    Ok(dead.state().await?.map_or(0, |state| state.waiting))
}

/// Checks a queue without receiving messages, because each receive moves a message closer to the dead-letter queue.
async fn queue(sqs: &Sqs, name: &str) -> Result<Finding, Fault> {
    const CHECK: &str = "queue";
    let missing = || Finding::problem(CHECK, name, "does not exist", "`docweir infra apply` creates it");
    let Some(queue) = sqs.find(name).await? else { return Ok(missing()) };
    let Some(state) = queue.state().await? else { return Ok(missing()) };
    // The receipt is invalid: a permitted caller gets another error than `Denied`.
    if let Err(fault) = queue.hide("doctor", Duration::ZERO).await
        && fault.kind == FaultKind::Denied
    {
        return Ok(blamed(CHECK, name, "be read", &fault));
    }
    let text = format!("{} messages waiting, {} in flight", state.waiting, state.hidden);
    Ok(match state.redrive {
        Some(redrive) => match waiting_dead_letters(sqs, &redrive).await? {
            0 => Finding::fine(CHECK, name, text),
            count => {
                let text = format!("{text}; {count} failed messages in {}", redrive.name());
                let fix =
                    "find the cause in the log of `docweir serve`, then move them back with `docweir queue redrive`";
                Finding::warning(CHECK, name, text, fix)
            }
        },
        None => {
            let text = format!("{text}; messages that fail are deleted, because there is no dead-letter queue");
            Finding::warning(CHECK, name, text, "`docweir infra apply` adds a dead-letter queue")
        }
    })
}
