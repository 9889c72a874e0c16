//! Tests that the next run completes all work, wherever the process was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::kit::{TestFolder, eventually};

/// Lists the failpoints at which the process kills itself with SIGKILL. Each failpoint is tested twice: the process
/// dies when it reaches the failpoint for the first time, or for the third time.
const BOUNDARIES: &[&str] = &[
    "intake.registered",
    "dispatcher.claimed",
    "extraction.begun",
    "extraction.artefact",
    "extraction.persisted",
    "chunking.artefact",
    "chunking.persisted",
    "enrichment.artefact",
    "enrichment.persisted",
    "embedding.artefact",
    "embedding.persisted",
    "commit.staged",
    "commit.swapped",
    "loading.persisted",
];

#[test]
fn killed_at_each_stage_boundary_the_next_run_completes() {
    for boundary in BOUNDARIES {
        for time in [1, 3] {
            let place = TestFolder::new();
            place.generate(5);
            let mut command = place.command(["ingest", "docs", "--progress", "none"]);
            command.env("DOCWEIR_FAILPOINT", format!("{boundary}={time}"));
            let output = command.output().unwrap();
            let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
            // Intake and commits handle documents in groups, so a run may not pass these failpoints three times.
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
    let place = TestFolder::new();
    place.generate(documents);
    let mut whole = Whole::default();
    whole.learn(documents, 0);
    let mut chance = fastrand::Rng::with_seed(0x5eed);
    let slow = ["--set", "embed.options.hashed_milliseconds=2"];
    let (mut killed, mut content) = (0, 0);
    while killed < kills {
        let mut run = place.spawn(&[&["ingest", "docs", "--progress", "none"], &slow[..]].concat());
        std::thread::sleep(Duration::from_millis(chance.u64(5..700)));
        let hit = run.is_running();
        if hit {
            run.signal(Signal::KILL);
        }
        run.finish();
        whole.assert_nothing_half_visible(&place);
        killed += u64::from(hit);
        if !hit || killed % 10 == 0 {
            // The next run gets new work, because a run without work ends before it can be killed.
            content += 1_000;
            for seed in 0..documents {
                place.write(format!("{seed:04}.pdf"), docweir_testkit::two_pages(seed + content));
            }
            whole.learn(documents, content);
        }
    }
    place.ingest(&[]).code(0);
    place.assert_complete(documents as usize);
    assert_each_once(&place, documents as usize);
    assert_nothing_orphaned(&place, documents as usize);
    whole.assert_newest(&place);
}

#[test]
fn killed_around_a_quarantine_nothing_is_kept_that_no_record_speaks_of() {
    for boundary in ["quarantine.kept", "quarantine.persisted"] {
        let place = TestFolder::new();
        place.write("scan.pdf", docweir_testkit::hostile::no_text());
        place.write("empty.pdf", "");
        let kill = |args: &[&str]| {
            let mut command = place.command([&["ingest", "docs", "--progress", "none"], args].concat());
            command.env("DOCWEIR_FAILPOINT", format!("{boundary}=1"));
            let status = command.status().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{boundary}");
        };
        kill(&[]);
        place.ingest(&[]).code(3);
        assert_eq!(kept(&place), spoken_of(&place), "{boundary}");
        assert_eq!(kept(&place).len(), 4, "{boundary}: an error report and an original of each document");
        // The documents are quarantined again, for another reason. The first copies must then be deleted.
        place.run(["quarantine", "replay", "--all"]).code(0);
        kill(&["--set", "extract.options.limits.input_bytes=1024"]);
        place.ingest(&["--set", "extract.options.limits.input_bytes=1024"]).code(3);
        assert_eq!(kept(&place), spoken_of(&place), "{boundary}");
    }
}

#[test]
fn killed_when_a_replayed_document_is_complete_nothing_of_its_quarantine_is_left() {
    let place = TestFolder::new();
    place.write("scan.pdf", docweir_testkit::hostile::no_text());
    place.ingest(&[]).code(3);
    place.run(["quarantine", "replay", "--all"]).code(0);
    let mend = ["--set", "extract.options.accept_textless=true"];
    let mut command = place.command([&["ingest", "docs", "--progress", "none"], &mend[..]].concat());
    command.env("DOCWEIR_FAILPOINT", "loading.persisted=1");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&command.status().unwrap()), Some(9));
    assert_eq!(kept(&place).len(), 2, "the record must be written before the copies are deleted");
    place.ingest(&mend).code(0);
    place.assert_complete(1);
    assert_eq!(kept(&place), [""; 0]);
}

