//! Defines the state that the actors share, and checks the invariants of this state.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use docweir_index::manifest::{LiveFile, Manifest, ManifestVersion};
use docweir_index::retention::is_garbage;
use docweir_index::validate::{Precedence, Stamp};

use crate::actors::{Lease, Pin, Unpinned, WriterActor};

pub const DOCUMENTS: usize = 2;
pub const SLOTS: usize = 2;
pub const STAMP: Stamp = Stamp { now: 0, history_entries: 64 };

/// Describes a document version in a file. `commit` identifies the commit that introduced this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub document: u8,
    pub version: u8,
    pub tombstone: bool,
    pub commit: u8,
    /// Manifest version in which a merged tombstone became live. `None` for rows, and for a tombstone in the file of
    /// its commit: it is as old as the file.
    pub added: Option<ManifestVersion>,
}

/// Holds the content of an immutable file in the object store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    pub base: ManifestVersion,
    pub changes: Vec<Change>,
}

/// Holds the content that a reader should see. For each document, this is the highest committed version and a flag that
/// is true if this version is a delete. `None` means that no version is committed.
pub type Truth = [Option<(u8, bool)>; DOCUMENTS];

/// Wraps a production manifest. Its hash leaves out fields that can be computed from other fields (history, format) and
/// fields that never change (times).
#[derive(Clone, Debug, PartialEq)]
pub struct Shared(Arc<Manifest>);

impl Shared {
    pub fn new(manifest: Manifest) -> Self {
        Self(Arc::new(manifest))
    }
}

impl Deref for Shared {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.0
    }
}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let m = &self.0;
        (m.version, m.epoch, m.gc_floor, m.retained_from, &m.commit_id).hash(hasher);
        for file in &m.live {
            (&file.file, file.base_version, file.added_version).hash(hasher);
        }
        for r in &m.removed {
            (&r.file.file, r.file.base_version, r.file.added_version, r.at_version).hash(hasher);
        }
        for (writer, mark) in &m.writers {
            (writer, mark.last_seq, mark.at_version).hash(hasher);
        }
    }
}

/// Names a violation of an invariant. A violation that is recorded in a state is also recorded in all later states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    Missing,
    WrongContent,
    NotOnce,
    StaleEpoch,
    TornRead,
    GarbageCameBack,
    CalledDamage,
}

impl Breach {
    /// Returns the text of the invariant that this violation breaks.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "I1 no file of a live or retained version is missing",
            Self::WrongContent => "I2 each retained version shows what was committed",
            Self::NotOnce => "I3 a commit is applied once and live in one file",
            Self::StaleEpoch => "I4 no older epoch commits after a newer one",
            Self::TornRead => "I5 a reader with a pin misses no file",
            Self::GarbageCameBack => "I6 garbage stays garbage",
            Self::CalledDamage => "I7 an intact store is never reported as damaged",
        }
    }
}

/// Names an event that may occur in an exploration. If an expected event never occurs, the bounds are too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    OneSnapshotOfBoth,
    TombstoneDropped,
    SnapshotOfNothing,
    Deleted,
    RolledBack,
    UndoneDeleted,
    Forgotten,
    LostReplyResolved,
    LostInstallResolved,
    LateArrival,
    StalledRefused,
    ClaimAbandoned,
    InstallRefused,
    PinSpared,
    PinGivenUp,
    Reloaded,
    /// The protocol acknowledged a commit that a rollback had already undone.
    AcknowledgedUndone,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub struct State {
    pub manifest: Shared,
    pub objects: Arc<BTreeMap<String, Arc<Content>>>,
    /// Expected content by manifest version; `None` for versions that are not retained.
    pub truths: Vec<Option<Truth>>,
    /// Newest version of each document in the control store.
    pub minted: [u8; DOCUMENTS],
    /// Versions that delete a document: one number per document, with one bit per version.
    pub deletes: [u8; DOCUMENTS],
    /// Versions whose commit was acknowledged: one number per document, with one bit per version.
    pub acknowledged: [u8; DOCUMENTS],
    /// Set of commits that were applied, one bit per commit.
    pub applied: u16,
    pub writers: [WriterActor; SLOTS],
    pub leases: [Lease; SLOTS],
    /// Files that a collector has decided to delete. It may delete each of these files at any time.
    pub doomed: BTreeSet<String>,
    pub pin: Pin,
    pub unpinned: Unpinned,
    /// Files that pins protected when a mutant read the pins, which it does earlier than the real protocol. `None` in
    /// the real protocol.
    pub early: Option<Vec<String>>,
    pub spent: Spent,
    /// Violations so far, one bit per [`Breach`].
    pub breaches: u8,
}

/// Counts the events of each kind that have occurred, for comparison with the [bounds](crate::model::Bounds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub begins: u8,
    pub merges: u8,
    pub raises: u8,
    pub rollbacks: u8,
    pub forgets: u8,
    pub faults: u8,
    pub crashes: u8,
    pub reads: u8,
}

