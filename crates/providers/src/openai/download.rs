//! Downloads files of several gigabytes from the provider.
//!
//! Until a download is complete, the received bytes are stored in a partial file next to the target. An interrupted
//! call leaves the partial file. If the server supports ranges, the next call for the same path continues where the
//! partial file ends. If not, the next call starts again.

use std::ffi::OsString;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::fs::{self, File};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};

use super::call_error::CallError;
use super::client::Client;
use super::transfer::{TransferError, TransferOptions, local};

/// Size of the write buffer, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

impl Client {
    /// Downloads the content of a file to the path `to`, and returns the size in bytes. The path exists only when the
    /// download is complete. Use each path for one file only, because an existing partial file is taken as the
    /// beginning of the content.
    pub async fn download(&self, id: &str, to: &Path, limits: &TransferOptions) -> Result<u64, TransferError> {
        let part = part_of(to);
        let write = local("write", &part);
        let open = File::options().create(true).truncate(false).write(true).open(&part).await;
        let mut file = open.map_err(&write)?;
        let kept = file.metadata().await.map_err(&write)?.len();
        let mut request = self.request(Method::GET, &["files", id, "content"], &[])?.timeout(limits.overall());
        if kept > 0 {
            request = request.header(RANGE, format!("bytes={kept}-"));
        }
        let response = match tokio::time::timeout(limits.stall(), self.send(request)).await {
            Ok(response) => response?,
            Err(_) => return Err(limits.stalled().into()),
        };
        let begin = match (response.status(), range(&response)) {
            // There is nothing after the partial file, because it is complete.
            (StatusCode::RANGE_NOT_SATISFIABLE, (_, Some(total))) if kept > 0 && total == kept => {
                return finish(file, &part, to, kept).await;
            }
            (StatusCode::PARTIAL_CONTENT, (Some(from), _)) if kept > 0 && from == kept => kept,
            (StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT, _) => {
                file.set_len(0).await.map_err(&write)?;
                let what = "the partial download does not match the file; the next call downloads the whole file";
                return Err(CallError::Failed(what.into()).into());
            }
            _ => 0,
        };
        let response = self.accepted(response).await?;
        file.set_len(begin).await.map_err(&write)?;
        file.seek(SeekFrom::Start(begin)).await.map_err(&write)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let copied = copy(response, &mut out, begin, limits, &part).await;
        // Bytes received before a cut are written too, so that the next call continues after them.
        out.flush().await.map_err(&write)?;
        finish(out.into_inner(), &part, to, copied?).await
    }
}

async fn copy(
    response: Response,
    to: &mut BufWriter<File>,
    begin: u64,
    limits: &TransferOptions,
    part: &Path,
) -> Result<u64, TransferError> {
    let most = limits.max_file_bytes;
    let mut bytes = begin;
    let mut coming = response.content_length().unwrap_or_default();
    let mut pieces = response.bytes_stream();
    loop {
        if bytes.saturating_add(coming) > most {
            let what = format!("the file is larger than {most} bytes: raise `max_file_bytes`");
            return Err(CallError::Refused(what).into());
        }
        let next = async { pieces.next().await.transpose() };
        let Some(piece) = limits.in_time(next).await? else { return Ok(bytes) };
        to.write_all(&piece).await.map_err(local("write", part))?;
        bytes += piece.len() as u64;
        coming = 0;
    }
}

async fn finish(file: File, part: &Path, to: &Path, bytes: u64) -> Result<u64, TransferError> {
    let keep = local("store", to);
    file.sync_all().await.map_err(&keep)?;
    fs::rename(part, to).await.map_err(&keep)?;
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder).await.map_err(&keep)?.sync_all().await.map_err(&keep)?;
    }
    Ok(bytes)
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".part");
    name.into()
}

/// Returns the first byte and the total size from a header such as `bytes 5-9/10` or `bytes */10`. Values that the
/// header does not state are `None`.
fn range(response: &Response) -> (Option<u64>, Option<u64>) {
    let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let told = header.and_then(|text| text.trim().strip_prefix("bytes ")?.split_once('/'));
    let Some((bytes, total)) = told else { return (None, None) };
    (bytes.split_once('-').and_then(|(from, _)| from.trim().parse().ok()), total.trim().parse().ok())
}
