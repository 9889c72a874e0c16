//! Stores small objects, such as leases, in a DynamoDB table. Manifests are stored there too if the S3 endpoint does
//! not enforce conditional writes.
//!
//! Each object is one item, which is read consistently. The tag of an object is a random id that every write
//! replaces. All objects except tiny ones are compressed. The compressed object must fit into one item.

use std::io::{self, Read, Write as _};

use async_trait::async_trait;
use bytes::Bytes;
use docweir_aws::dynamo::{AttributeValue, Dynamo, Expression, Item, Query, Write};
use docweir_aws::{Fault, FaultKind};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use ulid::Ulid;

use docweir_core::clock::SharedClock;
use docweir_objects::keys::check_key;
use docweir_objects::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload};

/// Maximum size of a stored body, in bytes. This is DynamoDB's limit of 400 KB minus space for names and keys.
const MAX_BYTES: usize = 390_000;
/// Maximum size, in bytes, of an object before compression.
const MAX_PLAIN_BYTES: usize = 16 << 20;
/// Objects of at least this size, in bytes, are compressed. DynamoDB charges by the kilobyte, and a manifest that lists
/// thousands of files must fit into one item.
const COMPRESSED_FROM: usize = 2_048;
const DEFLATE: &str = "deflate";

#[derive(Clone)]
pub struct DynamoObjects {
    dynamo: Dynamo,
    table: String,
    /// Partition key of all items of this store. One table may hold the objects of several buckets and prefixes.
    place: String,
    clock: SharedClock,
}

impl DynamoObjects {
    /// Opens the object store for `place`, which names a bucket and a prefix. The objects are stored in `table`, which
    /// must have the key attributes `pk` and `sk`.
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
            ObjectError::Storage { what, key, reason, hint: "create the tables with `docweir infra apply`" }
        }
        FaultKind::Denied => {
            let reason = format!("{reason}; check the credentials and allow them to read and write the table");
            ObjectError::Transient { what, key, reason }
        }
        FaultKind::Invalid => ObjectError::Storage { what, key, reason, hint: "report this with the log" },
    }
}

fn bytes_of(key: &str, item: &Item) -> Result<Bytes, ObjectError> {
    let Some(body) = item.get("body").and_then(|body| body.as_b().ok()) else { return Ok(Bytes::new()) };
    let encoding = item.get("encoding").and_then(|encoding| encoding.as_s().ok());
    match encoding.map(String::as_str) {
        None => Ok(Bytes::copy_from_slice(body.as_ref())),
        Some(DEFLATE) => {
            let mut plain = Vec::new();
            let mut decoder = DeflateDecoder::new(body.as_ref()).take(MAX_PLAIN_BYTES as u64);
            decoder.read_to_end(&mut plain).map_err(|e| unreadable(key, e.to_string()))?;
            Ok(plain.into())
        }
        Some(other) => Err(unreadable(key, format!("this version does not know the encoding `{other}`"))),
    }
}

fn unreadable(key: &str, reason: String) -> ObjectError {
    let hint = "use the docweir version that wrote the object, or restore the item";
    ObjectError::Storage { what: "read", key: key.to_owned(), reason, hint }
}

fn deflated(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
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
        let refused = |reason: String| {
            let hint = "store the object in S3, at an endpoint that enforces conditional writes";
            ObjectError::Storage { what: "write", key: key.to_owned(), reason, hint }
        };
        let plain = body.len();
        if plain > MAX_PLAIN_BYTES {
            return Err(refused(format!("{plain} bytes exceed the limit of {MAX_PLAIN_BYTES}")));
        }
        let deflated = match plain {
            COMPRESSED_FROM.. => Some(deflated(&body).map_err(|e| refused(e.to_string()))?),
            _ => None,
        };
        let held = match deflated.filter(|deflated| deflated.len() < plain) {
            Some(deflated) => {
                item.insert("encoding".into(), AttributeValue::S(DEFLATE.into()));
                docweir_aws::dynamo::blob(&deflated)
            }
            None => docweir_aws::dynamo::blob(&body),
        };
        let bytes = held.as_ref().len();
        if bytes > MAX_BYTES {
            return Err(refused(format!("{bytes} bytes exceed the {MAX_BYTES} that fit into an item")));
        }
        let tag = Ulid(fastrand::u128(..)).to_string();
        item.insert("bytes".into(), AttributeValue::N(plain.to_string()));
        item.insert("modified".into(), AttributeValue::N(self.clock.now().to_string()));
        item.insert("tag".into(), AttributeValue::S(tag.clone()));
        item.insert("body".into(), AttributeValue::B(held));
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
        Ok(Box::new(BufferedUpload { objects: self.clone(), key: key.to_owned(), body: Vec::new() }))
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        let item = self.item(key).await?;
        let tag = item.get("tag").and_then(|tag| tag.as_s().ok()).cloned().unwrap_or_default();
        Ok((bytes_of(key, &item)?, Tag(tag)))
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let body = bytes_of(key, &self.item(key).await?)?;
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

/// Collects an object in memory and writes it when the upload is finished.
struct BufferedUpload {
    objects: DynamoObjects,
    key: String,
    body: Vec<u8>,
}

impl io::Write for BufferedUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.body.len() + bytes.len() > MAX_PLAIN_BYTES {
            return Err(io::Error::other(format!("the object exceeds the limit of {MAX_PLAIN_BYTES} bytes")));
        }
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Upload for BufferedUpload {
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
    use docweir_core::clock::SystemClock;
    use docweir_objects::conformance::{self, Candidate};
    use docweir_testkit::servers::{Server, shared_dynoxide, shared_ministack};

    use super::*;

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
        let put =
            async |body: Vec<u8>| objects.put("sized", body.into(), Precondition::None, Durability::Durable).await;
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(MAX_BYTES + 1).collect();
        assert!(put(noise.clone()).await.unwrap_err().to_string().contains("fit into an item"));
        assert!(put(vec![0; MAX_PLAIN_BYTES + 1]).await.is_err());
        for body in
            [vec![7; MAX_PLAIN_BYTES], noise[..MAX_BYTES - 1_000].to_vec(), noise[..COMPRESSED_FROM - 1].to_vec()]
        {
            put(body.clone()).await.unwrap();
            assert!(objects.get("sized").await.unwrap().0 == body);
            assert_eq!(objects.head("sized").await.unwrap().bytes, body.len() as u64);
            assert!(objects.get_range("sized", 10, 100).await.unwrap() == body[10..110]);
        }
        objects.delete("sized").await.unwrap();
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
