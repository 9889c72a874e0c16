//! Stores control records, the ledger and batches in two SQLite files of the state folder. Only one process at a time
//! may use the two files.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use docweir_core::clock::SharedClock;
use docweir_objects::ObjectStore;
use docweir_objects::lease::LeaseRegister;
use docweir_stores::batches::{Batches, SqliteBatches};
use docweir_stores::control::ControlStore;
use docweir_stores::control::sqlite::{SqliteControlOptions, SqliteControlStore};
use docweir_stores::ledger::{Ledger, SqliteLedger};
use docweir_stores::paid;
use docweir_stores::sqlite::Database;
use docweir_stores::state::StateFolder;

use super::{ControlBackend, Opening, StateStores};
use crate::exit::EngineError;

/// Opens the file `control.db` of the state folder at once, and the file `paid.db` on first use.
pub struct SqliteControl;

struct SqliteStores {
    folder: StateFolder,
    clock: SharedClock,
    options: SqliteControlOptions,
    control: Arc<SqliteControlStore>,
    /// Database of the ledger and batches. It is opened on first use, because most runs make no paid calls.
    paid: OnceLock<Database>,
}

#[async_trait]
impl ControlBackend for SqliteControl {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn open(&self, opening: Opening<'_>, _: &Arc<dyn ObjectStore>) -> Result<Arc<dyn StateStores>, EngineError> {
        let Opening { settings, folder, clock } = opening;
        let options = SqliteControlOptions { max_retries: settings.retry.attempts, ..settings.control.clone() };
        let control = SqliteControlStore::open(&folder.control_db(), options.clone(), clock.clone()).await;
        Ok(Arc::new(SqliteStores {
            folder: folder.clone(),
            clock: clock.clone(),
            options: settings.control.clone(),
            control: Arc::new(control.map_err(EngineError::system)?),
            paid: OnceLock::new(),
        }))
    }
}

impl SqliteStores {
    fn paid(&self) -> Result<Database, EngineError> {
        if let Some(open) = self.paid.get() {
            return Ok(open.clone());
        }
        let opened = paid::open(&self.folder.paid_db(), &self.options.opening()).map_err(EngineError::system)?;
        Ok(self.paid.get_or_init(|| opened).clone())
    }
}

impl StateStores for SqliteStores {
    fn control(&self) -> Arc<dyn ControlStore> {
        self.control.clone()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn may_have_batches(&self) -> bool {
        self.folder.paid_db().exists()
    }

    fn ledger(&self) -> Result<Arc<dyn Ledger>, EngineError> {
        Ok(Arc::new(SqliteLedger::new(self.paid()?, self.clock.clone())))
    }

    fn batches(&self) -> Result<Arc<dyn Batches>, EngineError> {
        Ok(Arc::new(SqliteBatches::new(self.paid()?, self.clock.clone())))
    }

    fn batch_lease(&self) -> Option<LeaseRegister> {
        None
    }
}
