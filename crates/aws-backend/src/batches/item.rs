//! Converts items to DynamoDB attributes and back. The state of an item determines the keys under which the indexes
//! list the item.

use docweir_aws::dynamo::{AttributeValue, Item as Attributes, blob as bytes};

use docweir_core::documents::Sha256Hex;
use docweir_stores::batches::rules::{Hash, ItemOutcome, ItemState, ItemStatus, is_live};
use docweir_stores::batches::{DisplayData, ItemId, Origin, PendingOutcome, Sent, Space};

/// Number of shards per index key. DynamoDB limits one hash key to a thousand writes per second. Entries that would
/// otherwise share one hash key are therefore spread over this number of hash keys.
pub const SHARDS: u64 = 8;
/// Attribute with the kind of work that is due for an item, a batch or a document. This attribute is the hash key of
/// [`WORK_INDEX`]. The entries of this index are ordered by [`AT`].
pub const WORK: &str = "work";
/// Attribute that is the hash key of [`LIST_INDEX`]. For an item, its value consists of the item's space, status and
/// shard. All batches have the same value.
pub const LIST: &str = "list";
pub const AT: &str = "at";
pub const FORGET_AT: &str = "forget_at";
pub const WORK_INDEX: &str = "work-index";
pub const LIST_INDEX: &str = "list-index";
/// Maximum number of outcomes that one item stores, one for each batch that contained the item. The oldest outcomes
/// are dropped first.
const REMEMBERED: usize = 4;
/// Maximum length, in bytes, of a record key within an item's key. A longer record key is replaced by its hash.
const LONGEST: usize = 1_024;
/// Number of days for which a discarded text is kept. During this time, a batch that contains the text can still count
/// the text's outcome.
const GONE_DAYS: i64 = 30;

/// Maps each outcome of an item in a batch to the letter that is stored for it.
const FATES: [(ItemOutcome, &str); 3] =
    [(ItemOutcome::Stored, "s"), (ItemOutcome::Failed, "f"), (ItemOutcome::Returned, "r")];

/// Records the outcome of an item in one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastBatch {
    pub batch: String,
    pub fate: ItemOutcome,
    /// Number of tokens that the provider counted.
    pub tokens: u64,
}

/// Holds an item to be embedded. An item is either a record or a text of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub space: String,
    /// Key of the record. For a text of a document, this is the document id and the text's hash, separated by `/`.
    pub key: String,
    /// Position of the item in the queue. Items with a smaller value are older.
    pub since: String,
    /// Part of the item that the shared rules read and change.
    pub state: ItemState,
    pub input: String,
    pub tokens: u64,
    /// Data that search results show, as JSON; empty for texts of documents.
    pub shown: String,
    pub vector: Option<Vec<f32>>,
    /// Location of the record in the user's table, as JSON.
    pub origin: Option<String>,
    pub past: Vec<PastBatch>,
    /// Id of the write that produced this state of the item.
    pub write_id: String,
}

/// Holds the partition key and the sort key of an item in the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub pk: String,
    pub sk: String,
}

impl Key {
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    pub fn of(attributes: &Attributes) -> Self {
        Self::new(text(attributes, "pk"), text(attributes, "sk"))
    }

    pub fn attributes(&self) -> Attributes {
        [("pk".to_owned(), string(&self.pk)), ("sk".to_owned(), string(&self.sk))].into()
    }

    /// Returns the table key of a record or a text, given its space and its key within the space.
    pub fn of_item(space: &str, key: &str) -> Self {
        match Space::parse(space) {
            Space::Texts(_) => {
                let (document, hash) = key.rsplit_once('/').unwrap_or((key, ""));
                Self::new(texts_of(space, document), hash)
            }
            Space::Records(_) if key.len() > LONGEST => {
                Self::new(format!("record#{space}#sha256:{}", Sha256Hex::of(key.as_bytes())), "item")
            }
            Space::Records(_) => Self::new(format!("record#{space}#{key}"), "item"),
        }
    }

    pub fn of_id(id: &ItemId) -> Self {
        let (pk, sk) = id.as_str().split_once('\u{1f}').unwrap_or((id.as_str(), ""));
        Self::new(pk, sk)
    }

