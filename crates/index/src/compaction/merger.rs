//! Merges the inputs into a staged file.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::memory::anonymous_bytes;
use docweir_objects::ObjectError;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{CompactionOptions, Report};
use crate::error::VectorError;
use crate::manifest::{FileKind, LiveFile, Manifest, ManifestVersion};
use crate::merge::{self, Input, Plan};
use crate::retention::may_drop_tombstone;
use crate::retry::{blocking, ulid};
use crate::segment::Segment;
use crate::snapshot::Origin;
use crate::{VectorStore, validate};

/// Describes a merged file that no manifest lists yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Staged {
    /// Merged file; `None` if no document is left, because all were deleted and their tombstones were dropped.
    pub snapshot: Option<LiveFile>,
    pub base_version: ManifestVersion,
    pub inputs: Vec<String>,
    pub report: Report,
}

/// Memory that a merge needs for one delta, as a multiple of the delta's file size. The memory holds the delta's
/// columns, codes and full-text index. Measured as 2.2 for chunks of 1,000 characters with 384 dimensions, and
/// rounded up.
const MEMORY_FACTOR: u64 = 3;

pub(super) async fn merge(
    store: &Arc<VectorStore>,
    options: &CompactionOptions,
    random: &mut fastrand::Rng,
    manifest: &Manifest,
    inputs: &[LiveFile],
    why: &'static str,
    cancelled: &Cancel,
) -> Result<Staged, VectorError> {
    let started = store.clock.now();
    let work = Work { store, manifest, cancelled, peak: AtomicU64::new(0), written: AtomicU64::new(0) };
    let (deltas, snapshots): (Vec<&LiveFile>, Vec<&LiveFile>) = inputs.iter().partition(|f| f.kind == FileKind::Delta);
    let groups = groups(&deltas, options);
    let (mut names, target) = (Vec::new(), name(store, random));
    let merged = async {
        let mut opened = work.open(&snapshots).await?;
        if let [only] = groups.as_slice() {
            opened.extend(work.open(only).await?);
        } else {
            names.extend(groups.iter().map(|_| name(store, random)));
            let merged = stream::iter(names.iter().zip(groups)).map(|(name, group)| work.intermediate(name, group));
            opened.extend(merged.buffer_unordered(options.threads).try_collect::<Vec<_>>().await?);
        }
        let outside = work.outside(inputs, &opened).await?;
        work.write(target.clone(), opened, outside).await
    };
    let mut merged = merged.await;
    // A file that cannot be opened must not replace files that can.
    if let Ok((Some(snapshot), _)) = &merged
        && let Err(e) = store.open(snapshot).await
    {
        merged = Err(e);
    }
    if merged.is_err() {
        names.push(target);
    }
    // Delete the intermediate files after success and failure, and the result after a failure. The collector deletes
    // the files of a killed process.
    for name in names {
        let _ = store.objects.delete(&store.key(&name)).await;
    }
    let (snapshot, plan) = match merged {
        Ok(merged) => merged,
        Err(e) => return Err(overtaken(store, e).await),
    };
    let report = Report {
        why,
        input_files: inputs.len(),
        input_bytes: inputs.iter().map(|f| f.bytes).sum(),
        input_rows: inputs.iter().map(|f| f.rows).sum(),
        output_bytes: snapshot.as_ref().map_or(0, |s| s.bytes),
        output_rows: plan.rows,
        written_bytes: work.written.into_inner(),
        dropped_tombstones: plan.dropped_tombstones,
        duration: elapsed(started, store.clock.now()),
        peak_memory_bytes: work.peak.into_inner(),
    };
    Ok(Staged {
        snapshot,
        base_version: manifest.version,
        inputs: inputs.iter().map(|f| f.file.clone()).collect(),
        report,
    })
}

