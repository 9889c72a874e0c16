//! Selects and opens the object store and the control store. For each of the two, a configuration key selects the
//! backend, and a trait defines the methods of every backend.
//!
//! ```text
//! state.objects ─▶ ObjectBackend ─▶ ObjectStore        folder │ s3
//! state.control ─▶ ControlBackend ─▶ StateStores       sqlite │ dynamodb
//! ```
//! To add an object store, write a file next to `folder` that implements [`ObjectBackend`], add a line to
//! `object_backends`, and add a value of `state.objects`. A control store is added in the same way with
//! [`ControlBackend`].
//!
//! [`cloud`] holds the functions that need AWS clients. It is one of two modules with the same functions: `aws` in a
//! program built with the feature `aws`, `without_aws` in other programs. The functions of `without_aws` report the
//! missing feature. The rest of the program does not depend on the feature.

#[cfg(feature = "aws")]
#[path = "aws/mod.rs"]
pub mod cloud;
#[cfg(not(feature = "aws"))]
#[path = "without_aws.rs"]
pub mod cloud;
mod folder;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::clock::SharedClock;
use docweir_objects::lease::LeaseRegister;
use docweir_objects::{ObjectError, ObjectStore};
use docweir_stores::batches::Batches;
use docweir_stores::control::ControlStore;
use docweir_stores::ledger::Ledger;
use docweir_stores::state::StateFolder;

use crate::config::Settings;
use crate::exit::{EngineError, Exit};

/// Holds the arguments for opening a backend.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    pub settings: &'a Settings,
    /// Local state folder. If the state is in AWS, all data in this folder can be recreated.
    pub folder: &'a StateFolder,
    pub clock: &'a SharedClock,
    pub access: Access,
}

/// Tells which access to the state a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The command only reads. State in the local folder is opened even if it cannot be written.
    Read,
    Write,
}

/// Opens one kind of object store. An object store holds artefacts, vector files, manifests and leases.
#[async_trait]
pub trait ObjectBackend: Send + Sync {
    /// Returns the value of `state.objects` that chooses this backend.
    fn name(&self) -> &'static str;

    /// Opens the object store that the settings describe. Opening writes only data that can be recreated.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid, or if this machine or a service fails. The exit code in the
    /// error tells an invalid configuration from a failure.
    async fn open(&self, opening: Opening<'_>) -> Result<StateObjects, EngineError>;
}

/// Holds an opened object store.
pub struct StateObjects {
    pub objects: Arc<dyn ObjectStore>,
    /// Check that must succeed before the first commit. `None` if the store of the manifests always honours the
    /// conditions of conditional writes, so that no check is needed.
    pub conditions: Option<Arc<dyn KeepsConditions>>,
}

/// Checks whether an object store honours the conditions of conditional writes.
#[async_trait]
pub trait KeepsConditions: Send + Sync {
    /// Tests conditional writes on a separate key.
    ///
    /// # Errors
    /// Returns an error if the store ignores a condition, which would lose commits.
    async fn prove(&self) -> Result<(), ObjectError>;
}

/// Opens one kind of store for control records, the ledger and batches.
#[async_trait]
pub trait ControlBackend: Send + Sync {
    /// Returns the value of `state.control` that chooses this backend.
    fn name(&self) -> &'static str;

    /// Opens three stores: that of control records, the ledger, and that of batches. `objects` is the object store of
    /// the same state and is already open.
    ///
    /// # Errors
    /// Returns the same errors as [`ObjectBackend::open`].
    async fn open(
        &self,
        opening: Opening<'_>,
        objects: &Arc<dyn ObjectStore>,
    ) -> Result<Arc<dyn StateStores>, EngineError>;
}

/// Provides the opened stores of a state. The ledger and the batches are opened on first use.
pub trait StateStores: Send + Sync {
    fn control(&self) -> Arc<dyn ControlStore>;

    /// Returns whether other processes may work on the same documents at the same time.
    fn is_shared(&self) -> bool;

    /// Returns whether the ledger, the items and the batches may contain any data. The caller may skip reading all
    /// three if the result is false, because then no call was ever charged and no item was ever enqueued. This method
    /// makes no call to a service.
    fn may_have_batches(&self) -> bool;

    fn ledger(&self) -> Result<Arc<dyn Ledger>, EngineError>;

    /// Returns the store of items and batches.
    fn batches(&self) -> Result<Arc<dyn Batches>, EngineError>;

    /// Returns the lease that elects the leader for batches, or `None` if only one process can work on batches.
    fn batch_lease(&self) -> Option<LeaseRegister>;
}

/// Returns all object backends of this program.
fn object_backends() -> Vec<Box<dyn ObjectBackend>> {
    let mut known: Vec<Box<dyn ObjectBackend>> = vec![Box::new(folder::FolderObjects)];
    known.extend(cloud::object_backends());
    known
}

/// Returns all control backends of this program.
fn control_backends() -> Vec<Box<dyn ControlBackend>> {
    let mut known: Vec<Box<dyn ControlBackend>> = vec![Box::new(sqlite::SqliteControl)];
    known.extend(cloud::control_backends());
    known
}

/// Opens the object store and the control stores that the settings select.
///
/// # Errors
/// Returns an error if the program was built without one of the selected backends, or if a selected backend cannot be
/// opened.
pub async fn open(opening: Opening<'_>) -> Result<(StateObjects, Arc<dyn StateStores>), EngineError> {
    let state = &opening.settings.state;
    let (objects_in, control_in) = (state.objects_in(), state.control_in());
    let objects = object_backends().into_iter().find(|backend| backend.name() == objects_in);
    let control = control_backends().into_iter().find(|backend| backend.name() == control_in);
    let (Some(objects), Some(control)) = (objects, control) else { return Err(without_aws()) };
    let objects = objects.open(opening).await?;
    let control = control.open(opening, &objects.objects).await?;
    Ok((objects, control))
}

/// Returns the error that tells the user to build the program with the AWS clients.
pub fn without_aws() -> EngineError {
    let text = "this docweir was built without AWS: build it with `cargo build --release --features aws`";
    EngineError::new(Exit::Configuration, text)
}
