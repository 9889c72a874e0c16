//! Reads the tables of users' applications, finds the records that request an embedding, and writes the status of each
//! record back to the table.
//!
//! A status is written only if the item has not changed since it was read. The condition of the write compares the
//! item's version attribute or, if no version attribute is configured, the item's text. The [`RecordLocation`] of an
//! item names the attribute to compare. The location is stored with the record as the record's origin.
//!
//! # Layout
//! - [`RecordTable`] – the operations on a table, and the pure check whether an item is unchanged
//! - `docweir-aws-backend` implements the trait for tables of DynamoDB

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::error::StageError;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::batches::Origin;

/// Status of a record that requests an embedding.
pub const NONE: &str = "NONE";
/// Status of a record whose embedding was requested and is not finished.
pub const PENDING: &str = "PENDING";
/// Status of a record whose embedding failed.
pub const FAILED: &str = "FAILED";

/// Lists the reasons why an operation on a table failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The table is temporarily unavailable; a retry can succeed.
    #[error("table {table} is temporarily unavailable: {reason}")]
    Busy { table: String, reason: String },
    /// The table or its index does not exist, or access is denied.
    #[error("table {table} can't be used: {reason}; {hint}")]
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

/// Holds the value of a key attribute: a string or a number.
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

/// Identifies an item by its key attributes and their values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemKey {
    pub hash: (String, KeyValue),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(String, KeyValue)>,
}

impl ItemKey {
    /// Returns the values of the key's parts, joined by `#`.
    pub fn joined(&self) -> String {
        match &self.range {
            Some((_, range)) => format!("{}#{}", self.hash.1.text(), range.text()),
            None => self.hash.1.text().to_owned(),
        }
    }
}

/// Holds an item of a table as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct TableItem {
    pub key: ItemKey,
    pub attributes: Map<String, Value>,
}

impl TableItem {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_str()
    }

    /// Returns the value at a path of attribute names.
    fn at(&self, path: &[String]) -> Option<&Value> {
        let (last, around) = path.split_last()?;
        let inner = around.iter().try_fold(&self.attributes, |object, name| object.get(name)?.as_object())?;
        inner.get(last)
    }
}

/// Identifies a record in its table, and tells how to check whether the record is unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordLocation {
    pub key: ItemKey,
    /// Path of attribute names that leads to the text.
    pub text: Vec<String>,
    /// Name and value of the version attribute, if one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<(String, Value)>,
}

impl RecordLocation {
    /// Creates the location of an item as it was read. `version` is the name of the version attribute, or empty if no
    /// version attribute is configured.
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

    /// Returns whether the item is unchanged. `text` is the text that the item had when the location was created.
    pub fn is_same(&self, held: &TableItem, text: &str) -> bool {
        match &self.version {
            Some((name, value)) => held.attributes.get(name) == Some(value),
            None => self.text_in(held) == Some(text),
        }
    }

    fn text_in<'a>(&self, held: &'a TableItem) -> Option<&'a str> {
        held.at(&self.text)?.as_str()
    }

    /// Returns the conditions of a write that must fail if the item has changed. `text` is the text that the item had
    /// when the location was created.
    pub fn unchanged(&self, text: &str) -> Vec<Test> {
        let (path, value) = match &self.version {
            Some((name, value)) => (vec![name.clone()], value.clone()),
            None => (self.text.clone(), text.into()),
        };
        vec![Test { path, value: Some(value) }]
    }

    /// Returns the conditions of a write that must fail if the item has changed since `held` was read. A change before
    /// that read does not make the write fail, even if the change came after the creation of this location. `status`
    /// is the name of the attribute that holds the status.
    pub fn as_read(&self, held: &TableItem, status: &str) -> Vec<Test> {
        let path = match &self.version {
            Some((name, _)) => std::slice::from_ref(name),
            None => self.text.as_slice(),
        };
        let status = vec![status.to_owned()];
        let mut tests = vec![Test { value: held.at(&status).cloned(), path: status }];
        // Only strings and numbers can be compared.
        let plain = |value: &Value| value.is_string() || value.is_number();
        match held.at(path) {
            Some(value) if plain(value) => tests.push(Test { path: path.to_vec(), value: Some(value.clone()) }),
            Some(_) => {}
            None => tests.push(Test { path: path.to_vec(), value: None }),
        }
        tests
    }
}

/// Describes a condition on one attribute. A write is applied only if the attribute has the value `value`. If `value`
/// is `None`, the attribute must be absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub path: Vec<String>,
    pub value: Option<Value>,
}

/// Describes a write of a status to an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub status: String,
    /// Name of the attribute for the embedding id, and the id. If the id is `None`, the attribute is removed.
    pub id: Option<(String, Option<String>)>,
}

impl Mark {
    pub fn status(status: &str) -> Self {
        Self { status: status.to_owned(), id: None }
    }
}

/// Holds one page of item keys. Each key belongs to an item that requests an embedding.
#[derive(Clone, Debug, Default)]
pub struct ItemPage {
    pub keys: Vec<ItemKey>,
    /// Start of the next page; `None` after the last page.
    pub next: Option<Value>,
}

/// Accesses the tables of one account.
#[async_trait]
pub trait RecordTable: Send + Sync + 'static {
    /// Checks that the table and its index exist.
    async fn look(&self, table: &str) -> Result<(), TableError>;

    /// Returns one page of item keys. Each key belongs to an item that requests an embedding. The keys are read from
    /// an index, which may lag slightly behind the table.
    async fn find(&self, table: &str, after: Option<Value>) -> Result<ItemPage, TableError>;

    /// Returns the current items in the order of `keys`, which must be distinct. An item that does not exist is
    /// `None`.
    async fn read(&self, table: &str, keys: &[ItemKey]) -> Result<Vec<Option<TableItem>>, TableError>;

    /// Returns up to `most` current items from the partition of `key`. Only items whose key values, joined by `#`,
    /// begin with `prefix` are returned.
    async fn below(&self, table: &str, key: &ItemKey, prefix: &str, most: usize) -> Result<Vec<TableItem>, TableError>;

    /// Writes `mark` to an item if the item exists and passes all `tests`; otherwise returns `false`. After an error,
    /// the write may have been applied, because the reply may have been lost.
    async fn mark(&self, table: &str, key: &ItemKey, tests: &[Test], mark: &Mark) -> Result<bool, TableError>;
}

type Opening = BoxFuture<'static, Result<Arc<dyn RecordTable>, TableError>>;

/// Opens the tables on first use, so that a user without tables needs no permissions for tables.
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
