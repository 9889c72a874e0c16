//! Collects daily metrics and adds them to the metrics table every few seconds.
//!
//! All documents of a day add to the same few items of this table. If these additions were part of each document's
//! transaction, the transactions of different documents would wait for each other. The metrics are therefore written
//! separately. A process that is killed loses the metrics of a few seconds. Exact figures are in the audit log and in
//! the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use docweir_aws::dynamo::{Dynamo, Expression, MOST, Write};
use docweir_core::clock::{UnixMicros, timestamp};

use super::items::string;
use super::new_token;

/// Maximum time, in microseconds, for which a transaction is repeated with the same token. DynamoDB remembers a token
/// for one minute longer.
const TOKEN: UnixMicros = 9 * 60 * 1_000_000;

pub struct Daily {
    dynamo: Dynamo,
    table: String,
    gathered: BTreeMap<String, f64>,
    /// Token, writes and first-attempt time of a transaction that failed but may have been applied. The transaction is
    /// repeated unchanged with the same token, so DynamoDB applies it only once.
    uncertain: Option<(String, Vec<Write>, UnixMicros)>,
    written_at: UnixMicros,
}

impl Daily {
    pub fn new(dynamo: Dynamo, table: String) -> Self {
        Self { dynamo, table, gathered: BTreeMap::new(), uncertain: None, written_at: 0 }
    }

    pub fn add(&mut self, metrics: Vec<(String, f64)>) {
        for (metric, by) in metrics {
            *self.gathered.entry(metric).or_default() += by;
        }
    }

    pub fn is_due(&self, now: UnixMicros, after: Duration) -> bool {
        let waited = u64::try_from(now - self.written_at).unwrap_or(0);
        !self.gathered.is_empty() && u128::from(waited) >= after.as_micros()
    }

    /// Writes the collected metrics. After a temporary failure, the metrics are kept for the next call.
    pub async fn write(&mut self, now: UnixMicros) {
        self.written_at = now;
        loop {
            let (token, writes, since) = match self.uncertain.take() {
                Some((.., since)) if now - since > TOKEN => {
                    tracing::warn!("daily metrics may not have been written; the write is not repeated");
                    continue;
                }
                Some(again) => again,
                None if self.gathered.is_empty() => return,
                None => (new_token(), self.next(now), now),
            };
            let Err(cancelled) = self.dynamo.transact(&token, writes.clone()).await else { continue };
            if cancelled.fault.kind.can_pass() {
                self.uncertain = Some((token, writes, since));
            } else {
                tracing::warn!(fault = %cancelled.fault, "daily metrics not written; dropped");
            }
            return;
        }
    }

    fn next(&mut self, now: UnixMicros) -> Vec<Write> {
        let at = timestamp(now);
        let date = at.get(..10).unwrap_or(&at).to_owned();
        let mut writes = Vec::new();
        while writes.len() < MOST
            && let Some((metric, by)) = self.gathered.pop_first()
        {
            let key = [("date".to_owned(), string(date.clone())), ("metric_type".to_owned(), string(metric))].into();
            let update = Expression::new("ADD #value :by SET updated_at = :at").name("#value", "value");
            let update = update.number(":by", by).string(":at", at.clone());
            writes.push(Write::Update { table: self.table.clone(), key, update, condition: None });
        }
        writes
    }
}
