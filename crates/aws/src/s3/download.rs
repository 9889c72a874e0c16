//! Downloads a large object into a file, in constant memory.

use std::io;

use aws_sdk_s3::types::ChecksumType;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::objects::broken_off;
use super::{Bucket, Object, micros};
use crate::{Fault, FaultKind};

/// Size of the write buffer, in bytes. The buffer combines many small pieces of a body into one write.
const BUFFER: usize = 1 << 20;
/// Minimum progress of an attempt, in bytes. An interrupted attempt that made this progress does not count towards the
/// retry limit, because long downloads may be interrupted often.
const PROGRESS: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Holds the state of a download between attempts.
struct Progress {
    file: File,
    written: u64,
    crc32: crc32fast::Hasher,
    /// Metadata of the object and its CRC-32 in base64, both from the first reply. Some replies have no CRC-32.
    whole: Option<(Object, Option<String>)>,
}

impl Bucket {
    /// Downloads an object into an empty file. If the connection breaks, the download continues where it stopped,
    /// provided that the object still has the same ETag. At the end, the size is verified. The CRC-32 is verified too
    /// if the server has a checksum of the whole object.
    pub async fn download(&self, key: &str, file: std::fs::File) -> Result<Object, DownloadError> {
        let mut progress =
            Progress { file: File::from_std(file), written: 0, crc32: crc32fast::Hasher::new(), whole: None };
        let mut attempt = 1;
        loop {
            let before = progress.written;
            let failed = match self.stream(key, &mut progress).await {
                Ok(()) => break,
                Err(DownloadError::Fault(fault)) if fault.kind == FaultKind::Unknown => fault,
                Err(error) => return Err(error),
            };
            if progress.written - before < PROGRESS {
                if attempt >= self.s3.aws.options.attempts {
                    return Err(failed.into());
                }
                attempt += 1;
            }
        }
        progress.file.flush().await?;
        let (object, expected) = progress.whole.take().ok_or_else(|| wrong("the server sent no data".into()))?;
        if progress.written != object.bytes {
            return Err(wrong(format!("received {} bytes instead of {}", progress.written, object.bytes)).into());
        }
        let crc32 = progress.crc32.finalize();
        if let Some(expected) = expected.filter(|e| *e != encode(crc32)) {
            return Err(wrong(format!("the received data has CRC-32 {} instead of {expected}", encode(crc32))).into());
        }
        Ok(object)
    }

    /// Downloads from the current position to the end of the object.
    async fn stream(&self, key: &str, progress: &mut Progress) -> Result<(), DownloadError> {
        let mut output = match &progress.whole {
            None => self.open(key, None, None).await?,
            Some((object, _)) if progress.written == object.bytes => return Ok(()),
            Some((object, _)) => self.open(key, Some((progress.written, u64::MAX)), Some(&object.etag)).await?,
        };
        if progress.whole.is_none() {
            let object = Object {
                key: key.to_owned(),
                bytes: u64::try_from(output.content_length.unwrap_or(0)).unwrap_or(0),
                modified: micros(output.last_modified.as_ref()),
                etag: output.e_tag.take().unwrap_or_default(),
                class: output.storage_class.take().map(|c| c.as_str().to_owned()).unwrap_or_default(),
            };
            // The checksum of a multipart object may be computed from the checksums of its parts (`…-7`). Such a
            // checksum does not cover the bytes of the object.
            let of_parts = output.checksum_type == Some(ChecksumType::Composite);
            let crc32 = output.checksum_crc32.take().filter(|c| !of_parts && !c.contains('-'));
            progress.whole = Some((object, crc32.filter(|_| self.options().checksums)));
        }
        let stalled = self.s3.longest_transfer(BUFFER as u64);
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            let next = tokio::time::timeout(stalled, output.body.next()).await;
            let broken = match next {
                Ok(Some(Ok(piece))) => {
                    buffer.extend_from_slice(&piece);
                    if buffer.len() >= BUFFER {
                        progress.take(&mut buffer).await?;
                    }
                    continue;
                }
                Ok(None) => None,
                Ok(Some(Err(error))) => Some(broken_off(&error)),
                Err(_) => Some(Fault::new(FaultKind::Unknown, "timeout", "the transfer stalled")),
            };
            // Everything before the break is valid; the next attempt continues after it.
            progress.take(&mut buffer).await?;
            return broken.map_or(Ok(()), |fault| Err(fault.into()));
        }
    }
}

impl Progress {
    async fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.crc32.update(buffer);
        self.file.write_all(buffer).await?;
        self.written += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }
}

/// Encodes a CRC-32 as S3 does: big-endian, in base64.
pub(super) fn encode(crc32: u32) -> String {
    aws_smithy_types::base64::encode(crc32.to_be_bytes())
}

fn wrong(message: String) -> Fault {
    Fault::new(FaultKind::Unknown, "damaged in transit", message)
}