/// Handles the error that an input file is missing. If the manifest still lists the file, the collection is damaged,
/// and the function returns an error that says so. Otherwise another process has merged and deleted the file since
/// this merge was planned. The result of this merge would be refused, so the function returns
/// [`VectorError::Cancelled`].
async fn overtaken(store: &VectorStore, error: VectorError) -> VectorError {
    let VectorError::Object(ObjectError::NotFound(key)) = error else { return error };
    match store.manifest().await {
        Ok(Some(now)) if now.live.iter().any(|f| store.key(&f.file) == key) => store.missing(key, now.version),
        Ok(_) => VectorError::Cancelled { collection: store.collection.clone() },
        Err(e) => e,
    }
}

fn elapsed(from: UnixMicros, to: UnixMicros) -> Duration {
    Duration::from_micros(u64::try_from(to.saturating_sub(from)).unwrap_or_default())
}

/// Splits deltas into groups, so that each group fits into memory. If all deltas together fit into the memory limit,
/// they form one group. Otherwise a group must fit into one thread's share of the limit. A delta that is larger than
/// this share forms a group of its own.
fn groups<'f>(deltas: &[&'f LiveFile], options: &CompactionOptions) -> Vec<Vec<&'f LiveFile>> {
    let fits = |files: &[&LiveFile], limit: u64| {
        files.iter().map(|f| f.bytes).sum::<u64>().saturating_mul(MEMORY_FACTOR) <= limit
    };
    if fits(deltas, options.memory_bytes) {
        return vec![deltas.to_vec()];
    }
    let share = options.memory_bytes / options.threads.max(1) as u64;
    let mut groups: Vec<Vec<&LiveFile>> = Vec::new();
    for delta in deltas {
        match groups.last_mut() {
            Some(group) if fits(&[group.as_slice(), &[delta]].concat(), share) => group.push(delta),
            _ => groups.push(vec![delta]),
        }
    }
    groups
}

fn name(store: &VectorStore, random: &mut fastrand::Rng) -> String {
    format!("snap/{}.seg", ulid(store, random))
}

struct Work<'w> {
    store: &'w Arc<VectorStore>,
    manifest: &'w Manifest,
    cancelled: &'w Cancel,
    peak: AtomicU64,
    written: AtomicU64,
}

