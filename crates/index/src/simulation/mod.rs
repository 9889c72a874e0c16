//! Simulates whole processes that run the real code. The processes are writers, compactors, a collector, readers, and
//! a process that rolls back. All processes share one faulty store and one clock, and only the scheduler advances the
//! clock.
//!
//! The scheduler polls one process at a time. Between two polls it may advance the clock, or kill a process at an
//! await point and start it again. The store fails before or after it applies a write, loses replies, applies writes
//! late, and returns stale listings. Everything depends on the seed. `DOCWEIR_TEST_SEED=n` replays one schedule,
//! `DOCWEIR_TEST_SCHEDULES=n` sets the number of schedules, and `DOCWEIR_TEST_FIRST_SEED=n` the first seed.
//!
//! After each poll, [`truth`] checks that every new state of the manifest shows exactly the committed content.

mod processes;
pub mod truth;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use docweir_core::clock::ManualClock;
use docweir_objects::memory::{Faults, MemoryObjects};
use processes::{Kind, World, process};
use truth::Truth;

use super::planted::{SkippedRule, plant};
use super::{VectorOptions, VectorStore};

/// Reports the result of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct SimulationRun {
    violation: Option<String>,
    /// Number of operations on the store. All runs with the same seed have the same number.
    operations: u64,
    commits: u64,
    merges: u64,
    deletions: u64,
    rollbacks: u64,
    kills: u64,
    dropped_tombstones: u64,
}

impl SimulationRun {
    /// Adds another result, and keeps the first violation.
    fn add(&mut self, other: SimulationRun) {
        self.violation = self.violation.take().or(other.violation);
        self.operations += other.operations;
        self.commits += other.commits;
        self.merges += other.merges;
        self.deletions += other.deletions;
        self.rollbacks += other.rollbacks;
        self.kills += other.kills;
        self.dropped_tombstones += other.dropped_tombstones;
    }
}

/// Number of polls in one schedule.
const POLLS: usize = 700;

fn run(seed: u64) -> SimulationRun {
    let mut random = fastrand::Rng::with_seed(seed);
    let clock = Arc::new(ManualClock::at(1_700_000_000_000_000));
    let chance = [0.0, 0.02, 0.1, 0.25][random.usize(..4)];
    let objects = Arc::new(MemoryObjects::with_faults(clock.clone(), random.u64(..), Faults::all(chance)));
    objects.record("MANIFEST");
    let world = Rc::new(RefCell::new(World::new(objects.clone(), clock.clone(), random.fork())));
    let mut truth = Truth::new(objects.clone());

    let mut kinds = vec![Kind::Writer, Kind::Writer, Kind::Compactor, Kind::Collector, Kind::Reader];
    kinds.extend((0..random.usize(..3)).map(|_| Kind::Writer));
    kinds.extend((0..random.usize(..2)).map(|_| Kind::Compactor));
    kinds.extend((0..random.usize(..2)).map(|_| Kind::Reader));
    kinds.extend(random.bool().then_some(Kind::Rollback));
    let start = |kind: Kind, random: &mut fastrand::Rng| -> Pin<Box<dyn Future<Output = ()>>> {
        let options = VectorOptions { commit_attempts: 6, read_attempts: 4, ..VectorOptions::default() };
        let store = VectorStore::new(objects.clone(), "chunks", clock.clone(), options).unwrap();
        let store = Arc::new(store.seeded(random.u64(..)));
        Box::pin(process(kind, store, world.clone(), random.fork()))
    };
    let mut processes: Vec<_> = kinds.iter().map(|&kind| start(kind, &mut random)).collect();
    let mut context = Context::from_waker(Waker::noop());
    let mut outcome = SimulationRun::default();
    // Poll until which each process is suspended (SIGSTOP).
    let mut stopped = vec![0usize; kinds.len()];
    for poll in 0..POLLS {
        let one = random.usize(..processes.len());
        if stopped[one] > poll {
            continue;
        }
        match random.u32(..400) {
            0..4 => {
                processes[one] = start(kinds[one], &mut random);
                outcome.kills += 1;
            }
            4..8 => stopped[one] = poll + random.usize(..300),
            8..20 => clock.advance(Duration::from_millis(random.u64(..5_000))),
            20..26 => clock.advance(Duration::from_secs(random.u64(..200))),
            _ => {}
        }
        if let Poll::Ready(()) = processes[one].as_mut().poll(&mut context) {
            processes[one] = start(kinds[one], &mut random);
        }
        let judged = truth.judge().and_then(|()| truth.acknowledged(&mut world.borrow_mut()));
        if let Err(violation) = judged {
            outcome.violation = Some(format!("seed {seed}, poll {poll}: {violation}"));
            break;
        }
    }
    drop(processes);
    let world = world.borrow();
    outcome.operations = objects.operations();
    (outcome.commits, outcome.merges, outcome.deletions) = (world.commits, world.merges, world.deletions);
    (outcome.rollbacks, outcome.dropped_tombstones) = (world.rollbacks, world.dropped_tombstones);
    outcome
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |n| n.parse().unwrap())
}

/// Runs schedules on two threads. Returns the sum of all results, including the first violation, and the number of
/// runs.
fn run_all(seeds: std::ops::Range<u64>, bug: Option<SkippedRule>) -> (SimulationRun, u64) {
    let half = |odd: u64| {
        let seeds = seeds.clone();
        move || {
            plant(bug);
            let (mut sum, mut runs) = (SimulationRun::default(), 0);
            for seed in seeds.filter(|s| s % 2 == odd) {
                sum.add(run(seed));
                runs += 1;
                if sum.violation.is_some() {
                    break;
                }
            }
            plant(None);
            (sum, runs)
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(half(1));
        let (mut sum, runs) = half(0)();
        let (two, more) = other.join().unwrap();
        sum.add(two);
        (sum, runs + more)
    })
}

#[test]
fn no_schedule_shows_what_was_not_committed() {
    if let Ok(seed) = std::env::var("DOCWEIR_TEST_SEED") {
        let outcome = run(seed.parse().unwrap());
        println!("{outcome:?}");
        assert_eq!(outcome.violation, None);
        return;
    }
    let first = number("DOCWEIR_TEST_FIRST_SEED", 0);
    let (sum, runs) = run_all(first..first + number("DOCWEIR_TEST_SCHEDULES", 1_000), None);
    println!("{runs} schedules: {sum:?}");
    assert_eq!(sum.violation, None);
    // A simulator in which too little happens would find nothing.
    for (what, count) in [
        ("commits", sum.commits),
        ("merges", sum.merges),
        ("deletions", sum.deletions),
        ("rollbacks", sum.rollbacks),
        ("kills", sum.kills),
        ("dropped tombstones", sum.dropped_tombstones),
    ] {
        assert!(count >= runs / 20, "only {count} {what} in {runs} schedules");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 14, 15] {
        assert_eq!(run(seed), run(seed));
    }
}

#[test]
fn each_planted_bug_is_found() {
    for bug in [
        SkippedRule::NoFloor,
        SkippedRule::NoSequence,
        SkippedRule::InputsNeedNotBeLive,
        SkippedRule::BlindSwap,
        SkippedRule::TombstonesDropped,
        SkippedRule::RollbackKeepsFloor,
        SkippedRule::PinsIgnored,
    ] {
        let (sum, runs) = run_all(0..number("DOCWEIR_TEST_BUG_SCHEDULES", 20_000), Some(bug));
        println!("{bug:?}: after {runs} schedules: {:?}", sum.violation);
        assert!(sum.violation.is_some(), "{bug:?} was not found in {runs} schedules");
    }
}
