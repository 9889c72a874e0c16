//! Writes to the ledger in one task per process, which combines many entries in a transaction.
//!
//! Commands wait in a bounded queue. The task takes the waiting commands and reads the affected entries and totals.
//! It decides the commands one after the other, and writes as many results as fit into a transaction. An entry is
//! written on condition that no other process has written it since it was read. A total is written on condition that
//! it stays within the budget. If a condition does not hold, the task reads and decides again.
//!
//! If the reply to a transaction is lost, the transaction may have been applied. To find out, the task reads the
//! transaction's entries again and compares write ids. Each entry contains the id of the write that was applied to it
//! last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use docweir_aws::DynamoOptions;
use docweir_aws::dynamo::{Cancelled, Dynamo, Item, MOST, MOST_BYTES, Write};
use docweir_aws::{Fault, FaultKind};
use docweir_core::backoff::Backoff;
use docweir_core::clock::{SharedClock, UnixMicros};
use docweir_core::money::Nanodollars;
use docweir_stores::ledger::rules::{Group, Spent, Sums};
use docweir_stores::ledger::{EntryId, Mode, ReservationOutcome};
use docweir_stores::paid::PaidError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use ulid::Ulid;

use super::decide::{After, Asking, Command, Decided, Entry, LedgerReply, change, decide};
use super::{items, lease, told};

/// Wait times between the attempts of a write.
const BACKOFF: Backoff = Backoff::doubling(Duration::from_millis(10), Duration::from_millis(640)).with_jitter(0.5, 1.5);

/// Holds a command and the id of its entry.
pub struct Job {
    pub id: EntryId,
    pub command: Command,
}

type Reply = oneshot::Sender<Result<LedgerReply, PaidError>>;

/// Sends commands to the task that writes to the ledger.
pub struct LedgerWriter {
    jobs: mpsc::Sender<(Job, Reply)>,
}

impl LedgerWriter {
    pub fn start(dynamo: Dynamo, options: &DynamoOptions, entry_days: u32, process: &str, clock: SharedClock) -> Self {
        let (jobs, queue) = mpsc::channel(options.queue_operations.max(1));
        let task = Task {
            dynamo,
            table: options.ledger_table.clone(),
            options: options.clone(),
            entry_days,
            process: process.to_owned(),
            clock,
            lease_until: 0,
            open: HashSet::new(),
        };
        tokio::spawn(task.run(queue));
        Self { jobs }
    }

