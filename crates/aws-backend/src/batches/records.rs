//! Records, and what waits.

use std::collections::{BTreeMap, HashSet};

use docweir_aws::FaultKind;
use docweir_aws::dynamo::{Expression, Item as Attributes, Write};
use docweir_core::documents::Sha256Hex;
use docweir_core::model::ModelIdentity;
use docweir_stores::batches::*;
use docweir_stores::paid::PaidError;

use super::item::{self, Item, Key, LIST, LIST_INDEX, SHARDS, State};
use super::rules;
use super::store::{DynamoBatches, Told};

/// Items of a space that are counted one by one at most: more is said to be as many.
const MOST_COUNTED: usize = 200_000;
/// Keys read of an index at a time.
const PAGE: usize = 1_000;

impl DynamoBatches {
    pub(super) async fn put_records(&self, space: &Space, items: Vec<NewItem>) -> Told<Put> {
        let space = space.name();
        self.register(&space).await?;
        // One that is there twice is put twice, in order.
        let mut put = Put::default();
        let mut rest = items;
        while !rest.is_empty() {
            let mut seen = HashSet::new();
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|item| seen.insert(item.key.clone()));
            let keys: Vec<Key> = now.iter().map(|item| Key::of_item(&space, &item.key)).collect();
            let mut shown = Vec::with_capacity(now.len());
            for item in &now {
                // A map's keys are in order: equal metadata is equal text.
                let text = serde_json::to_string(&item.shown);
                shown.push(text.map_err(|e| PaidError::Storage(format!("a record can't be written: {e}")))?);
            }
            let places: Vec<String> = now.iter().map(|_| self.place()).collect();
            let decide = |nth: usize, found: Option<&Item>| match (now.get(nth), shown.get(nth), places.get(nth)) {
                (Some(new), Some(shown), Some(place)) => rules::put(&space, new, shown, place, found),
                _ => super::store::Step::Keep(Put::default()),
            };
            for more in self.change(&keys, decide).await? {
                put += more;
            }
            rest = later;
        }
        Ok(put)
    }

    pub(super) async fn bind_model(&self, collection: &str, model: &ModelIdentity) -> Told<ModelIdentity> {
        let key = Key::new("collections", collection);
        let text =
            serde_json::to_string(model).map_err(|e| PaidError::Storage(format!("a model can't be kept: {e}")))?;
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

    pub(super) async fn bound_collections(&self) -> Told<Vec<(String, ModelIdentity)>> {
        let found = self.all(self.partition("collections")).await?;
        Ok(found.iter().filter_map(|a| Some((item::text(a, "sk").to_owned(), model_of(a)?))).collect())
    }

    pub(super) async fn delete_records(&self, space: &Space, keys: Vec<String>) -> Told<u64> {
        let space = space.name();
        let mut seen = HashSet::new();
        let keys: Vec<Key> =
            keys.iter().filter(|key| seen.insert(key.as_str())).map(|key| Key::of_item(&space, key)).collect();
        Ok(self.change(&keys, |_, now| rules::delete(now)).await?.into_iter().sum())
    }

    /// Items of a kind of work as they are now: an index may name some that are not any more.
    async fn worked(&self, kind: &str, space: &Space, limit: usize, wanted: fn(&Item) -> bool) -> Told<Vec<Item>> {
        let mut line = self.line(kind, &space.name());
        let mut found = Vec::new();
        while found.len() < limit {
            let keys = line.take(limit.min(PAGE)).await?;
            if keys.is_empty() {
                break;
            }
            let mut items = self.items(&keys).await?;
            found.extend(keys.iter().filter_map(|key| items.remove(key)).filter(&wanted));
        }
        found.truncate(limit);
        Ok(found)
    }

    pub(super) async fn rows_to_remove(&self, space: &Space, limit: usize) -> Told<Vec<Removal>> {
        let leaves = |item: &Item| item.stored.is_some() && (item.deleted || item.state == State::Noise);
        let items = self.worked("remove", space, limit, leaves).await?;
        let removal = |item: Item| Removal { item: item.id().id(), version: item.version, key: item.key };
        Ok(items.into_iter().map(removal).collect())
    }

    pub(super) async fn rows_removed(&self, removals: Vec<Removal>) -> Told<()> {
        let keys: Vec<Key> = removals.iter().map(|removal| Key::of_id(&removal.item)).collect();
        let decide = |nth: usize, now: Option<&Item>| {
            let version = removals.get(nth).map(|removal| removal.version);
            match now.filter(|now| Some(now.version) == version && now.stored.is_some()) {
                Some(now) => super::store::Step::Write(Box::new(Item { stored: None, ..now.clone() }), ()),
                None => super::store::Step::Keep(()),
            }
        };
        self.change(&keys, decide).await.map(drop)
    }

    pub(super) async fn rows_to_refresh(&self, space: &Space, limit: usize) -> Told<Vec<Sent>> {
        let items = self.worked("refresh", space, limit, |item| item.reuse && !item.deleted).await?;
        Ok(items.iter().filter_map(Item::as_sent).collect())
    }

    pub(super) async fn rows_refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Told<()> {
        let keys: Vec<Key> = items.iter().map(|(item, ..)| Key::of_id(item)).collect();
        let decide = |nth: usize, now: Option<&Item>| match items.get(nth) {
            Some((_, version, written)) => rules::refreshed(*version, *written, now),
            None => super::store::Step::Keep(false),
        };
        self.change(&keys, decide).await.map(drop)
    }

    /// Keys of a status in a space.
    pub(super) async fn of_state(&self, space: &str, state: State) -> Told<Vec<Attributes>> {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            found.extend(self.all(self.index(LIST_INDEX, LIST, &item::list(space, state, shard))).await?);
        }
        Ok(found)
    }

    pub(super) async fn reconcile_with(&self, space: &Space, held: HeldVersion) -> Told<u64> {
        let space = space.name();
        let mut keys: HashSet<Key> = self.of_work("remove", &space, usize::MAX).await?.into_iter().collect();
        for state in State::ALL {
            keys.extend(self.of_state(&space, state).await?.iter().map(Key::of));
        }
        let keys: Vec<Key> = keys.into_iter().collect();
        let decide = |_: usize, now: Option<&Item>| rules::reconciled(now.and_then(|now| held(&now.key)), now);
        Ok(self.change(&keys, decide).await?.into_iter().filter(|lost| *lost).count() as u64)
    }

    pub(super) async fn has_vector(&self, collection: &str, key: &str, input: &str) -> Told<bool> {
        let found = self.get(&Key::of_item(collection, key)).await?;
        let hash = Sha256Hex::of(input.as_bytes()).to_string();
        let done = |item: Item| item.state == State::Success && !item.deleted && item.hash == hash;
        Ok(found.as_ref().and_then(Item::read).is_some_and(done))
    }

    pub(super) async fn retry_failed(&self, batch: Option<&str>) -> Told<u64> {
        let mut again = 0;
        for space in self.spaces().await? {
            let keys: Vec<Key> = self.of_state(&space.name(), State::Failed).await?.iter().map(Key::of).collect();
            let retried = self.change(&keys, |_, now| rules::retried(batch, now)).await?;
            again += retried.into_iter().filter(|yes| *yes).count() as u64;
        }
        Ok(again)
    }

    /// Items that wait, by what an index says of them and by what it may not know yet.
    pub(super) async fn waiting_by_space(&self) -> Told<Vec<(Space, Waiting)>> {
        let recent = self.put.list();
        let mut of_recent: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for item in self.items(&recent).await?.into_values() {
            match item.is_waiting() {
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

    pub(super) async fn any_waits(&self, space: &Space) -> Told<bool> {
        Ok(!self.first_waiting(space, 1).await?.is_empty())
    }

    /// The first so many items that wait, as they are now.
    pub(super) async fn first_waiting(&self, space: &Space, limit: usize) -> Told<Vec<Item>> {
        let mut found = self.worked("waiting", space, limit, Item::is_waiting).await?;
        if found.len() < limit {
            let known: HashSet<Key> = found.iter().map(Item::id).collect();
            let recent: Vec<Key> = self.put.list().into_iter().filter(|key| !known.contains(key)).collect();
            let name = space.name();
            let mut more: Vec<Item> = self.items(&recent).await?.into_values().collect();
            more.retain(|item| item.is_waiting() && item.space == name);
            more.sort_by(|a, b| a.since.cmp(&b.since));
            found.extend(more);
            found.truncate(limit);
        }
        Ok(found)
    }

    pub(super) async fn counts_by_space(&self) -> Told<Vec<Counts>> {
        let mut all: Vec<Counts> = Vec::new();
        for space in self.spaces().await? {
            let mut of_state = [0; State::ALL.len()];
            for (count, state) in of_state.iter_mut().zip(State::ALL) {
                for shard in 0..SHARDS {
                    let query = self.index(LIST_INDEX, LIST, &item::list(&space.name(), state, shard));
                    *count += self.count(&query).await?;
                }
            }
            if of_state == [0; State::ALL.len()] {
                continue;
            }
            let shown = space.shown().to_owned();
            if all.iter().all(|counts| counts.space != shown) {
                all.push(Counts { space: shown.clone(), ..Counts::default() });
            }
            // Texts of several models are one to people.
            let [none, pending, success, failed, noise] = of_state;
            for counts in all.iter_mut().filter(|counts| counts.space == shown) {
                counts.none += none;
                counts.pending += pending;
                counts.success += success;
                counts.failed += failed;
                counts.noise += noise;
            }
        }
        Ok(all)
    }
}

fn model_of(a: &Attributes) -> Option<ModelIdentity> {
    serde_json::from_str(item::text(a, "model")).ok()
}
