//! The commit protocol on the real code over a faulty store, against a plain map.
//!
//! What must hold after every step: an acknowledged commit is live; a live file is of a commit that was asked for; no
//! commit is live twice; and what a view shows is, of each document, the highest version among the live commits, with
//! exactly its rows.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use proptest::prelude::*;

use super::testing::{delete, document, id, model, objects, poll_some, run, store};
use super::*;
use crate::error::ErrorClass;
use crate::stores::objects::memory::{Faults, MemoryObjects};

/// What a document is at a version: the same whoever writes it.
fn content(document: u8, version: u64) -> Option<Vec<String>> {
    let kind = (u64::from(document) * 7 + version * 3) % 5;
    (kind > 0).then(|| (1..kind).map(|i| format!("document {document} version {version} row {i}")).collect())
}

fn write(n: u8, version: u64) -> Write {
    let name = format!("doc_{n}");
    match content(n, version) {
        Some(texts) => document(&name, version, &texts.iter().map(String::as_str).collect::<Vec<_>>()),
        None => delete(&name, version),
    }
}

type Changes = Vec<(u8, u64)>;

#[derive(Clone, Debug)]
enum Step {
    /// A commit of one writer; dropped after so many polls, if at all.
    Commit { writer: usize, changes: Changes, drop_after: Option<usize> },
    /// Both writers commit at once, in the order that the flags give.
    Race { changes: [Changes; 2], schedule: Vec<bool>, drop_after: [Option<usize>; 2] },
    /// The process of a writer starts anew.
    Reopen { writer: usize },
    /// Requests that were under way arrive.
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let changes = || proptest::collection::vec((0..5u8, 1..8u64), 1..5);
    let dropped = || proptest::option::of(0..40usize);
    let step = prop_oneof![
        4 => (0..2usize, changes(), dropped())
            .prop_map(|(writer, changes, drop_after)| Step::Commit { writer, changes, drop_after }),
        3 => ([changes(), changes()], proptest::collection::vec(any::<bool>(), 0..60), [dropped(), dropped()])
            .prop_map(|(changes, schedule, drop_after)| Step::Race { changes, schedule, drop_after }),
        1 => (0..2usize).prop_map(|writer| Step::Reopen { writer }),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..12)
}

