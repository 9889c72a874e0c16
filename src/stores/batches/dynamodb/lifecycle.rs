//! A batch from its packing to its acceptance.
//!
//! # Packing, step by step
//! ```text
//! record (packing) ─▶ money ─▶ list of its items ─▶ items, one by one ─▶ record (PENDING)
//! ```
//! Each arrow is durable before the next step, and what stands behind it is known by the batch's id alone: a process that dies
//! in between leaves a record that says so, and whoever comes after gives the items of the list back and the money.
//!
//! # Who may write
//! Every write to a record is conditional on its epoch being at most the writer's, and leaves the writer's there. Whoever
//! takes over puts its own into every open record first, so that nothing of an earlier one is written after that look.

use docweir_aws::FaultKind;
use docweir_aws::dynamo::{AttributeValue, Expression, Write};
use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use super::item::{self, Item, Key, LIST, LIST_INDEX, State, WORK, WORK_INDEX, number, string};
use super::record::{self, BATCHES, OPEN, Record};
use super::requests::Listed;
use super::rules;
use super::store::{DynamoBatches, Told};
use crate::clock::timestamp;
use crate::failpoint;
use crate::money::Nanodollars;
use crate::stores::batches::*;
use crate::stores::ledger::{Asked, Ledger, Mode, Spend};
use crate::stores::paid::PaidError;

/// Items looked at together while a batch is packed.
const PAGE: usize = 500;

