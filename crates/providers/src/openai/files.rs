//! Uploads and deletes the provider's files. Downloads are in `download`.

use std::path::Path;
use std::pin::pin;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method};
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, Take};
use tokio::sync::watch;

use super::call_error::CallError;
use super::client::Client;
use super::transfer::{TransferError, TransferOptions, local};
use super::wire::text;

/// Number of bytes that are read from a file at a time.
const PIECE_BYTES: usize = 256 << 10;

impl Client {
    /// Uploads a file of request lines, piece by piece, and returns the id that the provider assigns to the file.
    pub async fn upload(&self, path: &Path, filename: &str, limits: &TransferOptions) -> Result<String, TransferError> {
        self.learn_address().await;
        let file = File::open(path).await.map_err(local("open", path))?;
        let length = file.metadata().await.map_err(local("open", path))?.len();
        // JSON lines contain no line break followed by two dashes, so no content ends the form early.
        let boundary = format!("docweir-{:032x}", fastrand::u128(..));
        let filename: String =
            filename.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
             Content-Type: application/jsonl\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let total = head.len() as u64 + length + tail.len() as u64;
        let moved = watch::Sender::new(());
        let mut seen = moved.subscribe();
        let told = moved.clone();
        let end = |text: String| stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
        // A file that grows during the upload is cut at the length in the header.
        let pieces = end(head).chain(stream::try_unfold(file.take(length), piece)).chain(end(tail));
        let body = Body::wrap_stream(pieces.inspect(move |_| told.send_replace(())));
        let request = self.request(Method::POST, &["files"], &[])?.timeout(limits.overall());
        let request = request.header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"));
        let mut call = pin!(self.call::<Value>(request.header(CONTENT_LENGTH, total).body(body)));
        let answer = loop {
            tokio::select! {
                answer = &mut call => break answer?.value,
                // The sender lives in this function, so this ends only when a piece was sent or the time has passed.
                piece = tokio::time::timeout(limits.stall(), seen.changed()) => {
                    piece.map(drop).map_err(|_| limits.stalled())?;
                }
            }
        };
        let unnamed = || CallError::Garbled("a file without an id".into());
        Ok(text(&answer, "id").ok_or_else(unnamed)?)
    }

    pub async fn delete_file(&self, id: &str) -> Result<(), CallError> {
        let request = self.request(Method::DELETE, &["files", id], &[])?;
        let response = self.send(request).await?;
        self.accepted(response).await.map(drop)
    }
}

async fn piece(mut file: Take<File>) -> std::io::Result<Option<(Bytes, Take<File>)>> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let read = file.read_buf(&mut piece).await?;
    Ok((read > 0).then(|| (piece.into(), file)))
}
