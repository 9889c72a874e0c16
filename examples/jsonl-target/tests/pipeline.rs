//! Tests the whole pipeline with this target. Documents are written to the target, replaced in the target, and
//! deleted from the target.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use docweir_target::{Capabilities, Target};
use jsonl_target::JsonlTarget;

fn run(docs: &Path, target: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_jsonl-target")).arg(docs).arg(target).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Returns the texts of all rows in the target.
async fn texts(folder: &Path) -> BTreeSet<String> {
    let target = JsonlTarget::open(folder, "chunks", Capabilities::default()).unwrap();
    let documents: Vec<_> = target.list(None, 100).await.unwrap().into_iter().map(|(id, _)| id).collect();
    target.rows(&documents).await.unwrap().into_iter().flatten().map(|row| row.text).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn a_folder_is_kept_true_in_a_target_of_ones_own() {
    let place = tempfile::tempdir().unwrap();
    let (docs, target) = (place.path().join("docs"), place.path().join("target"));
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("a.txt"), "A lease is a right that ends.").unwrap();
    std::fs::write(docs.join("b.txt"), "A fence keeps late writes out.").unwrap();
    assert_eq!(run(&docs, &target), "2 documents are in the target\n");
    assert_eq!(texts(&target).await, set(&["A lease is a right that ends.", "A fence keeps late writes out."]));
    std::fs::write(docs.join("a.txt"), "A lease has an epoch.").unwrap();
    std::fs::remove_file(docs.join("b.txt")).unwrap();
    assert_eq!(run(&docs, &target), "1 documents are in the target\n");
    assert_eq!(texts(&target).await, set(&["A lease has an epoch."]));
    // A run without changes writes nothing.
    let before = std::fs::read(target.join("chunks.jsonl")).unwrap();
    run(&docs, &target);
    assert_eq!(std::fs::read(target.join("chunks.jsonl")).unwrap(), before);
}
