//! Tests the policies that `docweir infra policy` prints. A proxy in front of the servers refuses every request that
//! the policy of the current role does not allow, and each role must still do its work.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::{Server, shared_ministack};
use serde_json::{Value, json};

use crate::account::aws;
use crate::kit::{Ran, TestFolder, results};
use crate::table::receipt_items;

/// Holds the IAM action and the resource of a request.
type IamRequest = (String, String);

struct PolicyProxy {
    place: TestFolder,
    server: &'static Server,
    proxy: Proxy,
    name: String,
    /// All requests of the current role.
    asked: Arc<Mutex<BTreeSet<IamRequest>>>,
    /// Requests of the current role that were refused.
    refused: Arc<Mutex<BTreeSet<IamRequest>>>,
}

impl PolicyProxy {
    fn new() -> Option<Self> {
        let server: &Server = shared_ministack()?;
        let proxy = Proxy::start(server.endpoint().trim_start_matches("http://")).unwrap();
        let name = format!("t{:08x}", fastrand::u32(..));
        let (asked, refused) = Default::default();
        Some(Self { place: TestFolder::new(), server, proxy, name, asked, refused })
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
            .env("DOCWEIR__RETRY__ALONE_SECONDS", "1")
            .env("DOCWEIR__RETRY__OUTAGE_SECONDS", "4")
            .env("DOCWEIR__STATE__BACKEND", "aws")
            .env("DOCWEIR__BUCKETS__ARTEFACTS", format!("{}/docs", self.name))
            .env("DOCWEIR__BUCKETS__VECTORS", format!("{}-vectors", self.name))
            .env("DOCWEIR__S3__PATH_STYLE", "true")
            .env("DOCWEIR__S3__PART_BYTES", "5242880")
            .env("DOCWEIR__DYNAMODB__CONTROL_TABLE", table("control"))
            .env("DOCWEIR__DYNAMODB__AUDIT_TABLE", table("audit"))
            .env("DOCWEIR__DYNAMODB__METRICS_TABLE", table("metrics"))
            .env("DOCWEIR__DYNAMODB__STATE_TABLE", table("state"))
            .env("DOCWEIR__DYNAMODB__LEDGER_TABLE", table("ledger"))
            .env("DOCWEIR__DYNAMODB__BATCHES_TABLE", table("batches"))
            .env("DOCWEIR__RECORDS__TABLE__NAME", table("receipts"))
            .env("DOCWEIR__CLOUDWATCH__MODE", "api");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Creates a user's table with three records that wait to be embedded: one line of a receipt and the two words in
    /// that line. Returns the table's name.
    fn receipts(&self) -> String {
        let table = format!("{}-receipts", self.name);
        let s = |name: &str| format!("AttributeName={name},AttributeType=S");
        let index = r#"[{"IndexName": "embedding-status-index", "Projection": {"ProjectionType": "KEYS_ONLY"},
            "KeySchema": [{"AttributeName": "embedding_status", "KeyType": "HASH"}]}]"#;
        let call = |args: &[&str]| aws(self.server, self.place.path(), args);
        call(&[
            "dynamodb",
            "create-table",
            "--table-name",
            &table,
            "--billing-mode",
            "PAY_PER_REQUEST",
            "--attribute-definitions",
            &s("PK"),
            &s("SK"),
            &s("embedding_status"),
            "--key-schema",
            "AttributeName=PK,KeyType=HASH",
            "AttributeName=SK,KeyType=RANGE",
            "--global-secondary-indexes",
            index,
        ]);
        let puts: Vec<Value> = receipt_items(1).into_iter().take(3).map(|item| {
            let bounds = &item["bounding_box"];
            let number = |name: &str| json!({ "N": bounds[name].to_string() });
            let text = |name: &str| json!({ "S": item[name] });
            json!({"PutRequest": {"Item": {
                "PK": text("PK"), "SK": text("SK"), "text": text("text"), "embedding_status": text("embedding_status"),
                "bounding_box": {"M": {
                    "x": number("x"), "y": number("y"), "width": number("width"), "height": number("height"),
                }},
            }}})
        }).collect();
        call(&["dynamodb", "batch-write-item", "--request-items", &json!({ &table: puts }).to_string()]);
        table
    }

    /// Makes the proxy enforce the policy of a role. The proxy refuses requests that the policy does not allow, with
    /// the reply that AWS would send. Returns the allowed actions.
    fn enforce(&self, role: &str) -> BTreeSet<String> {
        let other = format!("s3://{}-papers/2026/", self.name);
        let printed = self.run(&["infra", "policy", "--role", role, "--documents", &other]);
        let policy: Value = serde_json::from_str(&printed.code(0).out).unwrap();
        let statements = policy["Statement"].as_array().unwrap().clone();
        let allows = texts_of(&statements, "Action");
        self.asked.lock().unwrap().clear();
        let (asked, refused) = (self.asked.clone(), self.refused.clone());
        self.proxy.set_by_all(move |head, body| {
            for question in questions(head, body) {
                asked.lock().unwrap().insert(question.clone());
                if !statements.iter().any(|statement| covers(statement, &question)) {
                    refused.lock().unwrap().insert(question);
                    return denied(head);
                }
            }
            Act::Pass
        });
        allows
    }

    /// Asserts that no request was refused, and that the role used all allowed actions except those in `rare`.
    #[track_caller]
    fn assert_fits(&self, role: &str, allows: &BTreeSet<String>, rare: &[&str]) {
        assert_eq!(*self.refused.lock().unwrap(), BTreeSet::new(), "{role} lacks permissions");
        let used: BTreeSet<String> = self.asked.lock().unwrap().iter().map(|(action, _)| action.clone()).collect();
        let unused: Vec<&str> = allows.difference(&used).map(String::as_str).collect();
        assert_eq!(unused, rare, "{role} has permissions that it does not need");
    }
}

