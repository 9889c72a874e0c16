//! Tests state in AWS, with one or more processes of the real binary and local servers that speak AWS's protocols.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::account::{Account, dynoxide, ministack, seaweedfs};
use crate::kit::{Ran, Running, TestFolder, eventually, results};

pub const INGEST: [&str; 5] = ["ingest", "docs", "--json", "--progress", "none"];

fn a_folder_becomes_searchable_with_all_state_in_aws(account: &Account) {
    account.place.generate(6);
    let summary = account.run("one", &INGEST).code(0).summary();
    assert_eq!((summary["completed"].as_u64(), summary["registered"].as_u64()), (Some(6), Some(6)), "{summary}");
    let place = format!("s3://{0}/docs, DynamoDB table {0}-control", account.name);
    assert_eq!(summary["state"], *place, "{summary}");
    account.assert_complete(6);
    // A search on another machine, which ingested nothing, finds the document.
    let marker = docweir_testkit::marker(3, 1);
    let found = account.run("two", &["search", &marker, "--mode", "full-text", "--json"]);
    assert!(results(&found.code(0).json()[0])[0]["source"].as_str().unwrap().ends_with("0003.pdf"), "{}", found.out);
    let summary = account.run("two", &INGEST).code(0).summary();
    assert_eq!(summary["unchanged"], 6, "{summary}");
    account.run("two", &["compact", "--all"]).code(0);
    account.run("one", &["infra", "check"]).code(0);
}

#[test]
fn a_folder_becomes_searchable_on_seaweedfs_and_ministack() {
    let Some(account) = Account::new(seaweedfs(), ministack(), false) else { return };
    a_folder_becomes_searchable_with_all_state_in_aws(&account);
}

#[test]
fn a_folder_becomes_searchable_on_ministack_and_dynoxide() {
    let Some(account) = Account::new(ministack(), dynoxide(), true) else { return };
    a_folder_becomes_searchable_with_all_state_in_aws(&account);
}

/// Keeps objects in S3 and control records on this machine. DynamoDB is not needed.
#[test]
fn objects_lie_in_s3_and_control_records_in_the_folder() {
    let (Some(s3), Some(dynamo)) = (seaweedfs(), dynoxide()) else { return };
    let mut account = Account::plain(s3, dynamo, false);
    account.more.push(("DOCWEIR__STATE__BACKEND", "folder".into()));
    account.more.push(("DOCWEIR__STATE__OBJECTS", "s3".into()));
    // The program must not access DynamoDB.
    account.more.push(("DOCWEIR__DYNAMODB__ENDPOINT", "http://127.0.0.1:9".into()));
    let account = account.made();
    account.place.generate(4);
    let summary = account.run("one", &INGEST).code(0).summary();
    assert_eq!(summary["completed"], 4, "{summary}");
    assert_eq!(summary["state"], format!("s3://{}/docs, .docweir-one", account.name), "{summary}");
    let folder = account.place.path().join(".docweir-one");
    assert!(folder.join("control.db").exists());
    assert!(!folder.join("objects").join("vectors").exists(), "vectors must be in S3 only");
    let marker = docweir_testkit::marker(3, 1);
    let found = account.run("one", &["search", &marker, "--mode", "full-text", "--json"]);
    assert!(results(&found.code(0).json()[0])[0]["source"].as_str().unwrap().ends_with("0003.pdf"), "{}", found.out);
    account.run("one", &["compact", "--all"]).code(0);
    account.run("one", &["store", "verify"]).code(0);
    account.run("one", &["delete", "docs/0003.pdf"]).code(0);
    account.run("one", &["search", &marker, "--mode", "full-text"]).code(1);
    account.run("one", &["infra", "check"]).code(0);
}

/// Checks that control records in DynamoDB are refused if the objects are in a local folder, because other machines
/// could not read that folder.
#[test]
fn control_records_in_dynamodb_need_objects_in_s3() {
    let place = TestFolder::new();
    let mut command = place.command(["status"]);
    command.env("DOCWEIR__STATE__CONTROL", "dynamodb");
    let refused = Ran::of(command.output().unwrap());
    refused.code(4);
    assert!(refused.err.contains("state.objects") && refused.err.contains("must be `s3`"), "{}", refused.err);
}

