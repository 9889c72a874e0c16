//! Stores documents that wait for the vectors of their texts. Each text of a document is one item, and each waiting
//! document has a marker.
//!
//! A text that occurs in two documents is stored as two items. Sharing one item would save nothing, because the
//! embedding cache already avoids paying twice. Whenever a text has changed, all texts of its document are read to
//! decide whether the document may continue. No counter is kept, so none can become wrong. A new request for texts sets
//! the marker to "waiting" before it reads the texts. Another process may then find the texts complete and update the
//! marker. The request does not overwrite this update.

use std::collections::{BTreeSet, HashMap, HashSet};

use docweir_aws::dynamo::{AttributeValue, Expression, Item as Attributes, Write};
use docweir_aws::{Fault, FaultKind};
use docweir_core::documents::Sha256Hex;
use docweir_stores::batches::rules::texts::{KnownText, Question, TextAction};
use docweir_stores::batches::rules::{hash_of, texts as rules};
use docweir_stores::batches::{Space, Text, TextLookup};
use ulid::Ulid;

use super::apply::{self, Given, change};
use super::item::{self, AT, Item, Key, SHARDS, WORK, WORK_INDEX, hex, shard, text_key, texts_of};
use super::store::{DynamoBatches, Step, StoreResult};

/// Number of documents that are read from an index at a time.
const PAGE: usize = 1_000;

/// Holds the marker of a waiting document. The marker is created when the vectors of the document's texts are
/// requested, and is deleted when the document has received these vectors.
#[derive(Clone, Debug, PartialEq)]
struct Mark {
    space: String,
    /// If true, the document is embedded by live calls, because too few texts are waiting for a batch.
    live: bool,
    /// If true, the document need not wait any longer.
    ready: bool,
    write_id: String,
}

fn key_of(document: &str) -> Key {
    Key::new(format!("document#{document}"), "waits")
}

fn work(ready: bool, shard: u64) -> String {
    item::work(if ready { "ready" } else { "document" }, "", shard)
}

impl Mark {
    fn read(a: &Attributes) -> Self {
        Self {
            space: item::text(a, "space").to_owned(),
            live: a.get("live").and_then(|v| v.as_bool().ok()).copied().unwrap_or(false),
            ready: a.get("ready").and_then(|v| v.as_bool().ok()).copied().unwrap_or(false),
            write_id: item::text(a, "write_id").to_owned(),
        }
    }

    fn attributes(&self, document: &str) -> Attributes {
        let mut a = key_of(document).attributes();
        a.insert("space".into(), item::string(&self.space));
        a.insert("live".into(), AttributeValue::Bool(self.live));
        a.insert("ready".into(), AttributeValue::Bool(self.ready));
        a.insert(WORK.into(), item::string(work(self.ready || self.live, shard(document))));
        a.insert(AT.into(), item::string(document));
        a.insert("write_id".into(), item::string(&self.write_id));
        a
    }
}

impl DynamoBatches {
    async fn mark(&self, document: &str) -> StoreResult<Option<Mark>> {
        Ok(self.get(&key_of(document)).await?.as_ref().map(Mark::read))
    }

