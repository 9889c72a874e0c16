//! Tests the record table on two real servers, and through a proxy that loses replies.

use std::collections::BTreeSet;
use std::time::Duration;

use docweir_aws::dynamo::table::{Index, Key, Table};
use docweir_aws::dynamo::{Dynamo, Write, value};
use docweir_aws::{Aws, AwsOptions};
use docweir_records::TableOptions;
use docweir_stores::record_table::*;
use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::{shared_dynoxide, shared_ministack};
use serde_json::{Value, json};

use crate::record_table::DynamoRecordTable;

/// Holds a user's table and Docweir's access to it.
struct RecordTableFixture {
    name: String,
    theirs: Dynamo,
    tables: DynamoRecordTable,
}

async fn dynamo(endpoint: &str) -> Dynamo {
    let options = AwsOptions { region: "eu-central-1".into(), endpoint: endpoint.into(), ..AwsOptions::default() };
    Dynamo::new(&Aws::find(options).await.with_keys("test", "test"), "")
}

impl RecordTableFixture {
    /// Creates the user's table. The user's calls go to `endpoint`. Docweir's calls go to `theirs`, which is the same
    /// server or a proxy to it.
    async fn new(endpoint: &str, theirs: &str, range: Option<&'static str>, index: Option<&'static str>) -> Self {
        let direct = dynamo(endpoint).await;
        let name = format!("receipts-{:08x}", fastrand::u32(..));
        let by = |hash| Index { name: "embedding-status-index", key: Key { hash, range: None }, holds: &[] };
        let (key, indexes) = (Key { hash: "PK", range }, index.map(by).into_iter().collect());
        let table = Table { name: name.clone(), key, indexes, expires: None };
        direct.create(&table, Duration::from_secs(30)).await.unwrap();
        let tables = DynamoRecordTable::new(dynamo(theirs).await, TableOptions::default(), 20);
        Self { name, theirs: direct, tables }
    }

    async fn put(&self, item: Value) {
        let Value::Object(item) = item else { panic!("no object: {item}") };
        let write = Write::Put { table: self.name.clone(), item: value::object(item), condition: None };
        self.theirs.write(write).await.unwrap();
    }

    async fn delete(&self, key: &ItemKey) {
        let part = |(name, value): &(String, KeyValue)| (name.clone(), Value::from(value.text()));
        let key = [Some(&key.hash), key.range.as_ref()].into_iter().flatten().map(part).collect();
        let write = Write::Delete { table: self.name.clone(), key: value::object(key), condition: None };
        self.theirs.write(write).await.unwrap();
    }

    /// Returns the keys of all items whose status requests an embedding. Each key is joined into one string.
    async fn asking(&self) -> BTreeSet<String> {
        let (mut found, mut after) = (BTreeSet::new(), None);
        loop {
            let page = self.tables.find(&self.name, after).await.unwrap();
            found.extend(page.keys.iter().map(ItemKey::joined));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    }

    async fn read(&self, key: &ItemKey) -> Option<TableItem> {
        self.tables.read(&self.name, std::slice::from_ref(key)).await.unwrap().pop().unwrap()
    }
}

fn key(hash: &str, range: &str) -> ItemKey {
    let part = |name: &str, value: &str| (name.to_owned(), KeyValue::S(value.to_owned()));
    ItemKey { hash: part("PK", hash), range: Some(part("SK", range)) }
}

fn endpoints() -> Vec<&'static str> {
    [shared_ministack().map(|s| s.endpoint()), shared_dynoxide().map(|s| s.endpoint())].into_iter().flatten().collect()
}

