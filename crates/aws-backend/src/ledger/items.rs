//! Converts entries, sums and totals to DynamoDB items and back.
//!
//! | `pk` | `sk` | content |
//! | --- | --- | --- |
//! | `entries#DAY#SHARD` | name of the entry | a call, a batch, or a settled share of a call or batch |
//! | `sums#DAY` | run, mode, stage, model and collection, as JSON | sums of this day and group, by state |
//! | `days` | DAY | total of the day |
//! | `run#RUN` | `total` | total of the run |
//! | `process#ID` | `lease` | end of the process's lease |

use docweir_aws::dynamo::{AttributeValue, Expression, Item, Write};
use docweir_core::clock::UnixMicros;
use docweir_core::money::Nanodollars;
use docweir_stores::ledger::rules::{Group, State, Sums, day};
use docweir_stores::ledger::{Amount, EntryId};

use super::SHARDS;
use super::decide::Entry;

pub const DAYS: &str = "days";
pub const PROCESS: &str = "process";
/// Attribute with the end of a process's lease, in Unix microseconds.
pub const UNTIL: &str = "until";
/// Attribute with the expiry of an item, in Unix seconds.
pub const FORGET_AT: &str = "forget_at";
/// Attribute that is the hash key of [`super::OPEN`]. This index lists the open reservations of live calls.
pub const OPEN: &str = "open";
const WRITE_ID: &str = "write_id";
const NANODOLLARS: &str = "nanodollars";
const DAY_SECONDS: i64 = 86_400;

pub fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn number(n: impl ToString) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

/// Returns the string in an attribute, or an empty string if the attribute is missing.
pub fn text<'i>(item: &'i Item, name: &str) -> &'i str {
    item.get(name).and_then(|v| v.as_s().ok()).map_or("", String::as_str)
}

pub fn integer(item: &Item, name: &str) -> i64 {
    item.get(name).and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn unsigned(item: &Item, name: &str) -> u64 {
    u64::try_from(integer(item, name)).unwrap_or(0)
}

fn key(pk: impl Into<String>, sk: impl Into<String>) -> Item {
    [("pk".to_owned(), string(pk)), ("sk".to_owned(), string(sk))].into()
}

/// Builds the id of an entry from its day and name. The key of the entry's item can be derived from the id, because
/// the id contains the day.
pub fn entry_id(at: &str, name: &str) -> EntryId {
    EntryId::new(format!("{}/{name}", day(at)))
}

/// Builds the id of the entry that holds the `nth` share of another entry.
pub fn share_id(id: &EntryId, nth: u64) -> EntryId {
    EntryId::new(format!("{}.{nth}", id.as_str()))
}

/// Splits an id into day and name.
fn parts(id: &EntryId) -> (&str, &str) {
    id.as_str().split_once('/').unwrap_or(("", id.as_str()))
}

pub fn day_of(id: &EntryId) -> &str {
    parts(id).0
}

fn shard(name: &str) -> u64 {
    name.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte))) % SHARDS
}

pub fn entries(day: &str, shard: u64) -> String {
    format!("entries#{day}#{shard}")
}

pub fn entry_key(id: &EntryId) -> Item {
    let (day, name) = parts(id);
    key(entries(day, shard(name)), name)
}

/// Returns the id of an entry, given an item of the table or of an index.
pub fn id_of(item: &Item) -> Option<EntryId> {
    let day = text(item, "pk").strip_prefix("entries#")?.split('#').next()?;
    Some(EntryId::new(format!("{day}/{}", text(item, "sk"))))
}

pub fn sums(day: &str) -> String {
    format!("sums#{day}")
}

pub fn day_key(day: &str) -> Item {
    key(DAYS, day)
}

pub fn run_partition(run: &str) -> String {
    format!("run#{run}")
}

pub fn run_key(run: &str) -> Item {
    key(run_partition(run), "total")
}

pub fn process_key(process: &str) -> Item {
    key(format!("process#{process}"), "lease")
}

pub fn process_of(item: &Item) -> String {
    text(item, "pk").trim_start_matches("process#").to_owned()
}

pub fn open(shard: u64) -> String {
    format!("open#{shard}")
}

pub fn process_item(process: &str, until: UnixMicros) -> Item {
    let mut item = process_key(process);
    item.insert(UNTIL.into(), number(until));
    // A process without an item counts as dead, so the item may expire.
    item.insert(FORGET_AT.into(), number(until.div_euclid(1_000_000) + DAY_SECONDS));
    item
}

/// Returns the amount in the item of a total, in nanodollars.
pub fn total(item: &Item) -> u64 {
    unsigned(item, NANODOLLARS)
}

