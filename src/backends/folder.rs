//! Stores objects in the state folder.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_objects::local::LocalObjectStore;

use super::{ObjectBackend, Opening, StateObjects};
use crate::exit::EngineError;

/// Stores objects as files below `objects/` of the state folder. A local file system always honours the conditions of
/// conditional writes, so this backend needs no check of the conditions.
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
