//! Where a state's objects and control records lie: each is chosen by one key and opened behind one trait.
//!
//! ```text
//! state.objects ─▶ ObjectBackend ─▶ ObjectStore        folder │ s3
//! state.control ─▶ ControlBackend ─▶ StateStores       sqlite │ dynamodb
//! ```
//! Another object store is a file beside `folder` that implements [`ObjectBackend`], a line in `object_backends`, and a
//! value of `state.objects`. Another control store is the same with [`ControlBackend`].
//!
//! [`cloud`] has what a program can only do with AWS's clients. It is one of two modules with the same functions: `aws`
//! in a program built with the feature of that name, `without_aws` in the others, whose functions say what is missing. The
//! rest of the program knows no feature.

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

/// What a backend is opened with.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    pub settings: &'a Settings,
    /// The folder on this machine: of all state, or of what can be made again.
    pub folder: &'a StateFolder,
    pub clock: &'a SharedClock,
}

/// A kind of place that objects can lie in: artefacts, vector files, manifests, leases.
#[async_trait]
pub trait ObjectBackend: Send + Sync {
    /// Returns the value of `state.objects` that chooses this backend.
    fn name(&self) -> &'static str;

    /// Opens the objects of one state. Writes nothing but what can be made again.
    ///
    /// # Errors
    /// With the exit code of a configuration that can't be right, or of a machine or service that fails.
    async fn open(&self, opening: Opening<'_>) -> Result<StateObjects, EngineError>;
}

/// The opened objects of a state.
pub struct StateObjects {
    pub objects: Arc<dyn ObjectStore>,
    /// Proof to ask for before the first commit, where the place is not known to keep conditional writes.
    pub conditions: Option<Arc<dyn KeepsConditions>>,
}

/// A place of objects that can prove that it keeps the conditions of conditional writes.
#[async_trait]
pub trait KeepsConditions: Send + Sync {
    /// Tries conditional writes on a key of its own.
    ///
    /// # Errors
    /// Where a condition was ignored: commits would be lost there.
    async fn prove(&self) -> Result<(), ObjectError>;
}

/// A kind of place that control records, the ledger and batches can lie in.
#[async_trait]
pub trait ControlBackend: Send + Sync {
    /// Returns the value of `state.control` that chooses this backend.
    fn name(&self) -> &'static str;

    /// Opens the stores of one state, whose objects are open already.
    ///
    /// # Errors
    /// As those of [`ObjectBackend::open`].
    async fn open(
        &self,
        opening: Opening<'_>,
        objects: &Arc<dyn ObjectStore>,
    ) -> Result<Arc<dyn StateStores>, EngineError>;
}

/// The opened stores of a state. The ledger and the batches are opened by the first who needs them.
pub trait StateStores: Send + Sync {
    fn control(&self) -> Arc<dyn ControlStore>;

    /// Returns whether other processes may work on the same documents at the same time.
    fn is_shared(&self) -> bool;

    /// Returns whether anything was ever paid or put down to be embedded, as far as can be told without a call.
    fn may_have_batches(&self) -> bool;

    fn ledger(&self) -> Result<Arc<dyn Ledger>, EngineError>;

    /// Returns the items and batches.
    fn batches(&self) -> Result<Arc<dyn Batches>, EngineError>;

    /// Returns the lease of the process that looks after batches, where several processes share them.
    fn batch_lease(&self) -> Option<LeaseRegister>;
}

/// The kinds of places for objects that this program knows.
fn object_backends() -> Vec<Box<dyn ObjectBackend>> {
    let mut known: Vec<Box<dyn ObjectBackend>> = vec![Box::new(folder::FolderObjects)];
    known.extend(cloud::object_backends());
    known
}

/// The kinds of control stores that this program knows.
fn control_backends() -> Vec<Box<dyn ControlBackend>> {
    let mut known: Vec<Box<dyn ControlBackend>> = vec![Box::new(sqlite::SqliteControl)];
    known.extend(cloud::control_backends());
    known
}

/// Opens the objects and the stores that the settings choose.
///
/// # Errors
/// Where the program was built without the chosen backend, or it can't be opened.
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

/// The error of a program that was built without AWS's clients.
pub fn without_aws() -> EngineError {
    let text = "this docweir was built without AWS: build it with `cargo build --release --features aws`";
    EngineError::new(Exit::Configuration, text)
}
