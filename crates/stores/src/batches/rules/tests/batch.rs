//! Tests the selection of items for batches, and the changes that events make to batches.

use std::sync::Arc;

use docweir_core::model::{Metric, ModelIdentity};
use docweir_core::money::Nanodollars;

use super::super::batch::*;
use super::super::packing::*;
use super::*;
use crate::batches::{BatchStatus, Checked, Ending, Order, Space};
use crate::ledger::{Budget, EntryId, Mode, Spend};

fn order() -> Order {
    Order {
        id: "batch".into(),
        space: Space::Records("lines".into()),
        model: ModelIdentity { id: "m".into(), weights: "served".into(), dimension: 2, metric: Metric::Cosine },
        endpoint: "https://example.com/v1".into(),
        most_requests: 3,
        most_bytes: 100,
        most_tokens: 50,
        line_bytes: Arc::new(|_, _| 0),
        spend: Spend {
            run: "r".into(),
            mode: Mode::Live,
            stage: "embedding".into(),
            model: "m".into(),
            collection: "c".into(),
            subject: String::new(),
            tokens: 0,
            cost: Nanodollars::ZERO,
        },
        usd_per_million_tokens: 0.01,
        budget: Budget::default(),
    }
}

#[test]
fn a_batch_takes_what_every_limit_allows() {
    use Offer::*;
    // The columns are: bytes and tokens of the items, the budget's remaining amount, and the outcome of each offer.
    let table = [
        (vec![(60, 1), (40, 1), (1, 1)], None, vec![Taken, Taken, Complete]),
        (vec![(101, 1)], None, vec![Full]),
        (vec![(1, 51)], None, vec![Full]),
        (vec![(1, 30), (1, 20), (1, 1)], None, vec![Taken, Taken, Complete]),
        (vec![(1, 1), (1, 1), (1, 1), (1, 1)], None, vec![Taken, Taken, Taken, Complete]),
        // A token costs ten nanodollars. If the budget does not allow even one item, the reservation refuses it.
        (vec![(1, 5), (1, 5), (1, 1)], Some(100), vec![Taken, Taken, Complete]),
        (vec![(1, 5), (1, 1)], Some(0), vec![Taken, Complete]),
    ];
    for (items, room, offers) in table {
        let mut selection = Selection::new(&order(), room.map(Nanodollars));
        let found: Vec<Offer> = items.iter().map(|(bytes, tokens)| selection.offer(*bytes, *tokens)).collect();
        assert_eq!(found, offers, "{items:?} {room:?}");
        let taken = items.iter().zip(&offers).filter(|(_, offer)| **offer == Taken);
        let sums = taken.fold((0, 0, 0), |(n, b, t), ((bytes, tokens), _)| (n + 1, b + bytes, t + tokens));
        assert_eq!((selection.items, selection.bytes, selection.tokens), sums);
        assert_eq!(selection.is_complete(), sums.0 == 3);
    }
    let spend = spend(&order(), 7);
    assert_eq!((spend.mode, spend.subject.as_str(), spend.tokens, spend.cost.0), (Mode::Batch, "batch", 7, 70));
}

#[test]
fn a_live_call_takes_one_record_at_least() {
    let mut selection = LiveSelection::new(10, 100);
    assert_eq!([(11, 1), (1, 1)].map(|(tokens, bytes)| selection.offer(tokens, bytes)), [true, false]);
    let mut selection = LiveSelection::new(10, 100);
    assert_eq!([(5, 50), (5, 50), (0, 1)].map(|(tokens, bytes)| selection.offer(tokens, bytes)), [true, true, false]);
}

