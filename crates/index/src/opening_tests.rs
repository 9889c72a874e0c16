//! Tests how views that are opened at the same time share files and wait for each other.

use std::pin::pin;

use crate::testing::{document, model, poll_some, run, store};
use crate::watched::Watched;
use std::sync::Arc;

use super::*;

/// Returns a store whose reads of the second of two deltas are held back, and the key of this delta. The first delta
/// is open.
fn held_back() -> (Arc<Watched>, Arc<VectorStore>, String) {
    let o = Watched::new();
    let s = o.store();
    let mut writer = s.writer_seeded(1);
    run(writer.commit(vec![document("doc_a", 1, &["a"])], &model(3))).unwrap();
    run(s.view()).unwrap();
    let second = run(writer.commit(vec![document("doc_b", 1, &["b"])], &model(3))).unwrap();
    let key = s.key(&second.file);
    o.hold(Some(&key));
    o.take_reads();
    (o, s, key)
}

#[test]
fn a_slow_download_does_not_block_a_view_of_local_files() {
    let (o, s, _) = held_back();
    let mut slow = pin!(s.view());
    assert!(poll_some(&mut slow, 100).is_none());
    // Another process rolls back. The new version consists of the first delta, which is open.
    run(store(&o.inner).roll_back(1)).unwrap();
    let view = poll_some(&mut pin!(s.view()), 1_000).expect("blocked by the download").unwrap();
    assert_eq!((view.version(), view.len()), (3, 1));
    o.hold(None);
    let late = run(slow).unwrap();
    assert_eq!((late.version(), late.len()), (2, 2), "the manifest that it has read");
    o.take_reads();
    assert!(Arc::ptr_eq(&run(s.view()).unwrap(), &view), "the late view does not replace the newer one");
}

#[test]
fn several_callers_download_a_file_once() {
    let (o, s, key) = held_back();
    let (mut one, mut two, mut past) = (pin!(s.view()), pin!(s.view()), pin!(s.view_at(2)));
    assert!(poll_some(&mut one, 100).is_none());
    assert!(poll_some(&mut two, 100).is_none());
    assert!(poll_some(&mut past, 100).is_none());
    o.hold(None);
    let (one, two, past) = (run(one).unwrap(), run(two).unwrap(), run(past).unwrap());
    assert!(Arc::ptr_eq(&one, &two), "the view is built once too");
    assert_eq!((one.len(), past.len()), (2, 2));
    let reads = o.take_reads();
    assert_eq!(reads.iter().filter(|(read, _)| *read == key).count(), 1, "{reads:?}");
}

#[test]
fn a_caller_that_gives_up_leaves_the_download_to_the_next() {
    let (o, s, _) = held_back();
    let mut two = pin!(s.view());
    {
        let mut one = pin!(s.view());
        assert!(poll_some(&mut one, 100).is_none());
        assert!(poll_some(&mut two, 100).is_none());
    }
    o.hold(None);
    assert_eq!(run(two).unwrap().len(), 2);
}
