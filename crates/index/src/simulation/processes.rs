//! Implements the simulated processes, and the control store that they share.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::clock::{Clock, ManualClock};
use docweir_objects::lease::LeaseRegister;
use docweir_objects::memory::MemoryObjects;

use super::truth::Content;
use crate::compaction::{CompactionOptions, Compactor, Installed, Mode};
use crate::retention::RetentionOptions;
use crate::testing::content;
use crate::testing::{delete, document, id, model};
use crate::{CollectionScope, VectorError, VectorStore, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Writer,
    Compactor,
    Collector,
    Reader,
    Rollback,
}

/// Holds the state that all simulated processes share.
pub struct World {
    pub objects: Arc<MemoryObjects>,
    clock: Arc<ManualClock>,
    random: fastrand::Rng,
    /// Newest version of each document in the simulated control store. A claim of an older version is no longer
    /// valid.
    versions: BTreeMap<u8, u64>,
    /// Files of the acknowledged commits that the test has not yet checked.
    pub acknowledged: Vec<String>,
    /// Views that readers have opened and the test has not yet checked.
    pub seen: Vec<Seen>,
    pub commits: u64,
    pub merges: u64,
    pub deletions: u64,
    pub rollbacks: u64,
    pub dropped_tombstones: u64,
    /// Descriptions of unexpected errors, which the faulty store cannot have caused.
    pub faults: Vec<String>,
}

/// Describes the content that a reader saw in one version.
pub struct Seen {
    pub version: u64,
    pub documents: Content,
}

const DOCUMENTS: u8 = 4;

impl World {
    pub fn new(objects: Arc<MemoryObjects>, clock: Arc<ManualClock>, random: fastrand::Rng) -> Self {
        Self {
            objects,
            clock,
            random,
            versions: BTreeMap::new(),
            acknowledged: Vec::new(),
            seen: Vec::new(),
            commits: 0,
            merges: 0,
            deletions: 0,
            rollbacks: 0,
            dropped_tombstones: 0,
            faults: Vec::new(),
        }
    }

    /// Claims a document by assigning its next version.
    fn claim(&mut self) -> (u8, u64) {
        let document = self.random.u8(..DOCUMENTS);
        let version = self.versions.entry(document).or_default();
        *version += 1;
        (document, *version)
    }

    fn holds(&self, (document, version): (u8, u64)) -> bool {
        self.versions.get(&document) == Some(&version)
    }
}

pub async fn process(kind: Kind, store: Arc<VectorStore>, world: Rc<RefCell<World>>, random: fastrand::Rng) {
    match kind {
        Kind::Writer => writer(store, world, random).await,
        Kind::Compactor => compactor(store, world, random).await,
        Kind::Collector => collector(store, world, random).await,
        Kind::Reader => reader(store, world, random).await,
        Kind::Rollback => rollback(store, world, random).await,
    }
}

/// Waits on the shared clock.
async fn wait(world: &Rc<RefCell<World>>, milliseconds: u64) {
    let clock = world.borrow().clock.clone();
    clock.sleep(Duration::from_millis(milliseconds)).await;
}

/// Accepts the error if the faulty store may have caused it. Otherwise records the error as a fault.
fn may_pass(world: &Rc<RefCell<World>>, what: &str, error: &VectorError) {
    if !error.class().is_temporary() {
        world.borrow_mut().faults.push(format!("{what}: {error}"));
    }
}

fn write((n, version): (u8, u64)) -> Write {
    let name = format!("doc_{n}");
    match content(n, version) {
        Some(texts) => document(&name, version, &texts.iter().map(String::as_str).collect::<Vec<_>>()),
        None => delete(&name, version),
    }
}

/// Claims new versions of documents and sometimes waits. Then reads the manifest as the base of a commit, drops the
/// claims that are no longer valid, and commits the remaining documents. Repeats a failed commit while at least one
/// claim is valid.
async fn writer(store: Arc<VectorStore>, world: Rc<RefCell<World>>, mut random: fastrand::Rng) {
    let mut writer = store.writer_seeded(random.u64(..));
    let model = model(3);
    loop {
        let mut claims: Vec<(u8, u64)> = Vec::new();
        for _ in 0..random.usize(1..4) {
            let claim = world.borrow_mut().claim();
            claims.retain(|c| c.0 != claim.0);
            claims.push(claim);
        }
        if random.u8(..4) == 0 {
            wait(&world, random.u64(..10_000)).await;
        }
        for _ in 0..4 {
            let base = match writer.begin().await {
                Ok(base) => base,
                Err(error) => {
                    may_pass(&world, "begin", &error);
                    continue;
                }
            };
            claims.retain(|claim| world.borrow().holds(*claim));
            if claims.is_empty() {
                break;
            }
            if random.u8(..4) == 0 {
                wait(&world, random.u64(..10_000)).await;
            }
            match writer.commit_on(base, claims.iter().copied().map(write).collect(), &model).await {
                Ok(committed) => {
                    let mut world = world.borrow_mut();
                    world.commits += 1;
                    world.deletions += committed.tombstones;
                    world.acknowledged.push(committed.file);
                    break;
                }
                Err(error) => may_pass(&world, "commit", &error),
            }
        }
        wait(&world, random.u64(..200)).await;
    }
}

