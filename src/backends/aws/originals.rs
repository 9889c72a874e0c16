//! Reads documents from buckets, in addition to files of this machine.

use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use docweir_aws::s3::{DownloadError, Object, S3};
use docweir_aws::{Aws, AwsOptions, S3Options};
use docweir_aws::{Fault, FaultKind};
use docweir_core::error::StageError;
use tokio::sync::OnceCell;

use crate::intake::originals::{BUCKET, GONE, LOCAL_DISK, Listed, LocalOriginals, Original, Originals};
use crate::intake::source;

/// Number of objects per page of a listing.
const PAGE: usize = 1_000;

/// Opens files of this machine and objects of any bucket.
pub struct BucketOriginals {
    aws: AwsOptions,
    s3: S3Options,
    /// Folder for local copies of objects. A copy disappears when it is closed.
    folder: PathBuf,
    client: OnceCell<S3>,
}

impl BucketOriginals {
    /// Creates the reader. The first call to AWS is made when the first object is needed.
    pub fn new(aws: &AwsOptions, s3: &S3Options, folder: &Path) -> Self {
        Self { aws: aws.clone(), s3: s3.clone(), folder: folder.to_owned(), client: OnceCell::new() }
    }

    async fn client(&self) -> &S3 {
        self.client.get_or_init(async || S3::new(&Aws::find(self.aws.clone()).await, &self.s3)).await
    }

    async fn copy(&self, bucket: &str, key: &str) -> Result<Original, StageError> {
        let here = |e: io::Error| {
            let text = format!("cannot copy an object to {}: {e}; free some space", self.folder.display());
            StageError::unavailable(LOCAL_DISK, text)
        };
        std::fs::create_dir_all(&self.folder).map_err(here)?;
        let mut file = tempfile::tempfile_in(&self.folder).map_err(here)?;
        let target = file.try_clone().map_err(here)?;
        let object = match self.client().await.bucket(bucket).download(key, target).await {
            Ok(object) => object,
            Err(DownloadError::File(error)) => return Err(here(error)),
            Err(DownloadError::Fault(fault)) => return Err(unreadable(&fault)),
        };
        file.rewind().map_err(here)?;
        Ok(Original { file, tag: Some(tag(&object)) })
    }
}

/// Builds a tag from the size and the ETag of an object. If two versions of an object have equal tags, their contents
/// are equal.
fn tag(object: &Object) -> String {
    format!("{}-{}", object.bytes, object.etag.trim_matches('"'))
}

fn listed(bucket: &str, object: &Object) -> Listed {
    Listed { source: format!("s3://{bucket}/{}", object.key), bytes: object.bytes, tag: tag(object) }
}

#[async_trait]
impl Originals for BucketOriginals {
    async fn open(&self, source: &str) -> Result<Original, StageError> {
        match source::to_object(source) {
            Some((bucket, key)) => self.copy(bucket, key).await,
            None => LocalOriginals.open(source).await,
        }
    }

    async fn look(&self, source: &str) -> Result<Option<Listed>, StageError> {
        let Some((bucket, key)) = source::to_object(source) else {
            return Err(StageError::permanent("unknown_source", format!("{source} is not an S3 object")));
        };
        match self.client().await.bucket(bucket).head(key).await {
            Ok(object) => Ok(Some(listed(bucket, &object))),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
            Err(fault) => Err(unreadable(&fault)),
        }
    }

    async fn probe(&self, source: &str) -> Result<(), StageError> {
        let Some((bucket, key)) = source::to_object(source) else { return LocalOriginals.probe(source).await };
        let read = self.client().await.bucket(bucket).get_range(key, 0, 1).await;
        read.map(drop).map_err(|fault| unreadable(&fault))
    }

    async fn list(&self, uri: &str, after: Option<&str>) -> Result<Vec<Listed>, StageError> {
        let wrong =
            || StageError::permanent("unknown_source", format!("{uri}: use s3://BUCKET/KEY or s3://BUCKET/PREFIX/"));
        let (bucket, prefix) = uri.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let client = self.client().await.bucket(bucket);
        let failed = |fault: Fault| {
            let message = format!("cannot list {uri}: {fault}");
            match fault.kind {
                // Nothing of this location was read yet, so it is more likely that the permission is missing.
                FaultKind::Denied if after.is_none() => StageError::permanent("permission_denied", message),
                _ => StageError { message, ..unreadable(&fault) },
            }
        };
        if !prefix.is_empty() && !prefix.ends_with('/') {
            if after.is_some() {
                return Ok(Vec::new());
            }
            let object = client.head(prefix).await.map_err(failed)?;
            return Ok(vec![listed(bucket, &object)]);
        }
        let mut after = after.and_then(source::to_object).map(|(_, key)| key.to_owned());
        loop {
            let page = client.list(prefix, after.as_deref(), PAGE).await.map_err(failed)?;
            // A key that ends with a slash is a folder marker of some tools.
            let objects = page.iter().filter(|object| !object.key.ends_with('/'));
            let objects: Vec<Listed> = objects.map(|object| listed(bucket, object)).collect();
            after = page.last().map(|object| object.key.clone());
            if !objects.is_empty() || after.is_none() {
                return Ok(objects);
            }
        }
    }
}

/// Converts an S3 error into the error of the document that could not be read.
fn unreadable(fault: &Fault) -> StageError {
    match fault.kind {
        FaultKind::NotFound => StageError::permanent(GONE, "the object no longer exists"),
        FaultKind::Denied => {
            let text = format!("access to the object is denied ({fault}); check the credentials and their permissions");
            StageError::unavailable(BUCKET, text)
        }
        FaultKind::Invalid => StageError::permanent("unreadable", format!("cannot read the object: {fault}")),
        FaultKind::Throttled => StageError::throttled(format!("S3 throttles requests ({fault})"), None),
        _ => StageError::unavailable(BUCKET, format!("cannot read the object: {fault}")),
    }
}
