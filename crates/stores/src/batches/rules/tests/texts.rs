//! Tests the rules for texts of documents.

use super::super::texts::*;
use super::*;
use crate::batches::TextLookup;

#[test]
fn a_text_is_put_once_and_comes_back_as_a_new_version() {
    let hash = hash_of("text");
    assert_eq!(put(None, hash), write(waiting(), ItemContent::Put));
    assert_eq!(put(Some(&pending("b")), hash), Step::Keep);
    let gone = ItemState { deleted: true, version: 4, attempts: 3, ..waiting() };
    assert_eq!(put(Some(&gone), hash), write(ItemState { version: 5, ..waiting() }, ItemContent::Put));
}

#[test]
fn only_what_waits_is_embedded_at_once() {
    let done = ItemState { status: Success, ..waiting() };
    assert_eq!(embed_live(&waiting()), write(done.clone(), ItemContent::Vector));
    let gone = ItemState { deleted: true, ..waiting() };
    assert_eq!([embed_live(&pending("b")), embed_live(&done), embed_live(&gone)], [Step::Keep, Step::Keep, Step::Keep]);
}

#[test]
fn what_is_on_its_way_goes_with_its_batch() {
    let unwanted = ItemState { unwanted: true, ..pending("b") };
    let tomb = |now: ItemState| ItemState { deleted: true, status: ItemStatus::None, batch: None, ..now };
    // The columns are: state, was sent, remembered.
    let table = [
        (pending("b"), false, false, same(unwanted.clone())),
        (pending("b"), true, false, write(unwanted.clone(), ItemContent::NoInput)),
        (pending("b"), true, true, write(unwanted.clone(), ItemContent::NoInput)),
        (waiting(), false, false, Step::Delete),
        (done(), true, false, Step::Delete),
        (failed("b"), true, true, write(tomb(failed("b")), ItemContent::Nothing)),
        (tomb(done()), true, true, Step::Keep),
    ];
    for (now, was_sent, remembered, step) in table {
        assert_eq!(discard(&now, was_sent, remembered), step, "{now:?} {was_sent} {remembered}");
    }
    assert_eq!((want(&unwanted), want(&pending("b"))), (same(pending("b")), Step::Keep));
}

#[test]
fn what_a_document_is_answered() {
    let vector = vec![1.0, 0.0];
    let known = |status, has: bool, is_payer| {
        Some(KnownText { status, error: None, vector: has.then(|| vector.clone()), is_payer })
    };
    let refused = Some(KnownText { error: Some("400".into()), ..known(Failed, false, true).unwrap() });
    let (mine, theirs) = (known(Success, true, true), known(Success, true, false));
    let (waits, out) = (known(ItemStatus::None, false, true), known(Pending, false, true));
    let ready = |n: usize, tokens| TextLookup::Ready { vectors: vec![vector.clone(); n], tokens };
    // The columns are: known state of each text, whether the document was told to embed its texts, and the answer.
    let table = [
        (vec![], false, TextLookup::Ready { vectors: vec![], tokens: 0 }),
        (vec![None, waits.clone()], false, TextLookup::Waits(2)),
        (vec![mine.clone(), theirs.clone()], false, ready(2, 3)),
        (vec![mine.clone(), theirs], true, ready(2, 3)),
        (vec![mine.clone(), out.clone()], false, TextLookup::Waits(1)),
        (vec![mine.clone(), waits], true, TextLookup::Live { vectors: vec![Some(vector.clone()), None], tokens: 3 }),
        (vec![out], true, TextLookup::Waits(1)),
        (vec![mine, refused], true, TextLookup::Failed("400".into())),
    ];
    for (texts, live, answer) in table {
        let mut question = Question::default();
        for text in &texts {
            let asked = question.add(3, text.clone());
            let expected = match text {
                None => TextAction::Put,
                Some(known) if known.status == Failed => TextAction::Discard,
                Some(_) => TextAction::Keep,
            };
            assert_eq!(asked, expected);
        }
        assert_eq!(question.answer(live), answer, "{texts:?} {live}");
    }
}
