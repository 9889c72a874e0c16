//! What becomes of an item, by what it is now: without I/O.

use docweir_core::documents::Sha256Hex;
use docweir_stores::batches::{Ending, NewItem, Put};

use super::item::{Fate, Item, State};
use super::store::Step;

/// A record as its file or its table has it now. `since` is its place in line, if it is new.
pub fn put(space: &str, new: &NewItem, shown: &str, since: &str, now: Option<&Item>) -> Step<Put> {
    let origin = new.origin.as_ref().and_then(|origin| serde_json::to_string(origin).ok());
    let asks = u64::from(origin.is_some());
    let hash = Sha256Hex::of(new.input.as_bytes()).to_string();
    let state = if new.noise { State::Noise } else { State::None };
    let mut told = Put { noise: u64::from(new.noise), ..Put::default() };
    let Some(now) = now else {
        told.new = 1;
        let item = Item {
            space: space.to_owned(),
            key: new.key.clone(),
            since: since.to_owned(),
            version: 1,
            state,
            deleted: false,
            unwanted: false,
            reuse: false,
            input: new.input.clone(),
            hash,
            tokens: new.tokens,
            shown: shown.to_owned(),
            batch: None,
            sent: None,
            attempts: 0,
            error: None,
            stored: None,
            vector: None,
            past: Vec::new(),
            origin,
            asks,
            told: None,
            write_id: String::new(),
        };
        return Step::Write(Box::new(item), told);
    };
    let same_input = now.hash == hash && (now.state == State::Noise) == new.noise && !now.deleted;
    let failed = now.state == State::Failed;
    if same_input && now.shown == shown {
        if origin.is_none() {
            (told.unchanged, told.failed) = (1, u64::from(failed));
            return Step::Keep(told);
        }
        // Its table asks for it again.
        (told.unchanged, told.changed) = (u64::from(!failed), u64::from(failed));
        let again = Item { origin, asks: now.asks + asks, ..now.clone() };
        let item = match failed {
            true => Item { state: State::None, attempts: 0, error: None, ..free(&again) },
            false => again,
        };
        return Step::Write(Box::new(item), told);
    }
    told.changed = 1;
    let item = Item {
        version: now.version + 1,
        state,
        deleted: false,
        input: new.input.clone(),
        hash,
        tokens: new.tokens,
        shown: shown.to_owned(),
        // Nothing of it is embedded that was not before.
        reuse: same_input && (now.reuse || now.state == State::Success),
        origin: origin.or_else(|| now.origin.clone()),
        asks: now.asks + asks,
        ..free(now)
    };
    Step::Write(Box::new(Item { attempts: 0, error: None, ..item }), told)
}

/// In no batch.
fn free(item: &Item) -> Item {
    Item { batch: None, sent: None, ..item.clone() }
}

pub fn delete(now: Option<&Item>) -> Step<u64> {
    let Some(now) = now.filter(|now| !now.deleted) else { return Step::Keep(0) };
    let deleted = Item {
        deleted: true,
        version: now.version + 1,
        state: State::None,
        error: None,
        reuse: false,
        input: String::new(),
        shown: String::new(),
        origin: None,
        ..free(now)
    };
    Step::Write(Box::new(deleted), 1)
}

/// Its table was told what a mark says.
pub fn told(mark: &str, now: Option<&Item>) -> Step<()> {
    match now.filter(|now| now.origin.is_some() && now.told.as_deref() != Some(mark)) {
        Some(now) => Step::Write(Box::new(Item { told: Some(mark.to_owned()), ..now.clone() }), ()),
        None => Step::Keep(()),
    }
}

/// Into a batch or a live call, if it still waits with the text that was counted.
pub fn claim(batch: &str, hash: &str, now: Option<&Item>) -> Step<bool> {
    match now {
        Some(now) if now.is_in(batch) => Step::Keep(true),
        Some(now) if now.is_waiting() && now.hash == hash => {
            let claimed = Item {
                state: State::Pending,
                batch: Some(batch.to_owned()),
                sent: Some(now.hash.clone()),
                attempts: now.attempts + 1,
                ..now.clone()
            };
            Step::Write(Box::new(claimed), true)
        }
        _ => Step::Keep(false),
    }
}

/// As if it had never been taken into a batch or a live call.
pub fn unclaim(batch: &str, now: Option<&Item>) -> Step<bool> {
    let Some(now) = now.filter(|now| now.is_in(batch)) else { return Step::Keep(false) };
    if now.unwanted {
        return Step::Delete(true);
    }
    let attempts = now.attempts.saturating_sub(1);
    Step::Write(Box::new(Item { state: State::None, attempts, ..free(now) }), true)
}

/// The vector store holds a version of a record.
pub fn made(batch: &str, version: u64, tokens: u64, now: Option<&Item>) -> Step<bool> {
    let Some(now) = now else { return Step::Keep(false) };
    // Whatever has become of the item meanwhile.
    let stored = Some(now.stored.unwrap_or(0).max(version));
    if !now.is_in(batch) || now.version != version {
        return match now.stored == stored {
            true => Step::Keep(false),
            false => Step::Write(Box::new(Item { stored, ..now.clone() }), false),
        };
    }
    let mut done = Item { state: State::Success, stored, error: None, ..free(now) };
    done.remember(batch, Fate::Stored, tokens);
    Step::Write(Box::new(done), true)
}

