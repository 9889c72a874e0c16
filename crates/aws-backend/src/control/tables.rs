//! Defines the tables of the control store. The commands that create and check these tables use the definitions.
//!
//! The tables of control records, audit log and metrics have the same keys as in the system that Docweir replaces.
//! Docweir adds three indexes, and one table for state that the former system did not have.

use docweir_aws::dynamo::table::{Index, Key, Table};

use docweir_aws::DynamoOptions;

/// Index of documents by status. The documents of each status are ordered by the time of their last change, the
/// earliest first.
pub const BY_AGE: &str = "status-updated-index";
/// Index of documents by status. The documents of each status are ordered by id.
pub const BY_ID: &str = "status-document-index";
/// Index of parked documents by the event or time that they wait for. Documents that wait for a time are ordered by
/// this time, the earliest first.
pub const PARKED: &str = "parked-index";

/// Index of the pending documents that a user asked to delete, to retry or to replay, the earliest first.
pub const URGENT: &str = "urgent-index";
/// Attribute that is the hash key of [`URGENT`]. Only pending documents that are urgent have it, with the value
/// [`YES`].
pub const URGENT_FOR: &str = "urgent_for";
pub const YES: &str = "yes";

pub const HASH: &str = "document_id";
pub const RANGE: &str = "processing_version";
/// Attribute that is the hash key of [`PARKED`]. Its value is [`UNTIL`] if the document waits for a time. If the
/// document waits for an event, the value is `on:` followed by the name of the event.
pub const PARKED_FOR: &str = "parked_for";
pub const PARKED_UNTIL: &str = "parked_until";
pub const UNTIL: &str = "until";
/// Attribute with the time, in Unix seconds, after which DynamoDB may delete a record. Only records of deleted
/// documents have this attribute. The attribute `ttl` cannot serve this purpose, because all records have it, even
/// those of searchable documents.
pub const FORGET_AT: &str = "forget_at";

pub fn tables(options: &DynamoOptions) -> [Table; 4] {
    let key = |hash, range| Key { hash, range: Some(range) };
    [
        Table {
            name: options.control_table.clone(),
            key: key(HASH, RANGE),
            indexes: vec![
                Index {
                    name: BY_AGE,
                    key: key("status", "updated_at"),
                    holds: &["intent", "lease_owner", "lease_expires_at"],
                },
                Index { name: BY_ID, key: key("status", HASH), holds: &["source"] },
                Index { name: URGENT, key: key(URGENT_FOR, "updated_at"), holds: &["intent", "status"] },
                Index { name: PARKED, key: key(PARKED_FOR, PARKED_UNTIL), holds: &["status"] },
            ],
            expires: Some(FORGET_AT),
        },
        Table {
            name: options.audit_table.clone(),
            key: key(HASH, "timestamp"),
            indexes: Vec::new(),
            expires: Some("ttl"),
        },
        Table {
            name: options.metrics_table.clone(),
            key: key("date", "metric_type"),
            indexes: Vec::new(),
            expires: None,
        },
        Table {
            name: options.state_table.clone(),
            key: key("pk", "sk"),
            indexes: Vec::new(),
            expires: Some(FORGET_AT),
        },
    ]
}