    /// Executes a command and returns when the result is durable. The command is executed even if this future is
    /// dropped.
    pub async fn ask(&self, job: Job) -> Result<LedgerReply, PaidError> {
        let ended = || PaidError::Storage("the ledger's writer has stopped; see the log".into());
        let (reply, answer) = oneshot::channel();
        self.jobs.send((job, reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// Holds a command that has not been answered yet.
struct Pending {
    job: Job,
    reply: Reply,
    /// Ids of writes that may have been applied, each with the reply that is correct if the write was applied.
    uncertain: Vec<(String, LedgerReply)>,
    /// If true, the command is written in its own transaction.
    alone: bool,
}

/// Collects the writes of one transaction.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    bytes: usize,
    sums: BTreeMap<Group, Sums>,
    /// Changes and limits of the daily totals, by day.
    days: BTreeMap<String, Total>,
    runs: BTreeMap<String, Total>,
}

#[derive(Clone, Copy, Default)]
struct Total {
    read: u64,
    more: i64,
    most: Option<u64>,
}

impl Total {
    fn now(&self) -> u64 {
        self.read.saturating_add_signed(self.more)
    }

    /// Limits this total to `limit`. The limit applies to the total after all changes that were added so far.
    fn within(&mut self, limit: Option<u64>) {
        if let Some(limit) = limit {
            let most = limit.saturating_add_signed(-self.more);
            self.most = Some(self.most.map_or(most, |before| before.min(most)));
        }
    }
}

/// Holds the state that was read from the table.
#[derive(Default)]
struct Read {
    entries: HashMap<EntryId, Entry>,
    days: HashMap<String, u64>,
    runs: HashMap<String, u64>,
}

struct Task {
    dynamo: Dynamo,
    table: String,
    options: DynamoOptions,
    entry_days: u32,
    process: String,
    clock: SharedClock,
    lease_until: UnixMicros,
    /// Open reservations of live calls of this process. While any exist, the process sends heartbeats.
    open: HashSet<EntryId>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<(Job, Reply)>) {
        let beat = lease(&self.options) / 3;
        loop {
            let (job, reply) = match timeout(beat, queue.recv()).await {
                Ok(Some(next)) => next,
                Ok(None) => return,
                Err(_) => {
                    if !self.open.is_empty()
                        && let Err(fault) = self.live(true).await
                    {
                        tracing::warn!(%fault, "ledger heartbeat not written");
                    }
                    continue;
                }
            };
            let mut pending = vec![Pending { job, reply, uncertain: Vec::new(), alone: false }];
            while pending.len() < self.options.batch_operations.max(1)
                && let Ok((job, reply)) = queue.try_recv()
            {
                pending.push(Pending { job, reply, uncertain: Vec::new(), alone: false });
            }
            self.work(pending).await;
        }
    }

    /// Renews the lease of this process if at most half of the lease duration is left, or if `anyway` is true. The
    /// renewed lease ends one lease duration from now, unless it is renewed again.
    async fn live(&mut self, anyway: bool) -> Result<(), Fault> {
        let (now, lease) = (self.clock.now(), lease(&self.options).as_micros() as i64);
        if !anyway && self.lease_until - now > lease / 2 {
            return Ok(());
        }
        let until = now + lease;
        let item = items::process_item(&self.process, until);
        self.dynamo.write(Write::Put { table: self.table.clone(), item, condition: None }).await?;
        self.lease_until = until;
        Ok(())
    }

    /// Executes all commands and replies to each.
    async fn work(&mut self, mut open: Vec<Pending>) {
        let conflict_wait = Duration::from_secs(self.options.conflict_seconds);
        let (began, mut failures, mut conflicts) = (Instant::now(), 0, 0u32);
        while !open.is_empty() {
            let (left, fault) = self.round(open).await;
            open = left;
            let Some(fault) = fault else {
                conflicts = 0;
                continue;
            };
            // A lost race with another writer does not count as a failure of the store.
            let raced = matches!(fault.kind, FaultKind::Conflict | FaultKind::Condition);
            if raced {
                conflicts += 1
            } else {
                failures += 1
            }
            if failures >= self.options.attempts || (raced && began.elapsed() > conflict_wait) {
                tracing::warn!(%fault, commands = open.len(), "ledger not written; commands failed");
                for pending in open.drain(..) {
                    let _ = pending.reply.send(Err(told(&self.table, &fault)));
                }
            }
            sleep(BACKOFF.wait(conflicts.max(failures), fastrand::f64())).await;
        }
    }

    /// Reads the state, decides the commands and writes one transaction. Returns the commands that are not finished,
    /// and the fault if a call failed.
    async fn round(&mut self, mut open: Vec<Pending>) -> (Vec<Pending>, Option<Fault>) {
        if open.iter().any(|p| matches!(p.job.command, Command::Reserve { .. }))
            && let Err(fault) = self.live(false).await
        {
            return self.stopped(open, fault);
        }
        let read = match self.read(&open).await {
            Ok(read) => read,
            Err(fault) => return self.stopped(open, fault),
        };
        let (mut batch, mut seen) = (Batch::default(), HashSet::new());
        let (mut left, mut prepared) = (Vec::new(), Vec::new());
        let alone = open.iter().any(|p| p.alone);
        for pending in open.drain(..) {
            // A transaction holds one command per entry; further commands are decided on its result.
            let full = alone && !prepared.is_empty();
            if full || !seen.insert(pending.job.id.clone()) {
                left.push(pending);
                continue;
            }
            let entry = read.entries.get(&pending.job.id);
            if let Some((_, answer)) = entry.and_then(|e| pending.uncertain.iter().find(|(id, _)| *id == e.write_id)) {
                let answer = answer.clone();
                self.answer(pending, Ok(answer));
                continue;
            }
            let write_id = Ulid(fastrand::u128(..)).to_string();
            let asking = Asking {
                id: &pending.job.id,
                process: &self.process,
                now: self.clock.now(),
                write_id: &write_id,
                uncertain: !pending.uncertain.is_empty(),
            };
            let spent = batch.spent(&pending.job, entry, &read);
            let decided = decide(&pending.job.command, entry, spent, &asking);
            if decided.after == After::Same {
                self.answer(pending, Ok(decided.answer));
                continue;
            }
            match batch.add(&self.table, entry, &decided, self.clock.now(), self.entry_days) {
                true => prepared.push((pending, write_id, decided.answer)),
                false => left.push(pending),
            }
        }
        if prepared.is_empty() {
            return (left, None);
        }
        let written = self.dynamo.transact(&Ulid(fastrand::u128(..)).to_string(), batch.finish(&self.table)).await;
        match written {
            Ok(()) => {
                for (pending, _, answer) in prepared {
                    self.answer(pending, Ok(answer));
                }
                (left, None)
            }
            Err(cancelled) => self.not_written(prepared, left, cancelled),
        }
    }

    fn not_written(
        &mut self,
        prepared: Vec<(Pending, String, LedgerReply)>,
        mut left: Vec<Pending>,
        cancelled: Cancelled,
    ) -> (Vec<Pending>, Option<Fault>) {
        let fault = cancelled.fault;
        let several = prepared.len() > 1;
        for (mut pending, write_id, answer) in prepared {
            match fault.kind {
                FaultKind::Invalid if several => pending.alone = true,
                FaultKind::Invalid | FaultKind::Denied | FaultKind::NotFound => {
                    self.answer(pending, Err(told(&self.table, &fault)));
                    continue;
                }
                // The fault belongs to the last attempt. An earlier attempt may have been applied without a reply.
                _ => pending.uncertain.push((write_id, answer)),
            }
            left.push(pending);
        }
        let nothing = left.is_empty();
        (left, (!nothing).then_some(fault))
    }

    /// Handles a fault that occurred before anything was written. Permanent faults fail the commands; after other
    /// faults, the commands are retried.
    fn stopped(&mut self, open: Vec<Pending>, fault: Fault) -> (Vec<Pending>, Option<Fault>) {
        if !matches!(fault.kind, FaultKind::Invalid | FaultKind::Denied | FaultKind::NotFound) {
            return (open, Some(fault));
        }
        for pending in open {
            self.answer(pending, Err(told(&self.table, &fault)));
        }
        (Vec::new(), None)
    }

    fn answer(&mut self, pending: Pending, answer: Result<LedgerReply, PaidError>) {
        match (&pending.job.command, &answer) {
            (Command::Reserve { spend, .. }, Ok(LedgerReply::Reserved(ReservationOutcome::Given(_)))) => {
                if spend.mode == Mode::Live {
                    self.open.insert(pending.job.id.clone());
                }
            }
            (_, Ok(_)) => drop(self.open.remove(&pending.job.id)),
            (_, Err(_)) => {}
        }
        let _ = pending.reply.send(answer);
    }

    async fn read(&self, open: &[Pending]) -> Result<Read, Fault> {
        let (mut keys, mut seen, mut totals) = (Vec::new(), HashSet::new(), HashSet::new());
        for pending in open {
            if let Command::Reserve { spend, .. } = &pending.job.command {
                let day = items::day_of(&pending.job.id);
                totals.insert((items::DAYS.to_owned(), day.to_owned()));
                totals.insert((items::run_partition(&spend.run), "total".to_owned()));
                // A random id without an uncertain write cannot have an entry yet.
                if pending.uncertain.is_empty() && spend.mode == Mode::Live {
                    continue;
                }
            }
            if seen.insert(&pending.job.id) {
                keys.push(items::entry_key(&pending.job.id));
            }
        }
        let key = |(pk, sk): (String, String)| {
            Item::from([("pk".to_owned(), items::string(pk)), ("sk".to_owned(), items::string(sk))])
        };
        keys.extend(totals.into_iter().map(key));
        let mut read = Read::default();
        for item in self.dynamo.get_many(&self.table, keys, true).await? {
            let (pk, sk) = (items::text(&item, "pk"), items::text(&item, "sk"));
            if pk == items::DAYS {
                read.days.insert(sk.to_owned(), items::total(&item));
            } else if let Some(run) = pk.strip_prefix("run#") {
                read.runs.insert(run.to_owned(), items::total(&item));
            } else if let Some(entry) = items::entry(&item) {
                read.entries.insert(entry.id.clone(), entry);
            }
        }
        Ok(read)
    }
}

impl Batch {
    /// Returns the totals that the decision on a command is based on. The totals include the changes by earlier
    /// commands in the same transaction.
    fn spent(&mut self, job: &Job, entry: Option<&Entry>, read: &Read) -> Spent {
        let day = items::day_of(&job.id);
        let run = match (&job.command, entry) {
            (Command::Reserve { spend, .. }, _) => spend.run.as_str(),
            (_, Some(entry)) => entry.group.run.as_str(),
            (_, None) => return Spent::default(),
        };
        let total = |totals: &mut BTreeMap<String, Total>, read: &HashMap<String, u64>, name: &str| {
            let new = Total { read: read.get(name).copied().unwrap_or(0), ..Total::default() };
            Nanodollars(totals.entry(name.to_owned()).or_insert(new).now())
        };
        Spent { run: total(&mut self.runs, &read.runs, run), day: total(&mut self.days, &read.days, day) }
    }

    /// Adds a change to the transaction. Returns false if the change does not fit.
    fn add(&mut self, table: &str, before: Option<&Entry>, decided: &Decided, now: UnixMicros, days: u32) -> bool {
        let seconds = now.div_euclid(1_000_000);
        let (entry, mut writes) = match &decided.after {
            After::Same => return true,
            After::Is(entry) => {
                let item = items::entry_item(entry, seconds, days);
                let condition = Some(items::unchanged(before));
                (entry.as_ref(), vec![Write::Put { table: table.to_owned(), item, condition }])
            }
            After::Gone => {
                let Some(entry) = before else { return true };
                let (key, condition) = (items::entry_key(&entry.id), Some(items::unchanged(before)));
                (entry, vec![Write::Delete { table: table.to_owned(), key, condition }])
            }
        };
        writes.extend(decided.shares.iter().map(|share| {
            let item = items::entry_item(share, seconds, days);
            Write::Put { table: table.to_owned(), item, condition: None }
        }));
        let bytes: usize = writes.iter().map(Write::bytes).sum();
        // The change may add three more writes: its sums, its day and its run.
        let others = self.sums.len() + self.days.len() + self.runs.len() + 3;
        let full = self.writes.len() + writes.len() + others > MOST || self.bytes + bytes > MOST_BYTES;
        if full && !self.writes.is_empty() {
            return false;
        }
        self.writes.extend(writes);
        self.bytes += bytes;
        let change = change(before, decided);
        let sums = self.sums.entry(entry.group.clone()).or_default();
        for (sum, more) in sums.0.iter_mut().flatten().zip(change.0.iter().flatten()) {
            *sum += more;
        }
        let budget = decided.within.unwrap_or_default();
        let limits = [(&mut self.runs, &entry.group.run, budget.run), (&mut self.days, &entry.group.day, budget.day)];
        for (totals, name, limit) in limits {
            let total = totals.entry(name.clone()).or_default();
            total.more += change.cost();
            total.within(limit.map(|limit| limit.0));
        }
        true
    }

    fn finish(self, table: &str) -> Vec<Write> {
        let mut writes = self.writes;
        writes.extend(self.sums.iter().filter_map(|(group, sums)| items::sums_write(table, group, sums)));
        let days = self.days.iter().map(|(day, total)| (items::day_key(day), total));
        let runs = self.runs.iter().map(|(run, total)| (items::run_key(run), total));
        // Totals that do not change are not written, which avoids conflicts with other processes.
        let changed = days.chain(runs).filter(|(_, total)| total.more != 0 || total.most.is_some());
        writes.extend(changed.map(|(key, total)| items::total_write(table, key, total.more, total.most)));
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_allowed_what_keeps_every_budget() {
        let mut total = Total { read: 100, ..Total::default() };
        for (more, limit) in [(50, Some(200)), (-20, None), (60, Some(200)), (5, None)] {
            total.more += more;
            total.within(limit);
        }
        // The third change brings the sum to 90, so the total may be at most 110 before. The last one has no limit.
        assert_eq!((total.more, total.most, total.now()), (95, Some(110), 195));
    }
}
