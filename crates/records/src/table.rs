//! Assembles receipts from a DynamoDB table in which each line and each word is an item. Also configures the
//! attributes of such a table.
//!
//! The entity key of an item consists of the values of its key attributes, joined by `#`. For example, the partition
//! key is `IMAGE#{uuid}`, and the sort key is `RECEIPT#00001#LINE#00002#WORD#00003`. A table may also split the
//! entity key at another `#`. The other attributes of the item are the fields of a line or a word (see
//! `super::receipt`). The ids of the receipt, the line and the word are read from the entity key, not from
//! attributes.

use std::collections::BTreeMap;

use docweir_aws::is_table_name;
use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::{self, Entity};
use super::{Item, RecordError, RecordsOptions, Shape};

/// Names the kind of records in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableShape {
    #[default]
    Receipts,
    Records,
}

/// Configures a DynamoDB table whose items are embedded. The table belongs to your own application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TableOptions {
    /// Name of the table that `docweir serve` polls for items to embed. If empty, no table is polled. The command
    /// `docweir ingest dynamodb://TABLE` can read any table.
    pub name: String,
    /// Kind of items that `docweir serve` reads: `"receipts"` (lines and words of receipts) or `"records"` (any
    /// items).
    pub shape: TableShape,
    /// Name or dotted path of the attribute that holds the id of a record. Used only by `docweir serve`, and only if
    /// `shape` is `"records"`.
    pub id: String,
    /// Name or dotted path of the attribute that holds the text of a record. Used only by `docweir serve`, and only
    /// if `shape` is `"records"`.
    pub text: String,
    /// Collection in which records are stored. Used only by `docweir serve`, and only if `shape` is `"records"`.
    pub collection: String,
    /// Name of the secondary index that Docweir queries to find the items to embed. The partition key of the index must
    /// be the attribute that `status` names. A keys-only projection is enough.
    pub index: String,
    /// Name of the attribute that holds the embedding status of an item. The value `NONE` requests embedding. Docweir
    /// writes `PENDING`, `SUCCESS`, `FAILED` and `NOISE`.
    pub status: String,
    /// Name of the attribute in which Docweir stores the embedding id of a line. The embedding id is the key of the
    /// line in the collection `receipt_lines`.
    pub line_id: String,
    /// Name of the attribute in which Docweir stores the embedding id of a word. The embedding id is the key of the
    /// word in the collection `receipt_words`.
    pub word_id: String,
    /// Name of the attribute in which Docweir stores the embedding id of any other record. The embedding id is the
    /// key of the record in its collection.
    pub record_id: String,
    /// Name of an attribute whose value changes whenever the item changes. Docweir compares the value to find out
    /// whether an item has changed since it was read. If empty, Docweir compares the item's text instead.
    pub version: String,
    /// Interval between two polls of the table by `docweir serve`, in seconds.
    pub poll_seconds: f64,
    /// Maximum number of records that wait to be sent to the provider. Records from all sources count. Above this
    /// number, `docweir serve` reads no more items from the table.
    pub max_waiting: u64,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            shape: TableShape::Receipts,
            id: String::new(),
            text: String::new(),
            collection: "records".into(),
            index: "embedding-status-index".into(),
            status: "embedding_status".into(),
            line_id: "line_embedding_id".into(),
            word_id: "word_embedding_id".into(),
            record_id: "embedding_id".into(),
            version: String::new(),
            poll_seconds: 30.0,
            max_waiting: 100_000,
        }
    }
}

/// Returns whether `name` is a valid name for a collection of records.
pub fn is_collection_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    letters && (1..=64).contains(&name.len())
}

impl TableOptions {
    /// Returns each invalid field, with the reason.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if !self.name.is_empty() && !is_table_name(&self.name) {
            found.push(("name", "must be empty, or 3 to 255 letters, digits, `_`, `-` and `.`".into()));
        }
        if !is_collection_name(&self.collection) {
            found.push(("collection", "must be 1 to 64 lower-case letters, digits, `_` and `-`".into()));
        }
        let is_records = !self.name.is_empty() && self.shape == TableShape::Records;
        for (field, attribute) in [("id", &self.id), ("text", &self.text)] {
            if is_records && attribute.is_empty() {
                found.push((field, "must name an attribute if `records.table.shape` is `records`".into()));
            }
        }
        let ids = [("line_id", &self.line_id), ("word_id", &self.word_id), ("record_id", &self.record_id)];
        for (field, attribute) in ids.into_iter().chain([("status", &self.status)]) {
            if attribute.is_empty() {
                found.push((field, "must name an attribute".into()));
            } else if field != "status" && *attribute == self.status {
                found.push((field, "must differ from the attribute that `records.table.status` names".into()));
            }
        }
        if self.index.is_empty() {
            found.push(("index", "must name an index, because Docweir never scans the table".into()));
        }
        found.extend(out_of_range("poll_seconds", self.poll_seconds, 0.05, 86_400.0));
        found.extend(out_of_range("max_waiting", self.max_waiting, 1, 100_000_000));
        found
    }

    /// Returns the shape of the items that `docweir serve` reads from the table.
    pub fn served(&self) -> Shape {
        match self.shape {
            TableShape::Receipts => Shape::Receipts,
            TableShape::Records => Shape::Records { id: self.id.clone(), text: self.text.clone() },
        }
    }

    /// Removes the attributes that Docweir itself writes, because they are not part of the record.
    pub fn own(&self, mut attributes: Map<String, Value>) -> Map<String, Value> {
        for name in [&self.status, &self.line_id, &self.word_id, &self.record_id] {
            attributes.remove(name.as_str());
        }
        attributes
    }
}

