//! Ties writes to the claim on another document. Children are registered and removed only while their parent's claim
//! is valid.
//!
//! The claim is checked when a write is decided, and again by DynamoDB when the write is applied: the transaction
//! contains a check of the parent's item. A process that was paused in between can therefore not interfere with its
//! successor.

use docweir_aws::dynamo::{Expression, Write};
use docweir_stores::control::rules;
use docweir_stores::control::{ClaimKey, DocumentStatus};

use super::items;

/// Returns the check that a claim is valid, with the same criteria as [`rules::check_claim`].
pub fn check(table: &str, claim: &ClaimKey) -> Write {
    let condition = Expression::new("#status = :status AND version = :version AND epoch = :epoch")
        .name("#status", "status")
        .string(":status", rules::name(DocumentStatus::InProgress))
        .number(":version", claim.version)
        .number(":epoch", claim.epoch);
    Write::Check { table: table.to_owned(), key: items::key(&claim.id), condition }
}
