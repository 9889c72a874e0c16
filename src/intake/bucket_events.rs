//! Parses S3 event messages from queues.
//!
//! A message has one of two formats. An S3 notification holds several records, whose keys are form-encoded. An
//! EventBridge event holds one record, whose key is not encoded. SNS may wrap either of them as text. Some servers do
//! not encode the keys of their notifications, so such an event has two possible keys. Messages are delivered at least
//! once and in any order. The field `sequencer` tells which of two events of the same key is the later one.

use serde::Deserialize;
use serde_json::{Value, json};

/// Describes the content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Test message that S3 sends to check whether it may send to the queue.
    Test,
    /// Created and removed objects, in the order in which the message lists them. Other kinds of events are left out,
    /// so the list may be empty.
    Objects(Vec<Record>),
}

/// Holds one record of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Event of the record, or a description of the defect.
    pub event: Result<ObjectEvent, String>,
    /// Message that holds this record alone.
    pub alone: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Created,
    Removed,
}

/// Describes the creation or removal of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvent {
    pub kind: Kind,
    pub bucket: String,
    pub key: String,
    /// Key as the message contains it, if this differs from `key`. Servers that do not encode keys mean this key.
    pub plain_key: Option<String>,
    /// Size of the object, in bytes; `None` for a removed object.
    pub size: Option<u64>,
    /// ETag of the object, without quotes.
    pub etag: Option<String>,
    pub version_id: Option<String>,
    /// Hexadecimal sequence number. Of two events of the same key, the later event has the greater number.
    pub sequencer: Option<String>,
}

