//! Implements `docweir compact`, which merges vector files into fewer, larger files.

use std::time::Duration;

use docweir_index::compaction::{Mode, Report};
use docweir_stores::state::owner_id;
use serde_json::json;

use super::args;
use super::context::Context;
use super::output::{duration, plural};
use super::store::bytes;
use crate::actors::maintenance::MaintenanceServices;
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::messages::compaction::Compacted;
use crate::supervisors::RootHandle;

/// Time from the end of a merge to the end of the process. A separate task needs this time to release the compaction
/// lease, which takes one small write.
const RELEASE: Duration = Duration::from_millis(50);

pub fn run(context: &Context, args: &args::Compact) -> Result<Exit, Failure> {
    context.with_actors(async {
        let engine = Engine::open(context.config()?).await?;
        engine.can_commit().await?;
        let mode = if args.all { Mode::All } else { Mode::Due };
        let compacted = compact(&engine, mode).await?;
        for report in &compacted.merges {
            match args.json {
                true => context.out.json(&machine(report)),
                false => context.out.line(line(report)),
            }
        }
        if compacted.busy {
            let text = "another process is merging files of this collection; `docweir store info` names the process";
            return Err(Failure::new(Exit::Busy, text));
        }
        if compacted.superseded > 0 {
            let text =
                "another process changed the files during the merge; no data is lost, run `docweir compact` again";
            return Err(Failure::new(Exit::Busy, text));
        }
        if compacted.merges.is_empty() && !args.json {
            let more = if args.all { "" } else { "; `--all` merges everything" };
            context.out.line(format!("nothing to merge{more}"));
        }
        Ok(Exit::Success)
    })
}

/// Merges files without running a pipeline. Only the services `lock`, `compactor` and `janitor` are started.
pub async fn compact(engine: &Engine, mode: Mode) -> Result<Compacted, Failure> {
    let root = RootHandle::start(engine.config.settings.restart.clone());
    let vectors = engine.vectors()?;
    let maintenance_config = engine.maintenance(&owner_id(engine.clock.as_ref()));
    let maintenance = MaintenanceServices::start(&maintenance_config, &vectors, &root);
    let compacted = tokio::select! {
        done = maintenance.compact(mode) => done.map_err(|e| Failure::system(e.to_string())),
        failure = root.failed() => Err(Failure::system(failure.to_string())),
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Signal(2), "stopped: nothing was changed")),
    };
    drop(maintenance);
    // A separate task releases the lease. If the release is lost, the next compaction waits until the lease expires.
    tokio::time::sleep(RELEASE).await;
    root.stop();
    compacted
}

fn line(report: &Report) -> String {
    let files = plural(report.input_files as u64, "file");
    let dropped = match report.input_rows - report.output_rows {
        0 => String::new(),
        rows => format!(", dropped {} that were replaced or deleted", plural(rows, "passage")),
    };
    format!(
        "merged {files} ({}) into one of {} with {}{dropped}: {} written in {}, peak memory {}",
        bytes(report.input_bytes),
        bytes(report.output_bytes),
        plural(report.output_rows, "passage"),
        bytes(report.written_bytes),
        duration(report.duration.as_secs_f64()),
        bytes(report.peak_memory_bytes),
    )
}

fn machine(report: &Report) -> serde_json::Value {
    json!({
        "why": report.why,
        "input_files": report.input_files,
        "input_bytes": report.input_bytes,
        "input_rows": report.input_rows,
        "output_bytes": report.output_bytes,
        "output_rows": report.output_rows,
        "written_bytes": report.written_bytes,
        "dropped_tombstones": report.dropped_tombstones,
        "seconds": report.duration.as_secs_f64(),
        "peak_memory_bytes": report.peak_memory_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_is_told_in_one_line() {
        let report = Report {
            why: "many deltas",
            input_files: 16,
            input_bytes: 3 << 20,
            input_rows: 1_200,
            output_bytes: 2 << 20,
            output_rows: 1_000,
            written_bytes: 2 << 20,
            dropped_tombstones: 1,
            duration: std::time::Duration::from_millis(340),
            peak_memory_bytes: 30 << 20,
        };
        let told = line(&report);
        assert!(told.starts_with("merged 16 files (3.0 MiB) into one of 2.0 MiB with 1,000 passages"), "{told}");
        assert!(told.contains("dropped 200 passages") && told.contains("0.3 s"), "{told}");
        assert!(told.ends_with("peak memory 30.0 MiB"), "{told}");
    }
}
