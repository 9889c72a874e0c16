//! Verifies that files belong to the configured model, by comparing their hashes with those in the configuration.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use docweir_core::clock::UnixMicros;
use docweir_core::documents::Sha256Hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::ModelOptions;
use super::{Failed, ModelFiles, TOKENIZER, WEIGHTS};

/// Name of the verification note. This file records the size and change time that each of the model's files had when
/// it was last verified.
const VERIFIED: &str = "verified.json";

#[derive(PartialEq, Serialize, Deserialize)]
struct Verified {
    weights_sha256: String,
    vocabulary_sha256: String,
    /// Identity of each file when it was verified.
    files: BTreeMap<String, FileIdentity>,
}

/// Identifies the content of a file without reading it. A program can set the modification time of a file, but neither
/// its inode nor its change time.
#[derive(PartialEq, Serialize, Deserialize)]
struct FileIdentity {
    bytes: u64,
    inode: u64,
    /// Modification and change time, each in seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(meta: &Metadata) -> Self {
        Self {
            bytes: meta.len(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Time after which the files are hashed again even if their identities are unchanged: 30 days.
const TRUSTED: Duration = Duration::from_secs(30 * 86_400);

/// Returns whether the files were hashed within the last 30 days.
pub fn is_fresh(folder: &Path, now: UnixMicros) -> bool {
    let modified = std::fs::metadata(folder.join(VERIFIED)).map(|meta| meta.mtime());
    let age = |seconds: i64| now / 1_000_000 - seconds;
    modified.is_ok_and(|seconds| (0..=TRUSTED.as_secs() as i64).contains(&age(seconds)))
}

/// Hashes the files again, and renews the verification note if the folder is writable.
pub fn is_intact(folder: &Path, options: &ModelOptions) -> bool {
    let intact = check(folder, options).is_ok();
    if intact && let Err(Failed(reason)) = note(folder, folder, options) {
        tracing::debug!(reason, "verification note of the model not renewed");
    }
    intact
}

/// Returns the cached model, if it exists and has not changed since its last verification.
pub fn cached(folder: &Path, options: &ModelOptions) -> Option<ModelFiles> {
    let note: Verified = serde_json::from_slice(&std::fs::read(folder.join(VERIFIED)).ok()?).ok()?;
    let fits = note == describe(folder, options).ok()?;
    fits.then(|| files(folder, options))
}

/// Locates the files of a model in its folder, without a check.
pub fn files(folder: &Path, options: &ModelOptions) -> ModelFiles {
    ModelFiles {
        name: options.name.clone(),
        weights: folder.join(WEIGHTS),
        tokenizer: folder.join(TOKENIZER),
        config: None,
        weights_sha256: Sha256Hex::parse(&options.weights_sha256).unwrap_or_else(|| Sha256Hex::of(b"")),
        languages: options.languages.clone(),
        best_tokens: options.best_tokens,
    }
}

/// Hashes the staged files, and moves them into the model's folder if they are correct.
pub fn install(staging: &Path, folder: &Path, options: &ModelOptions) -> Result<(), Failed> {
    check(staging, options)?;
    for name in [WEIGHTS, TOKENIZER] {
        std::fs::set_permissions(staging.join(name), Permissions::from_mode(0o644))?;
        File::open(staging.join(name))?.sync_all()?;
        std::fs::rename(staging.join(name), folder.join(name))?;
    }
    // Write the note last: without it the files are hashed again.
    note(staging, folder, options)?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn note(staging: &Path, folder: &Path, options: &ModelOptions) -> Result<(), Failed> {
    let note = serde_json::to_vec(&describe(folder, options)?)?;
    let path = staging.join("verified.new");
    std::fs::write(&path, note)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    Ok(std::fs::rename(path, folder.join(VERIFIED))?)
}

fn check(staging: &Path, options: &ModelOptions) -> Result<(), Failed> {
    let weights = hash_file(&staging.join(WEIGHTS), options.max_bytes)?;
    if weights.as_str() != options.weights_sha256 {
        let wanted = &options.weights_sha256;
        return Err(Failed(format!(
            "{WEIGHTS} has SHA-256 {weights}, but embed.options.model.weights_sha256 is {wanted}"
        )));
    }
    let vocabulary = vocabulary(&staging.join(TOKENIZER), options.max_bytes)?;
    if vocabulary.as_str() != options.vocabulary_sha256 {
        let wanted = &options.vocabulary_sha256;
        return Err(Failed(format!(
            "{TOKENIZER} has a vocabulary of SHA-256 {vocabulary}, but embed.options.model.vocabulary_sha256 is {wanted}"
        )));
    }
    Ok(())
}

fn describe(folder: &Path, options: &ModelOptions) -> std::io::Result<Verified> {
    let mut files = BTreeMap::new();
    for name in [WEIGHTS, TOKENIZER] {
        let meta = std::fs::metadata(folder.join(name))?;
        files.insert(name.to_owned(), FileIdentity::of(&meta));
    }
    let (weights_sha256, vocabulary_sha256) = (options.weights_sha256.clone(), options.vocabulary_sha256.clone());
    Ok(Verified { weights_sha256, vocabulary_sha256, files })
}

/// Returns the SHA-256 of the first `max_bytes` of a file.
pub fn hash_file(path: &Path, max_bytes: u64) -> Result<Sha256Hex, Failed> {
    let name = path.file_name().unwrap_or_default().display();
    let mut file = File::open(path).map_err(|e| Failed(format!("cannot open {name}: {e}")))?.take(max_bytes);
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Hex::from_digest(&hasher.finalize())),
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

#[derive(Deserialize)]
struct Tokenizer {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    vocab: BTreeMap<String, u32>,
}

/// Returns the SHA-256 of the list of all tokens. The list has one token per line, in order of the token ids.
fn vocabulary(path: &Path, max_bytes: u64) -> Result<Sha256Hex, Failed> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|e| Failed(format!("can't open {TOKENIZER}: {e}")))?;
    file.take(max_bytes).read_to_end(&mut text)?;
    let tokenizer: Tokenizer =
        serde_json::from_slice(&text).map_err(|e| Failed(format!("{TOKENIZER} is not a valid tokenizer: {e}")))?;
    let mut tokens: Vec<(u32, String)> = tokenizer.model.vocab.into_iter().map(|(t, id)| (id, t)).collect();
    tokens.sort();
    // The hash covers the tokens only. Consecutive ids make the id of each token its position in the list.
    if tokens.iter().enumerate().any(|(position, (id, _))| usize::try_from(*id) != Ok(position)) {
        return Err(Failed(format!("the token ids in {TOKENIZER} are not consecutive")));
    }
    let lines: Vec<String> = tokens.into_iter().map(|(_, t)| t).collect();
    Ok(Sha256Hex::of(lines.join("\n").as_bytes()))
}
