//! Items as DynamoDB keeps them: keys, attributes, and where an item stands in the indexes, which follows from its state.

use docweir_aws::dynamo::{AttributeValue, Item as Attributes, blob as bytes};

use docweir_core::documents::Sha256Hex;
use docweir_stores::batches::{ItemId, Origin, Outcome, Owed, Sent, Shown, Space};

/// Items of one kind of work, and of one status, are spread over so many keys: one takes a thousand writes a second.
pub const SHARDS: u64 = 8;
/// What is to be done with an item, a batch or a document, in [`WORK_INDEX`]; ordered by [`AT`].
pub const WORK: &str = "work";
/// In [`LIST_INDEX`]: space and status of an item; that a batch is one.
pub const LIST: &str = "list";
pub const AT: &str = "at";
pub const FORGET_AT: &str = "forget_at";
pub const WORK_INDEX: &str = "work-index";
pub const LIST_INDEX: &str = "list-index";
/// What became of an item in the batches that it was in last.
const REMEMBERED: usize = 4;
/// Longer keys stand in an item's key by their hash.
const LONGEST: usize = 1_024;
/// Days that a text which nobody waits for is remembered: its batch may not have been counted yet.
const GONE_DAYS: i64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    None,
    Pending,
    Success,
    Failed,
    Noise,
}

impl State {
    pub const ALL: [Self; 5] = [Self::None, Self::Pending, Self::Success, Self::Failed, Self::Noise];

    pub fn name(self) -> &'static str {
        match self {
            State::None => "NONE",
            State::Pending => "PENDING",
            State::Success => "SUCCESS",
            State::Failed => "FAILED",
            State::Noise => "NOISE",
        }
    }
}

/// What became of an item in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stored,
    Failed,
    Returned,
}

impl Fate {
    const ALL: [Self; 3] = [Self::Stored, Self::Failed, Self::Returned];

    fn letter(self) -> &'static str {
        match self {
            Fate::Stored => "s",
            Fate::Failed => "f",
            Fate::Returned => "r",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    pub batch: String,
    pub fate: Fate,
    /// As the provider counted them.
    pub tokens: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub space: String,
    /// Of a record; of a text, its document and its hash, with a `/` between.
    pub key: String,
    /// Its place in line.
    pub since: String,
    pub version: u64,
    pub state: State,
    pub deleted: bool,
    /// A text that is on its way and that nobody waits for any more.
    pub unwanted: bool,
    /// What is found of it has changed and its text has not.
    pub reuse: bool,
    pub input: String,
    /// Of the input.
    pub hash: String,
    pub tokens: u64,
    /// In JSON; empty for texts.
    pub shown: String,
    pub batch: Option<String>,
    /// Hash of what was sent.
    pub sent: Option<String>,
    pub attempts: u64,
    pub error: Option<String>,
    /// The version that the vector store holds.
    pub stored: Option<u64>,
    pub vector: Option<Vec<f32>>,
    pub past: Vec<Past>,
    /// Where a table of the user's has it, in JSON.
    pub origin: Option<String>,
    /// How often that table was found to ask for it.
    pub asks: u64,
    /// What that table was told last.
    pub told: Option<String>,
    /// Which write it is of.
    pub write_id: String,
}

/// Partition and sort key.
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

    /// Of a record or a text, by its space and key.
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

/// The partition of a document's texts.
pub fn texts_of(space: &str, document: &str) -> String {
    format!("text#{space}#{document}")
}

/// The key of a text.
pub fn text_key(document: &str, hash: &str) -> String {
    format!("{document}/{hash}")
}

/// The document of a text's key.
pub fn document_of(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(document, _)| document)
}

pub fn shard(name: &str) -> u64 {
    name.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte))) % SHARDS
}

/// In [`WORK_INDEX`].
pub fn work(kind: &str, space: &str, shard: u64) -> String {
    format!("{kind}#{space}#{shard}")
}