impl State {
    pub fn new() -> Self {
        Self {
            manifest: Shared::new(Manifest::empty("chunks", 0)),
            objects: Arc::default(),
            truths: vec![Some([None; DOCUMENTS])],
            minted: [0; DOCUMENTS],
            deletes: [0; DOCUMENTS],
            acknowledged: [0; DOCUMENTS],
            applied: 0,
            writers: Default::default(),
            leases: Default::default(),
            doomed: BTreeSet::new(),
            pin: Pin::default(),
            unpinned: Unpinned::default(),
            early: None,
            spent: Spent::default(),
            breaches: 0,
        }
    }

    pub fn breach(&mut self, breach: Breach) {
        self.breaches |= 1 << breach as u8;
    }

    pub fn is_breached(&self, breach: Breach) -> bool {
        self.breaches & (1 << breach as u8) != 0
    }

    pub fn truth(&self) -> Truth {
        self.truths.last().copied().flatten().unwrap_or_default()
    }

    pub fn truth_at(&self, version: ManifestVersion) -> Truth {
        self.truths.get(version as usize).copied().flatten().unwrap_or_default()
    }

    pub fn stage(&mut self, name: String, content: Content) {
        Arc::make_mut(&mut self.objects).insert(name, Arc::new(content));
    }

    pub fn delete(&mut self, name: &str) {
        Arc::make_mut(&mut self.objects).remove(name);
        self.doomed.remove(name);
        self.judge();
    }

    /// Replaces the manifest by the next one and checks all invariants. `truth` is the expected content of the next
    /// version.
    pub fn swap(&mut self, next: Manifest, truth: Truth) {
        let came_back = |(name, content): (&String, &Arc<Content>)| {
            is_garbage(&self.manifest, name, content.base) && !is_garbage(&next, name, content.base)
        };
        if self.objects.iter().any(came_back) {
            self.breach(Breach::GarbageCameBack);
        }
        self.truths.push(Some(truth));
        for past in self.truths.iter_mut().take(next.retained_from as usize) {
            *past = None;
        }
        for writer in &mut self.writers {
            // A request that has not arrived yet expects the previous manifest, so it would be refused.
            writer.in_flight = None;
        }
        self.manifest = Shared::new(next);
        self.judge();
    }

    fn judge(&mut self) {
        let (mut missing, mut wrong) = (false, false);
        for version in self.manifest.retained_from..=self.manifest.version {
            let files = self.manifest.live_at(version);
            if files.iter().any(|f| !self.objects.contains_key(&f.file)) {
                missing = true;
            } else if self.visible(&files) != rows(&self.truth_at(version)) {
                wrong = true;
            }
        }
        let mut commits = BTreeSet::new();
        let live = self.manifest.live.iter().filter_map(|f| self.objects.get(&f.file));
        let twice = live.flat_map(|c| &c.changes).any(|c| !commits.insert((c.commit, c.document)));
        let reads_back = reads_back(&self.manifest);
        for (broken, breach) in [
            (missing, Breach::Missing),
            (wrong, Breach::WrongContent),
            (twice, Breach::NotOnce),
            (!reads_back, Breach::CalledDamage),
            (self.pin.is_torn(&self.manifest, &self.objects), Breach::TornRead),
        ] {
            if broken {
                self.breach(breach);
            }
        }
    }

    /// Returns the version of each document that a reader of `files` sees. The version is `None` if the document is not
    /// in the files or is deleted.
    fn visible(&self, files: &[&LiveFile]) -> [Option<u8>; DOCUMENTS] {
        let winners = winners(files.iter().filter_map(|f| Some((f.file.as_str(), self.objects.get(&f.file)?))));
        winners.map(|w| w.filter(|(_, c)| !c.tombstone).map(|(_, c)| c.version))
    }
}

/// Returns whether the production code can read the manifest back. Many states have the same manifest, so each thread
/// caches the result for each manifest.
fn reads_back(manifest: &Shared) -> bool {
    thread_local!(static TRIED: RefCell<HashMap<u64, bool>> = RefCell::default());
    let mut hasher = DefaultHasher::new();
    manifest.hash(&mut hasher);
    let parse = || manifest.version == 0 || Manifest::parse("MANIFEST", &manifest.to_bytes()).is_ok();
    TRIED.with_borrow_mut(|tried| *tried.entry(hasher.finish()).or_insert_with(parse))
}

fn rows(truth: &Truth) -> [Option<u8>; DOCUMENTS] {
    truth.map(|t| t.filter(|(_, tombstone)| !tombstone).map(|(version, _)| version))
}

/// Returns the change that determines the content of each document, and the file that contains this change. This is the
/// change with the highest [`Precedence`].
pub fn winners<'a>(
    files: impl Iterator<Item = (&'a str, &'a Arc<Content>)>,
) -> [Option<(&'a str, &'a Change)>; DOCUMENTS] {
    let rank = |file, c: &Change| Precedence { version: c.version.into(), tombstone: c.tombstone, file };
    let mut winners: [Option<(&str, &Change)>; DOCUMENTS] = [None; DOCUMENTS];
    for (file, content) in files {
        for change in &content.changes {
            let held = &mut winners[usize::from(change.document)];
            if held.is_none_or(|(f, c)| rank(file, change) > rank(f, c)) {
                *held = Some((file, change));
            }
        }
    }
    winners
}
