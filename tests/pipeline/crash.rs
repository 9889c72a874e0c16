//! A process that dies anywhere leaves a state that the next one completes.

use std::time::Duration;

use rustix::process::Signal;

use crate::kit::{Place, eventually};

/// Stage boundaries where the process can be made to kill itself (SIGKILL), each at its first and its third time.
const BOUNDARIES: &[&str] = &[
    "intake.registered",
    "dispatcher.claimed",
    "extraction.begun",
    "extraction.artefact",
    "extraction.settled",
    "chunking.artefact",
    "chunking.settled",
    "enrichment.artefact",
    "enrichment.settled",
    "embedding.artefact",
    "embedding.settled",
    "commit.staged",
    "commit.swapped",
    "loading.settled",
];

#[test]
fn killed_at_each_stage_boundary_the_next_run_completes() {
    for boundary in BOUNDARIES {
        for time in [1, 3] {
            let place = Place::new();
            place.generate(5);
            let mut command = place.command(["ingest", "docs", "--progress", "none"]);
            command.env("DOCWEIR_FAILPOINT", format!("{boundary}={time}"));
            let output = command.output().unwrap();
            let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
            // A group of documents is one commit: there may be no third.
            let once_only = time > 1 && (boundary.starts_with("commit.") || boundary.starts_with("intake."));
            assert!(signal == Some(9) || once_only, "{boundary}={time}: {:?}", output.status);
            place.ingest(&[]).code(0);
            place.assert_complete(5);
            assert_each_once(&place, 5);
            assert_nothing_orphaned(&place, 5);
        }
    }
}

#[test]
fn killed_at_random_moments_again_and_again_every_document_is_complete_exactly_once() {
    let kills: u64 = std::env::var("DOCWEIR_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let documents = 50;
    let place = Place::new();
    place.generate(documents);
    let mut chance = fastrand::Rng::with_seed(0x5eed);
    let slow = ["--set", "embed.options.hashed_milliseconds=2"];
    for kill in 0..kills {
        let mut run = place.spawn(&[&["ingest", "docs", "--progress", "none"], &slow[..]].concat());
        std::thread::sleep(Duration::from_millis(chance.u64(5..700)));
        if run.is_running() {
            run.signal(Signal::KILL);
        }
        run.finish();
        if kill % 5 == 4 || kills <= 10 {
            assert_nothing_half_visible(&place);
        }
        if kill % 20 == 19 {
            // Something to do again: what is done for good would make the later kills hit nothing.
            for seed in 0..documents {
                place.write(format!("{seed:04}.pdf"), docweir_testkit::two_pages(seed + 1_000 * (kill + 1)));
            }
        }
    }
    place.ingest(&[]).code(0);
    place.assert_complete(documents as usize);
    assert_each_once(&place, documents as usize);
    assert_nothing_orphaned(&place, documents as usize);
}

#[test]
fn a_panic_that_aborts_the_process_is_resumed_and_a_document_that_does_it_again_and_again_is_quarantined() {
    let place = Place::new();
    place.write("good.txt", "Nothing to see here.\n");
    place.write("bad.txt", "Kills its process.\n");
    let set = ["--set", "lease.max_interruptions=3"];
    for _ in 0..20 {
        let mut command = place.command([&["ingest", "docs", "--json", "--progress", "none"], &set[..]].concat());
        // Whoever chunks `bad.txt` takes the process down.
        command.env("DOCWEIR_FAILPOINT", "chunking.begun@bad.txt=*");
        let ran = crate::kit::Ran::of(command.output().unwrap());
        if ran.status.code().is_some() {
            ran.code(3);
            break;
        }
    }
    let records = place.records();
    let status =
        |name: &str| records.iter().find(|r| r["source"].as_str().unwrap().ends_with(name)).unwrap()["status"].clone();
    assert_eq!((status("good.txt"), status("bad.txt")), ("COMPLETED".into(), "QUARANTINED".into()));
}

#[test]
fn a_child_process_that_dies_costs_one_attempt() {
    let place = Place::new();
    place.generate(20);
    let run = place.spawn(&["ingest", "docs", "--json", "--progress", "none"]);
    let mut killed = 0;
    eventually("two children were killed", || {
        for child in children(run.id()) {
            if killed < 2 && rustix::process::kill_process(child, Signal::KILL).is_ok() {
                killed += 1;
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        killed == 2
    });
    run.finish().code(0);
    place.assert_complete(20);
}

fn children(pid: u32) -> Vec<rustix::process::Pid> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|p| rustix::process::Pid::from_raw(p.parse().ok()?)).collect()
}

/// Each document's marker words are found in that document alone, on each of its pages.
fn assert_each_once(place: &Place, documents: usize) {
    let records = place.records();
    let chunks: u64 =
        records.iter().map(|r| r["stage_status"]["chunking"]["chunks_created"].as_f64().unwrap() as u64).sum();
    let index = place.run(["status", "--json"]).json()[0]["index"].clone();
    assert_eq!(index["chunks"], chunks, "as many passages in the index as chunks were made of {documents} documents");
}

/// At any moment a document is in the index whole or not at all.
fn assert_nothing_half_visible(place: &Place) {
    if !place.state().exists() {
        return;
    }
    let status = place.run(["status", "--json"]);
    status.code(0);
    for record in place.records() {
        if record["status"] == "COMPLETED" {
            assert_eq!(record["loaded_version"], record["version"], "{record}");
        }
    }
}

/// Artefacts belong to documents, and no temporary file is left.
fn assert_nothing_orphaned(place: &Place, documents: usize) {
    let folders = |name: &str| std::fs::read_dir(place.state().join("objects").join(name)).map_or(0, |d| d.count());
    assert_eq!(folders("extracted"), documents);
    for name in ["chunks", "enriched", "embeddings"] {
        assert_eq!(folders(name), documents, "{name}");
    }
    assert_eq!(crate::kit::files(&place.state().join("objects/errors")).len(), 0);
}
