//! Tests the rules for records.

use super::super::records::*;
use super::*;
use crate::batches::{Counts, Put};

fn incoming(text: &str) -> Incoming {
    Incoming { hash: hash_of(text), noise: false, from_table: false, same_shown: true }
}

#[test]
fn what_a_put_does_to_a_record() {
    let new = Put { new: 1, ..Put::default() };
    let changed = Put { changed: 1, ..Put::default() };
    let unchanged = Put { unchanged: 1, ..Put::default() };
    let (same_text, other_text) = (incoming("text"), incoming("other"));
    let other_shown = Incoming { same_shown: false, ..same_text };
    let noise = Incoming { noise: true, ..same_text };
    let asked = Incoming { from_table: true, ..same_text };
    let next = |status| ItemState { version: 2, status, ..waiting() };
    let other = ItemState { hash: hash_of("other"), ..next(ItemStatus::None) };
    let deleted = ItemState { deleted: true, ..done() };
    let held = |state: ItemState| ItemState { stored: Some(1), ..state };
    let table = [
        // The record is new.
        (None, same_text, write(waiting(), ItemContent::Put), new),
        (None, noise, write(ItemState { status: Noise, ..waiting() }, ItemContent::Put), Put { noise: 1, ..new }),
        (None, asked, write(ItemState { from_table: true, asks: 1, ..waiting() }, ItemContent::Put), new),
        // The record is unchanged, whatever its status.
        (Some(waiting()), same_text, Step::Keep, unchanged),
        (Some(pending("b")), same_text, Step::Keep, unchanged),
        (Some(done()), same_text, Step::Keep, unchanged),
        (Some(failed("b")), same_text, Step::Keep, Put { failed: 1, ..unchanged }),
        (Some(next(Noise)), noise, Step::Keep, Put { noise: 1, ..unchanged }),
        // The text has changed: a new version in no batch, and the stored version is kept.
        (Some(waiting()), other_text, write(other.clone(), ItemContent::Put), changed),
        (Some(pending("b")), other_text, write(other.clone(), ItemContent::Put), changed),
        (Some(failed("b")), other_text, write(other.clone(), ItemContent::Put), changed),
        (Some(done()), other_text, write(held(other), ItemContent::Put), changed),
        (Some(done()), noise, write(held(next(Noise)), ItemContent::Put), Put { noise: 1, ..changed }),
        (Some(deleted), same_text, write(held(next(ItemStatus::None)), ItemContent::Put), changed),
        // Only the display data have changed: the stored vector is reused, even if an earlier reuse is still pending.
        (
            Some(done()),
            other_shown,
            write(held(ItemState { reuse: true, ..next(ItemStatus::None) }), ItemContent::Put),
            changed,
        ),
        (
            Some(ItemState { reuse: true, ..waiting() }),
            other_shown,
            write(ItemState { reuse: true, ..next(ItemStatus::None) }, ItemContent::Put),
            changed,
        ),
        (Some(pending("b")), other_shown, write(next(ItemStatus::None), ItemContent::Put), changed),
        // The table requests the embedding again: a done record is written back again, a failed one is sent again.
        (Some(done()), asked, write(ItemState { from_table: true, asks: 1, ..done() }, ItemContent::Origin), unchanged),
        (
            Some(ItemState { from_table: true, asks: 4, ..failed("b") }),
            asked,
            write(ItemState { from_table: true, asks: 5, ..waiting() }, ItemContent::Origin),
            changed,
        ),
        (
            Some(ItemState { from_table: true, asks: 4, ..done() }),
            Incoming { from_table: true, ..other_text },
            write(
                ItemState {
                    from_table: true,
                    asks: 5,
                    ..held(ItemState { hash: hash_of("other"), ..next(ItemStatus::None) })
                },
                ItemContent::Put,
            ),
            changed,
        ),
        // A file changes a record that came from a table: it still belongs to the table.
        (
            Some(ItemState { from_table: true, asks: 4, ..waiting() }),
            other_text,
            write(
                ItemState { from_table: true, asks: 4, hash: hash_of("other"), ..next(ItemStatus::None) },
                ItemContent::Put,
            ),
            changed,
        ),
    ];
    for (now, new, step, told) in table {
        assert_eq!(put(now.as_ref(), new), (step, told), "{now:?} {new:?}");
    }
}

