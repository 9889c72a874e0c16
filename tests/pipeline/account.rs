//! Provides an isolated AWS account for one test, on local servers that speak AWS's protocols.

use std::path::Path;
use std::process::{Command, Stdio};

use docweir_testkit::servers::{Server, program, shared_dynoxide, shared_ministack, shared_seaweedfs};
use serde_json::{Map, Value};

use crate::kit::{Ran, Running, TestFolder};

/// Runs AWS's own client against one of the servers, and returns its output.
#[track_caller]
pub fn aws(server: &Server, folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(program("aws").unwrap());
    command
        .args(["--endpoint-url", server.endpoint(), "--region", "eu-central-1", "--output", "json"])
        .args(args)
        .current_dir(folder)
        .env("AWS_ACCESS_KEY_ID", server.access_key())
        .env("AWS_SECRET_ACCESS_KEY", server.secret_key())
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// Converts a DynamoDB attribute to plain JSON. For example, the attribute `{"N": "3"}` becomes the number 3.
fn plain(attribute: &Value) -> Value {
    let (kind, value) = attribute.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "N" => serde_json::from_str(value.as_str().unwrap()).unwrap(),
        "M" => plain_map(value),
        "L" => value.as_array().unwrap().iter().map(plain).collect(),
        "NULL" => Value::Null,
        _ => value.clone(),
    }
}

fn plain_map(attributes: &Value) -> Value {
    attributes
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), plain(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// Returns the DynamoDB server dynoxide if `dynoxide` is true, and ministack if it is false. The environment variable
/// `DOCWEIR_TEST_OTHER_SERVER` swaps the two servers, so that each test can also run on the other server. Returns
/// `None` if the chosen server is not installed.
pub fn dynamo(dynoxide: bool) -> Option<&'static Server> {
    let swap = std::env::var_os("DOCWEIR_TEST_OTHER_SERVER").is_some();
    if dynoxide != swap { self::dynoxide() } else { ministack() }
}

/// Returns ministack, the server for S3, DynamoDB and other services, or `None` if it is not installed.
pub fn ministack() -> Option<&'static Server> {
    shared_ministack().map(|s| &**s)
}

/// Returns seaweedfs, a server for S3, or `None` if it is not installed.
pub fn seaweedfs() -> Option<&'static Server> {
    shared_seaweedfs().map(|s| &**s)
}

/// Returns dynoxide, a server for DynamoDB, or `None` if it is not installed.
pub fn dynoxide() -> Option<&'static Server> {
    shared_dynoxide().map(|s| &**s)
}

/// Represents an isolated account: a bucket and tables that no other test uses.
pub struct Account {
    pub place: TestFolder,
    pub s3: &'static Server,
    pub dynamo: &'static Server,
    pub name: String,
    /// True if the S3 server can move objects to an archive.
    archives: bool,
    /// Additional environment variables of each command.
    pub more: Vec<(&'static str, String)>,
}

impl Account {
    /// Creates an account with its bucket and tables. Returns `None` if a server is not installed.
    pub fn new(s3: Option<&'static Server>, dynamo: Option<&'static Server>, archives: bool) -> Option<Self> {
        Some(Self::plain(s3?, dynamo?, archives).made())
    }

    /// Creates an account that has no bucket and no tables yet.
    pub fn plain(s3: &'static Server, dynamo: &'static Server, archives: bool) -> Self {
        let name = format!("t{:08x}", fastrand::u32(..));
        Self { place: TestFolder::new(), s3, dynamo, name, archives, more: Vec::new() }
    }

    /// Creates the bucket and the tables that the configuration names.
    pub fn made(self) -> Self {
        self.run("one", &["infra", "check"]).code(1);
        self.run("one", &["infra", "apply"]).code(0);
        self
    }

