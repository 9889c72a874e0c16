//! Tests the store on the S3 servers that are installed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use docweir_aws::{Aws, AwsOptions, S3Options};
use docweir_core::clock::{Clock, SystemClock};
use docweir_objects::conformance::{self, Candidate, bytes, upload};
use docweir_objects::lease::{LeaseError, LeaseRegister};
use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers;

use super::*;

const PART: usize = 5 << 20;
const TTL: Duration = Duration::from_secs(60);

pub struct Server {
    pub name: &'static str,
    pub host: String,
    keys: (String, String),
}

pub fn servers() -> Vec<Server> {
    let found = servers::of_s3().into_iter().map(|(name, server)| {
        let host = server.endpoint().trim_start_matches("http://").to_owned();
        Server { name, host, keys: (server.access_key().to_owned(), server.secret_key().to_owned()) }
    });
    found.collect()
}

impl Server {
    /// Returns a client that uses the smallest allowed parts.
    async fn client(&self, host: &str) -> S3 {
        let options = S3Options { part_bytes: PART as u64, parallel_parts: 2, ..S3Options::default() };
        self.client_with(host, options).await
    }

    async fn client_with(&self, host: &str, options: S3Options) -> S3 {
        let aws = AwsOptions { region: "us-east-1".into(), ..AwsOptions::default() };
        let aws = Aws::find(aws).await.with_keys(&self.keys.0, &self.keys.1);
        S3::new(&aws, &S3Options { endpoint: format!("http://{host}"), path_style: true, ..options })
    }

    /// Opens a store under a new prefix.
    pub async fn objects(&self) -> S3Objects {
        Self::place(self.client(&self.host).await).await
    }

    async fn place(s3: S3) -> S3Objects {
        s3.bucket("docweir-test").create().await.unwrap();
        S3Objects::new(&s3, "docweir-test", &format!("{:016x}", fastrand::u64(..))).unwrap()
    }

    /// Returns a proxy that can inject network faults, and the same store through the proxy.
    pub async fn behind_proxy(&self, objects: &S3Objects) -> (Proxy, S3Objects) {
        let proxy = Proxy::start(&self.host).unwrap();
        let bucket = self.client(&proxy.address()).await.bucket(objects.bucket.name());
        (proxy, S3Objects { bucket, prefix: objects.prefix.clone() })
    }
}

/// Applies `act` to the first request whose line begins with `method`, and lets all others pass.
fn first(method: &'static str, act: Act) -> impl FnMut(&str) -> Act + Send + 'static {
    let mut act = Some(act);
    move |line| if line.starts_with(method) { act.take().unwrap_or(Act::Pass) } else { Act::Pass }
}

async fn unfinished(objects: &S3Objects) -> usize {
    objects.bucket.unfinished(&objects.prefix, 99).await.unwrap().len()
}

/// Waits until all uploads have ended. A dropped upload is aborted by its task in the background.
async fn none_unfinished(objects: &S3Objects) {
    for _ in 0..100 {
        if unfinished(objects).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("unfinished uploads are left");
}

#[tokio::test]
async fn it_keeps_the_promises_of_every_store() {
    for server in servers() {
        let objects = server.objects().await;
        let candidate = Candidate {
            objects: Arc::new(objects.clone()),
            in_byte_order: server.name != "seaweedfs",
            checks_keys: true,
            large: PART + 1,
        };
        conformance::check(&candidate).await;
        none_unfinished(&objects).await;
        assert!(objects.location().starts_with("s3://docweir-test/"));
        // Objects of other programs under the prefix are not listed.
        objects.bucket.put(&format!("{}a b", objects.prefix), "x".into(), &When::Always).await.unwrap();
        objects.bucket.put(&format!("{}c", objects.prefix), "x".into(), &When::Always).await.unwrap();
        let listed = objects.list("", None, 1).await.unwrap();
        assert_eq!(listed.iter().map(|o| &*o.key).collect::<Vec<_>>(), ["c"], "{}", server.name);
        objects.probe().await.unwrap();
        assert_eq!(objects.list("probe/", None, 9).await.unwrap(), []);
    }
}

#[test]
fn a_prefix_is_a_key_or_nothing() {
    let s3 = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let aws = AwsOptions { region: "us-east-1".into(), ..AwsOptions::default() };
        S3::new(&Aws::find(aws).await.with_keys("k", "s"), &S3Options::default())
    });
    let location = |prefix: &str| S3Objects::new(&s3, "b", prefix).map(|o| (o.location(), o.full("k").unwrap()));
    for prefix in ["", "/"] {
        assert_eq!(location(prefix).unwrap(), ("s3://b/".into(), "k".into()));
    }
    assert_eq!(location("/x/y/").unwrap(), ("s3://b/x/y".into(), "x/y/k".into()));
    assert!(matches!(location("x//y"), Err(ObjectError::BadKey(_))));
    let deep = S3Objects::new(&s3, "b", &"p".repeat(200)).unwrap();
    assert!(matches!(deep.full("k/".repeat(450).trim_end_matches('/')), Err(ObjectError::BadKey(_))));
}