#[test]
fn what_is_deleted_has_a_new_version_and_belongs_to_nobody() {
    let gone = ItemState { deleted: true, version: 2, hash: NO_TEXT, ..waiting() };
    let of_table = ItemState { from_table: true, asks: 2, told: Some("m".into()), reuse: true, ..waiting() };
    let table = [
        (waiting(), gone.clone()),
        (pending("b"), ItemState { attempts: 2, ..gone.clone() }),
        (done(), ItemState { attempts: 1, stored: Some(1), ..gone.clone() }),
        (of_table, ItemState { asks: 2, told: Some("m".into()), ..gone.clone() }),
    ];
    for (now, gone) in table {
        assert_eq!(delete(&now), write(gone.clone(), ItemContent::Nothing), "{now:?}");
        assert_eq!(forget(&now, now.version), write(gone, ItemContent::Nothing));
        assert_eq!(forget(&now, now.version + 1), Step::Keep);
    }
    assert_eq!((delete(&gone), forget(&gone, 2)), (Step::Keep, Step::Keep));
    // A record that returns continues the version.
    let incoming = Incoming { hash: waiting().hash, noise: false, from_table: false, same_shown: false };
    let back = ItemState { version: 3, ..waiting() };
    assert_eq!(put(Some(&gone), incoming).0, write(back, ItemContent::Put));
}

#[test]
fn what_failed_is_tried_again_with_those_of_its_batch() {
    let table = [
        (failed("b"), None, true),
        (failed("b"), Some("b"), true),
        (failed("b"), Some("c"), false),
        (ItemState { deleted: true, ..failed("b") }, None, false),
        (pending("b"), Some("b"), false),
        (done(), None, false),
    ];
    for (now, of, again) in table {
        assert_eq!(retry(&now, of), if again { same(waiting()) } else { Step::Keep }, "{now:?} {of:?}");
    }
}

#[test]
fn what_the_vector_store_says_counts_for_the_version_that_is_meant() {
    let gone = ItemState { deleted: true, version: 2, ..done() };
    assert_eq!(removed(&gone, 2), same(ItemState { stored: None, ..gone.clone() }));
    assert_eq!((removed(&gone, 1), removed(&waiting(), 1)), (Step::Keep, Step::Keep));
    let reused = ItemState { version: 2, reuse: true, stored: Some(1), ..waiting() };
    let (row, none) = (ItemState { reuse: false, ..reused.clone() }, ItemState { reuse: false, ..reused.clone() });
    assert_eq!(refreshed(&reused, 2, true), same(ItemState { status: Success, stored: Some(2), ..row }));
    assert_eq!(refreshed(&reused, 2, false), same(none.clone()));
    assert_eq!((refreshed(&reused, 1, true), refreshed(&none, 2, true)), (Step::Keep, Step::Keep));
    // A lost row is embedded again, with a version above the one in the vector store.
    let again = |version, held| ItemState { version, stored: held, status: ItemStatus::None, ..done() };
    let table = [
        (done(), Some(1), Step::Keep),
        (waiting(), Some(7), Step::Keep),
        (done(), None, same(again(2, None))),
        (done(), Some(7), same(again(8, Some(7)))),
        (ItemState { status: Noise, ..done() }, None, same(ItemState { status: Noise, ..again(2, None) })),
        (
            ItemState { stored: Some(1), ..pending("b") },
            None,
            same(ItemState { version: 2, status: ItemStatus::None, batch: None, ..pending("b") }),
        ),
    ];
    for (now, held, step) in table {
        assert_eq!(reconcile(&now, held), step, "{now:?} {held:?}");
    }
}

#[test]
fn a_table_is_told_once_and_a_record_is_done_with_its_text() {
    let now = ItemState { from_table: true, told: Some("1".into()), ..done() };
    assert_eq!(told(&now, "2"), same(ItemState { told: Some("2".into()), ..now.clone() }));
    assert_eq!((told(&now, "1"), told(&done(), "2")), (Step::Keep, Step::Keep));
    let gone = ItemState { deleted: true, ..done() };
    let (text, other) = (hash_of("text"), hash_of("other"));
    let found = [is_done(&done(), &text), is_done(&done(), &other), is_done(&gone, &text), is_done(&waiting(), &text)];
    assert_eq!(found, [true, false, false, false]);
}

#[test]
fn texts_of_several_models_are_counted_as_one() {
    let mut all = Vec::new();
    for (space, status, items) in [
        ("a", ItemStatus::None, 1),
        ("a", Failed, 2),
        ("documents", Pending, 3),
        ("b", Noise, 4),
        ("documents", Pending, 5),
    ] {
        count(&mut all, space, status, items);
    }
    let counts = |space: &str| Counts { space: space.into(), ..Counts::default() };
    let expected = [
        Counts { none: 1, failed: 2, ..counts("a") },
        Counts { pending: 8, ..counts("documents") },
        Counts { noise: 4, ..counts("b") },
    ];
    assert_eq!(all, expected);
}