#[test]
fn what_an_event_changes_in_a_record() {
    let text = |text: &str| Value::Text(text.into());
    let checked = |error: Option<&str>, charged_tokens| Checked {
        status: BatchStatus::InProgress,
        done: 2,
        charged_tokens,
        output_file_id: Some("out".into()),
        error_file_id: None,
        expires_at: None,
        error: error.map(str::to_owned),
        error_lines: vec![1, 7],
    };
    let ending = |error: Option<&str>, charged_tokens| Ending {
        status: BatchStatus::Failed,
        charged_tokens,
        usd_per_million_tokens: 0.01,
        most_attempts: 3,
        undone: false,
        error: error.map(str::to_owned),
    };
    let totals = BatchTotals { stored: 5, failed: 1, returned: 2 };
    let (nothing, all) = (checked(None, None), checked(Some("odd"), Some(9)));
    let (unknown, known) = (ending(None, None), ending(Some("expired"), Some(9)));
    let says = |more: Changes| {
        let mut changes = vec![
            ("status", text("IN_PROGRESS")),
            ("done", Value::Number(2)),
            ("checked_at", text("now")),
            ("error_lines", text("[1,7]")),
            ("output_file_id", text("out")),
            ("error_file_id", Value::Nothing),
            ("expires_at", Value::Nothing),
        ];
        changes.extend(more);
        changes
    };
    let ends = |charged, more: Changes| {
        let mut changes = vec![
            ("status", text("FAILED")),
            ("charged_tokens", charged),
            ("stored", Value::Number(5)),
            ("failed", Value::Number(1)),
            ("returned", Value::Number(2)),
            ("stale", Value::Number(3)),
            ("ended_at", text("now")),
        ];
        changes.extend(more);
        changes
    };
    let taken = vec![("provider_id", text("p")), ("submitted_at", text("now")), ("status", text("VALIDATING"))];
    let twins = ["t".to_owned()];
    let table: Vec<(Event<'_>, Changes)> = vec![
        (Event::Uploaded { file: "f" }, vec![("input_file_id", text("f"))]),
        (Event::Asked, vec![("asked_at", text("now"))]),
        (Event::NotTaken, vec![("asked_at", Value::Nothing)]),
        (Event::Unconfirmed, vec![("asked_at", Value::Nothing), ("unconfirmed", Value::Yes)]),
        (Event::Twins(&twins), vec![("twins", text("[\"t\"]"))]),
        (Event::FileLost, vec![("input_file_id", Value::Nothing)]),
        (Event::TakenOver { provider_id: "p" }, taken),
        (Event::Warned, vec![("warned", Value::Yes)]),
        (Event::Cancel, vec![("cancel", Value::Yes)]),
        // An earlier error or charge from the provider is kept.
        (Event::Checked(&nothing), says(vec![])),
        (Event::Checked(&all), says(vec![("error", text("odd")), ("charged_tokens", Value::Number(9))])),
        // Only the end of the batch can record an unknown charge.
        (Event::Ended { ending: &unknown, items: 11, totals }, ends(Value::Nothing, vec![])),
        (Event::Ended { ending: &known, items: 11, totals }, ends(Value::Number(9), vec![("error", text("expired"))])),
    ];
    for (event, expected) in table {
        assert_eq!(changes(&event, "now"), expected, "{event:?}");
    }
}

#[test]
fn what_is_none_of_a_batch_is_stale() {
    let mut totals = BatchTotals::default();
    [ItemOutcome::Stored, ItemOutcome::Stored, ItemOutcome::Failed, ItemOutcome::Returned]
        .into_iter()
        .for_each(|fate| totals.add(fate));
    assert_eq!(totals, BatchTotals { stored: 2, failed: 1, returned: 1 });
    assert_eq!((totals.stale(6), totals.stale(4), totals.stale(0)), (2, 0, 0));
    let batch = packed(&order(), 3, 9, EntryId::new("e"), "now");
    let open = (batch.status, batch.ended_at, batch.asked_at, batch.provider_id, batch.cancel);
    assert_eq!(open, (BatchStatus::Pending, None, None, None, false));
    assert_eq!((batch.items, batch.tokens, batch.entry.as_str(), batch.created_at.as_str()), (3, 9, "e", "now"));
}
