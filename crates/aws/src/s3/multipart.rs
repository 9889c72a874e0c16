//! Uploads a large object in parts. Only a few parts are in memory at a time.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::download::encode;
use super::{Bucket, When, micros};
use crate::{Fault, FaultKind};

/// Largest number of parts of one object.
pub const MAX_PARTS: u32 = 10_000;

/// Writes an object in parts. The service stores and charges for the parts until the upload is completed or aborted.
#[derive(Clone, Debug)]
pub struct Multipart {
    bucket: Bucket,
    key: String,
    id: String,
    /// If true, the server keeps a checksum of the whole object, and the call that completes the upload sends this
    /// checksum.
    whole: bool,
}

/// Identifies a part that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    number: u32,
    bytes: u64,
    etag: String,
    crc32: Option<String>,
}

/// Identifies a multipart upload that was neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub key: String,
    pub id: String,
    /// Start time of the upload, in Unix microseconds.
    pub begun: i64,
}

impl Bucket {
    /// Starts a multipart upload.
    pub async fn begin(&self, key: &str) -> Result<Multipart, Fault> {
        let (encryption, kms_key) = self.s3.encryption();
        let call = self.s3.client.create_multipart_upload().bucket(&self.name).key(key);
        let mut call = call.set_server_side_encryption(encryption).set_ssekms_key_id(kms_key);
        if self.options().checksums {
            // A checksum of the whole object lets a reader verify it without knowing the parts.
            call = call.checksum_algorithm(ChecksumAlgorithm::Crc32).checksum_type(ChecksumType::FullObject);
        }
        let begun = self.s3.done("CreateMultipartUpload", call.send().await)?;
        // The server may choose the composite type instead, and would then reject a checksum of the whole object.
        let whole = self.options().checksums && begun.checksum_type != Some(ChecksumType::Composite);
        let id = begun.upload_id.filter(|id| !id.is_empty());
        let id =
            id.ok_or_else(|| Fault::new(FaultKind::Unknown, "no upload id", "the server returned no upload id"))?;
        Ok(Multipart { bucket: self.clone(), key: key.to_owned(), id, whole })
    }

    /// Returns at most `limit` unfinished uploads under `prefix`, and never more than 1,000.
    pub async fn unfinished(&self, prefix: &str, limit: usize) -> Result<Vec<Unfinished>, Fault> {
        let most = limit.min(1000) as i32;
        let call = self.s3.client.list_multipart_uploads().bucket(&self.name).prefix(prefix).max_uploads(most);
        let listed = self.s3.done("ListMultipartUploads", call.send().await)?;
        let uploads = listed.uploads.unwrap_or_default().into_iter().map(|upload| Unfinished {
            begun: micros(upload.initiated.as_ref()),
            key: upload.key.unwrap_or_default(),
            id: upload.upload_id.unwrap_or_default(),
        });
        Ok(uploads.take(limit).collect())
    }

    /// Aborts an upload, even if another process started it, and deletes the uploaded parts. Succeeds if the upload
    /// has already ended.
    pub async fn abort(&self, key: &str, id: &str) -> Result<(), Fault> {
        let call = self.s3.client.abort_multipart_upload().bucket(&self.name).key(key).upload_id(id);
        match self.s3.done("AbortMultipartUpload", call.send().await) {
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Multipart {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Uploads the part with this number, from 1 to [`MAX_PARTS`]. The call is retried, because uploading a part
    /// again replaces it.
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
        let sent = self.bucket.s3.done("UploadPart", call.customize().config_override(limits).send().await)?;
        Ok(Part { number, bytes, etag: sent.e_tag.unwrap_or_default(), crc32: sent.checksum_crc32 })
    }

    /// Combines the parts into the object and returns the ETag of the object. `crc32` is the checksum of the whole
    /// object. A conditional call is sent only once.
    pub async fn complete(&self, mut parts: Vec<Part>, crc32: Option<u32>, when: &When) -> Result<String, Fault> {
        parts.sort_by_key(|part| part.number);
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let parts = parts.into_iter().map(|part| {
            let done = CompletedPart::builder().part_number(part.number as i32).e_tag(part.etag);
            done.set_checksum_crc32(part.crc32).build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let (absent, matches) = when.headers();
        // The service needs longer to combine larger parts.
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
        match self.bucket.s3.done("CompleteMultipartUpload", call.customize().config_override(limits).send().await) {
            Ok(completed) => Ok(completed.e_tag.unwrap_or_default()),
            // Either a lost reply was retried after the upload had completed, or another caller aborted it.
            Err(fault) if fault.code == "NoSuchUpload" => {
                let message = "the upload was completed by an earlier attempt or aborted by another caller";
                Err(Fault::new(FaultKind::Unknown, fault.code, message))
            }
            Err(fault) => Err(fault),
        }
    }

    pub async fn abort(&self) -> Result<(), Fault> {
        self.bucket.abort(&self.key, &self.id).await
    }
}
