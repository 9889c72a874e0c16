//! Queues, the table of records, and Comprehend: where they are used.

use std::time::Duration;

use docweir_aws::comprehend::Comprehend;
use docweir_aws::dynamo::Dynamo;
use docweir_aws::sqs::Sqs;
use docweir_aws::{Aws, Fault, FaultKind};
use docweir_aws_backend::record_table::DynamoRecordTable;
use docweir_stages::enrich::EnrichProvider;
use docweir_stores::record_table::TableError;
use tokio::time::timeout;

use super::{blamed, within};
use crate::config::Settings;
use crate::doctor::Finding;

/// What Comprehend is asked about: three units, which are $0.0003.
const WORD: &str = "docweir";

/// Whether there is anything to look at.
pub fn are_used(settings: &Settings) -> bool {
    settings.queues.named().next().is_some() || asks_comprehend(settings) || !settings.records.table.name.is_empty()
}

pub async fn examine(settings: &Settings, aws: &Aws, each: &mut dyn FnMut(Finding)) {
    let sqs = Sqs::new(aws, &settings.queues.endpoint);
    for name in settings.queues.named() {
        let found = within(settings, queue(&sqs, name)).await;
        each(found.unwrap_or_else(|fault| blamed("queue", name, "be looked at", &fault)));
    }
    let table = &settings.records.table;
    if !table.name.is_empty() {
        let dynamo = Dynamo::new(aws, &settings.dynamodb.endpoint);
        let tables = DynamoRecordTable::new(dynamo, table.clone(), 0);
        const CHECK: &str = "records";
        let limit = Duration::from_secs(settings.doctor.answer_seconds);
        each(match timeout(limit, tables.try_out(&table.name)).await {
            Ok(Ok(())) => Finding::fine(CHECK, &table.name, "can be asked, read and told"),
            Ok(Err(TableError::Broken { reason, hint, .. })) => Finding::problem(CHECK, &table.name, reason, hint),
            Ok(Err(TableError::Busy { reason, .. })) => {
                Finding::problem(CHECK, &table.name, reason, "try again in a moment")
            }
            Err(_) => {
                let text = format!("does not answer in {} s", limit.as_secs());
                Finding::problem(CHECK, &table.name, text, "look at the network, and at `dynamodb.endpoint`")
            }
        });
    }
    if asks_comprehend(settings) {
        let options = &settings.enrich.options.comprehend;
        let client = Comprehend::new(aws, &options.endpoint, Duration::from_secs_f64(options.request_seconds));
        each(match within(settings, client.languages(vec![WORD.into()])).await {
            Ok(_) => Finding::fine("comprehend", "", "answers"),
            Err(fault) => blamed("comprehend", "", "be asked", &fault),
        });
    }
}

fn asks_comprehend(settings: &Settings) -> bool {
    settings.enrich.options.provider == EnrichProvider::Comprehend
}

/// Nothing is received: a message that is looked at comes nearer to the dead letters.
async fn queue(sqs: &Sqs, name: &str) -> Result<Finding, Fault> {
    const CHECK: &str = "queue";
    let missing = || Finding::problem(CHECK, name, "is not there", "`docweir infra apply` makes it");
    let Some(queue) = sqs.find(name).await? else { return Ok(missing()) };
    let Some(state) = queue.state().await? else { return Ok(missing()) };
    // A receipt of nobody: refused for what it is, or for who asks.
    if let Err(fault) = queue.hide("doctor", Duration::ZERO).await
        && fault.kind == FaultKind::Denied
    {
        return Ok(blamed(CHECK, name, "be read", &fault));
    }
    let text = format!("{} messages wait, {} are in hand", state.waiting, state.hidden);
    Ok(match state.redrive {
        Some(_) => Finding::fine(CHECK, name, text),
        None => {
            let text = format!("{text}; it has no dead letters: what can't be done is deleted");
            Finding::warning(CHECK, name, text, "`docweir infra apply` gives it some")
        }
    })
}