#[tokio::test]
async fn what_asks_is_found_page_by_page_and_nothing_else() {
    for endpoint in endpoints() {
        let stall = RecordTableFixture::new(endpoint, endpoint, Some("SK"), Some("embedding_status")).await;
        assert_eq!(stall.asking().await, BTreeSet::new());
        for n in 0..1_100 {
            let status = ["NONE", "PENDING", "SUCCESS"][usize::from(n >= 1_050) + usize::from(n >= 1_080)];
            stall.put(json!({"PK": format!("p{}", n % 7), "SK": format!("s{n}"), "embedding_status": status})).await;
        }
        stall.put(json!({"PK": "p", "SK": "without"})).await;
        let expected: BTreeSet<String> = (0..1_050).map(|n| format!("p{}#s{n}", n % 7)).collect();
        assert_eq!(stall.asking().await, expected);
        stall.tables.try_out(&stall.name).await.unwrap();
        let keys: Vec<ItemKey> = (0..250).map(|n| key(&format!("p{}", n % 7), &format!("s{n}"))).collect();
        let keys = [keys, vec![key("p", "none")]].concat();
        let read = stall.tables.read(&stall.name, &keys).await.unwrap();
        let found: Vec<_> = read.iter().map(|held| held.as_ref().map(|held| &held.key)).collect();
        let expected: Vec<_> = keys.iter().take(250).map(Some).chain([None]).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_receipt_is_what_lies_below_its_key_wherever_that_is_parted() {
    for endpoint in endpoints() {
        let stall = RecordTableFixture::new(endpoint, endpoint, Some("SK"), Some("embedding_status")).await;
        let parted = [("I#1", "R#1#L#1"), ("I#1", "R#1#L#2"), ("I#1", "R#10#L#1"), ("I#1", "X"), ("I#1#R#1", "L#3")];
        for (hash, range) in parted {
            stall.put(json!({"PK": hash, "SK": range, "text": "x"})).await;
        }
        let below = async |hash: &str, most| {
            let found = stall.tables.below(&stall.name, &key(hash, "any"), "I#1#R#1#L#", most).await.unwrap();
            found.iter().map(|held| held.key.joined()).collect::<Vec<_>>()
        };
        assert_eq!(below("I#1", 9).await, ["I#1#R#1#L#1", "I#1#R#1#L#2"]);
        assert_eq!(below("I#1", 1).await, ["I#1#R#1#L#1"]);
        assert_eq!(below("I#1#R#1", 9).await, ["I#1#R#1#L#3"]);
        assert_eq!(below("I#2", 9).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_is_written_is_written_to_what_was_embedded_and_to_nothing_else() {
    for endpoint in endpoints() {
        let proxy = Proxy::start(endpoint.trim_start_matches("http://")).unwrap();
        let theirs = format!("http://{}", proxy.address());
        let stall = RecordTableFixture::new(endpoint, &theirs, Some("SK"), Some("embedding_status")).await;
        let own = key("p", "s");
        let item = |text: &str, rev: u64| {
            let status = "PENDING";
            json!({"PK": "p", "SK": "s", "a": {"text": text}, "rev": rev, "embedding_status": status, "own": [1, "x"]})
        };
        let way = vec!["a".to_owned(), "text".to_owned()];
        stall.put(item("old", 1)).await;
        let held = stall.read(&own).await.unwrap();
        let (by_text, by_version) = (RecordLocation::of(&held, way.clone(), ""), RecordLocation::of(&held, way, "rev"));
        let done = Mark { status: "SUCCESS".into(), id: Some(("embedding_id".into(), Some("p#s".into()))) };
        let mark = async |place: &RecordLocation, mark: &Mark| {
            stall.tables.mark(&stall.name, &own, &place.unchanged("old"), mark).await.unwrap()
        };
        assert!(mark(&by_text, &done).await && mark(&by_version, &done).await, "marking twice has the same result");
        let told = stall.read(&own).await.unwrap();
        assert_eq!((told.text("embedding_status"), told.text("embedding_id")), (Some("SUCCESS"), Some("p#s")));
        assert_eq!(told.attributes["own"], json!([1, "x"]), "the user's attributes are unchanged");
        // A lost reply causes neither a second write nor a lost one.
        for lost in 1..=3 {
            let mut left = lost;
            proxy.set(move |head| match head.contains("UpdateItem") && left > 0 {
                true => {
                    left -= 1;
                    Act::LoseReply
                }
                false => Act::Pass,
            });
            assert!(mark(&by_text, &Mark::status("FAILED")).await);
            assert_eq!(stall.read(&own).await.unwrap().text("embedding_status"), Some("FAILED"));
        }
        assert!(mark(&by_text, &Mark { status: "NOISE".into(), id: Some(("embedding_id".into(), None)) }).await);
        assert_eq!(stall.read(&own).await.unwrap().text("embedding_id"), None);
        // The item changed in its text, then in its version.
        stall.put(item("new", 1)).await;
        assert!(!mark(&by_text, &done).await && mark(&by_version, &done).await);
        stall.put(item("old", 2)).await;
        assert!(mark(&by_text, &done).await && !mark(&by_version, &done).await);
        // The item can be made to ask again only if it has not changed since it was read.
        let read = stall.read(&own).await.unwrap();
        let asks = async |held: &TableItem| {
            let tests = by_version.as_read(held, "embedding_status");
            stall.tables.mark(&stall.name, &own, &tests, &Mark::status(NONE)).await.unwrap()
        };
        stall.put(item("old", 3)).await;
        assert!(!asks(&read).await);
        assert!(asks(&stall.read(&own).await.unwrap()).await);
        assert_eq!(stall.asking().await, BTreeSet::from(["p#s".to_owned()]));
        // A deleted item is not created again.
        stall.delete(&own).await;
        assert!(!mark(&by_text, &done).await && !asks(&read).await);
        assert_eq!(stall.read(&own).await, None);
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_used_says_what_to_make() {
    for endpoint in endpoints() {
        let none = RecordTableFixture::new(endpoint, endpoint, None, None).await;
        let other = RecordTableFixture::new(endpoint, endpoint, None, Some("PK")).await;
        let right = RecordTableFixture::new(endpoint, endpoint, None, Some("embedding_status")).await;
        let said = async |stall: &RecordTableFixture| stall.tables.look(&stall.name).await.map_err(|e| e.to_string());
        assert!(said(&none).await.unwrap_err().contains("the index does not exist; create a global secondary index"));
        assert!(said(&other).await.unwrap_err().contains("has the hash key `PK`; create a global secondary index"));
        assert_eq!(said(&right).await, Ok(()));
        // The key of a table may consist of a hash alone.
        right.put(json!({"PK": "a", "embedding_status": "NONE"})).await;
        assert_eq!(right.asking().await, BTreeSet::from(["a".to_owned()]));
        let gone = right.tables.look("no-such-table").await.unwrap_err();
        assert!(matches!(&gone, TableError::Broken { reason, .. } if reason.contains("no such table")), "{gone}");
    }
}
