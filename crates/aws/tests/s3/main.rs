//! Tests the calls to S3 against each S3 server that is installed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod network;

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use docweir_aws::s3::{Bucket, DownloadError, Encryption, LifecycleRule, S3, When};
use docweir_aws::{Aws, AwsOptions, FaultKind, S3Options};
use docweir_testkit::proxy::Proxy;
use docweir_testkit::servers;

/// Describes a server under test: its name, its address and its credentials.
#[derive(Clone)]
struct Server {
    name: &'static str,
    host: String,
    keys: (String, String),
}

/// Returns the servers that are installed.
fn servers() -> Vec<Server> {
    let found = servers::of_s3().into_iter().map(|(name, server)| {
        let host = server.endpoint().trim_start_matches("http://").to_owned();
        Server { name, host, keys: (server.access_key().to_owned(), server.secret_key().to_owned()) }
    });
    found.collect()
}

impl Server {
    async fn client(&self, host: &str, options: S3Options) -> S3 {
        let aws = AwsOptions { region: "us-east-1".into(), attempt_seconds: 5.0, ..AwsOptions::default() };
        let aws = Aws::find(aws).await.with_keys(&self.keys.0, &self.keys.1);
        S3::new(&aws, &S3Options { endpoint: format!("http://{host}"), path_style: true, ..options })
    }

    /// Returns the bucket that all tests share, and a prefix for the keys of this test. The tests share one bucket,
    /// because seaweedfs reserves seven volumes for each bucket.
    async fn bucket(&self, options: S3Options) -> (Bucket, String) {
        let bucket = self.client(&self.host, options).await.bucket("docweir-test");
        bucket.create().await.unwrap();
        (bucket, format!("{:016x}/", fastrand::u64(..)))
    }

    /// Returns a proxy that can inject network faults, and a client that reaches the bucket through the proxy.
    async fn behind_proxy(&self, bucket: &Bucket) -> (Arc<Proxy>, Bucket) {
        let proxy = Arc::new(Proxy::start(&self.host).unwrap());
        let client = self.client(&proxy.address(), bucket.options().clone()).await;
        (proxy, client.bucket(bucket.name()))
    }
}

