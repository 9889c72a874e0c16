use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::options::ModelSource;
use super::*;

const TOKENS: &str = r#"{"model": {"vocab": {"b": 1, "a": 0}}, "padding": null}"#;

fn options(folder: &Path) -> ModelOptions {
    ModelOptions {
        cache_folder: folder.join("cache").to_string_lossy().into_owned(),
        weights_sha256: Sha256Hex::of(b"weights").to_string(),
        vocabulary_sha256: Sha256Hex::of(b"a\nb").to_string(),
        pip_package: "no-such-package-of-docweir==0".into(),
        ..Default::default()
    }
}

fn run(options: &ModelOptions) -> Result<ModelFiles, StageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ensure_model(options, &|_| {}))
}

fn leftovers(options: &ModelOptions) -> usize {
    let folder = cache_folder(options).unwrap();
    std::fs::read_dir(folder)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".fetch"))
        .count()
}

/// Writes a model to a folder of the user, and returns options that have this folder as the only source.
fn from_folder(dir: &Path, weights: &str, tokenizer: &str) -> ModelOptions {
    std::fs::write(dir.join(WEIGHTS), weights).unwrap();
    std::fs::write(dir.join(TOKENIZER), tokenizer).unwrap();
    let folder = dir.to_string_lossy().into_owned();
    ModelOptions { sources: vec![ModelSource::File], folder, ..options(dir) }
}

#[test]
fn a_folder_of_the_users_own() {
    let dir = tempfile::tempdir().unwrap();
    let options = from_folder(dir.path(), "weights", TOKENS);
    let files = run(&options).unwrap();
    assert_eq!(std::fs::read(&files.weights).unwrap(), b"weights");
    // The second run uses the cache, without a source.
    std::fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    assert_eq!(run(&options).unwrap(), files);
    // A lost verification note (a copied cache) costs one verification, not a fetch.
    std::fs::remove_file(files.weights.with_file_name("verified.json")).unwrap();
    assert_eq!(run(&options).unwrap(), files);
    // A changed file is not trusted.
    std::fs::write(&files.weights, "weightS").unwrap();
    let error = run(&options).unwrap_err();
    assert_eq!(error.code, "no_model");
    assert_eq!(leftovers(&options), 0);
}

/// Attacks with a vocabulary in which the ids of all tokens are shifted. The list of tokens stays the same.
#[test]
fn shifted_token_ids_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for shifted in [r#"{"model": {"vocab": {"b": 2, "a": 1}}}"#, r#"{"model": {"vocab": {"b": 0, "a": 0}}}"#] {
        let error = run(&from_folder(dir.path(), "weights", shifted)).unwrap_err().to_string();
        assert!(error.contains("not consecutive"), "{error}");
    }
}

/// Replaces a verified file by another one of the same size and modification time; the replacement must be refused.
/// Before that, an old verification note must be renewed.
#[test]
fn a_replaced_file_is_found_by_its_change_time_and_an_old_note_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let options = from_folder(dir.path(), "weights", TOKENS);
    let files = run(&options).unwrap();
    std::fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    for (path, mode) in [(files.weights.parent().unwrap(), 0o755), (&files.weights, 0o644), (&files.tokenizer, 0o644)] {
        let found = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "users may share a cache: {}", path.display());
    }
    let note = files.weights.with_file_name("verified.json");
    let age = |path: &Path, days: u64| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - Duration::from_secs(days * 86_400)).unwrap();
    };
    age(&note, 31);
    assert!(!verify::is_fresh(note.parent().unwrap(), SystemClock.now()));
    assert_eq!(run(&options).unwrap(), files, "hashed again, and still right");
    assert!(verify::is_fresh(note.parent().unwrap(), SystemClock.now()));

    let modified = std::fs::metadata(&files.weights).unwrap().modified().unwrap();
    std::fs::write(&files.weights, "wEights").unwrap();
    std::fs::File::options().write(true).open(&files.weights).unwrap().set_modified(modified).unwrap();
    assert_eq!(run(&options).unwrap_err().code, "no_model");
}

#[test]
fn a_wrong_file_is_refused_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let options = from_folder(dir.path(), "other", TOKENS);
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("weights_sha256"), "{error}");
}

/// Starts a model hub on loopback. The hub announces the full length of each file, but omits the last `cut` bytes of
/// the weights.
fn hub(weights: &'static str, cut: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = [0; 2048];
            let n = stream.read(&mut head).unwrap_or_default();
            let asked = String::from_utf8_lossy(&head[..n]).into_owned();
            count.fetch_add(1, Ordering::SeqCst);
            let body = if asked.contains(TOKENIZER) { TOKENS } else { weights };
            let sent = body.len().saturating_sub(if asked.contains(WEIGHTS) { cut } else { 0 });
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&body.as_bytes()[..sent]);
        }
    });
    (url, requests)
}

#[test]
fn a_hub_is_asked_once_and_progress_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (hub_url, requests) = hub("weights", 0);
    let options = ModelOptions { sources: vec![ModelSource::Hub], hub_url, ..options(dir.path()) };
    let told = Mutex::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let note = |p: FetchProgress| told.lock().unwrap().push((p.file, p.bytes, p.total));
    runtime.block_on(ensure_model(&options, &note)).unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&(WEIGHTS.to_owned(), 7, Some(7))));
    run(&options).unwrap();
    assert_eq!(requests.load(Ordering::SeqCst), 2, "two files, once");
}

#[test]
fn a_hub_that_cuts_lies_or_is_not_there_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for (hub_url, says) in
        [(hub("weights", 3).0, "hub:"), (hub("forgery", 0).0, "SHA-256"), ("http://127.0.0.1:1".to_owned(), "hub:")]
    {
        let options = ModelOptions { sources: vec![ModelSource::Hub], hub_url, ..options(dir.path()) };
        let error = run(&options).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("embed.options.model.folder"), "{error}");
        assert_eq!(leftovers(&options), 0);
        assert!(verify::cached(&cache_folder(&options).unwrap(), &options).is_none());
    }
}

#[test]
fn two_who_want_it_at_once_fetch_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let (hub_url, requests) = hub("weights", 0);
    let options = ModelOptions { sources: vec![ModelSource::Hub], hub_url, ..options(dir.path()) };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| run(&options).unwrap());
        }
    });
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}
