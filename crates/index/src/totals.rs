//! Counts the documents and rows of a collection.
//!
//! All files but the one with the most documents are put into a map. The documents of that file are then only looked
//! up, so a million documents are counted without a copy of their ids or metadata.

use std::collections::HashMap;
use std::sync::Arc;

use docweir_objects::ObjectError;

use super::VectorStore;
use super::columns::Documents;
use super::error::VectorError;
use super::manifest::{FileKind, LiveFile, Manifest, ManifestVersion};
use super::segment::Segment;
use super::validate::Precedence;

/// Holds the numbers of visible documents and rows of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Manifest version that was counted.
    pub version: ManifestVersion,
    pub documents: u64,
    pub rows: u64,
}

/// Holds the documents of one file.
enum Listed {
    Delta(Box<Documents>),
    Open(Arc<Segment>),
}

impl Listed {
    fn documents(&self) -> &Documents {
        match self {
            Listed::Delta(documents) => documents,
            Listed::Open(segment) => segment.documents(),
        }
    }
}

impl VectorStore {
    /// Counts the visible documents and rows. Of deltas, only the lists of documents are read.
    pub async fn totals(&self) -> Result<Totals, VectorError> {
        let mut missing: Option<(ManifestVersion, String)> = None;
        for _ in 0..self.options.read_attempts {
            let Some((manifest, _)) = self.register.load().await? else {
                self.check_not_lost().await?;
                return Ok(Totals::default());
            };
            match self.listed(&manifest).await {
                Ok(files) => {
                    let files: Vec<_> = files.iter().map(|(name, listed)| (*name, listed.documents())).collect();
                    let (documents, rows) = count(&files);
                    return Ok(Totals { version: manifest.version, documents, rows });
                }
                Err(VectorError::Object(ObjectError::NotFound(key))) => {
                    self.gone_for_good(&mut missing, manifest.version, key)?;
                }
                Err(e) => return Err(e),
            }
        }
        Err(self.no_stable_view())
    }

    async fn listed<'m>(&self, manifest: &'m Manifest) -> Result<Vec<(&'m str, Listed)>, VectorError> {
        let mut files = Vec::with_capacity(manifest.live.len());
        for live in &manifest.live {
            files.push((live.file.as_str(), self.listed_in(live).await?));
        }
        Ok(files)
    }

    async fn listed_in(&self, live: &LiveFile) -> Result<Listed, VectorError> {
        let held = self.cache().segment(&live.file);
        Ok(match (held, live.kind) {
            (Some(segment), _) => Listed::Open(segment),
            (None, FileKind::Delta) => {
                let footer = self.footer(&live.file, live.bytes).await?;
                Listed::Delta(Box::new(Documents::of_entries(&footer.documents)))
            }
            (None, FileKind::Snapshot) => Listed::Open(Arc::new(self.open(live).await?)),
        })
    }
}

/// Counts the visible documents and their rows over all files, which are given with their names.
fn count(files: &[(&str, &Documents)]) -> (u64, u64) {
    let Some(largest) = files.iter().max_by_key(|(_, documents)| documents.len()) else { return (0, 0) };
    let ranked = |file, documents: &Documents, at| {
        let rank = Precedence { version: documents.version(at), tombstone: documents.is_tombstone(at), file };
        (rank, documents.rows(at).len() as u64)
    };
    let mut others: HashMap<&str, (Precedence<'_>, u64)> = HashMap::new();
    for (file, documents) in files.iter().filter(|(file, _)| *file != largest.0) {
        for at in 0..documents.len() {
            let found = ranked(*file, documents, at);
            let winner = others.entry(documents.id(at)).or_insert(found);
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
    let (file, documents) = *largest;
    for at in 0..documents.len() {
        let found = ranked(file, documents, at);
        match others.get_mut(documents.id(at)) {
            Some(winner) if found.0 > winner.0 => *winner = found,
            Some(_) => {}
            None => add(found),
        }
    }
    others.into_values().for_each(add);
    totals
}
