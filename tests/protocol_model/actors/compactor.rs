//! Models compactors, which plan and install merges while they hold a lease.
//!
//! Each slot represents a lease, not a process. The second lease has the higher epoch. A holder does not notice that it
//! has lost its lease. The holders of both leases may therefore plan and install merges in any order.
//!
//! Planning a merge, merging, and staging the snapshot are combined into one step, which hides no failure. Files never
//! change, so reading them later would return the same rows or fail. A merge whose read fails is abandoned. If the
//! snapshot is stored earlier than in production, the only effect is that it can be deleted earlier.

use std::borrow::Cow;
use std::sync::Arc;

use docweir_index::manifest::{FileKind, LiveFile, ManifestVersion};
use docweir_index::retention::may_drop_tombstone;
use docweir_index::validate::{Install, Refusal, is_installed, may_install_snapshot, proposed};

use crate::model::{Guard, Protocol, Step};
use crate::state::{Breach, Change, Content, STAMP, Shared, State, Witness, winners};

#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Lease {
    merges: u8,
    work: Option<Arc<Merge>>,
}

/// Holds a merge that is complete but not yet installed.
#[derive(Clone, Debug, PartialEq, Hash)]
struct Merge {
    base: ManifestVersion,
    inputs: Vec<String>,
    /// True if any rows are left after the merge.
    snapshot: bool,
    /// Manifest from which the merge was planned. It is set only for a mutant that installs the merge on this manifest
    /// and overwrites the current one without a comparison. `None` in the real protocol.
    planned: Option<Shared>,
}

fn name_of(lease: u8, merges: u8) -> String {
    format!("s{lease}{merges}")
}

impl Protocol {
    pub fn compactor_steps(&self, s: &State, lease: u8, steps: &mut Vec<Step>) {
        let me = &s.leases[usize::from(lease)];
        if me.work.is_some() {
            steps.push(Step::Install { lease, lost: false });
            if s.spent.faults < self.bounds.faults {
                steps.push(Step::Install { lease, lost: true });
            }
            // A crash has the same effect as stopping for ever, unless the lease's holder may still begin another
            // merge.
            if s.spent.merges < self.bounds.merges && s.spent.crashes < self.bounds.crashes {
                steps.push(Step::CrashCompactor { lease });
            }
        } else if s.spent.merges < self.bounds.merges {
            let all = (1u8 << s.manifest.live.len()) - 1;
            steps.extend((1..=all).map(|inputs| Step::Merge { lease, inputs }));
        }
    }

    pub fn merge(&self, s: &mut State, lease: u8, mask: u8) -> bool {
        let manifest = s.manifest.clone();
        let taken = |i: usize| mask & (1 << i) != 0;
        let (mut inside, mut outside): (Vec<&LiveFile>, Vec<&LiveFile>) = (Vec::new(), Vec::new());
        for (i, file) in manifest.live.iter().enumerate() {
            if taken(i) { inside.push(file) } else { outside.push(file) }
        }
        if inside.iter().any(|f| !s.objects.contains_key(&f.file)) {
            s.breach(Breach::Missing);
            return true;
        }
        let changes = |files: &[&LiveFile]| -> Vec<Change> {
            files.iter().filter_map(|f| s.objects.get(&f.file)).flat_map(|c| c.changes.clone()).collect()
        };
        let others = changes(&outside);
        let added = |file: &str, change: &Change| {
            let of_file = || inside.iter().find(|f| f.file == file).map_or(0, |f| f.added_version);
            change.added.unwrap_or_else(of_file)
        };
        let may_leave_out = |file: &str, change: &Change| {
            let older = others.iter().any(|o| o.document == change.document && o.version < change.version);
            change.tombstone
                && (!older || !self.has(Guard::NothingOlderOutside))
                && (may_drop_tombstone(&manifest, added(file, change)) || !self.has(Guard::TombstoneFloor))
        };
        let files = inside.iter().filter_map(|f| Some((f.file.as_str(), s.objects.get(&f.file)?)));
        let (dropped, kept): (Vec<_>, Vec<_>) =
            winners(files).into_iter().flatten().partition(|(file, change)| may_leave_out(file, change));
        if !dropped.is_empty() {
            self.witness(Witness::TombstoneDropped);
        }
        let aged = |(file, change): (&str, &Change)| Change {
            added: change.tombstone.then(|| added(file, change)),
            ..*change
        };
        let kept: Vec<Change> = kept.into_iter().map(aged).collect();
        let snapshot = !kept.is_empty();
        if inside.len() == 1 && dropped.is_empty() {
            // Such a merge would gain nothing, and production never plans it.
            return false;
        }
        let inputs = inside.iter().map(|f| f.file.clone()).collect();
        let me = &mut s.leases[usize::from(lease)];
        let name = name_of(lease, me.merges);
        let planned = (!self.has(Guard::CompareAndSwap)).then(|| manifest.clone());
        me.work = Some(Arc::new(Merge { base: manifest.version, inputs, snapshot, planned }));
        me.merges += 1;
        s.spent.merges += 1;
        if snapshot {
            s.stage(name, Content { base: manifest.version, changes: kept });
        }
        true
    }