#[test]
fn a_panic_that_aborts_the_process_is_resumed_and_a_document_that_does_it_again_and_again_is_quarantined() {
    let place = TestFolder::new();
    place.write("good.txt", "Nothing to see here.\n");
    place.write("bad.txt", "Kills its process.\n");
    let set = ["--set", "lease.max_interruptions=3"];
    for _ in 0..20 {
        let mut command = place.command([&["ingest", "docs", "--json", "--progress", "none"], &set[..]].concat());
        // The process dies whenever it chunks `bad.txt`.
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
fn a_panic_in_any_stage_is_one_attempt_and_a_document_that_panics_always_is_quarantined_alone() {
    for stage in ["extraction", "chunking", "enrichment", "embedding", "loading"] {
        let place = TestFolder::new();
        place.generate(4);
        place.write("bad.txt", "Panics wherever it comes.\n");
        let run = |failpoint: String| {
            let mut command = place.command(["ingest", "docs", "--json", "--progress", "none"]);
            command.args(["--set", "retry.waits_seconds=[0.0]"]).env("DOCWEIR_FAILPOINT", failpoint);
            crate::kit::Ran::of(command.output().unwrap())
        };
        let summary = run(format!("{stage}.work@bad.txt=panic:*")).code(3).summary();
        assert_eq!(summary["completed"], 4, "{stage}");
        let record = place.records().into_iter().find(|r| r["status"] == "QUARANTINED").unwrap();
        assert_eq!((&record["error_stage"], &record["last_error"]["class"]), (&stage.into(), &"crash".into()));
        assert_eq!(record["retry_count"], 2, "{stage}: quarantined at the third attempt");

        place.run(["quarantine", "replay", "--all"]).code(0);
        run(format!("{stage}.work@bad.txt=panic:1")).code(0);
        place.assert_complete(5);
    }
}

#[test]
fn a_document_that_can_not_be_taken_up_is_quarantined_and_the_rest_goes_on() {
    let place = TestFolder::new();
    place.generate(4);
    place.write("bad.txt", "Panics when it is taken up.\n");
    let mut command = place.command(["ingest", "docs", "--json", "--progress", "none"]);
    command.env("DOCWEIR_FAILPOINT", "dispatcher.resume@bad.txt=panic:*");
    let summary = crate::kit::Ran::of(command.output().unwrap()).code(3).summary();
    assert_eq!(
        (&summary["completed"], &summary["quarantined"][0]["error"]["code"]),
        (&4.into(), &"dispatch_panicked".into())
    );
}

#[test]
fn a_child_process_that_dies_costs_one_attempt() {
    let place = TestFolder::new();
    place.generate(20);
    let run = place.spawn_ingest(&[]);
    let mut killed = 0;
    eventually("two child processes are killed", || {
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

/// Returns the children of a process. The system lists them by the thread that started them.
fn children(pid: u32) -> Vec<rustix::process::Pid> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed: String =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect();
    listed.split_whitespace().filter_map(|p| rustix::process::Pid::from_raw(p.parse().ok()?)).collect()
}

/// Asserts that the index contains as many passages as the documents have chunks.
fn assert_each_once(place: &TestFolder, documents: usize) {
    let records = place.records();
    let chunks: u64 =
        records.iter().map(|r| r["stage_status"]["chunking"]["chunks_created"].as_f64().unwrap() as u64).sum();
    let index = place.run(["status", "--json"]).json()[0]["index"].clone();
    assert_eq!(index["chunks"], chunks, "passages in the index differ from the chunks of {documents} documents");
}

/// Holds the expected passages of each document, by file name. If a test replaces the content of a file, each content
/// has its own list of passages. The lists come from runs that nothing interrupted.
#[derive(Default)]
struct Whole(BTreeMap<String, Vec<Vec<String>>>);

impl Whole {
    /// Ingests documents with the seeds `first..first + documents` in an undisturbed run, and stores their passages.
    fn learn(&mut self, documents: u64, first: u64) {
        let undisturbed = TestFolder::new();
        for seed in 0..documents {
            undisturbed.write(format!("{seed:04}.pdf"), docweir_testkit::two_pages(first + seed));
        }
        undisturbed.ingest(&[]).code(0);
        for (name, texts) in undisturbed.visible() {
            assert!(texts.len() > 1, "a document with one passage cannot be partly visible");
            self.0.entry(name).or_default().push(texts);
        }
    }

    /// Asserts that no document is partly visible. If a document is visible to searches, exactly the passages of one of
    /// its contents must be visible.
    fn assert_nothing_half_visible(&self, place: &TestFolder) {
        for (name, texts) in place.visible() {
            assert!(self.0[&name].contains(&texts), "{name} is visible as {texts:#?}");
        }
    }

    fn assert_newest(&self, place: &TestFolder) {
        let newest = |(name, contents): (&String, &Vec<Vec<String>>)| (name.clone(), contents.last().unwrap().clone());
        assert_eq!(place.visible(), self.0.iter().map(newest).collect());
    }
}

/// Returns the keys of all objects that the quarantine keeps.
fn kept(place: &TestFolder) -> Vec<String> {
    let objects = place.state().join("objects");
    let folders = ["errors", "input/_quarantine"].map(|name| crate::kit::files(&objects.join(name)));
    let key = |path: &PathBuf| path.strip_prefix(&objects).unwrap().to_str().unwrap().to_owned();
    let mut keys: Vec<_> = folders.concat().iter().map(key).collect();
    keys.sort();
    keys
}

/// Returns the keys of the quarantined objects that are named in the control records.
fn spoken_of(place: &TestFolder) -> Vec<String> {
    let named = |record: &Value| {
        ["quarantine_artefact", "quarantine_original"].map(|name| record[name].as_str().map(ToOwned::to_owned))
    };
    let mut keys: Vec<_> = place.records().iter().flat_map(named).flatten().collect();
    keys.sort();
    keys
}

/// Asserts that every artefact belongs to a document, that the manifest lists every vector file, and that the
/// quarantine is empty.
fn assert_nothing_orphaned(place: &TestFolder, documents: usize) {
    for name in ["extracted/", "chunks/", "enriched/", "embeddings/"] {
        // The second part of each key begins with the document's id: `doc_`, two numbers, and eight digits.
        let id = |key: String| key.split(['/', '_']).skip(1).take(4).collect::<Vec<_>>().join("_");
        let owners: BTreeSet<String> = place.artefacts(name).into_keys().map(id).collect();
        assert_eq!(owners.len(), documents, "{name}: {owners:?}");
    }
    assert_eq!(kept(place), [""; 0]);
    let verified = place.run(["store", "verify", "--json"]);
    verified.code(0);
    assert_eq!(verified.json()[0]["verified"]["orphans"], serde_json::json!([]));
}
