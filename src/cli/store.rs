//! Implements `docweir store`, which inspects, verifies, cleans up, rolls back and exports the vector files.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use docweir_core::clock::timestamp;
use docweir_core::documents::{DocumentId, Stage};
use docweir_index::manifest::{FileKind, Manifest};
use docweir_index::verify::{Disagreement, Recorded, compare};
use docweir_index::{Collected, CollectionScope, VectorError, VectorStore, Write};
use docweir_objects::lease::LeaseRegister;
use docweir_records::document_id;
use docweir_stores::batches::{Batches, RecordOutbox, Space};
use docweir_stores::control::{ControlError, ControlRecord, DocumentStatus, RecordFilter};
use serde_json::json;

use super::args;
use super::context::Context;
use super::documents::each;
use super::output::{count, plural, print_error};
use super::rollback;
use super::table::{Table, left, right};
use super::unknown_collection::unknown_collection;
use crate::engine::Engine;
use crate::exit::{Exit, Failure};

/// Maximum number of tombstones in one commit.
const TOMBSTONES: usize = 2_000;
/// Target size of an exported file, in bytes.
const PART_BYTES: u64 = 64 << 20;

pub fn run(context: &Context, command: &args::Store) -> Result<Exit, Failure> {
    context.block_on(async {
        let only_reads = matches!(command, args::Store::Info { .. } | args::Store::Verify { repair: false, .. });
        let engine = match only_reads {
            true => Engine::open_to_read(context.config()?).await?,
            false => Engine::open(context.config()?).await?,
        };
        let vectors = engine.vectors()?;
        match command {
            args::Store::Info { json } => info(context, &engine, &vectors, *json).await,
            args::Store::Verify { repair, json } => verify(context, &engine, &vectors, *repair, *json).await,
            args::Store::Gc { all, json } => gc(context, &engine, &vectors, *all, *json).await,
            args::Store::Rollback { to, hold } => rollback::run(context, &engine, &vectors, *to, *hold).await,
            args::Store::Export { folder, as_of } => {
                export(context, &vectors, folder, *as_of, engine.config.settings.retention.pin_seconds).await
            }
        }
    })
}

/// Formats a size as `3.4 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} bytes");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

async fn info(context: &Context, engine: &Engine, vectors: &VectorStore, json: bool) -> Result<Exit, Failure> {
    let Some(manifest) = vectors.manifest().await? else { return Err(unknown_collection(engine).await) };
    let key = format!("vectors/{}/LEASE", vectors.collection());
    let lease = LeaseRegister::new(engine.objects.clone(), key, engine.clock.clone()).read().await;
    let now_ms = engine.clock.now().div_euclid(1000);
    let lease = lease.ok().flatten().filter(|l| !l.holder.is_empty() && l.expires_at_ms > now_ms);
    let stats = vectors.view().await?.stats();
    let out = &context.out;
    if json {
        out.json(&json!({
            "collection": vectors.collection(),
            "version": manifest.version,
            "retained_from": manifest.retained_from,
            "gc_floor": manifest.gc_floor,
            "epoch": manifest.epoch,
            "generation": manifest.generation,
            "model": manifest.model(),
            "documents": stats.documents,
            "rows": stats.rows,
            "hidden_rows": stats.hidden_rows,
            "tombstones": stats.tombstones,
            "memory_bytes": stats.memory_bytes,
            "live": manifest.live,
            "removed": manifest.removed,
            "history": manifest.history,
            "lease": lease,
        }));
        return Ok(Exit::Success);
    }
    let model =
        manifest.model().map(|m| format!("{} ({} dimensions)", m.id, m.dimension)).unwrap_or_else(|| "none yet".into());
    let of = |kind: FileKind| manifest.live.iter().filter(move |f| f.kind == kind);
    let sum = |kind| plural_files(of(kind).count(), of(kind).map(|f| f.bytes).sum());
    let old: u64 = manifest.removed.iter().map(|r| r.file.bytes).sum();
    let hidden = match stats.hidden_rows {
        0 => String::new(),
        n => format!(", {} replaced or deleted but not yet removed by a merge", count(n as u64)),
    };
    let mut table = Table::new();
    let facts = [
        ("collection", vectors.collection().to_owned()),
        ("model", model),
        ("documents", count(stats.documents as u64)),
        ("passages", format!("{}{hidden}", count(stats.rows as u64))),
        ("snapshots", sum(FileKind::Snapshot)),
        ("deltas", sum(FileKind::Delta)),
        ("old files kept", plural_files(manifest.removed.len(), old)),
        ("version", format!("{}, rollback possible to {}", manifest.version, manifest.retained_from.max(1))),
        ("compaction by", lease.map_or("none".into(), |l| l.holder)),
    ];
    facts.into_iter().for_each(|(name, value)| table.row([left(name), left(value)]));
    table.print(out);
    out.line("");
    versions(&manifest).print(out);
    Ok(Exit::Success)
}

