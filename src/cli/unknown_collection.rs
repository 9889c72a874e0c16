//! Explains that a command names a collection that does not exist.

use docweir_index::collections::collections;

use crate::engine::Engine;
use crate::exit::Failure;

/// Maximum number of collections that the message names.
const MOST: usize = 10;

/// Returns the failure for the configured collection, which does not exist. The message names the collections that do.
pub async fn unknown_collection(engine: &Engine) -> Failure {
    let (root, name) = (engine.state.root().display(), &engine.config.settings.state.collection);
    let there = match collections(engine.objects.as_ref(), MOST + 1).await {
        Ok(there) => there,
        Err(error) => return Failure::system(format!("can't list the collections of {root}: {error}")),
    };
    if there.is_empty() {
        return Failure::no(format!("the index at {root} is empty; run `docweir ingest FOLDER` first"));
    }
    let more = if there.len() > MOST { " and more" } else { "" };
    let names: Vec<String> = there.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    Failure::no(format!(
        "the index at {root} has no collection `{name}`; it has {}{more} (`state.collection`)",
        names.join(", ")
    ))
}
