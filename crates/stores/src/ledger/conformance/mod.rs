//! Tests the behaviour that every ledger must have. Each backend runs this suite on itself.

mod model;

use std::time::Duration;

use async_trait::async_trait;
use docweir_core::clock::{ManualClock, UnixMicros};

pub use model::sums_are_what_entries_add_up_to;

use super::*;

/// Time of the tests: 2096-11-22 00:00. The time lies in the future, because servers expire items by the real clock.
pub const NOW: UnixMicros = 4_004_380_800_000_000;
/// Number of days that settled entries are kept.
pub const ENTRY_DAYS: u32 = 90;

/// Provides a ledger under test, its clock, and further processes that use the ledger.
#[async_trait(?Send)]
pub trait World {
    fn ledger(&self) -> &dyn Ledger;
    fn clock(&self) -> &ManualClock;
    /// Opens the same ledger as a second process would.
    async fn another(&self) -> Box<dyn Ledger>;
}

/// Generates one test per behaviour. `$world` creates a fresh `World`, or returns `None` if its test server is not
/// available.
#[macro_export]
macro_rules! ledger_conformance {
    ($world:expr, $($behaviour:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $behaviour() {
            if let Some(world) = $world.await {
                $crate::ledger::conformance::$behaviour(&world).await;
            }
        })*
    };
    ($world:expr) => {
        $crate::ledger_conformance!(
            $world,
            money_is_reserved_then_settled_released_or_in_doubt,
            what_a_dead_process_left_is_in_doubt_and_batches_are_not,
            a_budget_counts_what_is_open_and_begins_anew_each_day_and_run,
            entries_are_forgotten_and_sums_are_not,
            a_batch_is_settled_in_the_names_of_its_documents,
            many_processes_at_once_never_pass_a_budget,
            a_report_is_by_what_is_asked_and_names_the_dearest,
        );
    };
}

pub fn spend(run: &str, subject: &str, tokens: u64) -> Spend {
    Spend {
        run: run.into(),
        mode: Mode::Live,
        stage: "embedding".into(),
        model: "m".into(),
        collection: "chunks".into(),
        subject: subject.into(),
        tokens,
        cost: Nanodollars(20 * tokens),
    }
}

pub async fn given(ledger: &dyn Ledger, spend: Spend) -> Reservation {
    match ledger.reserve(spend, Budget::default()).await.unwrap() {
        ReservationOutcome::Given(reservation) => reservation,
        refused => panic!("{refused:?}"),
    }
}

/// Returns the amounts that are settled, reserved and in doubt.
async fn total(ledger: &dyn Ledger) -> (u64, u64, u64) {
    let lines = ledger.report(GroupBy::Day, "", 1_000).await.unwrap();
    let sum = |of: fn(&CostLine) -> Amount| lines.iter().map(|l| of(l).cost.0).sum();
    (sum(|l| l.settled), sum(|l| l.reserved), sum(|l| l.in_doubt))
}

pub async fn money_is_reserved_then_settled_released_or_in_doubt(w: &impl World) {
    let l = w.ledger();
    let mut ids = Vec::new();
    for subject in ["a", "b", "c", "d"] {
        ids.push(given(l, spend("r1", subject, 100)).await.id);
    }
    assert_eq!(total(l).await, (0, 8_000, 0));
    l.settle(&ids[0], 90, Nanodollars(1_800)).await.unwrap();
    l.release(&ids[1]).await.unwrap();
    l.doubt(&ids[2]).await.unwrap();
    assert_eq!(total(l).await, (1_800, 2_000, 2_000));
    // An outcome is written once. An entry in doubt can still be settled.
    l.settle(&ids[0], 1, Nanodollars(1)).await.unwrap();
    l.doubt(&ids[0]).await.unwrap();
    l.release(&ids[0]).await.unwrap();
    l.settle(&ids[1], 1, Nanodollars(1)).await.unwrap();
    l.settle(&ids[2], 100, Nanodollars(2_000)).await.unwrap();
    assert_eq!(total(l).await, (3_800, 2_000, 0));
    let lines = l.report(GroupBy::Subject, "", 10).await.unwrap();
    let names: Vec<_> = lines.iter().map(|l| (l.name.as_str(), l.settled.tokens, l.reserved.tokens)).collect();
    assert_eq!(names, [("a", 90, 0), ("c", 100, 0), ("d", 0, 100)]);
}

