//! Makes a write of one document depend on the claim on another document. Children are registered and removed only
//! while the claim on their parent is valid.
//!
//! The claim is checked twice: when a write is decided, and when DynamoDB applies the write. The second check is a
//! condition on the parent's item in the same transaction. A process that was paused between the two checks therefore
//! cannot interfere with its successor.

use docweir_aws::dynamo::{Expression, Write};
use docweir_stores::control::rules;
use docweir_stores::control::{ClaimKey, DocumentStatus};

use super::items;

/// Returns the write that checks a claim within a transaction. The criteria for a valid claim are the same as in
/// [`rules::check_claim`].
pub fn check(table: &str, claim: &ClaimKey) -> Write {
    let condition = Expression::new("#status = :status AND version = :version AND epoch = :epoch")
        .name("#status", "status")
        .string(":status", rules::name(DocumentStatus::InProgress))
        .number(":version", claim.version)
        .number(":epoch", claim.epoch);
    Write::Check { table: table.to_owned(), key: items::key(&claim.id), condition }
}
