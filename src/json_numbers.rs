//! Tests that no type reads decimal numbers in a way that fails.
//!
//! serde buffers the fields of flattened, untagged and internally tagged types. A buffered decimal number is a map with
//! a private key, because serde_json keeps the digits of numbers (decision 0023), and reading an `f64` from it fails at
//! run time. The test therefore lists all places with such types.

use std::path::{Path, PathBuf};

/// Files with such types, and why they are safe.
const SAFE: &[(&str, &str)] = &[
    ("crates/core/src/model.rs", "the level of a heading is a whole number"),
    ("crates/index/src/snapshot/mod.rs", "the headers hold texts and whole numbers"),
    ("crates/providers/src/secrets/setting.rs", "the forms are texts, and are read from TOML"),
    ("crates/stages/src/chunk/artefact.rs", "the type is only written"),
    ("crates/stages/src/embed/artefact.rs", "the type is only written"),
    ("crates/stores/src/control/mod.rs", "the metrics are read as JSON numbers"),
    ("src/cli/estimate.rs", "the type is only written"),
    ("src/cli/summary.rs", "the type is only written"),
    ("src/infra/mod.rs", "the type is only written"),
    ("src/messages/event.rs", "the type is only written"),
    ("src/pipeline/pages.rs", "the type is only written"),
    ("src/supervisors/stats.rs", "the type is only written"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn buffered_types_are_known_and_safe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "crates", "examples/jsonl-target/src"] {
        sources(&root.join(folder), &mut paths);
    }
    let buffered = regex::Regex::new(r#"#\[serde\([^)]*\b(flatten|untagged|tag\s*=)"#).unwrap();
    let mut found: Vec<String> = paths
        .iter()
        .filter(|path| buffered.is_match(&std::fs::read_to_string(path).unwrap()))
        .map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let known: Vec<&str> = SAFE.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, known, "read decision 0023 before you use flatten, untagged or tag with serde");
}
