//! A large object into a file, with as little memory as a small one takes.

use std::io;

use aws_sdk_s3::types::ChecksumType;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::objects::broken_off;
use super::{Bucket, Object, micros};
use crate::{Fault, FaultKind};

/// Many small pieces of a body become one write.
const BUFFER: usize = 1 << 20;
/// An attempt that brings as much is not counted: a long download may break off often.
const PROGRESS: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The file can't be written.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// How far a download has come.
struct Progress {
    file: File,
    written: u64,
    crc32: crc32fast::Hasher,
    /// What the first reply said of the object, and its CRC-32 in base64 where it said one.
    whole: Option<(Object, Option<String>)>,
}

impl Bucket {
    /// Reads an object into an empty file. Where the connection breaks, the rest is asked for, of the same state of the
    /// object. In the end the size is that of the object, and the CRC-32 is right where the server has one of the whole.
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
        let (object, expected) = progress.whole.take().ok_or_else(|| wrong("the server sent nothing".into()))?;
        if progress.written != object.bytes {
            return Err(wrong(format!("{} bytes came instead of {}", progress.written, object.bytes)).into());
        }
        let crc32 = progress.crc32.finalize();
        if let Some(expected) = expected.filter(|e| *e != encode(crc32)) {
            return Err(wrong(format!("its CRC-32 is {} instead of {expected}", encode(crc32))).into());
        }
        Ok(object)
    }

    /// From where the progress is to the end.
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
            // One of several parts has a checksum of their checksums, `…-7`, which says nothing about the bytes.
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
                Err(_) => Some(Fault::new(FaultKind::Unknown, "timeout", "the transfer stands still")),
            };
            // What came before the break is good: the next attempt goes on after it.
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

/// As the service writes a CRC-32.
pub(super) fn encode(crc32: u32) -> String {
    aws_smithy_types::base64::encode(crc32.to_be_bytes())
}

fn wrong(message: String) -> Fault {
    Fault::new(FaultKind::Unknown, "damaged on its way", message)
}
