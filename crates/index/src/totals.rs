//! Counts the documents and rows of a collection.
//!
//! The documents of all files but the largest are put into a map. The documents of the largest file are then only
//! looked up, so a million documents are counted without a copy of their ids or metadata.

use std::collections::HashMap;

use super::VectorStore;
use super::error::VectorError;
use super::listed::{Listed, ListedDocument};
use super::manifest::ManifestVersion;
use super::validate::Precedence;

/// Holds the numbers of visible documents and rows of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Manifest version that was counted.
    pub version: ManifestVersion,
    pub documents: u64,
    pub rows: u64,
}

impl VectorStore {
    /// Counts the visible documents and rows. Of deltas, only the lists of documents are read.
    pub async fn totals(&self) -> Result<Totals, VectorError> {
        let Some((manifest, files)) = self.listed().await? else { return Ok(Totals::default()) };
        let names = manifest.live.iter().map(|live| live.file.as_str());
        let (documents, rows) = count(&names.zip(&files).collect::<Vec<_>>());
        Ok(Totals { version: manifest.version, documents, rows })
    }
}

/// Counts the visible documents and their rows over all files, which are given with their names.
fn count(files: &[(&str, &Listed)]) -> (u64, u64) {
    let Some(largest) = files.iter().max_by_key(|(_, listed)| listed.len()) else { return (0, 0) };
    let ranked = |file, document: &ListedDocument<'_>| {
        (Precedence { version: document.version, tombstone: document.tombstone, file }, document.rows)
    };
    let mut others: HashMap<&str, (Precedence<'_>, u64)> = HashMap::new();
    for (file, listed) in files.iter().filter(|(file, _)| *file != largest.0) {
        for document in listed.documents() {
            let found = ranked(*file, &document);
            let winner = others.entry(document.id).or_insert(found);
            if found.0 > winner.0 {
                *winner = found;
            }
        }
    }
    let mut totals = (0, 0);
    let mut add = |(rank, rows): (Precedence<'_>, u64)| {
        if !rank.tombstone {
            totals.0 += 1;
            totals.1 += rows;
        }
    };
    for document in largest.1.documents() {
        let found = ranked(largest.0, &document);
        match others.get_mut(document.id) {
            Some(winner) if found.0 > winner.0 => *winner = found,
            Some(_) => {}
            None => add(found),
        }
    }
    others.into_values().for_each(add);
    totals
}
