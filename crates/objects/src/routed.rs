//! Routes each object by its key to one of three stores: one for vector files, one for registers (leases and
//! manifests), and one for all other objects.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload};

/// Prefix of the keys of vector files, leases and manifests.
const VECTORS: &str = "vectors/";

pub struct RoutedObjects {
    pub vectors: Arc<dyn ObjectStore>,
    /// Store of the collections' leases. If [`RoutedObjects::manifests`] is true, this store also holds the manifests;
    /// otherwise the manifests are in [`RoutedObjects::vectors`].
    pub registers: Arc<dyn ObjectStore>,
    pub manifests: bool,
    pub others: Arc<dyn ObjectStore>,
}

impl RoutedObjects {
    fn of(&self, key: &str) -> &Arc<dyn ObjectStore> {
        if !key.starts_with(VECTORS) {
            return &self.others;
        }
        let register = key.ends_with("/LEASE") || self.manifests && key.ends_with("/MANIFEST");
        if register { &self.registers } else { &self.vectors }
    }
}

#[async_trait]
impl ObjectStore for RoutedObjects {
    fn location(&self) -> String {
        self.others.location()
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        when: Precondition,
        durability: Durability,
    ) -> Result<Tag, ObjectError> {
        self.of(key).put(key, body, when, durability).await
    }

    async fn put_all(&self, objects: Vec<(String, Bytes)>, durability: Durability) -> Result<(), ObjectError> {
        for place in [&self.others, &self.vectors, &self.registers] {
            let here = objects.iter().filter(|(key, _)| Arc::ptr_eq(self.of(key), place)).cloned();
            let here: Vec<_> = here.collect();
            if !here.is_empty() {
                place.put_all(here, durability).await?;
            }
        }
        Ok(())
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        self.of(key).create(key).await
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        self.of(key).get(key).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        self.of(key).get_range(key, offset, length).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.of(key).head(key).await
    }

    async fn tag(&self, key: &str) -> Result<Tag, ObjectError> {
        self.of(key).tag(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.of(key).delete(key).await
    }

    async fn is_versioned(&self) -> Result<bool, ObjectError> {
        Ok(self.vectors.is_versioned().await? || self.others.is_versioned().await?)
    }

    async fn delete_noncurrent(&self, prefix: &str) -> Result<u64, ObjectError> {
        self.of(prefix).delete_noncurrent(prefix).await
    }

    /// Lists objects of one store: the store of vector files if `prefix` begins with `vectors/`, otherwise the store
    /// of other objects. Objects in [`RoutedObjects::registers`] are never listed.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.of(prefix).list(prefix, after, limit).await
    }

    fn local_path(&self, key: &str) -> Option<std::path::PathBuf> {
        self.of(key).local_path(key)
    }

    async fn local_copy(&self, key: &str) -> Result<Option<std::fs::File>, ObjectError> {
        self.of(key).local_copy(key).await
    }

    fn max_copy_bytes(&self) -> Option<u64> {
        // Only vector files are mapped.
        self.vectors.max_copy_bytes()
    }

    async fn forget_deleted(&self) -> Result<(), ObjectError> {
        for place in [&self.others, &self.vectors, &self.registers] {
            place.forget_deleted().await?;
        }
        Ok(())
    }

    fn forget_copy(&self, key: &str) -> bool {
        self.of(key).forget_copy(key)
    }

    async fn read_into(&self, key: &str, file: std::fs::File) -> Result<(), ObjectError> {
        self.of(key).read_into(key, file).await
    }
}
