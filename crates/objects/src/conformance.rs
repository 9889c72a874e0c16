//! Tests that an object store meets the contract of [`ObjectStore`].

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::{Durability, ObjectError, ObjectStore, Pages, Precondition, Tag};

/// Holds an empty store to test, and describes the behaviour of this store where stores are allowed to differ.
pub struct Candidate {
    pub objects: Arc<dyn ObjectStore>,
    /// True if the store lists keys in byte order; false if it lists them folder by folder.
    pub in_byte_order: bool,
    /// True if the store rejects invalid keys. The in-memory store is the only one that accepts any key.
    pub checks_keys: bool,
    /// Object size, in bytes, from which an upload is split into several parts.
    pub large: usize,
}

pub async fn check(candidate: &Candidate) {
    let objects = &candidate.objects;
    what_is_put_is_got(objects).await;
    conditions_hold(objects).await;
    of_many_one_wins(objects).await;
    if candidate.checks_keys {
        bad_keys_go_nowhere(objects).await;
    }
    lists_come_in_pages(candidate).await;
    several_at_once(objects).await;
    uploads(candidate).await;
    assert_eq!(keys(objects, "").await, Vec::<String>::new(), "a part of the suite left objects behind");
}

pub fn bytes(length: usize, seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect::<Vec<_>>().into()
}

async fn put(s: &Arc<dyn ObjectStore>, key: &str, body: &str, when: Precondition) -> Result<Tag, ObjectError> {
    s.put(key, Bytes::from(body.to_owned()), when, Durability::Rebuildable).await
}

async fn keys(s: &Arc<dyn ObjectStore>, prefix: &str) -> Vec<String> {
    s.list(prefix, None, 99).await.unwrap().into_iter().map(|m| m.key).collect()
}

async fn what_is_put_is_got(s: &Arc<dyn ObjectStore>) {
    let key = "a/b+=%25_.json";
    let tag = s.put(key, "0123456789".into(), Precondition::None, Durability::Durable).await.unwrap();
    assert_eq!(s.get(key).await.unwrap(), ("0123456789".into(), tag.clone()));
    for (offset, length, expected) in
        [(2, 3, "234"), (8, 9, "89"), (10, 1, ""), (99, 1, ""), (3, 0, ""), (0, u64::MAX, "0123456789")]
    {
        assert_eq!(s.get_range(key, offset, length).await.unwrap(), expected, "{offset}+{length}");
    }
    let head = s.head(key).await.unwrap();
    assert_eq!((head.key.as_str(), head.bytes), (key, 10));
    assert_ne!(put(s, key, "other", Precondition::None).await.unwrap(), tag);
    put(s, "a/empty", "", Precondition::None).await.unwrap();
    assert_eq!(s.get("a/empty").await.unwrap().0, "");
    assert_eq!(s.get_range("a/empty", 0, 9).await.unwrap(), "");
    for key in [key, "a/empty"] {
        s.delete(key).await.unwrap();
        s.delete(key).await.unwrap();
    }
    let missing = [
        s.get(key).await.map(drop),
        s.get_range(key, 0, 9).await.map(drop),
        s.get_range(key, 0, 0).await.map(drop),
        s.head(key).await.map(drop),
        s.read_into(key, tempfile::tempfile().unwrap()).await,
    ];
    for (i, result) in missing.into_iter().enumerate() {
        assert!(matches!(&result, Err(ObjectError::NotFound(k)) if k == key), "{i}: {result:?}");
    }
}

async fn conditions_hold(s: &Arc<dyn ObjectStore>) {
    let conflict = |r: Result<Tag, ObjectError>| assert!(matches!(r, Err(ObjectError::Conflict(k)) if k == "k"));
    let gone = put(s, "gone", "0", Precondition::Absent).await.unwrap();
    s.delete("gone").await.unwrap();
    conflict(put(s, "k", "0", Precondition::Matches(gone)).await);
    let one = put(s, "k", "1", Precondition::Absent).await.unwrap();
    conflict(put(s, "k", "2", Precondition::Absent).await);
    let two = put(s, "k", "2", Precondition::Matches(one.clone())).await.unwrap();
    conflict(put(s, "k", "3", Precondition::Matches(one)).await);
    assert_eq!(s.get("k").await.unwrap(), ("2".into(), two));
    s.delete("k").await.unwrap();
}

async fn of_many_one_wins(s: &Arc<dyn ObjectStore>) {
    let first = put(s, "swapped", "first", Precondition::Absent).await.unwrap();
    for (key, when) in [("created", Precondition::Absent), ("swapped", Precondition::Matches(first))] {
        let tasks: Vec<_> = (0..8)
            .map(|i| {
                let (s, when) = (s.clone(), when.clone());
                tokio::spawn(async move { put(&s, key, &format!("by {i}"), when).await })
            })
            .collect();
        let (mut won, mut unknown) = (Vec::new(), Vec::new());
        for (i, task) in tasks.into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(_) => won.push(format!("by {i}")),
                Err(ObjectError::Conflict(_)) => {}
                // Some servers make concurrent writers wait for each other longer than the timeout of a call.
                Err(ObjectError::Unknown { .. }) => unknown.push(format!("by {i}")),
                Err(e) => panic!("{e}"),
            }
        }
        let body = String::from_utf8(s.get(key).await.unwrap().0.to_vec()).unwrap();
        let one = won == [body.clone()] || won.is_empty() && unknown.contains(&body);
        assert!(one, "`{key}` holds {body}; writes that succeeded: {won:?}; writes with unknown outcome: {unknown:?}");
        s.delete(key).await.unwrap();
    }
}

