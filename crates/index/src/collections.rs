//! Lists the collections of an index.

use docweir_objects::{ObjectError, ObjectStore};

/// Folder of all collections in the object store.
const FOLDER: &str = "vectors/";

/// Returns the names of at most `limit` collections, in order. Makes one call for each of them, however many files they
/// have.
pub async fn collections(objects: &dyn ObjectStore, limit: usize) -> Result<Vec<String>, ObjectError> {
    let (mut names, mut after) = (Vec::new(), None::<String>);
    while names.len() < limit {
        let page = objects.list(FOLDER, after.as_deref(), 1).await?;
        let name = page.first().and_then(|object| object.key.strip_prefix(FOLDER)?.split_once('/'));
        let Some((name, _)) = name else { break };
        // The character after the slash, so that no key of this collection comes later.
        let next = format!("{FOLDER}{name}0");
        // A store that does not list in byte order may begin again.
        if after.as_ref().is_some_and(|after| next <= *after) {
            break;
        }
        names.push(name.to_owned());
        after = Some(next);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use docweir_core::clock::ManualClock;
    use docweir_objects::memory::MemoryObjects;
    use docweir_objects::{Durability, Precondition};

    use super::*;

    #[tokio::test]
    async fn each_collection_is_named_once() {
        let objects = MemoryObjects::new(Arc::new(ManualClock::at(0)));
        assert_eq!(collections(&objects, 9).await.unwrap(), [""; 0]);
        let keys =
            ["vectors/a/MANIFEST", "vectors/a/delta/1", "vectors/a-b/MANIFEST", "vectors/b/snap/2/x", "chunks/c"];
        for key in keys {
            objects.put(key, Bytes::new(), Precondition::None, Durability::Durable).await.unwrap();
        }
        assert_eq!(collections(&objects, 9).await.unwrap(), ["a-b", "a", "b"]);
        assert_eq!(collections(&objects, 2).await.unwrap(), ["a-b", "a"]);
    }
}
