//! Writes the records of batches, and finishes or undoes steps that an earlier leader left incomplete.
//!
//! # Fencing
//! A write to a record succeeds only if the epoch in the record is not higher than the writer's epoch. Each successful
//! write stores the writer's epoch in the record. A new leader first writes its own epoch to every open record. After
//! that, no write of an earlier leader succeeds.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use docweir_aws::FaultKind;
use docweir_aws::dynamo::{AttributeValue, Expression, Write};
use docweir_core::clock::timestamp;
use docweir_stores::batches::rules::batch::{Changes, Event, Value, changes};
use docweir_stores::batches::rules::{ItemStatus, is_live};
use docweir_stores::batches::*;
use docweir_stores::paid::PaidError;

use super::item::{self, Item, Key, LIST, LIST_INDEX, WORK, WORK_INDEX, number, string};
use super::packing::unclaim;
use super::record::{self, BATCHES, OPEN, Record};
use super::store::{DynamoBatches, StoreResult};

/// Number of items that are read at a time.
const PAGE: usize = 500;

/// Holds the attributes that a write sets in a record, and the attributes that the write removes.
#[derive(Default)]
pub struct Change {
    sets: Vec<(&'static str, AttributeValue)>,
    removes: Vec<&'static str>,
}

impl Change {
    pub fn set(mut self, name: &'static str, value: AttributeValue) -> Self {
        self.sets.push((name, value));
        self
    }

    /// Converts the changes of a record into DynamoDB attributes. The shared rules have decided these changes.
    fn of(changes: Changes) -> Self {
        changes.into_iter().fold(Self::default(), |change, (name, value)| match value {
            Value::Text(text) => change.set(name, string(text)),
            Value::Number(n) => change.set(name, number(n)),
            Value::Yes => change.set(name, AttributeValue::Bool(true)),
            Value::Nothing => change.remove(name),
        })
    }

    pub fn remove(mut self, name: &'static str) -> Self {
        self.removes.push(name);
        self
    }

    fn expression(&self) -> Expression {
        let sets: Vec<String> = self.sets.iter().map(|(name, _)| format!("#{name} = :{name}")).collect();
        let removes: Vec<String> = self.removes.iter().map(|name| format!("#{name}")).collect();
        let mut text = format!("SET {}", sets.join(", "));
        if !removes.is_empty() {
            text.push_str(&format!(" REMOVE {}", removes.join(", ")));
        }
        let expression = self.sets.iter().fold(Expression::new(text), |e, (name, v)| {
            e.name(&format!("#{name}"), name).value(&format!(":{name}"), v.clone())
        });
        self.removes.iter().fold(expression, |e, name| e.name(&format!("#{name}"), name))
    }
}

impl DynamoBatches {
    pub(super) async fn record(&self, id: &str) -> StoreResult<Option<Record>> {
        Ok(self.get(&record::key(id)).await?.as_ref().and_then(Record::read))
    }

    pub(super) fn fenced(&self, id: &str) -> PaidError {
        PaidError::Fenced(format!("batch {id} is managed by another process now"))
    }

