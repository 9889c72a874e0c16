use std::time::Duration;

use docweir_core::clock::{ManualClock, SharedClock};
use docweir_core::documents::MediaType;
use docweir_core::model::{DocumentInfo, Metric, Page};
use docweir_objects::Precondition;
use docweir_objects::memory::MemoryObjects;
use docweir_stores::control::ControlStore;
use docweir_stores::control::conformance::document;
use docweir_stores::control::sqlite::SqliteControlStore;

use super::*;

fn extracted(pages: u32) -> ExtractedDocument {
    let page = |number| Page {
        number,
        width: 595.0,
        height: 842.0,
        text: format!("Page {number} of {pages}, with a “quotation” and\na second line."),
        blocks: Vec::new(),
        lines: Vec::new(),
        words: Vec::new(),
        cells: Vec::new(),
    };
    ExtractedDocument {
        media_type: MediaType::Pdf,
        pages: (1..=pages).map(page).collect(),
        info: DocumentInfo::default(),
        outline: Vec::new(),
        notes: Vec::new(),
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    objects: Arc<MemoryObjects>,
    claim: Claim,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_763_718_000_000_000));
        let shared: SharedClock = clock.clone();
        let control = SqliteControlStore::open(&dir.path().join("control.db"), Default::default(), shared).await;
        let control = control.unwrap();
        control.register(vec![document("a.pdf", "content")]).await.unwrap();
        let claim = control.claim("owner", Duration::from_secs(60), 1, None).await.unwrap().remove(0);
        Self { _dir: dir, objects: Arc::new(MemoryObjects::new(clock)), claim }
    }

    fn artefacts(&self, packs_pages: bool) -> Artefacts {
        let model = ModelIdentity { id: "m".into(), weights: "w".into(), dimension: 2, metric: Metric::Cosine };
        Artefacts::new(self.objects.clone(), Default::default(), model).packing_pages(packs_pages)
    }

    /// Stores a document as the extraction artefact of the next version.
    async fn put(&mut self, packs_pages: bool, document: &ExtractedDocument) {
        let output =
            self.artefacts(packs_pages).put_extracted(&self.claim, document, &Cancel::default()).await.unwrap();
        self.claim.outputs.insert(Stage::Extraction, output);
        self.claim.stage = Stage::Chunking;
        self.claim.key.version += 1;
    }

    async fn resumed(&self) -> Option<ExtractedDocument> {
        match self.artefacts(false).resume(&self.claim, false).await.unwrap() {
            Input::Extracted(document) => Some(document.as_ref().clone()),
            Input::Original => None,
            _ => panic!("the artefact of another stage"),
        }
    }
}

#[tokio::test]
async fn pages_are_read_back_from_either_layout() {
    let mut f = Fixture::new().await;
    // Either layout replaces the other and leaves nothing of it, also if the new version has fewer pages.
    for (packed, pages, objects) in [(true, 3, 1), (false, 2, 3), (false, 1, 2), (true, 2, 1), (true, 1, 1)] {
        f.put(packed, &extracted(pages)).await;
        assert_eq!(f.resumed().await.unwrap(), extracted(pages));
        assert_eq!(f.objects.keys().len(), objects, "{packed}, {pages} pages: {:?}", f.objects.keys());
    }
    f.artefacts(true).purge(&f.claim.key.id).await.unwrap();
    assert!(f.objects.keys().is_empty());
}

#[tokio::test]
async fn packed_pages_that_are_damaged_or_missing_are_extracted_again() {
    let mut f = Fixture::new().await;
    f.put(true, &extracted(3)).await;
    let key = f.objects.keys().remove(0);
    let whole = f.objects.peek(&key).unwrap();
    assert!(f.objects.tamper(&key, |body| body[40] ^= 1));
    assert_eq!(f.resumed().await, None);
    f.objects.put(&key, whole, Precondition::None, Durability::Rebuildable).await.unwrap();
    assert!(f.resumed().await.is_some());
    f.objects.delete(&key).await.unwrap();
    assert_eq!(f.resumed().await, None);
}

#[tokio::test]
async fn a_cancelled_attempt_stores_nothing() {
    let f = Fixture::new().await;
    let cancel = Cancel::default();
    cancel.cancel();
    for packs_pages in [false, true] {
        let put = f.artefacts(packs_pages).put_extracted(&f.claim, &extracted(2), &cancel).await;
        assert_eq!(put.unwrap_err().code, "cancelled");
    }
    let chunks = Chunks::default();
    let put = f.artefacts(false).put_chunks(&f.claim, &chunks, 0, &cancel).await;
    assert_eq!(put.unwrap_err().code, "cancelled");
    assert_eq!(f.objects.list("", None, 10).await.unwrap(), []);
}
