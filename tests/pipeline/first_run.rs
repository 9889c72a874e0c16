//! Ingests the example documents and searches them, with the real model if it is on this machine.

use crate::kit::{Ran, TestFolder, results};

#[test]
fn the_examples_are_ingested_and_answer_a_question() {
    let place = TestFolder::new();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/documents");
    let mut ingest = place.command(["ingest", examples, "--json", "--progress", "none"]);
    let mut search = place.command(["search", "--json", "-k", "3", "how is a stale lease fenced?"]);
    if model_is_here() {
        for command in [&mut ingest, &mut search] {
            command.env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "local");
        }
    } else {
        println!("skipped the real model, which is not on this machine; run `docweir ingest` once to fetch it");
    }
    let ran = Ran::of(ingest.output().unwrap());
    ran.code(0);
    assert_eq!(ran.summary()["completed"], 8);
    let ran = Ran::of(search.output().unwrap());
    ran.code(0);
    let sources: Vec<_> = results(&ran.json()[0]).iter().map(|h| h["source"].to_string()).collect();
    assert!(sources[0].contains("leases-and-fencing.pdf"), "{sources:?}");
}

/// Returns whether an earlier run of `docweir ingest` has stored the model on this machine.
fn model_is_here() -> bool {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    let cache = cache.or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.is_some_and(|c| c.join("docweir/models").is_dir())
}
