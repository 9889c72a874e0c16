//! Applies the shared rules of all stores to items in DynamoDB.
//!
//! A rule decides how the state of an item changes, and which other content of the item is replaced or cleared. This
//! module builds the changed item: the new state, the new content, and the outcome of the item in its batch.

use docweir_stores::batches::NewItem;
use docweir_stores::batches::rules::{self, ItemContent, ItemState};

use super::item::Item;
use super::store::Step;

/// Holds a new or changed item's content, in the form in which the table stores this content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    pub input: String,
    pub tokens: u64,
    /// Data that search results show, as JSON; empty for texts of documents.
    pub shown: String,
    /// Location of the record in the user's table, as JSON.
    pub origin: Option<String>,
}

impl Put {
    /// Converts a new item to its stored form. Fails only if the item's data cannot be serialised as JSON.
    pub fn of(item: &NewItem) -> serde_json::Result<Self> {
        let origin = item.origin.as_ref().map(serde_json::to_string).transpose()?;
        // Map keys are sorted, so equal metadata gives equal text.
        let shown = serde_json::to_string(&item.shown)?;
        Ok(Self { input: item.input.clone(), tokens: item.tokens, shown, origin })
    }
}

/// Provides data that a step may write to an item in addition to the item's new state.
#[derive(Clone, Copy)]
pub enum Given<'a> {
    Nothing,
    Put(&'a Put),
    Vector(&'a [f32]),
    /// Result of an item in a batch: the id of the batch, the tokens that the provider counted, and the vector if the
    /// item is a text.
    Result {
        batch: &'a str,
        tokens: u64,
        vector: Option<&'a [f32]>,
    },
}

impl<'a> Given<'a> {
    /// Returns a result that names only the batch, without tokens and vector.
    pub fn of(batch: &'a str) -> Self {
        Given::Result { batch, tokens: 0, vector: None }
    }
}

/// Applies a rule to an item if the item exists. The returned step says whether the item changes.
pub fn change(now: Option<&Item>, given: Given<'_>, rule: impl FnOnce(&ItemState) -> rules::Step) -> Step<bool> {
    match now {
        Some(now) => apply(now, rule(&now.state), given),
        None => Step::Keep(false),
    }
}

/// Applies a step to `now`, which is a stored item or a new item that the table does not contain yet.
pub fn apply(now: &Item, step: rules::Step, given: Given<'_>) -> Step<bool> {
    let (state, content, fate) = match step {
        rules::Step::Keep => return Step::Keep(false),
        rules::Step::Delete => return Step::Delete(true),
        rules::Step::Write { state, content, fate } => (*state, content, fate),
    };
    let mut item = Item { state, ..now.clone() };
    match (content, given) {
        (ItemContent::Put, Given::Put(put)) => {
            item.input.clone_from(&put.input);
            item.tokens = put.tokens;
            item.shown.clone_from(&put.shown);
            item.origin = put.origin.clone().or(item.origin);
        }
        (ItemContent::Origin, Given::Put(put)) => item.origin.clone_from(&put.origin),
        (ItemContent::Vector, Given::Vector(vector) | Given::Result { vector: Some(vector), .. }) => {
            item.vector = Some(vector.to_owned());
        }
        (ItemContent::NoInput, _) => item.input.clear(),
        (ItemContent::Nothing, _) => {
            item.input.clear();
            item.shown.clear();
            (item.vector, item.origin) = (None, None);
        }
        (ItemContent::Same | ItemContent::Put | ItemContent::Origin | ItemContent::Vector, _) => {}
    }
    if let (Some(fate), Given::Result { batch, tokens, .. }) = (fate, given) {
        item.remember(batch, fate, tokens);
    }
    // An unchanged item is not written.
    if item == *now { Step::Keep(false) } else { Step::Write(Box::new(item), true) }
}

/// Applies a step to an item, or creates the item if `now` is `None` and the step writes it. A created item gets the
/// queue position `since`.
pub fn put(now: Option<&Item>, space: &str, key: &str, since: &str, step: rules::Step, put: &Put) -> Step<bool> {
    match (now, step) {
        (Some(now), step) => apply(now, step, Given::Put(put)),
        (None, rules::Step::Write { state, .. }) => {
            let item = Item {
                space: space.to_owned(),
                key: key.to_owned(),
                since: since.to_owned(),
                state: *state,
                input: put.input.clone(),
                tokens: put.tokens,
                shown: put.shown.clone(),
                vector: None,
                origin: put.origin.clone(),
                past: Vec::new(),
                write_id: String::new(),
            };
            Step::Write(Box::new(item), true)
        }
        (None, _) => Step::Keep(false),
    }
}
