//! Converts control records and audit entries to DynamoDB items and back.
//!
//! Items that other programs wrote are parsed leniently. The system that Docweir replaces creates records with fewer
//! attributes, and people set some attributes by hand. Attributes that Docweir does not know are preserved.

use docweir_aws::dynamo::value::{from_json, json, object};
use docweir_aws::dynamo::{AttributeValue, Item};
use docweir_core::clock::timestamp;
use docweir_core::documents::{DocumentId, Sha256Hex, Stage};
use docweir_core::error::StageError;
use docweir_stores::control::rules::{PROCESSING_VERSION, SUBMITTED};
use docweir_stores::control::{AuditEvent, ControlRecord, DocumentStatus, Intent, KnownObject, Resume, StageRecord};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::decide::Command;
use super::tables::{FORGET_AT, HASH, PARKED_FOR, PARKED_UNTIL, RANGE, UNTIL, URGENT_FOR, YES};

/// Attribute with a random id. Each write of an item gives the item a new id. A write succeeds only if the id is still
/// the same as when the item was read. If the reply to a write is lost, the id shows whether the write was applied.
pub const WRITE_ID: &str = "write_id";

/// Names of the attributes that hold text in the map of a stage. A control record contains one such map for each
/// stage. All other attributes that Docweir reads from the map hold numbers.
const WORDS: [&str; 6] = ["status", "started_at", "completed_at", "output_s3_key", "output_sha256", "error"];
/// Maximum length, in bytes, of a text in an item. Longer texts are truncated, because errors may contain long
/// quotations and an item is limited to 400 KB.
const LONGEST_TEXT: usize = 8_000;

/// Attributes that a record may lack. [`item`] removes all of them from the previous item, and then adds those that
/// the record has.
const OPTIONAL: [&str; 20] = [
    "last_error",
    "last_error_detail",
    "error_stage",
    "quarantine_artefact",
    "quarantine_original",
    "loaded_version",
    "parked_reason",
    "parked_resume",
    PARKED_FOR,
    PARKED_UNTIL,
    "lease_owner",
    "lease_expires_at",
    "completed_at",
    "parent",
    "children",
    "children_content",
    "urgent",
    URGENT_FOR,
    FORGET_AT,
    WRITE_ID,
];

pub fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// Returns the key of a control record.
pub fn key(id: &DocumentId) -> Item {
    [(HASH.to_owned(), string(id.as_str())), (RANGE.to_owned(), string(PROCESSING_VERSION))].into()
}

/// Returns the key of the entry that maps a source to its document. The key contains a hash of the source, because
/// the source may exceed the length limit of keys.
pub fn source_key(source: &str) -> Item {
    let pk = format!("source#{}", Sha256Hex::of(source.as_bytes()));
    [("pk".to_owned(), string(pk)), ("sk".to_owned(), string("document"))].into()
}

/// Holds the document id of a source, and the last known tag and content hash of the source's object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEntry {
    pub document: String,
    pub seen: Option<KnownObject>,
}

/// Builds the entry that maps a source to its document.
pub fn source_item(source: String, document: &DocumentId, seen: Option<&KnownObject>) -> Item {
    let mut item = source_key(&source);
    item.insert(HASH.into(), string(document.as_str()));
    item.insert("source".into(), string(source));
    if let Some(KnownObject { tag, content }) = seen {
        item.insert("tag".into(), string(tag));
        item.insert("content_sha256".into(), string(content.as_str()));
    }
    item
}

pub fn source_entry(item: &Item) -> Option<SourceEntry> {
    let content = text(item, "content_sha256").and_then(Sha256Hex::parse);
    let seen = text(item, "tag").zip(content).map(|(tag, content)| KnownObject { tag: tag.to_owned(), content });
    Some(SourceEntry { document: text(item, HASH)?.to_owned(), seen })
}

/// Returns the tag and content hash of the object that a command registers.
pub fn seen(command: &Command) -> Option<KnownObject> {
    let (Command::Register(document)
    | Command::RegisterChild { child: document, .. }
    | Command::RegisterChanged { document, .. }) = command
    else {
        return None;
    };
    Some(KnownObject { tag: document.tag.clone()?, content: document.content.clone() })
}

