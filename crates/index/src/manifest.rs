//! Defines the manifest: the only mutable object of a collection, and the complete record of its content.
//!
//! The manifest lists files, not documents, because there may be millions of documents; each file lists its own
//! documents. The collector, the compactor, rollback and `as_of` derive everything from the manifest. For each file,
//! the manifest records the versions that added and removed the file. It also records the time of each version, the
//! last commit of each writer, and the oldest version on which a commit may still be based.
//!
//! The format is JSON, so that an administrator can read it. A program refuses a manifest with an unknown field,
//! because writing the manifest back would remove this field. A new field requires a higher [`FORMAT`].

use std::collections::BTreeMap;

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::model::ModelIdentity;
use serde::{Deserialize, Serialize};

use super::error::VectorError;

/// Newest format of a manifest that this program reads, and the format that it writes. Format 2 added
/// `retained_from`.
pub const FORMAT: u32 = 2;

/// Number of a manifest version. Each swap increases it by one.
pub type ManifestVersion = u64;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub collection: String,
    /// Number of this version. Version 0 is the state before the first swap, and is never stored.
    pub version: ManifestVersion,
    /// Highest epoch of all compactions that were committed. The epoch comes from the compactor's lease. A compactor
    /// with a lower epoch may not commit.
    pub epoch: u64,
    /// Lowest base version that a commit may have. A staged file with a lower base version cannot be committed, and
    /// may be deleted.
    pub gc_floor: ManifestVersion,
    /// Oldest version that can be viewed or rolled back to. Files that only older versions list may be deleted.
    #[serde(default)]
    pub retained_from: ManifestVersion,
    /// Id of the commit that made this version. If a writer did not receive the reply to its commit, this id shows
    /// whether the commit was applied.
    pub commit_id: String,
    /// Number of the current generation, which all reads and commits use.
    pub generation: u32,
    pub generations: Vec<Generation>,
    /// Files of this version, in the order of their commits.
    pub live: Vec<LiveFile>,
    /// Files that are no longer live. First the collector deletes such a file, then a later swap removes its entry
    /// from this list.
    pub removed: Vec<RemovedFile>,
    /// Last commit of each writer, keyed by the writer's id. The number of writers is limited: the writers with the
    /// oldest commits leave the list when `gc_floor` rises.
    pub writers: BTreeMap<String, WriterMark>,
    /// Times of past versions, oldest first, thinned by [`thin`]. The last entry is the time of this version.
    pub history: Vec<HistoryEntry>,
    pub created_at: String,
    pub updated_at: String,
}

/// Describes a set of vectors of one model. A change of the model creates a new generation alongside the old one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Number of the generation, from 1.
    pub number: u32,
    /// Model of the vectors. Set by the first commit that contains vectors.
    pub model: Option<ModelIdentity>,
    pub created_at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    Delta,
    Snapshot,
}

/// Describes an immutable file of the collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveFile {
    /// File name relative to the collection's prefix, such as `delta/01J….parquet`. A name is never used twice.
    pub file: String,
    pub kind: FileKind,
    pub generation: u32,
    /// Base version: the manifest version that the commit or merge had read before it wrote the file.
    pub base_version: ManifestVersion,
    /// Manifest version in which the file last became live.
    pub added_version: ManifestVersion,
    pub rows: u64,
    /// Number of document versions, including those without rows. Tombstones are not counted.
    pub documents: u64,
    pub tombstones: u64,
    pub bytes: u64,
    /// CRC-32 of the whole file.
    pub crc32: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedFile {
    pub file: LiveFile,
    /// Manifest version that removed the file. `at_ms` is the time of the removal in Unix milliseconds.
    pub at_version: ManifestVersion,
    pub at_ms: i64,
}

/// Records the last commit of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterMark {
    pub last_seq: u64,
    /// Manifest version that the writer's last commit made. The writer's entry may be removed once this version is
    /// below `gc_floor`.
    pub at_version: ManifestVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEntry {
    pub version: ManifestVersion,
    /// Time of the version in Unix milliseconds. Never decreases from one entry to the next, even if the clocks of
    /// the writers differ.
    pub at_ms: i64,
}

impl Manifest {
    /// Returns the state of a collection before its first commit: version 0 without files.
    pub fn empty(collection: &str, now: UnixMicros) -> Self {
        Self {
            format: FORMAT,
            collection: collection.to_owned(),
            version: 0,
            epoch: 0,
            gc_floor: 0,
            retained_from: 0,
            commit_id: String::new(),
            generation: 1,
            generations: vec![Generation { number: 1, model: None, created_at: timestamp(now) }],
            live: Vec::new(),
            removed: Vec::new(),
            writers: BTreeMap::new(),
            history: Vec::new(),
            created_at: timestamp(now),
            updated_at: timestamp(now),
        }
    }

