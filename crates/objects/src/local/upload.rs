//! Streams a large object into the folder. The object is never held in memory, so `max_object_bytes` does not apply.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use async_trait::async_trait;

use super::files::{KeyLock, Temporary, sync_folders};
use super::{Inner, LocalObjectStore, ObjectError, TMP, failure};
use crate::Upload;

/// Size, in bytes, of the buffer that merges small writes.
const BUFFER: usize = 1 << 20;

pub(super) struct LocalUpload {
    store: Arc<Inner>,
    key: String,
    file: BufWriter<TemporaryFile>,
}

struct TemporaryFile(Temporary);

impl Write for TemporaryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LocalUpload {
    pub(super) fn begin(store: Arc<Inner>, key: &str) -> Result<Self, ObjectError> {
        let temporary = Temporary::create(&store.root.join(TMP)).map_err(|e| failure("write", key, &e))?;
        let file = BufWriter::with_capacity(BUFFER, TemporaryFile(temporary));
        Ok(Self { store, key: key.to_owned(), file })
    }

    fn end(self) -> Result<(), ObjectError> {
        let Self { store, key, file } = self;
        let failed = |e: io::Error| failure("write", &key, &e);
        let TemporaryFile(mut temporary) = file.into_inner().map_err(|e| failed(e.into_error()))?;
        temporary.sync().map_err(failed)?;
        let _lock = KeyLock::take(&store.root, &key, false, &store.options)?;
        let path = store.path(&key);
        store.rename(&mut temporary, &path).map_err(failed)?;
        sync_folders(&path, &store.root)
            .map_err(|e| ObjectError::Unknown { key: key.clone(), reason: format!("the folder was not synced: {e}") })
    }
}

impl Write for LocalUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn finish(self: Box<Self>) -> Result<(), ObjectError> {
        let store = LocalObjectStore { inner: self.store.clone() };
        let key = self.key.clone();
        store.blocking("write", &key, move |_, _| self.end()).await
    }
}
