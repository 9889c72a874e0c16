//! One connection that everybody in the process shares.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Error, Transaction, TransactionBehavior};
use tokio::sync::Mutex;

use super::{Failure, OpenOptions, Schema, open_writer};

/// Cheap to clone; clones share the connection. One operation runs at a time, on a thread that may block; other
/// processes may have the file open as well.
#[derive(Clone)]
pub struct Database {
    location: Arc<str>,
    connection: Arc<Mutex<Connection>>,
}

impl Database {
    /// Opens the file, and makes it where there is none; its folder must exist. Blocks.
    pub fn open(path: &Path, schema: &Schema, options: &OpenOptions) -> Result<Self, Failure> {
        let connection = open_writer(path, schema, options)?;
        // What was deleted is gone, texts of documents too.
        let location = path.display().to_string();
        connection.pragma_update(None, "secure_delete", true).map_err(|e| Failure::of(&location, &e))?;
        Ok(Self { location: location.into(), connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs `work` in a transaction that is on the disk when this returns, and undone when `work` fails. Dropped, it goes
    /// on to its end.
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

    /// Runs `work`, which sees one state of the database.
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
            Failure::new(&self.location, format!("an operation was lost: {e}"), "start docweir again, and report it")
        };
        done.map_err(|e| lost(&e))?.map_err(|e| Failure::of(&self.location, &e))
    }
}
