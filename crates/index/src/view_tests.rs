//! Tests which documents a view shows, and which files it refuses to open.

use docweir_core::cancel::Cancel;
use docweir_core::error::ErrorClass;
use docweir_objects::memory::Faults;
use serde_json::json;

use super::*;
use crate::compaction::{CompactionOptions, Compactor, Mode};
use crate::testing::{delete, document, id, model, objects, store, store_with};
use crate::{DocumentRows, SearchRequest, Totals, Write};

/// Counts the visible documents and rows of an inventory, as [`VectorStore::totals`] does without one.
fn counted(inventory: &Inventory) -> Totals {
    let visible = inventory.documents.values().filter(|held| !held.tombstone);
    let rows = visible.clone().map(|held| u64::from(held.rows)).sum();
    Totals { version: inventory.version, documents: visible.count() as u64, rows }
}

async fn commit(store: &Arc<VectorStore>, writes: Vec<Write>) {
    store.writer().commit(writes, &model(3)).await.unwrap();
}

#[tokio::test]
async fn a_collection_without_commits_is_empty() {
    let s = store(&objects(0, Faults::default()));
    let view = s.view().await.unwrap();
    assert_eq!((view.version(), view.len(), view.documents().count()), (0, 0, 0));
    assert_eq!(s.inventory().await.unwrap(), Inventory::default());
    assert_eq!(s.totals().await.unwrap(), Totals::default());
    assert!(s.manifest().await.unwrap().is_none());
    s.check_model(&model(3)).await.unwrap();
}

#[tokio::test]
async fn the_highest_version_wins_whatever_the_order_of_commits() {
    let orders: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (deleted, expected) in [(9, Some((3, 2))), (2, Some((3, 2))), (3, None), (4, None)] {
        for order in orders {
            let s = store(&objects(0, Faults::default()));
            // Versions 1 and 3, and a deletion at `deleted` (9: of another document).
            let writes = [
                document("doc_a", 1, &["old", "old", "old"]),
                document("doc_a", 3, &["new", "new"]),
                if deleted == 9 { delete("doc_b", 9) } else { delete("doc_a", deleted) },
            ];
            for i in order {
                commit(&s, vec![writes[i].clone()]).await;
            }
            let view = s.view().await.unwrap();
            assert_eq!(view.version_of(&id("doc_a")), expected, "delete at {deleted}, order {order:?}");
            assert_eq!(view.len(), expected.map_or(0, |(_, rows)| rows as usize));
            let texts: Vec<String> = view.rows_of(&id("doc_a")).into_iter().map(|r| r.text).collect();
            assert!(texts.iter().all(|t| t == "new"));
            assert_eq!(view.high_water(&id("doc_a")), Some(if deleted == 4 { 4 } else { 3 }));
            let inventory = s.inventory().await.unwrap();
            let held = inventory.documents[&id("doc_a")];
            assert_eq!((held.tombstone, held.rows), (expected.is_none(), expected.map_or(0, |(_, r)| r)));
            assert_eq!(s.totals().await.unwrap(), counted(&inventory));
        }
    }
}

#[tokio::test]
async fn a_document_without_rows_is_there() {
    let s = store(&objects(0, Faults::default()));
    commit(&s, vec![document("doc_a", 1, &["x"]), document("doc_b", 1, &["y"])]).await;
    commit(&s, vec![document("doc_a", 2, &[])]).await;
    let view = s.view().await.unwrap();
    assert_eq!(view.version_of(&id("doc_a")), Some((2, 0)));
    let stats = view.stats();
    assert_eq!((stats.documents, stats.rows, stats.hidden_rows, stats.tombstones, stats.files), (2, 1, 1, 0, 2));
    assert_eq!(stats.model, Some(model(3)));
    let sources: Vec<_> = view.documents().map(|d| (d.source.clone(), d.metadata["tenant"].clone())).collect();
    assert!(sources.contains(&("file:///doc_b.pdf".into(), json!("acme"))), "{sources:?}");
}

#[tokio::test]
async fn a_view_opens_only_what_is_new_and_an_old_view_stays_as_it_was() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    for i in 0..5 {
        commit(&s, vec![document(&format!("doc_{i}"), 1, &["x"])]).await;
    }
    let before = s.view().await.unwrap();
    commit(&s, vec![document("doc_0", 2, &["changed", "x"]), delete("doc_1", 2)]).await;
    let operations = o.operations();
    let after = s.view().await.unwrap();
    assert_eq!(o.operations() - operations, 2, "the manifest and one file");
    let again = s.view().await.unwrap();
    assert_eq!(o.operations() - operations, 3, "the manifest alone");
    assert!(Arc::ptr_eq(&after, &again));
    assert_eq!((before.len(), before.version_of(&id("doc_1"))), (5, Some((1, 1))));
    assert_eq!((after.len(), after.version_of(&id("doc_1"))), (5, None));
}

