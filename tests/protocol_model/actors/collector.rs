//! Models the collector and the administrator. The collector raises the horizons, deletes files, and removes deleted
//! files from the manifest's list of removed files ("forgets" them). A horizon is the oldest manifest version that
//! commits or readers may still use. The administrator rolls back to an earlier version.
//!
//! In explorations without readers, a file is deleted in the same step that makes it garbage. This is the worst case,
//! because an early deletion can only cause failures in other actors and never prevents one. Each swap checks that
//! garbage stays garbage (I6), so a late deletion does no more harm than an early deletion.
//!
//! In explorations with readers, the collector decides in one step which files to delete, from the manifest and the
//! pins. It may delete each of these files in any later step. The exploration therefore covers collectors that stop,
//! crash, resume or work in parallel.
//!
//! Production loads the manifest before it reads the pins, whereas the model reads both in one step. This hides no
//! failure, because an earlier manifest would name no more garbage than the current one.

use std::borrow::Cow;
use std::slice;

use docweir_index::manifest::{Manifest, ManifestVersion};
use docweir_index::retention::{Horizons, is_garbage, may_forget, may_raise};
use docweir_index::validate::may_roll_back;

use crate::model::{Guard, Protocol, Step};
use crate::state::{Breach, DOCUMENTS, STAMP, State, Witness};

impl Protocol {
    pub fn collector_steps(&self, s: &State, steps: &mut Vec<Step>) {
        let top = s.manifest.version + 1;
        if s.spent.raises < self.bounds.raises {
            let now = s.manifest.horizons();
            for gc_floor in now.gc_floor..=top {
                let together = now.retained_from.max(gc_floor);
                let (from, to) =
                    if self.bounds.horizons_apart { (now.retained_from, top) } else { (together, together) };
                for retained_from in from..=to {
                    let to = Horizons { gc_floor, retained_from };
                    if to != now {
                        steps.push(Step::Raise { to });
                    }
                }
            }
        }
        if self.bounds.reads > 0 {
            let looks_early = !self.has(Guard::PinsAfterHorizons) || !self.has(Guard::ForgetsOnlyDeleted);
            if s.early.is_none() && looks_early {
                steps.push(Step::LookAtPinsEarly);
            }
            steps.push(Step::Decide);
        }
        for (i, name) in s.objects.keys().enumerate() {
            if s.doomed.contains(name) {
                steps.push(Step::Delete { file: i as u8 });
            }
        }
        if s.spent.forgets < self.bounds.forgets && !self.forgettable(s).is_empty() {
            steps.push(Step::Forget);
        }
        if s.spent.rollbacks < self.bounds.rollbacks {
            steps.extend((s.manifest.retained_from..s.manifest.version).map(|to| Step::RollBack { to }));
        }
    }

    /// Deletes all garbage in one step, as the fastest possible collector would.
    pub fn collect(&self, s: &mut State) {
        for name in self.garbage(s) {
            self.delete_named(s, &name);
        }
    }

    /// Returns the files in the object store that are garbage according to the current manifest.
    fn garbage(&self, s: &State) -> Vec<String> {
        let patched;
        let mut manifest: &Manifest = &s.manifest;
        if !self.has(Guard::RetainedFrom) {
            patched = Manifest { retained_from: manifest.version, ..manifest.clone() };
            manifest = &patched;
        }
        let listed = s.objects.iter().filter(|(name, content)| is_garbage(manifest, name, content.base));
        listed.map(|(name, _)| name.clone()).collect()
    }

    fn spared(&self, s: &State) -> Vec<String> {
        match s.pin.written() {
            Some(version) => s.manifest.live_at(version).into_iter().map(|f| f.file.clone()).collect(),
            None => Vec::new(),
        }
    }

    pub fn raise(&self, s: &mut State, to: Horizons) -> bool {
        let Ok(next) = may_raise(&s.manifest, to, "raise", STAMP) else { return false };
        s.spent.raises += 1;
        s.swap(next, s.truth());
        true
    }

    pub fn look_at_pins_early(&self, s: &mut State) -> bool {
        s.early = Some(self.spared(s));
        true
    }

    pub fn decide(&self, s: &mut State) -> bool {
        let spared = match self.has(Guard::PinsAfterHorizons) {
            true => self.spared(s),
            false => match s.early.take() {
                Some(early) => early,
                None => return false,
            },
        };
        let before = s.doomed.len();
        for name in self.garbage(s) {
            if spared.contains(&name) && self.has(Guard::Pins) {
                self.witness(Witness::PinSpared);
            } else {
                s.doomed.insert(name);
            }
        }
        s.doomed.len() > before
    }

    pub fn delete(&self, s: &mut State, file: u8) -> bool {
        let Some(name) = s.objects.keys().nth(usize::from(file)).cloned() else { return false };
        self.delete_named(s, &name);
        true
    }

    fn delete_named(&self, s: &mut State, name: &str) {
        self.witness(Witness::Deleted);
        if s.spent.rollbacks > 0 && s.manifest.removed.iter().any(|r| r.file.file == name) {
            self.witness(Witness::UndoneDeleted);
        }
        s.delete(name);
    }

    /// Returns the removed files that the collector may forget, because they no longer exist in the object store. The
    /// mutant without `ForgetsOnlyDeleted` also returns files that a rollback has made live again. It returns such a
    /// file only if no pin protected the file when the mutant read the pins.
    fn forgettable(&self, s: &State) -> Vec<String> {
        let again = |name: &String| {
            let may = || may_forget(&self.as_if_gone(s), slice::from_ref(name), "", STAMP).is_ok();
            s.manifest.is_live(name) && s.early.as_ref().is_some_and(|spared| !spared.contains(name)) && may()
        };
        let gone = |name: &String| match self.has(Guard::ForgetsOnlyDeleted) {
            true => !s.objects.contains_key(name),
            false => !s.objects.contains_key(name) || again(name),
        };
        let mut names: Vec<String> = s.manifest.removed.iter().map(|r| r.file.file.clone()).filter(gone).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the manifest against which the production rules judge whether files may be forgotten. This is the
    /// current manifest. For the mutant without `ForgetsOnlyDeleted`, it is a copy without live files, so the rules
    /// cannot detect that a file is live again.
    fn as_if_gone<'s>(&self, s: &'s State) -> Cow<'s, Manifest> {
        match self.has(Guard::ForgetsOnlyDeleted) {
            true => Cow::Borrowed(&*s.manifest),
            false => Cow::Owned(Manifest { live: Vec::new(), ..(*s.manifest).clone() }),
        }
    }

    pub fn forget(&self, s: &mut State) -> bool {
        s.spent.forgets += 1;
        match may_forget(&self.as_if_gone(s), &self.forgettable(s), "forget", STAMP) {
            Ok(next) => {
                self.witness(Witness::Forgotten);
                s.swap(Manifest { live: s.manifest.live.clone(), ..next }, s.truth());
            }
            // The rules refuse because a deleted file is still needed.
            Err(_) => s.breach(Breach::Missing),
        }
        true
    }

    pub fn roll_back(&self, s: &mut State, to: ManifestVersion) -> bool {
        let Ok(mut next) = may_roll_back(&s.manifest, to, "back", STAMP) else { return false };
        if !self.has(Guard::RollbackRaisesFloor) {
            next.gc_floor = s.manifest.gc_floor;
        }
        self.witness(Witness::RolledBack);
        s.spent.rollbacks += 1;
        // A rollback undoes documents and makes their control records pending, so no commit counts as acknowledged.
        s.acknowledged = [0; DOCUMENTS];
        s.swap(next, s.truth_at(to));
        true
    }
}
