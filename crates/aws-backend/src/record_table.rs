//! Implements access to users' record tables in DynamoDB.
//!
//! The names of a table's key attributes are read once, from the table's description. The status attribute of a record
//! says whether the record is to be embedded. An index of the table lists these records by status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use docweir_aws::dynamo::{AttributeValue, Dynamo, Expression, Item, MOST, Query, Write, again, value};
use docweir_aws::{Fault, FaultKind};
use serde_json::Value;

use docweir_records::TableOptions;
use docweir_stores::record_table::{ItemKey, ItemPage, KeyValue, Mark, NONE, RecordTable, TableError, TableItem, Test};

/// Wait before the first retry of a call. The wait doubles with each retry, up to 64 times this value.
const WAIT: Duration = Duration::from_millis(20);
/// Number of keys in one page of index results.
const PAGE: usize = 1_000;

type TableResult<T> = Result<T, TableError>;

/// Holds the names of a table's key attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    hash: String,
    range: Option<String>,
}

pub struct DynamoRecordTable {
    dynamo: Dynamo,
    options: TableOptions,
    /// Maximum number of attempts of a call.
    attempts: u32,
    layouts: Mutex<HashMap<String, Arc<Layout>>>,
}

impl DynamoRecordTable {
    pub fn new(dynamo: Dynamo, options: TableOptions, attempts: u32) -> Self {
        Self { dynamo, options, attempts, layouts: Mutex::default() }
    }

    fn failed(table: &str, fault: &Fault) -> TableError {
        let (table, reason) = (table.to_owned(), fault.to_string());
        let hint = match fault.kind {
            FaultKind::Denied => {
                "set `records.table.name` to this table, and apply the policy of `docweir infra policy --role serve`"
            }
            FaultKind::NotFound => "correct the name of the table, `aws.region`, or the endpoint of DynamoDB",
            FaultKind::Invalid => "check `records.table` against the keys of the table",
            _ => return TableError::Busy { table, reason },
        };
        TableError::Broken { table, reason, hint: hint.into() }
    }

    /// Waits before the next attempt and returns the incremented number of tries. Returns the error if no attempts
    /// are left.
    async fn after(&self, table: &str, tries: u32, fault: &Fault) -> TableResult<u32> {
        again(WAIT, tries, self.attempts, fault).await.ok_or_else(|| Self::failed(table, fault))
    }

    async fn layout(&self, table: &str) -> TableResult<Arc<Layout>> {
        let known = self.layouts.lock().unwrap_or_else(PoisonError::into_inner).get(table).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let mut tries = 0;
        let found = loop {
            match self.dynamo.keys_of(table).await {
                Ok(Some(found)) => break found,
                Ok(None) => {
                    let fault = Fault::new(FaultKind::NotFound, "no such table", "");
                    return Err(Self::failed(table, &fault));
                }
                Err(fault) => tries = self.after(table, tries, &fault).await?,
            }
        };
        let (index, status) = (&self.options.index, &self.options.status);
        let wrong = match found.indexes.iter().find(|found| found.name == *index) {
            None => Some("the index does not exist".to_owned()),
            Some(found) if found.hash != *status => Some(format!("the index has the hash key `{}`", found.hash)),
            Some(_) => None,
        };
        if let Some(reason) = wrong {
            let hint = format!(
                "create a global secondary index `{index}` with the hash key `{status}` (string), keys only, or set \
                 `records.table.index` and `records.table.status` to an existing index and its hash key"
            );
            return Err(TableError::Broken { table: table.to_owned(), reason, hint });
        }
        let layout = Arc::new(Layout { hash: found.hash, range: found.range });
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), layout.clone());
        Ok(layout)
    }

    /// Makes every kind of call that a run makes, for `docweir doctor`. The write has a condition that cannot hold,
    /// so nothing changes.
    pub async fn try_out(&self, table: &str) -> TableResult<()> {
        let layout = self.layout(table).await?;
        let found = self.find(table, None).await?.keys.into_iter().next();
        let made_up = found.is_none();
        let key = found.unwrap_or_else(|| {
            let part = |name: &String| (name.clone(), KeyValue::S("docweir-doctor".into()));
            ItemKey { hash: part(&layout.hash), range: layout.range.as_ref().map(part) }
        });
        let status = vec![self.options.status.clone()];
        let never = [Test { path: status.clone(), value: None }, Test { path: status, value: Some(NONE.into()) }];
        let tried = async {
            self.read(table, std::slice::from_ref(&key)).await?;
            self.below(table, &key, &key.joined(), 1).await?;
            self.mark(table, &key, &never, &Mark::status(NONE)).await
        };
        match tried.await {
            // The made-up key consists of strings, but the keys of this table have another type. The table has no
            // item from which the type could be learned.
            Err(TableError::Broken { reason, .. }) if made_up && reason.starts_with("ValidationException") => Ok(()),
            Err(error) => Err(error),
            Ok(false) => Ok(()),
            Ok(true) => Err(TableError::Broken {
                table: table.to_owned(),
                reason: "the server applied a write whose condition did not hold".into(),
                hint: "use a server that enforces the conditions of writes".into(),
            }),
        }
    }

    async fn page(&self, query: &Query) -> TableResult<docweir_aws::dynamo::Page> {
        let mut tries = 0;
        loop {
            match self.dynamo.query(query).await {
                Ok(page) => return Ok(page),
                Err(fault) => tries = self.after(&query.table, tries, &fault).await?,
            }
        }
    }
}