    /// Returns the model of the current generation; `None` before the first commit with vectors.
    pub fn model(&self) -> Option<&ModelIdentity> {
        self.generations.iter().find(|g| g.number == self.generation).and_then(|g| g.model.as_ref())
    }

    /// Returns the files of the collection at `version`. Correct only for versions that are still retained.
    pub fn live_at(&self, version: ManifestVersion) -> Vec<&LiveFile> {
        let removed = self.removed.iter().filter(|r| r.at_version > version).map(|r| &r.file);
        let mut files: Vec<_> = self.live.iter().chain(removed).filter(|f| f.added_version <= version).collect();
        files.sort_by(|a, b| (a.added_version, &a.file).cmp(&(b.added_version, &b.file)));
        files
    }

    /// Returns all listed files, live or removed. A file that was removed and restored by a rollback may appear
    /// twice.
    pub fn files(&self) -> impl Iterator<Item = &LiveFile> {
        self.live.iter().chain(self.removed.iter().map(|r| &r.file))
    }

    /// Returns whether the file with this name is live, which means that it belongs to the current content.
    pub fn is_live(&self, file: &str) -> bool {
        self.live.iter().any(|f| f.file == file)
    }

    /// Parses a stored manifest. `key` is its object key, for error messages.
    pub fn parse(key: &str, body: &[u8]) -> Result<Self, VectorError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let bad = |reason: String| VectorError::BadManifest { key: key.to_owned(), reason };
        // Read the format first: a newer manifest may differ in every other field.
        let Format { format } = serde_json::from_slice(body).map_err(|e| bad(e.to_string()))?;
        if format > FORMAT {
            return Err(VectorError::TooNew { key: key.to_owned(), found: format, known: FORMAT });
        }
        let manifest: Self = serde_json::from_slice(body).map_err(|e| bad(e.to_string()))?;
        manifest.contradiction().map_or(Ok(manifest), |reason| Err(bad(reason)))
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of numbers, strings, lists and string-keyed maps always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns a description of a contradiction within the manifest; `None` if the manifest is consistent.
    fn contradiction(&self) -> Option<String> {
        if self.version == 0 || self.gc_floor > self.version || self.retained_from > self.version {
            let (floor, retained) = (self.gc_floor, self.retained_from);
            return Some(format!("version {} is invalid: floor of {floor}, retained from {retained}", self.version));
        }
        if !self.generations.iter().any(|g| g.number == self.generation) {
            return Some(format!("generation {} is not in the list of generations", self.generation));
        }
        let mut names: Vec<_> = self.live.iter().map(|f| f.file.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Some(format!("file `{}` is listed twice", twice[0]));
        }
        let late = self.live.iter().find(|f| f.added_version > self.version || f.base_version >= f.added_version);
        late.map(|f| format!("`{}` has invalid version {} (manifest has {})", f.file, f.added_version, self.version))
    }
}

/// Interval, in milliseconds, below which the age of an entry does not matter for [`thin`].
const RESOLUTION_MS: i64 = 1_000;

