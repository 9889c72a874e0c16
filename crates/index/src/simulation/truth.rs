//! Checks that every state of the manifest shows the expected content.
//!
//! The expected content is derived independently of the code under test. A commit sets the highest version of each of
//! its documents. A merge changes nothing. A rollback restores the content of the version that had the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use docweir_objects::memory::MemoryObjects;

use super::processes::World;
use crate::View;
use crate::manifest::{FileKind, LiveFile, Manifest};
use crate::segment::Segment;
use crate::snapshot::Snapshot;
use crate::testing::content;
use crate::visible::visible;

/// Version and row texts of each visible document.
pub type Content = BTreeMap<u8, (u64, Vec<String>)>;

pub struct Truth {
    objects: Arc<MemoryObjects>,
    before: Option<Manifest>,
    /// Highest version of each document at each manifest version. Deleted documents are included.
    highest: BTreeMap<u64, BTreeMap<u8, u64>>,
    /// Files of each manifest version.
    files: BTreeMap<u64, BTreeSet<String>>,
    /// Number of times that each delta was added to the manifest.
    came: BTreeMap<String, u64>,
    /// Number of commits of each document version. A document version may be in at most as many live files as it has
    /// commits.
    committed: BTreeMap<(u8, u64), usize>,
    segments: BTreeMap<String, Arc<Segment>>,
}

type Verdict = Result<(), String>;

impl Truth {
    pub fn new(objects: Arc<MemoryObjects>) -> Self {
        let (came, committed, segments) = Default::default();
        // Version 0 is empty, and a rollback to it is possible.
        let (highest, files) = ([(0, BTreeMap::new())].into(), [(0, BTreeSet::new())].into());
        Self { objects, before: None, highest, files, came, committed, segments }
    }

    /// Checks every state that the manifest has had since the last call.
    pub fn judge(&mut self) -> Verdict {
        for body in self.objects.take_recorded() {
            let manifest = Manifest::parse("MANIFEST", &body).map_err(|e| e.to_string())?;
            self.follows(&manifest)?;
            self.advance(&manifest)?;
            self.is_whole(&manifest)?;
            self.shows(&manifest)?;
            self.before = Some(manifest);
        }
        Ok(())
    }

    /// Checks all commits that were acknowledged since the last call of this method, and all views that readers have
    /// opened since then.
    pub fn acknowledged(&mut self, world: &mut World) -> Verdict {
        if let Some(fault) = world.faults.first() {
            return Err(fault.clone());
        }
        for file in std::mem::take(&mut world.acknowledged) {
            if self.came.get(&file) != Some(&1) {
                let times = self.came.get(&file).copied().unwrap_or_default();
                return Err(format!("acknowledged commit was added {times} times: {file}"));
            }
        }
        for seen in std::mem::take(&mut world.seen) {
            let expected = match seen.version {
                0 => Content::new(),
                version => self.content_at(version).ok_or(format!("unknown version {version}"))?,
            };
            if seen.documents != expected {
                return Err(format!("a reader of version {} saw {:?}, not {expected:?}", seen.version, seen.documents));
            }
        }
        Ok(())
    }

    /// Checks that a view shows the content of its version.
    pub fn is_seen(&mut self, view: &View) -> Verdict {
        self.judge()?;
        let expected = self.content_at(view.version()).ok_or("unknown version")?;
        let mut shown = Content::new();
        for entry in view.documents() {
            let texts = view.rows_of(&entry.id).into_iter().map(|row| row.text).collect();
            shown.insert(number(entry.id.as_str())?, (entry.version, texts));
        }
        if shown == expected { Ok(()) } else { Err(format!("a view showed {shown:?}, not {expected:?}")) }
    }

    /// Checks that no counter has fallen that may only rise.
    fn follows(&self, next: &Manifest) -> Verdict {
        let Some(before) = &self.before else { return Ok(()) };
        let grown = next.version == before.version + 1
            && next.epoch >= before.epoch
            && next.gc_floor >= before.gc_floor
            && next.retained_from >= before.retained_from;
        if grown { Ok(()) } else { Err(format!("version {} does not follow {}", next.version, before.version)) }
    }

