//! Opens vector files. Each file is opened once, however many readers need it at the same time.
//!
//! An opened file stays in memory as long as a view uses it. The cache holds the newest view, and therefore the files
//! of this view. For all other files it holds weak references, so readers of past versions share files, but nothing of
//! an erased document survives the readers.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use docweir_objects::{ObjectError, Tag};

use super::error::VectorError;
use super::manifest::{FileKind, LiveFile, Manifest};
use super::retry::blocking;
use super::segment::{self, Segment};
use super::snapshot::{self, Snapshot};
use super::{VectorStore, View};

/// Holds the newest view, and references to all opened files.
#[derive(Default)]
pub(super) struct Cache {
    /// Files that are open, keyed by file name.
    segments: HashMap<String, Weak<Segment>>,
    newest: Option<Newest>,
    /// Number of times that a reader has begun to read the manifest.
    reads: u64,
}

struct Newest {
    /// Number of the read that found this version of the manifest.
    read: u64,
    tag: Tag,
    view: Arc<View>,
}

impl Cache {
    /// Returns a number for a read of the manifest that begins now.
    pub fn begin_read(&mut self) -> u64 {
        self.reads += 1;
        self.reads
    }

    /// Returns the cached view if it shows the manifest with this tag.
    pub fn view(&self, tag: &Tag) -> Option<Arc<View>> {
        self.newest.as_ref().filter(|newest| newest.tag == *tag).map(|newest| newest.view.clone())
    }

    /// Caches a view, unless the cached view is from a later read of the manifest. Versions are not compared, because a
    /// manifest that was restored from a backup has a lower version.
    pub fn keep_view(&mut self, read: u64, tag: Tag, view: Arc<View>) {
        if self.newest.as_ref().is_none_or(|newest| newest.read <= read) {
            self.newest = Some(Newest { read, tag, view });
        }
    }

    /// Returns an opened file.
    pub fn segment(&self, file: &str) -> Option<Arc<Segment>> {
        self.segments.get(file).and_then(Weak::upgrade)
    }
}

impl VectorStore {
    /// Opens all files of a manifest, in the order of the manifest. Uses files that are already open.
    pub(super) async fn open_all(&self, manifest: &Manifest) -> Result<Vec<Arc<Segment>>, VectorError> {
        self.cache().segments.retain(|_, segment| segment.strong_count() > 0);
        let mut segments = Vec::with_capacity(manifest.live.len());
        for live in &manifest.live {
            segments.push(self.open_shared(live).await?);
        }
        Ok(segments)
    }

    async fn open_shared(&self, live: &LiveFile) -> Result<Arc<Segment>, VectorError> {
        let held = self.cache().segment(&live.file);
        if let Some(segment) = held {
            return Ok(segment);
        }
        let _turn = self.opening.take(&live.file).await;
        let held = self.cache().segment(&live.file);
        if let Some(segment) = held {
            return Ok(segment);
        }
        let segment = Arc::new(self.open(live).await?);
        self.cache().segments.insert(live.file.clone(), Arc::downgrade(&segment));
        Ok(segment)
    }

    /// Opens a file. A delta is read and decoded. A snapshot is memory-mapped if it is a local file or has a local
    /// copy.
    pub(super) async fn open(&self, live: &LiveFile) -> Result<Segment, VectorError> {
        let small = live.kind == FileKind::Delta || live.bytes <= self.options.verify_bytes;
        self.open_checked(live, self.options.verify_checksums && small).await
    }

    /// Opens a file and verifies all its checksums, even if the file is large. A merge uses this method, so that it
    /// does not copy damaged data to a new file with a valid checksum.
    pub(super) async fn open_to_merge(&self, live: &LiveFile) -> Result<Segment, VectorError> {
        self.open_checked(live, true).await
    }

    async fn open_checked(&self, live: &LiveFile, verify: bool) -> Result<Segment, VectorError> {
        match self.open_as_it_is(live, verify).await {
            // The copy on the local disk may be damaged although the stored file is intact.
            Err(error @ VectorError::Damaged { .. }) if self.objects.forget_copy(&self.key(&live.file)) => {
                tracing::warn!(%error, "local copy of vector file damaged; fetching it again");
                self.open_as_it_is(live, verify).await
            }
            opened => opened,
        }
    }

    async fn open_as_it_is(&self, live: &LiveFile, verify: bool) -> Result<Segment, VectorError> {
        let key = self.key(&live.file);
        let check = |bytes: usize| {
            let reason = format!("file has {bytes} bytes instead of {}", live.bytes);
            let damaged = || VectorError::Damaged { file: key.clone(), reason };
            if bytes as u64 == live.bytes { Ok(()) } else { Err(damaged()) }
        };
        let file = live.file.clone();
        let mapped = match live.kind {
            FileKind::Delta => None,
            FileKind::Snapshot => self.objects.local_copy(&key).await?,
        };
        let opened = match (live.kind, mapped) {
            (FileKind::Delta, _) => {
                // Read one byte more than expected, to detect a longer file. `get` would hash the whole body for its
                // tag.
                let body = self.objects.get_range(&key, 0, live.bytes.saturating_add(1)).await?;
                check(body.len())?;
                let crc32 = verify.then_some(live.crc32);
                blocking(move || Segment::of_delta(&file, body, crc32)).await
            }
            (FileKind::Snapshot, Some(copy)) => {
                let image = snapshot::image_of(&copy).map_err(|e| self.not_mapped(&key, &e))?;
                check(image.len())?;
                let open = move || Snapshot::open(&file, image, true, verify).map(|s| Segment::of_snapshot(&file, s));
                // Without verification, opening reads only the directory.
                if verify { blocking(open).await } else { open() }
            }
            (FileKind::Snapshot, None) => {
                let body = self.objects.get_range(&key, 0, live.bytes.saturating_add(1)).await?;
                check(body.len())?;
                blocking(move || Snapshot::open(&file, body, false, verify).map(|s| Segment::of_snapshot(&file, s)))
                    .await
            }
        };
        let segment = opened.map_err(|e| match e {
            VectorError::Damaged { reason, .. } => VectorError::Damaged { file: key.clone(), reason },
            e => e,
        })?;
        if !segment::matches(&segment, live) {
            let reason = "content does not match the manifest's entry".to_owned();
            return Err(VectorError::Damaged { file: key, reason });
        }
        Ok(segment)
    }

    fn not_mapped(&self, key: &str, error: &std::io::Error) -> VectorError {
        ObjectError::Transient { what: "map", key: key.to_owned(), reason: error.to_string() }.into()
    }
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