impl Layout {
    /// Returns the key of an item, or `None` if a key attribute is neither a string nor a number.
    fn key(&self, item: &Item) -> Option<ItemKey> {
        let part = |name: &String| {
            let value = match item.get(name)? {
                AttributeValue::S(text) => KeyValue::S(text.clone()),
                AttributeValue::N(number) => KeyValue::N(number.clone()),
                _ => return None,
            };
            Some((name.clone(), value))
        };
        let range = match &self.range {
            Some(name) => Some(part(name)?),
            None => None,
        };
        Some(ItemKey { hash: part(&self.hash)?, range })
    }
}

fn attribute(key: &KeyValue) -> AttributeValue {
    match key {
        KeyValue::S(text) => AttributeValue::S(text.clone()),
        KeyValue::N(number) => AttributeValue::N(number.clone()),
    }
}

fn attributes(key: &ItemKey) -> Item {
    [Some(&key.hash), key.range.as_ref()]
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), attribute(value)))
        .collect()
}

fn condition(key: &ItemKey, tests: &[Test]) -> Expression {
    let mut parts = vec!["attribute_exists(#h)".to_owned()];
    let (mut names, mut values) = (vec![("#h".to_owned(), key.hash.0.clone())], Vec::new());
    for (nth, test) in tests.iter().enumerate() {
        let path = test.path.iter().enumerate().map(|(at, name)| {
            let placeholder = format!("#t{nth}_{at}");
            names.push((placeholder.clone(), name.clone()));
            placeholder
        });
        let path = path.collect::<Vec<_>>().join(".");
        match &test.value {
            Some(value) => {
                parts.push(format!("{path} = :t{nth}"));
                values.push((format!(":t{nth}"), value::from_json(value.clone())));
            }
            None => parts.push(format!("attribute_not_exists({path})")),
        }
    }
    let expression = Expression::new(parts.join(" AND "));
    let expression = names.into_iter().fold(expression, |e, (placeholder, name)| e.name(&placeholder, &name));
    values.into_iter().fold(expression, |e, (placeholder, value)| e.value(&placeholder, value))
}

#[async_trait]
impl RecordTable for DynamoRecordTable {
    async fn look(&self, table: &str) -> TableResult<()> {
        self.layout(table).await.map(drop)
    }

