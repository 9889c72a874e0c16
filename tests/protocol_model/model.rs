//! Defines the bounds of the model, its removable guards, and every step that an actor can take.

use std::sync::atomic::{AtomicU32, Ordering};

use docweir_index::manifest::ManifestVersion;
use docweir_index::retention::Horizons;
use stateright::{Model, Property};

use crate::state::{Breach, DOCUMENTS, State, Witness};

/// Limits the number of events of each kind in one exploration. Each swap of the manifest makes a version, so these
/// limits also limit the number of versions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub documents: u8,
    /// Number of versions that the control store assigns to each document.
    pub versions: u8,
    pub writers: u8,
    /// Number of commits that all writers together begin.
    pub begins: u8,
    /// Number of leases. Each lease has its own epoch.
    pub leases: u8,
    /// Number of merges under all leases together.
    pub merges: u8,
    /// Number of times that the horizons are raised.
    pub raises: u8,
    /// If true, the two horizons may be raised to different versions; if false, both are raised to the same version.
    pub horizons_apart: bool,
    pub rollbacks: u8,
    pub forgets: u8,
    /// Number of lost replies and late requests.
    pub faults: u8,
    /// Number of crashes, in which a writer or compactor loses its memory.
    pub crashes: u8,
    /// Number of reads with a pin. If it is zero, garbage is deleted at once; otherwise, the collector decides and
    /// deletes in separate steps.
    pub reads: u8,
    /// True if the exploration includes a reader without a pin.
    pub unpinned: bool,
}

/// Names the rules that keep the protocol correct. A mutant is the protocol without one or two of these rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    CompareAndSwap,
    FloorOnAppend,
    FloorOnInstall,
    WriterSequence,
    NamesOnce,
    InputsLive,
    Epoch,
    TombstoneFloor,
    NothingOlderOutside,
    ClaimAfterBase,
    RollbackRaisesFloor,
    Pins,
    ForgetsOnlyDeleted,
    PinsAfterHorizons,
    SecondLook,
    RetainedFrom,
}

#[derive(Debug, Default)]
pub struct Protocol {
    pub bounds: Bounds,
    pub without: Vec<Guard>,
    /// Events that occurred, one bit per [`Witness`]. They are kept outside the state. Otherwise, states that differ
    /// only in their past events would be explored separately.
    witnessed: AtomicU32,
    /// Violations that were already reported, one bit per [`Breach`]. Each violation is reported only the first time,
    /// because its first trace is the shortest. The checker would otherwise replace this trace by later ones.
    told: AtomicU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    Upsert,
    Delete,
    /// Commits the newest version of the document again. This is possible only while no commit of that version has been
    /// acknowledged.
    Again,
}

/// Lists the steps of all actors. `writer` and `lease` are the index of the actor's slot. `lost` is true if the reply
/// to the actor's request is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Claims a document and loads the manifest.
    Begin {
        writer: u8,
        document: u8,
        intent: Intent,
    },
    /// Checks the claim in the control store. Stages a delta if the claim is still valid.
    CheckAndStage {
        writer: u8,
    },
    Commit {
        writer: u8,
        lost: bool,
    },
    /// Aborts a commit whose request was sent. The request may still arrive later.
    GiveUp {
        writer: u8,
    },
    Arrive {
        writer: u8,
    },
    CrashWriter {
        writer: u8,
    },
    /// Merges live files into a snapshot. `inputs` has one bit for each live file.
    Merge {
        lease: u8,
        inputs: u8,
    },
    Install {
        lease: u8,
        lost: bool,
    },
    CrashCompactor {
        lease: u8,
    },
    Raise {
        to: Horizons,
    },
    LookAtPinsEarly,
    Decide,
    /// Deletes one file; `file` is its position in the listing of the object store.
    Delete {
        file: u8,
    },
    Forget,
    RollBack {
        to: ManifestVersion,
    },
    ReaderLoad,
    ReaderPin,
    ReaderLookAgain,
    ReaderDone,
    UnpinnedLoad,
    UnpinnedRead,
}

impl Protocol {
    pub fn new(bounds: Bounds, without: &[Guard]) -> Self {
        Self { bounds, without: without.to_vec(), ..Self::default() }
    }

    pub fn has(&self, guard: Guard) -> bool {
        !self.without.contains(&guard)
    }

    pub fn witness(&self, witness: Witness) {
        self.witnessed.fetch_or(1 << witness as u32, Ordering::Relaxed);
    }

    fn was_told(&self, breach: Breach) -> bool {
        let bit = 1 << breach as u32;
        self.told.fetch_or(bit, Ordering::Relaxed) & bit != 0
    }

    pub fn has_witnessed(&self, witness: Witness) -> bool {
        self.witnessed.load(Ordering::Relaxed) & (1 << witness as u32) != 0
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for writer in 0..self.bounds.writers {
            self.writer_steps(state, writer, steps);
        }
        for lease in 0..self.bounds.leases {
            self.compactor_steps(state, lease, steps);
        }
        self.collector_steps(state, steps);
        self.reader_steps(state, steps);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut s = last.clone();
        let done = match step {
            Step::Begin { writer, document, intent } => self.begin(&mut s, writer, document, intent),
            Step::CheckAndStage { writer } => self.check_and_stage(&mut s, writer),
            Step::Commit { writer, lost } => self.commit(&mut s, writer, lost),
            Step::GiveUp { writer } => self.give_up(&mut s, writer),
            Step::Arrive { writer } => self.arrive(&mut s, writer),
            Step::CrashWriter { writer } => self.crash_writer(&mut s, writer),
            Step::Merge { lease, inputs } => self.merge(&mut s, lease, inputs),
            Step::Install { lease, lost } => self.install(&mut s, lease, lost),
            Step::CrashCompactor { lease } => self.crash_compactor(&mut s, lease),
            Step::Raise { to } => self.raise(&mut s, to),
            Step::LookAtPinsEarly => self.look_at_pins_early(&mut s),
            Step::Decide => self.decide(&mut s),
            Step::Delete { file } => self.delete(&mut s, file),
            Step::Forget => self.forget(&mut s),
            Step::RollBack { to } => self.roll_back(&mut s, to),
            Step::ReaderLoad => self.reader_load(&mut s),
            Step::ReaderPin => self.reader_pin(&mut s),
            Step::ReaderLookAgain => self.reader_look_again(&mut s),
            Step::ReaderDone => self.reader_done(&mut s),
            Step::UnpinnedLoad => self.unpinned_load(&mut s),
            Step::UnpinnedRead => self.unpinned_read(&mut s),
        };
        if self.bounds.reads == 0 && done {
            self.collect(&mut s);
        }
        self.look(&s);
        done.then_some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! never {
            ($($breach:ident),*) => {
                vec![$(Property::always(Breach::$breach.name(), |m: &Self, s: &State| {
                    !s.is_breached(Breach::$breach) || m.was_told(Breach::$breach)
                })),*]
            };
        }
        never![Missing, WrongContent, NotOnce, StaleEpoch, TornRead, GarbageCameBack, CalledDamage]
    }
}

impl Protocol {
    fn look(&self, s: &State) {
        if let [only] = s.manifest.live.as_slice()
            && let Some(content) = s.objects.get(&only.file)
            && content.changes.len() == DOCUMENTS
        {
            self.witness(Witness::OneSnapshotOfBoth);
        }
    }
}
