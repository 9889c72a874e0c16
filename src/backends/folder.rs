//! Objects in the state folder.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_objects::local::LocalObjectStore;

use super::{ObjectBackend, Opening, StateObjects};
use crate::exit::EngineError;

/// Objects as files below `objects/` of the state folder. A file system keeps conditions: nothing has to be proved.
pub struct FolderObjects;

#[async_trait]
impl ObjectBackend for FolderObjects {
    fn name(&self) -> &'static str {
        "folder"
    }

    async fn open(&self, opening: Opening<'_>) -> Result<StateObjects, EngineError> {
        let options = opening.settings.objects.clone();
        let objects = LocalObjectStore::open(&opening.folder.objects(), options, opening.clock);
        Ok(StateObjects { objects: Arc::new(objects.map_err(EngineError::system)?), conditions: None })
    }
}
