//! Reads items, decides their changes and writes them. Also reads queues of items from the index, and holds the
//! leader's epoch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use docweir_aws::dynamo::{Dynamo, Expression, Item as Attributes, MOST, Query, Write, again};
use docweir_aws::{Fault, FaultKind};
use docweir_core::clock::SharedClock;
use docweir_objects::ObjectStore;
use docweir_stores::batches::Space;
use docweir_stores::paid::PaidError;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;
use ulid::Ulid;

use super::item::{self, AT, Item, Key, SHARDS, WORK, WORK_INDEX};
use super::requests::Listed;
use crate::ledger::{DynamoLedger, told};

pub type StoreResult<T> = Result<T, PaidError>;

/// Maximum number of concurrent item writes.
const AT_ONCE: usize = 32;
/// Wait before the first retry of a write. The wait doubles with each retry, up to 64 times this value.
const WAIT: Duration = Duration::from_millis(10);
/// Assumed maximum lag of an index, with a margin.
const LAG: Duration = Duration::from_secs(30);
/// Maximum number of keys or ids that are remembered. A write that is not remembered is found only after the index
/// contains it.
const MOST_RECENT: usize = 10_000;

/// Describes how a rule changes an item, and holds the answer to the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<T> {
    Keep(T),
    Write(Box<Item>, T),
    Delete(T),
}

/// Remembers which keys or ids this process wrote recently, because an index may not contain these keys or ids yet.
pub struct Recent<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Recent<K> {
    fn map(&self) -> MutexGuard<'_, HashMap<K, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, name: K) {
        let mut map = self.map();
        if map.len() >= MOST_RECENT {
            map.retain(|_, at| at.elapsed() < LAG);
        }
        if map.len() < MOST_RECENT {
            map.insert(name, Instant::now());
        }
    }

    pub fn forget(&self, name: &K) {
        self.map().remove(name);
    }

    pub fn list(&self) -> Vec<K> {
        let mut map = self.map();
        map.retain(|_, at| at.elapsed() < LAG);
        map.keys().cloned().collect()
    }
}

pub struct DynamoBatches {
    pub(super) dynamo: Dynamo,
    pub(super) table: String,
    pub(super) attempts: u32,
    pub(super) ledger: Arc<DynamoLedger>,
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) clock: SharedClock,
    /// Epoch of this process as the leader; 0 while the process is not the leader.
    epoch: AtomicU64,
    last: AtomicI64,
    /// Spaces that are known to be registered.
    spaces: Mutex<HashSet<String>>,
    /// Waiting items that this process wrote recently.
    pub(super) put: Recent<Key>,
    /// Items that this process wrote recently. Their outcomes must still be reported to users' tables.
    pub(super) ended: Recent<Key>,
    /// Batches that were created recently.
    pub(super) made: Recent<String>,
    /// Documents that were woken recently.
    pub(super) woken: Recent<String>,
    /// Batches that this process is packing or ending now.
    pub(super) at_work: Mutex<HashSet<String>>,
    /// Item list that was read last, with the id of its batch.
    pub(super) listed: Mutex<Option<(String, Arc<Vec<Listed>>)>>,
}