fn texts_of(statements: &[Value], name: &str) -> BTreeSet<String> {
    let of = |s: &Value| s[name].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    statements.iter().flat_map(of).collect()
}

fn covers(statement: &Value, (action, resource): &IamRequest) -> bool {
    let statement = std::slice::from_ref(statement);
    let meant = texts_of(statement, "Resource").iter().any(|pattern| matches(pattern, resource));
    meant && texts_of(statement, "Action").contains(action)
}

/// Returns whether an IAM pattern matches a text. `*` stands for any text, and `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern = regex::escape(pattern).replace(r"\*", ".*").replace(r"\?", ".");
    regex::Regex::new(&format!("^{pattern}$")).unwrap().is_match(text)
}

#[test]
fn patterns_are_those_of_policies() {
    assert!(matches("arn:aws:s3:::a/docs/*", "arn:aws:s3:::a/docs/x/y"));
    assert!(!matches("arn:aws:s3:::a/docs/*", "arn:aws:s3:::a/other/x"));
    assert!(!matches("arn:aws:s3:::a", "arn:aws:s3:::ab"));
    assert!(matches("secret:x-??????", "secret:x-AbCdEf"));
}

/// Returns the IAM actions and resources that a request needs.
fn questions(head: &str, body: &[u8]) -> Vec<IamRequest> {
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':')).map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let target = header("x-amz-target");
    if let Some((_, operation)) = target.split_once('.').filter(|(service, _)| service.starts_with("DynamoDB")) {
        return of_dynamodb(operation, &serde_json::from_slice(body).unwrap());
    }
    let first = head.lines().next().unwrap_or_default();
    let (method, url) = first.split_once(' ').map(|(m, rest)| (m, rest.split(' ').next().unwrap_or_default())).unwrap();
    if header("authorization").contains("/sts/") {
        return Vec::new();
    }
    if header("authorization").contains("/monitoring/") {
        return vec![("cloudwatch:PutMetricData".into(), "*".into())];
    }
    of_s3(method, url, body)
}

