//! Models two readers. A reader with a pin must find all of its files. A reader without a pin starts again when a file
//! is missing.
//!
//! A reader with a pin may read each file at any time between confirming the pin and finishing. No file of its version
//! may therefore be missing in any state between these two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use docweir_index::manifest::{Manifest, ManifestVersion};

use crate::model::{Guard, Protocol, Step};
use crate::state::{Breach, Content, State, Witness};

/// Holds the version of the manifest that a reader has loaded, and the names of the live files in that version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Loaded {
    version: ManifestVersion,
    files: Arc<Vec<String>>,
}

impl Loaded {
    fn now(s: &State) -> Self {
        let mut files: Vec<String> = s.manifest.live.iter().map(|f| f.file.clone()).collect();
        files.sort_unstable();
        Self { version: s.manifest.version, files: Arc::new(files) }
    }

    fn is_whole(&self, objects: &BTreeMap<String, Arc<Content>>) -> bool {
        self.files.iter().all(|f| objects.contains_key(f))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Loaded,
    Written,
    Confirmed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pin(Option<(Stage, Loaded)>);

impl Pin {
    /// Returns the version that the pin protects, or `None` if the pin is not written yet. The collector sees only
    /// written pins.
    pub fn written(&self) -> Option<ManifestVersion> {
        match &self.0 {
            Some((Stage::Written | Stage::Confirmed, loaded)) => Some(loaded.version),
            _ => None,
        }
    }

    /// Returns whether a file of the pinned version is missing, or the manifest now lists other files for this version.
    pub fn is_torn(&self, manifest: &Manifest, objects: &BTreeMap<String, Arc<Content>>) -> bool {
        let Some((Stage::Confirmed, loaded)) = &self.0 else { return false };
        let told: BTreeSet<&str> = manifest.live_at(loaded.version).into_iter().map(|f| f.file.as_str()).collect();
        !loaded.is_whole(objects) || !loaded.files.iter().map(String::as_str).eq(told)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unpinned(Option<Loaded>);

impl Protocol {
    pub fn reader_steps(&self, s: &State, steps: &mut Vec<Step>) {
        match &s.pin.0 {
            None if s.spent.reads < self.bounds.reads && !s.manifest.live.is_empty() => steps.push(Step::ReaderLoad),
            None => {}
            Some((Stage::Loaded, _)) => steps.push(Step::ReaderPin),
            Some((Stage::Written, _)) => steps.push(Step::ReaderLookAgain),
            Some((Stage::Confirmed, _)) => steps.push(Step::ReaderDone),
        }
        match &s.unpinned.0 {
            None if self.bounds.unpinned && !s.manifest.live.is_empty() => steps.push(Step::UnpinnedLoad),
            None => {}
            Some(_) => steps.push(Step::UnpinnedRead),
        }
    }

    pub fn reader_load(&self, s: &mut State) -> bool {
        s.pin.0 = Some((Stage::Loaded, Loaded::now(s)));
        s.spent.reads += 1;
        true
    }

    pub fn reader_pin(&self, s: &mut State) -> bool {
        if let Some((stage, _)) = &mut s.pin.0 {
            *stage = Stage::Written;
        }
        true
    }

    pub fn reader_look_again(&self, s: &mut State) -> bool {
        let retained_from = s.manifest.retained_from;
        let Some((stage, loaded)) = &mut s.pin.0 else { return false };
        if loaded.version < retained_from && self.has(Guard::SecondLook) {
            self.witness(Witness::PinGivenUp);
            s.pin.0 = None;
            return true;
        }
        *stage = Stage::Confirmed;
        if s.pin.is_torn(&s.manifest, &s.objects) {
            s.breach(Breach::TornRead);
        }
        true
    }

    pub fn reader_done(&self, s: &mut State) -> bool {
        s.pin.0.take().is_some()
    }

    pub fn unpinned_load(&self, s: &mut State) -> bool {
        s.unpinned.0 = Some(Loaded::now(s));
        true
    }

    pub fn unpinned_read(&self, s: &mut State) -> bool {
        let Some(loaded) = s.unpinned.0.take() else { return false };
        if !loaded.is_whole(&s.objects) {
            // Production reports damage if a file is missing twice at the same version.
            if loaded.version == s.manifest.version {
                s.breach(Breach::CalledDamage);
            }
            self.witness(Witness::Reloaded);
        }
        true
    }
}
