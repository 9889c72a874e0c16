use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::stores::paid;
use crate::stores::sqlite::{Database, OpenOptions};

const OPTIONS: OpenOptions = OpenOptions { busy: Duration::from_secs(5), wal_pages: 1_000, page_cache_kibibytes: 512 };

struct Book {
    ledger: SqliteLedger,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
}

fn book() -> Book {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_795_305_600_000_000)); // 2026-11-22 00:00
    let ledger = SqliteLedger::new(open(&folder), clock.clone());
    Book { ledger, clock, folder }
}

fn open(folder: &tempfile::TempDir) -> Database {
    paid::open(&folder.path().join("paid.db"), &OPTIONS).unwrap()
}

fn spend(run: &str, subject: &str, tokens: u64) -> Spend {
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

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

impl Book {
    fn reserve(&self, spend: Spend, budget: Budget) -> Asked {
        run(self.ledger.reserve(spend, budget)).unwrap()
    }

    fn given(&self, spend: Spend) -> Reservation {
        match self.reserve(spend, Budget::default()) {
            Asked::Given(reservation) => reservation,
            refused => panic!("{refused:?}"),
        }
    }

    fn total(&self) -> (u64, u64, u64) {
        let lines = run(self.ledger.report(By::Day, "", 1_000)).unwrap();
        let sum = |of: fn(&Line) -> Amount| lines.iter().map(|l| of(l).cost.0).sum();
        (sum(|l| l.settled), sum(|l| l.reserved), sum(|l| l.in_doubt))
    }
}

#[test]
fn money_is_reserved_then_settled_released_or_in_doubt() {
    let b = book();
    let ids: Vec<i64> = ["a", "b", "c", "d"].iter().map(|s| b.given(spend("r1", s, 100)).id).collect();
    assert_eq!(b.total(), (0, 8_000, 0));
    run(b.ledger.settle(ids[0], 90, Nanodollars(1_800))).unwrap();
    run(b.ledger.release(ids[1])).unwrap();
    run(b.ledger.doubt(ids[2])).unwrap();
    assert_eq!(b.total(), (1_800, 2_000, 2_000));
    // An outcome is written once; what was in doubt may still become known.
    run(b.ledger.settle(ids[0], 1, Nanodollars(1))).unwrap();
    run(b.ledger.doubt(ids[0])).unwrap();
    run(b.ledger.settle(ids[2], 100, Nanodollars(2_000))).unwrap();
    assert_eq!(b.total(), (3_800, 2_000, 0));
    let lines = run(b.ledger.report(By::Subject, "", 10)).unwrap();
    let names: Vec<_> = lines.iter().map(|l| (l.name.as_str(), l.settled.tokens, l.reserved.tokens)).collect();
    assert_eq!(names, [("a", 90, 0), ("c", 100, 0), ("d", 0, 100)]);
}

#[test]
fn what_a_dead_run_left_is_in_doubt_and_batches_are_not() {
    let b = book();
    b.given(spend("dead", "a", 100));
    b.given(spend("ours", "b", 10));
    b.given(Spend { mode: Mode::Batch, ..spend("dead", "batch", 1) });
    assert_eq!(run(b.ledger.doubt_others("ours")).unwrap(), 1);
    assert_eq!(b.total(), (0, 220, 2_000));
    // As another process sees it.
    let again = SqliteLedger::new(open(&b.folder), b.clock.clone());
    assert_eq!(run(again.doubt_others("ours")).unwrap(), 0);
}

#[test]
fn a_budget_counts_what_is_open_and_begins_anew_each_day_and_run() {
    let b = book();
    let budget = Budget { run: Some(Nanodollars(5_000)), day: Some(Nanodollars(6_000)) };
    let first = match b.reserve(spend("r1", "a", 200), budget) {
        Asked::Given(reservation) => reservation,
        refused => panic!("{refused:?}"),
    };
    assert_eq!((first.run, first.day), (Nanodollars(4_000), Nanodollars(4_000)));
    let refused = Asked::Refused { period: Period::Run, spent: Nanodollars(4_000), limit: Nanodollars(5_000) };
    assert_eq!(b.reserve(spend("r1", "b", 51), budget), refused);
    assert!(matches!(b.reserve(spend("r1", "b", 50), budget), Asked::Given(_)), "up to the limit, and not over it");
    let refused = Asked::Refused { period: Period::Day, spent: Nanodollars(5_000), limit: Nanodollars(6_000) };
    assert_eq!(b.reserve(spend("r2", "c", 51), budget), refused);
    run(b.ledger.release(first.id)).unwrap();
    assert!(matches!(b.reserve(spend("r2", "c", 51), budget), Asked::Given(_)), "what was not charged is free again");
    b.clock.advance(Duration::from_secs(86_400));
    assert!(matches!(b.reserve(spend("r3", "d", 250), budget), Asked::Given(_)), "another day");
    assert_eq!(run(b.ledger.report(By::Day, "2026-11-23", 10)).unwrap().len(), 1);
}

#[test]
fn entries_are_forgotten_and_sums_are_not() {
    let b = book();
    let settled = b.given(spend("r1", "a", 10)).id;
    run(b.ledger.settle(settled, 10, Nanodollars(200))).unwrap();
    b.given(spend("r1", "b", 10));
    b.clock.advance(Duration::from_secs(3 * 86_400));
    assert_eq!(run(b.ledger.forget_before("2026-11-24")).unwrap(), 1);
    assert_eq!(b.total(), (200, 200, 0), "and what is open stays");
    assert_eq!(run(b.ledger.report(By::Subject, "", 10)).unwrap().len(), 1);
}

#[test]
fn a_batch_is_settled_in_the_names_of_its_documents() {
    let b = book();
    let id = b.given(Spend { mode: Mode::Batch, ..spend("r1", "batch", 100) }).id;
    let shares = ["a", "b"].map(|s| Share { subject: s.into(), tokens: 40, cost: Nanodollars(400) });
    let database = open(&b.folder);
    run(database.write(move |tx| settle_in_parts(tx, id, &shares))).unwrap();
    assert_eq!(b.total(), (800, 0, 0));
    let lines = run(b.ledger.report(By::Subject, "", 10)).unwrap();
    assert_eq!(lines.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However calls end, the sums are those of the entries.
    #[test]
    fn sums_are_what_entries_add_up_to(steps in prop::collection::vec((0u8..5, 0usize..8, 1u64..500), 1..40)) {
        let b = book();
        let mut ids = Vec::new();
        for (what, which, tokens) in steps {
            let of = |ids: &[i64]| ids.get(which).copied();
            match what {
                0 | 1 => ids.push(b.given(spend("r", &which.to_string(), tokens)).id),
                2 => of(&ids).map_or(Ok(()), |id| run(b.ledger.settle(id, tokens, Nanodollars(tokens)))).unwrap(),
                3 => of(&ids).map_or(Ok(()), |id| run(b.ledger.release(id))).unwrap(),
                _ => of(&ids).map_or(Ok(()), |id| run(b.ledger.doubt(id))).unwrap(),
            }
        }
        let fold = |lines: Vec<Line>| lines.into_iter().fold([Amount::default(); 3], |mut sum, line| {
            for (sum, more) in sum.iter_mut().zip([line.settled, line.reserved, line.in_doubt]) {
                sum.calls += more.calls;
                sum.tokens += more.tokens;
                sum.cost += more.cost;
            }
            sum
        });
        let sums = fold(run(b.ledger.report(By::Day, "", 100)).unwrap());
        prop_assert_eq!(sums, fold(run(b.ledger.report(By::Subject, "", 100)).unwrap()));
    }
}
