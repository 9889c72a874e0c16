//! Tests random sequences of operations on a collection against a plain map ([`Truth`]). The real code runs on a
//! faulty store, one step after the other. A failing sequence shrinks to the few steps that matter.
//!
//! The simulator interleaves whole processes at every await point. Here the steps are few, and only their order
//! varies. `PROPTEST_CASES` sets the number of cases.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use docweir_core::cancel::Cancel;
use docweir_objects::memory::{Faults, MemoryObjects};
use proptest::prelude::*;

use super::compaction::{CompactionOptions, Compactor, Mode};
use super::retention::RetentionOptions;
use super::simulation::truth::Truth;
use super::testing::content;
use super::testing::{delete, document, model, objects, poll_some, run, store};
use super::*;

fn write((n, version): (u8, u64)) -> Write {
    let name = format!("doc_{n}");
    match content(n, version) {
        Some(texts) => document(&name, version, &texts.iter().map(String::as_str).collect::<Vec<_>>()),
        None => delete(&name, version),
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Commits new versions of `documents`. If `drop_after` is set, the commit is polled this many times and then
    /// dropped.
    Commit {
        writer: usize,
        documents: Vec<u8>,
        drop_after: Option<usize>,
    },
    /// Lets both writers commit concurrently. `schedule` gives the order in which they are polled.
    Race {
        documents: [Vec<u8>; 2],
        schedule: Vec<bool>,
        drop_after: [Option<usize>; 2],
    },
    /// Plans a merge, then commits the documents in `between`, and then installs the merge.
    Compact {
        all: bool,
        between: Vec<u8>,
        drop_after: Option<usize>,
    },
    /// Collects garbage. `reach` selects the files: 0 for files whose retention has expired, 1 for all files that no
    /// manifest lists, and 2 for all files that are not live.
    Collect {
        reach: u8,
        drop_after: Option<usize>,
    },
    /// Rolls back to one of the kept versions. `share` is 0 for the oldest and 1 for the newest.
    RollBack {
        share: f64,
    },
    /// Pins the newest version if nothing is pinned. Otherwise views the pinned version and removes the pin.
    Mark,
    /// Restarts the process of a writer.
    Reopen {
        writer: usize,
    },
    /// Delivers the requests that the store has delayed.
    ApplyPending,
    Wait {
        seconds: u32,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let documents = || proptest::collection::vec(0..4u8, 1..4);
    let dropped = || proptest::option::weighted(0.3, 0..60usize);
    let step = prop_oneof![
        6 => (0..2usize, documents(), dropped())
            .prop_map(|(writer, documents, drop_after)| Step::Commit { writer, documents, drop_after }),
        2 => ([documents(), documents()], proptest::collection::vec(any::<bool>(), 0..60), [dropped(), dropped()])
            .prop_map(|(documents, schedule, drop_after)| Step::Race { documents, schedule, drop_after }),
        4 => (any::<bool>(), proptest::collection::vec(0..4u8, 0..3), dropped())
            .prop_map(|(all, between, drop_after)| Step::Compact { all, between, drop_after }),
        3 => (0..3u8, dropped()).prop_map(|(reach, drop_after)| Step::Collect { reach, drop_after }),
        1 => (0.0..=1.0f64).prop_map(|share| Step::RollBack { share }),
        2 => Just(Step::Mark),
        1 => (0..2usize).prop_map(|writer| Step::Reopen { writer }),
        1 => Just(Step::ApplyPending),
        1 => (0..200u32).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 1..24)
}

struct World {
    objects: Arc<MemoryObjects>,
    stores: [Arc<VectorStore>; 2],
    writers: [CollectionWriter; 2],
    compactor: Compactor,
    truth: Truth,
    versions: BTreeMap<u8, u64>,
    mark: Option<Pinned>,
    minted: u64,
    epoch: u64,
    faults: Faults,
    acknowledged: usize,
}

/// Returns the value of a step. Returns `None` if the step was dropped, or if it failed with a transient or throttled
/// error. Panics on any other error.
fn passes<T>(result: Option<Result<T, VectorError>>) -> Option<T> {
    match result? {
        Ok(value) => Some(value),
        Err(e) => {
            assert!(e.class().is_temporary(), "{e}");
            None
        }
    }
}

const FOR_EVER: usize = 1_000_000;

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let objects = objects(seed, faults);
        objects.record("MANIFEST");
        let stores = [store(&objects), store(&objects)];
        let writers = [stores[0].writer_seeded(seed), stores[1].writer_seeded(seed + 1)];
        let options = CompactionOptions { deltas: 2, tier_factor: 2, smallest_tier_rows: 2, ..Default::default() };
        let compactor = Compactor::seeded(stores[0].clone(), options, seed + 2);
        let truth = Truth::new(objects.clone());
        let (versions, minted) = (BTreeMap::new(), seed + 3);
        Self {
            objects,
            stores,
            writers,
            compactor,
            truth,
            versions,
            mark: None,
            minted,
            epoch: 0,
            faults,
            acknowledged: 0,
        }
    }

    fn writes(&mut self, documents: &[u8]) -> Vec<Write> {
        let mut next = |n: u8| {
            let version = self.versions.entry(n).or_default();
            *version += 1;
            (n, *version)
        };
        documents.iter().map(|&n| write(next(n))).collect()
    }

    fn commit(&mut self, writer: usize, documents: &[u8], polls: usize) {
        let writes = self.writes(documents);
        let m = model(3);
        let mut commit = pin!(self.writers[writer].commit(writes, &m));
        let done = passes(poll_some(&mut commit, polls));
        self.acknowledged += usize::from(done.is_some());
    }

    fn step(&mut self, step: Step) {
        let m = model(3);
        match step {
            Step::Commit { writer, documents, drop_after } => {
                self.commit(writer, &documents, drop_after.unwrap_or(FOR_EVER));
            }
            Step::Race { documents, schedule, drop_after } => {
                let writes = [self.writes(&documents[0]), self.writes(&documents[1])];
                let [one, other] = writes;
                let [first, second] = &mut self.writers;
                let mut first = pin!(first.commit(one, &m));
                let mut second = pin!(second.commit(other, &m));
                let mut left = drop_after.map(|d| d.unwrap_or(FOR_EVER));
                let mut done = [false; 2];
                let mut turn = |w: usize, polls: usize| {
                    let polls = polls.min(left[w]);
                    if !done[w] && polls > 0 {
                        left[w] -= polls;
                        let result = match w {
                            0 => poll_some(&mut first, polls),
                            _ => poll_some(&mut second, polls),
                        };
                        done[w] = result.is_some();
                        passes(result);
                    }
                };
                schedule.into_iter().for_each(|which| turn(usize::from(which), 1));
                turn(0, usize::MAX);
                turn(1, usize::MAX);
            }
            Step::Compact { all, between, drop_after } => {
                let polls = drop_after.unwrap_or(FOR_EVER);
                let mode = if all { Mode::All } else { Mode::Due };
                let due = passes(poll_some(&mut pin!(self.compactor.due(mode)), FOR_EVER)).flatten();
                let Some((manifest, inputs, why)) = due else { return };
                let cancelled = Cancel::default();
                let merge = self.compactor.merge(&manifest, &inputs, why, &cancelled);
                let Some(staged) = passes(poll_some(&mut pin!(merge), polls)) else { return };
                if !between.is_empty() {
                    self.commit(0, &between, FOR_EVER);
                }
                self.epoch += 1;
                passes(poll_some(&mut pin!(self.compactor.install(&staged, self.epoch)), polls));
            }
            Step::Collect { reach, drop_after } => {
                let retention =
                    RetentionOptions { snapshots: 1, merged_seconds: 20, staged_seconds: 10, ..Default::default() };
                let reach = [CollectionScope::Due(retention), CollectionScope::Orphans, CollectionScope::All]
                    [usize::from(reach)];
                let collected = self.stores[1].collect(reach);
                let collected = passes(poll_some(&mut pin!(collected), drop_after.unwrap_or(FOR_EVER)));
                assert!(collected.is_none_or(|c| c.unreadable.is_empty()));
            }
            Step::RollBack { share } => {
                let Some(manifest) = passes(Some(run(self.stores[0].manifest()))).flatten() else { return };
                let kept = manifest.version - manifest.retained_from;
                let target = manifest.retained_from + (kept as f64 * share) as u64;
                match run(self.stores[0].roll_back(target)) {
                    Err(VectorError::NotRetained { .. }) => {}
                    result => drop(passes(Some(result))),
                }
            }
            Step::Mark => match self.mark.take() {
                None => self.mark = passes(Some(run(self.stores[1].pin(None, 1_000_000)))),
                Some(mark) => {
                    if let Some(view) = passes(Some(run(self.stores[1].view_pinned(&mark)))) {
                        self.truth.is_seen(&view).unwrap();
                    }
                    let _ = run(self.stores[1].unpin(mark));
                }
            },
            Step::Reopen { writer } => {
                self.minted += 1;
                self.stores[writer] = store(&self.objects);
                self.writers[writer] = self.stores[writer].writer_seeded(self.minted);
            }
            Step::ApplyPending => self.objects.apply_pending(),
            Step::Wait { seconds } => self.objects.clock().advance(std::time::Duration::from_secs(seconds.into())),
        }
    }

    fn check(&mut self) {
        self.truth.judge().unwrap();
        // While the store is faulty, a reader may fail but must not show wrong content. Otherwise it must not fail.
        if let Ok(view) = run(self.stores[0].view()) {
            self.truth.is_seen(&view).unwrap();
        }
        self.objects.set_faults(Faults::default());
        for store in &self.stores {
            let view = run(store.view()).unwrap();
            self.truth.is_seen(&view).unwrap();
            let totals = run(store.totals()).unwrap();
            // Reading may deliver a commit that was delayed.
            if totals.version == view.version() {
                let seen = (view.documents().count() as u64, view.len() as u64);
                assert_eq!((totals.documents, totals.rows), seen);
            }
        }
        self.objects.set_faults(self.faults);
        // Reading may deliver requests that were delayed.
        self.truth.judge().unwrap();
    }
}

proptest! {
    // Runs 256 cases, or PROPTEST_CASES.
    #[test]
    fn whatever_is_done_the_map_is_shown(
        steps in steps(), seed in any::<u32>(), chance in prop_oneof![Just(0.0), Just(0.1), Just(0.3)]
    ) {
        let mut world = World::new(seed.into(), Faults::all(chance));
        for step in steps {
            world.step(step);
            world.check();
        }
        world.objects.apply_pending();
        world.check();
        // Without faults, everything succeeds.
        world.faults = Faults::default();
        world.objects.set_faults(Faults::default());
        let before = world.acknowledged;
        for writer in 0..2 {
            world.commit(writer, &[writer as u8], FOR_EVER);
            world.check();
        }
        prop_assert_eq!(world.acknowledged, before + 2);
        for step in [
            Step::Compact { all: true, between: vec![], drop_after: None },
            Step::Collect { reach: 2, drop_after: None },
        ] {
            world.step(step);
            world.check();
        }
        let verified = run(world.stores[0].verify()).unwrap();
        prop_assert_eq!(verified.findings, vec![]);
    }
}