    /// Changes the marker of a document. If another process has changed the marker meanwhile, `change` is called
    /// again. If `change` returns `None`, the marker stays as it is.
    async fn remark(&self, document: &str, change: impl Fn(Option<Mark>) -> Option<Mark>) -> StoreResult<Option<Mark>> {
        let mut tries = 0;
        loop {
            let before = self.mark(document).await?;
            let Some(after) = change(before.clone()) else { return Ok(None) };
            let condition = match &before {
                None => Expression::new("attribute_not_exists(pk)"),
                Some(mark) => Expression::new("write_id = :write").string(":write", &mark.write_id),
            };
            // If a reply was lost, the repeated write has the same content.
            let mark = Mark { write_id: Ulid(fastrand::u128(..)).to_string(), ..after };
            let item = mark.attributes(document);
            match self.dynamo.write(Write::Put { table: self.table.clone(), item, condition: Some(condition) }).await {
                Ok(()) => return Ok(Some(mark)),
                Err(fault) if fault.kind == FaultKind::Condition => {
                    tries = self.after(tries, &Fault { kind: FaultKind::Conflict, ..fault }).await?;
                }
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    async fn texts(&self, space: &str, document: &str) -> StoreResult<Vec<Item>> {
        let found = self.all(self.partition(&texts_of(space, document))).await?;
        Ok(found.iter().filter_map(Item::read).collect())
    }

    /// Discards texts that a document no longer needs.
    async fn drop_texts(&self, texts: &[&Item]) -> StoreResult<()> {
        let mut sent: HashMap<&str, bool> = HashMap::new();
        for batch in texts.iter().filter_map(|text| text.state.batch.as_deref()) {
            if !sent.contains_key(batch) {
                let record = self.record(batch).await?;
                // A text is kept until its batch's file is uploaded, because the file is built from the text.
                sent.insert(batch, record.is_none_or(|record| record.batch.input_file_id.is_some()));
            }
        }
        let keys: Vec<Key> = texts.iter().map(|text| text.id()).collect();
        let was_sent =
            |item: &Item| item.state.batch.as_deref().and_then(|batch| sent.get(batch)).is_some_and(|yes| *yes);
        // Results of a batch are counted from the outcomes stored in its items, so an item with a history is kept.
        let discard = |_: usize, now: Option<&Item>| match now {
            Some(item) => {
                let step = rules::discard(&item.state, was_sent(item), !item.past.is_empty());
                apply::apply(item, step, Given::Nothing)
            }
            None => Step::Keep(false),
        };
        self.change(&keys, discard).await.map(drop)
    }

    pub(super) async fn ask_for(&self, document: &str, space: &Space, texts: Vec<Text>) -> StoreResult<TextLookup> {
        let space = space.name();
        self.register(&space).await?;
        let before = self.mark(document).await?;
        if let Some(other) = before.as_ref().filter(|mark| mark.space != space) {
            let theirs = self.texts(&other.space, document).await?;
            self.drop_texts(&theirs.iter().collect::<Vec<_>>()).await?;
        }
        let waits = |mark: Option<Mark>| {
            let live = mark.is_some_and(|mark| mark.live);
            Some(Mark { space: space.clone(), live, ready: false, write_id: String::new() })
        };
        let mark = self.remark(document, waits).await?;
        let found = self.texts(&space, document).await?;
        let by_hash: HashMap<String, &Item> = found.iter().map(|item| (hex(&item.state.hash), item)).collect();
        let mut wanted = HashSet::new();
        let (mut new, mut refused, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let mut question = Question::default();
        for text in &texts {
            let hash = Sha256Hex::of(text.text.as_bytes()).to_string();
            let first = wanted.insert(hash.clone());
            let item = by_hash.get(hash.as_str()).filter(|item| !item.state.deleted);
            let known = item.map(|item| KnownText {
                status: item.state.status,
                error: item.state.error.clone(),
                vector: item.vector.clone(),
                // The text belongs to this document, so its tokens are counted once.
                is_payer: first,
            });
            match (question.add(text.tokens, known), item) {
                (TextAction::Discard, Some(item)) => refused.push(item.id()),
                (_, Some(item)) if item.state.unwanted => again.push(item.id()),
                (_, Some(_)) => {}
                (_, None) if first => new.push((hash, text)),
                (_, None) => {}
            }
        }
        let keys: Vec<Key> = new.iter().map(|(hash, _)| Key::of_item(&space, &text_key(document, hash))).collect();
        let places: Vec<String> = new.iter().map(|_| self.place()).collect();
        let decide = |nth: usize, now: Option<&Item>| match (new.get(nth), places.get(nth)) {
            (Some((hash, text)), Some(place)) => put_text(&space, document, hash, text, place, now),
            _ => Step::Keep(false),
        };
        self.change(&keys, decide).await?;
        self.change(&again, |_, now| change(now, Given::Nothing, rules::want)).await?;
        self.change(&refused, |_, _| Step::Delete(())).await?;
        // Texts that only an earlier version of the document asked for are discarded.
        let unwanted: Vec<&Item> =
            found.iter().filter(|item| !item.state.deleted && !wanted.contains(&hex(&item.state.hash))).collect();
        self.drop_texts(&unwanted).await?;
        let was_live = mark.as_ref().is_some_and(|mark| mark.live);
        let goes_live = question.goes_live(was_live);
        if was_live && !goes_live {
            // If another process has changed the marker since, because the texts are complete, the marker stays as it
            // is.
            let mine = mark.map(|mark| mark.write_id);
            self.remark(document, |now| {
                now.filter(|now| Some(&now.write_id) == mine.as_ref()).map(|now| Mark { live: false, ..now })
            })
            .await?;
        }
        Ok(question.answer(was_live))
    }

    pub(super) async fn has_taken(&self, document: &str) -> StoreResult<()> {
        let Some(mark) = self.mark(document).await? else { return Ok(()) };
        let texts = self.texts(&mark.space, document).await?;
        self.drop_texts(&texts.iter().filter(|text| !text.state.deleted).collect::<Vec<_>>()).await?;
        let (table, key) = (self.table.clone(), key_of(document).attributes());
        self.write(Write::Delete { table, key, condition: None }).await?;
        self.woken.forget(&document.to_owned());
        Ok(())
    }

    pub(super) async fn keep_live(
        &self,
        document: &str,
        space: &Space,
        made: Vec<(Sha256Hex, Vec<f32>)>,
    ) -> StoreResult<()> {
        let space = space.name();
        let mut seen = HashSet::new();
        let made: Vec<_> = made.into_iter().filter(|(hash, _)| seen.insert(hash.clone())).collect();
        let keys: Vec<Key> =
            made.iter().map(|(hash, _)| Key::of_item(&space, &text_key(document, hash.as_str()))).collect();
        let decide = |nth: usize, now: Option<&Item>| match made.get(nth) {
            Some((_, vector)) => change(now, Given::Vector(vector), rules::embed_live),
            None => Step::Keep(false),
        };
        self.change(&keys, decide).await.map(drop)
    }

    /// Checks the given documents after some of their texts have changed. If every text of a document has a result,
    /// wakes the document.
    pub(super) async fn look_at(&self, space: &str, documents: BTreeSet<String>) -> StoreResult<()> {
        for document in documents {
            match self.mark(&document).await? {
                Some(mark) if mark.space == space && !mark.ready => {}
                _ => continue,
            }
            if self.texts(space, &document).await?.iter().any(|item| item.state.is_open()) {
                continue;
            }
            let ready = |now: Option<Mark>| now.filter(|now| !now.ready).map(|now| Mark { ready: true, ..now });
            if self.remark(&document, ready).await?.is_some() {
                self.woken.note(document);
            }
        }
        Ok(())
    }

    /// Returns documents that have a marker, each with the name of the space that contains its texts. If `ready` is
    /// true, returns the documents that may continue; otherwise, returns the documents that must still wait.
    async fn marked(&self, ready: bool, after: &str, limit: usize) -> StoreResult<Vec<(String, String)>> {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            let mut query = self.index(WORK_INDEX, WORK, &work(ready, shard));
            if !after.is_empty() {
                query.key = Expression::new("#hash = :hash AND #at > :after")
                    .name("#hash", WORK)
                    .name("#at", AT)
                    .string(":hash", work(ready, shard))
                    .string(":after", after);
            }
            let mut of_shard = 0;
            loop {
                query.limit = Some(limit.clamp(1, PAGE));
                let page = self.page(&query).await?;
                of_shard += page.items.len();
                let named = |a: &Attributes| (item::text(a, AT).to_owned(), item::text(a, "space").to_owned());
                found.extend(page.items.iter().map(named));
                query.start = page.next;
                if of_shard >= limit || query.start.is_none() {
                    break;
                }
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) async fn may_go_on(&self, after: &str, limit: usize) -> StoreResult<Vec<String>> {
        let found = self.marked(true, after, limit).await?;
        let recent = self.woken.list().into_iter().filter(|document| document.as_str() > after);
        let all: BTreeSet<String> = found.into_iter().map(|(document, _)| document).chain(recent).collect();
        Ok(all.into_iter().take(limit).collect())
    }

    pub(super) async fn of_other_models(&self, space: Option<&Space>, limit: usize) -> StoreResult<Vec<String>> {
        let ours = space.map(Space::name);
        let mut documents = BTreeSet::new();
        for ready in [false, true] {
            let mut after = String::new();
            loop {
                let page = self.marked(ready, &after, PAGE).await?;
                let theirs = page.iter().filter(|(_, space)| ours.as_ref() != Some(space));
                for (document, _) in theirs {
                    // The index may be outdated, so the marker itself is read.
                    if self.mark(document).await?.is_some_and(|mark| ours.as_ref() != Some(&mark.space)) {
                        documents.insert(document.clone());
                    }
                }
                let Some((last, _)) = page.get(PAGE - 1).filter(|_| documents.len() < limit) else { break };
                after.clone_from(last);
            }
        }
        Ok(documents.into_iter().take(limit).collect())
    }

    pub(super) async fn waits(&self, document: &str) -> StoreResult<bool> {
        Ok(self.mark(document).await?.is_some())
    }

    pub(super) async fn send_documents_live(&self, space: &Space) -> StoreResult<u64> {
        let name = space.name();
        let mut documents: BTreeSet<String> = BTreeSet::new();
        let mut line = self.line("waiting", &name);
        let prefix = texts_of(&name, "");
        loop {
            let keys = line.take(PAGE).await?;
            documents.extend(keys.iter().filter_map(|key| key.pk.strip_prefix(&prefix).map(str::to_owned)));
            if keys.len() < PAGE {
                break;
            }
        }
        let recent = self.items(&self.put.list()).await?;
        let waits = recent.values().filter(|item| item.state.is_waiting() && item.space == name);
        documents.extend(waits.map(|item| item.document().to_owned()));
        let mut live = 0;
        for document in documents {
            let goes = |now: Option<Mark>| now.filter(|now| !now.live).map(|now| Mark { live: true, ..now });
            if self.remark(&document, goes).await?.is_some() {
                self.woken.note(document);
                live += 1;
            }
        }
        Ok(live)
    }
}

fn put_text(space: &str, document: &str, hash: &str, text: &Text, since: &str, now: Option<&Item>) -> Step<bool> {
    let put = apply::Put { input: text.text.clone(), tokens: text.tokens, ..apply::Put::default() };
    let step = rules::put(now.map(|now| &now.state), hash_of(&text.text));
    match now {
        // The history of the text is kept, but it gets a new queue position.
        Some(now) => apply::apply(&Item { since: since.to_owned(), ..now.clone() }, step, Given::Put(&put)),
        None => apply::put(None, space, &text_key(document, hash), since, step, &put),
    }
}