    /// Makes one attempt to install the merge. Checks whether an earlier attempt was applied, checks the merge with the
    /// production rules, and swaps the manifest.
    pub fn install(&self, s: &mut State, lease: u8, lost: bool) -> bool {
        let me = &mut s.leases[usize::from(lease)];
        let name = name_of(lease, me.merges.saturating_sub(1));
        let Some(work) = me.work.take() else { return false };
        let install = Install {
            snapshot: work.snapshot.then(|| proposed(name.clone(), FileKind::Snapshot, 1, work.base)),
            base_version: work.base,
            inputs: work.inputs.clone(),
            epoch: u64::from(lease) + 1,
            commit_id: name,
        };
        let manifest = work.planned.clone().unwrap_or_else(|| s.manifest.clone());
        if is_installed(&manifest, &install) {
            self.witness(Witness::LostInstallResolved);
            return !lost;
        }
        let mut judged = Cow::Borrowed(&*manifest);
        if !self.has(Guard::FloorOnInstall) {
            judged.to_mut().gc_floor = 0;
        }
        if !self.has(Guard::Epoch) {
            judged.to_mut().epoch = 0;
        }
        if !self.has(Guard::InputsLive) {
            for input in install.inputs.iter().filter(|i| !manifest.is_live(i)) {
                let once = manifest.removed.iter().find(|r| r.file.file == *input);
                judged.to_mut().live.extend(once.map(|r| r.file.clone()));
            }
        }
        match may_install_snapshot(&judged, &install, STAMP) {
            Ok(mut next) => {
                next.gc_floor = manifest.gc_floor;
                next.removed.retain(|r| r.at_version != next.version || manifest.is_live(&r.file.file));
                next.version = s.manifest.version + 1;
                if install.epoch < s.manifest.epoch {
                    s.breach(Breach::StaleEpoch);
                }
                if install.snapshot.is_none() {
                    self.witness(Witness::SnapshotOfNothing);
                }
                s.swap(next, s.truth());
                if lost {
                    s.spent.faults += 1;
                    s.leases[usize::from(lease)].work = Some(work);
                }
                true
            }
            Err(_) if lost => false,
            Err(Refusal::StaleEpoch { .. } | Refusal::BelowFloor { .. } | Refusal::InputNotLive(_)) => {
                self.witness(Witness::InstallRefused);
                true
            }
            Err(_) => {
                s.breach(Breach::CalledDamage);
                true
            }
        }
    }

    pub fn crash_compactor(&self, s: &mut State, lease: u8) -> bool {
        s.spent.crashes += 1;
        s.leases[usize::from(lease)].work.take().is_some()
    }
}
