//! Shares one SQLite connection within the process.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Error, Transaction, TransactionBehavior};
use tokio::sync::Mutex;

use super::{Failure, OpenOptions, Schema, open_writer};

/// Gives shared access to one connection; clones are cheap. One operation runs at a time, on a thread that may block.
/// Other processes may have the file open as well.
#[derive(Clone)]
pub struct Database {
    location: Arc<str>,
    connection: Arc<Mutex<Connection>>,
}

impl Database {
    /// Opens the file and creates it if it is missing; the folder must exist. Blocks the thread.
    pub fn open(path: &Path, schema: &Schema, options: &OpenOptions) -> Result<Self, Failure> {
        let connection = open_writer(path, schema, options)?;
        // Overwrite deleted data, because it may include texts of documents.
        let location = path.display().to_string();
        connection.pragma_update(None, "secure_delete", true).map_err(|e| Failure::of(&location, &e))?;
        Ok(Self { location: location.into(), connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs `work` in a transaction and returns once the transaction is on the disk. If `work` fails, the transaction
    /// is rolled back. The transaction runs to its end even if the future is dropped.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    /// Runs `work` on one consistent state of the database.
    pub async fn read<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.run(move |connection| work(&connection.transaction()?)).await
    }

    async fn run<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    {
        let mut connection = self.connection.clone().lock_owned().await;
        let done = tokio::task::spawn_blocking(move || work(&mut connection)).await;
        let lost = |e: &dyn std::fmt::Display| {
            Failure::new(
                &self.location,
                format!("an operation aborted: {e}"),
                "restart docweir and report this message",
            )
        };
        done.map_err(|e| lost(&e))?.map_err(|e| Failure::of(&self.location, &e))
    }
}
