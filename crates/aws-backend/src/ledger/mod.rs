//! Implements the ledger in DynamoDB, for any number of processes.
//!
//! # Tables
//! One table holds the entries by day, the sums by day and group, and one total for each day and each run. Budgets
//! are compared with the totals. One transaction changes an entry, the sums of its group, and the totals. A total
//! increases only on condition that the budget covers the increase, so concurrent processes can never exceed a
//! budget.
//!
//! # Writer
//! Each process has one task that writes (`writer`). The task combines many entries in a transaction, so that the
//! transaction writes each total only once. If several processes write the same total at once, DynamoDB rejects
//! conflicting transactions, and their processes retry them. A settlement of exactly the reserved amount does not
//! change the totals.
//!
//! # Dead processes
//! Each process has a lease in the table and renews the lease while the process has live calls. If the lease of a
//! process has expired, the reservations of this process are in doubt. A process that was only paused can still settle
//! its reservations.

mod decide;
mod items;
mod report;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use docweir_aws::Fault;
use docweir_aws::dynamo::table::{Index, Key, Table};
use docweir_aws::dynamo::{Dynamo, Expression, Item, Query};
use ulid::Ulid;

use decide::{Command, LedgerReply};
use docweir_aws::DynamoOptions;
use docweir_core::clock::{SharedClock, timestamp};
use docweir_core::money::Nanodollars;
use docweir_stores::ledger::rules::{self, Spent};
use docweir_stores::ledger::{Budget, CostLine, EntryId, GroupBy, Ledger, ReservationOutcome, Share, Spend};
use docweir_stores::paid::PaidError;
use writer::{Job, LedgerWriter};

/// Name of the index of open reservations. The index covers the live calls of all processes.
pub const OPEN: &str = "open-index";
/// Number of partition keys over which the entries of one day are spread. The index of open reservations uses the same
/// number of keys. DynamoDB limits one partition key to a thousand writes per second.
const SHARDS: u64 = 4;
/// Maximum number of shares that are settled in one transaction. A transaction holds at most a hundred writes.
const SHARES: usize = 80;

/// Describes the ledger's table.
pub fn table(options: &DynamoOptions) -> Table {
    let key = |hash, range| Key { hash, range: Some(range) };
    Table {
        name: options.ledger_table.clone(),
        key: key("pk", "sk"),
        indexes: vec![Index { name: OPEN, key: key(items::OPEN, "at"), holds: &[items::PROCESS] }],
        expires: Some(items::FORGET_AT),
    }
}

pub struct DynamoLedger {
    dynamo: Dynamo,
    table: String,
    clock: SharedClock,
    /// Id under which the lease of this process is stored.
    process: String,
    writer: LedgerWriter,
}

impl DynamoLedger {
    /// Opens the ledger without sending a request, so a missing table is reported by the first call. Settled entries
    /// are kept for `entry_days` days.
    pub fn open(dynamo: Dynamo, options: &DynamoOptions, entry_days: u32, clock: SharedClock) -> Self {
        let process = Ulid(fastrand::u128(..)).to_string();
        let writer = LedgerWriter::start(dynamo.clone(), options, entry_days, &process, clock.clone());
        Self { dynamo, table: options.ledger_table.clone(), clock, process, writer }
    }

    fn failed(&self, fault: &Fault) -> PaidError {
        told(&self.table, fault)
    }

    async fn ask(&self, id: EntryId, command: Command) -> Result<LedgerReply, PaidError> {
        self.writer.ask(Job { id, command }).await
    }

    /// Reserves money under an id that is known in advance. A repeated call returns the same reservation.
    pub async fn reserve_as(&self, id: EntryId, spend: Spend, budget: Budget) -> Result<ReservationOutcome, PaidError> {
        match self.ask(id, Command::Reserve { spend, budget }).await? {
            LedgerReply::Reserved(asked) => Ok(asked),
            LedgerReply::Done(_) => Err(PaidError::Storage("unexpected reply from the ledger; report it".into())),
        }
    }

    /// Releases a reservation for which nothing was charged, and refuses to reserve under its id for a day. Another
    /// process may be about to make the reservation.
    pub async fn void(&self, id: &EntryId) -> Result<(), PaidError> {
        self.ask(id.clone(), Command::Void).await.map(drop)
    }

    /// Returns the entry id for `name` on the current day.
    pub fn entry_of(&self, name: &str) -> EntryId {
        items::entry_id(&timestamp(self.clock.now()), name)
    }

    /// Returns the amount that may still be spent under a budget, or `None` if there is no budget.
    pub async fn room(&self, run: &str, budget: Budget) -> Result<Option<Nanodollars>, PaidError> {
        if budget == Budget::default() {
            return Ok(None);
        }
        let at = timestamp(self.clock.now());
        let keys = vec![items::run_key(run), items::day_key(rules::day(&at))];
        let found = self.dynamo.get_many(&self.table, keys, true).await.map_err(|f| self.failed(&f))?;
        let spent = |pk: &str| found.iter().find(|item| items::text(item, "pk") == pk).map_or(0, items::total);
        let of_run = Nanodollars(spent(&items::run_partition(run)));
        let of_day = Nanodollars(spent(items::DAYS));
        Ok(Spent { run: of_run, day: of_day }.room(budget))
    }

