//! Tests the rules for items in batches and live calls.

use super::super::sending::*;
use super::*;
use crate::batches::{BatchStatus, Ending};

fn fate(state: ItemState, content: ItemContent, fate: ItemOutcome) -> Step {
    Step::Write { state: Box::new(state), content, fate: Some(fate) }
}

fn returned(attempts: u64) -> Step {
    fate(ItemState { attempts, error: Some("500".into()), ..waiting() }, ItemContent::Same, ItemOutcome::Returned)
}

fn failed_with(attempts: u64, error: &str) -> Step {
    let state = ItemState { attempts, error: Some(error.into()), ..failed("b") };
    fate(state, ItemContent::Same, ItemOutcome::Failed)
}

#[test]
fn an_item_is_taken_once_and_with_the_text_that_was_counted() {
    let hash = hash_of("text");
    let taken = ItemState { attempts: 1, error: None, ..pending("b") };
    let table = [
        (waiting(), Some(same(taken))),
        (pending("b"), Some(Step::Keep)),
        (pending("c"), None),
        (ItemState { reuse: true, ..waiting() }, None),
        (ItemState { deleted: true, ..waiting() }, None),
        (ItemState { hash: hash_of("other"), ..waiting() }, None),
        (done(), None),
    ];
    for (now, step) in table {
        assert_eq!(claim(&now, "b", &hash), step, "{now:?}");
    }
}

#[test]
fn what_is_given_back_was_never_taken_unless_nobody_knows_how_far_it_came() {
    let back = |attempts| same(ItemState { attempts, error: Some("500".into()), ..waiting() });
    let unwanted = |batch| ItemState { unwanted: true, ..pending(batch) };
    let table = [
        (pending("live:1"), back(1), back(2)),
        (ItemState { attempts: 0, ..pending("live:1") }, back(0), back(0)),
        (unwanted("live:1"), Step::Delete, Step::Delete),
        (waiting(), Step::Keep, Step::Keep),
        (ItemState { status: Failed, ..pending("live:1") }, Step::Keep, Step::Keep),
    ];
    for (now, unclaimed, abandoned) in table {
        assert_eq!((unclaim(&now, "live:1"), abandon_live(&now)), (unclaimed, abandoned), "{now:?}");
    }
    assert_eq!((unclaim(&pending("b"), "live:1"), unclaim(&pending("b"), "b")), (Step::Keep, back(1)));
    assert_eq!(abandon_live(&pending("b")), Step::Keep, "it is in a batch");
}

#[test]
fn what_is_kept_is_done_or_is_known_to_be_there() {
    let kept = |state| fate(state, ItemContent::Same, ItemOutcome::Stored);
    let newer = ItemState { version: 2, ..waiting() };
    let stored = |state: &ItemState, version| same(ItemState { stored: Some(version), ..state.clone() });
    let table = [
        (pending("b"), 1, kept(ItemState { attempts: 2, ..done() })),
        (ItemState { stored: Some(4), ..pending("b") }, 1, kept(ItemState { attempts: 2, stored: Some(4), ..done() })),
        // The result is recorded twice.
        (done(), 1, Step::Keep),
        // The item was changed, deleted or claimed by another batch: its row exists all the same.
        (newer.clone(), 1, stored(&newer, 1)),
        (ItemState { stored: Some(2), ..newer.clone() }, 1, Step::Keep),
        (pending("c"), 1, stored(&pending("c"), 1)),
        (ItemState { version: 2, ..pending("b") }, 1, stored(&ItemState { version: 2, ..pending("b") }, 1)),
    ];
    for (now, version, step) in table {
        assert_eq!(made(&now, "b", version), step, "{now:?} {version}");
    }
    let text = ItemState { status: Success, attempts: 2, ..waiting() };
    assert_eq!(embedded(&pending("b"), "b"), fate(text, ItemContent::Vector, ItemOutcome::Stored));
    assert_eq!((embedded(&pending("b"), "c"), embedded(&done(), "b")), (Step::Keep, Step::Keep));
}

#[test]
fn a_refusal_sends_an_item_again_until_its_attempts_are_used_up() {
    let table = [
        (pending("b"), true, 3, returned(2)),
        (pending("b"), true, 2, failed_with(2, "429")),
        (pending("b"), false, 3, failed_with(2, "429")),
        (pending("c"), true, 3, Step::Keep),
        (done(), false, 3, Step::Keep),
    ];
    for (now, again, most, step) in table {
        assert_eq!(refuse(&now, "b", "429", again, most), step, "{now:?} {again} {most}");
    }
    assert_eq!(fail(&pending("b"), "b", "400"), failed_with(2, "400"));
    assert_eq!(fail(&failed("b"), "b", "400"), Step::Keep);
    let live = ItemState { batch: None, ..failed("live:1") };
    assert_eq!(fail(&pending("live:1"), "live:1", "400"), same(live), "a live call is not kept");
}

#[test]
fn the_end_gives_back_what_had_no_answer_and_not_for_ever() {
    let ending = |undone, most_attempts, error: Option<&str>| Ending {
        status: BatchStatus::Expired,
        charged_tokens: None,
        usd_per_million_tokens: 0.0,
        most_attempts,
        undone,
        error: error.map(str::to_owned),
    };
    let table = [
        (pending("b"), ending(false, 3, None), returned(2)),
        (pending("b"), ending(false, 2, None), failed_with(2, "the provider gave no answer in several batches")),
        (pending("b"), ending(false, 2, Some("expired")), failed_with(2, "expired")),
        (pending("b"), ending(true, 2, Some("refused")), returned(1)),
        (pending("b"), ending(true, 1, Some("refused")), failed_with(1, "refused")),
        (ItemState { unwanted: true, ..pending("b") }, ending(false, 3, None), Step::Delete),
        (pending("c"), ending(false, 3, None), Step::Keep),
        (done(), ending(false, 3, None), Step::Keep),
        (failed("b"), ending(false, 3, None), Step::Keep),
    ];
    for (now, ending, step) in table {
        assert_eq!(end(&now, "b", &ending), step, "{now:?} {ending:?}");
    }
}
