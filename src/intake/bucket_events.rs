//! Parses S3 event messages from queues.
//!
//! A message has one of two formats. An S3 notification holds several records, whose keys are form-encoded. An
//! EventBridge event holds one record, whose key is not encoded. Messages are delivered at least once and in any
//! order. The field `sequencer` tells which of two events of the same key is the later one.

use serde::Deserialize;

/// Describes the content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Test message that S3 sends to check whether it may send to the queue.
    Test,
    /// Created and removed objects, in the order in which the message lists them. Other kinds of events are left out,
    /// so the list may be empty.
    Objects(Vec<ObjectEvent>),
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
struct Notification {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
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

/// Parses the body of a message.
///
/// # Errors
/// Returns a description of the defect. The description does not quote the message.
pub fn parse(body: &str) -> Result<Message, String> {
    let value: serde_json::Value = serde_json::from_str(body)
        .map_err(|e| format!("the message is not valid JSON (line {}, column {})", e.line(), e.column()))?;
    if value.get("Records").is_some() {
        let notification: Notification = read(value)?;
        let events = notification.records.into_iter().filter_map(|record| {
            let kind = match record.event_name.trim_start_matches("s3:").split(':').next()? {
                "ObjectCreated" => Kind::Created,
                "ObjectRemoved" => Kind::Removed,
                _ => return None,
            };
            Some(record.s3.map(|s3| event(kind, s3, form_decoded)).ok_or("a record has no `s3`".to_owned()))
        });
        return Ok(Message::Objects(events.collect::<Result<Result<_, String>, String>>()??));
    }
    if value.get("detail-type").is_some() {
        let bridged: Bridged = read(value)?;
        let kind = match bridged.detail_type.as_str() {
            "Object Created" => Kind::Created,
            "Object Deleted" => Kind::Removed,
            _ => return Ok(Message::Objects(Vec::new())),
        };
        return Ok(Message::Objects(vec![event(kind, bridged.detail, |key| Ok(key.to_owned()))?]));
    }
    match serde_json::from_value::<TestEvent>(value) {
        Ok(test) if test.event == "s3:TestEvent" => Ok(Message::Test),
        _ => Err("the message is neither an S3 notification nor an EventBridge event".into()),
    }
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

fn event(kind: Kind, s3: S3, decode: impl Fn(&str) -> Result<String, String>) -> Result<ObjectEvent, String> {
    let object = s3.object;
    Ok(ObjectEvent {
        kind,
        bucket: s3.bucket.name,
        key: decode(&object.key)?,
        size: object.size,
        etag: object.e_tag.map(|tag| tag.trim_matches('"').to_owned()),
        version_id: object.version_id,
        sequencer: object.sequencer,
    })
}

/// Decodes a form-encoded key: `a+b%2B` becomes `a b+`.
fn form_decoded(key: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let pair = digit(rest.next()).zip(digit(rest.next()));
                let (high, low) = pair.ok_or("a key is not correctly form-encoded")?;
                bytes.push((high * 16 + low) as u8);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| "a key is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn created(key: &str) -> ObjectEvent {
        ObjectEvent {
            kind: Kind::Created,
            bucket: "papers".into(),
            key: key.into(),
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
            Message::Objects(events) => events,
            Message::Test => panic!(),
        }
    }

    #[test]
    fn notifications_of_s3_have_encoded_keys() {
        let table = [
            ("input/a.pdf", "input/a.pdf"),
            ("in/a+b%2B%C3%A9.txt", "in/a b+é.txt"),
            ("input/100%25.pdf", "input/100%.pdf"),
        ];
        for (sent, key) in table {
            assert_eq!(objects(json!({"Records": [notification("ObjectCreated:Put", sent)]})), [created(key)]);
        }
        let body = json!({"Records": [
            notification("ObjectCreated:CompleteMultipartUpload", "a"),
            notification("ObjectRemoved:Delete", "b"),
            notification("ObjectRestore:Completed", "c"),
            notification("s3:ObjectCreated:Copy", "d"),
        ]});
        let kinds: Vec<_> = objects(body).into_iter().map(|e| (e.kind, e.key)).collect();
        assert_eq!(kinds, [(Kind::Created, "a".into()), (Kind::Removed, "b".into()), (Kind::Created, "d".into())]);
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
            ("{\"Records\": [{\"eventName\": \"ObjectCreated:Put\"}]}", "no `s3`"),
            ("{\"Records\": [{\"secret\": \"hunter2\"}]}", "missing field `eventName`"),
            ("{\"Records\": [{\"eventName\": [\"hunter2\"]}]}", "wrong type"),
        ] {
            let error = parse(body).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{body}: {error}");
        }
        let broken = json!({"Records": [notification("ObjectCreated:Put", "a%2")]});
        assert!(parse(&broken.to_string()).unwrap_err().contains("encoded"));
    }

    #[test]
    fn sequencers_of_different_lengths_are_compared_as_numbers() {
        let with = |sequencer: &str| ObjectEvent { sequencer: Some(sequencer.into()), ..created("k") }.order().unwrap();
        assert!(with("9") < with("10") && with("a0") < with("B0") && with("0F") < with("10"));
    }
}