fn bytes(length: usize, seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn objects_are_put_got_listed_and_deleted() {
    for server in servers() {
        for checksums in [true, false] {
            let s = server.name;
            let (bucket, p) = server.bucket(S3Options { checksums, ..S3Options::default() }).await;
            let k = |key: &str| format!("{p}{key}");
            let body = bytes(100_000, 1);
            let etag = bucket.put(&k("a/b+c=d.bin"), body.clone(), &When::Always).await.unwrap();
            let got = bucket.get(&k("a/b+c=d.bin")).await.unwrap();
            assert_eq!((&got.body, &got.etag), (&body, &etag), "{s}");
            for (offset, length, expected) in [
                (0, 5, 0..5),
                (0, u64::MAX, 0..100_000),
                (99_990, 99, 99_990..100_000),
                (100_000, 1, 0..0),
                (7, 0, 0..0),
                (500_000, 1, 0..0),
            ] {
                let part = bucket.get_range(&k("a/b+c=d.bin"), offset, length).await.unwrap();
                assert_eq!(part, body.slice(expected), "{s} {offset}+{length}");
            }
            assert_eq!(bucket.get_range(&k("a/b+c=d.bin"), 9, u64::MAX).await.unwrap(), body.slice(9..), "{s}");
            let head = bucket.head(&k("a/b+c=d.bin")).await.unwrap();
            assert_eq!((head.bytes, &head.etag), (100_000, &etag), "{s}");
            assert!(head.modified > 1_700_000_000_000_000, "{s}");
            for missing in [bucket.get(&k("none")).await.map(drop), bucket.head(&k("none")).await.map(drop)] {
                assert_eq!(missing.unwrap_err().kind, FaultKind::NotFound, "{s}");
            }
            assert_eq!(bucket.get_range(&k("none"), 0, 0).await.unwrap_err().kind, FaultKind::NotFound, "{s}");
            bucket.put(&k("empty"), Bytes::new(), &When::Always).await.unwrap();
            assert_eq!(bucket.get(&k("empty")).await.unwrap().body, "", "{s}");
            assert_eq!(bucket.get_range(&k("empty"), 0, 9).await.unwrap(), "", "{s}");
            bucket.delete(&k("a/b+c=d.bin")).await.unwrap();
            bucket.delete(&k("a/b+c=d.bin")).await.unwrap();
            assert_eq!(bucket.delete_many(&[k("empty"), k("none")]).await.unwrap(), [], "{s}");
            assert_eq!(bucket.list(&p, None, 9).await.unwrap(), [], "{s}");
        }
    }
}

#[tokio::test]
async fn a_condition_that_does_not_hold_refuses_the_put() {
    for server in servers() {
        let s = server.name;
        let (bucket, p) = server.bucket(S3Options::default()).await;
        let k = |key: &str| format!("{p}{key}");
        let put = async |body: &'static str, when: When| bucket.put(&k("k"), body.into(), &when).await;
        let kind = |result: Result<String, docweir_aws::Fault>| result.unwrap_err().kind;
        let missing = put("0", When::Matches("\"0123456789abcdef0123456789abcdef\"".into())).await;
        assert!(matches!(kind(missing), FaultKind::Condition | FaultKind::NotFound), "{s}");
        let one = put("1", When::Absent).await.unwrap();
        assert_eq!(kind(put("2", When::Absent).await), FaultKind::Condition, "{s}");
        let two = put("2", When::Matches(one.clone())).await.unwrap();
        assert_ne!(one, two);
        assert_eq!(kind(put("3", When::Matches(one)).await), FaultKind::Condition, "{s}");
        let got = bucket.get(&k("k")).await.unwrap();
        assert_eq!((got.body, got.etag), ("2".into(), two), "{s}");
    }
}

#[tokio::test]
async fn of_many_at_once_one_wins() {
    for server in servers() {
        let s = server.name;
        let (bucket, p) = server.bucket(S3Options::default()).await;
        let k = |key: &str| format!("{p}{key}");
        let first = bucket.put(&k("swapped"), "first".into(), &When::Absent).await.unwrap();
        for (key, when) in [("created", When::Absent), ("swapped", When::Matches(first))] {
            let tasks: Vec<_> = (0..8)
                .map(|i| {
                    let (bucket, when, key) = (bucket.clone(), when.clone(), k(key));
                    tokio::spawn(async move { bucket.put(&key, format!("by {i}").into(), &when).await })
                })
                .collect();
            let (mut won, mut unknown) = (Vec::new(), Vec::new());
            for (i, task) in tasks.into_iter().enumerate() {
                match task.await.unwrap().map_err(|fault| (fault.kind, fault)) {
                    Ok(_) => won.push(format!("by {i}")),
                    Err((FaultKind::Condition | FaultKind::Conflict, _)) => {}
                    // seaweedfs serialises concurrent writes, so some of them time out.
                    Err((FaultKind::Unknown, _)) => unknown.push(format!("by {i}")),
                    Err((_, fault)) => panic!("{s} {fault:?}"),
                }
            }
            let body = bucket.get(&k(key)).await.unwrap().body;
            let body = std::str::from_utf8(&body).unwrap().to_owned();
            let one = won == [body.clone()] || won.is_empty() && unknown.contains(&body);
            assert!(one, "{s} {key}: {body}, succeeded: {won:?}, unknown: {unknown:?}");
        }
    }
}

#[tokio::test]
async fn lists_are_in_order_of_bytes() {
    for server in servers() {
        let s = server.name;
        let (bucket, p) = server.bucket(S3Options::default()).await;
        let k = |key: &str| format!("{p}{key}");
        let mut keys = ["a-b", "a/a", "a/b-c/d", "a/b/c", "a/c", "a.b", "a0", "b/x/y/z", "b/x/y+", "c"].map(k);
        for key in &keys {
            bucket.put(key, "".into(), &When::Always).await.unwrap();
        }
        keys.sort_unstable();
        for prefix in ["", "a", "a/", "a/b", "a/b/", "b/x/y", "c", "d", "c/d"].map(k) {
            let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(&prefix)).cloned().collect();
            for page in [1, 2, 3, 99] {
                let mut paged: Vec<String> = Vec::new();
                loop {
                    let next = bucket.list(&prefix, paged.last().map(String::as_str), page).await.unwrap();
                    assert!(next.len() <= page);
                    if next.is_empty() {
                        break;
                    }
                    paged.extend(next.into_iter().map(|o| o.key));
                    assert!(paged.len() <= keys.len(), "{s} {prefix} by {page}: {paged:?}");
                }
                if s == "seaweedfs" {
                    // seaweedfs lists folder by folder, so only the set of keys is compared.
                    paged.sort();
                }
                assert_eq!(paged, expected, "{s} {prefix} by {page}");
            }
        }
        let after = bucket.list(&p, Some(&k("a/b")), 1).await.unwrap();
        assert_eq!(after[0].key, k("a/b-c/d"), "{s}: wrong first key after a key that does not exist");
    }
}