fn plural_files(files: usize, size: u64) -> String {
    match files {
        0 => "none".into(),
        n => format!("{}, {}", plural(n as u64, "file"), bytes(size)),
    }
}

/// Returns a table of the newest versions that can still be read, at most 20. The newest version is in the last row.
fn versions(manifest: &Manifest) -> Table {
    const SHOWN: usize = 20;
    let mut table = Table::new().head(&["version", "since", "files", "passages in them", ""]);
    let reachable: Vec<_> = manifest.history.iter().filter(|h| h.version >= manifest.retained_from).collect();
    for entry in reachable.iter().skip(reachable.len().saturating_sub(SHOWN)) {
        let live = manifest.live_at(entry.version);
        table.row([
            right(entry.version.to_string()),
            left(timestamp(entry.at_ms.saturating_mul(1000)).get(..19).unwrap_or_default().replace('T', " ")),
            right(count(live.len() as u64)),
            right(count(live.iter().map(|f| f.rows).sum())),
            left(""),
        ]);
    }
    table
}

async fn verify(
    context: &Context,
    engine: &Engine,
    vectors: &Arc<VectorStore>,
    repair: bool,
    json: bool,
) -> Result<Exit, Failure> {
    // The lock excludes a running ingest, which repairs such documents by itself.
    let _lock = if repair { Some(engine.lock("docweir store verify --repair")?) } else { None };
    let rebuilt = if repair { vectors.rebuild_manifest().await? } else { None };
    if rebuilt.is_some() {
        delete_again(engine, vectors).await?;
    }
    let verified = vectors.verify().await?;
    // If a live file is damaged, the state of its documents is unknown.
    let damaged = verified.findings.iter().any(|f| f.live);
    let disagreements = if damaged { Vec::new() } else { disagreements(engine, vectors).await? };
    let out = &context.out;
    let mut mended = 0;
    if repair {
        for disagreement in &disagreements {
            if let Disagreement::NotVisible { document, .. } = disagreement {
                engine.control.reset(document, Some(Stage::Loading)).await?;
                mended += 1;
            }
        }
        if !verified.orphans.is_empty() {
            mended += vectors.collect(CollectionScope::Orphans).await?.deleted.len() as u64;
        }
    }
    if json {
        out.json(
            &json!({ "verified": verified, "disagreements": disagreements, "mended": mended, "rebuilt": rebuilt }),
        );
    } else {
        if let Some(rebuilt) = &rebuilt {
            let (files, rows) = (plural(rebuilt.files, "file"), plural(rebuilt.rows, "passage"));
            out.line(format!("rebuilt the manifest from {files} with {rows}"));
        }
        out.line(format!(
            "read {}, {}, {}",
            plural(verified.files, "file"),
            bytes(verified.bytes),
            plural(verified.rows, "passage")
        ));
        for finding in &verified.findings {
            let advice = match finding.live {
                true => "restore this file from a backup, or roll back to an older version (`docweir store rollback`)",
                false => "only older versions use this file; `docweir store gc --all` deletes these versions",
            };
            out.line(format!("{}: {}; {advice}", out.red(&finding.key), finding.what));
        }
        for disagreement in &disagreements {
            out.line(match disagreement {
                Disagreement::NotVisible { document, recorded, .. } => {
                    format!("{document}: version {recorded} is recorded as loaded but is not in the index")
                }
                Disagreement::NotRecorded { document, visible } => {
                    format!(
                        "{document}: version {visible} is in the index, but the control store does not record it as \
                         loaded; run `docweir delete {document}`"
                    )
                }
            });
        }
        if !verified.orphans.is_empty() {
            let count = plural(verified.orphans.len() as u64, "file");
            out.line(format!("{count} not referenced by any version: left by a crash, or still being written"));
        }
        if repair && mended > 0 {
            out.line(format!(
                "repaired {mended}; {}",
                "the next `docweir ingest` loads the documents that are pending again"
            ));
        } else if !repair
            && (disagreements.iter().any(|d| matches!(d, Disagreement::NotVisible { .. }))
                || !verified.orphans.is_empty())
        {
            out.line("run `docweir store verify --repair` to repair this");
        }
    }
    let left = |d: &Disagreement| !repair || matches!(d, Disagreement::NotRecorded { .. });
    let well = verified.findings.is_empty() && !disagreements.iter().any(left);
    if well && !json {
        out.line(out.green("no problems found"));
    }
    Ok(if well { Exit::Success } else { Exit::Failed })
}

