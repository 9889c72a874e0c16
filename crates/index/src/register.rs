//! Stores the manifest in an object store. Replaces the manifest by compare-and-swap, using the conditional put of
//! the object store.

use std::sync::Arc;

use bytes::Bytes;
use docweir_objects::{Durability, ObjectError, ObjectStore, Precondition, Tag};

use super::error::VectorError;
use super::manifest::Manifest;
use super::planted::{SkippedRule, planted};

pub(super) struct Register {
    objects: Arc<dyn ObjectStore>,
    key: String,
}

/// Reports the outcome of a swap.
#[derive(Debug)]
pub(super) enum Swap {
    Done,
    /// The manifest has changed since it was read. Either another writer has changed the manifest first, or an
    /// earlier attempt of this writer succeeded and its reply was lost. The caller reads the manifest to find out.
    Conflict,
    /// The reply was lost, so the swap may have been applied. The caller reads the manifest to find out.
    Unknown,
}

impl Register {
    pub fn new(objects: Arc<dyn ObjectStore>, key: String) -> Self {
        Self { objects, key }
    }

    /// Reads the manifest; `None` before the first commit of the collection.
    pub async fn load(&self) -> Result<Option<(Manifest, Tag)>, VectorError> {
        match self.objects.get(&self.key).await {
            Ok((body, tag)) => Ok(Some((Manifest::parse(&self.key, &body)?, tag))),
            Err(ObjectError::NotFound(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Replaces the manifest by `next` if the tag of the stored manifest is still `expected`. If `expected` is `None`,
    /// stores `next` only if there is no manifest yet.
    pub async fn swap(&self, expected: Option<&Tag>, next: &Manifest) -> Result<Swap, VectorError> {
        let when = match expected {
            _ if planted(SkippedRule::BlindSwap) => Precondition::None,
            Some(tag) => Precondition::Matches(tag.clone()),
            None => Precondition::Absent,
        };
        match self.objects.put(&self.key, Bytes::from(next.to_bytes()), when, Durability::Durable).await {
            Ok(_) => Ok(Swap::Done),
            // `If-Match` also fails if the key does not exist.
            Err(ObjectError::Conflict(_) | ObjectError::NotFound(_)) => Ok(Swap::Conflict),
            // A transient failure may have happened after the write, so its outcome is unknown too.
            Err(ObjectError::Unknown { .. } | ObjectError::Transient { .. }) => Ok(Swap::Unknown),
            Err(e) => Err(e.into()),
        }
    }
}
