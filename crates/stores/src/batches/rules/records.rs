//! Decides how a record changes when it is put, deleted, refreshed, or compared with the vector store.

use super::{Hash, ItemContent, ItemState, ItemStatus, Step};
use crate::batches::{Counts, Put};

/// Hash of a deleted record.
pub const NO_TEXT: Hash = [0; 32];

/// Describes a record that was just read from a file or a table. Also tells how the record differs from the item that
/// the store already holds for the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    pub hash: Hash,
    pub noise: bool,
    /// True if the record comes from a user's table. Such a record is always a request for an embedding, even if the
    /// record is unchanged.
    pub from_table: bool,
    /// True if the display data are the same as in the item that the store holds.
    pub same_shown: bool,
}

/// Puts a record. `now` is the state of the item that the store holds, or `None` for a new record.
pub fn put(now: Option<&ItemState>, new: Incoming) -> (Step, Put) {
    let status = if new.noise { ItemStatus::Noise } else { ItemStatus::None };
    let asks = u64::from(new.from_table);
    let mut put = Put { noise: u64::from(new.noise), ..Put::default() };
    let Some(now) = now else {
        put.new = 1;
        let state = ItemState { status, from_table: new.from_table, asks, ..ItemState::new(new.hash) };
        return (Step::write(state, ItemContent::Put), put);
    };
    let same_input = now.hash == new.hash && (now.status == ItemStatus::Noise) == new.noise && !now.deleted;
    let failed = now.status == ItemStatus::Failed;
    if same_input && new.same_shown {
        if !new.from_table {
            (put.unchanged, put.failed) = (1, u64::from(failed));
            return (Step::Keep, put);
        }
        // The table requests the embedding again.
        (put.unchanged, put.changed) = (u64::from(!failed), u64::from(failed));
        let again = if failed { anew(now) } else { now.clone() };
        let state = ItemState { from_table: true, asks: now.asks + asks, ..again };
        return (Step::write(state, ItemContent::Origin), put);
    }
    put.changed = 1;
    let state = ItemState {
        version: now.version + 1,
        status,
        deleted: false,
        hash: new.hash,
        // The input is unchanged, so the stored vector is still valid.
        reuse: same_input && (now.reuse || now.status == ItemStatus::Success),
        from_table: now.from_table || new.from_table,
        asks: now.asks + asks,
        ..anew(now)
    };
    (Step::write(state, ItemContent::Put), put)
}

/// Returns the state that the item would have if it had never been sent. In this state the item waits to be sent.
fn anew(now: &ItemState) -> ItemState {
    ItemState { status: ItemStatus::None, attempts: 0, error: None, ..now.free() }
}

/// Deletes a record. A tombstone with the new version will remove the record's row from the vector store. The item
/// keeps its key and version, so that the version can be continued if the record returns. It keeps nothing of the text,
/// not even the hash, from which a short text could be guessed.
pub fn delete(now: &ItemState) -> Step {
    if now.deleted {
        return Step::Keep;
    }
    let state = ItemState {
        deleted: true,
        version: now.version + 1,
        status: ItemStatus::None,
        error: None,
        reuse: false,
        from_table: false,
        hash: NO_TEXT,
        ..now.free()
    };
    Step::write(state, ItemContent::Nothing)
}

/// Deletes a record that no longer exists in its table, if it still has `version`.
pub fn forget(now: &ItemState, version: u64) -> Step {
    if now.version == version { delete(now) } else { Step::Keep }
}

/// Makes a failed record wait to be sent again. If `of` names a batch, a record that failed elsewhere is not changed.
pub fn retry(now: &ItemState, of: Option<&str>) -> Step {
    let theirs = of.is_none() || now.batch.as_deref() == of;
    match now.status == ItemStatus::Failed && !now.deleted && theirs {
        true => Step::state(anew(now)),
        false => Step::Keep,
    }
}

/// Marks the removal of a record's row as done, because the vector store holds the tombstone with `version`.
pub fn removed(now: &ItemState, version: u64) -> Step {
    match now.version == version && now.stored.is_some() {
        true => Step::state(ItemState { stored: None, ..now.clone() }),
        false => Step::Keep,
    }
}

/// Records the outcome of rewriting a row with the stored vector. If `written` is false, the row could not be written
/// because the vector is missing. In this case, the record waits to be embedded.
pub fn refreshed(now: &ItemState, version: u64, written: bool) -> Step {
    if !now.reuse || now.version != version {
        return Step::Keep;
    }
    let state = ItemState { reuse: false, ..now.clone() };
    Step::state(match written {
        true => ItemState { status: ItemStatus::Success, stored: Some(version), ..state },
        false => state,
    })
}

/// Compares an item with `held`, the version of the item's row in the vector store. If the versions differ, the item
/// is embedded again.
pub fn reconcile(now: &ItemState, held: Option<u64>) -> Step {
    if now.stored.is_none() || now.stored == held {
        return Step::Keep;
    }
    let status = if now.status == ItemStatus::Noise { ItemStatus::Noise } else { ItemStatus::None };
    // The new version is above every version in the vector store, including tombstones.
    let version = now.version.max(held.unwrap_or_default()) + 1;
    Step::state(ItemState { version, stored: held, batch: None, reuse: false, status, ..now.clone() })
}

/// Confirms that an outcome was written back to the user's table. `mark` identifies the outcome.
pub fn told(now: &ItemState, mark: &str) -> Step {
    match now.from_table && now.told.as_deref() != Some(mark) {
        true => Step::state(ItemState { told: Some(mark.to_owned()), ..now.clone() }),
        false => Step::Keep,
    }
}

/// Returns whether the record has a vector for the input with this hash.
pub fn is_done(now: &ItemState, hash: &Hash) -> bool {
    now.status == ItemStatus::Success && !now.deleted && now.hash == *hash
}

/// Adds `items` to the number of items with this status in the counts of one space. `shown` is the displayed name of
/// the space. The text spaces of all models share one name, and are therefore counted together.
pub fn count(all: &mut Vec<Counts>, shown: &str, status: ItemStatus, items: u64) {
    let at = all.iter().position(|counts| counts.space == shown);
    let at = at.unwrap_or_else(|| {
        all.push(Counts { space: shown.to_owned(), ..Counts::default() });
        all.len() - 1
    });
    let Some(counts) = all.get_mut(at) else { return };
    *match status {
        ItemStatus::None => &mut counts.none,
        ItemStatus::Pending => &mut counts.pending,
        ItemStatus::Success => &mut counts.success,
        ItemStatus::Failed => &mut counts.failed,
        ItemStatus::Noise => &mut counts.noise,
    } += items;
}
