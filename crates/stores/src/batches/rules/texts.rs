//! Decides how to answer a document that requests vectors, and when to discard texts that no document needs any more.

use super::{Hash, ItemContent, ItemState, ItemStatus, Step};
use crate::batches::TextLookup;

/// Adds a text that is not known, or adds a deleted text again with a new version. The version can be continued
/// because the state of the deleted text was kept. A known text that is not deleted stays as it is.
pub fn put(now: Option<&ItemState>, hash: Hash) -> Step {
    let version = match now {
        Some(now) if !now.deleted => return Step::Keep,
        Some(now) => now.version + 1,
        None => 1,
    };
    Step::write(ItemState { version, ..ItemState::new(hash) }, ItemContent::Put)
}

/// Records that a waiting text was embedded live.
pub fn embed_live(now: &ItemState) -> Step {
    match now.status == ItemStatus::None && !now.deleted {
        true => Step::write(ItemState { status: ItemStatus::Success, ..now.clone() }, ItemContent::Vector),
        false => Step::Keep,
    }
}

/// Marks an unwanted text as wanted again.
pub fn want(now: &ItemState) -> Step {
    match now.unwanted {
        true => Step::state(ItemState { unwanted: false, ..now.clone() }),
        false => Step::Keep,
    }
}

/// Discards a text that no document wants any more.
///
/// A text in a batch is only marked as unwanted, and is deleted when the batch ends. `was_sent` is true if the batch's
/// file already contains the text; in this case, the input of the text is cleared immediately.
///
/// A text outside a batch is deleted immediately. `remembered` is true if the text was in an earlier batch that has
/// not counted the outcomes of its items yet. In this case, the state of the text is kept and marked as deleted.
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

/// Describes a text that is already known.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownText {
    pub status: ItemStatus,
    pub error: Option<String>,
    pub vector: Option<Vec<f32>>,
    /// True if the text's tokens are charged to the requesting document.
    pub is_payer: bool,
}

/// Lists the actions for a requested text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextAction {
    /// The text is new and must be put.
    Put,
    /// The text is known and stays as it is.
    Keep,
    /// The text has failed. The failure is reported once; the next request tries the text again.
    Discard,
}

/// Collects the texts that one document requests, and answers the request when all texts have been added.
#[derive(Debug, Default)]
pub struct Question {
    vectors: Vec<Option<Vec<f32>>>,
    tokens: u64,
    open: u64,
    under_way: bool,
    failed: Option<String>,
}

impl Question {
    /// Adds the next text, with its number of tokens and its known state.
    pub fn add(&mut self, tokens: u64, known: Option<KnownText>) -> TextAction {
        let Some(known) = known else {
            self.open += 1;
            self.vectors.push(None);
            return TextAction::Put;
        };
        if known.status == ItemStatus::Failed {
            self.failed = Some(known.error.unwrap_or_default());
            return TextAction::Discard;
        }
        self.open += u64::from(known.vector.is_none());
        self.under_way |= known.status == ItemStatus::Pending;
        self.tokens += if known.vector.is_some() && known.is_payer { tokens } else { 0 };
        self.vectors.push(known.vector);
        TextAction::Keep
    }

    /// Returns whether the document must now embed its texts with live calls. `live` is true if live calls were
    /// requested for the document. Even then, the document makes no live calls if one of its texts is already in a
    /// batch or has failed. In the first case, the document waits for the batch.
    pub fn goes_live(&self, live: bool) -> bool {
        live && !self.under_way && self.failed.is_none()
    }

    /// Returns the answer to the document's request. `live` is true if live calls were requested for the document.
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