/// Marks a batch that this process is packing or ending. The mark is removed when this value is dropped.
pub struct AtWork<'a> {
    batches: &'a Mutex<HashSet<String>>,
    id: String,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl DynamoBatches {
    pub fn new(
        dynamo: Dynamo,
        options: &docweir_aws::DynamoOptions,
        ledger: Arc<DynamoLedger>,
        objects: Arc<dyn ObjectStore>,
        clock: SharedClock,
    ) -> Self {
        Self {
            dynamo,
            table: options.batches_table.clone(),
            attempts: options.attempts,
            ledger,
            objects,
            clock,
            epoch: AtomicU64::new(0),
            last: AtomicI64::new(0),
            spaces: Mutex::default(),
            put: Recent::default(),
            ended: Recent::default(),
            made: Recent::default(),
            woken: Recent::default(),
            at_work: Mutex::default(),
            listed: Mutex::default(),
        }
    }

    pub(super) fn failed(&self, fault: &Fault) -> PaidError {
        told(&self.table, fault)
    }

    /// Marks a batch that this process begins to pack or to end. Returns `None` if the batch is already marked.
    pub(super) fn begin(&self, id: &str) -> Option<AtWork<'_>> {
        let new = self.at_work.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        new.then(|| AtWork { batches: &self.at_work, id: id.to_owned() })
    }

    /// Returns the leader's epoch, which every write to a batch must contain. Fails if this process is not the leader.
    pub(super) fn epoch(&self) -> StoreResult<u64> {
        match self.epoch.load(Ordering::Acquire) {
            0 => Err(PaidError::Fenced("this process is not the leader for batches".into())),
            epoch => Ok(epoch),
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.epoch.load(Ordering::Acquire) > 0
    }

    pub(super) fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Returns a new queue position, which is unique in this process.
    pub(super) fn place(&self) -> String {
        let now = self.clock.now();
        let next = |last: i64| Some(last.saturating_add(1).max(now));
        let last = self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).unwrap_or(now);
        format!("{:020}", last.saturating_add(1).max(now))
    }

    /// Stores the name of a space that has items. Each process writes each name only once.
    pub(super) async fn register(&self, space: &str) -> StoreResult<()> {
        let known =
            |spaces: &Mutex<HashSet<String>>| spaces.lock().unwrap_or_else(PoisonError::into_inner).contains(space);
        if known(&self.spaces) {
            return Ok(());
        }
        let item = Key::new("spaces", space).attributes();
        self.write(Write::Put { table: self.table.clone(), item, condition: None }).await?;
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).insert(space.to_owned());
        Ok(())
    }

    pub(super) async fn spaces(&self) -> StoreResult<Vec<Space>> {
        let found = self.all(self.partition("spaces")).await?;
        Ok(found.iter().map(|item| Space::parse(item::text(item, "sk"))).collect())
    }

    // ── single calls ───────────────────────────────────────────────────────────────────────────────────────────────

    /// Applies a write that is safe to repeat, with retries.
    pub(super) async fn write(&self, write: Write) -> StoreResult<()> {
        let mut tries = 0;
        loop {
            match self.dynamo.write(write.clone()).await {
                Ok(()) => return Ok(()),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    /// Waits before the next attempt and returns the incremented number of tries. Returns the error if no attempts are
    /// left, or if a retry cannot succeed. For example, a retry cannot succeed if the condition of a write did not
    /// hold. Callers that handle this case must do so before they call this function.
    pub(super) async fn after(&self, tries: u32, fault: &Fault) -> StoreResult<u32> {
        again(WAIT, tries, self.attempts, fault).await.ok_or_else(|| self.failed(fault))
    }

    pub(super) async fn get(&self, key: &Key) -> StoreResult<Option<Attributes>> {
        let mut tries = 0;
        loop {
            match self.dynamo.get(&self.table, key.attributes(), true).await {
                Ok(found) => return Ok(found),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    /// Reads the items with these keys, with consistent reads.
    pub(super) async fn get_many(&self, keys: &[Key]) -> StoreResult<HashMap<Key, Attributes>> {
        let mut tries = 0;
        loop {
            let keys = keys.iter().map(Key::attributes).collect();
            match self.dynamo.get_many(&self.table, keys, true).await {
                Ok(found) => return Ok(found.into_iter().map(|a| (Key::of(&a), a)).collect()),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    pub(super) async fn items(&self, keys: &[Key]) -> StoreResult<HashMap<Key, Item>> {
        let found = self.get_many(keys).await?;
        Ok(found.into_iter().filter_map(|(key, a)| Some((key, Item::read(&a)?))).collect())
    }

    pub(super) async fn page(&self, query: &Query) -> StoreResult<docweir_aws::dynamo::Page> {
        let mut tries = 0;
        loop {
            match self.dynamo.query(query).await {
                Ok(page) => return Ok(page),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    pub(super) async fn count(&self, query: &Query) -> StoreResult<u64> {
        let mut tries = 0;
        loop {
            match self.dynamo.count(query).await {
                Ok(count) => return Ok(count),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    pub(super) async fn all(&self, mut query: Query) -> StoreResult<Vec<Attributes>> {
        let mut found = Vec::new();
        loop {
            let page = self.page(&query).await?;
            found.extend(page.items);
            query.start = page.next;
            if query.start.is_none() {
                return Ok(found);
            }
        }
    }

    /// Returns the query for all items in a partition, with consistent reads.
    pub(super) fn partition(&self, pk: &str) -> Query {
        let key = Expression::new("pk = :pk").string(":pk", pk);
        Query { table: self.table.clone(), key, consistent: true, ..Query::default() }
    }

    /// Returns the query for all entries that an index lists under the hash key `name`. The results are ordered by the
    /// index's range key.
    pub(super) fn index(&self, index: &str, attribute: &str, name: &str) -> Query {
        Query {
            table: self.table.clone(),
            index: Some(index.to_owned()),
            key: Expression::new("#hash = :hash").name("#hash", attribute).string(":hash", name),
            ..Query::default()
        }
    }

    // ── many items ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Reads items, decides how each item changes, and writes the changed items. Each write has the condition that the
    /// stored item is unchanged since the read. If the condition does not hold, that item is read and decided again.
    /// The keys must be distinct. The answers are in the order of the keys.
    pub(super) async fn change<T: Clone + Send + Sync>(
        &self,
        keys: &[Key],
        decide: impl Fn(usize, Option<&Item>) -> Step<T> + Send + Sync,
    ) -> StoreResult<Vec<T>> {
        let mut answers = Vec::with_capacity(keys.len());
        for (nth, part) in keys.chunks(MOST).enumerate() {
            let mut read = self.items(part).await?;
            let mut writes = Vec::with_capacity(part.len());
            for (at, key) in part.iter().enumerate() {
                writes.push(self.write_until_done(key, read.remove(key), nth * MOST + at, &decide));
            }
            let done: Vec<T> = stream::iter(writes).buffered(AT_ONCE).try_collect().await?;
            answers.extend(done);
        }
        Ok(answers)
    }

    /// Changes items and returns the number of items that changed.
    pub(super) async fn changed(
        &self,
        keys: &[Key],
        decide: impl Fn(usize, Option<&Item>) -> Step<bool> + Send + Sync,
    ) -> StoreResult<u64> {
        Ok(self.change(keys, decide).await?.into_iter().filter(|yes| *yes).count() as u64)
    }

    async fn write_until_done<T: Clone + Send + Sync>(
        &self,
        key: &Key,
        mut read: Option<Item>,
        nth: usize,
        decide: &(impl Fn(usize, Option<&Item>) -> Step<T> + Send + Sync),
    ) -> StoreResult<T> {
        // Writes that may have been applied, each with its answer.
        let mut uncertain: Vec<(String, T)> = Vec::new();
        let mut tries = 0;
        loop {
            let applied = read.as_ref().and_then(|item| uncertain.iter().find(|(id, _)| *id == item.write_id));
            if let Some((_, answer)) = applied {
                return Ok(answer.clone());
            }
            let condition = Some(match &read {
                None => Expression::new("attribute_not_exists(pk)"),
                Some(item) => Expression::new("write_id = :write").string(":write", &item.write_id),
            });
            let table = self.table.clone();
            let write_id = Ulid(fastrand::u128(..)).to_string();
            let (write, answer, waits, owes) = match decide(nth, read.as_ref()) {
                Step::Keep(answer) => return Ok(answer),
                Step::Write(item, answer) => {
                    let attributes = item.attributes(&write_id, self.clock.now().div_euclid(1_000_000));
                    (
                        Write::Put { table, item: attributes, condition },
                        answer,
                        item.state.is_waiting(),
                        item.state.owes(),
                    )
                }
                Step::Delete(answer) => {
                    (Write::Delete { table, key: key.attributes(), condition }, answer, false, false)
                }
            };
            match self.dynamo.write(write).await {
                Ok(()) => {
                    if waits {
                        self.put.note(key.clone());
                    }
                    if owes {
                        self.ended.note(key.clone());
                    }
                    return Ok(answer);
                }
                Err(fault) if fault.kind == FaultKind::Condition => {
                    tries = self.after(tries, &Fault { kind: FaultKind::Conflict, ..fault }).await?;
                }
                Err(fault) => {
                    tries = self.after(tries, &fault).await?;
                    uncertain.push((write_id, answer));
                }
            }
            read = self.get(key).await?.as_ref().and_then(Item::read);
        }
    }

    /// Returns a cursor over the keys of those items of a space that are due for the given kind of work. The items
    /// that have waited longest come first.
    pub(super) fn line(&self, kind: &str, space: &str) -> ShardCursor<'_> {
        let shard = |shard| {
            let query = self.index(WORK_INDEX, WORK, &item::work(kind, space, shard));
            Shard { query: Some(query), held: VecDeque::new() }
        };
        ShardCursor { store: self, shards: (0..SHARDS).map(shard).collect() }
    }

    /// Returns the keys of at most `limit` items that are due for the given kind of work.
    pub(super) async fn of_work(&self, kind: &str, space: &str, limit: usize) -> StoreResult<Vec<Key>> {
        self.line(kind, space).take(limit).await
    }
}

/// Merges the entries of all shards of an index into one ordered sequence.
pub struct ShardCursor<'a> {
    store: &'a DynamoBatches,
    shards: Vec<Shard>,
}

struct Shard {
    /// Query of the next page; `None` after the last page.
    query: Option<Query>,
    held: VecDeque<Attributes>,
}

impl ShardCursor<'_> {
    pub async fn take(&mut self, limit: usize) -> StoreResult<Vec<Key>> {
        Ok(self.entries(limit).await?.iter().map(Key::of).collect())
    }

    /// Returns the next entries of the index, at most `limit`.
    pub async fn entries(&mut self, limit: usize) -> StoreResult<Vec<Attributes>> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let store = self.store;
            let page = (limit / 4).clamp(25, 1_000);
            let fills =
                self.shards.iter_mut().filter(|shard| shard.held.is_empty()).map(|shard| shard.fill(store, page));
            stream::iter(fills.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect::<Vec<()>>().await?;
            let first = |shard: &Shard| shard.held.front().map(|a| item::text(a, AT).to_owned());
            let next =
                self.shards.iter_mut().filter_map(|shard| Some((first(shard)?, shard))).min_by(|a, b| a.0.cmp(&b.0));
            let Some((_, shard)) = next else { break };
            taken.extend(shard.held.pop_front());
        }
        Ok(taken)
    }
}

impl Shard {
    async fn fill(&mut self, store: &DynamoBatches, page: usize) -> StoreResult<()> {
        while self.held.is_empty()
            && let Some(mut query) = self.query.take()
        {
            query.limit = Some(page);
            let answer = store.page(&query).await?;
            self.held.extend(answer.items);
            self.query = answer.next.map(|start| Query { start: Some(start), ..query });
        }
        Ok(())
    }
}
