//! Wraps an object store in memory. Records which bytes are read, and can hold back the reads of one object.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use docweir_objects::memory::{Faults, MemoryObjects};
use docweir_objects::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload};

use crate::testing::objects;
use crate::{VectorOptions, VectorStore};

pub struct Watched {
    pub inner: Arc<MemoryObjects>,
    reads: Mutex<Vec<(String, u64)>>,
    held: Mutex<Option<String>>,
}

impl Watched {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: objects(0, Faults::default()), reads: Mutex::default(), held: Mutex::default() })
    }

    pub fn store(self: &Arc<Self>) -> Arc<VectorStore> {
        Arc::new(VectorStore::new(self.clone(), "chunks", self.inner.clock(), VectorOptions::default()).unwrap())
    }

    /// Holds back all reads of the object with this key. `None` lets them pass again.
    pub fn hold(&self, key: Option<&str>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = key.map(str::to_owned);
    }

    /// Returns the key and the number of bytes of each read of vector files since the previous call.
    pub fn take_reads(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut *self.reads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_held(&self, key: &str) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(key)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, key: &str, body: Bytes, when: Precondition, d: Durability) -> Result<Tag, ObjectError> {
        self.inner.put(key, body, when, d).await
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        self.inner.create(key).await
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        poll_fn(|_| if self.is_held(key) { Poll::Pending } else { Poll::Ready(()) }).await;
        let body = self.inner.get_range(key, offset, length).await?;
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push((key.to_owned(), body.len() as u64));
        Ok(body)
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.inner.list(prefix, after, limit).await
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.local_path(key)
    }
}
