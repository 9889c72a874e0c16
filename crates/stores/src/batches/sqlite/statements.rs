//! Implements rules as SQL statements that find or change many items at once.
//!
//! For example, one statement packs 50,000 items into a batch. Each condition and each statement implements a rule of
//! [`rules`](crate::batches::rules). A test applies the rule and its SQL to the same items and compares the results.

use rusqlite::{Transaction, params};

use super::Result;

#[cfg(test)]
mod tests;

/// Condition that implements the rule `ItemState::is_waiting`.
pub const WAITING: &str = "status = 'NONE' AND deleted = 0 AND reuse = 0";

/// Condition that implements the rule `ItemState::leaves`.
pub const LEAVES: &str = "stored IS NOT NULL AND (deleted = 1 OR status = 'NOISE')";

/// Condition that implements the rule `ItemState::refreshes`. The condition does not test `deleted`, because deleted
/// items never have `reuse` set.
pub const REFRESHES: &str = "reuse = 1";

/// Condition that implements the rule `ItemState::owes`.
pub const OWES: &str = "origin IS NOT NULL AND deleted = 0 AND status IN ('SUCCESS', 'FAILED', 'NOISE') \
    AND coalesce(told, '') <> asks || ' ' || version || ' ' || status";

/// Condition that implements the rule `ItemState::is_open`. In the query, the table of items has the alias `i`.
pub const OPEN: &str = "i.deleted = 0 AND i.status IN ('NONE', 'PENDING')";

/// Condition that implements the rule `ItemState::is_fresh_in`. In the query, the table of items has the alias `i`, and
/// `?1` is the batch. A text is unwanted, and therefore excluded, if no document waits for the text.
pub const FRESH: &str = "i.batch = ?1 AND i.status = 'PENDING' AND i.deleted = 0 AND i.sent_sha256 = i.input_sha256 \
    AND (i.shown <> '' OR EXISTS (SELECT 1 FROM waits w WHERE w.item = i.id))";

/// Condition that implements the rule `ItemState::is_in`, for batch `?1`.
pub const IN_BATCH: &str = "batch = ?1 AND status = 'PENDING'";

/// Applies the rule `sending::claim` to all waiting items of a space up to row `last`.
pub fn claim(tx: &Transaction<'_>, space: &str, batch: &str, last: i64) -> Result<usize> {
    let sql = format!(
        "UPDATE items SET status = 'PENDING', batch = ?2, sent_sha256 = input_sha256, attempts = attempts + 1 \
         WHERE space = ?1 AND {WAITING} AND id <= ?3"
    );
    tx.prepare_cached(&sql)?.execute(params![space, batch, last])
}

/// Applies the rule `sending::unclaim` to all items of a live call. These items are records, which are never unwanted.
pub fn unclaim(tx: &Transaction<'_>, name: &str) -> Result<usize> {
    let sql = format!(
        "UPDATE items SET status = 'NONE', batch = NULL, sent_sha256 = NULL, attempts = max(attempts - 1, 0) \
         WHERE {IN_BATCH}"
    );
    tx.prepare_cached(&sql)?.execute([name])
}

/// Applies the rule `sending::abandon_live` to all items.
pub fn abandon_live(tx: &Transaction<'_>) -> Result<usize> {
    let sql = "UPDATE items SET status = 'NONE', batch = NULL, sent_sha256 = NULL \
        WHERE batch LIKE 'live:%' AND status = 'PENDING'";
    tx.execute(sql, [])
}

/// Applies the rule `records::retry` to all items.
pub fn retry(tx: &Transaction<'_>, batch: Option<&str>) -> Result<usize> {
    let sql = "UPDATE items SET status = 'NONE', attempts = 0, error = NULL, batch = NULL, sent_sha256 = NULL \
        WHERE status = 'FAILED' AND deleted = 0 AND (?1 IS NULL OR batch = ?1)";
    tx.execute(sql, [batch])
}