impl ObjectEvent {
    /// Returns the sequencer, padded to the maximum length, so that two events of the same key can be compared.
    pub fn order(&self) -> Option<String> {
        let sequencer = self.sequencer.as_deref()?.to_ascii_uppercase();
        Some(format!("{sequencer:0>64}"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Record {
    event_name: String,
    s3: Option<S3>,
}

#[derive(Deserialize)]
struct S3 {
    bucket: Named,
    object: Object,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    key: String,
    size: Option<u64>,
    /// ETag of the object. The field is called `eTag` by S3 and `etag` by EventBridge.
    #[serde(alias = "etag")]
    e_tag: Option<String>,
    #[serde(alias = "version-id")]
    version_id: Option<String>,
    sequencer: Option<String>,
}

#[derive(Deserialize)]
struct Bridged {
    #[serde(rename = "detail-type")]
    detail_type: String,
    detail: S3,
}

#[derive(Deserialize)]
struct TestEvent {
    #[serde(rename = "Event")]
    event: String,
}

#[derive(Deserialize)]
struct Published {
    #[serde(rename = "Message")]
    message: String,
}

/// Parses the body of a message.
///
/// # Errors
/// Returns a description of the defect. The description does not quote the message.
pub fn parse(body: &str) -> Result<Message, String> {
    let value = json(body)?;
    if value.get("Type").and_then(Value::as_str) == Some("Notification") {
        let published: Published = read(value)?;
        return unwrapped(json(&published.message)?);
    }
    unwrapped(value)
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|e| format!("the message is not valid JSON (line {}, column {})", e.line(), e.column()))
}

/// Parses a message that SNS did not wrap.
fn unwrapped(value: Value) -> Result<Message, String> {
    if let Some(records) = value.get("Records") {
        let records = records.as_array().ok_or("a field has the wrong type: expected `Records` to be a list")?;
        let parsed = records.iter().filter_map(|record| {
            let event = s3_event(record.clone()).transpose()?;
            Some(Record { event, alone: json!({ "Records": [record] }) })
        });
        return Ok(Message::Objects(parsed.collect()));
    }
    if value.get("detail-type").is_some() {
        let bridged: Bridged = read(value.clone())?;
        let kind = match bridged.detail_type.as_str() {
            "Object Created" => Kind::Created,
            "Object Deleted" => Kind::Removed,
            _ => return Ok(Message::Objects(Vec::new())),
        };
        let key = bridged.detail.object.key.clone();
        let event = Ok(event(kind, bridged.detail, key, None));
        return Ok(Message::Objects(vec![Record { event, alone: value }]));
    }
    match serde_json::from_value::<TestEvent>(value) {
        Ok(test) if test.event == "s3:TestEvent" => Ok(Message::Test),
        _ => Err("the message is neither an S3 notification nor an EventBridge event".into()),
    }
}

/// Returns the event of a record of S3, or `None` if it is of another kind.
fn s3_event(record: Value) -> Result<Option<ObjectEvent>, String> {
    let record: S3Record = read(record)?;
    let kind = match record.event_name.trim_start_matches("s3:").split(':').next() {
        Some("ObjectCreated") => Kind::Created,
        Some("ObjectRemoved" | "LifecycleExpiration") => Kind::Removed,
        _ => return Ok(None),
    };
    let s3 = record.s3.ok_or("a record has no `s3`")?;
    let plain = s3.object.key.clone();
    let event = match form_decoded(&plain) {
        Some(key) if key != plain => event(kind, s3, key, Some(plain)),
        _ => event(kind, s3, plain, None),
    };
    Ok(Some(event))
}

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, String> {
    // serde quotes values of the wrong type, so only the expectation is reported.
    serde_json::from_value(value).map_err(|e| {
        let text = e.to_string();
        let expected = text.rsplit("expected").next().map(|rest| format!("expected{rest}"));
        match text.starts_with("missing field") {
            true => text,
            false => format!("a field has the wrong type: {}", expected.unwrap_or_default()),
        }
    })
}

fn event(kind: Kind, s3: S3, key: String, plain_key: Option<String>) -> ObjectEvent {
    let object = s3.object;
    ObjectEvent {
        kind,
        bucket: s3.bucket.name,
        key,
        plain_key,
        size: object.size,
        etag: object.e_tag.map(|tag| tag.trim_matches('"').to_owned()),
        version_id: object.version_id,
        sequencer: object.sequencer,
    }
}

/// Decodes a form-encoded key: `a+b%2B` becomes `a b+`. Returns `None` if the key is not form-encoded.
fn form_decoded(key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                bytes.push((digit(rest.next())? * 16 + digit(rest.next())?) as u8);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(key: &str) -> ObjectEvent {
        ObjectEvent {
            kind: Kind::Created,
            bucket: "papers".into(),
            key: key.into(),
            plain_key: None,
            size: Some(7),
            etag: Some("d41d".into()),
            version_id: None,
            sequencer: Some("0055AED6DCD90281E5".into()),
        }
    }

    fn notification(name: &str, key: &str) -> serde_json::Value {
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name, "awsRegion": "eu-central-1",
            "s3": {
                "s3SchemaVersion": "1.0", "configurationId": "x",
                "bucket": {"name": "papers", "arn": "arn:aws:s3:::papers", "ownerIdentity": {"principalId": "A"}},
                "object": {"key": key, "size": 7, "eTag": "d41d", "sequencer": "0055AED6DCD90281E5"},
            },
        })
    }

    fn objects(body: serde_json::Value) -> Vec<ObjectEvent> {
        match parse(&body.to_string()).unwrap() {
            Message::Objects(records) => records.into_iter().map(|record| record.event.unwrap()).collect(),
            Message::Test => panic!(),
        }
    }

    #[test]
    fn notifications_of_s3_have_encoded_keys() {
        let table = [
            ("input/a.pdf", "input/a.pdf"),
            ("in/a+b%2B%C3%A9.txt", "in/a b+é.txt"),
            ("input/100%25.pdf", "input/100%.pdf"),
            // These keys cannot be form-encoded, so the server did not encode them.
            ("input/100%.pdf", "input/100%.pdf"),
            ("input/a%2", "input/a%2"),
            ("input/%FF.pdf", "input/%FF.pdf"),
        ];
        for (sent, key) in table {
            let plain_key = (sent != key).then(|| sent.to_owned());
            let expected = ObjectEvent { plain_key, ..created(key) };
            assert_eq!(objects(json!({"Records": [notification("ObjectCreated:Put", sent)]})), [expected]);
        }
        let body = json!({"Records": [
            notification("ObjectCreated:CompleteMultipartUpload", "a"),
            notification("ObjectRemoved:Delete", "b"),
            notification("ObjectRestore:Completed", "c"),
            notification("s3:ObjectCreated:Copy", "d"),
            notification("LifecycleExpiration:Delete", "e"),
            notification("s3:LifecycleExpiration:DeleteMarkerCreated", "f"),
            notification("LifecycleTransition", "g"),
        ]});
        let kinds: Vec<_> = objects(body).into_iter().map(|e| (e.kind, e.key)).collect();
        let expected = [
            (Kind::Created, "a"),
            (Kind::Removed, "b"),
            (Kind::Created, "d"),
            (Kind::Removed, "e"),
            (Kind::Removed, "f"),
        ];
        assert_eq!(kinds, expected.map(|(kind, key)| (kind, key.to_owned())));
    }

    #[test]
    fn events_of_the_bridge_have_keys_as_they_are() {
        let body = json!({
            "version": "0", "id": "1", "detail-type": "Object Created", "source": "aws.s3",
            "detail": {
                "version": "0", "bucket": {"name": "papers"}, "reason": "PutObject",
                "object": {"key": "in/a+b%2B.pdf", "size": 7, "etag": "d41d", "sequencer": "0055AED6DCD90281E5"},
            },
        });
        assert_eq!(objects(body), [created("in/a+b%2B.pdf")]);
        let other = json!({"detail-type": "Object Restore Completed", "detail": {"bucket": {"name": "b"}, "object": {"key": "k"}}});
        assert_eq!(objects(other), []);
    }

    #[test]
    fn a_try_is_no_event_and_what_makes_no_sense_is_said_without_quoting_it() {
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "x", "Bucket": "papers"});
        assert_eq!(parse(&test.to_string()), Ok(Message::Test));
        for (body, expected) in [
            ("{", "not valid JSON"),
            ("[]", "neither"),
            ("{\"Records\": 7}", "wrong type"),
            ("{\"Type\": \"Notification\", \"Message\": \"hunter2\"}", "not valid JSON"),
        ] {
            let error = parse(body).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{body}: {error}");
        }
        for (record, expected) in [
            (json!({"eventName": "ObjectCreated:Put"}), "no `s3`"),
            (json!({"secret": "hunter2"}), "missing field `eventName`"),
            (json!({"eventName": ["hunter2"]}), "wrong type"),
        ] {
            let body = json!({"Records": [notification("ObjectCreated:Put", "a"), record]});
            let Ok(Message::Objects(records)) = parse(&body.to_string()) else { panic!() };
            assert_eq!(records[0].event, Ok(created("a")), "one bad record does not hide the others");
            let error = records[1].event.clone().unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{record}: {error}");
            assert_eq!(records[1].alone, json!({ "Records": [record] }));
        }
    }

    #[test]
    fn messages_that_sns_wraps_are_read_as_others() {
        let wrapped = |message: &serde_json::Value| {
            let (arn, text) = ("arn:aws:sns:eu-central-1:1:papers", message.to_string());
            json!({"Type": "Notification", "MessageId": "1", "TopicArn": arn, "Message": text, "Signature": "x"})
        };
        let s3 = json!({"Records": [notification("ObjectCreated:Put", "a")]});
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "papers"});
        let bridged = json!({"detail-type": "Object Deleted", "detail": {
            "bucket": {"name": "papers"}, "object": {"key": "a b"}, "reason": "Lifecycle Expiration"}});
        assert_eq!(objects(wrapped(&s3)), [created("a")]);
        assert_eq!(objects(s3), [created("a")], "raw delivery");
        assert_eq!(parse(&wrapped(&test).to_string()), Ok(Message::Test));
        let removed = objects(wrapped(&bridged)).remove(0);
        assert_eq!((removed.kind, removed.key.as_str()), (Kind::Removed, "a b"));
    }

    #[test]
    fn sequencers_of_different_lengths_are_compared_as_numbers() {
        let with = |sequencer: &str| ObjectEvent { sequencer: Some(sequencer.into()), ..created("k") }.order().unwrap();
        assert!(with("9") < with("10") && with("a0") < with("B0") && with("0F") < with("10"));
    }
}
