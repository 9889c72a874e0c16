//! Small objects in a DynamoDB table: leases, and manifests where the S3 endpoint has no conditional writes.
//!
//! An item an object, read consistently; its tag is a name that every write draws anew. An object has to fit an item.

use async_trait::async_trait;
use bytes::Bytes;
use docweir_aws::dynamo::{AttributeValue, Dynamo, Expression, Item, Query, Write};
use docweir_aws::{Fault, FaultKind};
use std::io;
use ulid::Ulid;

use super::keys::check_key;
use super::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload};
use crate::clock::SharedClock;

/// DynamoDB's 400 KB, with room for names and keys.
const MAX_BYTES: usize = 390_000;

#[derive(Clone)]
pub struct DynamoObjects {
    dynamo: Dynamo,
    table: String,
    /// Of all its items: one table may hold the objects of several places.
    place: String,
    clock: SharedClock,
}

impl DynamoObjects {
    /// Those of a place (a bucket and prefix) in a table whose keys are `pk` and `sk`.
    pub fn new(dynamo: Dynamo, table: &str, place: &str, clock: SharedClock) -> Self {
        Self { dynamo, table: table.to_owned(), place: format!("objects#{place}"), clock }
    }

    fn key(&self, key: &str) -> Result<Item, ObjectError> {
        check_key(key)?;
        let text = |text: &str| AttributeValue::S(text.to_owned());
        Ok([("pk".to_owned(), text(&self.place)), ("sk".to_owned(), text(key))].into())
    }

    async fn item(&self, key: &str) -> Result<Item, ObjectError> {
        let found = self.dynamo.get(&self.table, self.key(key)?, true).await;
        found.map_err(|fault| failed("read", key, &fault))?.ok_or_else(|| ObjectError::NotFound(key.to_owned()))
    }
}

fn failed(what: &'static str, key: &str, fault: &Fault) -> ObjectError {
    let (key, reason) = (key.to_owned(), fault.to_string());
    match fault.kind {
        FaultKind::Condition | FaultKind::Conflict => ObjectError::Conflict(key),
        FaultKind::Unknown => ObjectError::Unknown { key, reason },
        FaultKind::Throttled | FaultKind::Unreachable => ObjectError::Transient { what, key, reason },
        FaultKind::NotFound => {
            ObjectError::Storage { what, key, reason, hint: "`docweir infra apply` makes the tables" }
        }
        FaultKind::Denied => ObjectError::Storage {
            what,
            key,
            reason,
            hint: "look at the credentials and what they may do with the table",
        },
        FaultKind::Invalid => ObjectError::Storage { what, key, reason, hint: "report it with the log" },
    }
}

fn bytes_of(item: &Item) -> Bytes {
    item.get("body")
        .and_then(|body| body.as_b().ok())
        .map(|blob| Bytes::copy_from_slice(blob.as_ref()))
        .unwrap_or_default()
}

