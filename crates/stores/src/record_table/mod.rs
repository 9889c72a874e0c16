//! Tables of users' own applications: records to embed are found in them, and how it went is written back.
//!
//! What is written is written on the condition that the item still is what was read: its text, or the attribute that
//! is configured for its version. The [`RecordLocation`] of an item says what that was; it is kept with the record as its
//! origin.
//!
//! # Layout
//! - [`RecordTable`] what is asked of a table, and the pure part of it: whether an item still is what it was
//! - `dynamodb` a table of DynamoDB

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::error::StageError;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::batches::Origin;

/// Statuses that are written or asked for.
pub const NONE: &str = "NONE";
pub const PENDING: &str = "PENDING";
pub const FAILED: &str = "FAILED";

/// Why a table did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// May pass by itself.
    #[error("the table {table} is not to be had just now: {reason}")]
    Busy { table: String, reason: String },
    /// No such table or index, or not for us.
    #[error("the table {table} can't be used: {reason}; {hint}")]
    Broken { table: String, reason: String, hint: String },
}

impl From<TableError> for StageError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Busy { .. } => StageError::transient("record_table", error.to_string()),
            TableError::Broken { .. } => StageError::system("record_table", error.to_string()),
        }
    }
}

/// The value of an attribute of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyValue {
    S(String),
    N(String),
}

impl KeyValue {
    pub fn text(&self) -> &str {
        match self {
            KeyValue::S(text) | KeyValue::N(text) => text,
        }
    }
}

/// The key of an item: attributes of its table and their values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemKey {
    pub hash: (String, KeyValue),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(String, KeyValue)>,
}

impl ItemKey {
    /// Its parts, joined by `#`.
    pub fn joined(&self) -> String {
        match &self.range {
            Some((_, range)) => format!("{}#{}", self.hash.1.text(), range.text()),
            None => self.hash.1.text().to_owned(),
        }
    }
}

/// An item as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct TableItem {
    pub key: ItemKey,
    pub attributes: Map<String, Value>,
}

impl TableItem {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_str()
    }

    /// The value that names lead to.
    fn at(&self, path: &[String]) -> Option<&Value> {
        let (last, around) = path.split_last()?;
        let inner = around.iter().try_fold(&self.attributes, |object, name| object.get(name)?.as_object())?;
        inner.get(last)
    }
}

/// Where a record stands in its table, and how it is known to be what it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordLocation {
    pub key: ItemKey,
    /// The names that lead to its text.
    pub text: Vec<String>,
    /// Attribute and value of its version, where one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<(String, Value)>,
}

impl RecordLocation {
    /// Of an item as it was read; `version` is the attribute of its version, or empty.
    pub fn of(held: &TableItem, text: Vec<String>, version: &str) -> Self {
        let value = held.attributes.get(version).filter(|value| value.is_string() || value.is_number());
        let version = value.filter(|_| !version.is_empty()).map(|value| (version.to_owned(), value.clone()));
        Self { key: held.key.clone(), text, version }
    }

    pub fn origin(&self, table: &str) -> Option<Origin> {
        Some(Origin { table: table.to_owned(), place: serde_json::to_value(self).ok()? })
    }

    pub fn read(origin: &Origin) -> Option<Self> {
        serde_json::from_value(origin.place.clone()).ok()
    }

    /// Whether an item still is what it was when it had this text.
    pub fn is_same(&self, held: &TableItem, text: &str) -> bool {
        match &self.version {
            Some((name, value)) => held.attributes.get(name) == Some(value),
            None => self.text_in(held) == Some(text),
        }
    }

    fn text_in<'a>(&self, held: &'a TableItem) -> Option<&'a str> {
        held.at(&self.text)?.as_str()
    }

    /// The condition that it still is what it was.
    pub fn unchanged(&self, text: &str) -> Vec<Test> {
        let (path, value) = match &self.version {
            Some((name, value)) => (vec![name.clone()], value.clone()),
            None => (self.text.clone(), text.into()),
        };
        vec![Test { path, value: Some(value) }]
    }

    /// The condition that nobody has touched what was read just now, whatever it was before.
    pub fn as_read(&self, held: &TableItem, status: &str) -> Vec<Test> {
        let path = match &self.version {
            Some((name, _)) => std::slice::from_ref(name),
            None => self.text.as_slice(),
        };
        let status = vec![status.to_owned()];
        let mut tests = vec![Test { value: held.at(&status).cloned(), path: status }];
        // What is no text or number is not compared.
        let plain = |value: &Value| value.is_string() || value.is_number();
        match held.at(path) {
            Some(value) if plain(value) => tests.push(Test { path: path.to_vec(), value: Some(value.clone()) }),
            Some(_) => {}
            None => tests.push(Test { path: path.to_vec(), value: None }),
        }
        tests
    }
}