    pub fn id(&self) -> ItemId {
        ItemId::new(format!("{}\u{1f}{}", self.pk, self.sk))
    }
}

/// Returns the partition key of a document's texts.
pub fn texts_of(space: &str, document: &str) -> String {
    format!("text#{space}#{document}")
}

/// Returns the key of a text within its space. The key is the document id and the text's hash, separated by `/`.
pub fn text_key(document: &str, hash: &str) -> String {
    format!("{document}/{hash}")
}

/// Returns the document id in the key of a text.
pub fn document_of(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(document, _)| document)
}

pub fn shard(name: &str) -> u64 {
    name.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte))) % SHARDS
}

/// Returns the hash key of [`WORK_INDEX`] for one kind of work, space and shard.
pub fn work(kind: &str, space: &str, shard: u64) -> String {
    format!("{kind}#{space}#{shard}")
}

/// Returns the hash key of [`LIST_INDEX`] for one space, status and shard.
pub fn list(space: &str, status: ItemStatus, shard: u64) -> String {
    format!("{space}#{}#{shard}", status.name())
}

impl Item {
    pub fn id(&self) -> Key {
        Key::of_item(&self.space, &self.key)
    }

    pub fn is_text(&self) -> bool {
        self.shown.is_empty() && matches!(Space::parse(&self.space), Space::Texts(_))
    }

    pub fn document(&self) -> &str {
        document_of(&self.key)
    }

    /// Returns the outcome of this item in a batch, if it is stored.
    pub fn fate_in(&self, batch: &str) -> Option<&PastBatch> {
        self.past.iter().find(|past| past.batch == batch)
    }

    pub fn remember(&mut self, batch: &str, fate: ItemOutcome, tokens: u64) {
        self.past.retain(|past| past.batch != batch);
        self.past.push(PastBatch { batch: batch.to_owned(), fate, tokens });
        let over = self.past.len().saturating_sub(REMEMBERED);
        self.past.drain(..over);
    }

    /// Returns the outcome that must still be reported to the user's table, if any.
    pub fn as_owed(&self) -> Option<PendingOutcome> {
        let mark = self.state.mark().filter(|_| self.state.owes())?;
        let outcome = self.state.status.outcome()?;
        let DisplayData { text, kind, .. } = serde_json::from_str(&self.shown).ok()?;
        let origin = self.origin()?;
        Some(PendingOutcome {
            item: self.id().id(),
            key: self.key.clone(),
            version: self.state.version,
            outcome,
            origin,
            text,
            kind,
            mark,
        })
    }

    fn origin(&self) -> Option<Origin> {
        serde_json::from_str(self.origin.as_deref()?).ok()
    }

    /// Returns a description of the item. The index needs this description to store the item's vector. Returns `None`
    /// if the item's display data is invalid.
    pub fn as_sent(&self) -> Option<Sent> {
        let shown: Option<DisplayData> = match self.shown.as_str() {
            "" => None,
            shown => Some(serde_json::from_str(shown).ok()?),
        };
        let bytes = self.shown.len();
        Some(Sent {
            item: self.id().id(),
            key: self.key.clone(),
            version: self.state.version,
            shown,
            tokens: self.tokens,
            bytes,
            origin: self.origin(),
        })
    }

    /// Returns the shard of the item. All texts of a document have the same shard.
    fn shard(&self) -> u64 {
        shard(if self.is_text() { self.document() } else { &self.key })
    }