pub async fn what_a_dead_process_left_is_in_doubt_and_batches_are_not(w: &impl World) {
    let dead = w.another().await;
    let left = given(dead.as_ref(), spend("dead", "a", 100)).await;
    given(dead.as_ref(), Spend { mode: Mode::Batch, ..spend("dead", "batch", 1) }).await;
    w.clock().advance(Duration::from_secs(600));
    given(w.ledger(), spend("ours", "b", 10)).await;
    assert_eq!(w.ledger().doubt_others("ours").await.unwrap(), 1);
    assert_eq!(total(w.ledger()).await, (0, 220, 2_000));
    assert_eq!(w.another().await.doubt_others("ours").await.unwrap(), 0);
    // The process was only suspended: its settlement is still accepted.
    dead.settle(&left.id, 90, Nanodollars(1_800)).await.unwrap();
    assert_eq!(total(w.ledger()).await, (1_800, 220, 0));
}

pub async fn a_budget_counts_what_is_open_and_begins_anew_each_day_and_run(w: &impl World) {
    let l = w.ledger();
    let budget = Budget { run: Some(Nanodollars(5_000)), day: Some(Nanodollars(6_000)) };
    let first = match l.reserve(spend("r1", "a", 200), budget).await.unwrap() {
        ReservationOutcome::Given(reservation) => reservation,
        refused => panic!("{refused:?}"),
    };
    assert_eq!((first.run, first.day), (Nanodollars(4_000), Nanodollars(4_000)));
    let refused =
        ReservationOutcome::Refused { period: Period::Run, spent: Nanodollars(4_000), limit: Nanodollars(5_000) };
    assert_eq!(l.reserve(spend("r1", "b", 51), budget).await.unwrap(), refused);
    let asked = l.reserve(spend("r1", "b", 50), budget).await.unwrap();
    assert!(matches!(asked, ReservationOutcome::Given(_)), "a cost up to the limit must be allowed");
    let refused =
        ReservationOutcome::Refused { period: Period::Day, spent: Nanodollars(5_000), limit: Nanodollars(6_000) };
    assert_eq!(w.another().await.reserve(spend("r2", "c", 51), budget).await.unwrap(), refused);
    l.release(&first.id).await.unwrap();
    let asked = l.reserve(spend("r2", "c", 51), budget).await.unwrap();
    assert!(matches!(asked, ReservationOutcome::Given(_)), "a released amount must be available again");
    w.clock().advance(Duration::from_secs(86_400));
    let asked = l.reserve(spend("r3", "d", 250), budget).await.unwrap();
    assert!(matches!(asked, ReservationOutcome::Given(_)), "another day");
    assert_eq!(l.report(GroupBy::Day, "2096-11-23", 10).await.unwrap().len(), 1);
}

pub async fn entries_are_forgotten_and_sums_are_not(w: &impl World) {
    let l = w.ledger();
    let settled = given(l, spend("r1", "a", 10)).await.id;
    l.settle(&settled, 10, Nanodollars(200)).await.unwrap();
    given(l, spend("r1", "b", 10)).await;
    l.forget_before("2096-11-22").await.unwrap();
    assert_eq!(l.report(GroupBy::Subject, "", 10).await.unwrap().len(), 2, "not yet");
    w.clock().advance(Duration::from_secs(u64::from(ENTRY_DAYS + 1) * 86_400));
    l.forget_before("2096-11-23").await.unwrap();
    assert_eq!(total(l).await, (200, 200, 0), "open entries are kept");
    assert_eq!(l.report(GroupBy::Subject, "", 10).await.unwrap().len(), 1);
}