/// Shares the work among four processes. One process is killed. Another process is stopped until its leases have
/// expired, and then continues.
#[test]
fn replicas_share_the_work_and_one_that_dies_or_stalls_loses_nothing() {
    let Some(account) = Account::new(seaweedfs(), dynoxide(), false) else { return };
    const DOCUMENTS: usize = 60;
    account.place.generate(DOCUMENTS as u64);
    let mut replicas: Vec<Running> = (0..4).map(|n| account.spawn(&format!("r{n}"), &INGEST)).collect();
    let begun = || {
        let status = account.run("reader", &["status", "--json"]);
        status.json().first().is_some_and(|s| s["documents"]["COMPLETED"].as_u64() >= Some(3))
    };
    eventually("some documents are complete", begun);
    replicas.remove(0).signal(Signal::KILL);
    replicas[0].signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(8));
    replicas[0].signal(Signal::CONT);
    for replica in replicas {
        replica.finish().code(0);
    }
    account.assert_complete(DOCUMENTS);
}

/// Stops a process while it holds documents. A second process must take these documents over and complete them before
/// its own run ends.
#[test]
fn a_run_does_not_end_beside_documents_of_one_that_stalls() {
    let Some(account) = Account::new(seaweedfs(), dynoxide(), false) else { return };
    account.place.generate(3);
    let mut stalls = account.command("stalls", &INGEST);
    stalls.env("DOCWEIR_FAILPOINT", "embedding.begun=stop:1").stdout(Stdio::piped()).stderr(Stdio::piped());
    let stalled = Running::of(stalls.spawn().unwrap());
    let has_begun = || {
        let status = account.run("reader", &["status", "--all", "--json"]);
        status.json().iter().any(|record| record["stage_status"]["embedding"]["status"] == "IN_PROGRESS")
    };
    eventually("a document is being embedded", has_begun);
    let ran = account.run("two", &["ingest", "docs", "--progress", "plain"]);
    assert!(ran.code(0).err.contains("other processes have claimed"), "{}", ran.err);
    account.assert_complete(3);
    stalled.signal(Signal::CONT);
    stalled.finish().code(0);
    account.assert_complete(3);
}

/// Stops a process that works on a document, and deletes the document. When the process continues, its writes must
/// leave nothing behind.
#[test]
fn a_document_deleted_beside_one_that_stalls_leaves_nothing() {
    let Some(account) = Account::new(seaweedfs(), ministack(), false) else { return };
    account.place.generate(1);
    let mut stalls = account.command("stalls", &INGEST);
    stalls.env("DOCWEIR_FAILPOINT", "embedding.begun=stop:1").stdout(Stdio::piped()).stderr(Stdio::piped());
    let stalled = Running::of(stalls.spawn().unwrap());
    let is_embedding = || {
        let status = account.run("reader", &["status", "--all", "--json"]);
        status.json().iter().any(|record| record["stage_status"]["embedding"]["status"] == "IN_PROGRESS")
    };
    eventually("the document is being embedded", is_embedding);
    let objects = || {
        let list = ["s3api", "list-objects-v2", "--bucket", &account.name, "--prefix", "docs/"];
        let listed: serde_json::Value = serde_json::from_str(&account.aws(account.s3, &list)).unwrap_or_default();
        let keys = listed["Contents"].as_array().cloned().unwrap_or_default();
        let keys = keys.iter().map(|object| object["Key"].as_str().unwrap().to_owned());
        let of_documents = ["docs/extracted/", "docs/chunks/", "docs/enriched/", "docs/embeddings/"];
        keys.filter(|key| of_documents.iter().any(|prefix| key.starts_with(prefix))).collect::<Vec<_>>()
    };
    assert!(!objects().is_empty());
    let deleted = account.run("two", &["delete", "docs/0000.pdf"]);
    assert!(deleted.code(0).out.contains("deleted: "), "{}", deleted.out);
    assert_eq!(objects(), Vec::<String>::new());
    stalled.signal(Signal::CONT);
    stalled.finish().code(0);
    assert_eq!(objects(), Vec::<String>::new());
    let marker = docweir_testkit::marker(0, 1);
    let found = account.run("two", &["search", &marker, "--mode", "full-text", "--json"]);
    assert!(found.json().first().is_none_or(|found| results(found).is_empty()), "{}", found.out);
}