/// Removes entries from a history that has more than `limit` entries. The first entry and the newest quarter always
/// remain. The other entries are thinned by time: the interval between two entries grows with their age.
///
/// For any retention, the list therefore contains a version that is older than the retention, but not much older. With
/// 256 entries, the interval is about a tenth of the age. Thinning by position would not do: in a busy collection, only
/// the first entry would be older than a few hundred versions.
pub fn thin(history: &mut Vec<HistoryEntry>, limit: usize) {
    let limit = limit.max(3);
    while history.len() > limit {
        let Some(now) = history.last().map(|h| h.at_ms) else { return };
        let older = history.len() - (limit / 4).max(1);
        let intervals = history.windows(3).enumerate().take(older.saturating_sub(1)).filter_map(|(at, three)| {
            let [before, _, after] = three else { return None };
            // Interval that the removal of the middle entry would leave, and age of its newer end.
            let interval = i128::from(after.at_ms.saturating_sub(before.at_ms));
            let age = i128::from(now.saturating_sub(after.at_ms).saturating_add(RESOLUTION_MS));
            Some((at + 1, interval, age))
        });
        // Compares the ratios of interval to age without division.
        let least = intervals.reduce(|a, b| if b.1 * a.2 < a.1 * b.2 { b } else { a });
        let Some((surplus, ..)) = least else { return };
        history.remove(surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, added: u64) -> LiveFile {
        LiveFile {
            file: name.into(),
            kind: FileKind::Delta,
            generation: 1,
            base_version: added - 1,
            added_version: added,
            rows: 1,
            documents: 1,
            tombstones: 0,
            bytes: 10,
            crc32: 7,
        }
    }

    fn stored() -> Manifest {
        let mut m = Manifest::empty("chunks", 0);
        m.version = 3;
        m.live = vec![file("b", 2), file("c", 3)];
        m.removed = vec![RemovedFile { file: file("a", 1), at_version: 3, at_ms: 5 }];
        m
    }

    #[test]
    fn a_stored_manifest_reads_back_the_same() {
        let m = stored();
        assert_eq!(Manifest::parse("k", &m.to_bytes()).unwrap(), m);
    }

    #[test]
    fn a_newer_format_is_refused_before_anything_else_is_looked_at() {
        let e = Manifest::parse("vectors/chunks/MANIFEST", br#"{"format": 3, "shape": "new"}"#).unwrap_err();
        assert!(matches!(e, VectorError::TooNew { found: 3, .. }), "{e}");
        assert!(e.to_string().contains("newer program"), "{e}");
    }

    #[test]
    fn a_manifest_of_format_1_is_read() {
        let text = String::from_utf8(stored().to_bytes()).unwrap();
        let old = text.replacen("\"format\":2", "\"format\":1", 1).replacen("\"retained_from\":0,", "", 1);
        assert!(!old.contains("retained"));
        assert_eq!(Manifest::parse("k", old.as_bytes()).unwrap(), Manifest { format: 1, ..stored() });
    }

    #[test]
    fn an_unknown_field_or_a_contradiction_is_refused() {
        let text = String::from_utf8(stored().to_bytes()).unwrap();
        let unknown = text.replacen("\"epoch\"", "\"surprise\":1,\"epoch\"", 1);
        assert!(Manifest::parse("k", unknown.as_bytes()).unwrap_err().to_string().contains("surprise"));
        for (change, word) in [
            (|m: &mut Manifest| m.version = 0, "version 0"),
            (|m: &mut Manifest| m.gc_floor = 9, "floor of 9"),
            (|m: &mut Manifest| m.retained_from = 9, "retained from 9"),
            (|m: &mut Manifest| m.generation = 4, "generation 4"),
            (|m: &mut Manifest| m.live.push(file("b", 2)), "twice"),
            (|m: &mut Manifest| m.live.push(file("z", 9)), "`z`"),
        ] as [(fn(&mut Manifest), &str); 6]
        {
            let mut m = stored();
            change(&mut m);
            let e = Manifest::parse("k", &m.to_bytes()).unwrap_err().to_string();
            assert!(e.contains(word), "{e}");
        }
        assert!(Manifest::parse("k", &stored().to_bytes()[..40]).is_err());
    }

    #[test]
    fn past_versions_can_be_told_from_one_manifest() {
        let m = stored();
        let names = |v| m.live_at(v).iter().map(|f| f.file.clone()).collect::<Vec<_>>();
        assert_eq!(names(1), ["a"]);
        assert_eq!(names(2), ["a", "b"]);
        assert_eq!(names(3), ["b", "c"]);
    }

    #[test]
    fn history_keeps_its_limit_if_all_times_are_equal() {
        let mut history: Vec<_> = (1..=300).map(|version| HistoryEntry { version, at_ms: 7 }).collect();
        thin(&mut history, 64);
        assert_eq!((history.len(), history[0].version, history[63].version), (64, 1, 300));
        // The smallest limit keeps the first and the newest entry.
        thin(&mut history, 0);
        assert_eq!((history.len(), history[0].version, history[2].version), (3, 1, 300));
    }

    #[test]
    fn history_keeps_its_ends_and_its_limit() {
        let mut history = Vec::new();
        for version in 1..=10_000 {
            history.push(HistoryEntry { version, at_ms: version as i64 });
            thin(&mut history, 64);
            assert!(history.len() <= 64);
        }
        assert_eq!((history[0].version, history.last().unwrap().version), (1, 10_000));
        assert!(history.windows(2).all(|w| w[0].version < w[1].version));
        let recent = history.iter().filter(|h| h.version > 10_000 - 16).count();
        assert_eq!(recent, 16, "the newest quarter is complete");
    }
}
