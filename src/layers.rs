//! Tests the layers of this package: each module in the list may use only itself and the modules before it.
//!
//! The crates' manifests enforce the dependencies between crates.

use std::path::{Path, PathBuf};

/// Modules from the lowest layer to the highest.
const ORDER: &[&str] = &[
    "supervisors",
    "intake",
    "messages",
    "telemetry",
    "actors",
    "config",
    "exit",
    "backends",
    "engine",
    "search",
    "http",
    "pipeline",
    "infra",
    "doctor",
    "cli",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn module(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn every_module_uses_only_those_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let uses = regex::Regex::new(r"\bcrate::(?:\{|([a-z_]+))").unwrap();
    let (mut wrong, mut looked_at) = (Vec::new(), 0);
    for path in sources(&root) {
        let module = module(&path, &root);
        if ["lib", "main", "layers", "json_numbers"].contains(&module.as_str()) {
            continue;
        }
        let place = ORDER.iter().position(|name| *name == module);
        let place = place.unwrap_or_else(|| panic!("add {module} to ORDER in src/layers.rs"));
        for found in uses.captures_iter(&std::fs::read_to_string(&path).unwrap()) {
            let Some(used) = found.get(1) else {
                wrong.push(format!("{}: name one module of `crate` in each import", path.display()));
                continue;
            };
            looked_at += 1;
            match ORDER.iter().position(|name| *name == used.as_str()) {
                Some(at) if at <= place => {}
                Some(_) => wrong.push(format!("{}: {module} must not use {}", path.display(), used.as_str())),
                None => wrong.push(format!("{}: add {} to ORDER in src/layers.rs", path.display(), used.as_str())),
            }
        }
    }
    assert!(looked_at > 300, "expected more than 300 uses of modules, found {looked_at}");
    assert_eq!(wrong, Vec::<String>::new(), "ORDER of src/layers.rs forbids these uses");
}