#[tokio::test]
async fn the_inventory_reads_no_vectors() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    let many: Vec<Write> = (0..2_000).map(|i| document(&format!("doc_{i:05}"), 1, &["x"])).collect();
    commit(&s, many).await;
    let fresh = store(&o);
    let operations = o.operations();
    assert_eq!(fresh.inventory().await.unwrap().documents.len(), 2_000);
    assert_eq!(o.operations() - operations, 3, "the manifest, the end of the file, its long footer");
}

#[tokio::test]
async fn damage_names_the_file_and_the_way_out() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, &str); 3] = [
        (|b| b[20] ^= 1, "checksum"),
        (|b| b.truncate(b.len() / 2), "bytes instead of"),
        (|b| b.clear(), "0 bytes instead of"),
    ];
    for (change, word) in cases {
        let o = objects(0, Faults::default());
        commit(&store(&o), vec![document("doc_a", 1, &["x"])]).await;
        let key = o.keys().into_iter().find(|k| k.ends_with(".parquet")).unwrap();
        assert!(o.tamper(&key, change));
        let e = store(&o).view().await.err().unwrap();
        assert!(matches!(e, VectorError::Damaged { .. }) && e.class() == ErrorClass::System, "{e}");
        let text = e.to_string();
        assert!(text.contains(word) && text.contains(&key) && text.contains("restore"), "{text}");
    }
}

#[tokio::test]
async fn a_missing_live_file_is_damage_and_no_endless_loop() {
    let o = objects(0, Faults::default());
    commit(&store(&o), vec![document("doc_a", 1, &["x"])]).await;
    let key = o.keys().into_iter().find(|k| k.ends_with(".parquet")).unwrap();
    docweir_objects::ObjectStore::delete(&*o, &key).await.unwrap();
    for e in [store(&o).view().await.err().unwrap(), store(&o).inventory().await.err().unwrap()] {
        assert!(e.to_string().contains("is missing"), "{e}");
    }
}

#[tokio::test]
async fn memory_is_refused_before_it_is_taken() {
    let o = objects(0, Faults::default());
    commit(&store(&o), vec![document("doc_a", 1, &["x"; 5_000])]).await;
    let operations = o.operations();
    let small = store_with(&o, VectorOptions { max_memory_bytes: 1 << 20, ..VectorOptions::default() });
    let e = small.view().await.err().unwrap();
    assert!(e.to_string().contains("vectors.max_memory_bytes"), "{e}");
    assert_eq!(o.operations() - operations, 1, "only the manifest was read");
    assert_eq!(small.inventory().await.unwrap().documents.len(), 1, "the inventory needs no rows");
}

#[tokio::test]
async fn readers_get_over_passing_failures_or_say_so() {
    let o = objects(3, Faults::default());
    commit(&store(&o), vec![document("doc_a", 1, &["x"])]).await;
    o.set_faults(Faults { fail_read: 1.0, ..Faults::default() });
    let s = store(&o);
    let e = s.view().await.err().unwrap();
    assert_eq!(e.class(), ErrorClass::Unavailable, "{e}");
    o.set_faults(Faults::default());
    assert_eq!(s.view().await.unwrap().len(), 1, "the next view succeeds");
}

#[tokio::test]
async fn a_parent_is_shown_until_the_child_is_gone_and_is_kept_by_a_merge() {
    let s = store(&objects(0, Faults::default()));
    let child = |version, parent: Option<&str>| {
        let Write::Upsert(rows) = document("doc_c", version, &["attached"]) else { unreachable!() };
        Write::Upsert(DocumentRows { parent: parent.map(id), ..rows })
    };
    commit(&s, vec![document("doc_p", 1, &["mail"]), child(1, None)]).await;
    assert!(s.inventory().await.unwrap().parents.is_empty());
    commit(&s, vec![child(2, Some("doc_p"))]).await;
    let shown = async || {
        let hits = s.view().await.unwrap().search(&SearchRequest::new("attached", None, 9)).unwrap();
        let parents = s.inventory().await.unwrap().parents;
        assert_eq!(hits.first().and_then(|hit| hit.parent.clone()), parents.get(&id("doc_c")).cloned());
        parents.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(shown().await, [(id("doc_c"), id("doc_p"))]);
    let mut compactor = Compactor::seeded(s.clone(), CompactionOptions::default(), 1);
    let (manifest, inputs, why) = compactor.due(Mode::All).await.unwrap().unwrap();
    let staged = compactor.merge(&manifest, &inputs, why, &Cancel::default()).await.unwrap();
    compactor.install(&staged, 1).await.unwrap();
    assert_eq!(s.manifest().await.unwrap().unwrap().live.len(), 1);
    assert_eq!(s.verify().await.unwrap().findings, []);
    assert_eq!(shown().await, [(id("doc_c"), id("doc_p"))]);
    // A tombstone of the parent hides only the parent: the control store deletes the children.
    commit(&s, vec![delete("doc_p", 2)]).await;
    assert_eq!(shown().await, [(id("doc_c"), id("doc_p"))]);
    commit(&s, vec![delete("doc_c", 3)]).await;
    assert_eq!(shown().await, []);
}