pub async fn a_batch_is_settled_in_the_names_of_its_documents(w: &impl World) {
    let l = w.ledger();
    let id = given(l, Spend { mode: Mode::Batch, ..spend("r1", "batch", 20_000) }).await.id;
    // The batch has more shares than one write can hold.
    let shares: Vec<Share> =
        (0..205).map(|n| Share { subject: format!("doc{n:03}"), tokens: 40, cost: Nanodollars(400) }).collect();
    l.settle_in_parts(&id, &shares).await.unwrap();
    assert_eq!(total(l).await, (82_000, 0, 0));
    l.settle_in_parts(&id, &shares).await.unwrap();
    assert_eq!(total(l).await, (82_000, 0, 0), "settling twice changes nothing");
    let lines = l.report(GroupBy::Subject, "", 1_000).await.unwrap();
    assert_eq!((lines.len(), lines[7].name.as_str(), lines[7].settled.tokens), (205, "doc007", 40));
    let day = &l.report(GroupBy::Mode, "", 10).await.unwrap()[0];
    assert_eq!((day.name.as_str(), day.settled.calls, day.settled.tokens), ("batch", 1, 8_200), "one call");
}

pub async fn many_processes_at_once_never_pass_a_budget(w: &impl World) {
    const PROCESSES: usize = 20;
    let budget = Budget { run: None, day: Some(Nanodollars(100_000)) };
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        processes.push(w.another().await);
    }
    let work = processes.iter().enumerate().map(|(n, ledger)| async move {
        let (mut given, mut refused) = (Vec::new(), 0);
        let run = format!("r{n}");
        let asks = (0..10).map(|i| ledger.reserve(spend(&run, &format!("{n}.{i}"), 50), budget));
        for asked in futures_util::future::join_all(asks).await {
            match asked.unwrap() {
                ReservationOutcome::Given(reservation) => given.push(reservation),
                ReservationOutcome::Refused { period, limit, .. } => {
                    assert_eq!((period, limit), (Period::Day, Nanodollars(100_000)));
                    refused += 1;
                }
            }
        }
        for reservation in &given {
            ledger.settle(&reservation.id, 50, Nanodollars(1_000)).await.unwrap();
        }
        (given.len(), refused)
    });
    let done = futures_util::future::join_all(work).await;
    let (given, refused) = done.into_iter().fold((0, 0), |(g, r), (given, refused)| (g + given, r + refused));
    assert_eq!((given, refused), (100, 100));
    assert_eq!(total(w.ledger()).await, (100_000, 0, 0));
}

pub async fn a_report_is_by_what_is_asked_and_names_the_dearest(w: &impl World) {
    let l = w.ledger();
    for (n, tokens) in [(0, 5), (1, 50), (2, 500)] {
        let kind = Spend {
            model: format!("m{n}"),
            collection: format!("c{n}"),
            stage: format!("s{n}"),
            ..spend(&format!("r{n}"), &format!("d{n}"), tokens)
        };
        let id = given(l, kind).await.id;
        l.settle(&id, tokens, Nanodollars(20 * tokens)).await.unwrap();
    }
    for (by, letter) in [
        (GroupBy::Run, "r"),
        (GroupBy::Stage, "s"),
        (GroupBy::Model, "m"),
        (GroupBy::Collection, "c"),
        (GroupBy::Subject, "d"),
    ] {
        let lines = l.report(by, "2096-11-22", 2).await.unwrap();
        let found: Vec<_> = lines.iter().map(|l| (l.name.clone(), l.settled.tokens)).collect();
        assert_eq!(found, [(format!("{letter}1"), 50), (format!("{letter}2"), 500)], "{by:?}");
        assert!(l.report(by, "2096-11-23", 2).await.unwrap().is_empty());
    }
}