/// Converts a changed record to the item to be written. `before` is the item that was read from the table. Attributes
/// of `before` that Docweir does not know are preserved.
pub fn item(record: &ControlRecord, before: Item, write_id: &str) -> Item {
    let mut item = before;
    for name in OPTIONAL {
        item.remove(name);
    }
    // Serialising a struct of strings, numbers and maps of them cannot fail.
    if let Ok(Value::Object(map)) = serde_json::to_value(record).map(bounded) {
        item.extend(object(map));
    }
    if let Some(error) = &record.last_error {
        let text = serde_json::to_value(error.to_string()).map(bounded).map(from_json);
        item.extend(text.map(|text| ("last_error".to_owned(), text)));
        let detail = serde_json::to_value(error).map(bounded).map(from_json);
        item.extend(detail.map(|detail| ("last_error_detail".to_owned(), detail)));
    }
    if record.status == DocumentStatus::Parked {
        let (what, until) = match &record.parked_resume {
            Some(Resume::At(at)) => (UNTIL.to_owned(), timestamp(*at)),
            Some(Resume::On(word)) => (on(word), record.updated_at.clone()),
            None => (UNTIL.to_owned(), timestamp(0)),
        };
        item.insert(PARKED_FOR.into(), string(what));
        item.insert(PARKED_UNTIL.into(), string(until));
    }
    if record.urgent && record.status == DocumentStatus::Pending {
        item.insert(URGENT_FOR.into(), string(YES));
    }
    if record.status == DocumentStatus::Deleted {
        item.insert(FORGET_AT.into(), AttributeValue::N(record.ttl.to_string()));
    }
    item.insert(WRITE_ID.into(), string(write_id));
    item
}

/// Truncates all texts in a value to [`LONGEST_TEXT`] bytes.
fn bounded(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > LONGEST_TEXT => {
            let cut = text.floor_char_boundary(LONGEST_TEXT);
            Value::String(format!("{}…", text.get(..cut).unwrap_or_default()))
        }
        Value::Array(values) => Value::Array(values.into_iter().map(bounded).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(name, value)| (name, bounded(value))).collect()),
        other => other,
    }
}

/// Returns the hash key under which the index of parked documents lists the documents that wait for this event.
pub fn on(word: &str) -> String {
    format!("on:{word}")
}

/// Returns the string in an attribute.
pub fn text<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// Returns whether an item has expired, even if DynamoDB has not deleted it yet.
pub fn is_over(item: &Item, attribute: &str, now_seconds: i64) -> bool {
    let at = item.get(attribute).and_then(|v| v.as_n().ok()).and_then(|n| n.parse::<i64>().ok());
    at.is_some_and(|at| at <= now_seconds)
}

/// Holds an item's attributes before they are parsed.
struct Fields(Map<String, Value>);

impl Fields {
    fn get<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        serde_json::from_value(self.0.remove(name)?).ok()
    }

    fn text(&mut self, name: &str) -> String {
        self.get(name).unwrap_or_default()
    }
}

