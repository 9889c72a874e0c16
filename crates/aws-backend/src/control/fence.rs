//! Ties writes to the claim on another document: children are registered and removed only while their parent's claim is
//! valid.
//!
//! The claim is looked at when a write is decided, and once more by DynamoDB when it is applied: a check of the parent's
//! item goes into the same transaction. A process that was stopped in between writes nothing of what its successor does
//! not expect.

use docweir_aws::dynamo::{Expression, Write};
use docweir_stores::control::rules;
use docweir_stores::control::{ClaimKey, DocumentStatus};

use super::items;

/// Returns the check that a claim is valid, as [`rules::check_claim`] judges it.
pub fn check(table: &str, claim: &ClaimKey) -> Write {
    let condition = Expression::new("#status = :status AND version = :version AND epoch = :epoch")
        .name("#status", "status")
        .string(":status", rules::name(DocumentStatus::InProgress))
        .number(":version", claim.version)
        .number(":epoch", claim.epoch);
    Write::Check { table: table.to_owned(), key: items::key(&claim.id), condition }
}