/// What an attribute has to be for a write to be done; `None` for not there.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub path: Vec<String>,
    pub value: Option<Value>,
}

/// What is written to an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub status: String,
    /// Attribute of the embedding id, and the id; without one the attribute goes.
    pub id: Option<(String, Option<String>)>,
}

impl Mark {
    pub fn status(status: &str) -> Self {
        Self { status: status.to_owned(), id: None }
    }
}

/// Keys of items that ask to be embedded.
#[derive(Clone, Debug, Default)]
pub struct ItemPage {
    pub keys: Vec<ItemKey>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Value>,
}

/// Tables of one account.
#[async_trait]
pub trait RecordTable: Send + Sync + 'static {
    /// Looks whether there is the table and its index.
    async fn look(&self, table: &str) -> Result<(), TableError>;

    /// A page of the items that ask to be embedded, by the index, which is a moment behind.
    async fn find(&self, table: &str, after: Option<Value>) -> Result<ItemPage, TableError>;

    /// Items as they are now, in the order of their keys, which are all different.
    async fn read(&self, table: &str, keys: &[ItemKey]) -> Result<Vec<Option<TableItem>>, TableError>;

    /// Items of the partition of `key` whose keys, joined, begin with `prefix`, as they are now; up to `most`.
    async fn below(&self, table: &str, key: &ItemKey, prefix: &str, most: usize) -> Result<Vec<TableItem>, TableError>;

    /// Writes to an item that is there and of which all of `tests` hold. `false` where it is not, or they don't; where
    /// an answer was lost, it may be written all the same.
    async fn mark(&self, table: &str, key: &ItemKey, tests: &[Test], mark: &Mark) -> Result<bool, TableError>;
}

type Opening = BoxFuture<'static, Result<Arc<dyn RecordTable>, TableError>>;

/// Tables that are reached when first asked for: nobody who has none needs access to them.
pub struct LazyTables {
    open: Box<dyn Fn() -> Opening + Send + Sync>,
    opened: OnceCell<Arc<dyn RecordTable>>,
}

impl LazyTables {
    pub fn new(open: impl Fn() -> Opening + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), opened: OnceCell::new() }
    }

    pub async fn get(&self) -> Result<&Arc<dyn RecordTable>, TableError> {
        self.opened.get_or_try_init(|| (self.open)()).await
    }
}

#[cfg(test)]
mod rules {
    use super::*;
    use serde_json::json;

    fn held(attributes: Value) -> TableItem {
        let key = ItemKey { hash: ("pk".into(), KeyValue::S("a".into())), range: None };
        TableItem { key, attributes: attributes.as_object().unwrap().clone() }
    }

    #[test]
    fn an_item_is_the_same_by_its_text_or_by_its_version() {
        let read = held(json!({"pk": "a", "p": {"t": "old"}, "v": 3}));
        let by_text = RecordLocation::of(&read, vec!["p".into(), "t".into()], "");
        let by_version = RecordLocation::of(&read, vec!["p".into(), "t".into()], "v");
        let table = [
            (json!({"p": {"t": "old"}, "v": 3}), true, true),
            (json!({"p": {"t": "old"}, "v": 4}), true, false),
            (json!({"p": {"t": "new"}, "v": 3}), false, true),
            (json!({"p": {"t": 7}}), false, false),
            (json!({"p": "old"}), false, false),
            (json!({}), false, false),
        ];
        for (now, text, version) in table {
            let now = held(now);
            assert_eq!((by_text.is_same(&now, "old"), by_version.is_same(&now, "old")), (text, version), "{now:?}");
        }
        let test = |path: &[&str], value| Test { path: path.iter().map(|p| (*p).to_owned()).collect(), value };
        assert_eq!(by_text.unchanged("old"), [test(&["p", "t"], Some(json!("old")))]);
        assert_eq!(by_version.unchanged("old"), [test(&["v"], Some(json!(3)))]);
        assert_eq!(
            by_text.as_read(&held(json!({"p": {"t": "new"}, "s": "PENDING"})), "s"),
            [test(&["s"], Some(json!("PENDING"))), test(&["p", "t"], Some(json!("new")))]
        );
        assert_eq!(by_version.as_read(&held(json!({})), "s"), [test(&["s"], None), test(&["v"], None)]);
        assert_eq!(by_text.as_read(&held(json!({"p": {"t": []}})), "s"), [test(&["s"], None)]);
        let origin = by_version.origin("receipts").unwrap();
        assert_eq!((RecordLocation::read(&origin), origin.table.as_str()), (Some(by_version), "receipts"));
    }
}
