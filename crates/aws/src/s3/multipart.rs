//! A large object in parts, of which at most a few are in memory.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::download::encode;
use super::{Bucket, When, done, micros};
use crate::{Fault, FaultKind};

/// Most parts of one object.
pub const MAX_PARTS: u32 = 10_000;

/// An object that is being written. The service keeps, and charges for, its parts until it is completed or aborted.
#[derive(Clone, Debug)]
pub struct Multipart {
    bucket: Bucket,
    key: String,
    id: String,
    /// Whether the server keeps a checksum of the whole, and not one of the parts' checksums.
    whole: bool,
}

/// A part that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    number: u32,
    bytes: u64,
    etag: String,
    crc32: Option<String>,
}

/// An upload that somebody began and did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub key: String,
    pub id: String,
    /// Unix microseconds.
    pub begun: i64,
}

impl Bucket {
    /// Begins an object in parts.
    pub async fn begin(&self, key: &str) -> Result<Multipart, Fault> {
        let (encryption, kms_key) = self.s3.encryption();
        let call = self.s3.client.create_multipart_upload().bucket(&self.name).key(key);
        let mut call = call.set_server_side_encryption(encryption).set_ssekms_key_id(kms_key);
        if self.options().checksums {
            // Of the whole, so that a reader can check it without knowing the parts.
            call = call.checksum_algorithm(ChecksumAlgorithm::Crc32).checksum_type(ChecksumType::FullObject);
        }
        let begun = done("CreateMultipartUpload", call.send().await)?;
        // What is asked for is not always what is given, and a server that keeps the other one refuses this one.
        let whole = self.options().checksums && begun.checksum_type != Some(ChecksumType::Composite);
        let id = begun.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Fault::new(FaultKind::Unknown, "no upload id", "the server did not say which"))?;
        Ok(Multipart { bucket: self.clone(), key: key.to_owned(), id, whole })
    }

    /// Uploads under a prefix that were begun and not ended, at most `limit` (1,000).
    pub async fn unfinished(&self, prefix: &str, limit: usize) -> Result<Vec<Unfinished>, Fault> {
        let most = limit.min(1000) as i32;
        let call = self.s3.client.list_multipart_uploads().bucket(&self.name).prefix(prefix).max_uploads(most);
        let listed = done("ListMultipartUploads", call.send().await)?;
        let uploads = listed.uploads.unwrap_or_default().into_iter().map(|upload| Unfinished {
            begun: micros(upload.initiated.as_ref()),
            key: upload.key.unwrap_or_default(),
            id: upload.upload_id.unwrap_or_default(),
        });
        Ok(uploads.take(limit).collect())
    }

    /// Ends an upload that was begun, by whomever, and drops its parts. One that has ended is no error.
    pub async fn abort(&self, key: &str, id: &str) -> Result<(), Fault> {
        let call = self.s3.client.abort_multipart_upload().bucket(&self.name).key(key).upload_id(id);
        match done("AbortMultipartUpload", call.send().await) {
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Multipart {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sends a part, 1 to [`MAX_PARTS`]. Sending it again replaces it, so it is repeated where that helps.
    pub async fn part(&self, number: u32, body: Bytes) -> Result<Part, Fault> {
        if !(1..=MAX_PARTS).contains(&number) {
            let message = format!("an object has at most {MAX_PARTS} parts: raise `part_bytes`");
            return Err(Fault::new(FaultKind::Invalid, "not sent", message));
        }
        let bytes = body.len() as u64;
        let limits = self.bucket.s3.transfer(bytes);
        let call = self.bucket.s3.client.upload_part().bucket(&self.bucket.name).key(&self.key).upload_id(&self.id);
        let call = call.part_number(number as i32).body(ByteStream::from(body));
        let call = call.set_checksum_algorithm(self.bucket.options().checksums.then_some(ChecksumAlgorithm::Crc32));
        let sent = done("UploadPart", call.customize().config_override(limits).send().await)?;
        Ok(Part { number, bytes, etag: sent.e_tag.unwrap_or_default(), crc32: sent.checksum_crc32 })
    }

    /// Makes the object of its parts, whose CRC-32 as a whole is `crc32`; returns its ETag. With a condition it is sent
    /// once.
    pub async fn complete(&self, mut parts: Vec<Part>, crc32: Option<u32>, when: &When) -> Result<String, Fault> {
        parts.sort_by_key(|part| part.number);
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let parts = parts.into_iter().map(|part| {
            let done = CompletedPart::builder().part_number(part.number as i32).e_tag(part.etag);
            done.set_checksum_crc32(part.crc32).build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let (absent, matches) = when.headers();
        // Putting the parts together takes the service the longer the larger they are.
        let limits = match when {
            When::Always => self.bucket.s3.transfer(bytes),
            _ => self.bucket.s3.transfer_once(bytes),
        };
        let call = self.bucket.s3.client.complete_multipart_upload().bucket(&self.bucket.name).key(&self.key);
        let mut call = call.upload_id(&self.id).multipart_upload(parts);
        call = call.set_if_none_match(absent).set_if_match(matches);
        if let Some(crc32) = crc32.filter(|_| self.whole) {
            call = call.checksum_crc32(encode(crc32)).checksum_type(ChecksumType::FullObject);
        }
        match done("CompleteMultipartUpload", call.customize().config_override(limits).send().await) {
            Ok(completed) => Ok(completed.e_tag.unwrap_or_default()),
            // What a second try finds whose first one's reply was lost; or somebody aborted it.
            Err(fault) if fault.code == "NoSuchUpload" => {
                let message = "it was completed by an earlier try, or aborted by somebody";
                Err(Fault::new(FaultKind::Unknown, fault.code, message))
            }
            Err(fault) => Err(fault),
        }
    }

    pub async fn abort(&self) -> Result<(), Fault> {
        self.bucket.abort(&self.key, &self.id).await
    }
}
