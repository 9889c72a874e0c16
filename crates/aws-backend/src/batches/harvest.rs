//! Imports the results of batches, ends batches, and handles records that are embedded by live calls.
//!
//! The decision how a batch ends is made only once and is stored in the record of the batch. Then the decision is
//! carried out in steps. Items without a result are returned to the backlog or fail. The outcomes of all items are
//! counted, the money is settled, and the record is marked as ended. If the process dies, another process repeats the
//! steps. A repeated step has no further effect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use docweir_core::failpoint;
use docweir_stores::batches::rules::batch::{BatchTotals, Event};
use docweir_stores::batches::rules::packing::LiveSelection;
use docweir_stores::batches::rules::{ItemOutcome, ItemState, ItemStatus};
use docweir_stores::batches::*;
use docweir_stores::ledger::{Ledger, rules::shares};
use docweir_stores::paid::PaidError;

use super::apply::{Given, change};
use super::item::{Item, Key, WORK, hex, string};
use super::lifecycle::Change;
use super::packing::{claim, unclaim};
use super::record::Record;
use super::store::{DynamoBatches, Step, StoreResult};

/// Number of items that are read at a time when a batch ends.
const PAGE: usize = 500;

impl DynamoBatches {
    /// Returns the name of a batch's space. A space is a set of items with one purpose. The keys of the batch's items
    /// are built from the name of the space.
    async fn space_of(&self, batch: &str) -> StoreResult<Option<String>> {
        Ok(self.record(batch).await?.map(|record| record.batch.space.name()))
    }

    pub(super) async fn still_sent(&self, batch: &str, keys: Vec<String>) -> StoreResult<Vec<Option<Sent>>> {
        let Some(space) = self.space_of(batch).await? else { return Ok(keys.iter().map(|_| None).collect()) };
        let names: Vec<Key> = keys.iter().map(|key| Key::of_item(&space, key)).collect();
        let mut asked = names.clone();
        asked.sort_unstable();
        asked.dedup();
        let items = self.items(&asked).await?;
        let fresh = |name: &Key| items.get(name).filter(|item| item.state.is_fresh_in(batch)).and_then(Item::as_sent);
        Ok(names.iter().map(fresh).collect())
    }

    pub(super) async fn keep(&self, batch: &str, made: Vec<StoredVector>) -> StoreResult<()> {
        let keys: Vec<Key> = made.iter().map(|one| Key::of_id(&one.item)).collect();
        let decide = |nth: usize, now: Option<&Item>| match made.get(nth) {
            Some(StoredVector { vector: Some(vector), tokens, .. }) => {
                let given = Given::Result { batch, tokens: *tokens, vector: Some(vector) };
                change(now, given, |now| rules::sending::embedded(now, batch))
            }
            Some(StoredVector { version, tokens, .. }) => {
                let given = Given::Result { batch, tokens: *tokens, vector: None };
                change(now, given, |now| rules::sending::made(now, batch, *version))
            }
            None => Step::Keep(false),
        };
        self.change(&keys, decide).await?;
        self.look_at_texts(&keys).await
    }

    /// Finds the documents that contain the given texts. If every text of a document has a result, wakes the document.
    async fn look_at_texts(&self, keys: &[Key]) -> StoreResult<()> {
        let mut of_space: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for key in keys {
            let named = key.pk.strip_prefix("text#").and_then(|rest| rest.rsplit_once('#'));
            if let Some((space, document)) = named {
                of_space.entry(space.to_owned()).or_default().insert(document.to_owned());
            }
        }
        for (space, documents) in of_space {
            self.look_at(&space, documents).await?;
        }
        Ok(())
    }