fn number(item: &Item, name: &str) -> i64 {
    item.get(name).and_then(|n| n.as_n().ok()).and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn meta(item: &Item) -> Option<ObjectMeta> {
    let key = item.get("sk")?.as_s().ok()?.clone();
    let bytes = u64::try_from(number(item, "bytes")).unwrap_or_default();
    Some(ObjectMeta { key, bytes, modified: number(item, "modified") })
}

#[async_trait]
impl ObjectStore for DynamoObjects {
    fn location(&self) -> String {
        format!("DynamoDB table {}", self.table)
    }

    async fn put(&self, key: &str, body: Bytes, when: Precondition, _: Durability) -> Result<Tag, ObjectError> {
        let mut item = self.key(key)?;
        if body.len() > MAX_BYTES {
            let reason = format!("{} bytes are more than an item holds ({MAX_BYTES})", body.len());
            let hint = "use an S3 endpoint that enforces conditional writes for it";
            return Err(ObjectError::Storage { what: "write", key: key.to_owned(), reason, hint });
        }
        let tag = Ulid(fastrand::u128(..)).to_string();
        item.insert("bytes".into(), AttributeValue::N(body.len().to_string()));
        item.insert("modified".into(), AttributeValue::N(self.clock.now().to_string()));
        item.insert("tag".into(), AttributeValue::S(tag.clone()));
        item.insert("body".into(), AttributeValue::B(docweir_aws::dynamo::blob(&body)));
        let condition = match when {
            Precondition::None => None,
            Precondition::Absent => Some(Expression::new("attribute_not_exists(pk)")),
            Precondition::Matches(Tag(tag)) => Some(Expression::new("tag = :tag").string(":tag", tag)),
        };
        let write = Write::Put { table: self.table.clone(), item, condition };
        self.dynamo.write(write).await.map_err(|fault| failed("write", key, &fault))?;
        Ok(Tag(tag))
    }

    async fn put_all(&self, objects: Vec<(String, Bytes)>, durability: Durability) -> Result<(), ObjectError> {
        objects.iter().try_for_each(|(key, _)| check_key(key))?;
        for (key, body) in objects {
            self.put(&key, body, Precondition::None, durability).await?;
        }
        Ok(())
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        check_key(key)?;
        Ok(Box::new(Small { objects: self.clone(), key: key.to_owned(), body: Vec::new() }))
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        let item = self.item(key).await?;
        let tag = item.get("tag").and_then(|tag| tag.as_s().ok()).cloned().unwrap_or_default();
        Ok((bytes_of(&item), Tag(tag)))
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let body = bytes_of(&self.item(key).await?);
        let clamp = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(body.len());
        Ok(body.slice(clamp(offset)..clamp(offset.saturating_add(length))))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        meta(&self.item(key).await?).ok_or_else(|| ObjectError::NotFound(key.to_owned()))
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let write = Write::Delete { table: self.table.clone(), key: self.key(key)?, condition: None };
        self.dynamo.write(write).await.map_err(|fault| failed("delete", key, &fault))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        let mut key = Expression::new("pk = :place").string(":place", &self.place);
        if let Some(from) = after.max(Some(prefix)).filter(|from| !from.is_empty()) {
            key = Expression::new("pk = :place AND sk >= :from").string(":place", &self.place).string(":from", from);
        }
        let mut query = Query { table: self.table.clone(), key, consistent: true, ..Query::default() };
        let mut found = Vec::new();
        loop {
            let page = self.dynamo.query(&query).await.map_err(|fault| failed("list", prefix, &fault))?;
            for meta in page.items.iter().filter_map(meta) {
                if !meta.key.starts_with(prefix) && meta.key.as_str() > prefix || found.len() >= limit {
                    return Ok(found);
                }
                if meta.key.starts_with(prefix) && after.is_none_or(|after| meta.key.as_str() > after) {
                    found.push(meta);
                }
            }
            query.start = page.next;
            if query.start.is_none() {
                return Ok(found);
            }
        }
    }

    fn local_path(&self, _: &str) -> Option<std::path::PathBuf> {
        None
    }
}

/// An object that is gathered, and written at once.
struct Small {
    objects: DynamoObjects,
    key: String,
    body: Vec<u8>,
}

impl io::Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.body.len() + bytes.len() > MAX_BYTES {
            return Err(io::Error::other(format!("more than {MAX_BYTES} bytes do not fit an item")));
        }
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Upload for Small {
    async fn finish(self: Box<Self>) -> Result<(), ObjectError> {
        let body = Bytes::from(self.body);
        self.objects.put(&self.key, body, Precondition::None, Durability::Durable).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use docweir_aws::dynamo::table::{Key, Table};
    use docweir_aws::{Aws, AwsOptions};
    use docweir_testkit::servers::{Server, shared_dynoxide, shared_ministack};

    use super::*;
    use crate::clock::SystemClock;
    use crate::stores::objects::conformance::{self, Candidate};

    async fn keeps_the_promises_of_every_store(server: &Server) {
        let options =
            AwsOptions { region: "eu-central-1".into(), endpoint: server.endpoint().into(), ..AwsOptions::default() };
        let aws = Aws::find(options).await.with_keys("test", "test");
        let dynamo = Dynamo::new(&aws, "");
        let name = format!("objects-{:08x}", fastrand::u32(..));
        let key = Key { hash: "pk", range: Some("sk") };
        let table = Table { name: name.clone(), key, indexes: Vec::new(), expires: None };
        dynamo.create(&table, Duration::from_secs(30)).await.unwrap();
        let objects = DynamoObjects::new(dynamo, &name, "bucket/prefix", Arc::new(SystemClock));
        let too_large = objects.put("k", vec![0; MAX_BYTES + 1].into(), Precondition::None, Durability::Durable).await;
        assert!(too_large.unwrap_err().to_string().contains("more than an item holds"));
        let candidate =
            Candidate { objects: Arc::new(objects), in_byte_order: true, checks_keys: true, large: 100_000 };
        conformance::check(&candidate).await;
    }

    #[tokio::test]
    async fn on_ministack_it_keeps_the_promises_of_every_store() {
        let Some(server) = shared_ministack() else { return };
        keeps_the_promises_of_every_store(server).await;
    }

    #[tokio::test]
    async fn on_dynoxide_it_keeps_the_promises_of_every_store() {
        let Some(server) = shared_dynoxide() else { return };
        keeps_the_promises_of_every_store(server).await;
    }
}
