//! Tests each server with AWS's own command line, which signs its requests. If a server is not installed, its tests
//! print a message and are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test; clippy treats helpers outside of #[test] as production code"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use docweir_testkit::servers::{Dynoxide, Ministack, Seaweedfs, Server, program, shared_dynoxide};

/// Runs AWS's command line against a server, with that server's keys. Ignores the developer's AWS configuration.
struct Aws<'a> {
    server: &'a Server,
    program: PathBuf,
    secret: &'a str,
    home: tempfile::TempDir,
}

impl<'a> Aws<'a> {
    fn new(server: &'a Server) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { server, program: program("aws").unwrap(), secret: server.secret_key(), home }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(["--endpoint-url", self.server.endpoint(), "--region", "us-east-1", "--output", "text"])
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("AWS_ACCESS_KEY_ID", self.server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.secret)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn keeps_an_object(&self) {
        fs::write(self.home.path().join("written"), "what was written").unwrap();
        self.says(&["s3api", "create-bucket", "--bucket", "some-bucket"]);
        let object = ["--bucket", "some-bucket", "--key", "a folder/ä key"];
        self.says(&[&["s3api", "put-object", "--body", "written"], &object[..]].concat());
        self.says(&[&["s3api", "get-object", "read"], &object[..]].concat());
        assert_eq!(fs::read(self.home.path().join("read")).unwrap(), b"what was written");
        let again = self.run(&[&["s3api", "put-object", "--if-none-match", "*"], &object[..]].concat());
        assert!(String::from_utf8_lossy(&again.stderr).contains("PreconditionFailed"), "{again:?}");
    }

    #[track_caller]
    fn keeps_an_item(&self) {
        const TABLE: &[&str] = &["--table-name", "some-table"];
        const ITEM: &str = r#"{"id": {"S": "one"}, "value": {"S": "what was written"}}"#;
        let create = [
            &["dynamodb", "create-table", "--billing-mode", "PAY_PER_REQUEST", "--key-schema"],
            &["AttributeName=id,KeyType=HASH", "--attribute-definitions", "AttributeName=id,AttributeType=S"][..],
        ];
        self.says(&[&create.concat(), TABLE].concat());
        self.says(&[&["dynamodb", "put-item", "--item", ITEM], TABLE].concat());
        let key = r#"{"id": {"S": "one"}}"#;
        let got = self.says(&[&["dynamodb", "get-item", "--query", "Item.value.S", "--key", key], TABLE].concat());
        assert_eq!(got.trim(), "what was written");
        let absent = ["--condition-expression", "attribute_not_exists(id)"];
        let again = self.run(&[&["dynamodb", "put-item", "--item", ITEM], TABLE, &absent].concat());
        assert!(String::from_utf8_lossy(&again.stderr).contains("ConditionalCheckFailed"), "{again:?}");
    }
}

/// Holds two folders of a running server: its folder in `/proc`, and its working folder.
struct Running {
    process: PathBuf,
    folder: PathBuf,
}

impl Running {
    fn of(pid: u32) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let folder = fs::read_link(process.join("cwd")).unwrap();
        assert!(folder.join("log").exists(), "{folder:?}");
        Self { process, folder }
    }

    fn is_gone(&self) -> bool {
        !self.process.exists() && !self.folder.exists()
    }
}

#[test]
fn ministack_keeps_objects_and_items_and_is_gone_when_dropped() {
    let Some(server) = Ministack::start() else { return };
    let running = Running::of(server.pid());
    Aws::new(&server).keeps_an_object();
    Aws::new(&server).keeps_an_item();
    drop(server);
    assert!(running.is_gone());
}

#[test]
fn seaweedfs_keeps_objects_refuses_wrong_signatures_and_is_gone_when_dropped() {
    let Some(server) = Seaweedfs::start() else { return };
    let running = Running::of(server.pid());
    Aws::new(&server).keeps_an_object();
    let stranger = Aws { secret: "another secret", ..Aws::new(&server) };
    let refused = stranger.run(&["s3api", "list-buckets"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SignatureDoesNotMatch"), "{refused:?}");
    drop(server);
    assert!(running.is_gone());
}

#[test]
fn dynoxide_keeps_items_and_is_gone_when_dropped() {
    let Some(server) = Dynoxide::start() else { return };
    let running = Running::of(server.pid());
    // AWS's command line is installed together with the other servers, and may be missing if only dynoxide is
    // installed.
    if program("aws").is_some() {
        Aws::new(&server).keeps_an_item();
    }
    drop(server);
    assert!(running.is_gone());
}

#[test]
fn two_servers_of_a_kind_run_side_by_side() {
    let (Some(one), Some(two)) = (Seaweedfs::start(), Seaweedfs::start()) else { return };
    assert_ne!(one.endpoint(), two.endpoint());
    Aws::new(&one).says(&["s3api", "create-bucket", "--bucket", "only-here"]);
    assert_eq!(Aws::new(&two).says(&["s3api", "list-buckets", "--query", "Buckets[].Name"]).trim(), "");
}

const HELPER: &str = "DOCWEIR_TEST_HELPER";

/// Checks that a shared server keeps running when the thread that started the server ends. Also checks that the
/// server ends when the test process is killed.
#[test]
fn a_shared_server_dies_with_the_process() {
    if std::env::var_os(HELPER).is_some() {
        return helper();
    }
    if shared_dynoxide().is_none() {
        return;
    }
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_shared_server_dies_with_the_process", "--nocapture", "--test-threads=1"])
        .env(HELPER, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(helper.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid = said.filter_map(|line| Some(line.split_once("runs as ")?.1.parse().unwrap())).next().unwrap();
    let running = Running::of(pid);
    helper.kill().unwrap();
    helper.wait().unwrap();
    eventually(|| running.is_gone());
}

/// Starts a shared server on a thread, waits until that thread has ended, and then waits to be killed.
fn helper() {
    std::thread::spawn(|| shared_dynoxide().unwrap()).join().unwrap();
    let server = shared_dynoxide().unwrap();
    let address = Path::new(server.endpoint()).file_name().unwrap().to_str().unwrap();
    std::net::TcpStream::connect(address).unwrap();
    println!("runs as {}", server.pid());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "waits for other processes, in real time")]
fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the condition did not hold within 20 s");
}