/// Parses an entry; returns `None` for an invalid item.
pub fn entry(item: &Item) -> Option<Entry> {
    let id = id_of(item)?;
    let state = State::ALL.into_iter().find(|s| s.name() == text(item, "state"))?;
    let group = Group {
        day: day_of(&id).to_owned(),
        run: text(item, "run").to_owned(),
        mode: text(item, "mode").to_owned(),
        stage: text(item, "stage").to_owned(),
        model: text(item, "model").to_owned(),
        collection: text(item, "collection").to_owned(),
    };
    let cost = Nanodollars(unsigned(item, NANODOLLARS));
    let amount = Amount { calls: unsigned(item, "calls"), tokens: unsigned(item, "tokens"), cost };
    Some(Entry {
        id,
        group,
        at: text(item, "at").to_owned(),
        subject: text(item, "subject").to_owned(),
        state,
        amount,
        process: Some(text(item, PROCESS).to_owned()).filter(|process| !process.is_empty()),
        parts: unsigned(item, "parts"),
        write_id: text(item, WRITE_ID).to_owned(),
    })
}

/// Builds the item of an entry. `now` is in Unix seconds.
pub fn entry_item(entry: &Entry, now: i64, entry_days: u32) -> Item {
    let mut item = entry_key(&entry.id);
    let g = &entry.group;
    let texts = [
        ("at", &entry.at),
        ("run", &g.run),
        ("mode", &g.mode),
        ("stage", &g.stage),
        ("model", &g.model),
        ("collection", &g.collection),
        ("subject", &entry.subject),
        (WRITE_ID, &entry.write_id),
    ];
    item.extend(texts.map(|(name, value)| (name.to_owned(), string(value))));
    item.insert("state".into(), string(entry.state.name()));
    let a = &entry.amount;
    let numbers = [("calls", a.calls), ("tokens", a.tokens), (NANODOLLARS, a.cost.0), ("parts", entry.parts)];
    item.extend(numbers.map(|(name, value)| (name.to_owned(), number(value))));
    if let Some(process) = &entry.process {
        item.insert(PROCESS.into(), string(process));
        if entry.state == State::Reserved {
            item.insert(OPEN.into(), string(open(shard(parts(&entry.id).1))));
        }
    }
    let kept = match entry.state {
        State::Settled => Some(i64::from(entry_days)),
        State::Void => Some(1),
        State::Reserved | State::InDoubt => None,
    };
    item.extend(kept.map(|days| (FORGET_AT.to_owned(), number(now + days * DAY_SECONDS))));
    item
}

/// Returns the condition that the entry has not been written since it was read.
pub fn unchanged(before: Option<&Entry>) -> Expression {
    match before {
        None => Expression::new("attribute_not_exists(pk)"),
        Some(entry) => Expression::new("write_id = :write").string(":write", &entry.write_id),
    }
}

/// Returns the write that adds `more` to the sums of a group, or `None` if nothing changes.
pub fn sums_write(table: &str, group: &Group, more: &Sums) -> Option<Write> {
    let names = [&group.run, &group.mode, &group.stage, &group.model, &group.collection];
    // Serialising an array of strings cannot fail.
    let name = serde_json::to_string(&names).unwrap_or_default();
    let numbers = State::COUNTED.into_iter().zip(&more.0).flat_map(|(state, [calls, tokens, cost])| {
        [("calls", calls), ("tokens", tokens), (NANODOLLARS, cost)]
            .map(|(what, n)| (format!("{}_{what}", state.name().to_lowercase()), *n))
    });
    let changed: Vec<_> = numbers.filter(|(_, n)| *n != 0).collect();
    if changed.is_empty() {
        return None;
    }
    let terms: Vec<String> = changed.iter().map(|(name, _)| format!("{name} :{name}")).collect();
    let update = Expression::new(format!("ADD {}", terms.join(", ")));
    let update = changed.iter().fold(update, |update, (name, n)| update.number(&format!(":{name}"), n));
    Some(Write::Update { table: table.to_owned(), key: key(sums(&group.day), name), update, condition: None })
}

/// Parses the item that holds the sums of a group. Returns `None` if the item is invalid.
pub fn sums_of(item: &Item) -> Option<(Group, [Amount; 3])> {
    let [run, mode, stage, model, collection]: [String; 5] = serde_json::from_str(text(item, "sk")).ok()?;
    let day = text(item, "pk").strip_prefix("sums#")?.to_owned();
    let amount = |state: State| {
        let of = |what: &str| unsigned(item, &format!("{}_{what}", state.name().to_lowercase()));
        Amount { calls: of("calls"), tokens: of("tokens"), cost: Nanodollars(of(NANODOLLARS)) }
    };
    Some((Group { day, run, mode, stage, model, collection }, State::COUNTED.map(amount)))
}

/// Returns the write that adds `by` to a total, on condition that the total is at most `most` before the addition.
pub fn total_write(table: &str, key: Item, by: i64, most: Option<u64>) -> Write {
    let update = Expression::new(format!("ADD {NANODOLLARS} :by")).number(":by", by);
    let condition = most.map(|most| {
        Expression::new(format!("attribute_not_exists({NANODOLLARS}) OR {NANODOLLARS} <= :most")).number(":most", most)
    });
    Write::Update { table: table.to_owned(), key, update, condition }
}