/// Deletes the documents that a rebuilt manifest shows again, although the control store records them as deleted. Their
/// rows are still in files that a merge had replaced. Records that are missing are marked to be embedded again. For
/// deleted records no such list exists, so they may be found again.
async fn delete_again(engine: &Engine, vectors: &Arc<VectorStore>) -> Result<(), Failure> {
    if let Some(batches) = record_items(engine, vectors).await? {
        reconcile(batches.as_ref(), vectors).await?;
        print_error("records that were deleted before the last merge may be found again; delete them again");
        return Ok(());
    }
    let mut tombstones = Vec::new();
    for disagreement in disagreements(engine, vectors).await? {
        let Disagreement::NotRecorded { document, visible } = disagreement else { continue };
        // A document that the control store does not know is reported and kept.
        match engine.control.record(&document).await {
            Ok(record) if record.status == DocumentStatus::Deleted => {
                tombstones.push(Write::Delete { document_id: document, version: record.version.max(visible) });
            }
            Ok(_) | Err(ControlError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let manifest = vectors.manifest().await?;
    let Some(model) = manifest.as_ref().and_then(|m| m.model()).filter(|_| !tombstones.is_empty()) else {
        return Ok(());
    };
    let mut writer = vectors.writer();
    for part in tombstones.chunks(TOMBSTONES) {
        writer.commit(part.to_vec(), model).await?;
    }
    Ok(())
}

pub async fn disagreements(engine: &Engine, vectors: &VectorStore) -> Result<Vec<Disagreement>, Failure> {
    if record_items(engine, vectors).await?.is_some() {
        return Ok(Vec::new());
    }
    let mut recorded: BTreeMap<DocumentId, Recorded> = BTreeMap::new();
    each(engine.control.as_ref(), &RecordFilter::default(), |record| {
        let says = says(&record);
        recorded.insert(record.document_id, says);
    })
    .await?;
    let found = compare(&recorded, &vectors.inventory().await?.documents);
    // Other processes keep working. A document whose record changed between the two reads is not reported.
    let mut certain = Vec::with_capacity(found.len());
    for disagreement in found {
        let (Disagreement::NotVisible { document, .. } | Disagreement::NotRecorded { document, .. }) = &disagreement;
        let same = match engine.control.record(document).await {
            Ok(record) => recorded.get(document) == Some(&says(&record)),
            Err(ControlError::NotFound(_)) => true,
            Err(e) => return Err(e.into()),
        };
        if same {
            certain.push(disagreement);
        }
    }
    Ok(certain)
}

fn says(record: &ControlRecord) -> Recorded {
    match (record.status, record.loaded_version) {
        (DocumentStatus::Deleted, _) => Recorded::Deleted,
        (DocumentStatus::Completed, Some(version)) => Recorded::Loaded(version),
        _ => Recorded::UnderWay,
    }
}

async fn gc(context: &Context, engine: &Engine, vectors: &VectorStore, all: bool, json: bool) -> Result<Exit, Failure> {
    let reach = if all { CollectionScope::All } else { CollectionScope::Due(engine.config.settings.retention) };
    let collected = vectors.collect(reach).await?;
    match json {
        true => context.out.json(&collected),
        false => told(&collected).iter().for_each(|line| context.out.line(line)),
    }
    Ok(Exit::Success)
}

fn told(collected: &Collected) -> Vec<String> {
    let mut lines = vec![match collected.deleted.len() as u64 {
        0 => "nothing to delete".to_owned(),
        n => format!("deleted {}, {}", plural(n, "file"), bytes(collected.bytes)),
    }];
    if collected.pinned > 0 {
        lines.push(format!("{} kept because a reader uses an earlier version", plural(collected.pinned, "file")));
    }
    if !collected.unreadable.is_empty() {
        let names = collected.unreadable.join(", ");
        lines.push(format!("kept unrecognised files: {names}"));
    }
    lines
}

/// Returns the item store if the collection holds records. Returns `None` if the collection holds documents, because
/// documents are tracked in the control store.
pub async fn record_items(engine: &Engine, vectors: &VectorStore) -> Result<Option<Arc<dyn Batches>>, Failure> {
    if !engine.has_ledger() {
        return Ok(None);
    }
    let batches = engine.batches()?;
    let records = batches.collections().await?.iter().any(|(name, _)| name == vectors.collection());
    Ok(records.then_some(batches))
}

/// Compares two versions of each record: the version in the collection, and the version in the item store. If the
/// versions differ, or if the record is missing from the collection, marks the record to be embedded again. Returns
/// the number of marked records.
pub async fn reconcile(batches: &dyn RecordOutbox, vectors: &VectorStore) -> Result<u64, Failure> {
    let inventory = vectors.inventory().await?;
    let held: HashMap<DocumentId, u64> = inventory
        .documents
        .into_iter()
        .filter(|(_, held)| !held.tombstone)
        .map(|(id, held)| (id, held.version))
        .collect();
    let space = Space::Records(vectors.collection().to_owned());
    Ok(batches.reconcile(&space, Arc::new(move |key| held.get(&document_id(key)).copied())).await?)
}

async fn export(
    context: &Context,
    vectors: &VectorStore,
    folder: &Path,
    as_of: Option<u64>,
    pin_seconds: u64,
) -> Result<Exit, Failure> {
    let failed = |e: std::io::Error| Failure::system(format!("cannot write to {}: {e}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    if std::fs::read_dir(folder).map_err(failed)?.next().is_some() {
        return Err(Failure::usage(format!("{} is not empty; choose an empty or new folder", folder.display())));
    }
    // Pin the version so that its files are not deleted before they are open.
    let mark = vectors.pin(as_of, pin_seconds).await?;
    let view = vectors.view_pinned(&mark).await;
    vectors.unpin(mark).await?;
    let view = view?;
    let mut parts = 0u64;
    let rows = vectors.export(&view, PART_BYTES, |body: Bytes| {
        // The file gets its name only after it is complete.
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&body)?;
            file.as_file().sync_all()?;
            file.persist(folder.join(format!("part-{parts:05}.parquet"))).map_err(|e| e.error)
        };
        write().map_err(|e| Exported::Failed(failed(e)))?;
        parts += 1;
        Ok::<(), Exported>(())
    });
    let rows = rows.map_err(|e| match e {
        Exported::Failed(failure) => failure,
        Exported::Store(error) => error.into(),
    })?;
    let (parts, rows) = (plural(parts, "file"), plural(rows, "passage"));
    context.out.line(format!("wrote {rows} of version {} to {parts} in {}", view.version(), folder.display()));
    Ok(Exit::Success)
}

enum Exported {
    Failed(Failure),
    Store(VectorError),
}

impl From<VectorError> for Exported {
    fn from(error: VectorError) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_for_people() {
        for (n, text) in [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(bytes(n), text);
        }
    }
}