#[tokio::test]
async fn parts_become_an_object_and_are_read_into_a_file() {
    for server in servers() {
        for checksums in [true, false] {
            let s = server.name;
            let (bucket, p) = server.bucket(S3Options { checksums, ..S3Options::default() }).await;
            let k = |key: &str| format!("{p}{key}");
            let whole = bytes((10 << 20) + 12_345, 2);
            let upload = bucket.begin(&k("big")).await.unwrap();
            let unfinished = bucket.unfinished(&p, 9).await.unwrap();
            assert_eq!(
                unfinished.iter().map(|u| (&*u.key, &*u.id)).collect::<Vec<_>>(),
                [(&*k("big"), upload.id())],
                "{s}"
            );
            let part = 5 << 20;
            let mut parts = Vec::new();
            for (i, at) in [2, 0, 1].map(|i| (i, i * part)) {
                let body = whole.slice(at..(at + part).min(whole.len()));
                parts.push(upload.part(i as u32 + 1, body).await.unwrap());
            }
            assert_eq!(
                bucket.head(&k("big")).await.unwrap_err().kind,
                FaultKind::NotFound,
                "{s}: the object is visible before its upload is complete"
            );
            let crc32 = crc32fast::hash(&whole);
            upload.complete(parts, Some(crc32), &When::Always).await.unwrap();
            assert_eq!(bucket.unfinished(&p, 9).await.unwrap(), [], "{s}");
            upload.abort().await.unwrap();
            assert_eq!(bucket.get(&k("big")).await.unwrap().body, whole, "{s}");

            let mut file = tempfile::tempfile().unwrap();
            let object = bucket.download(&k("big"), file.try_clone().unwrap()).await.unwrap();
            assert_eq!(object.bytes, whole.len() as u64, "{s}");
            let mut read = Vec::new();
            std::io::Seek::rewind(&mut file).unwrap();
            file.read_to_end(&mut read).unwrap();
            assert!(read == whole, "{s}");

            let dropped = bucket.begin(&k("dropped")).await.unwrap();
            dropped.part(1, whole.slice(..100)).await.unwrap();
            dropped.abort().await.unwrap();
            dropped.abort().await.unwrap();
            assert_eq!(bucket.unfinished(&p, 9).await.unwrap(), [], "{s}");
            let missing = bucket.download(&k("dropped"), tempfile::tempfile().unwrap()).await.unwrap_err();
            assert!(matches!(missing, DownloadError::Fault(f) if f.kind == FaultKind::NotFound), "{s}");

            // seaweedfs verifies the CRC-32 of the whole object, as S3 does. ministack accepts any checksum.
            let upload = bucket.begin(&k("wrong")).await.unwrap();
            let part = upload.part(1, whole.slice(..100)).await.unwrap();
            let result = upload.complete(vec![part], Some(1), &When::Always).await;
            match result {
                Err(fault) => assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unreachable, "BadDigest")),
                Ok(_) => assert!(!checksums || s == "ministack", "{s} accepted a wrong checksum"),
            }
            upload.abort().await.unwrap();
            let upload = bucket.begin(&k("big")).await.unwrap();
            let part = upload.part(1, whole.slice(..100)).await.unwrap();
            let result = upload.complete(vec![part], None, &When::Absent).await;
            assert_eq!(result.unwrap_err().kind, FaultKind::Condition, "{s}");
            upload.abort().await.unwrap();
            assert!(
                matches!(upload.part(10_001, "x".into()).await, Err(f) if f.message.contains("raise `part_bytes`"))
            );
        }
    }
}