    /// Returns the kind of work that is due for the item, if any.
    fn work(&self) -> Option<&'static str> {
        let state = &self.state;
        let live = state.status == ItemStatus::Pending && state.batch.as_deref().is_some_and(is_live);
        match () {
            () if state.leaves() => Some("remove"),
            () if state.deleted => None,
            () if state.refreshes() => Some("refresh"),
            () if live => Some("live"),
            () if state.is_waiting() => Some("waiting"),
            () if state.owes() => Some("tell"),
            () => None,
        }
    }

    pub fn attributes(&self, write_id: &str, now_seconds: i64) -> Attributes {
        let mut a = self.id().attributes();
        let state = &self.state;
        let (hash, sent) = (hex(&state.hash), state.sent.as_ref().map(hex));
        let texts = [
            ("space", &self.space),
            ("key", &self.key),
            (AT, &self.since),
            ("hash", &hash),
            ("input", &self.input),
            ("shown", &self.shown),
        ];
        a.extend(texts.map(|(name, value)| (name.to_owned(), string(value))));
        let optional = [
            ("batch", &state.batch),
            ("sent", &sent),
            ("error", &state.error),
            ("origin", &self.origin),
            ("told", &state.told),
        ];
        a.extend(optional.into_iter().filter_map(|(name, v)| Some((name.to_owned(), string(v.as_ref()?)))));
        a.insert("status".into(), string(state.status.name()));
        a.insert("write_id".into(), string(write_id));
        let numbers = [("version", state.version), ("tokens", self.tokens), ("attempts", state.attempts)];
        a.extend(numbers.map(|(name, value)| (name.to_owned(), number(value))));
        a.extend(state.stored.map(|stored| ("stored".to_owned(), number(stored))));
        a.extend((state.asks > 0).then(|| ("asks".to_owned(), number(state.asks))));
        for (name, on) in [("deleted", state.deleted), ("unwanted", state.unwanted), ("reuse", state.reuse)] {
            if on {
                a.insert(name.into(), AttributeValue::Bool(true));
            }
        }
        if let Some(vector) = &self.vector {
            let blob: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            a.insert("vector".into(), AttributeValue::B(bytes(&blob)));
        }
        if !self.past.is_empty() {
            let entry = |past: &PastBatch| string(format!("{} {} {}", past.letter(), past.tokens, past.batch));
            a.insert("past".into(), AttributeValue::L(self.past.iter().map(entry).collect()));
        }
        if let Some(kind) = self.work() {
            a.insert(WORK.into(), string(work(kind, &self.space, self.shard())));
        }
        if !state.deleted {
            a.insert(LIST.into(), string(list(&self.space, state.status, self.shard())));
        } else if self.is_text() {
            a.insert(FORGET_AT.into(), number(now_seconds + GONE_DAYS * 86_400));
        }
        a
    }

    /// Parses an item; returns `None` for invalid attributes.
    pub fn read(a: &Attributes) -> Option<Self> {
        let optional = |name: &str| Some(text(a, name).to_owned()).filter(|text| !text.is_empty());
        let yes = |name: &str| a.get(name).and_then(|v| v.as_bool().ok()).copied().unwrap_or(false);
        let past = |entry: &AttributeValue| {
            let mut parts = entry.as_s().ok()?.splitn(3, ' ');
            let letter = parts.next()?;
            let (fate, _) = FATES.into_iter().find(|(_, name)| *name == letter)?;
            Some(PastBatch { fate, tokens: parts.next()?.parse().ok()?, batch: parts.next()?.to_owned() })
        };
        let vector = a.get("vector").and_then(|v| v.as_b().ok());
        Some(Self {
            space: optional("space")?,
            key: text(a, "key").to_owned(),
            since: text(a, AT).to_owned(),
            state: ItemState {
                version: unsigned(a, "version"),
                status: ItemStatus::parse(text(a, "status"))?,
                deleted: yes("deleted"),
                unwanted: yes("unwanted"),
                reuse: yes("reuse"),
                hash: unhex(text(a, "hash"))?,
                sent: optional("sent").as_deref().and_then(unhex),
                batch: optional("batch"),
                attempts: unsigned(a, "attempts"),
                error: optional("error"),
                stored: a.contains_key("stored").then(|| unsigned(a, "stored")),
                from_table: optional("origin").is_some(),
                asks: unsigned(a, "asks"),
                told: optional("told"),
            },
            input: text(a, "input").to_owned(),
            tokens: unsigned(a, "tokens"),
            shown: text(a, "shown").to_owned(),
            vector: vector.map(|v| v.as_ref().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            past: a.get("past").and_then(|v| v.as_l().ok()).into_iter().flatten().filter_map(past).collect(),
            origin: optional("origin"),
            write_id: text(a, "write_id").to_owned(),
        })
    }
}