/// Returns small limits, so that little data causes much work: few deltas per merge, many tiers, groups larger than
/// memory.
fn options(random: &mut fastrand::Rng) -> CompactionOptions {
    CompactionOptions {
        deltas: random.usize(2..4),
        tier_factor: 2,
        smallest_tier_rows: 2,
        memory_bytes: if random.bool() { 30_000 } else { 1 << 30 },
        threads: random.usize(1..3),
        ..CompactionOptions::default()
    }
}

async fn compactor(store: Arc<VectorStore>, world: Rc<RefCell<World>>, mut random: fastrand::Rng) {
    let (objects, clock) = (world.borrow().objects.clone(), world.borrow().clock.clone());
    let register = LeaseRegister::new(objects, "vectors/chunks/LEASE".into(), clock);
    let options = options(&mut random);
    let mut compactor = Compactor::seeded(store, options, random.u64(..));
    let holder = random.u64(..).to_string();
    loop {
        let mode = if random.u8(..3) == 0 { Mode::All } else { Mode::Due };
        // From time to time, the plan is outdated when it is carried out.
        let due = compactor.due(mode).await;
        let Ok(Some((manifest, inputs, why))) = due else {
            if let Err(error) = due {
                may_pass(&world, "plan", &error);
            }
            wait(&world, random.u64(..400)).await;
            continue;
        };
        if random.u8(..6) == 0 {
            wait(&world, random.u64(..400_000)).await;
        }
        let ttl = Duration::from_secs(random.u64(1..300));
        let Ok(Some(lease)) = register.acquire(&holder, ttl, manifest.epoch).await else {
            wait(&world, random.u64(..400)).await;
            continue;
        };
        match compactor.merge(&manifest, &inputs, why, &Cancel::default()).await {
            Ok(staged) => match compactor.install(&staged, lease.record.epoch).await {
                Ok(Installed::Yes(_)) => {
                    let mut world = world.borrow_mut();
                    world.merges += 1;
                    world.dropped_tombstones += staged.report.dropped_tombstones;
                }
                Ok(Installed::Superseded(_)) => {}
                Err(error) => may_pass(&world, "install", &error),
            },
            // The inputs of an old plan may have been deleted by now.
            Err(VectorError::Object(_)) => {}
            Err(error) => may_pass(&world, "merge", &error),
        }
        if random.bool() {
            let _ = register.release(&lease).await;
        }
    }
}

async fn collector(store: Arc<VectorStore>, world: Rc<RefCell<World>>, mut random: fastrand::Rng) {
    let retention = RetentionOptions {
        snapshots: random.usize(..3),
        merged_seconds: random.u64(..100),
        max_files: random.usize(1..100),
        staged_seconds: random.u64(1..50),
        pin_seconds: 10_000,
        poll_seconds: 1,
    };
    loop {
        let reach = [
            CollectionScope::Due(retention),
            CollectionScope::Due(retention),
            CollectionScope::Orphans,
            CollectionScope::All,
        ][random.usize(..4)];
        match store.collect(reach).await {
            Ok(collected) if !collected.unreadable.is_empty() => {
                world.borrow_mut().faults.push(format!("unreadable: {:?}", collected.unreadable));
            }
            Ok(_) => {}
            Err(error) => may_pass(&world, "collect", &error),
        }
        wait(&world, random.u64(..3_000)).await;
    }
}

async fn reader(store: Arc<VectorStore>, world: Rc<RefCell<World>>, mut random: fastrand::Rng) {
    loop {
        if random.bool() {
            match store.view().await {
                Ok(view) => world.borrow_mut().seen.push(seen(&view)),
                Err(error) => may_pass(&world, "view", &error),
            }
        } else {
            pinned(&store, &world, &mut random).await;
        }
        wait(&world, random.u64(..1_000)).await;
    }
}

/// Checks that a pinned version stays readable until the pin expires, whatever the collector does.
async fn pinned(store: &Arc<VectorStore>, world: &Rc<RefCell<World>>, random: &mut fastrand::Rng) {
    let mark = match store.pin(None, 1_000_000).await {
        Ok(mark) => mark,
        Err(error) => return may_pass(world, "pin", &error),
    };
    for _ in 0..random.usize(1..4) {
        wait(world, random.u64(..60_000)).await;
        match store.view_pinned(&mark).await {
            Ok(view) => world.borrow_mut().seen.push(seen(&view)),
            Err(VectorError::Damaged { .. }) => {
                world.borrow_mut().faults.push(format!("pinned version {} has lost a file", mark.version));
            }
            Err(error) => may_pass(world, "pinned view", &error),
        }
    }
    let _ = store.unpin(mark).await;
}

fn seen(view: &crate::View) -> Seen {
    let documents = (0..DOCUMENTS).filter_map(|n| {
        let name = id(&format!("doc_{n}"));
        let (version, _) = view.version_of(&name)?;
        let texts = view.rows_of(&name).into_iter().map(|row| row.text).collect();
        Some((n, (version, texts)))
    });
    Seen { version: view.version(), documents: documents.collect() }
}

async fn rollback(store: Arc<VectorStore>, world: Rc<RefCell<World>>, mut random: fastrand::Rng) {
    loop {
        wait(&world, random.u64(..20_000)).await;
        for _ in 0..random.usize(..60) {
            wait(&world, 1).await;
        }
        let Ok(Some(manifest)) = store.manifest().await else { continue };
        let target = random.u64(manifest.retained_from..=manifest.version);
        match store.roll_back(target).await {
            Ok(_) => world.borrow_mut().rollbacks += 1,
            Err(VectorError::NotRetained { .. }) => {}
            Err(error) => may_pass(&world, "rollback", &error),
        }
    }
}
