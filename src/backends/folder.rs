//! Stores objects in the state folder.

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use docweir_objects::ObjectStore;
use docweir_objects::local::LocalObjectStore;
use docweir_objects::routed::RoutedObjects;
use docweir_stores::packed::PackedObjects;

use super::{Access, ObjectBackend, Opening, StateObjects};
use crate::exit::EngineError;

/// Stores vector files and large artefacts as files below `objects/` of the state folder, and small artefacts together
/// in `artefacts.db`. A local file system always honours the conditions of conditional writes, so this backend needs no
/// check of the conditions.
pub struct FolderObjects;

#[async_trait]
impl ObjectBackend for FolderObjects {
    fn name(&self) -> &'static str {
        "folder"
    }

    async fn open(&self, opening: Opening<'_>) -> Result<StateObjects, EngineError> {
        let (options, root) = (opening.settings.objects.clone(), opening.folder.objects());
        let most_bytes = usize::try_from(options.packed_bytes).unwrap_or(usize::MAX);
        let files = match opening.access {
            Access::Read => LocalObjectStore::open_to_read(&root, options),
            Access::Write => LocalObjectStore::open(&root, options, opening.clock),
        };
        let files: Arc<dyn ObjectStore> = Arc::new(files.map_err(EngineError::system)?);
        let mut packed =
            PackedObjects::new(&opening.folder.artefacts_db(), files.clone(), most_bytes, opening.clock.clone());
        if only_vectors(&root).unwrap_or(false) {
            packed = packed.without_files();
        }
        let objects =
            RoutedObjects { vectors: files.clone(), registers: files, manifests: true, others: Arc::new(packed) };
        Ok(StateObjects { objects: Arc::new(objects), conditions: None })
    }
}

/// Returns whether the folder of objects contains no object besides those of the vector store.
fn only_vectors(root: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(root)? {
        let name = entry?.file_name();
        if name != "vectors" && !name.to_string_lossy().starts_with('.') {
            return Ok(false);
        }
    }
    Ok(true)
}