/// In [`LIST_INDEX`].
pub fn list(space: &str, state: State, shard: u64) -> String {
    format!("{space}#{}#{shard}", state.name())
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

    pub fn is_waiting(&self) -> bool {
        self.state == State::None && !self.deleted && !self.reuse
    }

    /// Whether it is on its way in a batch or a live call.
    pub fn is_in(&self, batch: &str) -> bool {
        self.state == State::Pending && self.batch.as_deref() == Some(batch)
    }

    /// Whether a result for what was sent is still wanted.
    pub fn is_fresh_in(&self, batch: &str) -> bool {
        self.is_in(batch) && !self.deleted && !self.unwanted && self.sent.as_deref() == Some(&self.hash)
    }

    /// What became of it in a batch.
    pub fn fate_in(&self, batch: &str) -> Option<&Past> {
        self.past.iter().find(|past| past.batch == batch)
    }

    pub fn remember(&mut self, batch: &str, fate: Fate, tokens: u64) {
        self.past.retain(|past| past.batch != batch);
        self.past.push(Past { batch: batch.to_owned(), fate, tokens });
        let over = self.past.len().saturating_sub(REMEMBERED);
        self.past.drain(..over);
    }

    /// What its table is to be told, in short; `None` while it has come to no end, or came from none.
    fn answer(&self) -> Option<String> {
        let over = !self.deleted && matches!(self.state, State::Success | State::Failed | State::Noise);
        (over && self.origin.is_some()).then(|| format!("{} {} {}", self.asks, self.version, self.state.name()))
    }

    /// Whether its table has not been told yet.
    pub fn owes(&self) -> bool {
        self.answer().is_some_and(|answer| self.told.as_deref() != Some(&answer))
    }

    /// What its table has to be told.
    pub fn as_owed(&self) -> Option<Owed> {
        let mark = self.answer().filter(|_| self.owes())?;
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == self.state.name())?;
        let Shown { text, kind, .. } = serde_json::from_str(&self.shown).ok()?;
        let origin = self.origin()?;
        Some(Owed {
            item: self.id().id(),
            key: self.key.clone(),
            version: self.version,
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

    /// `None` where what is found of it makes no sense.
    pub fn as_sent(&self) -> Option<Sent> {
        let shown: Option<Shown> = match self.shown.as_str() {
            "" => None,
            shown => Some(serde_json::from_str(shown).ok()?),
        };
        let bytes = self.shown.len();
        Some(Sent {
            item: self.id().id(),
            key: self.key.clone(),
            version: self.version,
            shown,
            tokens: self.tokens,
            bytes,
            origin: self.origin(),
        })
    }

    /// Texts of one document stay together.
    fn shard(&self) -> u64 {
        shard(if self.is_text() { self.document() } else { &self.key })
    }

    /// What is to be done with it.
    fn work(&self) -> Option<&'static str> {
        let leaves = (self.deleted || self.state == State::Noise) && self.stored.is_some();
        let live = self.state == State::Pending && self.batch.as_deref().is_some_and(|b| b.starts_with("live:"));
        match () {
            () if leaves => Some("remove"),
            () if self.deleted => None,
            () if self.reuse => Some("refresh"),
            () if live => Some("live"),
            () if self.is_waiting() => Some("waiting"),
            () if self.owes() => Some("tell"),
            () => None,
        }
    }

    pub fn attributes(&self, write_id: &str, now_seconds: i64) -> Attributes {
        let mut a = self.id().attributes();
        let texts = [
            ("space", &self.space),
            ("key", &self.key),
            (AT, &self.since),
            ("hash", &self.hash),
            ("input", &self.input),
            ("shown", &self.shown),
        ];
        a.extend(texts.map(|(name, value)| (name.to_owned(), string(value))));
        let optional = [
            ("batch", &self.batch),
            ("sent", &self.sent),
            ("error", &self.error),
            ("origin", &self.origin),
            ("told", &self.told),
        ];
        a.extend(optional.into_iter().filter_map(|(name, v)| Some((name.to_owned(), string(v.as_ref()?)))));
        a.insert("status".into(), string(self.state.name()));
        a.insert("write_id".into(), string(write_id));
        let numbers = [("version", self.version), ("tokens", self.tokens), ("attempts", self.attempts)];
        a.extend(numbers.map(|(name, value)| (name.to_owned(), number(value))));
        a.extend(self.stored.map(|stored| ("stored".to_owned(), number(stored))));
        a.extend((self.asks > 0).then(|| ("asks".to_owned(), number(self.asks))));
        for (name, on) in [("deleted", self.deleted), ("unwanted", self.unwanted), ("reuse", self.reuse)] {
            if on {
                a.insert(name.into(), AttributeValue::Bool(true));
            }
        }
        if let Some(vector) = &self.vector {
            let blob: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            a.insert("vector".into(), AttributeValue::B(bytes(&blob)));
        }
        if !self.past.is_empty() {
            let entry = |past: &Past| string(format!("{} {} {}", past.fate.letter(), past.tokens, past.batch));
            a.insert("past".into(), AttributeValue::L(self.past.iter().map(entry).collect()));
        }
        if let Some(kind) = self.work() {
            a.insert(WORK.into(), string(work(kind, &self.space, self.shard())));
        }
        if !self.deleted {
            a.insert(LIST.into(), string(list(&self.space, self.state, self.shard())));
        } else if self.is_text() {
            a.insert(FORGET_AT.into(), number(now_seconds + GONE_DAYS * 86_400));
        }
        a
    }

    /// `None` for attributes that make no sense.
    pub fn read(a: &Attributes) -> Option<Self> {
        let optional = |name: &str| Some(text(a, name).to_owned()).filter(|text| !text.is_empty());
        let yes = |name: &str| a.get(name).and_then(|v| v.as_bool().ok()).copied().unwrap_or(false);
        let past = |entry: &AttributeValue| {
            let mut parts = entry.as_s().ok()?.splitn(3, ' ');
            let letter = parts.next()?;
            let fate = Fate::ALL.into_iter().find(|fate| fate.letter() == letter)?;
            Some(Past { fate, tokens: parts.next()?.parse().ok()?, batch: parts.next()?.to_owned() })
        };
        let vector = a.get("vector").and_then(|v| v.as_b().ok());
        Some(Self {
            space: optional("space")?,
            key: text(a, "key").to_owned(),
            since: text(a, AT).to_owned(),
            version: unsigned(a, "version"),
            state: State::ALL.into_iter().find(|state| state.name() == text(a, "status"))?,
            deleted: yes("deleted"),
            unwanted: yes("unwanted"),
            reuse: yes("reuse"),
            input: text(a, "input").to_owned(),
            hash: text(a, "hash").to_owned(),
            tokens: unsigned(a, "tokens"),
            shown: text(a, "shown").to_owned(),
            batch: optional("batch"),
            sent: optional("sent"),
            attempts: unsigned(a, "attempts"),
            error: optional("error"),
            stored: a.contains_key("stored").then(|| unsigned(a, "stored")),
            vector: vector.map(|v| v.as_ref().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            past: a.get("past").and_then(|v| v.as_l().ok()).into_iter().flatten().filter_map(past).collect(),
            origin: optional("origin"),
            asks: unsigned(a, "asks"),
            told: optional("told"),
            write_id: text(a, "write_id").to_owned(),
        })
    }
}

pub fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub fn number(n: impl ToString) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

/// The text of an attribute; empty where there is none.
pub fn text<'a>(attributes: &'a Attributes, name: &str) -> &'a str {
    attributes.get(name).and_then(|v| v.as_s().ok()).map_or("", String::as_str)
}