impl Work<'_> {
    async fn open(&self, files: &[&LiveFile]) -> Result<Vec<Input>, VectorError> {
        let mut opened = Vec::with_capacity(files.len());
        for file in files {
            self.look()?;
            let segment = Arc::new(self.store.open_to_merge(file).await?);
            opened.push(Input { segment, added_version: file.added_version });
        }
        Ok(opened)
    }

    /// Opens the other live files, which are not inputs of the merge. The merge may drop a tombstone only if no other
    /// live file holds an older version of the deleted document. Returns `None` if the merge must keep all tombstones.
    /// This happens if no tombstone is old enough, if another live file is a delta, because checking a delta would
    /// require decoding it, or if another live file is too large to be opened.
    async fn outside(&self, inputs: &[LiveFile], opened: &[Input]) -> Result<Option<Vec<Arc<Segment>>>, VectorError> {
        let mut ages = opened.iter().flat_map(Input::tombstones_added);
        if !ages.any(|added| may_drop_tombstone(self.manifest, added)) {
            return Ok(None);
        }
        let others = self.manifest.live.iter().filter(|f| !inputs.iter().any(|i| i.file == f.file));
        let others: Vec<&LiveFile> = others.collect();
        let most = self.store.objects.max_copy_bytes().unwrap_or(u64::MAX);
        if others.iter().any(|f| f.kind == FileKind::Delta || f.bytes > most) {
            return Ok(None);
        }
        let mut opened = Vec::with_capacity(others.len());
        for file in others {
            opened.push(Arc::new(self.store.open(file).await?));
        }
        Ok(Some(opened))
    }

    /// Merges a group of deltas into an intermediate file, and opens the intermediate file memory-mapped. Drops no
    /// tombstone.
    async fn intermediate(&self, name: &str, group: Vec<&LiveFile>) -> Result<Input, VectorError> {
        let added_version = group.iter().map(|f| f.added_version).max().unwrap_or_default();
        let opened = self.open(&group).await?;
        match self.write(name.to_owned(), opened, None).await? {
            (Some(file), _) => Ok(Input { segment: Arc::new(self.store.open(&file).await?), added_version }),
            (None, _) => Err(VectorError::Encode("group of deltas contains no documents".into())),
        }
    }

    /// Plans a merge and writes the merged file. Writes no file if no document is left. `outside` holds the live
    /// files that are not inputs. If `outside` is `None`, the merge keeps all tombstones.
    async fn write(
        &self,
        name: String,
        inputs: Vec<Input>,
        outside: Option<Vec<Arc<Segment>>>,
    ) -> Result<(Option<LiveFile>, Plan), VectorError> {
        let store = self.store;
        let key = store.key(&name);
        let model = self.manifest.model().cloned().or_else(|| inputs.first().map(|i| i.segment.model().clone()));
        let origin = Origin {
            collection: store.collection.clone(),
            generation: self.manifest.generation,
            model: model.ok_or_else(|| VectorError::Encode("inputs of the merge have no model".into()))?,
            base_version: self.manifest.version,
            created_at: timestamp(store.clock.now()),
        };
        let mut upload = store.objects.create(&key).await?;
        let (stemming, cancelled) = (store.options.stemming, self.cancelled.clone());
        let horizons = self.manifest.clone();
        let limit = store.objects.max_copy_bytes().unwrap_or(u64::MAX);
        let (upload, plan, merged, memory) = blocking(move || {
            let may_drop = |added, id: &str, version| {
                let older =
                    |s: &Arc<Segment>| s.documents().find(id).is_some_and(|at| s.documents().version(at) <= version);
                may_drop_tombstone(&horizons, added) && outside.as_ref().is_some_and(|o| !o.iter().any(older))
            };
            let plan = merge::plan(&inputs, may_drop);
            let merged = match plan.is_empty() {
                true => Ok(None),
                false => {
                    let mut out = Limited { out: &mut upload, left: limit };
                    merge::write(&inputs, &plan, stemming, origin, &mut out, &cancelled).map(Some)
                }
            };
            (upload, plan, merged, anonymous_bytes())
        })
        .await;
        self.peak.fetch_max(memory, Ordering::Relaxed);
        let Some(merged) = merged.map_err(|e| self.failed(&key, &e))? else { return Ok((None, plan)) };
        docweir_core::failpoint::reach("compaction.written", "");
        upload.finish().await?;
        docweir_core::failpoint::reach("compaction.staged", "");
        self.written.fetch_add(merged.bytes, Ordering::Relaxed);
        let file = LiveFile {
            rows: plan.rows,
            documents: plan.documents,
            tombstones: plan.tombstones,
            bytes: merged.bytes,
            crc32: merged.crc32,
            ..validate::proposed(name, FileKind::Snapshot, self.manifest.generation, self.manifest.version)
        };
        Ok((Some(file), plan))
    }

    fn look(&self) -> Result<(), VectorError> {
        self.peak.fetch_max(anonymous_bytes(), Ordering::Relaxed);
        match self.cancelled.is_cancelled() {
            true => Err(VectorError::Cancelled { collection: self.store.collection.clone() }),
            false => Ok(()),
        }
    }

    fn failed(&self, key: &str, error: &io::Error) -> VectorError {
        match error.kind() {
            io::ErrorKind::Interrupted => VectorError::Cancelled { collection: self.store.collection.clone() },
            _ if error.get_ref().is_some_and(|e| e.is::<AboveLimit>()) => VectorError::MergeTooLarge {
                collection: self.store.collection.clone(),
                limit: self.store.objects.max_copy_bytes().unwrap_or(u64::MAX),
            },
            _ => VectorError::Object(docweir_objects::write_failure(key, error)),
        }
    }
}

/// Passes writes on until a limit is reached, so that a result which nobody could open is not written to its end.
struct Limited<'o> {
    out: &'o mut dyn Write,
    /// Number of bytes that may still be written.
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("merged file is too large")]
struct AboveLimit;

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other(AboveLimit));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