/// Ingests the files of a bucket. A service then processes a document whose control record was written in the format of
/// the former system, which Docweir replaces. When that record is reset by hand, the service must process the document
/// again.
#[test]
fn documents_of_a_bucket_and_of_others_are_done_by_a_service() {
    let Some(account) = Account::new(seaweedfs(), ministack(), false) else { return };
    account.place.generate(5);
    let bucket = format!("s3://{}", account.name);
    account.aws(account.s3, &["s3", "cp", "docs", &format!("{bucket}/input/a b+ü/"), "--recursive"]);
    account.aws(account.s3, &["s3", "cp", "docs/0001.pdf", &format!("{bucket}/input/_quarantine/doc_1/v1/x.pdf")]);
    account.aws(account.s3, &["s3", "cp", "docs/0001.pdf", &format!("{bucket}/input/notes.bin")]);
    account.aws(account.s3, &["s3", "cp", "docs/0002.pdf", &format!("{bucket}/elsewhere/Zwei.PDF")]);
    let input = format!("{bucket}/input/");
    let summary = account.run("one", &["ingest", &input, "--json", "--progress", "none"]).code(0).summary();
    assert_eq!((&summary["completed"], &summary["files"]), (&5.into(), &5.into()), "{summary}");
    account.assert_complete(5);
    let none = account.run("one", &["ingest", &format!("{bucket}/none.pdf"), "--json", "--progress", "none"]);
    assert!(
        none.status.code() != Some(0) && none.err.contains("no longer exists") || none.err.contains("cannot list"),
        "{}",
        none.err
    );

    let service = account.spawn("two", &["serve", "--json", "--progress", "none"]);
    let (id, table) = ("doc_20250131_abc123", format!("{}-control", account.name));
    let item = format!(
        r#"{{"document_id": {{"S": "{id}"}}, "processing_version": {{"S": "v1"}}, "source_bucket": {{"S": "{}"}},
            "source_s3_key": {{"S": "elsewhere/Zwei.PDF"}}, "file_size_bytes": {{"N": "1000"}}, "status": {{"S": "PENDING"}},
            "upload_timestamp": {{"S": "2025-01-31T10:00:00.000000Z"}}, "current_stage": {{"S": "SUBMITTED"}},
            "created_at": {{"S": "2025-01-31T10:00:00.000000Z"}}, "updated_at": {{"S": "2025-01-31T10:00:00.000000Z"}},
            "retry_count": {{"N": "0"}}, "max_retries": {{"N": "3"}}}}"#,
        account.name
    );
    account.aws(account.dynamo, &["dynamodb", "put-item", "--table-name", &table, "--item", &item]);
    let is_complete = || account.item(id)["status"]["S"] == "COMPLETED";
    eventually("the document of the former system is complete", is_complete);
    let done = account.item(id);
    assert_eq!(done["stage_status"]["M"]["loading"]["M"]["status"]["S"], "COMPLETED", "{done}");
    assert_eq!(done["current_stage"]["S"], "STAGE_5_COMPLETE", "{done}");
    let version = |item: &serde_json::Value| item["version"]["N"].as_str().unwrap().parse::<u64>().unwrap();
    let key = format!(r#"{{"document_id": {{"S": "{id}"}}, "processing_version": {{"S": "v1"}}}}"#);
    account.aws(
        account.dynamo,
        &[
            "dynamodb",
            "update-item",
            "--table-name",
            &table,
            "--key",
            &key,
            "--update-expression",
            "SET #s = :p, retry_count = :z",
            "--expression-attribute-names",
            r##"{"#s": "status"}"##,
            "--expression-attribute-values",
            r#"{":p": {"S": "PENDING"}, ":z": {"N": "0"}}"#,
        ],
    );
    eventually("the document is complete again after the reset", || {
        is_complete() && version(&account.item(id)) > version(&done)
    });
    service.signal(Signal::TERM);
    let ended = service.finish();
    assert_eq!(ended.summary()["ended"], "interrupted", "{}", ended.out);
}
