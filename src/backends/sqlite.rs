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

use super::{Access, ControlBackend, Opening, StateStores};
use crate::exit::EngineError;

/// Opens the file `control.db` of the state folder at once, and the file `paid.db` on first use.
pub struct SqliteControl;

struct SqliteStores {
    folder: StateFolder,
    clock: SharedClock,
    options: SqliteControlOptions,
    access: Access,
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
        let Opening { settings, folder, clock, access } = opening;
        let options = SqliteControlOptions { max_retries: settings.retry.attempts, ..settings.control.clone() };
        let (path, clock) = (folder.control_db(), clock.clone());
        let control = match access {
            Access::Read => SqliteControlStore::open_to_read(&path, options, clock.clone()).await,
            Access::Write => SqliteControlStore::open(&path, options, clock.clone()).await,
        };
        Ok(Arc::new(SqliteStores {
            folder: folder.clone(),
            clock,
            access,
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
        let (path, options) = (self.folder.paid_db(), self.options.opening());
        let opened = match self.access {
            Access::Read => paid::open_to_read(&path, &options),
            Access::Write => paid::open(&path, &options),
        };
        let opened = opened.map_err(EngineError::system)?;
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