impl PastBatch {
    fn letter(&self) -> &'static str {
        FATES.into_iter().find(|(fate, _)| *fate == self.fate).map_or("", |(_, letter)| letter)
    }
}

/// Formats a hash in hexadecimal, for attributes and for the item lists of batches.
pub fn hex(hash: &Hash) -> String {
    Sha256Hex::from_digest(hash).to_string()
}

/// Parses a hexadecimal hash. Returns `None` if the text is not a hash.
pub fn unhex(text: &str) -> Option<Hash> {
    let text = Sha256Hex::parse(text)?;
    let mut hash = Hash::default();
    for (byte, digits) in hash.iter_mut().zip(text.as_str().as_bytes().as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

pub fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub fn number(n: impl ToString) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

/// Returns the string in an attribute, or an empty string if the attribute is missing.
pub fn text<'a>(attributes: &'a Attributes, name: &str) -> &'a str {
    attributes.get(name).and_then(|v| v.as_s().ok()).map_or("", String::as_str)
}

pub fn unsigned(attributes: &Attributes, name: &str) -> u64 {
    attributes.get(name).and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use docweir_stores::batches::rules::hash_of;

    use super::*;

    #[test]
    fn an_item_comes_back_as_it_was_and_stands_where_its_state_says() {
        let mut item = Item {
            space: "products".into(),
            key: "P#1".into(),
            since: "0001".into(),
            state: ItemState {
                version: 3,
                sent: Some(hash_of("before")),
                attempts: 1,
                error: Some("500".into()),
                stored: Some(2),
                from_table: true,
                asks: 2,
                told: Some("1 3 SUCCESS".into()),
                ..ItemState::new(hash_of("text"))
            },
            input: "text".into(),
            tokens: 7,
            shown: "{}".into(),
            vector: Some(vec![0.5, -1.0]),
            past: Vec::new(),
            origin: Some(r#"{"table":"t","place":1}"#.into()),
            write_id: "w".into(),
        };
        for n in 0..6 {
            item.remember(&format!("batch_{n}"), ItemOutcome::Returned, n);
        }
        assert_eq!((item.past.len(), item.fate_in("batch_1")), (4, None));
        let attributes = item.attributes("w", 0);
        assert_eq!(Item::read(&attributes), Some(item.clone()));
        let work = |item: &Item| text(&item.attributes("w", 0), WORK).split('#').next().unwrap().to_owned();
        assert_eq!(work(&item), "waiting");
        let now = item.state.clone();
        let state = |status| ItemState { status, ..now.clone() };
        let told = |status| ItemState { told: Some("2 3 SUCCESS".into()), ..state(status) };
        let pending = |batch: &str| ItemState { batch: Some(batch.into()), ..state(ItemStatus::Pending) };
        let states = [
            (ItemState { reuse: true, ..now.clone() }, "refresh"),
            (state(ItemStatus::Noise), "remove"),
            (ItemState { stored: None, ..state(ItemStatus::Noise) }, "tell"),
            (ItemState { deleted: true, ..now.clone() }, "remove"),
            (pending("live:1"), "live"),
            (pending("batch_1"), ""),
            (state(ItemStatus::Success), "tell"),
            (ItemState { told: None, ..state(ItemStatus::Success) }, "tell"),
            (told(ItemStatus::Success), ""),
            (told(ItemStatus::Failed), "tell"),
            (ItemState { from_table: false, ..state(ItemStatus::Success) }, ""),
        ];
        for (state, expected) in states {
            let item = Item { state, ..item.clone() };
            assert_eq!(work(&item), expected, "{item:?}");
        }
        assert_eq!((unhex("abc"), unhex(&hex(&now.hash))), (None, Some(now.hash)));
        assert_eq!(Key::of_id(&item.id().id()), item.id());
        let text = Key::of_item("texts/m/2", "doc1/abc");
        assert_eq!((text.pk.as_str(), text.sk.as_str()), ("text#texts/m/2#doc1", "abc"));
    }
}
