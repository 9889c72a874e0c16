//! The tables as they have to be: for who makes them, and for who checks them.
//!
//! Control, audit and metrics are those of the system that this one replaces, under its keys. Two indexes stand beside
//! its own, and one table for what it had no place for.

use docweir_aws::dynamo::table::{Index, Key, Table};

use docweir_aws::DynamoOptions;

/// Documents of a status, those first that have waited longest.
pub const BY_AGE: &str = "status-updated-index";
/// Documents of a status in order of their ids.
pub const BY_ID: &str = "status-document-index";
/// Parked documents by what they wait for; of those that wait for a time the earliest first.
pub const PARKED: &str = "parked-index";

pub const HASH: &str = "document_id";
pub const RANGE: &str = "processing_version";
/// In [`PARKED`]: [`UNTIL`], or `on:` and a word.
pub const PARKED_FOR: &str = "parked_for";
pub const PARKED_UNTIL: &str = "parked_until";
pub const UNTIL: &str = "until";
/// When a record may really go, in Unix seconds: only deleted documents have it. `ttl`, which all have, says what the
/// former system would have forgotten, searchable or not.
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