fn of_dynamodb(operation: &str, body: &Value) -> Vec<IamRequest> {
    let arn = |table: &Value, index: &Value| {
        let index = index.as_str().map(|index| format!("/index/{index}")).unwrap_or_default();
        format!("arn:aws:dynamodb:eu-central-1:000000000000:table/{}{index}", table.as_str().unwrap())
    };
    match operation {
        "TransactWriteItems" => {
            let of = |item: &Value| {
                let (kind, write) = item.as_object().unwrap().iter().next().unwrap();
                let action = if kind == "ConditionCheck" { "ConditionCheckItem".into() } else { format!("{kind}Item") };
                (format!("dynamodb:{action}"), arn(&write["TableName"], &Value::Null))
            };
            body["TransactItems"].as_array().unwrap().iter().map(of).collect()
        }
        "BatchGetItem" => {
            let tables = body["RequestItems"].as_object().unwrap().keys();
            tables.map(|t| ("dynamodb:BatchGetItem".into(), arn(&t.as_str().into(), &Value::Null))).collect()
        }
        other => vec![(format!("dynamodb:{other}"), arn(&body["TableName"], &body["IndexName"]))],
    }
}

fn of_s3(method: &str, url: &str, body: &[u8]) -> Vec<IamRequest> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let has = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
    let bucket_arn = format!("arn:aws:s3:::{bucket}");
    if key.is_empty() {
        let setting = |name| format!("s3:{}{name}", if method == "GET" { "Get" } else { "Put" });
        let action = match method {
            "POST" if has("delete") => {
                let body = String::from_utf8_lossy(body);
                let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
                return keys.map(|key| ("s3:DeleteObject".into(), format!("{bucket_arn}/{key}"))).collect();
            }
            "PUT" if query.is_empty() || query == "x-id=CreateBucket" => "s3:CreateBucket".into(),
            _ if has("lifecycle") => setting("LifecycleConfiguration"),
            _ if has("encryption") => setting("EncryptionConfiguration"),
            _ if has("publicAccessBlock") => setting("BucketPublicAccessBlock"),
            _ if has("versioning") => "s3:GetBucketVersioning".into(),
            _ if has("versions") => "s3:ListBucketVersions".into(),
            _ if has("uploads") => "s3:ListBucketMultipartUploads".into(),
            _ => "s3:ListBucket".into(),
        };
        return vec![(action, bucket_arn)];
    }
    let action = match method {
        "DELETE" if has("uploadId") => "s3:AbortMultipartUpload",
        "DELETE" => "s3:DeleteObject",
        "PUT" | "POST" => "s3:PutObject",
        // S3 reports a missing object only to a caller that may list the bucket.
        _ => return vec![("s3:GetObject".into(), format!("{bucket_arn}/{key}")), ("s3:ListBucket".into(), bucket_arn)],
    };
    vec![(action.into(), format!("{bucket_arn}/{key}"))]
}