    /// Returns a command that uses the state folder of `replica`, as if each replica ran on its own machine.
    pub fn command(&self, replica: &str, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        let table = |what: &str| format!("{}-{what}", self.name);
        command
            .env("AWS_ACCESS_KEY_ID", self.s3.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.s3.secret_key())
            .env("DOCWEIR__AWS__REGION", "eu-central-1")
            .env("DOCWEIR__STATE__BACKEND", "aws")
            .env("DOCWEIR__STATE__FOLDER", self.place.path().join(format!(".docweir-{replica}")))
            .env("DOCWEIR__BUCKETS__ARTEFACTS", format!("{}/docs", self.name))
            .env("DOCWEIR__BUCKETS__ARCHIVE_DAYS", if self.archives { "30" } else { "0" })
            .env("DOCWEIR__S3__ENDPOINT", self.s3.endpoint())
            .env("DOCWEIR__S3__PATH_STYLE", "true")
            .env("DOCWEIR__DYNAMODB__ENDPOINT", self.dynamo.endpoint())
            .env("DOCWEIR__DYNAMODB__CONTROL_TABLE", table("control"))
            .env("DOCWEIR__DYNAMODB__AUDIT_TABLE", table("audit"))
            .env("DOCWEIR__DYNAMODB__METRICS_TABLE", table("metrics"))
            .env("DOCWEIR__DYNAMODB__STATE_TABLE", table("state"))
            .env("DOCWEIR__DYNAMODB__LEDGER_TABLE", table("ledger"))
            .env("DOCWEIR__DYNAMODB__BATCHES_TABLE", table("batches"))
            .env("DOCWEIR__LEASE__SECONDS", "6")
            .env("DOCWEIR__LEASE__HEARTBEAT_SECONDS", "2")
            .env("DOCWEIR__INTAKE__POLL_SECONDS", "1")
            .envs(self.more.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, replica: &str, args: &[&str]) -> Ran {
        Ran::of(self.command(replica, args).output().unwrap())
    }

    pub fn spawn(&self, replica: &str, args: &[&str]) -> Running {
        let mut command = self.command(replica, args);
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Runs AWS's own client against one of the servers, and returns its output.
    #[track_caller]
    pub fn aws(&self, server: &Server, args: &[&str]) -> String {
        aws(server, self.place.path(), args)
    }

    /// Reads an item of the control table with AWS's own client.
    pub fn item(&self, id: &str) -> Value {
        let key = format!(r#"{{"document_id": {{"S": "{id}"}}, "processing_version": {{"S": "v1"}}}}"#);
        let table = format!("{}-control", self.name);
        let read = self.aws(self.dynamo, &["dynamodb", "get-item", "--table-name", &table, "--key", &key]);
        serde_json::from_str::<Value>(&read).unwrap()["Item"].clone()
    }

    /// Reads all items of one of the account's tables with AWS's own client, as plain JSON. `table` is the table's name
    /// without the account's prefix, such as `control`.
    pub fn items(&self, table: &str) -> Vec<Value> {
        let table = format!("{}-{table}", self.name);
        let read = self.aws(self.dynamo, &["dynamodb", "scan", "--consistent-read", "--table-name", &table]);
        let read = serde_json::from_str::<Value>(&read).unwrap();
        read["Items"].as_array().unwrap().iter().map(plain_map).collect()
    }

    /// Asserts that all documents are complete, that the audit log of each document is consistent, and that the vector
    /// files pass verification.
    #[track_caller]
    pub fn assert_complete(&self, documents: usize) {
        let all = self.run("reader", &["status", "--all", "--json"]).code(0).json();
        assert_eq!(all.len(), documents);
        for record in &all {
            assert_eq!(record["status"], "COMPLETED", "{record}");
            let id = record["document_id"].as_str().unwrap();
            let audit_log = self.run("reader", &["audit", id, "--json"]).code(0).json();
            let times = |event: &str| audit_log.iter().filter(|e| e["event_type"] == event).count();
            assert_eq!((times("DOCUMENT_RECEIVED"), times("DOCUMENT_COMPLETED")), (1, 1), "{audit_log:?}");
            assert!(audit_log.is_sorted_by_key(|e| e["timestamp"].as_str().unwrap().to_owned()), "{audit_log:?}");
            // No entry follows an entry of a later epoch.
            assert!(audit_log.is_sorted_by_key(|e| e["metadata"]["epoch"].as_u64().unwrap()), "{audit_log:?}");
        }
        self.run("reader", &["store", "verify"]).code(0);
    }
}
