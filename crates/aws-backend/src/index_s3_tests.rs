//! Tests commits and merges over S3, on the servers that are installed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::s3::tests::servers;

use docweir_core::cancel::Cancel;
use docweir_core::clock::SystemClock;
use docweir_index::CollectionScope;
use docweir_index::compaction::{CompactionOptions, Compactor, Installed, Mode};
use docweir_index::manifest::FileKind;
use docweir_index::testing::{document, id, model};
use docweir_index::{VectorOptions, VectorStore};
use docweir_objects::ObjectStore;
use docweir_objects::cached::{CachedObjects, CopyOptions};
use docweir_testkit::proxy::Act;

fn open(objects: impl ObjectStore, cache: &Path) -> Arc<VectorStore> {
    let clock = Arc::new(SystemClock);
    let cached = CachedObjects::open(Arc::new(objects), cache, CopyOptions::default(), clock.clone()).unwrap();
    Arc::new(VectorStore::new(Arc::new(cached), "chunks", clock, VectorOptions::default()).unwrap())
}

#[tokio::test]
async fn a_commit_whose_swap_is_lost_is_made_once() {
    for server in servers() {
        let objects = server.objects().await;
        let cache = tempfile::tempdir().unwrap();
        let (proxy, through) = server.behind_proxy(&objects).await;
        let s = open(through, cache.path());
        let mut writer = s.writer();
        for (i, act) in [Act::LoseReply, Act::LoseRequest, Act::LoseReply, Act::CutReply(20)].into_iter().enumerate() {
            let lost = Arc::new(AtomicU32::new(0));
            let count = lost.clone();
            proxy.set(move |line| {
                let swap = line.starts_with("PUT") && line.contains("MANIFEST");
                if swap && count.fetch_add(1, Ordering::SeqCst) == 0 { act.clone() } else { Act::Pass }
            });
            let name = format!("doc_{i}");
            let committed = writer.commit(vec![document(&name, 1, &["x", "y"])], &model(3)).await.unwrap();
            assert_eq!(committed.version, i as u64 + 1, "{}: one commit, not two", server.name);
            assert!(committed.attempts > 1 && lost.load(Ordering::SeqCst) > 0);
        }
        assert_eq!(s.view().await.unwrap().len(), 8);
        assert_eq!(s.verify().await.unwrap().findings, []);
    }
}

#[tokio::test]
async fn writers_and_a_merge_on_one_bucket_lose_nothing() {
    for server in servers() {
        let objects = server.objects().await;
        let cache = tempfile::tempdir().unwrap();
        let stores = [open(objects.clone(), cache.path()), open(objects.clone(), cache.path())];
        let tasks: Vec<_> = stores
            .iter()
            .enumerate()
            .map(|(w, s)| {
                let mut writer = s.writer();
                tokio::spawn(async move {
                    for i in 0..5 {
                        let name = format!("doc_{w}_{i}");
                        writer.commit(vec![document(&name, 1, &["lease", "fence"])], &model(3)).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let s = &stores[0];
        assert_eq!(s.manifest().await.unwrap().unwrap().version, 10, "{}", server.name);
        let options = CompactionOptions { deltas: 2, ..CompactionOptions::default() };
        let mut compactor = Compactor::new(s.clone(), options);
        let (manifest, inputs, why) = compactor.due(Mode::All).await.unwrap().unwrap();
        let staged = compactor.merge(&manifest, &inputs, why, &Cancel::default()).await.unwrap();
        assert_eq!(compactor.install(&staged, 1).await.unwrap(), Installed::Yes(11));
        s.collect(CollectionScope::All).await.unwrap();
        // The snapshot is opened from the local copy, by this process and by the next.
        for s in [s.clone(), open(objects.clone(), cache.path())] {
            let view = s.view().await.unwrap();
            let kinds: Vec<_> = view.manifest().live.iter().map(|f| f.kind).collect();
            assert_eq!((view.len(), kinds), (20, vec![FileKind::Snapshot]));
            assert_eq!(view.rows_of(&id("doc_1_4")).len(), 2);
            let copies = std::fs::read_dir(cache.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_file());
            assert_eq!(copies.count(), 1);
            assert_eq!(s.verify().await.unwrap().findings, []);
        }
        // A damaged copy is fetched again, because the object itself is intact.
        for rot in [|body: &mut Vec<u8>| body.truncate(100), |body: &mut Vec<u8>| body[200..300].fill(0xff)] {
            let files = std::fs::read_dir(cache.path()).unwrap().map(|e| e.unwrap().path());
            let copy = files.into_iter().find(|path| path.is_file()).unwrap();
            let mut body = std::fs::read(&copy).unwrap();
            let whole = body.clone();
            rot(&mut body);
            std::fs::write(&copy, body).unwrap();
            let s = open(objects.clone(), cache.path());
            assert_eq!(s.view().await.unwrap().rows_of(&id("doc_1_4")).len(), 2, "{}", server.name);
            assert_eq!(s.verify().await.unwrap().findings, []);
            assert!(std::fs::read(&copy).unwrap() == whole);
        }
    }
}
