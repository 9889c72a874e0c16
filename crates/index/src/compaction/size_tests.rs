//! Tests merges whose result may be too large for the local copies of remote files.

use std::collections::BTreeMap;

use docweir_objects::cached::{CachedObjects, CopyOptions};
use docweir_objects::memory::{Faults, MemoryObjects};

use super::*;
use crate::testing::{delete, document, model, objects};
use crate::{CollectionScope, VectorOptions};

const MOST: u64 = 1 << 20;

struct Place {
    /// Folder of the local copies.
    _folder: tempfile::TempDir,
    objects: Arc<MemoryObjects>,
    store: Arc<VectorStore>,
}

/// Returns a collection whose files are remote. The local copies may take a megabyte.
fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let objects = objects(0, Faults::default());
    let options = CopyOptions { max_bytes: MOST };
    let cached = CachedObjects::open(objects.clone(), folder.path(), options, objects.clock()).unwrap();
    let store = VectorStore::new(Arc::new(cached), "chunks", objects.clock(), VectorOptions::default()).unwrap();
    Place { _folder: folder, objects, store: Arc::new(store) }
}

impl Place {
    async fn add(&self, name: &str, text: &str) {
        self.store.writer().commit(vec![document(name, 1, &[text])], &model(3)).await.unwrap();
    }

    /// Merges until nothing is due, as the compactor does in one round.
    async fn merge(&self, compactor: &mut Compactor, mode: Mode) -> Result<usize, VectorError> {
        for merges in 0..50 {
            let Some((manifest, inputs, why)) = compactor.due(mode).await? else { return Ok(merges) };
            let staged = compactor.merge(&manifest, &inputs, why, &Cancel::default()).await?;
            assert!(matches!(compactor.install(&staged, 1).await?, Installed::Yes(_)));
        }
        panic!("merges without an end");
    }

    async fn files(&self) -> BTreeMap<String, u64> {
        let manifest = self.store.manifest().await.unwrap().unwrap();
        manifest.live.into_iter().map(|f| (f.file, f.bytes)).collect()
    }

    /// Checks that all documents are visible and that no staged file is left.
    async fn check(&self, documents: usize) {
        assert_eq!(self.store.view().await.unwrap().documents().count(), documents);
        assert_eq!(self.store.verify().await.unwrap().orphans, Vec::<String>::new());
    }
}

fn options() -> CompactionOptions {
    CompactionOptions { deltas: 2, tier_factor: 4, ..CompactionOptions::default() }
}

/// Returns text of distinct words. A full-text index of such text is several times as large as the text.
fn words(seed: u64, count: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| format!("{:x} ", random.u32(..))).collect()
}

#[tokio::test]
async fn files_that_do_not_fit_together_are_merged_in_smaller_groups() {
    let place = place();
    let text = "the same words again and again, which need hardly any index ".repeat(3_000);
    let mut compactor = Compactor::seeded(place.store.clone(), options(), 7);
    for mode in [Mode::Due, Mode::All] {
        for n in 0..8 {
            place.add(&format!("doc_{mode:?}_{n}"), &text).await;
        }
        assert!(place.merge(&mut compactor, mode).await.unwrap() > 1);
        let files = place.files().await;
        assert!(files.keys().all(|f| f.starts_with("snap/")), "no delta is left: {files:?}");
        assert!(files.values().all(|bytes| *bytes <= MOST), "{files:?}");
    }
    place.check(16).await;
}

#[tokio::test]
async fn a_result_that_turns_out_too_large_is_discarded_and_made_from_fewer_files() {
    let place = place();
    for n in 0..4 {
        place.add(&format!("doc_{n}"), &words(n, 12_000)).await;
    }
    let mut compactor = Compactor::seeded(place.store.clone(), options(), 7);
    place.merge(&mut compactor, Mode::Due).await.unwrap();
    let files = place.files().await;
    assert!(files.len() > 1 && files.keys().all(|f| f.starts_with("snap/")), "{files:?}");
    assert!(files.values().all(|bytes| *bytes <= MOST), "{files:?}");
    place.check(4).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_merged_alone_does_not_block_the_others() {
    let place = place();
    place.add("doc_large", &words(9, 50_000)).await;
    let mut compactor = Compactor::seeded(place.store.clone(), options(), 7);
    // With time, even a single delta becomes due.
    place.objects.clock().advance(Duration::from_secs(100_000));
    let error = place.merge(&mut compactor, Mode::Due).await.unwrap_err();
    assert!(error.to_string().contains("copies.max_bytes"), "{error}");
    for n in 0..6 {
        place.add(&format!("doc_{n}"), "small").await;
    }
    assert_eq!(place.merge(&mut compactor, Mode::Due).await.unwrap(), 1);
    let files = place.files().await;
    assert_eq!(files.len(), 2, "the large delta, and a snapshot of all others: {files:?}");
    place.check(7).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_does_not_block_the_others() {
    let place = place();
    // The limit was higher when this file was merged.
    let before = Arc::new(
        VectorStore::new(place.objects.clone(), "chunks", place.objects.clock(), VectorOptions::default()).unwrap(),
    );
    before.writer().commit(vec![document("doc_large", 1, &[&words(9, 50_000)])], &model(3)).await.unwrap();
    assert!(before.compact().await.unwrap().unwrap().output_bytes > MOST);
    place.add("doc_small", "small").await;
    place.store.writer().commit(vec![delete("doc_gone", 1)], &model(3)).await.unwrap();
    // The tombstone is old enough to be dropped, but the large file may hold an older version of its document.
    before.collect(CollectionScope::Orphans).await.unwrap();
    let mut compactor = Compactor::seeded(place.store.clone(), options(), 7);
    assert_eq!(place.merge(&mut compactor, Mode::Due).await.unwrap(), 1);
    assert_eq!(place.files().await.len(), 2);
    let stats = before.view().await.unwrap().stats();
    assert_eq!((stats.documents, stats.tombstones), (2, 1));
}
