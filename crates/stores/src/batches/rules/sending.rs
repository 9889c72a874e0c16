//! Decides the outcomes of items in a batch or a live call.
//!
//! Every rule gets the batch as a parameter. A repeated call, or a call for a batch that the item is no longer in,
//! therefore changes nothing.

use super::{Hash, ItemContent, ItemOutcome, ItemState, ItemStatus, Step, is_live};
use crate::batches::Ending;

/// Error message of an item that the provider never answered.
const NO_ANSWER: &str = "the provider gave no answer in several batches";

/// Claims an item for a batch or a live call. Returns `None` if the item no longer waits, or if its input no longer
/// has the given hash.
pub fn claim(now: &ItemState, batch: &str, hash: &Hash) -> Option<Step> {
    if now.is_in(batch) {
        return Some(Step::Keep);
    }
    let claimed = ItemState {
        status: ItemStatus::Pending,
        batch: Some(batch.to_owned()),
        sent: Some(now.hash),
        attempts: now.attempts + 1,
        ..now.clone()
    };
    (now.is_waiting() && now.hash == *hash).then(|| Step::state(claimed))
}

/// Releases an item as if it had never been claimed.
pub fn unclaim(now: &ItemState, batch: &str) -> Step {
    match now.is_in(batch) {
        false => Step::Keep,
        true if now.unwanted => Step::Delete,
        true => {
            Step::state(ItemState { status: ItemStatus::None, attempts: now.attempts.saturating_sub(1), ..now.free() })
        }
    }
}

/// Releases an item that a dead process claimed for a live call. The claim counts as an attempt, because it is unknown
/// how far the call got.
pub fn abandon_live(now: &ItemState) -> Step {
    let live = now.status == ItemStatus::Pending && now.batch.as_deref().is_some_and(is_live);
    match live {
        false => Step::Keep,
        true if now.unwanted => Step::Delete,
        true => Step::state(ItemState { status: ItemStatus::None, ..now.free() }),
    }
}

/// Confirms that the vector store holds `version` of a record. If the record is still in `batch` with this version,
/// the record is done.
pub fn made(now: &ItemState, batch: &str, version: u64) -> Step {
    // The stored version is recorded even if the item has changed since.
    let stored = Some(now.stored.unwrap_or(0).max(version));
    if !now.is_in(batch) || now.version != version {
        return match now.stored == stored {
            true => Step::Keep,
            false => Step::state(ItemState { stored, ..now.clone() }),
        };
    }
    let done = ItemState { status: ItemStatus::Success, stored, error: None, ..now.free() };
    Step::fate(done, ItemContent::Same, ItemOutcome::Stored)
}

/// Records that the vector of a text has arrived.
pub fn embedded(now: &ItemState, batch: &str) -> Step {
    if !now.is_in(batch) {
        return Step::Keep;
    }
    let done = ItemState { status: ItemStatus::Success, error: None, ..now.free() };
    Step::fate(done, ItemContent::Vector, ItemOutcome::Stored)
}

/// Marks an item as failed. The item stays assigned to its batch, so that all failed items of a batch can be retried
/// together.
pub fn fail(now: &ItemState, batch: &str, error: &str) -> Step {
    if !now.is_in(batch) {
        return Step::Keep;
    }
    let failed = ItemState { status: ItemStatus::Failed, error: Some(error.to_owned()), sent: None, ..now.clone() };
    match is_live(batch) {
        true => Step::state(ItemState { batch: None, ..failed }),
        false => Step::fate(failed, ItemContent::Same, ItemOutcome::Failed),
    }
}

/// Releases an item, so that it is sent again. The attempt is counted.
fn give_back(now: &ItemState, batch: &str) -> Step {
    let waiting = ItemState { status: ItemStatus::None, ..now.free() };
    match is_live(batch) {
        true => Step::state(waiting),
        false => Step::fate(waiting, ItemContent::Same, ItemOutcome::Returned),
    }
}

/// Decides the outcome of a refused item. The item is sent again if `again` is true and the item has had fewer than
/// `most_attempts` attempts. In all other cases the item fails.
pub fn refuse(now: &ItemState, batch: &str, error: &str, again: bool, most_attempts: u32) -> Step {
    match now.is_in(batch) && again && now.attempts < u64::from(most_attempts) {
        true => give_back(now, batch),
        false => fail(now, batch, error),
    }
}

/// Decides the outcome of an item that has no answer when its batch ends.
pub fn end(now: &ItemState, batch: &str, ending: &Ending) -> Step {
    if !now.is_in(batch) {
        return Step::Keep;
    }
    if now.unwanted {
        return Step::Delete;
    }
    let attempts = if ending.undone { now.attempts.saturating_sub(1) } else { now.attempts };
    let now = &ItemState { attempts, ..now.clone() };
    match attempts >= u64::from(ending.most_attempts) {
        true => fail(now, batch, ending.error.as_deref().unwrap_or(NO_ANSWER)),
        false => give_back(now, batch),
    }
}