#[tokio::test]
async fn many_objects_are_listed_in_pages_and_deleted_at_once() {
    for server in servers() {
        let s = server.name;
        let (bucket, p) = server.bucket(S3Options::default()).await;
        let k = |key: &str| format!("{p}{key}");
        let keys: Vec<String> = (0..2_050).map(|i| k(&format!("many/{i:05}"))).collect();
        for some in keys.chunks(50) {
            let tasks: Vec<_> = some
                .iter()
                .map(|key| {
                    let (bucket, key) = (bucket.clone(), key.clone());
                    tokio::spawn(async move { bucket.put(&key, Bytes::new(), &When::Always).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        }
        let listed: Vec<_> = bucket.list(&k("many/"), None, 9_999).await.unwrap().into_iter().map(|o| o.key).collect();
        assert_eq!(listed, keys, "{s}");
        let after: Vec<_> =
            bucket.list(&k("many/"), Some(&k("many/01000")), 3).await.unwrap().into_iter().map(|o| o.key).collect();
        assert_eq!(after, keys[1001..1004], "{s}");
        for some in keys.chunks(1000) {
            assert_eq!(bucket.delete_many(some).await.unwrap(), [], "{s}");
        }
        assert_eq!(bucket.list(&k("many/"), None, 9).await.unwrap(), [], "{s}");
        assert_eq!(bucket.delete_many(&keys).await.unwrap_err().kind, FaultKind::Invalid);
    }
}

#[tokio::test]
async fn whoever_has_the_wrong_key_is_denied() {
    // ministack does not check credentials.
    for server in servers().into_iter().filter(|server| server.name == "seaweedfs") {
        let (bucket, p) = server.bucket(S3Options::default()).await;
        let secret = (server.keys.0.clone(), "wrong".to_owned());
        let nobody = ("nobody".to_owned(), "wrong".to_owned());
        for keys in [secret, nobody] {
            let server = Server { keys, ..server.clone() };
            let denied = server.client(&server.host, S3Options::default()).await.bucket(bucket.name());
            let faults = [
                denied.put(&p, "x".into(), &When::Absent).await.map(drop),
                denied.get(&p).await.map(drop),
                denied.head(&p).await.map(drop),
                denied.list(&p, None, 1).await.map(drop),
                denied.begin(&p).await.map(drop),
            ];
            for fault in faults {
                assert_eq!(fault.unwrap_err().kind, FaultKind::Denied);
            }
        }
    }
}

#[tokio::test]
async fn buckets_are_set_up() {
    for server in servers() {
        let s = server.name;
        let name = format!("test-{:016x}", fastrand::u64(..));
        let bucket = server.client(&server.host, S3Options::default()).await.bucket(&name);
        assert!(!bucket.exists().await.unwrap(), "{s}");
        bucket.create().await.unwrap();
        assert!(bucket.exists().await.unwrap(), "{s}");
        bucket.create().await.unwrap();
        assert_eq!(bucket.lifecycle().await.unwrap(), [], "{s}");
        let rule = |id: &str, days| LifecycleRule {
            id: id.into(),
            prefix: format!("{id}/"),
            archive_days: None,
            expire_days: Some(days),
            abort_days: None,
        };
        bucket.put_lifecycle(&[rule("a", 1), rule("b", 2)]).await.unwrap();
        bucket.put_lifecycle(&[rule("b", 3)]).await.unwrap();
        assert_eq!(bucket.lifecycle().await.unwrap(), [rule("a", 1), rule("b", 3)], "{s}");
        let encryption = Encryption { kind: "AES256".into(), kms_key: String::new() };
        bucket.put_encryption(&encryption).await.unwrap();
        assert_eq!(bucket.encryption().await.unwrap(), Some(encryption), "{s}");
        match bucket.is_private().await {
            // seaweedfs does not implement public access blocks and returns an error.
            Err(fault) => assert_eq!((fault.kind, s), (FaultKind::Invalid, "seaweedfs"), "{fault}"),
            Ok(private) => {
                assert!(!private);
                bucket.make_private().await.unwrap();
                assert!(bucket.is_private().await.unwrap());
            }
        }
        let rule = LifecycleRule { abort_days: Some(2), archive_days: None, expire_days: None, ..rule("c", 0) };
        bucket.put_lifecycle(std::slice::from_ref(&rule)).await.unwrap();
        assert!(bucket.lifecycle().await.unwrap().contains(&rule), "{s}");
    }
}
