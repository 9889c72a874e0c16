//! Records: what putting, deleting and comparing makes of them.

use super::{Hash, ItemContent, ItemState, ItemStatus, Step};
use crate::batches::{Counts, Put};

/// A record as its file or its table has it now, beside the one that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    pub hash: Hash,
    pub noise: bool,
    /// Its table asks for it to be embedded.
    pub from_table: bool,
    /// What is found of it is what is known of it.
    pub same_shown: bool,
}

/// Puts a record. `now` is `None` for a new one.
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
        // Its table asks for it again.
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
        // Nothing of it is embedded that was not before.
        reuse: same_input && (now.reuse || now.status == ItemStatus::Success),
        from_table: now.from_table || new.from_table,
        asks: now.asks + asks,
        ..anew(now)
    };
    (Step::write(state, ItemContent::Put), put)
}

/// Returns it waiting, as if it had never been sent.
fn anew(now: &ItemState) -> ItemState {
    ItemState { status: ItemStatus::None, attempts: 0, error: None, ..now.free() }
}

/// Deletes a record. Its row leaves the vector store under the new version.
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
        ..now.free()
    };
    Step::write(state, ItemContent::Nothing)
}

/// Deletes a record that its table has no more, if it still is of the version that was judged.
pub fn forget(now: &ItemState, version: u64) -> Step {
    if now.version == version { delete(now) } else { Step::Keep }
}

/// Sends a failed record again; `of` names the only batch whose records are.
pub fn retry(now: &ItemState, of: Option<&str>) -> Step {
    let theirs = of.is_none() || now.batch.as_deref() == of;
    match now.status == ItemStatus::Failed && !now.deleted && theirs {
        true => Step::state(anew(now)),
        false => Step::Keep,
    }
}

/// Records that the vector store holds the tombstone of a version.
pub fn removed(now: &ItemState, version: u64) -> Step {
    match now.version == version && now.stored.is_some() {
        true => Step::state(ItemState { stored: None, ..now.clone() }),
        false => Step::Keep,
    }
}

/// Records that a row is written anew with the vector that there is; or, if not `written`, that there is none.
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

/// Compares an item with the version that the vector store holds: what was lost is to be embedded again.
pub fn reconcile(now: &ItemState, held: Option<u64>) -> Step {
    if now.stored.is_none() || now.stored == held {
        return Step::Keep;
    }
    let status = if now.status == ItemStatus::Noise { ItemStatus::Noise } else { ItemStatus::None };
    // Above whatever is there, a tombstone too.
    let version = now.version.max(held.unwrap_or_default()) + 1;
    Step::state(ItemState { version, stored: held, batch: None, reuse: false, status, ..now.clone() })
}

/// Records that a table was told what a mark says.
pub fn told(now: &ItemState, mark: &str) -> Step {
    match now.from_table && now.told.as_deref() != Some(mark) {
        true => Step::state(ItemState { told: Some(mark.to_owned()), ..now.clone() }),
        false => Step::Keep,
    }
}

/// Returns whether a record with an input of this hash has its vector.
pub fn is_done(now: &ItemState, hash: &Hash) -> bool {
    now.status == ItemStatus::Success && !now.deleted && now.hash == *hash
}

/// Adds items of a space to the counts that people see, in which texts of several models are one.
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