async fn bad_keys_go_nowhere(s: &Arc<dyn ObjectStore>) {
    let (long, long_part) = ("a/".repeat(600) + "a", "p".repeat(201));
    let bad = ["", "/", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", ".tmp/x", "a b", "a\\b", "ä", "a\0b"];
    for key in bad.into_iter().chain([long.as_str(), &long_part]) {
        let refused = [
            put(s, key, "x", Precondition::None).await.map(drop),
            s.get(key).await.map(drop),
            s.head(key).await.map(drop),
            s.delete(key).await,
            s.create(key).await.map(drop),
            s.put_all(vec![("good".into(), "x".into()), (key.into(), "x".into())], Durability::Rebuildable).await,
        ];
        for (i, result) in refused.into_iter().enumerate() {
            assert!(matches!(result, Err(ObjectError::BadKey(_))), "{i}: {key:?}");
        }
    }
}

async fn lists_come_in_pages(candidate: &Candidate) {
    let s = &candidate.objects;
    let mut all = ["a-b", "a/a", "a/b-c/d", "a/b/c", "a/c", "a.b", "a0", "b/x/y/z", "b/x/y+", "c"].map(String::from);
    for key in &all {
        put(s, key, key, Precondition::None).await.unwrap();
    }
    all.sort();
    for prefix in ["", "a", "a/", "a/b", "a/b/", "b/x/y", "c", "d", "/", "c/d"] {
        let expected: Vec<_> = all.iter().filter(|k| k.starts_with(prefix)).cloned().collect();
        for page in [1, 2, 3, 99] {
            let mut paged: Vec<String> = Vec::new();
            loop {
                let next = s.list(prefix, paged.last().map(String::as_str), page).await.unwrap();
                if next.is_empty() {
                    break;
                }
                assert!(next.len() <= page);
                paged.extend(next.into_iter().map(|m| m.key));
                assert!(paged.len() <= expected.len(), "prefix {prefix:?}, pages of {page}, too many keys: {paged:?}");
            }
            if !candidate.in_byte_order {
                paged.sort();
            }
            assert_eq!(paged, expected, "prefix {prefix:?}, pages of {page}");
        }
    }
    assert_eq!(s.list("a/", Some("a/b"), 1).await.unwrap()[0].key, "a/b-c/d", "`after` need not be an existing key");
    assert_eq!(s.list("", None, 0).await.unwrap(), []);
    let mut pages = Pages::new(s.as_ref(), "a");
    assert_eq!(pages.next().await.unwrap().unwrap().len(), 7);
    assert_eq!(pages.next().await.unwrap(), None);
    for key in &all {
        s.delete(key).await.unwrap();
    }
}

async fn several_at_once(s: &Arc<dyn ObjectStore>) {
    let many: Vec<_> = (0..40).map(|i| (format!("many/{i:02}"), Bytes::from(format!("{i}")))).collect();
    s.put_all(Vec::new(), Durability::Durable).await.unwrap();
    s.put_all(many.clone(), Durability::Durable).await.unwrap();
    let mut listed = keys(s, "many/").await;
    listed.sort();
    assert_eq!(listed, many.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>());
    for (key, body) in many {
        assert_eq!(s.get(&key).await.unwrap().0, body);
        s.delete(&key).await.unwrap();
    }
}

/// Uploads `body` from a thread that may block, as real writers do. Finishes the upload only if `end` is true.
pub async fn upload(s: &Arc<dyn ObjectStore>, key: &str, body: Bytes, end: bool) -> Result<(), ObjectError> {
    let mut upload = s.create(key).await?;
    let (upload, written) = tokio::task::spawn_blocking(move || {
        let written = body.chunks(1_000_003).try_for_each(|piece| upload.write_all(piece));
        (upload, written)
    })
    .await
    .unwrap();
    written.map_err(|e| super::write_failure(key, &e))?;
    if end { upload.finish().await } else { Ok(()) }
}

async fn uploads(candidate: &Candidate) {
    let (s, large) = (&candidate.objects, candidate.large);
    for (i, length) in [0, 10, large - 1, large, 2 * large + 5].into_iter().enumerate() {
        let (key, body) = (format!("up/{i}"), bytes(length, i as u64));
        upload(s, &key, body.clone(), false).await.unwrap();
        assert!(matches!(s.head(&key).await, Err(ObjectError::NotFound(_))), "{length} bytes are visible too early");
        upload(s, &key, body.clone(), true).await.unwrap();
        assert!(s.get(&key).await.unwrap().0 == body, "{length}");
        assert_eq!(s.head(&key).await.unwrap().bytes, length as u64);
        let file = tempfile::NamedTempFile::new().unwrap();
        s.read_into(&key, file.reopen().unwrap()).await.unwrap();
        assert!(std::fs::read(file.path()).unwrap() == body, "{length}");
    }
    // An upload replaces the existing object.
    upload(s, "up/0", "new".into(), true).await.unwrap();
    assert_eq!(s.get("up/0").await.unwrap().0, "new");
    for i in 0..5 {
        s.delete(&format!("up/{i}")).await.unwrap();
    }
}
