//! Texts of documents: what a document that asks for them is answered, and what becomes of those that nobody wants.

use super::{Hash, ItemContent, ItemState, ItemStatus, Step};
use crate::batches::TextLookup;

/// Puts a text, unless it is known. One that was remembered for its batch comes back as a new version.
pub fn put(now: Option<&ItemState>, hash: Hash) -> Step {
    let version = match now {
        Some(now) if !now.deleted => return Step::Keep,
        Some(now) => now.version + 1,
        None => 1,
    };
    Step::write(ItemState { version, ..ItemState::new(hash) }, ItemContent::Put)
}

/// Records that a waiting text was embedded at once.
pub fn embed_live(now: &ItemState) -> Step {
    match now.status == ItemStatus::None && !now.deleted {
        true => Step::write(ItemState { status: ItemStatus::Success, ..now.clone() }, ItemContent::Vector),
        false => Step::Keep,
    }
}

/// Wants a text again that nobody wanted.
pub fn want(now: &ItemState) -> Step {
    match now.unwanted {
        true => Step::state(ItemState { unwanted: false, ..now.clone() }),
        false => Step::Keep,
    }
}

/// Discards a text that nobody wants any more. One that is on its way goes with the end of its batch, and its input as soon as
/// its line was made of it (`was_sent`). `remembered` keeps the state of one whose batch has not been counted yet.
pub fn discard(now: &ItemState, was_sent: bool, remembered: bool) -> Step {
    if now.deleted {
        return Step::Keep;
    }
    if now.status == ItemStatus::Pending {
        let content = if was_sent { ItemContent::NoInput } else { ItemContent::Same };
        return Step::write(ItemState { unwanted: true, ..now.clone() }, content);
    }
    match remembered {
        false => Step::Delete,
        true => {
            let state = ItemState { deleted: true, status: ItemStatus::None, ..now.free() };
            Step::write(state, ItemContent::Nothing)
        }
    }
}

/// A text that is known already.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownText {
    pub status: ItemStatus,
    pub error: Option<String>,
    pub vector: Option<Vec<f32>>,
    /// Its tokens are charged to the document that asks.
    pub is_payer: bool,
}

/// What is to be done with a text that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is put.
    Put,
    /// It is there.
    Keep,
    /// It has failed, which is said once: asked again it is tried again.
    Discard,
}

/// Texts that a document asks for, one after the other.
#[derive(Debug, Default)]
pub struct Question {
    vectors: Vec<Option<Vec<f32>>>,
    tokens: u64,
    open: u64,
    under_way: bool,
    failed: Option<String>,
}

impl Question {
    /// Takes the next text in, of so many tokens.
    pub fn add(&mut self, tokens: u64, known: Option<KnownText>) -> Asked {
        let Some(known) = known else {
            self.open += 1;
            self.vectors.push(None);
            return Asked::Put;
        };
        if known.status == ItemStatus::Failed {
            self.failed = Some(known.error.unwrap_or_default());
            return Asked::Discard;
        }
        self.open += u64::from(known.vector.is_none());
        self.under_way |= known.status == ItemStatus::Pending;
        self.tokens += if known.vector.is_some() && known.is_payer { tokens } else { 0 };
        self.vectors.push(known.vector);
        Asked::Keep
    }

    /// Returns whether the document embeds its texts itself, if it was told to: not while one of them is on its way.
    pub fn goes_live(&self, live: bool) -> bool {
        live && !self.under_way && self.failed.is_none()
    }

    /// Answers a document that was told to embed its texts itself (`live`), or was not.
    pub fn answer(self, live: bool) -> TextLookup {
        let goes_live = self.goes_live(live);
        let Self { vectors, tokens, open, failed, .. } = self;
        match failed {
            Some(error) => TextLookup::Failed(error),
            None if open == 0 => TextLookup::Ready { vectors: vectors.into_iter().flatten().collect(), tokens },
            None if goes_live => TextLookup::Live { vectors, tokens },
            None => TextLookup::Waits(open),
        }
    }
}
