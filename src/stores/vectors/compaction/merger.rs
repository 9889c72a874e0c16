//! From the inputs of a merge to a staged file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{CompactionOptions, Report};
use crate::clock::{UnixMicros, timestamp};
use crate::memory::anonymous_bytes;
use crate::stores::vectors::error::VectorError;
use crate::stores::vectors::manifest::{FileKind, LiveFile, Manifest, ManifestVersion};
use crate::stores::vectors::merge::{self, Cancelled, Input, Plan};
use crate::stores::vectors::retention::may_drop_tombstone;
use crate::stores::vectors::retry::{blocking, ulid};
use crate::stores::vectors::segment::Segment;
use crate::stores::vectors::snapshot::{self, SnapshotHeader};
use crate::stores::vectors::{VectorStore, validate};

/// A merged file that no manifest names yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Staged {
    /// `None` where nothing of the inputs is left.
    pub snapshot: Option<LiveFile>,
    pub base_version: ManifestVersion,
    pub inputs: Vec<String>,
    pub report: Report,
}

/// Memory that an opened delta takes while it is merged, in multiples of its size: its columns, its codes and its
/// full-text index. Measured at 2.2 for chunks of 1,000 characters with 384 dimensions, and rounded up.
const MEMORY_FACTOR: u64 = 3;

pub(super) async fn merge(
    store: &Arc<VectorStore>,
    options: &CompactionOptions,
    random: &mut fastrand::Rng,
    manifest: &Manifest,
    inputs: &[LiveFile],
    why: &'static str,
    cancelled: &Cancelled,
) -> Result<Staged, VectorError> {
    let started = store.clock.now();
    let work = Work { store, manifest, cancelled, peak: AtomicU64::new(0), written: AtomicU64::new(0) };
    let (deltas, snapshots): (Vec<&LiveFile>, Vec<&LiveFile>) = inputs.iter().partition(|f| f.kind == FileKind::Delta);
    let mut opened = work.open(&snapshots).await?;
    let groups = groups(&deltas, options);
    let mut intermediates = Vec::new();
    if let [only] = groups.as_slice() {
        opened.extend(work.open(only).await?);
    } else {
        let named: Vec<_> = groups.into_iter().map(|group| (name(store, random), group)).collect();
        let merged = stream::iter(named).map(|(name, group)| work.intermediate(name, group));
        intermediates = merged.buffer_unordered(options.threads).try_collect::<Vec<_>>().await?;
        opened.extend(intermediates.iter().map(|(_, input)| input.clone()));
    }

    let outside = work.outside(inputs).await?;
    let may_drop = |input: &Input, id: &str, version| {
        let older = |s: &Arc<Segment>| s.documents().find(id).is_some_and(|at| s.documents().version(at) <= version);
        may_drop_tombstone(manifest, input.added_version) && outside.as_ref().is_some_and(|o| !o.iter().any(older))
    };
    let plan = merge::plan(&opened, may_drop);
    let snapshot = match plan.is_empty() {
        true => None,
        false => Some(work.write(name(store, random), opened, plan.clone()).await?),
    };
    for (name, input) in intermediates {
        drop(input);
        let _ = store.objects.delete(&store.key(&name)).await;
    }
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

fn elapsed(from: UnixMicros, to: UnixMicros) -> Duration {
    Duration::from_micros(u64::try_from(to.saturating_sub(from)).unwrap_or_default())
}

/// Deltas by what fits the memory together, a share for each thread; one that is too large alone goes alone.
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
    cancelled: &'w Cancelled,
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

    /// The live files that are not merged; `None` where one of them is a delta, which would have to be read for it.
    async fn outside(&self, inputs: &[LiveFile]) -> Result<Option<Vec<Arc<Segment>>>, VectorError> {
        let others = self.manifest.live.iter().filter(|f| !inputs.iter().any(|i| i.file == f.file));
        let others: Vec<&LiveFile> = others.collect();
        if others.iter().any(|f| f.kind == FileKind::Delta) {
            return Ok(None);
        }
        Ok(Some(self.open(&others).await?.into_iter().map(|i| i.segment).collect()))
    }

    /// Merges a group of deltas into a file of its own, opened again as a mapped one. No tombstone is dropped here.
    async fn intermediate(&self, name: String, group: Vec<&LiveFile>) -> Result<(String, Input), VectorError> {
        let added_version = group.iter().map(|f| f.added_version).max().unwrap_or_default();
        let opened = self.open(&group).await?;
        let plan = merge::plan(&opened, |_, _, _| false);
        let file = self.write(name.clone(), opened, plan).await?;
        let segment = Arc::new(self.store.open(&file).await?);
        Ok((name, Input { segment, added_version }))
    }

    async fn write(&self, name: String, inputs: Vec<Input>, plan: Plan) -> Result<LiveFile, VectorError> {
        let store = self.store;
        let key = store.key(&name);
        let model = self.manifest.model().cloned().or_else(|| inputs.first().map(|i| i.segment.model().clone()));
        let header = SnapshotHeader {
            format: snapshot::FORMAT,
            collection: store.collection.clone(),
            generation: self.manifest.generation,
            model: model.ok_or_else(|| VectorError::Encode("the inputs of a merge name no model".into()))?,
            base_version: self.manifest.version,
            created_at: timestamp(store.clock.now()),
            rows: 0,
            documents: 0,
            tombstones: 0,
            stemming: store.options.stemming,
            tokens_version: 0,
            codes_version: 0,
            highest_document_version: 0,
        };
        let mut upload = store.objects.create(&key).await?;
        let (stemming, cancelled) = (store.options.stemming, self.cancelled.clone());
        let counts = (plan.rows, plan.documents, plan.tombstones);
        let (upload, merged, memory) = blocking(move || {
            let merged = merge::write(&inputs, &plan, stemming, header, &mut upload, &cancelled);
            (upload, merged, anonymous_bytes())
        })
        .await;
        self.peak.fetch_max(memory, Ordering::Relaxed);
        let merged = merged.map_err(|e| self.failed(&key, &e))?;
        crate::failpoint::reach("compaction.written", "");
        upload.finish().await?;
        crate::failpoint::reach("compaction.staged", "");
        self.written.fetch_add(merged.bytes, Ordering::Relaxed);
        let (rows, documents, tombstones) = counts;
        Ok(LiveFile {
            rows,
            documents,
            tombstones,
            bytes: merged.bytes,
            crc32: merged.crc32,
            ..validate::proposed(name, FileKind::Snapshot, self.manifest.generation, self.manifest.version)
        })
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
            _ => VectorError::Object(crate::stores::objects::write_failure(key, error)),
        }
    }
}
