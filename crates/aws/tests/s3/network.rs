//! Tests the calls to S3 with network faults and with prepared replies.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use docweir_aws::FaultKind;
use docweir_aws::S3Options;
use docweir_aws::s3::{DownloadError, When};
use docweir_testkit::proxy::{Act, Proxy};

use super::{Server, bytes, servers};

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    for server in servers() {
        let s = server.name;
        let (bucket, p) = server.bucket(S3Options::default()).await;
        let k = |key: &str| format!("{p}{key}");
        let whole = bytes(3 << 20, 3);
        bucket.put(&k("big"), whole.clone(), &When::Always).await.unwrap();
        let (proxy, through) = server.behind_proxy(&bucket).await;
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        proxy.set(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Act::CutReply(2 << 20),
            1 => Act::CutReply(100_000),
            _ => Act::Pass,
        });
        let mut file = tempfile::tempfile().unwrap();
        through.download(&k("big"), file.try_clone().unwrap()).await.unwrap();
        let mut read = Vec::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut read).unwrap();
        assert!(read == whole, "{s}");
        assert_eq!(asked.load(Ordering::SeqCst), 3, "{s}");
        proxy.set(|_| Act::CutReply(1000));
        let error = through.download(&k("big"), tempfile::tempfile().unwrap()).await.unwrap_err();
        assert!(matches!(error, DownloadError::Fault(f) if f.kind == FaultKind::Unknown), "{s}");
        assert_eq!(through.get(&k("big")).await.unwrap_err().kind, FaultKind::Unknown, "{s}");
        let (mut cuts, count) = (0, asked.clone());
        count.store(0, Ordering::SeqCst);
        proxy.set(move |_| {
            cuts += 1;
            if cuts < 3 { Act::CutReply(1 << 20) } else { Act::Pass }
        });
        assert!(through.get(&k("big")).await.unwrap().body == whole, "{s}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_not_known_and_a_put_with_a_condition_is_sent_once() {
    for server in servers() {
        let s = server.name;
        let (bucket, p) = server.bucket(S3Options::default()).await;
        let k = |key: &str| format!("{p}{key}");
        let (proxy, through) = server.behind_proxy(&bucket).await;
        let sent = Arc::new(AtomicU32::new(0));
        for act in [Act::LoseReply, Act::LoseRequest] {
            let (count, applied) = (sent.clone(), act == Act::LoseReply);
            count.store(0, Ordering::SeqCst);
            proxy.set(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                act.clone()
            });
            let key = if applied { "lost-reply" } else { "lost-request" };
            let fault = through.put(&k(key), "1".into(), &When::Absent).await.unwrap_err();
            assert_eq!((fault.kind, sent.load(Ordering::SeqCst)), (FaultKind::Unknown, 1), "{s} {fault:?}");
            assert_eq!(bucket.head(&k(key)).await.is_ok(), applied, "{s}");
            // An unconditional put is safe to repeat, so it is retried.
            sent.store(0, Ordering::SeqCst);
            through.put(&k(key), "1".into(), &When::Always).await.unwrap_err();
            assert_eq!(sent.load(Ordering::SeqCst), 4, "{s}");
        }
        let mut first = true;
        proxy.set(move |_| if std::mem::take(&mut first) { Act::LoseReply } else { Act::Pass });
        through.put(&k("again"), "1".into(), &When::Always).await.unwrap();

        let upload = through.begin(&k("parts")).await.unwrap();
        let part = upload.part(1, "1".into()).await.unwrap();
        let mut first = true;
        proxy.set(move |_| if std::mem::take(&mut first) { Act::LoseReply } else { Act::Pass });
        let completed = upload.complete(vec![part], None, &When::Always).await;
        assert!(completed.is_ok_and(|etag| !etag.is_empty()), "{s}: the retry of a completed upload must succeed");
        assert!(bucket.head(&k("parts")).await.is_ok(), "{s}");
    }
}

/// Checks how replies are converted to faults. A proxy sends prepared replies that none of the installed servers
/// returns.
#[tokio::test]
async fn what_the_service_says_becomes_a_fault() {
    let proxy = Proxy::start("127.0.0.1:9").unwrap();
    let server = Server { name: "canned", host: proxy.address(), keys: ("k".into(), "s".into()) };
    let bucket = server.client(&server.host, S3Options::default()).await.bucket("b");
    let reply = |status: &str, code: &str| {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let table = [
        ("403 Forbidden", "InvalidObjectState", FaultKind::Invalid),
        ("403 Forbidden", "AccessDenied", FaultKind::Denied),
        ("409 Conflict", "ConditionalRequestConflict", FaultKind::Conflict),
        ("412 Precondition Failed", "PreconditionFailed", FaultKind::Condition),
        ("503 Slow Down", "SlowDown", FaultKind::Throttled),
        ("500 Internal Server Error", "InternalError", FaultKind::Unknown),
        ("404 Not Found", "NoSuchBucket", FaultKind::NotFound),
    ];
    for (status, code, kind) in table {
        let canned = reply(status, code);
        proxy.set(move |_| Act::Reply(canned.clone()));
        let fault = bucket.put("k", "1".into(), &When::Absent).await.unwrap_err();
        assert_eq!((fault.kind, fault.code.as_str()), (kind, code));
    }
    let archived = reply("403 Forbidden", "InvalidObjectState");
    proxy.set(move |_| Act::Reply(archived.clone()));
    let fault = bucket.get("k").await.unwrap_err();
    assert!(fault.to_string().contains("restore it with"), "{fault}");
    // The checksum in this reply does not match the body.
    let wrong = "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"1\"\r\nx-amz-checksum-crc32: AAAAAA==\r\nContent-Length: 1\r\n\r\nx";
    proxy.set(move |_| Act::Reply(wrong.into()));
    assert_eq!(bucket.get("k").await.unwrap_err().kind, FaultKind::Unknown);
    let error = bucket.download("k", tempfile::tempfile().unwrap()).await.unwrap_err();
    assert!(matches!(error, DownloadError::Fault(f) if f.kind == FaultKind::Unknown));
    let trusting = S3Options { checksums: false, ..S3Options::default() };
    assert_eq!(server.client(&server.host, trusting).await.bucket("b").get("k").await.unwrap().body, "x");
    // A reply without an ETag is a fault, because a later conditional put needs the ETag.
    proxy.set(|_| Act::Reply("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into()));
    assert_eq!(bucket.put("k", "1".into(), &When::Always).await.unwrap_err().kind, FaultKind::Unknown);
    let nobody = server.client("127.0.0.1:9", S3Options::default()).await.bucket("b");
    assert_eq!(nobody.put("k", "1".into(), &When::Absent).await.unwrap_err().kind, FaultKind::Unreachable);
}