fn denied(head: &str) -> Act {
    let (kind, body) = match head.to_ascii_lowercase().contains("x-amz-target:") {
        true => (
            "application/x-amz-json-1.0",
            r#"{"__type":"AccessDeniedException","Message":"not authorized"}"#.to_owned(),
        ),
        false => {
            ("application/xml", "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>".to_owned())
        }
    };
    let status = if kind.ends_with("xml") { "403 Forbidden" } else { "400 Bad Request" };
    let length = body.len();
    Act::Reply(format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

#[test]
fn each_role_does_its_work_with_its_policy_and_needs_all_of_it() {
    let Some(gate) = PolicyProxy::new() else { return };
    gate.place.generate(3);
    let papers = format!("{}-papers", gate.name);
    let s3 = |args: &[&str]| aws(gate.server, gate.place.path(), args);
    s3(&["s3", "mb", &format!("s3://{papers}")]);
    s3(&["s3", "cp", "docs/0001.pdf", &format!("s3://{papers}/2026/a b.pdf")]);
    s3(&["s3", "cp", "docs/0001.pdf", &format!("s3://{papers}/2025/old.pdf")]);

    let infra = gate.enforce("infra");
    gate.run(&["infra", "check"]).code(1);
    gate.run(&["infra", "apply", "--set", "s3.encryption=AES256"]).code(0);
    gate.run(&["infra", "apply"]).code(0);
    gate.run(&["infra", "check"]).code(0);
    // No index is missing.
    gate.assert_fits("infra", &infra, &["dynamodb:UpdateTable"]);
    // The role `infra` must not ingest documents.
    let ran = gate.run(&["ingest", "docs", "--json", "--progress", "none"]);
    assert_ne!(ran.status.code(), Some(0));
    assert!(!gate.refused.lock().unwrap().is_empty());
    gate.refused.lock().unwrap().clear();

    let receipts = gate.receipts();
    let serve = gate.enforce("serve");
    gate.run(&["doctor"]).code(0);
    let ingest = |what: &str| gate.run(&["ingest", what, "--json", "--progress", "none"]);
    assert_eq!(ingest("docs").code(0).summary()["completed"], 3);
    assert_eq!(ingest(&format!("s3://{papers}/2026/")).code(0).summary()["completed"], 1);
    gate.place.write("broken.pdf", "%PDF-1.7\nno document");
    ingest("docs").code(3);
    gate.run(&["quarantine", "list"]).code(0);
    gate.run(&["delete", "docs/0002.pdf"]).code(0);
    ingest("docs");
    gate.run(&["compact", "--all"]).code(0);
    gate.run(&["store", "verify"]).code(0);
    gate.run(&["store", "gc", "--all"]).code(0);
    let ran =
        gate.run(&["ingest", &format!("dynamodb://{receipts}"), "--as", "receipts", "--json", "--progress", "none"]);
    assert_eq!(ran.code(0).summary()["records"]["stored"], 3, "{}", ran.out);
    let told = s3(&["dynamodb", "scan", "--table-name", &receipts]);
    assert_eq!(told.matches(r#""S": "SUCCESS""#).count(), 3, "{told}");
    // Some actions are unused: no extractor finds children yet, which need `ConditionCheckItem`, no upload failed, and the
    // bucket has no versions.
    let unused =
        ["dynamodb:ConditionCheckItem", "s3:AbortMultipartUpload", "s3:DeleteObjectVersion", "s3:ListBucketVersions"];
    gate.assert_fits("serve", &serve, &unused);
    // A table that the configuration does not name is refused.
    let ran = gate.run(&["ingest", "dynamodb://somebody-elses", "--as", "receipts", "--progress", "none"]);
    assert!(ran.status.code() != Some(0) && ran.err.contains("records.table.name"), "{}", ran.err);
    assert_eq!(std::mem::take(&mut *gate.refused.lock().unwrap()).len(), 1);
    // Documents outside the allowed prefix are refused.
    let ran = ingest(&format!("s3://{papers}/2025/"));
    assert_ne!(ran.status.code(), Some(0), "{}", ran.out);
    let denied = gate.refused.lock().unwrap().clone();
    assert!(
        denied.iter().all(|(action, resource)| action == "s3:GetObject" && resource.contains("/2025/")),
        "{denied:?}"
    );
    assert!(!denied.is_empty());
    gate.refused.lock().unwrap().clear();

    let reader = gate.enforce("reader");
    let marker = docweir_testkit::marker(1, 1);
    let found = gate.run(&["search", &marker, "--mode", "full-text", "--json"]);
    assert!(!results(&found.code(0).json()[0]).is_empty(), "{}", found.out);
    let all = gate.run(&["status", "--all", "--json"]).code(0).json();
    gate.run(&["audit", all[0]["document_id"].as_str().unwrap()]).code(0);
    gate.run(&["store", "info"]).code(0);
    gate.assert_fits("reader", &reader, &[]);
    let ran = gate.run(&["delete", "docs/0001.pdf"]);
    assert_ne!(ran.status.code(), Some(0), "the role `reader` must not delete");
    assert!(!gate.refused.lock().unwrap().is_empty());
}