/// A text has its vector.
pub fn embedded(batch: &str, vector: &[f32], tokens: u64, now: Option<&Item>) -> Step<bool> {
    let Some(now) = now.filter(|now| now.is_in(batch)) else { return Step::Keep(false) };
    let mut done = Item { state: State::Success, vector: Some(vector.to_owned()), error: None, ..free(now) };
    done.remember(batch, Fate::Stored, tokens);
    Step::Write(Box::new(done), true)
}

/// A record remembers the batch, so that it can be tried again with the others of it.
pub fn fail(batch: &str, error: &str, now: Option<&Item>) -> Step<bool> {
    let Some(now) = now.filter(|now| now.is_in(batch)) else { return Step::Keep(false) };
    let mut failed = Item { state: State::Failed, error: Some(error.to_owned()), sent: None, ..now.clone() };
    if !batch.starts_with("live:") {
        failed.remember(batch, Fate::Failed, 0);
    } else {
        failed.batch = None;
    }
    Step::Write(Box::new(failed), true)
}

fn give_back(batch: &str, now: &Item) -> Step<bool> {
    let mut back = Item { state: State::None, ..free(now) };
    back.remember(batch, Fate::Returned, 0);
    Step::Write(Box::new(back), true)
}

pub fn refused(batch: &str, error: &str, again: bool, most_attempts: u32, now: Option<&Item>) -> Step<bool> {
    match now.filter(|now| now.is_in(batch)) {
        Some(now) if again && now.attempts < u64::from(most_attempts) => give_back(batch, now),
        now => fail(batch, error, now),
    }
}

/// An item of a batch that ends.
pub fn end(batch: &str, ending: &Ending, now: Option<&Item>) -> Step<bool> {
    let Some(now) = now.filter(|now| now.is_in(batch)) else { return Step::Keep(false) };
    if now.unwanted {
        return Step::Delete(true);
    }
    let attempts = if ending.undone { now.attempts.saturating_sub(1) } else { now.attempts };
    let now = &Item { attempts, ..now.clone() };
    match attempts >= u64::from(ending.most_attempts) {
        true => fail(batch, ending.error.as_deref().unwrap_or("no answer in several batches"), Some(now)),
        false => give_back(batch, now),
    }
}

/// A row is written anew with the vector that there is; or there is none.
pub fn refreshed(version: u64, written: bool, now: Option<&Item>) -> Step<bool> {
    let Some(now) = now.filter(|now| now.reuse && now.version == version) else { return Step::Keep(false) };
    let mut item = Item { reuse: false, ..now.clone() };
    if written {
        (item.state, item.stored) = (State::Success, Some(version));
    }
    Step::Write(Box::new(item), true)
}

/// What the vector store holds of it now is not what it was.
pub fn reconciled(held: Option<u64>, now: Option<&Item>) -> Step<bool> {
    let Some(now) = now.filter(|now| now.stored.is_some() && now.stored != held) else { return Step::Keep(false) };
    let state = if now.state == State::Noise { State::Noise } else { State::None };
    // Above whatever is there, a tombstone too.
    let version = now.version.max(held.unwrap_or_default()) + 1;
    let item = Item { version, stored: held, batch: None, reuse: false, state, ..now.clone() };
    Step::Write(Box::new(item), true)
}

pub fn retried(of: Option<&str>, now: Option<&Item>) -> Step<bool> {
    let theirs = |now: &&Item| of.is_none() || now.batch.as_deref() == of;
    match now.filter(|now| now.state == State::Failed && !now.deleted).filter(theirs) {
        None => Step::Keep(false),
        Some(now) => {
            let item = Item { state: State::None, attempts: 0, error: None, ..free(now) };
            Step::Write(Box::new(item), true)
        }
    }
}

/// A text that its document needs no more. One that is on its way goes with the end of its batch, and its text as soon as
/// its line was made of it; one whose batch may not have been counted yet is remembered for a while.
pub fn dropped(sent: impl Fn(&str) -> bool, now: Option<&Item>) -> Step<bool> {
    let Some(now) = now.filter(|now| !now.deleted) else { return Step::Keep(false) };
    match (now.state, &now.batch) {
        (State::Pending, Some(batch)) => {
            let input = if sent(batch) { String::new() } else { now.input.clone() };
            match now.unwanted && now.input == input {
                true => Step::Keep(false),
                false => Step::Write(Box::new(Item { unwanted: true, input, ..now.clone() }), true),
            }
        }
        _ if now.past.is_empty() => Step::Delete(true),
        _ => {
            let item = Item { deleted: true, state: State::None, input: String::new(), vector: None, ..free(now) };
            Step::Write(Box::new(item), true)
        }
    }
}
