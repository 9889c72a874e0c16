//! Shares one SQLite connection within the process.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Error, Transaction, TransactionBehavior};
use tokio::sync::Mutex;

use super::{Failure, OpenOptions, Reader, Schema, empty_log, open_reader, open_writer};

/// Gives shared access to one connection; clones are cheap. One operation runs at a time, on a thread that may block.
/// Other processes may have the file open as well.
#[derive(Clone)]
pub struct Database {
    location: Arc<str>,
    connection: Arc<Mutex<Handle>>,
}

enum Handle {
    Writer(Connection),
    Reader(Reader),
}

impl Database {
    /// Opens the file and creates it if it is missing; the folder must exist. Blocks the thread.
    pub fn open(path: &Path, schema: &Schema, options: &OpenOptions) -> Result<Self, Failure> {
        let connection = open_writer(path, schema, options)?;
        // Overwrite deleted data, because it may include texts of documents.
        let location = path.display().to_string();
        connection.pragma_update(None, "secure_delete", true).map_err(|e| Failure::of(&location, &e))?;
        Ok(Self { location: location.into(), connection: Arc::new(Mutex::new(Handle::Writer(connection))) })
    }

    /// Opens the file like [`open`](Self::open). If this process may not write, opens the file for reading, and every
    /// later write fails.
    pub fn open_to_read(path: &Path, schema: &Schema, options: &OpenOptions) -> Result<Self, Failure> {
        match Self::open(path, schema, options) {
            Err(failure) if failure.denied && path.exists() => {
                let reader = open_reader(path, schema, options.busy)?;
                let connection = Arc::new(Mutex::new(Handle::Reader(reader)));
                Ok(Self { location: path.display().to_string().into(), connection })
            }
            other => other,
        }
    }

    /// Runs `work` in a transaction and returns once the transaction is on the disk. If `work` fails, the transaction
    /// is rolled back. The transaction runs to its end even if the future is dropped.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let location = self.location.clone();
        self.run(move |handle| {
            let Handle::Writer(connection) = handle else { return Err(Failure::read_only(&location)) };
            let write = || {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            };
            write().map_err(|e| Failure::of(&location, &e))
        })
        .await
    }

    /// Empties the write-ahead log. See [`empty_log`].
    pub async fn truncate_log(&self) -> Result<(), Failure> {
        let location = self.location.clone();
        self.run(move |handle| {
            let Handle::Writer(connection) = handle else { return Err(Failure::read_only(&location)) };
            empty_log(connection, &location)
        })
        .await
    }

    /// Runs `work` on one consistent state of the database.
    pub async fn read<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let location = self.location.clone();
        self.run(move |handle| {
            let done = match handle {
                Handle::Writer(connection) => connection.transaction().and_then(|transaction| work(&transaction)),
                Handle::Reader(reader) => reader.read(|connection| work(&connection.unchecked_transaction()?)),
            };
            done.map_err(|e| Failure::of(&location, &e))
        })
        .await
    }

    async fn run<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&mut Handle) -> Result<T, Failure> + Send + 'static,
    {
        let mut handle = self.connection.clone().lock_owned().await;
        let done = tokio::task::spawn_blocking(move || work(&mut handle)).await;
        let lost = |e: &dyn std::fmt::Display| {
            Failure::new(
                &self.location,
                format!("an operation aborted: {e}"),
                "restart docweir and report this message",
            )
        };
        done.map_err(|e| lost(&e))?
    }
}