pub fn unsigned(attributes: &Attributes, name: &str) -> u64 {
    attributes.get(name).and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_comes_back_as_it_was_and_stands_where_its_state_says() {
        let mut item = Item {
            space: "products".into(),
            key: "P#1".into(),
            since: "0001".into(),
            version: 3,
            state: State::None,
            deleted: false,
            unwanted: false,
            reuse: false,
            input: "text".into(),
            hash: "abc".into(),
            tokens: 7,
            shown: "{}".into(),
            batch: None,
            sent: None,
            attempts: 1,
            error: Some("500".into()),
            stored: Some(2),
            vector: Some(vec![0.5, -1.0]),
            past: Vec::new(),
            origin: Some(r#"{"table":"t","place":1}"#.into()),
            asks: 2,
            told: Some("1 3 SUCCESS".into()),
            write_id: "w".into(),
        };
        for n in 0..6 {
            item.remember(&format!("batch_{n}"), Fate::Returned, n);
        }
        assert_eq!((item.past.len(), item.fate_in("batch_1")), (4, None));
        let attributes = item.attributes("w", 0);
        assert_eq!(Item::read(&attributes), Some(item.clone()));
        let work = |item: &Item| text(&item.attributes("w", 0), WORK).split('#').next().unwrap().to_owned();
        assert_eq!(work(&item), "waiting");
        let states = [
            (Item { reuse: true, ..item.clone() }, "refresh"),
            (Item { state: State::Noise, ..item.clone() }, "remove"),
            (Item { state: State::Noise, stored: None, ..item.clone() }, "tell"),
            (Item { deleted: true, ..item.clone() }, "remove"),
            (Item { state: State::Pending, batch: Some("live:1".into()), ..item.clone() }, "live"),
            (Item { state: State::Pending, batch: Some("batch_1".into()), ..item.clone() }, ""),
            (Item { state: State::Success, ..item.clone() }, "tell"),
            (Item { state: State::Success, told: None, ..item.clone() }, "tell"),
            (Item { state: State::Success, told: Some("2 3 SUCCESS".into()), ..item.clone() }, ""),
            (Item { state: State::Failed, told: Some("2 3 SUCCESS".into()), ..item.clone() }, "tell"),
            (Item { state: State::Success, origin: None, ..item.clone() }, ""),
        ];
        for (item, expected) in states {
            assert_eq!(work(&item), expected, "{item:?}");
        }
        assert_eq!(Key::of_id(&item.id().id()), item.id());
        let text = Key::of_item("texts/m/2", "doc1/abc");
        assert_eq!((text.pk.as_str(), text.sk.as_str()), ("text#texts/m/2#doc1", "abc"));
    }
}
