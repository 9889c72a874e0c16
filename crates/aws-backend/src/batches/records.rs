//! Stores records, and reads the backlog of waiting items.

use std::collections::{BTreeMap, HashSet};

use docweir_aws::FaultKind;
use docweir_aws::dynamo::{Expression, Item as Attributes, Write};
use docweir_core::model::ModelIdentity;
use docweir_stores::batches::rules::records::Incoming;
use docweir_stores::batches::rules::{ItemState, ItemStatus, hash_of};
use docweir_stores::batches::*;
use docweir_stores::paid::PaidError;

use super::apply::{self, Given, change};
use super::item::{self, Item, Key, LIST, LIST_INDEX, SHARDS};
use super::store::{DynamoBatches, Step, StoreResult};

/// Number of waiting items at which the count for a space stops. A larger backlog is therefore reported as having
/// about this number of items.
const MOST_COUNTED: usize = 200_000;
/// Number of index entries that are read at a time.
const PAGE: usize = 1_000;

impl DynamoBatches {
    pub(super) async fn put_records(&self, space: &Space, items: Vec<NewItem>) -> StoreResult<Put> {
        let space = space.name();
        self.register(&space).await?;
        // If a key occurs twice, its items are stored one after the other.
        let mut put = Put::default();
        let mut rest = items;
        while !rest.is_empty() {
            let mut seen = HashSet::new();
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|item| seen.insert(item.key.clone()));
            let keys: Vec<Key> = now.iter().map(|item| Key::of_item(&space, &item.key)).collect();
            let mut given = Vec::with_capacity(now.len());
            for item in &now {
                let put = apply::Put::of(item);
                given.push(put.map_err(|e| PaidError::Storage(format!("can't serialise a record: {e}")))?);
            }
            let places: Vec<String> = now.iter().map(|_| self.place()).collect();
            let decide = |nth: usize, found: Option<&Item>| match (now.get(nth), given.get(nth), places.get(nth)) {
                (Some(new), Some(given), Some(place)) => put_record(&space, new, given, place, found),
                _ => Step::Keep(Put::default()),
            };
            for more in self.change(&keys, decide).await? {
                put += more;
            }
            rest = later;
        }
        Ok(put)
    }

    pub(super) async fn bind_model(&self, collection: &str, model: &ModelIdentity) -> StoreResult<ModelIdentity> {
        let key = Key::new("collections", collection);
        let text =
            serde_json::to_string(model).map_err(|e| PaidError::Storage(format!("can't serialise the model: {e}")))?;
        let mut item = key.attributes();
        item.insert("model".into(), item::string(text));
        let mut tries = 0;
        loop {
            if let Some(bound) = self.get(&key).await?.as_ref().and_then(model_of) {
                return Ok(bound);
            }
            let condition = Some(Expression::new("attribute_not_exists(pk)"));
            match self.dynamo.write(Write::Put { table: self.table.clone(), item: item.clone(), condition }).await {
                Ok(()) => return Ok(model.clone()),
                Err(fault) if fault.kind == FaultKind::Condition && tries == 0 => tries += 1,
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    pub(super) async fn bound_collections(&self) -> StoreResult<Vec<(String, ModelIdentity)>> {
        let found = self.all(self.partition("collections")).await?;
        Ok(found.iter().filter_map(|a| Some((item::text(a, "sk").to_owned(), model_of(a)?))).collect())
    }

    pub(super) async fn delete_records(&self, space: &Space, keys: Vec<String>) -> StoreResult<u64> {
        let space = space.name();
        let mut seen = HashSet::new();
        let keys: Vec<Key> =
            keys.iter().filter(|key| seen.insert(key.as_str())).map(|key| Key::of_item(&space, key)).collect();
        self.changed(&keys, |_, now| change(now, Given::Nothing, rules::records::delete)).await
    }

    /// Returns those items of a space that are due for the given kind of work. Each item that the index lists is read
    /// again, because the index may be outdated.
    async fn worked(
        &self,
        kind: &str,
        space: &Space,
        limit: usize,
        wanted: fn(&ItemState) -> bool,
    ) -> StoreResult<Vec<Item>> {
        let mut line = self.line(kind, &space.name());
        let mut found = Vec::new();
        while found.len() < limit {
            let keys = line.take(limit.min(PAGE)).await?;
            if keys.is_empty() {
                break;
            }
            let mut items = self.items(&keys).await?;
            found.extend(keys.iter().filter_map(|key| items.remove(key)).filter(|item| wanted(&item.state)));
        }
        found.truncate(limit);
        Ok(found)
    }

    pub(super) async fn rows_to_remove(&self, space: &Space, limit: usize) -> StoreResult<Vec<Removal>> {
        let items = self.worked("remove", space, limit, ItemState::leaves).await?;
        let removal = |item: Item| Removal { item: item.id().id(), version: item.state.version, key: item.key };
        Ok(items.into_iter().map(removal).collect())
    }

    pub(super) async fn rows_removed(&self, removals: Vec<Removal>) -> StoreResult<()> {
        let keys: Vec<Key> = removals.iter().map(|removal| Key::of_id(&removal.item)).collect();
        let decide = |nth: usize, now: Option<&Item>| match removals.get(nth) {
            Some(removal) => change(now, Given::Nothing, |now| rules::records::removed(now, removal.version)),
            None => Step::Keep(false),
        };
        self.change(&keys, decide).await.map(drop)
    }

    pub(super) async fn rows_to_refresh(&self, space: &Space, limit: usize) -> StoreResult<Vec<Sent>> {
        let items = self.worked("refresh", space, limit, ItemState::refreshes).await?;
        Ok(items.iter().filter_map(Item::as_sent).collect())
    }

    pub(super) async fn rows_refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> StoreResult<()> {
        let keys: Vec<Key> = items.iter().map(|(item, ..)| Key::of_id(item)).collect();
        let decide = |nth: usize, now: Option<&Item>| match items.get(nth) {
            Some((_, version, written)) => {
                change(now, Given::Nothing, |now| rules::records::refreshed(now, *version, *written))
            }
            None => Step::Keep(false),
        };
        self.change(&keys, decide).await.map(drop)
    }

    /// Returns the index entries of all items that are in the given space and have the given status.
    pub(super) async fn of_status(&self, space: &str, status: ItemStatus) -> StoreResult<Vec<Attributes>> {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            found.extend(self.all(self.index(LIST_INDEX, LIST, &item::list(space, status, shard))).await?);
        }
        Ok(found)
    }

    pub(super) async fn reconcile_with(&self, space: &Space, held: HeldVersion) -> StoreResult<u64> {
        let space = space.name();
        let mut keys: HashSet<Key> = self.of_work("remove", &space, usize::MAX).await?.into_iter().collect();
        for status in ItemStatus::ALL {
            keys.extend(self.of_status(&space, status).await?.iter().map(Key::of));
        }
        let keys: Vec<Key> = keys.into_iter().collect();
        let decide = |_: usize, now: Option<&Item>| {
            let held = now.and_then(|now| held(&now.key));
            change(now, Given::Nothing, |now| rules::records::reconcile(now, held))
        };
        self.changed(&keys, decide).await
    }

    pub(super) async fn has_vector(&self, collection: &str, key: &str, input: &str) -> StoreResult<bool> {
        let found = self.get(&Key::of_item(collection, key)).await?;
        let hash = hash_of(input);
        Ok(found.as_ref().and_then(Item::read).is_some_and(|item| rules::records::is_done(&item.state, &hash)))
    }

    pub(super) async fn retry_failed(&self, batch: Option<&str>) -> StoreResult<u64> {
        let mut again = 0;
        for space in self.spaces().await? {
            let keys: Vec<Key> = self.of_status(&space.name(), ItemStatus::Failed).await?.iter().map(Key::of).collect();
            let retry =
                |_: usize, now: Option<&Item>| change(now, Given::Nothing, |now| rules::records::retry(now, batch));
            again += self.changed(&keys, retry).await?;
        }
        Ok(again)
    }

    /// Counts the waiting items of each space. The count includes waiting items that this process wrote recently, even
    /// if the index does not list them yet.
    pub(super) async fn waiting_by_space(&self) -> StoreResult<Vec<(Space, Waiting)>> {
        let recent = self.put.list();
        let mut of_recent: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for item in self.items(&recent).await?.into_values() {
            match item.state.is_waiting() {
                true => of_recent.entry(item.space.clone()).or_default().push(item),
                false => self.put.forget(&item.id()),
            }
        }
        let mut all = Vec::new();
        for space in self.spaces().await? {
            let name = space.name();
            let (mut waiting, mut seen) = (Waiting::default(), HashSet::new());
            let recent = of_recent.remove(&name).unwrap_or_default();
            let mut line = self.line("waiting", &name);
            loop {
                let entries = line.entries(PAGE).await?;
                for entry in &entries {
                    waiting.items += 1;
                    waiting.tokens += item::unsigned(entry, "tokens");
                    if !recent.is_empty() {
                        seen.insert(Key::of(entry));
                    }
                }
                if entries.len() < PAGE || waiting.items >= MOST_COUNTED as u64 {
                    break;
                }
            }
            for item in recent.iter().filter(|item| !seen.contains(&item.id())) {
                waiting.items += 1;
                waiting.tokens += item.tokens;
            }
            if waiting.items > 0 {
                all.push((space, waiting));
            }
        }
        Ok(all)
    }

    pub(super) async fn any_waits(&self, space: &Space) -> StoreResult<bool> {
        Ok(!self.first_waiting(space, 1).await?.is_empty())
    }

    /// Returns the first `limit` waiting items in their current state.
    pub(super) async fn first_waiting(&self, space: &Space, limit: usize) -> StoreResult<Vec<Item>> {
        let mut found = self.worked("waiting", space, limit, ItemState::is_waiting).await?;
        if found.len() < limit {
            let known: HashSet<Key> = found.iter().map(Item::id).collect();
            let recent: Vec<Key> = self.put.list().into_iter().filter(|key| !known.contains(key)).collect();
            let name = space.name();
            let mut more: Vec<Item> = self.items(&recent).await?.into_values().collect();
            more.retain(|item| item.state.is_waiting() && item.space == name);
            more.sort_by(|a, b| a.since.cmp(&b.since));
            found.extend(more);
            found.truncate(limit);
        }
        Ok(found)
    }

    pub(super) async fn counts_by_space(&self) -> StoreResult<Vec<Counts>> {
        let mut all: Vec<Counts> = Vec::new();
        for space in self.spaces().await? {
            let mut of_status = [0; ItemStatus::ALL.len()];
            for (count, status) in of_status.iter_mut().zip(ItemStatus::ALL) {
                for shard in 0..SHARDS {
                    let query = self.index(LIST_INDEX, LIST, &item::list(&space.name(), status, shard));
                    *count += self.count(&query).await?;
                }
            }
            for (items, status) in of_status.into_iter().zip(ItemStatus::ALL).filter(|(items, _)| *items > 0) {
                rules::records::count(&mut all, space.shown(), status, items);
            }
        }
        Ok(all)
    }
}

/// Decides how an item changes when the current content of its record is stored. `since` is the queue position of a new
/// record.
fn put_record(space: &str, new: &NewItem, given: &apply::Put, since: &str, now: Option<&Item>) -> Step<Put> {
    let incoming = Incoming {
        hash: hash_of(&new.input),
        noise: new.noise,
        from_table: given.origin.is_some(),
        same_shown: now.is_some_and(|now| now.shown == given.shown),
    };
    let (step, put) = rules::records::put(now.map(|now| &now.state), incoming);
    match apply::put(now, space, &new.key, since, step, given) {
        Step::Keep(_) => Step::Keep(put),
        Step::Write(item, _) => Step::Write(item, put),
        Step::Delete(_) => Step::Delete(put),
    }
}

fn model_of(a: &Attributes) -> Option<ModelIdentity> {
    serde_json::from_str(item::text(a, "model")).ok()
}