    /// Changes the record of an open batch. Returns false if the batch has ended.
    pub(super) async fn amend(&self, id: &str, change: Change) -> StoreResult<bool> {
        let epoch = self.epoch()?;
        let update = change.set("epoch", number(epoch)).expression();
        let condition = Expression::new("attribute_exists(pk) AND attribute_not_exists(ended_at) AND #epoch <= :epoch");
        let (table, key) = (self.table.clone(), record::key(id).attributes());
        let write = Write::Update { table, key, update, condition: Some(condition) };
        let mut tries = 0;
        loop {
            // The change sets absolute values, so a repeated write has the same result.
            match self.dynamo.write(write.clone()).await {
                Ok(()) => return Ok(true),
                Err(fault) if fault.kind == FaultKind::Condition => {
                    return match self.record(id).await? {
                        Some(record) if record.epoch > epoch => Err(self.fenced(id)),
                        Some(_) => Ok(false),
                        None => Err(self.fenced(id)),
                    };
                }
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    // ── the leader ─────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) async fn taken_over_by(&self, epoch: u64) -> StoreResult<()> {
        self.set_epoch(epoch);
        if epoch == 0 {
            return Ok(());
        }
        let open = self.open_batches().await?;
        let known: HashSet<String> = open.into_iter().map(|batch| batch.id).collect();
        // Some items may belong to a batch that no longer exists. The process that claimed them was paused while the
        // batch was undone, and died later.
        for space in self.spaces().await? {
            let keys: Vec<Key> =
                self.of_status(&space.name(), ItemStatus::Pending).await?.iter().map(Key::of).collect();
            for page in keys.chunks(PAGE) {
                let items = self.items(page).await?;
                let lost: HashMap<Key, String> = items
                    .into_iter()
                    .filter(|(_, item)| item.state.status == ItemStatus::Pending)
                    .filter_map(|(key, item)| Some((key, item.state.batch?)))
                    .filter(|(_, batch)| !is_live(batch) && !known.contains(batch))
                    .collect();
                let (keys, batches): (Vec<Key>, Vec<String>) = lost.into_iter().unzip();
                let unclaim =
                    |nth: usize, now: Option<&Item>| unclaim(batches.get(nth).map_or("", String::as_str), now);
                let back = self.changed(&keys, unclaim).await?;
                if back > 0 {
                    tracing::warn!(items = back, "items of missing batches returned to the backlog");
                }
            }
        }
        Ok(())
    }

    /// Returns the open batches. If this process is the leader, first finishes or undoes steps that an earlier leader
    /// left incomplete.
    pub(super) async fn open_batches(&self) -> StoreResult<Vec<Batch>> {
        let found = self.all(self.index(WORK_INDEX, WORK, OPEN)).await?;
        let mut keys: HashSet<Key> = found.iter().map(Key::of).collect();
        keys.extend(self.made.list().iter().map(|id| record::key(id)));
        let keys: Vec<Key> = keys.into_iter().collect();
        let mut records: Vec<Record> = self.get_many(&keys).await?.values().filter_map(Record::read).collect();
        records.retain(|record| record.batch.ended_at.is_none());
        if self.holds() {
            let epoch = self.epoch()?;
            let mut recovered = Vec::new();
            for record in records {
                if record.epoch < epoch {
                    // After this write, an earlier leader can no longer change the record, so the current state is
                    // read afterwards.
                    self.amend(&record.batch.id, Change::default()).await?;
                }
                recovered.extend(self.recovered(record).await?);
            }
            records = recovered;
        }
        let mut open: Vec<Batch> = records.into_iter().filter(|r| !r.packing).map(|r| r.batch).collect();
        open.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
        Ok(open)
    }

    /// Finishes or undoes an interrupted step of a batch. Returns the current record of the batch, or `None` if the
    /// batch is no longer open.
    async fn recovered(&self, record: Record) -> StoreResult<Option<Record>> {
        let epoch = self.epoch()?;
        if record.epoch == epoch && !record.packing && record.ending.is_none() {
            return Ok(Some(record));
        }
        let id = record.batch.id.clone();
        // Another task of this process is packing or ending the batch.
        let Some(_at_work) = self.begin(&id) else { return Ok(Some(record)) };
        let Some(record) = self.record(&id).await?.filter(|r| r.batch.ended_at.is_none()) else { return Ok(None) };
        if record.packing {
            tracing::info!(batch = id, "undoing incompletely packed batch");
            self.undo(&record).await?;
            return Ok(None);
        }
        if let Some(ending) = record.ending.clone() {
            self.finish(&record, &ending).await?;
            return Ok(None);
        }
        Ok(Some(record))
    }

    pub(super) async fn newest(&self, limit: usize) -> StoreResult<Vec<Batch>> {
        let mut query = self.index(LIST_INDEX, LIST, BATCHES);
        query.descending = true;
        let mut keys: HashSet<Key> = self.made.list().iter().map(|id| record::key(id)).collect();
        let mut found = 0;
        while found < limit {
            query.limit = Some((limit - found).clamp(1, 1_000));
            let page = self.page(&query).await?;
            found += page.items.len();
            keys.extend(page.items.iter().map(Key::of));
            query.start = page.next;
            if query.start.is_none() {
                break;
            }
        }
        let keys: Vec<Key> = keys.into_iter().collect();
        let records = self.get_many(&keys).await?;
        let mut batches: Vec<Batch> =
            records.values().filter_map(Record::read).filter(|r| !r.packing).map(|r| r.batch).collect();
        batches.sort_by(|a, b| (&b.created_at, &b.id).cmp(&(&a.created_at, &a.id)));
        batches.truncate(limit);
        Ok(batches)
    }

    pub(super) async fn batch_of(&self, id: &str) -> StoreResult<Option<Batch>> {
        if let Some(record) = self.record(id).await? {
            return Ok(Some(record.batch).filter(|_| !record.packing));
        }
        let Some(named) = self.get(&record::provider_key(id)).await? else { return Ok(None) };
        Ok(self.record(item::text(&named, "batch")).await?.map(|record| record.batch))
    }

    pub(super) async fn provider_has(&self, batch: &str, provider_id: &str) -> StoreResult<()> {
        let mut named = record::provider_key(provider_id).attributes();
        named.insert("batch".into(), string(batch));
        self.write(Write::Put { table: self.table.clone(), item: named, condition: None }).await?;
        self.happened(batch, &Event::TakenOver { provider_id }).await
    }

    /// Returns the changes that an event makes to the record of a batch.
    pub(super) fn event(&self, event: &Event<'_>) -> Change {
        Change::of(changes(event, &timestamp(self.clock.now())))
    }

    /// Applies an event to the record of an open batch.
    pub(super) async fn happened(&self, batch: &str, event: &Event<'_>) -> StoreResult<()> {
        self.amend(batch, self.event(event)).await.map(drop)
    }

    /// Requests the cancellation of a batch. Any process may request it, and the leader carries it out.
    pub(super) async fn ask_to_cancel(&self, batch: &str) -> StoreResult<bool> {
        let update = self.event(&Event::Cancel).expression();
        let condition = Expression::new("attribute_exists(pk) AND attribute_not_exists(ended_at)");
        let (table, key) = (self.table.clone(), record::key(batch).attributes());
        let write = Write::Update { table, key, update, condition: Some(condition) };
        let mut tries = 0;
        loop {
            match self.dynamo.write(write.clone()).await {
                Ok(()) => return Ok(true),
                Err(fault) if fault.kind == FaultKind::Condition => return Ok(false),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    pub(super) fn forget_list(&self, batch: &str) {
        let mut held = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|(id, _)| id == batch) {
            *held = None;
        }
    }
}
