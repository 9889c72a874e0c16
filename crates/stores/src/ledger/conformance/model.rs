//! Compares the ledger with a model under random steps of several processes. The ledger's sums must equal the totals
//! of its entries. They must also equal the totals that the model computes from the ledger's answers.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 40_000;

/// Holds the state that a reservation must have according to the ledger's answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Reserved(u64),
    Settled(u64),
    Released,
    InDoubt(u64),
}

type Step = (u8, usize, usize, u64);

/// Runs `cases` cases of random steps, each on a fresh world that `world` creates.
pub fn sums_are_what_entries_add_up_to<W: World>(cases: u32, world: impl AsyncFn() -> W) {
    let configuration = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    proptest::test_runner::TestRunner::new(configuration)
        .run(&prop::collection::vec((0u8..6, 0usize..3, 0usize..8, 1u64..500), 1..40), |steps| {
            runtime.block_on(async { one(&world().await, steps).await });
            Ok(())
        })
        .unwrap();
}

async fn one(w: &impl World, steps: Vec<Step>) {
    let processes = [w.another().await, w.another().await, w.another().await];
    let budget = Budget { run: None, day: Some(Nanodollars(LIMIT)) };
    let mut ids: Vec<EntryId> = Vec::new();
    let mut known: HashMap<EntryId, Known> = HashMap::new();
    for (what, process, which, tokens) in steps {
        let ledger = &processes[process];
        let Some(id) = ids.get(which).cloned().filter(|_| what > 2) else {
            // Reserve concurrently; each reservation has its own outcome.
            let asks = (0..3).map(|n| ledger.reserve(spend(&format!("r{process}"), &n.to_string(), tokens), budget));
            for asked in futures_util::future::join_all(asks).await {
                if let ReservationOutcome::Given(reservation) = asked.unwrap() {
                    known.insert(reservation.id.clone(), Known::Reserved(20 * tokens));
                    ids.push(reservation.id);
                }
            }
            continue;
        };
        let now = known[&id];
        let open = matches!(now, Known::Reserved(_) | Known::InDoubt(_));
        let next = match (what, now) {
            (3, _) => {
                // The charge does not exceed the reservation, so that only the budget is tested.
                let cost = match now {
                    Known::Reserved(cost) | Known::InDoubt(cost) => cost.min(20 * tokens),
                    _ => 7,
                };
                ledger.settle(&id, tokens, Nanodollars(cost)).await.unwrap();
                Known::Settled(cost)
            }
            (4, _) => {
                ledger.release(&id).await.unwrap();
                Known::Released
            }
            (_, Known::Reserved(cost)) => {
                ledger.doubt(&id).await.unwrap();
                Known::InDoubt(cost)
            }
            (_, other) => {
                ledger.doubt(&id).await.unwrap();
                other
            }
        };
        if open {
            known.insert(id, next);
        }
        let (settled, reserved, in_doubt) = total(w.ledger()).await;
        assert!(settled + reserved + in_doubt <= LIMIT, "{settled} {reserved} {in_doubt}");
    }
    let mut expected = (0, 0, 0);
    for one in known.values() {
        match one {
            Known::Settled(cost) => expected.0 += cost,
            Known::Reserved(cost) => expected.1 += cost,
            Known::InDoubt(cost) => expected.2 += cost,
            Known::Released => {}
        }
    }
    assert_eq!(total(w.ledger()).await, expected);
    let sums = fold(w.ledger().report(GroupBy::Day, "", 100).await.unwrap());
    assert_eq!(sums, fold(w.ledger().report(GroupBy::Subject, "", 100).await.unwrap()));
}

fn fold(lines: Vec<CostLine>) -> [Amount; 3] {
    lines.into_iter().fold([Amount::default(); 3], |mut sum, line| {
        for (sum, more) in sum.iter_mut().zip([line.settled, line.reserved, line.in_doubt]) {
            sum.calls += more.calls;
            sum.tokens += more.tokens;
            sum.cost += more.cost;
        }
        sum
    })
}