/// What is changed of a record.
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

    /// Without a value it is taken away.
    fn put(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.set(name, string(value)),
            None => self.remove(name),
        }
    }

    pub fn remove(mut self, name: &'static str) -> Self {
        self.removes.push(name);
        self
    }

    /// With a value only.
    pub fn also(self, name: &'static str, value: Option<AttributeValue>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
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
    pub(super) async fn record(&self, id: &str) -> Told<Option<Record>> {
        Ok(self.get(&record::key(id)).await?.as_ref().and_then(Record::read))
    }

    fn fenced(&self, id: &str) -> PaidError {
        PaidError::Fenced(format!("batch {id} is looked after by another process now"))
    }

    /// Writes to the record of an open batch. `false` where it has ended.
    pub(super) async fn amend(&self, id: &str, change: Change) -> Told<bool> {
        let epoch = self.epoch()?;
        let update = change.set("epoch", number(epoch)).expression();
        let condition = Expression::new("attribute_exists(pk) AND attribute_not_exists(ended_at) AND #epoch <= :epoch");
        let (table, key) = (self.table.clone(), record::key(id).attributes());
        let write = Write::Update { table, key, update, condition: Some(condition) };
        let mut tries = 0;
        loop {
            // What is set is set: written twice it is the same.
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

    // ── packing ────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) async fn pack_batch(&self, order: Order) -> Told<Packed> {
        let epoch = self.epoch()?;
        let (listed, counts) = match self.choose(&order).await? {
            Ok(chosen) => chosen.into_iter().unzip::<Listed, u64, Vec<_>, Vec<_>>(),
            Err(packed) => return Ok(packed),
        };
        let tokens = counts.iter().sum();
        let Some(_at_work) = self.begin(&order.id) else { return Ok(Packed::Nothing) };
        let entry = self.ledger.entry_of(&order.id);
        let batch = Batch {
            id: order.id.clone(),
            space: order.space.clone(),
            status: Status::Pending,
            model: order.model.clone(),
            endpoint: order.endpoint.clone(),
            items: listed.len() as u64,
            tokens,
            entry: entry.clone(),
            created_at: timestamp(self.clock.now()),
            ..empty(&order)
        };
        let record = Record { batch, packing: true, ending: None, epoch };
        self.make(&record).await?;
        self.made.note(order.id.clone());
        failpoint::reach("pack.recorded", &order.id);
        let cost = Nanodollars::of_tokens(tokens, order.usd_per_million_tokens);
        let spend = Spend { mode: Mode::Batch, subject: order.id.clone(), tokens, cost, ..order.spend.clone() };
        let reservation = match self.ledger.reserve_as(entry, spend, order.budget).await? {
            Asked::Given(reservation) => reservation,
            Asked::Refused { period, spent, limit } => {
                self.forget(&record).await?;
                return Ok(Packed::Refused { period, spent, limit });
            }
        };
        failpoint::reach("pack.reserved", &order.id);
        self.write_list(&order.id, &listed).await?;
        failpoint::reach("pack.listed", &order.id);
        let space = order.space.name();
        let keys: Vec<Key> = listed.iter().map(|listed| Key::of_item(&space, &listed.key)).collect();
        let claim = |nth: usize, now: Option<&Item>| {
            if nth > 0 {
                failpoint::reach("pack.claiming", &order.id);
            }
            rules::claim(&order.id, listed.get(nth).map_or("", |listed| &listed.hash), now)
        };
        let claimed = match self.change(&keys, claim).await {
            Ok(claimed) => claimed,
            Err(error) => {
                // What could not be undone now is undone by the next look at the open batches.
                if let Err(error) = self.undo(&record).await {
                    tracing::warn!(batch = order.id, %error, "a batch that could not be packed is undone later");
                }
                return Err(error);
            }
        };
        failpoint::reach("pack.claimed", &order.id);
        let mine = counts.iter().zip(&claimed).filter(|(_, yes)| **yes);
        let (items, tokens) = mine.fold((0, 0), |(items, sum), (tokens, _)| (items + 1, sum + tokens));
        if items == 0 {
            self.undo(&record).await?;
            return Ok(Packed::Nothing);
        }
        // Where some were not to be had, a little too much is set aside until its end.
        let change = Change::default().set("items", number(items)).set("tokens", number(tokens)).remove("packing");
        match self.amend(&order.id, change).await {
            Ok(_) => {}
            Err(error) => {
                // Taken over meanwhile: what was taken after that look goes back.
                if let Err(error) = self.change(&keys, |_, now| rules::unclaim(&order.id, now)).await {
                    tracing::warn!(batch = order.id, %error, "items of a batch that was taken over are given back later");
                }
                return Err(error);
            }
        }
        let batch = Batch { items, tokens, ..record.batch };
        Ok(Packed::Batch(Box::new(batch), reservation))
    }

    /// As many as every limit allows, the oldest first, with their tokens.
    async fn choose(&self, order: &Order) -> Told<std::result::Result<Vec<(Listed, u64)>, Packed>> {
        // As many as the budget allows; where it allows none, the reservation says so.
        let room = self.ledger.room(&order.spend.run, order.budget).await?;
        let affordable = room.map_or(u64::MAX, |room| room.tokens_at(order.usd_per_million_tokens));
        let (mut chosen, mut bytes, mut tokens) = (Vec::new(), 0, 0);
        let mut seen: HashSet<Key> = HashSet::new();
        let mut line = self.line("waiting", &order.space.name());
        let mut lagging = self.put.list();
        loop {
            let mut keys = line.take(PAGE.min(order.most_requests.max(1))).await?;
            if keys.is_empty() {
                // What an index may not know yet.
                keys = std::mem::take(&mut lagging);
                keys.retain(|key| !seen.contains(key));
                if keys.is_empty() {
                    break;
                }
            }
            let mut items = self.items(&keys).await?;
            let name = order.space.name();
            for key in keys {
                let fits = |item: &Item| item.is_waiting() && item.space == name;
                let Some(item) = items.remove(&key).filter(fits) else { continue };
                if !seen.insert(key) {
                    continue;
                }
                let line = (order.line_bytes)(&item.key, &item.input);
                if bytes + line > order.most_bytes || tokens + item.tokens > order.most_tokens {
                    return Ok(if chosen.is_empty() { Err(Packed::Full) } else { Ok(chosen) });
                }
                if !chosen.is_empty() && tokens + item.tokens > affordable {
                    return Ok(Ok(chosen));
                }
                (bytes, tokens) = (bytes + line, tokens + item.tokens);
                chosen.push((Listed { key: item.key, hash: item.hash }, item.tokens));
                if chosen.len() >= order.most_requests {
                    return Ok(Ok(chosen));
                }
            }
        }
        Ok(if chosen.is_empty() { Err(Packed::Nothing) } else { Ok(chosen) })
    }

    async fn make(&self, record: &Record) -> Told<()> {
        let condition = Some(Expression::new("attribute_not_exists(pk)"));
        let write = Write::Put { table: self.table.clone(), item: record.attributes(), condition };
        let mut tries = 0;
        loop {
            match self.dynamo.write(write.clone()).await {
                Ok(()) => return Ok(()),
                // Its id is new: that was this one, whose answer was lost.
                Err(fault) if fault.kind == FaultKind::Condition && tries > 0 => return Ok(()),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    /// It never was.
    async fn forget(&self, record: &Record) -> Told<()> {
        let epoch = self.epoch()?;
        let condition = Expression::new("attribute_not_exists(pk) OR #epoch <= :epoch").name("#epoch", "epoch");
        let condition = Some(condition.number(":epoch", epoch));
        let key = record::key(&record.batch.id).attributes();
        let write = Write::Delete { table: self.table.clone(), key, condition };
        let mut tries = 0;
        loop {
            match self.dynamo.write(write.clone()).await {
                Ok(()) => break,
                Err(fault) if fault.kind == FaultKind::Condition => return Err(self.fenced(&record.batch.id)),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
        self.made.forget(&record.batch.id);
        Ok(())
    }

    /// Items of its list that it has are nobody's again, as if they had never been taken.
    async fn give_back(&self, record: &Record) -> Told<()> {
        let (id, space) = (&record.batch.id, record.batch.space.name());
        let list = self.read_list(id).await?;
        let keys: Vec<Key> = list.iter().map(|listed| Key::of_item(&space, &listed.key)).collect();
        self.change(&keys, |_, now| rules::unclaim(id, now)).await.map(drop)
    }

    /// Packing that did not come to its end: items, list, money, record, in this order.
    async fn undo(&self, record: &Record) -> Told<()> {
        self.give_back(record).await?;
        self.delete_list(&record.batch.id).await?;
        self.ledger.release(&record.batch.entry).await?;
        self.forget(record).await
    }

    // ── who looks after batches ────────────────────────────────────────────────────────────────────────────────────

    pub(super) async fn taken_over_by(&self, epoch: u64) -> Told<()> {
        self.set_epoch(epoch);
        if epoch == 0 {
            return Ok(());
        }
        let open = self.open_batches().await?;
        let known: HashSet<String> = open.into_iter().map(|batch| batch.id).collect();
        // Items of a batch that is none: whoever took them had been stopped, and then died.
        for space in self.spaces().await? {
            let keys: Vec<Key> = self.of_state(&space.name(), State::Pending).await?.iter().map(Key::of).collect();
            for page in keys.chunks(PAGE) {
                let items = self.items(page).await?;
                let lost: HashMap<Key, String> = items
                    .into_iter()
                    .filter(|(_, item)| item.state == State::Pending)
                    .filter_map(|(key, item)| Some((key, item.batch?)))
                    .filter(|(_, batch)| !batch.starts_with("live:") && !known.contains(batch))
                    .collect();
                let (keys, batches): (Vec<Key>, Vec<String>) = lost.into_iter().unzip();
                let unclaim =
                    |nth: usize, now: Option<&Item>| rules::unclaim(batches.get(nth).map_or("", String::as_str), now);
                let back = self.change(&keys, unclaim).await?.into_iter().filter(|yes| *yes).count();
                if back > 0 {
                    tracing::warn!(items = back, "items of batches that are no more wait again");
                }
            }
        }
        Ok(())
    }

    /// Records of open batches. For whoever looks after them: with what somebody else had begun finished or undone.
    pub(super) async fn open_batches(&self) -> Told<Vec<Batch>> {
        let found = self.all(self.index(WORK_INDEX, WORK, OPEN)).await?;
        let mut keys: HashSet<Key> = found.iter().map(Key::of).collect();
        keys.extend(self.made.list().iter().map(|id| record::key(id)));
        let keys: Vec<Key> = keys.into_iter().collect();
        let mut records: Vec<Record> = self.get_many(&keys).await?.values().filter_map(Record::read).collect();
        records.retain(|record| record.batch.ended_at.is_none());
        if self.holds() {
            let epoch = self.epoch()?;
            let mut settled = Vec::new();
            for record in records {
                if record.epoch < epoch {
                    // From here on nothing of an earlier one is written to it; what it is now is read after that.
                    self.amend(&record.batch.id, Change::default()).await?;
                }
                settled.extend(self.recovered(record).await?);
            }
            records = settled;
        }
        let mut open: Vec<Batch> = records.into_iter().filter(|r| !r.packing).map(|r| r.batch).collect();
        open.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
        Ok(open)
    }

    /// The record as it is now; `None` for one that has come to its end by that.
    async fn recovered(&self, record: Record) -> Told<Option<Record>> {
        let epoch = self.epoch()?;
        if record.epoch == epoch && !record.packing && record.ending.is_none() {
            return Ok(Some(record));
        }
        let id = record.batch.id.clone();
        // It is being packed or ended here, just now.
        let Some(_at_work) = self.begin(&id) else { return Ok(Some(record)) };
        let Some(record) = self.record(&id).await?.filter(|r| r.batch.ended_at.is_none()) else { return Ok(None) };
        if record.packing {
            tracing::info!(batch = id, "a batch that was not packed to its end is undone");
            self.undo(&record).await?;
            return Ok(None);
        }
        if let Some(ending) = record.ending.clone() {
            self.finish(&record, &ending).await?;
            return Ok(None);
        }
        Ok(Some(record))
    }

    pub(super) async fn newest(&self, limit: usize) -> Told<Vec<Batch>> {
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

    pub(super) async fn batch_of(&self, id: &str) -> Told<Option<Batch>> {
        if let Some(record) = self.record(id).await? {
            return Ok(Some(record.batch).filter(|_| !record.packing));
        }
        let Some(named) = self.get(&record::provider_key(id)).await? else { return Ok(None) };
        Ok(self.record(item::text(&named, "batch")).await?.map(|record| record.batch))
    }

    pub(super) async fn provider_has(&self, batch: &str, provider_id: &str) -> Told<()> {
        let mut named = record::provider_key(provider_id).attributes();
        named.insert("batch".into(), string(batch));
        self.write(Write::Put { table: self.table.clone(), item: named, condition: None }).await?;
        let now = timestamp(self.clock.now());
        let change = Change::default()
            .set("provider_id", string(provider_id))
            .set("submitted_at", string(now))
            .set("status", string(Status::Validating.name()));
        self.amend(batch, change).await.map(drop)
    }

    pub(super) async fn provider_says(&self, batch: &str, c: Checked) -> Told<()> {
        let lines = serde_json::to_string(&c.error_lines).unwrap_or_default();
        let change = Change::default()
            .set("status", string(c.status.name()))
            .set("done", number(c.done))
            .set("checked_at", string(timestamp(self.clock.now())))
            .set("error_lines", string(lines))
            .put("output_file_id", c.output_file_id.as_deref())
            .put("error_file_id", c.error_file_id.as_deref())
            .put("expires_at", c.expires_at.as_deref())
            .also("error", c.error.as_deref().map(string))
            .also("charged_tokens", c.charged_tokens.map(number));
        self.amend(batch, change).await.map(drop)
    }

    /// By anyone: whoever looks after it sees it.
    pub(super) async fn ask_to_cancel(&self, batch: &str) -> Told<bool> {
        let update = Expression::new("SET #cancel = :yes").name("#cancel", "cancel");
        let update = update.value(":yes", AttributeValue::Bool(true));
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

/// A batch of which nothing is known yet.
fn empty(order: &Order) -> Batch {
    Batch {
        id: String::new(),
        space: order.space.clone(),
        status: Status::Pending,
        model: order.model.clone(),
        endpoint: String::new(),
        items: 0,
        tokens: 0,
        entry: crate::stores::ledger::EntryId::new(""),
        created_at: String::new(),
        input_file_id: None,
        asked_at: None,
        provider_id: None,
        submitted_at: None,
        checked_at: None,
        output_file_id: None,
        error_file_id: None,
        expires_at: None,
        done: 0,
        cancel: false,
        warned: false,
        stored: 0,
        failed: 0,
        stale: 0,
        returned: 0,
        charged_tokens: None,
        error: None,
        error_lines: Vec::new(),
        ended_at: None,
    }
}
