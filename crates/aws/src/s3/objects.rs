//! Reads and writes objects that fit into memory.

use aws_sdk_s3::config::{Builder, ResponseChecksumValidation};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, Delete, ObjectIdentifier};
use bytes::Bytes;

use super::{Bucket, micros};
use crate::fault::kind;
use crate::{Fault, FaultKind};

/// Largest number of keys that one call deletes.
pub const DELETE_AT_ONCE: usize = 1000;
/// Largest number of objects that one call lists.
const LIST_AT_ONCE: usize = 1000;

/// Defines the condition under which an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// The object must not exist (`If-None-Match: *`).
    Absent,
    /// The object must have this ETag (`If-Match`).
    Matches(String),
}

impl When {
    /// Returns the values of the headers `If-None-Match` and `If-Match`.
    pub(super) fn headers(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Always => (None, None),
            Self::Absent => (Some("*".into()), None),
            Self::Matches(etag) => (None, Some(etag.clone())),
        }
    }
}

/// Holds the metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub bytes: u64,
    /// Time of the last write, in Unix microseconds. S3 has a resolution of one second.
    pub modified: i64,
    pub etag: String,
    /// Storage class, such as `STANDARD` or `GLACIER`; empty if the server returns none.
    pub class: String,
}

/// Holds the content of an object and its ETag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectBody {
    pub body: Bytes,
    pub etag: String,
}

