//! Reads concurrently with the writer, over a pool of read-only connections.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::failure::{OpResult, told};
use crate::control::ControlError;
use crate::sqlite::{Failure, Reader};

pub struct Readers {
    path: PathBuf,
    location: String,
    busy: Duration,
    idle: Arc<Mutex<Vec<Reader>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub fn new(path: PathBuf, location: String, busy: Duration, connections: usize) -> Self {
        Self { path, location, busy, idle: Arc::default(), permits: Arc::new(Semaphore::new(connections.max(1))) }
    }

    /// Runs `op` on a thread that may block. `op` sees everything that was committed before the call.
    pub async fn read<T, F>(&self, op: F) -> Result<T, ControlError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> OpResult<T> + Send + 'static,
    {
        let lost = |e: &dyn std::fmt::Display| Failure::new(&self.location, format!("read aborted: {e}"), "try again");
        let permit = self.permits.clone().acquire_owned().await.map_err(|e| ControlError::from(lost(&e)))?;
        let (path, busy, idle) = (self.path.clone(), self.busy, self.idle.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let lent = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut reader = match lent {
                Some(reader) => reader,
                None => Reader::open(&path, busy)?,
            };
            // A connection whose read failed is closed, not reused.
            let value = reader.read(op)?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(value)
        });
        let result = task.await.map_err(|e| ControlError::from(lost(&e)))?;
        result.map_err(|e| told(&self.location, e).map_or_else(|refusal| refusal, Into::into))
    }
}
