//! Runs the conformance tests of targets, and tests recovery from a crash.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use docweir_target::conformance::World;
use docweir_target::testing::{document, id, model};
use docweir_target::{Capabilities, Target};
use jsonl_target::JsonlTarget;

struct Folder(tempfile::TempDir);

#[async_trait]
impl World for Folder {
    async fn open(&self) -> Arc<dyn Target> {
        self.limited(Capabilities::default()).await
    }

    async fn limited(&self, capabilities: Capabilities) -> Arc<dyn Target> {
        Arc::new(JsonlTarget::open(self.0.path(), "chunks", capabilities).unwrap())
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

docweir_target::target_conformance!(async { Some(folder()) });

#[tokio::test]
async fn a_line_that_a_crash_cut_short_is_no_line() {
    let folder = folder();
    let target = folder.open().await;
    target.clone().writer().write(vec![document("doc_a", 1, &["one"])], &model(3)).await.unwrap();
    let path = folder.0.path().join("chunks.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"write\":{\"upsert\":{\"document_id\":\"doc_b\"").unwrap();
    assert_eq!(target.held(&[id("doc_a"), id("doc_b")]).await.unwrap().iter().flatten().count(), 1);
    target.clone().writer().write(vec![document("doc_b", 1, &["two"])], &model(3)).await.unwrap();
    assert_eq!(target.held(&[id("doc_a"), id("doc_b")]).await.unwrap().iter().flatten().count(), 2);
}