struct World {
    objects: Arc<MemoryObjects>,
    stores: [Arc<VectorStore>; 2],
    writers: [Writer; 2],
    sequences: [u64; 2],
    minted: u64,
    asked: BTreeMap<(String, u64), Changes>,
    acked: BTreeSet<(String, u64)>,
    faults: Faults,
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let objects = objects(seed, faults);
        let stores = [store(&objects), store(&objects)];
        let writers = [stores[0].writer_seeded(seed), stores[1].writer_seeded(seed + 1)];
        let (asked, acked) = Default::default();
        Self { objects, stores, writers, sequences: [0; 2], minted: seed + 2, asked, acked, faults }
    }

    /// Notes that a commit begins (it does with its first poll) and gives its name.
    fn begin(&mut self, writer: usize, changes: &Changes, drop_after: Option<usize>) -> (String, u64) {
        self.sequences[writer] += u64::from(drop_after != Some(0));
        let name = (self.writers[writer].id().to_owned(), self.sequences[writer]);
        if drop_after != Some(0) {
            self.asked.insert(name.clone(), changes.clone());
        }
        name
    }

    fn ended(&mut self, name: (String, u64), result: Option<Result<Committed, VectorError>>) {
        match result {
            Some(Ok(_)) => {
                self.acked.insert(name);
            }
            Some(Err(e)) => assert!(matches!(e.class(), ErrorClass::Transient | ErrorClass::Throttled), "{e}"),
            None => {}
        }
    }

    fn step(&mut self, step: Step) {
        let m = model(3);
        let writes = |changes: &Changes| changes.iter().map(|(d, v)| write(*d, *v)).collect::<Vec<_>>();
        match step {
            Step::Commit { writer, changes, drop_after } => {
                let name = self.begin(writer, &changes, drop_after);
                let result = {
                    let mut commit = pin!(self.writers[writer].commit(writes(&changes), &m));
                    poll_some(&mut commit, drop_after.unwrap_or(1_000_000))
                };
                self.ended(name, result);
            }
            Step::Race { changes, schedule, drop_after } => {
                let names = [0, 1].map(|w| self.begin(w, &changes[w], drop_after[w]));
                let mut results = [None, None];
                {
                    let [first, second] = &mut self.writers;
                    let mut first = pin!(first.commit(writes(&changes[0]), &m));
                    let mut second = pin!(second.commit(writes(&changes[1]), &m));
                    let mut left = drop_after.map(|d| d.unwrap_or(1_000_000));
                    let mut turn = |w: usize, polls: usize| {
                        if results[w].is_none() && left[w] > 0 {
                            let polls = polls.min(left[w]);
                            left[w] -= polls;
                            results[w] = match w {
                                0 => poll_some(&mut first, polls),
                                _ => poll_some(&mut second, polls),
                            };
                        }
                    };
                    schedule.into_iter().for_each(|which| turn(usize::from(which), 1));
                    turn(0, usize::MAX);
                    turn(1, usize::MAX);
                }
                for (name, result) in names.into_iter().zip(results) {
                    self.ended(name, result);
                }
            }
            Step::Reopen { writer } => {
                self.minted += 1;
                self.stores[writer] = store(&self.objects);
                self.writers[writer] = self.stores[writer].writer_seeded(self.minted);
                self.sequences[writer] = 0;
            }
            Step::Settle => self.objects.settle(),
        }
    }

    fn check(&self) {
        // A reader in bad weather: it may fail, it may not show something wrong.
        let in_bad_weather = run(self.stores[0].view());
        self.objects.set_faults(Faults::default());
        if let Ok(view) = in_bad_weather {
            self.check_view(&self.stores[0], &view);
        }
        for store in &self.stores {
            self.check_view(store, &run(store.view()).unwrap());
        }
        self.objects.set_faults(self.faults);
    }

    fn check_view(&self, store: &VectorStore, view: &View) {
        let mut live = BTreeSet::new();
        for file in &view.manifest().live {
            let header = run(store.footer(&file.file, file.bytes)).unwrap().header;
            assert!(live.insert((header.writer, header.sequence)), "a commit is live twice");
        }
        let lost: Vec<_> = self.acked.difference(&live).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let mut expected: BTreeMap<u8, u64> = BTreeMap::new();
        for name in &live {
            for (document, version) in self.asked.get(name).expect("live and never asked for") {
                let held = expected.entry(*document).or_default();
                *held = (*held).max(*version);
            }
        }
        let mut visible = 0;
        for (document, version) in expected {
            let name = id(&format!("doc_{document}"));
            let texts: Vec<String> = view.rows_of(&name).into_iter().map(|r| r.text).collect();
            match content(document, version) {
                Some(expected) => {
                    visible += 1;
                    assert_eq!(view.version_of(&name), Some((version, expected.len() as u32)));
                    assert_eq!(texts, expected);
                }
                None => assert!(view.version_of(&name).is_none() && texts.is_empty()),
            }
        }
        assert_eq!(view.documents().count(), visible);
    }
}

proptest! {
    // 256 cases, or PROPTEST_CASES.
    #[test]
    fn no_loss_no_duplicate_no_half_document(steps in steps(), seed in any::<u32>(), chance in prop_oneof![Just(0.0), Just(0.1), Just(0.3)]) {
        let mut world = World::new(seed.into(), Faults::all(chance));
        for step in steps {
            world.step(step);
            world.check();
        }
        world.objects.settle();
        world.check();
        // In good weather both writers go on.
        world.faults = Faults::default();
        world.objects.set_faults(Faults::default());
        for writer in 0..2 {
            world.step(Step::Commit { writer, changes: vec![(writer as u8, 100)], drop_after: None });
        }
        world.check();
        prop_assert!(world.acked.len() >= 2);
    }
}
