//! Tests `docweir doctor` with state in AWS: missing resources, denied requests and a wrong clock.

use std::process::Command;

use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::{Server, shared_ministack};
use serde_json::Value;

use crate::account::aws;
use crate::kit::{Ran, TestFolder};

struct DoctorTest {
    place: TestFolder,
    server: &'static Server,
    proxy: Proxy,
    name: String,
}

impl DoctorTest {
    fn new() -> Option<Self> {
        let server: &Server = shared_ministack()?;
        let proxy = Proxy::start(server.endpoint().trim_start_matches("http://")).unwrap();
        Some(Self { place: TestFolder::new(), server, proxy, name: format!("t{:08x}", fastrand::u32(..)) })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        let table = |what: &str| format!("{}-{what}", self.name);
        command
            .env("AWS_ACCESS_KEY_ID", self.server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.server.secret_key())
            .env("DOCWEIR__AWS__REGION", "eu-central-1")
            .env("DOCWEIR__AWS__ENDPOINT", format!("http://{}", self.proxy.address()))
            .env("DOCWEIR__AWS__ATTEMPTS", "1")
            .env("DOCWEIR__STATE__BACKEND", "aws")
            .env("DOCWEIR__BUCKETS__ARTEFACTS", format!("{}/docs", self.name))
            .env("DOCWEIR__S3__PATH_STYLE", "true")
            .env("DOCWEIR__DYNAMODB__CONTROL_TABLE", table("control"))
            .env("DOCWEIR__DYNAMODB__AUDIT_TABLE", table("audit"))
            .env("DOCWEIR__DYNAMODB__METRICS_TABLE", table("metrics"))
            .env("DOCWEIR__DYNAMODB__STATE_TABLE", table("state"))
            .env("DOCWEIR__DYNAMODB__LEDGER_TABLE", table("ledger"))
            .env("DOCWEIR__DYNAMODB__BATCHES_TABLE", table("batches"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Runs `docweir doctor` while the proxy applies `rule`. Returns the findings and the exit code.
    fn examine(&self, rule: impl FnMut(&str) -> Act + Send + 'static) -> (Vec<Value>, Option<i32>) {
        self.proxy.set(rule);
        let ran = self.run(&["doctor", "--json"]);
        (ran.json(), ran.status.code())
    }
}

#[track_caller]
fn one<'f>(findings: &'f [Value], check: &str, subject: &str) -> &'f Value {
    let found = findings.iter().find(|f| f["check"] == check && f["subject"].as_str().unwrap().contains(subject));
    found.unwrap_or_else(|| panic!("no {check} {subject} in {findings:#?}"))
}

#[track_caller]
fn is(finding: &Value, verdict: &str, parts: &[&str]) {
    assert_eq!(finding["verdict"], verdict, "{finding}");
    let text = format!("{} {}", finding["text"], finding["fix"]);
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} in {finding}");
}