    /// Returns the open reservations of dead processes, each with the process id. A process counts as dead if it is
    /// not this process and its lease has expired.
    async fn orphans(&self) -> Result<Vec<(EntryId, String)>, PaidError> {
        let mut open: Vec<(EntryId, String)> = Vec::new();
        for shard in 0..SHARDS {
            let key = Expression::new("#open = :open").name("#open", items::OPEN);
            let mut query = Query {
                table: self.table.clone(),
                index: Some(OPEN.into()),
                key: key.string(":open", items::open(shard)),
                ..Query::default()
            };
            loop {
                let page = self.dynamo.query(&query).await.map_err(|f| self.failed(&f))?;
                let others = page.items.iter().filter(|item| items::text(item, items::PROCESS) != self.process);
                open.extend(
                    others.filter_map(|item| Some((items::id_of(item)?, items::text(item, items::PROCESS).to_owned()))),
                );
                query.start = page.next;
                if query.start.is_none() {
                    break;
                }
            }
        }
        let processes: HashSet<&String> = open.iter().map(|(_, process)| process).collect();
        let keys: Vec<Item> = processes.iter().map(|process| items::process_key(process)).collect();
        let leases = self.dynamo.get_many(&self.table, keys, true).await.map_err(|f| self.failed(&f))?;
        let until: HashMap<String, i64> =
            leases.iter().map(|item| (items::process_of(item), items::integer(item, items::UNTIL))).collect();
        let now = self.clock.now();
        open.retain(|(_, process)| until.get(process).is_none_or(|until| *until <= now));
        Ok(open)
    }
}

#[async_trait]
impl Ledger for DynamoLedger {
    async fn reserve(&self, spend: Spend, budget: Budget) -> Result<ReservationOutcome, PaidError> {
        let id = self.entry_of(&Ulid(fastrand::u128(..)).to_string());
        self.reserve_as(id, spend, budget).await
    }

    async fn settle(&self, id: &EntryId, tokens: u64, cost: Nanodollars) -> Result<(), PaidError> {
        self.ask(id.clone(), Command::Settle { tokens, cost }).await.map(drop)
    }

    async fn settle_in_parts(&self, id: &EntryId, shares: &[Share]) -> Result<(), PaidError> {
        let mut from = 0;
        loop {
            let end = shares.len().min(from + SHARES);
            let (part, last) = (shares.get(from..end).unwrap_or_default().to_vec(), end == shares.len());
            self.ask(id.clone(), Command::Parts { from: from as u64, shares: part, last }).await?;
            if last {
                return Ok(());
            }
            from = end;
        }
    }

    async fn release(&self, id: &EntryId) -> Result<(), PaidError> {
        self.settle_in_parts(id, &[]).await
    }

    async fn doubt(&self, id: &EntryId) -> Result<(), PaidError> {
        self.ask(id.clone(), Command::Doubt { of: None }).await.map(drop)
    }

    async fn doubt_others(&self, _: &str) -> Result<u64, PaidError> {
        let orphans = self.orphans().await?;
        let doubt = |(id, process)| self.ask(id, Command::Doubt { of: Some(process) });
        let answers = futures_util::future::try_join_all(orphans.into_iter().map(doubt)).await?;
        Ok(answers.iter().filter(|answer| matches!(answer, LedgerReply::Done(true))).count() as u64)
    }

    async fn report(&self, by: GroupBy, since: &str, limit: usize) -> Result<Vec<CostLine>, PaidError> {
        let now_seconds = self.clock.now().div_euclid(1_000_000);
        let report = report::Report { dynamo: &self.dynamo, table: &self.table, now_seconds };
        report.lines(by, since, limit).await.map_err(|f| self.failed(&f))
    }

    /// Deletes nothing and returns 0. DynamoDB deletes expired entries automatically, and reports omit entries that
    /// have expired.
    async fn forget_before(&self, _: &str) -> Result<u64, PaidError> {
        Ok(0)
    }
}

/// Converts the fault of a DynamoDB call to the error that callers of the ledger receive.
pub fn told(table: &str, fault: &Fault) -> PaidError {
    use docweir_aws::FaultKind::*;
    match fault.kind {
        Conflict | Throttled | Unreachable | Unknown | Condition => {
            PaidError::Busy(format!("DynamoDB table {table} is busy ({fault}); try again"))
        }
        NotFound => {
            PaidError::Storage(format!("DynamoDB table {table}: {fault}; create the tables with `docweir infra apply`"))
        }
        Denied => PaidError::Busy(format!(
            "DynamoDB table {table}: {fault}; check the credentials and their permissions on the table"
        )),
        Invalid => PaidError::Storage(format!("DynamoDB table {table}: {fault}; report this with the log")),
    }
}

/// Returns the time after which a process without a heartbeat counts as dead.
fn lease(options: &DynamoOptions) -> Duration {
    Duration::from_secs(options.ledger_lease_seconds)
}