/// Parses a control record from an item. The error names the attribute that is missing or invalid.
pub fn record(item: &Item) -> Result<ControlRecord, String> {
    let mut f = Fields(json(item.clone()));
    let id: String = f.get(HASH).ok_or("the item has no document_id")?;
    let document_id = DocumentId::parse(&id).ok_or_else(|| format!("`{id}` is not a valid document_id"))?;
    let (source_bucket, source_s3_key) = (f.text("source_bucket"), f.text("source_s3_key"));
    let source = match f.get("source") {
        Some(source) => source,
        None if source_bucket.is_empty() || source_s3_key.is_empty() => {
            return Err(format!("{id} has neither `source` nor `source_bucket` and `source_s3_key`"));
        }
        None => format!("s3://{source_bucket}/{source_s3_key}"),
    };
    let status: String = f.text("status");
    let status: DocumentStatus = serde_json::from_value(Value::String(status.clone()))
        .map_err(|_| format!("{id} has the unknown status `{status}`"))?;
    // Docweir has not read the file yet. This placeholder differs from the hash of every content and every
    // configuration.
    let unknown = || Sha256Hex::of(b"unknown");
    let last_error: Option<String> = f.get("last_error");
    let detail: Option<StageError> = f.get("last_error_detail");
    let entries: Map<String, Value> = f.get("stage_status").unwrap_or_default();
    let stage = |stage: Stage| {
        let Value::Object(mut entry) = entries.get(stage.name())?.clone() else { return None };
        // Other writers use strings where Docweir uses numbers.
        entry.retain(|name, value| value.is_number() || WORDS.contains(&name.as_str()));
        let entry: StageRecord = serde_json::from_value(Value::Object(entry)).ok()?;
        Some((stage, entry))
    };
    let upload_timestamp = f.text("upload_timestamp");
    let created_at = f.get("created_at").unwrap_or_else(|| upload_timestamp.clone());
    Ok(ControlRecord {
        document_id,
        processing_version: f.get(RANGE).unwrap_or_else(|| PROCESSING_VERSION.to_owned()),
        source_bucket,
        source_s3_key,
        source,
        version: f.get("version").unwrap_or(1),
        content_sha256: f.get::<String>("content_sha256").and_then(|t| Sha256Hex::parse(&t)).unwrap_or_else(unknown),
        fingerprint: f.get::<String>("fingerprint").and_then(|t| Sha256Hex::parse(&t)).unwrap_or_else(unknown),
        media_type: f.get("media_type").unwrap_or(docweir_core::documents::MediaType::Pdf),
        file_size_bytes: f.get("file_size_bytes").unwrap_or(0),
        status,
        current_stage: f.get("current_stage").unwrap_or_else(|| SUBMITTED.to_owned()),
        intent: f.get("intent").unwrap_or(Intent::Process),
        stage_status: Stage::ALL.into_iter().filter_map(stage).collect(),
        retry_count: f.get("retry_count").unwrap_or(0),
        max_retries: f.get("max_retries").unwrap_or(3),
        interruptions: f.get("interruptions").unwrap_or(0),
        urgent: f.get("urgent").unwrap_or(false),
        last_error: detail.or_else(|| last_error.map(|text| StageError::transient("unknown", text))),
        error_stage: f.get::<String>("error_stage").and_then(|s| s.parse().ok()),
        quarantine_artefact: f.get("quarantine_artefact"),
        quarantine_original: f.get("quarantine_original"),
        loaded_version: f.get("loaded_version"),
        parked_reason: f.get("parked_reason"),
        parked_resume: f.get("parked_resume"),
        lease_owner: f.get("lease_owner"),
        lease_expires_at: f.get("lease_expires_at"),
        epoch: f.get("epoch").unwrap_or(0),
        tenant: f.get("tenant").unwrap_or_else(|| "default".to_owned()),
        weight: f.get("weight").unwrap_or(1),
        parent: f.get::<String>("parent").and_then(|id| DocumentId::parse(&id)),
        children: f.get("children").unwrap_or_default(),
        children_content: f.get::<String>("children_content").and_then(|hash| Sha256Hex::parse(&hash)),
        updated_at: f.get("updated_at").unwrap_or_else(|| created_at.clone()),
        upload_timestamp,
        created_at,
        completed_at: f.get("completed_at"),
        ttl: f.get("ttl").unwrap_or(0),
    })
}

pub fn audit_item(event: &AuditEvent, ttl: i64) -> Item {
    let mut item = match serde_json::to_value(event).map(bounded) {
        Ok(Value::Object(map)) => object(map),
        _ => Item::new(),
    };
    item.insert("ttl".into(), AttributeValue::N(ttl.to_string()));
    item
}

/// Parses an audit entry; returns `None` if it is invalid.
pub fn audit(item: Item) -> Option<AuditEvent> {
    serde_json::from_value(Value::Object(json(item))).ok()
}