fn answer(status: &str, kind: &str, more: &str, body: &str) -> Act {
    let length = body.len();
    Act::Reply(format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

#[test]
fn what_is_missing_denied_or_out_of_time_in_aws_is_told() {
    let Some(clinic) = DoctorTest::new() else { return };
    let (found, code) = clinic.examine(|_| Act::Pass);
    assert_eq!(code, Some(1));
    is(one(&found, "credentials", ""), "fine", &["arn:aws"]);
    is(one(&found, "clock", ""), "fine", &["within"]);
    is(one(&found, "table", "control"), "problem", &["docweir infra apply"]);
    is(one(&found, "bucket", ""), "problem", &["does not exist", "docweir infra apply"]);
    clinic.run(&["infra", "apply"]).code(0);
    let name_of_queue = format!("{}-intake", clinic.name);
    let (found, code) = clinic.examine(|_| Act::Pass);
    assert_eq!(code, Some(0), "{found:#?}");
    for table in ["control", "audit", "metrics", "state"] {
        is(one(&found, "table", table), "fine", &["read and written"]);
    }
    is(one(&found, "bucket", ""), "fine", &["honours conditions"]);
    let more = |command: &mut Command| {
        command.env("DOCWEIR__QUEUES__INTAKE", &name_of_queue).env("DOCWEIR__ENRICH__OPTIONS__PROVIDER", "comprehend");
        command.env("DOCWEIR__ENRICH__OPTIONS__COMPREHEND__ENDPOINT", "http://127.0.0.1:9");
        Ran::of(command.output().unwrap())
    };
    let ran = more(&mut clinic.command(&["doctor", "--json"]));
    is(one(&ran.code(1).json(), "queue", &name_of_queue), "problem", &["does not exist", "docweir infra apply"]);
    is(one(&ran.json(), "comprehend", ""), "problem", &["be called", "endpoint"]);
    more(&mut clinic.command(&["infra", "apply"])).code(0);
    let ran = more(&mut clinic.command(&["doctor", "--json"]));
    is(one(&ran.json(), "queue", &name_of_queue), "fine", &["0 in flight"]);
    // The checks leave no object and no item behind.
    let bucket = format!("s3://{}", clinic.name);
    let left = Command::new(docweir_testkit::servers::program("aws").unwrap())
        .args([
            "--endpoint-url",
            clinic.server.endpoint(),
            "--region",
            "eu-central-1",
            "s3",
            "ls",
            "--recursive",
            &bucket,
        ])
        .env("AWS_ACCESS_KEY_ID", clinic.server.access_key())
        .env("AWS_SECRET_ACCESS_KEY", clinic.server.secret_key())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "");
    let table = format!("{}-state", clinic.name);
    let scan = aws(clinic.server, clinic.place.path(), &["dynamodb", "scan", "--table-name", &table]);
    assert_eq!(serde_json::from_str::<Value>(&scan).unwrap()["Count"], 0);

    // First, writes to tables are denied. Later, puts of objects are denied.
    let json = "application/x-amz-json-1.0";
    let no = r#"{"__type":"AccessDeniedException","Message":"User: x is not authorized to perform: dynamodb:PutItem"}"#;
    let (found, code) = clinic.examine(move |head| match head.contains("TransactWriteItems") {
        true => answer("400 Bad Request", json, "", no),
        false => Act::Pass,
    });
    assert_eq!(code, Some(1));
    is(one(&found, "table", "control"), "problem", &["AccessDenied", "docweir infra policy --role serve"]);
    is(one(&found, "bucket", ""), "fine", &[]);
    let (found, _) = clinic.examine(|head| match head.starts_with("PUT") {
        true => answer("403 Forbidden", "application/xml", "", "<Error><Code>AccessDenied</Code></Error>"),
        false => Act::Pass,
    });
    is(one(&found, "bucket", ""), "problem", &["be written", "docweir infra policy --role serve"]);

    // The server overwrites an existing object in spite of the condition.
    let (found, _) = clinic.examine(|head| {
        let is_listing = head.lines().next().is_some_and(|line| line.contains("list-type"));
        match (head.split(' ').next(), head.contains("/doctor/")) {
            (Some("PUT"), true) => answer("200 OK", "application/xml", "ETag: \"1\"\r\n", ""),
            (Some("GET"), true) if !is_listing => answer("200 OK", "text/plain", "ETag: \"1\"\r\n", "1"),
            _ => Act::Pass,
        }
    });
    is(one(&found, "bucket", ""), "problem", &["overwrites", "buckets.register"]);

    // The control table lacks an index.
    let name = format!("{}-control", clinic.name);
    let args = ["dynamodb", "delete-table", "--table-name", &name];
    aws(clinic.server, clinic.place.path(), &args);
    let key = |n: &str, k: &str| format!("AttributeName={n},KeyType={k}");
    let of = |n: &str| format!("AttributeName={n},AttributeType=S");
    let (a, b) = ("document_id", "processing_version");
    aws(
        clinic.server,
        clinic.place.path(),
        &[
            "dynamodb",
            "create-table",
            "--table-name",
            &name,
            "--billing-mode",
            "PAY_PER_REQUEST",
            "--key-schema",
            &key(a, "HASH"),
            &key(b, "RANGE"),
            "--attribute-definitions",
            &of(a),
            &of(b),
        ],
    );
    let (found, _) = clinic.examine(|_| Act::Pass);
    is(one(&found, "table", "control"), "problem", &["status-updated-index"]);

    // Three cases: the server rejects the credentials and its clock differs; no server answers; no region is
    // configured.
    let refused = r"<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>the token is invalid</Message></Error></ErrorResponse>";
    let (found, code) = clinic
        .examine(move |_| answer("403 Forbidden", "text/xml", "Date: Mon, 02 Jan 2006 15:04:05 GMT\r\n", refused));
    assert_eq!(code, Some(1));
    is(one(&found, "credentials", ""), "problem", &["InvalidClientTokenId", "AWS_ACCESS_KEY_ID"]);
    is(one(&found, "clock", ""), "problem", &["ahead of AWS's", "timedatectl"]);
    let ran = Ran::of(
        clinic.command(&["doctor", "--json"]).env("DOCWEIR__AWS__ENDPOINT", "http://127.0.0.1:9").output().unwrap(),
    );
    is(one(&ran.code(1).json(), "credentials", ""), "problem", &["aws.endpoint"]);
    let mut command = clinic.command(&["doctor", "--json"]);
    command.env("DOCWEIR__AWS__REGION", "").env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", clinic.place.path());
    let ran = Ran::of(command.output().unwrap());
    is(one(&ran.code(1).json(), "region", ""), "problem", &["aws.region"]);
}