#[tokio::test]
async fn a_write_whose_reply_is_lost_is_never_said_to_be_done_or_refused() {
    for server in servers() {
        let objects = server.objects().await;
        let (proxy, through) = server.behind_proxy(&objects).await;
        let put = async |key: &str, when| through.put(key, "x".into(), when, Durability::Durable).await;
        for (act, applied) in [(Act::LoseReply, true), (Act::LoseRequest, false), (Act::CutReply(9), true)] {
            let key = format!("k{}-{applied}", matches!(act, Act::CutReply(_)));
            proxy.set(first("PUT", act));
            let result = put(&key, Precondition::Absent).await;
            assert!(matches!(result, Err(ObjectError::Unknown { .. })), "{}: {result:?}", server.name);
            assert_eq!(objects.head(&key).await.is_ok(), applied);
            let result = put(&key, Precondition::Absent).await;
            assert_eq!(matches!(result, Err(ObjectError::Conflict(_))), applied, "{result:?}");
        }
        let nobody = server.client("127.0.0.1:9").await;
        let nobody = S3Objects::new(&nobody, "docweir-test", "").unwrap();
        let result = nobody.put("k", "x".into(), Precondition::Absent, Durability::Durable).await;
        assert!(matches!(result, Err(ObjectError::Transient { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_lease_survives_lost_replies() {
    for server in servers() {
        let objects = server.objects().await;
        let (proxy, through) = server.behind_proxy(&objects).await;
        let register = |o: &S3Objects| LeaseRegister::new(Arc::new(o.clone()), "LEASE".into(), Arc::new(SystemClock));
        let (mine, other) = (register(&through), register(&objects));
        proxy.set(first("PUT", Act::LoseReply));
        let lease = mine.acquire("me", TTL, 0).await.unwrap().expect("the write arrived");
        assert_eq!(other.acquire("other", TTL, 0).await.unwrap(), None);
        proxy.set(first("PUT", Act::LoseReply));
        let lease = mine.renew(&lease, TTL).await.unwrap();
        proxy.set(first("PUT", Act::LoseRequest));
        assert!(matches!(mine.renew(&lease, TTL).await, Err(LeaseError::Object(_))), "it may be tried again");
        let lease = mine.renew(&lease, TTL).await.unwrap();
        mine.release(&lease).await.unwrap();
        let theirs = other.acquire("other", TTL, 0).await.unwrap().unwrap();
        assert_eq!(theirs.record.epoch, lease.record.epoch + 1);
        assert!(matches!(mine.renew(&lease, TTL).await, Err(LeaseError::Lost(_))));
        // If several processes acquire at once, one gets the lease.
        other.release(&theirs).await.unwrap();
        let tasks: Vec<_> = (0..6)
            .map(|i| {
                let register = register(&objects);
                tokio::spawn(async move { register.acquire(&format!("{i}"), TTL, 0).await.unwrap().is_some() })
            })
            .collect();
        let mut holders = 0;
        for task in tasks {
            holders += usize::from(task.await.unwrap());
        }
        assert_eq!(holders, 1, "{}", server.name);
    }
}

#[tokio::test]
async fn uploads_that_fail_leave_nothing() {
    for server in servers() {
        let objects = server.objects().await;
        let (proxy, through) = server.behind_proxy(&objects).await;
        let through: Arc<dyn ObjectStore> = Arc::new(through);
        let body = bytes(3 * PART + 7, 1);
        // Every attempt to upload the part fails.
        proxy.set(|line| if line.contains("partNumber=2") { Act::LoseRequest } else { Act::Pass });
        let failed = upload(&through, "k", body.clone(), true).await;
        assert!(matches!(failed, Err(ObjectError::Unknown { .. })), "{failed:?}");
        none_unfinished(&objects).await;
        // A single lost reply is retried without an error.
        let mut once = true;
        proxy.set(move |line| match line.contains("partNumber=2") && std::mem::take(&mut once) {
            true => Act::LoseReply,
            false => Act::Pass,
        });
        upload(&through, "k", body.clone(), true).await.unwrap();
        assert!(objects.get("k").await.unwrap().0 == body);
        // The upload cannot start, and the writer gets the error from a write.
        let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        let denied =
            format!("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{denied}", denied.len());
        proxy.set(move |_| Act::Reply(denied.clone()));
        let failed = upload(&through, "denied", bytes(8 * PART, 2), true).await;
        assert!(matches!(failed, Err(ObjectError::Transient { .. })), "{failed:?}");
        // The reply of the completion is lost. The retry finds the object complete, or the result is unknown.
        let lost = Arc::new(AtomicU32::new(0));
        let count = lost.clone();
        proxy.set(move |line| match line.starts_with("POST") && line.contains("uploadId=") {
            true if count.fetch_add(1, Ordering::SeqCst) == 0 => Act::LoseReply,
            _ => Act::Pass,
        });
        let result = upload(&through, "last", body.clone(), true).await;
        assert!(matches!(result, Ok(()) | Err(ObjectError::Unknown { .. })), "{result:?}");
        assert!(lost.load(Ordering::SeqCst) > 1);
        assert!(objects.get("last").await.unwrap().0 == body);
        none_unfinished(&objects).await;

        let left = objects.bucket.begin(&format!("{}left", objects.prefix)).await.unwrap();
        let now = SystemClock.now();
        assert_eq!(objects.end_unfinished(now - 3_600_000_000).await.unwrap(), 0, "too young");
        assert_eq!(unfinished(&objects).await, 1);
        assert_eq!(objects.end_unfinished(now + 3_600_000_000).await.unwrap(), 1, "{}", left.id());
        assert_eq!(unfinished(&objects).await, 0);
    }
}

#[tokio::test]
async fn the_probe_finds_who_does_not_enforce_conditions() {
    // The server accepts every write.
    let proxy = Proxy::start("127.0.0.1:9").unwrap();
    let server = Server { name: "careless", host: proxy.address(), keys: ("k".into(), "s".into()) };
    let objects = S3Objects::new(&server.client(&server.host).await, "b", "p").unwrap();
    let mut writes = 0;
    proxy.set(move |_| {
        writes += 1;
        Act::Reply(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"{writes}\"\r\nContent-Length: 0\r\n\r\n"))
    });
    let error = objects.probe().await.unwrap_err();
    assert!(matches!(error, ObjectError::Storage { .. }));
    let expected = "can't keep manifests in `s3://b/p`: the server overwrote an object despite `If-None-Match: *`; \
                    use an endpoint that enforces conditional writes, or set `buckets.register = \"dynamodb\"`";
    assert_eq!(error.to_string(), expected);
    proxy.set(|_| Act::Reply("HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into()));
    let error = objects.probe().await.unwrap_err().to_string();
    assert!(error.contains("rejected a write whose `If-None-Match` condition held (HTTP 501)"), "{error}");
    proxy.set(|line| match line.starts_with("PUT") {
        true => Act::Reply("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into()),
        false => Act::LoseRequest,
    });
    let error = objects.probe().await.unwrap_err().to_string();
    assert!(error.contains("check the credentials"), "{error}");
}

/// Prints measurements. Run it with `-- --ignored --nocapture`, one server at a time.
#[tokio::test]
#[ignore = "a measurement"]
async fn figures() {
    use tokio::time::Instant;
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    for server in servers() {
        let s3 = server.client_with(&server.host, S3Options::default()).await;
        let s: Arc<dyn ObjectStore> = Arc::new(Server::place(s3).await);
        let small = bytes(1024, 1);
        let at = Instant::now();
        for i in 0..200 {
            s.put(&format!("small/{i}"), small.clone(), Precondition::None, Durability::Durable).await.unwrap();
        }
        println!("{}: put of 1 KiB: {:?}", server.name, at.elapsed() / 200);
        let at = Instant::now();
        for i in 0..200 {
            s.get(&format!("small/{i}")).await.unwrap();
        }
        println!("{}: get of 1 KiB: {:?}", server.name, at.elapsed() / 200);
        let many: Vec<_> = (0..10_000).map(|i| (format!("many/{i:05}"), Bytes::from_static(b"x"))).collect();
        let at = Instant::now();
        s.put_all(many, Durability::Durable).await.unwrap();
        println!("{}: put_all of 10,000: {:?}", server.name, at.elapsed());
        let at = Instant::now();
        assert_eq!(s.list("many/", None, 20_000).await.unwrap().len(), 10_000);
        println!("{}: list of 10,000 keys: {:?}", server.name, at.elapsed());
        println!("{}: peak of memory before: {} MiB", server.name, peak());
        let gigabyte = async {
            let mut upload = s.create("gigabyte").await.unwrap();
            let upload = tokio::task::spawn_blocking(move || {
                let piece = vec![7; 1 << 20];
                (0..1024).for_each(|_| std::io::Write::write_all(&mut upload, &piece).unwrap());
                upload
            });
            upload.await.unwrap().finish().await.unwrap();
        };
        let at = Instant::now();
        gigabyte.await;
        println!("{}: upload of 1 GiB: {:?}, peak of memory {} MiB", server.name, at.elapsed(), peak());
        let at = Instant::now();
        s.read_into("gigabyte", tempfile::tempfile().unwrap()).await.unwrap();
        println!("{}: 1 GiB into a file: {:?}, peak of memory {} MiB", server.name, at.elapsed(), peak());
        s.delete("gigabyte").await.unwrap();
        let big = bytes(64 << 20, 3);
        let at = Instant::now();
        s.put("big", big, Precondition::None, Durability::Durable).await.unwrap();
        println!("{}: put of 64 MiB: {:?}", server.name, at.elapsed());
        let at = Instant::now();
        s.get("big").await.unwrap();
        println!("{}: get of 64 MiB: {:?}", server.name, at.elapsed());
        s.delete("big").await.unwrap();
    }
}
