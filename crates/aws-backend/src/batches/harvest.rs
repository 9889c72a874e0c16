//! What comes back of a batch, its end, and records that are embedded at once.
//!
//! The end is decided once, in the record, and then carried out: items without an answer go back or have failed, what became
//! of all is counted by what they say, the money is settled, and the record says that it has ended. Each step comes to the
//! same when it is done again, by whoever comes after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use docweir_aws::dynamo::AttributeValue;
use docweir_core::clock::timestamp;
use docweir_core::failpoint;
use docweir_core::money::Nanodollars;
use docweir_stores::batches::*;
use docweir_stores::ledger::{Ledger, Share};
use docweir_stores::paid::PaidError;

use super::item::{Fate, Item, Key, WORK, number, string};
use super::lifecycle::Change;
use super::record::Record;
use super::rules;
use super::store::{DynamoBatches, Step, Told};

/// Items read together at the end of a batch.
const PAGE: usize = 500;

/// What became of a batch's items.
#[derive(Default)]
struct Sums {
    stored: u64,
    failed: u64,
    returned: u64,
    /// Tokens of each document's texts.
    tokens: BTreeMap<String, u64>,
}

impl DynamoBatches {
    /// The space of a batch, whose items are asked for by their keys.
    async fn space_of(&self, batch: &str) -> Told<Option<String>> {
        Ok(self.record(batch).await?.map(|record| record.batch.space.name()))
    }

    pub(super) async fn still_sent(&self, batch: &str, keys: Vec<String>) -> Told<Vec<Option<Sent>>> {
        let Some(space) = self.space_of(batch).await? else { return Ok(keys.iter().map(|_| None).collect()) };
        let names: Vec<Key> = keys.iter().map(|key| Key::of_item(&space, key)).collect();
        let mut asked = names.clone();
        asked.sort_unstable();
        asked.dedup();
        let items = self.items(&asked).await?;
        let fresh = |name: &Key| items.get(name).filter(|item| item.is_fresh_in(batch)).and_then(Item::as_sent);
        Ok(names.iter().map(fresh).collect())
    }

    pub(super) async fn keep(&self, batch: &str, made: Vec<Made>) -> Told<()> {
        let keys: Vec<Key> = made.iter().map(|one| Key::of_id(&one.item)).collect();
        let decide = |nth: usize, now: Option<&Item>| match made.get(nth) {
            Some(Made { vector: Some(vector), tokens, .. }) => rules::embedded(batch, vector, *tokens, now),
            Some(one) => rules::made(batch, one.version, one.tokens, now),
            None => Step::Keep(false),
        };
        self.change(&keys, decide).await?;
        self.look_at_texts(&keys).await
    }

