//! What every state of the manifest must show.
//!
//! The truth is kept apart from the code under test: of each commit that a manifest took in, the highest version of each
//! document; of a merge, nothing changes; of a rollback, what was true at the version that the same files made up.

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

/// Of each visible document its version and the texts of its rows.
pub type Content = BTreeMap<u8, (u64, Vec<String>)>;

pub struct Truth {
    objects: Arc<MemoryObjects>,
    before: Option<Manifest>,
    /// Of each version, the highest version of each document, deleted or not.
    highest: BTreeMap<u64, BTreeMap<u8, u64>>,
    /// Of each version, its files.
    files: BTreeMap<u64, BTreeSet<String>>,
    /// Times that a delta came in as new.
    came: BTreeMap<String, u64>,
    /// Times that a version of a document came in: as many live files may hold it at most.
    committed: BTreeMap<(u8, u64), usize>,
    segments: BTreeMap<String, Arc<Segment>>,
}

type Verdict = Result<(), String>;

impl Truth {
    pub fn new(objects: Arc<MemoryObjects>) -> Self {
        let (came, committed, segments) = Default::default();
        // Before the first commit there is nothing, and one can go back to it.
        let (highest, files) = ([(0, BTreeMap::new())].into(), [(0, BTreeSet::new())].into());
        Self { objects, before: None, highest, files, came, committed, segments }
    }

    /// Judges every state that the manifest has had since the last call.
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

    /// What readers saw, and what was acknowledged, since the last call.
    pub fn acknowledged(&mut self, world: &mut World) -> Verdict {
        if let Some(fault) = world.faults.first() {
            return Err(fault.clone());
        }
        for file in std::mem::take(&mut world.acknowledged) {
            if self.came.get(&file) != Some(&1) {
                let times = self.came.get(&file).copied().unwrap_or_default();
                return Err(format!("an acknowledged commit came in {times} times: {file}"));
            }
        }
        for seen in std::mem::take(&mut world.seen) {
            let expected = match seen.version {
                0 => Content::new(),
                version => self.content_at(version).ok_or(format!("a version that never was: {version}"))?,
            };
            if seen.documents != expected {
                return Err(format!("a reader of version {} saw {:?}, not {expected:?}", seen.version, seen.documents));
            }
        }
        Ok(())
    }

    /// What a view shows is what its version showed.
    pub fn is_seen(&mut self, view: &View) -> Verdict {
        self.judge()?;
        let expected = self.content_at(view.version()).ok_or("a version that never was")?;
        let mut shown = Content::new();
        for entry in view.documents() {
            let texts = view.rows_of(&entry.id).into_iter().map(|row| row.text).collect();
            shown.insert(number(entry.id.as_str())?, (entry.version, texts));
        }
        if shown == expected { Ok(()) } else { Err(format!("a view showed {shown:?}, not {expected:?}")) }
    }

    /// What only grows has grown.
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
        // The floor rises with a rollback and never with a merge or a commit; a rise of the horizons leaves the files.
        let rolled_back = new.is_empty()
            && before.as_ref().is_some_and(|b| *b != names)
            && (names.iter().any(|n| before.as_ref().is_some_and(|b| !b.contains(n)))
                || self.before.as_ref().is_some_and(|b| b.gc_floor < next.gc_floor));
        if rolled_back {
            let past = self.files.iter().rev().find(|(_, files)| **files == names);
            let (version, _) = past.ok_or(format!("version {} was rolled back to what never was", next.version))?;
            highest = self.highest.get(version).cloned().unwrap_or_default();
        }
        self.files.insert(next.version, names);
        self.highest.insert(next.version, highest);
        Ok(())
    }

    /// Every file of every version that can still be seen is there.
    fn is_whole(&self, next: &Manifest) -> Verdict {
        let kept = next.removed.iter().filter(|r| r.at_version > next.retained_from).map(|r| &r.file);
        match next.live.iter().chain(kept).find(|f| self.objects.peek(&key(&f.file)).is_none()) {
            Some(gone) => Err(format!("version {} names {}, which is gone", next.version, gone.file)),
            None => Ok(()),
        }
    }

    /// The files, opened by the production code, show the truth and nothing else.
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
                    return Err(format!("version {} holds {copy:?} more often than it came in", next.version));
                }
            }
            for at in file.documents.runs(0..documents.len()).flatten().filter(|&at| !documents.is_tombstone(at)) {
                let rows: Vec<usize> = documents.rows(at).collect();
                if rows.iter().any(|&row| !file.rows.contains(row)) {
                    return Err(format!("half of {} is visible", documents.id(at)));
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
        let body = self.objects.peek(&key(&live.file)).ok_or(format!("{} is not there", live.file))?;
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
    id.strip_prefix("doc_").and_then(|n| n.parse().ok()).ok_or(format!("an id that nobody wrote: {id}"))
}