    fn advance(&mut self, next: &Manifest) -> Verdict {
        let names: BTreeSet<String> = next.live.iter().map(|f| f.file.clone()).collect();
        let mut highest = match &self.before {
            Some(before) => self.highest.get(&before.version).cloned().unwrap_or_default(),
            None => BTreeMap::new(),
        };
        let known = |file: &str| self.files.values().any(|files| files.contains(file));
        let new: Vec<&LiveFile> = next.live.iter().filter(|f| !known(&f.file)).collect();
        let before = self.before.as_ref().map(|b| b.live.iter().map(|f| f.file.clone()).collect::<BTreeSet<_>>());
        let deltas: Vec<&LiveFile> = new.iter().filter(|f| f.kind == FileKind::Delta).copied().collect();
        for &delta in &deltas {
            *self.came.entry(delta.file.clone()).or_default() += 1;
            for entry in self.open(delta)?.entries() {
                let document = number(entry.id.as_str())?;
                *self.committed.entry((document, entry.version)).or_default() += 1;
                let held = highest.entry(document).or_default();
                *held = (*held).max(entry.version);
            }
        }
        // A rollback raises the floor; a merge or a commit never does. Raising the horizons leaves the files
        // unchanged.
        let rolled_back = new.is_empty()
            && before.as_ref().is_some_and(|b| *b != names)
            && (names.iter().any(|n| before.as_ref().is_some_and(|b| !b.contains(n)))
                || self.before.as_ref().is_some_and(|b| b.gc_floor < next.gc_floor));
        if rolled_back {
            let past = self.files.iter().rev().find(|(_, files)| **files == names);
            let (version, _) = past.ok_or(format!("version {} was rolled back to an unknown state", next.version))?;
            highest = self.highest.get(version).cloned().unwrap_or_default();
        }
        self.files.insert(next.version, names);
        self.highest.insert(next.version, highest);
        Ok(())
    }

    /// Checks that every file of every available version exists.
    fn is_whole(&self, next: &Manifest) -> Verdict {
        let kept = next.removed.iter().filter(|r| r.at_version > next.retained_from).map(|r| &r.file);
        match next.live.iter().chain(kept).find(|f| self.objects.peek(&key(&f.file)).is_none()) {
            Some(gone) => Err(format!("version {} lists {}, which is missing", next.version, gone.file)),
            None => Ok(()),
        }
    }

    /// Checks that the files, opened by the production code, show exactly the expected content.
    fn shows(&mut self, next: &Manifest) -> Verdict {
        let opened = next.live.iter().map(|live| self.open(live)).collect::<Result<Vec<_>, _>>()?;
        self.segments.retain(|file, _| next.is_live(file));
        let (mut shown, mut held) = (Content::new(), BTreeMap::new());
        for file in visible(opened) {
            let documents = file.segment.documents();
            for at in 0..documents.len() {
                let copy = (number(documents.id(at))?, documents.version(at));
                let copies = held.entry(copy).or_insert(0);
                *copies += 1;
                if *copies > self.committed.get(&copy).copied().unwrap_or_default() {
                    return Err(format!("version {} holds {copy:?} more often than it was added", next.version));
                }
            }
            for at in file.documents.runs(0..documents.len()).flatten().filter(|&at| !documents.is_tombstone(at)) {
                let rows: Vec<usize> = documents.rows(at).collect();
                if rows.iter().any(|&row| !file.rows.contains(row)) {
                    return Err(format!("only a part of {} is visible", documents.id(at)));
                }
                let texts = rows.iter().map(|&row| file.segment.text(row).to_owned()).collect();
                if shown.insert(number(documents.id(at))?, (documents.version(at), texts)).is_some() {
                    return Err(format!("{} is visible twice", documents.id(at)));
                }
            }
        }
        let expected = self.content_at(next.version).unwrap_or_default();
        if shown != expected {
            return Err(format!("version {} shows {shown:?}, not {expected:?}", next.version));
        }
        Ok(())
    }

    fn open(&mut self, live: &LiveFile) -> Result<Arc<Segment>, String> {
        if let Some(segment) = self.segments.get(&live.file) {
            return Ok(segment.clone());
        }
        let body = self.objects.peek(&key(&live.file)).ok_or(format!("{} is missing", live.file))?;
        let segment = match live.kind {
            FileKind::Delta => Segment::of_delta(&live.file, body, Some(live.crc32)),
            FileKind::Snapshot => {
                Snapshot::open(&live.file, body, false, true).map(|s| Segment::of_snapshot(&live.file, s))
            }
        };
        let segment = Arc::new(segment.map_err(|e| e.to_string())?);
        self.segments.insert(live.file.clone(), segment.clone());
        Ok(segment)
    }

    fn content_at(&self, version: u64) -> Option<Content> {
        let highest = self.highest.get(&version)?;
        let each = highest.iter().filter_map(|(&n, &version)| Some((n, (version, content(n, version)?))));
        Some(each.collect())
    }
}

fn key(file: &str) -> String {
    format!("vectors/chunks/{file}")
}

fn number(id: &str) -> Result<u8, String> {
    id.strip_prefix("doc_").and_then(|n| n.parse().ok()).ok_or(format!("unknown id {id}"))
}
