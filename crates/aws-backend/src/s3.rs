//! Stores objects in a bucket of S3, or of a server that implements the S3 protocol.
//!
//! The tag of an object is its ETag. A conditional put is sent only once; if its outcome is unknown, the error is
//! [`ObjectError::Unknown`]. The client retries all other calls before it reports a failure. Every write that S3 has
//! acknowledged is durable, so both kinds of [`Durability`] behave in the same way.
//!
//! S3 lists keys in byte order. Servers that keep keys in folders list the entries of a folder together (`a/b` before
//! `a-b`). On these servers too, each page of a list continues where the previous page ended. Directory buckets have no
//! order and are not supported.
//!
//! S3 keeps and charges for the unfinished uploads of dead processes until the uploads are aborted, either by
//! [`S3Objects::end_unfinished`] or by a lifecycle rule of the bucket.

mod failure;
mod probe;
#[cfg(test)]
pub(crate) mod tests;
mod upload;

use std::fs::File;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use docweir_aws::FaultKind;
use docweir_aws::s3::{Bucket, DownloadError, Object, S3, When};
use docweir_core::clock::UnixMicros;
use docweir_objects::keys::{MAX_KEY, check_key};
use docweir_objects::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload, local};
use futures_util::TryStreamExt;
use futures_util::stream;

use self::failure::{not_listed, not_read, not_written};
use self::upload::S3Upload;

/// Stores objects in a bucket, under a prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct S3Objects {
    bucket: Bucket,
    /// Prefix of all keys; empty, or ends in a slash.
    prefix: String,
}

impl S3Objects {
    /// Opens the object store in a bucket under a prefix, which may be empty. Sends no request.
    pub fn new(s3: &S3, bucket: &str, prefix: &str) -> Result<Self, ObjectError> {
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => {
                check_key(prefix)?;
                format!("{prefix}/")
            }
        };
        Ok(Self { bucket: s3.bucket(bucket), prefix })
    }

    /// Returns the key of an object in the bucket, including the prefix.
    fn full(&self, key: &str) -> Result<String, ObjectError> {
        check_key(key)?;
        let full = format!("{}{key}", self.prefix);
        if full.len() <= MAX_KEY { Ok(full) } else { Err(ObjectError::BadKey(key.to_owned())) }
    }

    async fn put_full(&self, key: &str, full: &str, body: Bytes, when: &When) -> Result<Tag, ObjectError> {
        self.bucket.put(full, body, when).await.map(Tag).map_err(|fault| not_written(key, fault, *when != When::Always))
    }

    /// Aborts each unfinished upload under the prefix if the upload was started before the time `before`. Inspects at
    /// most the first 1,000 uploads. Returns the number of aborted uploads.
    pub async fn end_unfinished(&self, before: UnixMicros) -> Result<usize, ObjectError> {
        const AT_ONCE: usize = 1000;
        let failed = |fault| not_listed("abort the unfinished uploads of", &self.location(), fault);
        let mut ended = 0;
        for upload in self.bucket.unfinished(&self.prefix, AT_ONCE).await.map_err(failed)? {
            if upload.begun < before {
                self.bucket.abort(&upload.key, &upload.id).await.map_err(failed)?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}

#[async_trait]
impl ObjectStore for S3Objects {
    fn location(&self) -> String {
        format!("s3://{}/{}", self.bucket.name(), self.prefix.trim_end_matches('/'))
    }

    async fn put(&self, key: &str, body: Bytes, when: Precondition, _: Durability) -> Result<Tag, ObjectError> {
        let when = match when {
            Precondition::None => When::Always,
            Precondition::Absent => When::Absent,
            Precondition::Matches(tag) => When::Matches(tag.0),
        };
        self.put_full(key, &self.full(key)?, body, &when).await
    }

    async fn put_all(&self, mut objects: Vec<(String, Bytes)>, _: Durability) -> Result<(), ObjectError> {
        for (key, _) in &objects {
            self.full(key)?;
        }
        // The last object is written after all others. If it is present, all objects are complete.
        let last = objects.pop();
        let put = async |(key, body): (String, Bytes)| {
            self.put_full(&key, &self.full(&key)?, body, &When::Always).await.map(drop)
        };
        let many = self.bucket.options().parallel_puts;
        stream::iter(objects.into_iter().map(Ok)).try_for_each_concurrent(many, &put).await?;
        match last {
            Some(last) => put(last).await,
            None => Ok(()),
        }
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        Ok(Box::new(S3Upload::begin(&self.bucket, key, self.full(key)?)?))
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        let got = self.bucket.get(&self.full(key)?).await.map_err(|fault| not_read("read", key, fault))?;
        Ok((got.body, Tag(got.etag)))
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let got = self.bucket.get_range(&self.full(key)?, offset, length).await;
        got.map_err(|fault| not_read("read", key, fault))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let head = self.bucket.head(&self.full(key)?).await.map_err(|fault| not_read("inspect", key, fault))?;
        Ok(ObjectMeta { key: key.to_owned(), bytes: head.bytes, modified: head.modified })
    }

    async fn tag(&self, key: &str) -> Result<Tag, ObjectError> {
        let head = self.bucket.head(&self.full(key)?).await.map_err(|fault| not_read("inspect", key, fault))?;
        Ok(Tag(head.etag))
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match self.bucket.delete(&self.full(key)?).await {
            Err(fault) if fault.kind == FaultKind::NotFound && fault.code != "NoSuchBucket" => Ok(()),
            other => other.map_err(|fault| not_read("delete", key, fault)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        // No key begins with a slash or has an empty part, but some servers treat several slashes as one.
        if prefix.starts_with('/') || prefix.contains("//") {
            return Ok(Vec::new());
        }
        let full = format!("{}{prefix}", self.prefix);
        let mut after = after.map(|after| format!("{}{after}", self.prefix));
        let mut found = Vec::new();
        while found.len() < limit {
            let wanted = limit - found.len();
            let page = self.bucket.list(&full, after.as_deref(), wanted).await;
            let page = page.map_err(|fault| not_listed("list", &self.location(), fault))?;
            let is_last = page.len() < wanted;
            after = page.last().map(|object| object.key.clone());
            // Keys that this store cannot have written belong to other programs, or stand for folders.
            found.extend(page.into_iter().filter_map(|object| self.own(object)));
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    async fn is_versioned(&self) -> Result<bool, ObjectError> {
        let failed = |fault| not_listed("read the versioning of", &self.location(), fault);
        self.bucket.is_versioned().await.map_err(failed)
    }

    async fn delete_noncurrent(&self, prefix: &str) -> Result<u64, ObjectError> {
        let failed = |fault| not_listed("delete the noncurrent versions in", &self.location(), fault);
        self.bucket.delete_noncurrent(&format!("{}{prefix}", self.prefix)).await.map_err(failed)
    }

    fn local_path(&self, _: &str) -> Option<PathBuf> {
        None
    }

    async fn read_into(&self, key: &str, file: File) -> Result<(), ObjectError> {
        match self.bucket.download(&self.full(key)?, file).await {
            Ok(_) => Ok(()),
            Err(DownloadError::Fault(fault)) => Err(not_read("read", key, fault)),
            Err(DownloadError::File(error)) => Err(local::failure("copy", key, &error)),
        }
    }
}

impl S3Objects {
    fn own(&self, object: Object) -> Option<ObjectMeta> {
        let key = object.key.strip_prefix(&self.prefix)?.to_owned();
        check_key(&key).ok()?;
        Some(ObjectMeta { key, bytes: object.bytes, modified: object.modified })
    }
}