/// Identifies a receipt by image and number. The entity keys of all items of the receipt begin with these two parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptKey {
    pub image: String,
    pub receipt: u32,
}

impl ReceiptKey {
    /// Returns the receipt that contains the line or word named by this entity key. Returns `None` for any other key.
    pub fn of(key: &str) -> Option<Self> {
        let Entity { image, receipt, .. } = ids::parse(key)?;
        Some(Self { image: image.to_owned(), receipt })
    }

    /// Returns the common prefix of the keys of all lines and words of the receipt.
    pub fn prefix(&self) -> String {
        format!("IMAGE#{}#RECEIPT#{:05}#LINE#", self.image, self.receipt)
    }
}

/// Holds the items of a receipt that was assembled from a table.
pub struct Assembled {
    pub items: Vec<Item>,
    /// Keys of words whose lines are missing.
    pub orphans: Vec<String>,
}

/// Assembles lines and words from a table to one receipt, and returns its items. `parts` holds the entity key and the
/// attributes of each line or word. Parts of other receipts are ignored. `status` names the attribute that may mark a
/// part as noise.
///
/// # Errors
/// Fails for the same reasons as the reading of a receipt from a file. The error names the field within the assembled
/// receipt.
pub fn assemble<'a>(
    receipt: &ReceiptKey,
    parts: impl IntoIterator<Item = (&'a str, &'a Map<String, Value>)>,
    status: &str,
    options: &RecordsOptions,
) -> Result<Assembled, RecordError> {
    let mut lines: BTreeMap<u32, Map<String, Value>> = BTreeMap::new();
    let mut words: Vec<(u32, u32, &str, Map<String, Value>)> = Vec::new();
    let fields = |attributes: &Map<String, Value>| {
        let mut fields = attributes.clone();
        if let Some(said) = attributes.get(status).filter(|_| status != "embedding_status") {
            fields.insert("embedding_status".into(), said.clone());
        }
        fields
    };
    let theirs = |entity: &Entity<'_>| entity.image == receipt.image && entity.receipt == receipt.receipt;
    for (key, attributes) in parts {
        match ids::parse(key).filter(theirs) {
            Some(Entity { line, word: None, .. }) => {
                let mut line_fields = fields(attributes);
                line_fields.insert("line_id".into(), line.into());
                lines.insert(line, line_fields);
            }
            Some(Entity { line, word: Some(word), .. }) => words.push((line, word, key, fields(attributes))),
            None => {}
        }
    }
    words.sort_by_key(|(line, word, ..)| (*line, *word));
    let mut of_line: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
    let mut orphans = Vec::new();
    for (line, word, key, mut word_fields) in words {
        match lines.contains_key(&line) {
            true => {
                word_fields.insert("word_id".into(), word.into());
                of_line.entry(line).or_default().push(Value::Object(word_fields));
            }
            false => orphans.push(key.to_owned()),
        }
    }
    if lines.is_empty() {
        return Ok(Assembled { items: Vec::new(), orphans });
    }
    let source = lines.values().find_map(|line| line.get("source")).filter(|source| source.is_string()).cloned();
    let lines = lines.into_iter().map(|(line, mut line_fields)| {
        line_fields.insert("words".into(), of_line.remove(&line).unwrap_or_default().into());
        Value::Object(line_fields)
    });
    let mut object = Map::new();
    object.insert("image_id".into(), receipt.image.clone().into());
    object.insert("receipt_id".into(), receipt.receipt.into());
    object.insert("lines".into(), Value::Array(lines.collect()));
    object.extend(source.map(|source| ("source".to_owned(), source)));
    Ok(Assembled { items: Shape::Receipts.items_of(object, options)?, orphans })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const IMAGE: &str = "77d54558-60e9-588f-b59d-b48ccb1181d8";

    fn part(text: &str, [x, y]: [f64; 2]) -> Map<String, Value> {
        let bounds = json!({"x": x, "y": y, "width": 0.2, "height": 0.04});
        json!({"text": text, "bounding_box": bounds, "PK": "x", "line_id": 7, "tags": ["a"]})
            .as_object()
            .unwrap()
            .clone()
    }

    fn receipt() -> BTreeMap<String, Map<String, Value>> {
        let key = |rest: &str| format!("IMAGE#{IMAGE}#RECEIPT#00001#LINE#{rest}");
        [
            (key("00002"), part("TOTAL 5.00", [0.1, 0.5])),
            (key("00002#WORD#00001"), part("TOTAL", [0.1, 0.5])),
            (key("00002#WORD#00002"), part("5.00", [0.4, 0.5])),
            (key("00003"), part("THANK YOU", [0.1, 0.2])),
            (key("00009#WORD#00001"), part("LOST", [0.1, 0.2])),
            (key("00002#WORD#00001#LABEL#TOTAL"), part("a label", [0.1, 0.2])),
            (format!("IMAGE#{IMAGE}#RECEIPT#00002#LINE#00001"), part("another receipt", [0.1, 0.2])),
        ]
        .into()
    }

    fn assembled(parts: &BTreeMap<String, Map<String, Value>>, status: &str) -> Result<Assembled, RecordError> {
        let receipt = ReceiptKey { image: IMAGE.into(), receipt: 1 };
        let parts = parts.iter().map(|(key, attributes)| (key.as_str(), attributes));
        assemble(&receipt, parts, status, &RecordsOptions::default())
    }

    #[test]
    fn lines_and_words_of_a_table_are_those_of_a_file() {
        let of_table = assembled(&receipt(), "embedding_status").unwrap();
        assert_eq!(of_table.orphans, [format!("IMAGE#{IMAGE}#RECEIPT#00001#LINE#00009#WORD#00001")]);
        let field = |text: &str, at, name: &str, id: u32| {
            let mut fields = part(text, at);
            fields.insert(name.into(), id.into());
            Value::Object(fields)
        };
        let mut line = field("TOTAL 5.00", [0.1, 0.5], "line_id", 2);
        line["words"] = json!([field("TOTAL", [0.1, 0.5], "word_id", 1), field("5.00", [0.4, 0.5], "word_id", 2)]);
        let lines = json!([line, field("THANK YOU", [0.1, 0.2], "line_id", 3)]);
        let file = json!({"image_id": IMAGE, "receipt_id": 1, "lines": lines});
        let of_file = Shape::Receipts.items(&file.to_string(), &RecordsOptions::default()).unwrap();
        assert_eq!(of_table.items, of_file);
        assert!(of_table.items[2].input.contains("<CONTEXT><EDGE> 5.00</CONTEXT>"), "{}", of_table.items[2].input);
    }

    #[test]
    fn what_is_noise_is_said_by_the_attribute_of_the_status() {
        let mut parts = receipt();
        for attributes in parts.values_mut() {
            attributes.insert("state".into(), "NOISE".into());
        }
        assert!(assembled(&parts, "state").unwrap().items.iter().all(|item| item.noise));
        assert!(assembled(&parts, "embedding_status").unwrap().items.iter().all(|item| !item.noise));
        parts.retain(|key, _| key.contains("WORD"));
        let words = assembled(&parts, "state").unwrap();
        assert_eq!((words.items.len(), words.orphans.len()), (0, 3));
    }

    #[test]
    fn keys_name_receipts() {
        let key = ReceiptKey { image: IMAGE.into(), receipt: 1 };
        for own in receipt().keys().filter(|own| own.contains("00001#LINE") && !own.contains("LABEL")) {
            assert_eq!(ReceiptKey::of(own).as_ref(), Some(&key), "{own}");
            assert!(own.starts_with(&key.prefix()));
        }
        for none in ["", "IMAGE#x#RECEIPT#00001#LINE#00001", &format!("{}00001#LABEL", key.prefix())] {
            assert_eq!(ReceiptKey::of(none), None, "{none}");
        }
    }

    #[test]
    fn options_that_cannot_be_are_named() {
        let of = |change: fn(&mut TableOptions)| {
            let mut options = TableOptions::default();
            change(&mut options);
            options.problems().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(of(|_| {}), [""; 0]);
        assert_eq!(of(|o| o.name = "a b".into()), ["name"]);
        assert_eq!(of(|o| (o.name, o.shape) = ("abc".into(), TableShape::Records)), ["id", "text"]);
        assert_eq!(of(|o| o.word_id = o.status.clone()), ["word_id"]);
        assert_eq!(of(|o| o.status = String::new()), ["status"]);
        assert_eq!(
            of(|o| (o.index, o.poll_seconds, o.max_waiting) = (String::new(), 0.0, 0)),
            ["index", "poll_seconds", "max_waiting"]
        );
        assert_eq!(of(|o| o.collection = "A".into()), ["collection"]);
    }
}