impl Bucket {
    /// Writes a whole object and returns its ETag. A conditional put is sent only once.
    pub async fn put(&self, key: &str, body: Bytes, when: &When) -> Result<String, Fault> {
        let size = body.len() as u64;
        self.check_size(size)?;
        let (absent, matches) = when.headers();
        let (encryption, kms_key) = self.s3.encryption();
        let limits = match when {
            When::Always => self.s3.transfer(size),
            _ => self.s3.transfer_once(size),
        };
        let call = self.s3.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(body));
        let call = call.set_if_none_match(absent).set_if_match(matches);
        let call = call.set_server_side_encryption(encryption).set_ssekms_key_id(kms_key);
        let call = call.set_checksum_algorithm(self.options().checksums.then_some(ChecksumAlgorithm::Crc32));
        let put = self.s3.done("PutObject", call.customize().config_override(limits).send().await)?;
        put.e_tag.filter(|tag| !tag.is_empty()).ok_or_else(no_etag)
    }

    /// Reads a whole object.
    pub async fn get(&self, key: &str) -> Result<ObjectBody, Fault> {
        let got = self.read(key, None).await?;
        if got.etag.is_empty() { Err(no_etag()) } else { Ok(got) }
    }

    /// Reads `length` bytes from `offset`, or fewer at the end of the object.
    pub async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, Fault> {
        if length == 0 {
            // HTTP has no empty range. The call still fails if the object does not exist.
            return self.head(key).await.map(|_| Bytes::new());
        }
        let last = offset.saturating_add(length - 1);
        match self.read(key, Some((offset, last))).await {
            Ok(got) => Ok(got.body),
            // The object ends before `offset`.
            Err(fault) if fault.code == "InvalidRange" || fault.code == "HTTP 416" => Ok(Bytes::new()),
            Err(fault) => Err(fault),
        }
    }

    /// Reads an object or a range of it. The SDK retries a request only until the headers of the reply arrive. This
    /// function therefore repeats the request if the body breaks off.
    async fn read(&self, key: &str, range: Option<(u64, u64)>) -> Result<ObjectBody, Fault> {
        let mut attempt = 1;
        loop {
            let output = self.open(key, range, None).await?;
            let size = u64::try_from(output.content_length.unwrap_or(0)).unwrap_or(0);
            self.check_size(size)?;
            let etag = output.e_tag.unwrap_or_default();
            let broken = match tokio::time::timeout(self.s3.longest_transfer(size), output.body.collect()).await {
                Ok(Ok(body)) => return Ok(ObjectBody { body: body.into_bytes(), etag }),
                Ok(Err(error)) => broken_off(&error),
                Err(_) => Fault::new(FaultKind::Unknown, "timeout", format!("reading {size} bytes timed out")),
            };
            if attempt >= self.s3.aws.options.attempts {
                return Err(broken);
            }
            attempt += 1;
        }
    }

    /// Sends a read request and returns the reply. The body of the reply has not been read yet.
    pub(super) async fn open(
        &self,
        key: &str,
        range: Option<(u64, u64)>,
        etag: Option<&str>,
    ) -> Result<GetObjectOutput, Fault> {
        let call = self.s3.client.get_object().bucket(&self.name).key(key).set_if_match(etag.map(str::to_owned));
        let call = call.set_request_payer(self.s3.payer());
        let result = match range {
            None => call.send().await,
            Some((first, last)) => {
                // No object is that long, and some servers cannot parse larger numbers.
                let to_the_end = last > i64::MAX as u64;
                let call = call.range(match to_the_end {
                    true => format!("bytes={first}-"),
                    false => format!("bytes={first}-{last}"),
                });
                // If a reply to a range has a checksum, it covers the whole object.
                let unchecked = Builder::new().response_checksum_validation(ResponseChecksumValidation::WhenRequired);
                call.customize().config_override(unchecked).send().await
            }
        };
        self.s3.done("GetObject", result)
    }

    pub async fn head(&self, key: &str) -> Result<Object, Fault> {
        let call = self.s3.client.head_object().bucket(&self.name).key(key).set_request_payer(self.s3.payer());
        let head = match self.s3.done("HeadObject", call.send().await) {
            // The reply to a HEAD request has no body. The reply to a read names the reason.
            Err(fault) if matches!(fault.code.as_str(), "HTTP 400" | "HTTP 403") => {
                return Err(self.open(key, Some((0, 0)), None).await.err().unwrap_or(fault));
            }
            head => head?,
        };
        Ok(Object {
            key: key.to_owned(),
            bytes: u64::try_from(head.content_length.unwrap_or(0)).unwrap_or(0),
            modified: micros(head.last_modified.as_ref()),
            etag: head.e_tag.unwrap_or_default(),
            class: head.storage_class.map(|c| c.as_str().to_owned()).unwrap_or_default(),
        })
    }

    /// Deletes an object. Succeeds if the object does not exist.
    pub async fn delete(&self, key: &str) -> Result<(), Fault> {
        let deleted = self.s3.client.delete_object().bucket(&self.name).key(key).send().await;
        match self.s3.done("DeleteObject", deleted) {
            Err(fault) if fault.code == "NoSuchKey" => Ok(()),
            other => other.map(drop),
        }
    }

    /// Deletes at most [`DELETE_AT_ONCE`] objects in one call. Returns the keys that were not deleted, each with its
    /// error.
    pub async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, Fault)>, Fault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let invalid = |message: String| Fault::new(FaultKind::Invalid, "not sent", message);
        if keys.len() > DELETE_AT_ONCE {
            return Err(invalid(format!("{} keys exceed the limit of {DELETE_AT_ONCE} per call", keys.len())));
        }
        let ids = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
        let ids = ids.collect::<Result<Vec<_>, _>>().map_err(|e| invalid(e.to_string()))?;
        let delete =
            Delete::builder().set_objects(Some(ids)).quiet(true).build().map_err(|e| invalid(e.to_string()))?;
        let call = self.s3.client.delete_objects().bucket(&self.name).delete(delete);
        let deleted = self.s3.done("DeleteObjects", call.send().await)?;
        let failed = deleted.errors.unwrap_or_default().into_iter().map(|error| {
            let code = error.code.unwrap_or_default();
            (error.key.unwrap_or_default(), Fault::new(kind(&code, 0), code, error.message.unwrap_or_default()))
        });
        Ok(failed.filter(|(_, fault)| fault.kind != FaultKind::NotFound).collect())
    }

    /// Lists at most `limit` objects whose keys begin with `prefix` and follow `after`, in byte order of the keys.
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Object>, Fault> {
        let mut found: Vec<Object> = Vec::new();
        let mut token = None;
        while found.len() < limit {
            let page = (limit - found.len()).min(LIST_AT_ONCE);
            let call = self.s3.client.list_objects_v2().bucket(&self.name).prefix(prefix).max_keys(page as i32);
            let call = call.set_request_payer(self.s3.payer());
            let call = match token.take() {
                Some(token) => call.continuation_token(token),
                None => call.set_start_after(after.map(str::to_owned)),
            };
            let listed = self.s3.done("ListObjectsV2", call.send().await)?;
            found.extend(listed.contents.unwrap_or_default().into_iter().map(|object| Object {
                key: object.key.unwrap_or_default(),
                bytes: u64::try_from(object.size.unwrap_or(0)).unwrap_or(0),
                modified: micros(object.last_modified.as_ref()),
                etag: object.e_tag.unwrap_or_default(),
                class: object.storage_class.map(|c| c.as_str().to_owned()).unwrap_or_default(),
            }));
            token = listed.next_continuation_token.filter(|_| listed.is_truncated.unwrap_or(false));
            if token.is_none() {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    fn check_size(&self, bytes: u64) -> Result<(), Fault> {
        let most = self.options().max_object_bytes;
        if bytes <= most {
            return Ok(());
        }
        let message = format!("it has {bytes} bytes, more than the {most} allowed");
        Err(Fault::new(FaultKind::Invalid, "too large", message))
    }
}

/// Returns the fault for a reply without an ETag. An empty ETag would turn a later conditional put into an
/// unconditional one.
fn no_etag() -> Fault {
    Fault::new(FaultKind::Unknown, "no ETag", "the server returned no ETag for the object")
}

/// Returns the fault for a reply body that ended early or does not match its checksum.
pub(super) fn broken_off(error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::new(FaultKind::Unknown, "broken off", crate::fault::chain(error))
}