    async fn find(&self, table: &str, after: Option<Value>) -> TableResult<ItemPage> {
        let layout = self.layout(table).await?;
        let start = match after {
            Some(Value::Object(start)) => Some(value::object(start)),
            _ => None,
        };
        let query = Query {
            table: table.to_owned(),
            index: Some(self.options.index.clone()),
            key: Expression::new("#s = :s").name("#s", &self.options.status).string(":s", NONE),
            limit: Some(PAGE),
            start,
            ..Query::default()
        };
        let page = self.page(&query).await?;
        let keys = page.items.iter().filter_map(|item| layout.key(item)).collect();
        Ok(ItemPage { keys, next: page.next.map(|next| Value::Object(value::json(next))) })
    }

    async fn read(&self, table: &str, keys: &[ItemKey]) -> TableResult<Vec<Option<TableItem>>> {
        let mut found: HashMap<ItemKey, TableItem> = HashMap::with_capacity(keys.len());
        for part in keys.chunks(MOST) {
            let mut tries = 0;
            let items = loop {
                match self.dynamo.get_many(table, part.iter().map(attributes).collect(), true).await {
                    Ok(items) => break items,
                    Err(fault) => tries = self.after(table, tries, &fault).await?,
                }
            };
            // The given keys contain the names of the key attributes, so the table need not be described.
            let Some(first) = part.first() else { continue };
            let range = first.range.as_ref().map(|(name, _)| name.clone());
            let layout = Layout { hash: first.hash.0.clone(), range };
            for item in items {
                if let Some(key) = layout.key(&item) {
                    found.insert(key.clone(), TableItem { key, attributes: value::json(item) });
                }
            }
        }
        Ok(keys.iter().map(|key| found.remove(key)).collect())
    }

    async fn below(&self, table: &str, key: &ItemKey, prefix: &str, most: usize) -> TableResult<Vec<TableItem>> {
        let layout = self.layout(table).await?;
        let (name, value) = &key.hash;
        let hash = Expression::new("#h = :h").name("#h", name).value(":h", attribute(value));
        // The part of the prefix after the hash key narrows the range key.
        let rest = prefix.strip_prefix(value.text()).and_then(|rest| rest.strip_prefix('#'));
        let asked = match (&key.range, rest) {
            (Some((range, KeyValue::S(_))), Some(rest)) if !rest.is_empty() => {
                let both = Expression::new("#h = :h AND begins_with(#r, :r)").name("#h", name).name("#r", range);
                both.value(":h", attribute(value)).string(":r", rest)
            }
            _ => hash,
        };
        let mut query = Query { table: table.to_owned(), key: asked, consistent: true, ..Query::default() };
        let mut found = Vec::new();
        loop {
            let page = self.page(&query).await?;
            for item in page.items {
                if let Some(key) = layout.key(&item).filter(|key| key.joined().starts_with(prefix)) {
                    found.push(TableItem { key, attributes: value::json(item) });
                }
            }
            query.start = page.next;
            if query.start.is_none() || found.len() >= most {
                found.truncate(most);
                return Ok(found);
            }
        }
    }

    async fn mark(&self, table: &str, key: &ItemKey, tests: &[Test], mark: &Mark) -> TableResult<bool> {
        let mut text = "SET #status = :status".to_owned();
        match &mark.id {
            Some((_, Some(_))) => text.push_str(", #id = :id"),
            Some((_, None)) => text.push_str(" REMOVE #id"),
            None => {}
        }
        let mut update = Expression::new(text).name("#status", &self.options.status).string(":status", &mark.status);
        if let Some((name, id)) = &mark.id {
            update = update.name("#id", name);
            update = id.iter().fold(update, |update, id| update.string(":id", id));
        }
        let write = Write::Update {
            table: table.to_owned(),
            key: attributes(key),
            update,
            condition: Some(condition(key, tests)),
        };
        let mut tries = 0;
        loop {
            match self.dynamo.write(write.clone()).await {
                Ok(()) => return Ok(true),
                Err(fault) if fault.kind == FaultKind::Condition => return Ok(false),
                Err(fault) => tries = self.after(table, tries, &fault).await?,
            }
        }
    }
}
