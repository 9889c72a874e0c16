//! Finds and deletes the noncurrent versions of objects in versioned buckets.
//!
//! In a versioned bucket, deleting or overwriting an object keeps its content as a noncurrent version. A deletion adds a
//! delete marker. Anyone with the permission `s3:GetObjectVersion` can still read the content.

use aws_sdk_s3::types::{BucketVersioningStatus, Delete, ObjectIdentifier};

use super::{Bucket, DELETE_AT_ONCE};
use crate::fault::kind;
use crate::{Fault, FaultKind};

/// Names one version of an object, or a delete marker.
struct Version {
    key: String,
    id: String,
}

impl Bucket {
    /// Returns whether the bucket keeps the content of deleted objects, or has done so before.
    pub async fn is_versioned(&self) -> Result<bool, Fault> {
        let call = self.s3.client.get_bucket_versioning().bucket(&self.name);
        match self.s3.done("GetBucketVersioning", call.send().await) {
            Ok(found) => {
                Ok(matches!(found.status, Some(BucketVersioningStatus::Enabled | BucketVersioningStatus::Suspended)))
            }
            // The server has no versions.
            Err(fault) if matches!(fault.code.as_str(), "NotImplemented" | "MethodNotAllowed" | "HTTP 501") => {
                Ok(false)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Deletes the noncurrent versions and the delete markers of all objects under a prefix. Current versions stay.
    /// Returns the number of deleted versions.
    pub async fn delete_noncurrent(&self, prefix: &str) -> Result<u64, Fault> {
        let (mut deleted, mut markers) = (0, Vec::new());
        let (mut key, mut version) = (None, None);
        loop {
            let call = self.s3.client.list_object_versions().bucket(&self.name).prefix(prefix);
            let call = call.set_key_marker(key.take()).set_version_id_marker(version.take());
            let page = self.s3.done("ListObjectVersions", call.send().await)?;
            let noncurrent = page.versions().iter().filter(|found| found.is_latest() == Some(false));
            let noncurrent = noncurrent.filter_map(|found| Version::of(found.key(), found.version_id()));
            let noncurrent: Vec<Version> = noncurrent.collect();
            let found = page.delete_markers().iter();
            markers.extend(found.filter_map(|found| Version::of(found.key(), found.version_id())));
            self.delete_versions(&noncurrent).await?;
            deleted += noncurrent.len() as u64;
            if page.is_truncated() != Some(true) {
                break;
            }
            (key, version) = (page.next_key_marker, page.next_version_id_marker);
            if key.is_none() {
                let text = "the server returned a part of the versions without the start of the next part";
                return Err(Fault::new(FaultKind::Unknown, "no marker", text));
            }
        }
        // If a marker were deleted before the version that it hides, this version would be current again. Markers that
        // others have created since hide versions that still exist, so they stay.
        self.delete_versions(&markers).await?;
        Ok(deleted)
    }

    async fn delete_versions(&self, versions: &[Version]) -> Result<(), Fault> {
        let invalid = |message: String| Fault::new(FaultKind::Invalid, "not sent", message);
        for part in versions.chunks(DELETE_AT_ONCE) {
            let id = |version: &Version| ObjectIdentifier::builder().key(&version.key).version_id(&version.id).build();
            let ids = part.iter().map(id).collect::<Result<Vec<_>, _>>().map_err(|e| invalid(e.to_string()))?;
            let delete = Delete::builder().set_objects(Some(ids)).quiet(true).build();
            let delete = delete.map_err(|e| invalid(e.to_string()))?;
            let call = self.s3.client.delete_objects().bucket(&self.name).delete(delete);
            let answer = self.s3.done("DeleteObjects", call.send().await)?;
            if let Some(error) = answer.errors.into_iter().flatten().next() {
                let code = error.code.unwrap_or_default();
                return Err(Fault::new(kind(&code, 403), code, error.message.unwrap_or_default()));
            }
        }
        Ok(())
    }
}

impl Version {
    fn of(key: Option<&str>, id: Option<&str>) -> Option<Self> {
        Some(Self { key: key?.to_owned(), id: id?.to_owned() })
    }
}
