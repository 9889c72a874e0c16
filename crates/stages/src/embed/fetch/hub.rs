//! Downloads the two files of a model from a model hub over HTTPS. TLS trusts the system's certificates.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::super::ModelOptions;
use super::{Failed, FetchProgress, Progress, TOKENIZER, WEIGHTS};

pub async fn fetch(options: &ModelOptions, staging: &Path, progress: Progress<'_>) -> Result<(), Failed> {
    // Ignore the error: the process has already installed another cryptography provider, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(options.hub_connect_seconds))
        .read_timeout(Duration::from_secs(options.hub_stall_seconds))
        .build()?;
    // Download the small file first, so that an unreachable hub is detected at once.
    for name in [TOKENIZER, WEIGHTS] {
        let url = format!("{}/{name}", options.hub_url.trim_end_matches('/'));
        download(&client, &url, &staging.join(name), options, progress).await?;
    }
    Ok(())
}

async fn download(
    client: &reqwest::Client,
    url: &str,
    path: &Path,
    options: &ModelOptions,
    progress: Progress<'_>,
) -> Result<(), Failed> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // Remove the URL from errors, because it may contain a token.
    let response = client.get(url).send().await.and_then(|r| r.error_for_status()).map_err(|e| e.without_url())?;
    let total = response.content_length();
    let too_large = |bytes| bytes > options.max_bytes;
    if total.is_some_and(too_large) {
        return Err(Failed(format!("{name} is larger than embed.options.model.max_bytes ({})", options.max_bytes)));
    }
    let host = response.url().host_str().unwrap_or("the hub").to_owned();
    let mut file = tokio::fs::File::create(path).await?;
    let mut bytes = 0;
    let mut body = response.bytes_stream();
    while let Some(part) = body.next().await {
        let part = part.map_err(|e| e.without_url())?;
        bytes += part.len() as u64;
        if too_large(bytes) {
            return Err(Failed(format!("{name} is larger than embed.options.model.max_bytes ({})", options.max_bytes)));
        }
        file.write_all(&part).await?;
        progress(FetchProgress { file: name.clone(), source: host.clone(), bytes, total });
    }
    file.flush().await?;
    if total.is_some_and(|t| t != bytes) {
        return Err(Failed(format!("the download of {name} was cut off after {bytes} bytes")));
    }
    Ok(())
}
