//! Tests the decisions of the rules with tables of cases. The tests of each store cover how the decisions are stored.

mod batch;
mod records;
mod sending;
mod texts;

use super::ItemStatus::{Failed, Noise, Pending, Success};
use super::*;

/// Returns a new item that waits, with the hash of `text`.
fn waiting() -> ItemState {
    ItemState::new(hash_of("text"))
}

/// Returns an item that is in a batch for the second time.
fn pending(batch: &str) -> ItemState {
    let state = ItemState { status: Pending, batch: Some(batch.into()), attempts: 2, ..waiting() };
    ItemState { sent: Some(state.hash), error: Some("500".into()), ..state }
}

/// Returns an item that failed in a batch.
fn failed(batch: &str) -> ItemState {
    ItemState { status: Failed, sent: None, error: Some("400".into()), ..pending(batch) }
}

/// Returns an item whose vector is stored.
fn done() -> ItemState {
    ItemState { status: Success, stored: Some(1), attempts: 1, ..waiting() }
}

fn write(state: ItemState, content: ItemContent) -> Step {
    Step::Write { state: Box::new(state), content, fate: None }
}

fn same(state: ItemState) -> Step {
    write(state, ItemContent::Same)
}

#[test]
fn where_an_item_stands_follows_from_its_state() {
    let (now, out) = (waiting(), pending("b"));
    let deleted = ItemState { deleted: true, ..done() };
    let noise = ItemState { status: Noise, ..done() };
    // The flags are: waiting, open, leaves, refreshes.
    let table = [
        (now.clone(), [true, true, false, false]),
        (ItemState { reuse: true, ..now.clone() }, [false, true, false, true]),
        (ItemState { deleted: true, ..now.clone() }, [false, false, false, false]),
        (out.clone(), [false, true, false, false]),
        (done(), [false, false, false, false]),
        (failed("b"), [false, false, false, false]),
        (deleted, [false, false, true, false]),
        (noise.clone(), [false, false, true, false]),
        (ItemState { stored: None, ..noise }, [false, false, false, false]),
    ];
    for (state, stands) in table {
        let found = [state.is_waiting(), state.is_open(), state.leaves(), state.refreshes()];
        assert_eq!(found, stands, "{state:?}");
    }
    let table = [
        (out.clone(), "b", [true, true]),
        (out.clone(), "c", [false, false]),
        (ItemState { unwanted: true, ..out.clone() }, "b", [true, false]),
        (ItemState { hash: hash_of("other"), ..out.clone() }, "b", [true, false]),
        (ItemState { sent: None, ..out }, "b", [true, false]),
        (failed("b"), "b", [false, false]),
    ];
    for (state, batch, is) in table {
        assert_eq!([state.is_in(batch), state.is_fresh_in(batch)], is, "{state:?}");
    }
}

#[test]
fn a_table_is_owed_an_answer_to_its_last_question() {
    let ended = ItemState { from_table: true, asks: 2, version: 3, ..done() };
    let table = [
        (ended.clone(), Some("2 3 SUCCESS"), true),
        (ItemState { told: Some("2 3 SUCCESS".into()), ..ended.clone() }, Some("2 3 SUCCESS"), false),
        (ItemState { told: Some("1 3 SUCCESS".into()), ..ended.clone() }, Some("2 3 SUCCESS"), true),
        (ItemState { status: Failed, ..ended.clone() }, Some("2 3 FAILED"), true),
        (ItemState { status: Noise, ..ended.clone() }, Some("2 3 NOISE"), true),
        (ItemState { status: Pending, ..ended.clone() }, None, false),
        (ItemState { status: ItemStatus::None, ..ended.clone() }, None, false),
        (ItemState { deleted: true, ..ended.clone() }, None, false),
        (ItemState { from_table: false, ..ended }, None, false),
    ];
    for (state, mark, owes) in table {
        assert_eq!((state.mark().as_deref(), state.owes()), (mark, owes), "{state:?}");
    }
    for status in ItemStatus::ALL {
        assert_eq!(ItemStatus::parse(status.name()), Some(status));
        assert!(status.outcome().is_none_or(|outcome| outcome.name() == status.name()));
    }
}