    /// Documents whose texts these are may go on, if they are complete.
    async fn look_at_texts(&self, keys: &[Key]) -> Told<()> {
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

    pub(super) async fn refuse(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> Told<()> {
        let Some(space) = self.space_of(batch).await? else { return Ok(()) };
        let mut seen = BTreeSet::new();
        let refusals: Vec<Refusal> = refusals.into_iter().filter(|r| seen.insert(r.key.clone())).collect();
        let keys: Vec<Key> = refusals.iter().map(|refusal| Key::of_item(&space, &refusal.key)).collect();
        let decide = |nth: usize, now: Option<&Item>| match refusals.get(nth) {
            Some(refusal) => rules::refused(batch, &refusal.error, refusal.again, most_attempts, now),
            None => Step::Keep(false),
        };
        self.change(&keys, decide).await?;
        self.look_at_texts(&keys).await
    }

    pub(super) async fn blame_lines(&self, batch: &str, lines: &[u64], error: &str) -> Told<u64> {
        let Some(last) = lines.iter().max().copied() else { return Ok(0) };
        let Some(space) = self.space_of(batch).await? else { return Ok(0) };
        // Lines as they were written: of those items that are in the batch.
        let requests = self.requests_of(batch, 0, usize::try_from(last).unwrap_or(usize::MAX)).await?;
        let wanted: BTreeSet<u64> = lines.iter().copied().collect();
        let blamed = (1u64..).zip(&requests).filter(|(line, _)| wanted.contains(line));
        let keys: Vec<Key> = blamed.map(|(_, request)| Key::of_item(&space, &request.key)).collect();
        let failed = self.change(&keys, |_, now| rules::fail(batch, error, now)).await?;
        self.look_at_texts(&keys).await?;
        Ok(failed.into_iter().filter(|yes| *yes).count() as u64)
    }

    // ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) async fn end_batch(&self, batch: &str, ending: Ending) -> Told<()> {
        // One that was begun is being finished here: its end is this one's, too.
        let _at_work = loop {
            match self.begin(batch) {
                Some(at_work) => break at_work,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let Some(record) = self.record(batch).await?.filter(|r| r.batch.ended_at.is_none()) else { return Ok(()) };
        let ending = match record.ending.clone() {
            // Decided before, by one that died.
            Some(decided) => decided,
            None => {
                let text = serde_json::to_string(&ending)
                    .map_err(|e| PaidError::Storage(format!("the end of a batch can't be written: {e}")))?;
                self.amend(batch, Change::default().set("ending", string(text))).await?;
                ending
            }
        };
        failpoint::reach("end.decided", batch);
        self.finish(&record, &ending).await
    }

    pub(super) async fn finish(&self, record: &Record, ending: &Ending) -> Told<()> {
        let (b, space) = (&record.batch, record.batch.space.name());
        let list = self.read_list(&b.id).await?;
        let mut sums = Sums::default();
        let mut documents = BTreeSet::new();
        for page in list.chunks(PAGE) {
            let keys: Vec<Key> = page.iter().map(|listed| Key::of_item(&space, &listed.key)).collect();
            self.change(&keys, |_, now| rules::end(&b.id, ending, now)).await?;
            failpoint::reach("end.walking", &b.id);
            for item in self.items(&keys).await?.into_values() {
                let Some(past) = item.fate_in(&b.id) else { continue };
                match past.fate {
                    Fate::Stored => sums.stored += 1,
                    Fate::Failed => sums.failed += 1,
                    Fate::Returned => sums.returned += 1,
                }
                if item.is_text() {
                    if past.fate == Fate::Stored {
                        *sums.tokens.entry(item.document().to_owned()).or_default() += past.tokens;
                    }
                    documents.insert(item.document().to_owned());
                }
            }
        }
        failpoint::reach("end.walked", &b.id);
        self.look_at(&space, documents).await?;
        match ending.charged_tokens {
            Some(charged) => {
                let shares = shares(&b.id, &sums.tokens, charged, ending.usd_per_million_tokens);
                self.ledger.settle_in_parts(&b.entry, &shares).await?;
            }
            None => self.ledger.doubt(&b.entry).await?,
        }
        failpoint::reach("end.settled", &b.id);
        // What is none of it changed or was deleted since it was sent.
        let stale = b.items.saturating_sub(sums.stored + sums.failed + sums.returned);
        let change = Change::default()
            .set("status", string(ending.status.name()))
            .set("stored", number(sums.stored))
            .set("failed", number(sums.failed))
            .set("returned", number(sums.returned))
            .set("stale", number(stale))
            .set("ended_at", string(timestamp(self.clock.now())))
            .also("error", ending.error.as_deref().map(string))
            .also("charged_tokens", ending.charged_tokens.map(number));
        let change = match ending.charged_tokens {
            Some(_) => change,
            None => change.remove("charged_tokens"),
        };
        self.amend(&b.id, change.remove(WORK).remove("ending")).await?;
        self.made.forget(&b.id);
        self.forget_list(&b.id);
        if let Err(error) = self.delete_list(&b.id).await {
            tracing::warn!(batch = b.id, %error, "the list of a batch that has ended is left");
        }
        Ok(())
    }

    // ── records that are embedded at once ──────────────────────────────────────────────────────────────────────────

    pub(super) async fn live_left(&self) -> Told<u64> {
        let mut back = 0;
        for space in self.spaces().await? {
            let keys = self.of_work("live", &space.name(), usize::MAX).await?;
            let freed = self
                .change(&keys, |_, now| {
                    let live = now.and_then(|now| now.batch.clone()).filter(|batch| batch.starts_with("live:"));
                    match live {
                        // It counts as an attempt: nobody knows how far it came.
                        Some(batch) => match rules::unclaim(&batch, now) {
                            Step::Write(item, yes) => {
                                let attempts = now.map_or(0, |now| now.attempts);
                                Step::Write(Box::new(Item { attempts, ..*item }), yes)
                            }
                            other => other,
                        },
                        None => Step::Keep(false),
                    }
                })
                .await?;
            back += freed.into_iter().filter(|yes| *yes).count() as u64;
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
    ) -> Told<Vec<(Sent, String)>> {
        let (mut chosen, mut tokens, mut bytes) = (Vec::new(), 0, 0);
        for item in self.first_waiting(space, limit).await? {
            (tokens, bytes) = (tokens + item.tokens, bytes + item.shown.len());
            if !chosen.is_empty() && (tokens > most_tokens || bytes > most_bytes) {
                break;
            }
            chosen.push(item);
        }
        let keys: Vec<Key> = chosen.iter().map(Item::id).collect();
        let claim =
            |nth: usize, now: Option<&Item>| rules::claim(name, chosen.get(nth).map_or("", |item| &item.hash), now);
        let claimed = self.change(&keys, claim).await?;
        // As they are now: what is found of one may have changed since.
        let taken: Vec<Key> = keys.into_iter().zip(claimed).filter_map(|(key, yes)| yes.then_some(key)).collect();
        let mut items = self.items(&taken).await?;
        let taken = taken.iter().filter_map(|key| items.remove(key)).filter(|item| item.is_in(name));
        Ok(taken.filter_map(|item| Some((item.as_sent()?, item.input))).collect())
    }

    pub(super) async fn give_live_back(&self, name: &str, items: Vec<ItemId>) -> Told<()> {
        let keys: Vec<Key> = items.iter().map(Key::of_id).collect();
        self.change(&keys, |_, now| rules::unclaim(name, now)).await.map(drop)
    }

    pub(super) async fn live_failed(&self, name: &str, item: &ItemId, error: &str) -> Told<()> {
        self.change(&[Key::of_id(item)], |_, now| rules::fail(name, error, now)).await.map(drop)
    }

    pub(super) async fn still_live(&self, name: &str, items: Vec<ItemId>) -> Told<Vec<bool>> {
        let keys: Vec<Key> = items.iter().map(Key::of_id).collect();
        let found = self.items(&keys).await?;
        Ok(keys.iter().map(|key| found.get(key).is_some_and(|item| item.is_fresh_in(name))).collect())
    }

    /// That a person wants a batch cancelled, and whether one was told that it takes long.
    pub(super) fn yes(name: &'static str) -> Change {
        Change::default().set(name, AttributeValue::Bool(true))
    }
}

/// In the names of those whose texts it held. What was charged and went to nobody (records, results that were stale or
/// unusable) is the batch's own.
fn shares(batch: &str, tokens: &BTreeMap<String, u64>, charged: u64, usd_per_million_tokens: f64) -> Vec<Share> {
    let price = |tokens: u64| Nanodollars::of_tokens(tokens, usd_per_million_tokens);
    let share =
        |(subject, tokens): (&String, &u64)| Share { subject: subject.clone(), tokens: *tokens, cost: price(*tokens) };
    let mut shares: Vec<Share> = tokens.iter().map(share).collect();
    let told: u64 = shares.iter().map(|share| share.tokens).sum();
    let cost: Nanodollars = shares.iter().map(|share| share.cost).sum();
    if charged > told {
        shares.push(Share { subject: batch.to_owned(), tokens: charged - told, cost: price(charged) - cost });
    }
    shares
}