    pub(super) async fn refuse(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> StoreResult<()> {
        let Some(space) = self.space_of(batch).await? else { return Ok(()) };
        let mut seen = BTreeSet::new();
        let refusals: Vec<Refusal> = refusals.into_iter().filter(|r| seen.insert(r.key.clone())).collect();
        let keys: Vec<Key> = refusals.iter().map(|refusal| Key::of_item(&space, &refusal.key)).collect();
        let decide = |nth: usize, now: Option<&Item>| match refusals.get(nth) {
            Some(Refusal { error, again, .. }) => {
                let refuse = |now: &ItemState| rules::sending::refuse(now, batch, error, *again, most_attempts);
                change(now, Given::of(batch), refuse)
            }
            None => Step::Keep(false),
        };
        self.change(&keys, decide).await?;
        self.look_at_texts(&keys).await
    }

    // ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) async fn end_batch(&self, batch: &str, ending: Ending) -> StoreResult<()> {
        // If another task of this process is ending the batch, this call waits for it.
        let _at_work = loop {
            match self.begin(batch) {
                Some(at_work) => break at_work,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let Some(record) = self.record(batch).await?.filter(|r| r.batch.ended_at.is_none()) else { return Ok(()) };
        let ending = match record.ending.clone() {
            // The decision was made earlier, by a process that died.
            Some(decided) => decided,
            None => {
                let text = serde_json::to_string(&ending)
                    .map_err(|e| PaidError::Storage(format!("can't serialise the end of batch {batch}: {e}")))?;
                self.amend(batch, Change::default().set("ending", string(text))).await?;
                ending
            }
        };
        failpoint::reach("end.decided", batch);
        self.finish(&record, &ending).await
    }

    pub(super) async fn finish(&self, record: &Record, ending: &Ending) -> StoreResult<()> {
        let (b, space) = (&record.batch, record.batch.space.name());
        let list = self.read_list(&b.id).await?;
        let mut totals = BatchTotals::default();
        // Tokens of each document's stored texts.
        let mut tokens: BTreeMap<String, u64> = BTreeMap::new();
        let mut documents = BTreeSet::new();
        for page in list.chunks(PAGE) {
            let keys: Vec<Key> = page.iter().map(|listed| Key::of_item(&space, &listed.key)).collect();
            let end = |_: usize, now: Option<&Item>| {
                change(now, Given::of(&b.id), |now| rules::sending::end(now, &b.id, ending))
            };
            self.change(&keys, end).await?;
            failpoint::reach("end.walking", &b.id);
            for item in self.items(&keys).await?.into_values() {
                let Some(past) = item.fate_in(&b.id) else { continue };
                totals.add(past.fate);
                if item.is_text() {
                    if past.fate == ItemOutcome::Stored {
                        *tokens.entry(item.document().to_owned()).or_default() += past.tokens;
                    }
                    documents.insert(item.document().to_owned());
                }
            }
        }
        failpoint::reach("end.walked", &b.id);
        self.look_at(&space, documents).await?;
        match ending.charged_tokens {
            Some(charged) => {
                let tokens = tokens.iter().map(|(document, tokens)| (document.as_str(), *tokens));
                let shares = shares(&b.id, tokens, charged, ending.usd_per_million_tokens);
                self.ledger.settle_in_parts(&b.entry, &shares).await?;
            }
            None => self.ledger.doubt(&b.entry).await?,
        }
        failpoint::reach("end.settled", &b.id);
        let change = self.event(&Event::Ended { ending, items: b.items, totals });
        self.amend(&b.id, change.remove(WORK).remove("ending")).await?;
        self.made.forget(&b.id);
        self.forget_list(&b.id);
        if let Err(error) = self.delete_list(&b.id).await {
            tracing::warn!(batch = b.id, %error, "item list of ended batch not deleted");
        }
        Ok(())
    }

    // ── records that are embedded at once ──────────────────────────────────────────────────────────────────────────

    pub(super) async fn live_left(&self) -> StoreResult<u64> {
        let mut back = 0;
        for space in self.spaces().await? {
            let keys = self.of_work("live", &space.name(), usize::MAX).await?;
            let abandon = |_: usize, now: Option<&Item>| change(now, Given::Nothing, rules::sending::abandon_live);
            back += self.changed(&keys, abandon).await?;
        }
        Ok(back)
    }

    pub(super) async fn take_for_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> StoreResult<Vec<(Sent, String)>> {
        let mut selection = LiveSelection::new(most_tokens, most_bytes);
        let waiting = self.first_waiting(space, limit).await?.into_iter();
        let chosen: Vec<Item> = waiting.take_while(|item| selection.offer(item.tokens, item.shown.len())).collect();
        let keys: Vec<Key> = chosen.iter().map(Item::id).collect();
        let hashes: Vec<String> = chosen.iter().map(|item| hex(&item.state.hash)).collect();
        let claim = |nth: usize, now: Option<&Item>| claim(name, hashes.get(nth).map_or("", String::as_str), now);
        let claimed = self.change(&keys, claim).await?;
        // The claimed items are read again, because a record's metadata may have changed since.
        let taken: Vec<Key> = keys.into_iter().zip(claimed).filter_map(|(key, yes)| yes.then_some(key)).collect();
        let mut items = self.items(&taken).await?;
        let taken = taken.iter().filter_map(|key| items.remove(key)).filter(|item| item.state.is_in(name));
        Ok(taken.filter_map(|item| Some((item.as_sent()?, item.input))).collect())
    }

    pub(super) async fn give_live_back(&self, name: &str, items: Vec<ItemId>) -> StoreResult<()> {
        let keys: Vec<Key> = items.iter().map(Key::of_id).collect();
        self.change(&keys, |_, now| unclaim(name, now)).await.map(drop)
    }

    pub(super) async fn live_failed(
        &self,
        name: &str,
        item: &ItemId,
        error: &str,
        most_attempts: u32,
    ) -> StoreResult<bool> {
        let key = Key::of_id(item);
        let refuse = |now: &ItemState| rules::sending::refuse(now, name, error, true, most_attempts);
        let fail = |_: usize, now: Option<&Item>| change(now, Given::of(name), refuse);
        if self.changed(std::slice::from_ref(&key), fail).await? == 0 {
            return Ok(false);
        }
        let items = self.items(std::slice::from_ref(&key)).await?;
        Ok(items.get(&key).is_some_and(|item| item.state.status == ItemStatus::Failed))
    }

    pub(super) async fn still_live(&self, name: &str, items: Vec<ItemId>) -> StoreResult<Vec<bool>> {
        let keys: Vec<Key> = items.iter().map(Key::of_id).collect();
        let found = self.items(&keys).await?;
        Ok(keys.iter().map(|key| found.get(key).is_some_and(|item| item.state.is_fresh_in(name))).collect())
    }
}
