//! Tests that programs of the former system, which Docweir replaces, can still read and change tables and objects. A
//! script imitates these programs. It uses boto3, an AWS client that shares no code with Docweir.

use std::path::PathBuf;
use std::process::Command;

use docweir_testkit::servers::program;
use rustix::process::Signal;
use serde_json::Value;

use crate::account::{Account, dynoxide, ministack, seaweedfs};
use crate::kit::{Ran, eventually};

/// Runs `tests/servers/read_state.py` on the account and returns its output.
#[track_caller]
fn boto3(account: &Account, args: &[&str]) -> String {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers/read_state.py");
    let mut command = Command::new(program("python").unwrap());
    command.arg(script).args([account.dynamo.endpoint(), account.s3.endpoint(), &account.name]).args(args);
    command
        .env("AWS_ACCESS_KEY_ID", account.s3.access_key())
        .env("AWS_SECRET_ACCESS_KEY", account.s3.secret_key())
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let ran = Ran::of(command.output().unwrap());
    ran.code(0);
    ran.out
}

fn status(account: &Account, id: &str) -> Value {
    account.item(id)["status"]["S"].clone()
}

/// Runs a service on the documents of a bucket, one of which cannot be read. A script then checks all tables and
/// objects with boto3. The script also resets failed documents in the control table, as programs of the former system
/// do.
fn programs_of_the_former_system_go_on(account: Option<Account>) {
    let Some(account) = account else { return };
    account.place.generate(4);
    account.place.write("ümläute.md", "# Über\n\nEin Absatz mit 日本語 und «Zeichen» 🙂, der für sich steht.\n");
    account.place.write("poison.pdf", docweir_testkit::hostile::encrypted_rc4());
    let input = format!("s3://{}/input/", account.name);
    account.aws(account.s3, &["s3", "cp", "docs", &input, "--recursive"]);
    account.run("one", &["submit", &input]).code(0);
    let service = account.spawn("one", &["serve", "--json", "--progress", "none"]);
    let count = |status: &str| {
        let records = account.run("reader", &["status", "--all", "--json"]).code(0).json();
        records.iter().filter(|record| record["status"] == status).count()
    };
    eventually("all documents are complete or in quarantine", || (count("COMPLETED"), count("QUARANTINED")) == (5, 1));
    // When the service has stopped, it has written all daily metrics.
    service.signal(Signal::TERM);
    service.finish().code(143);
    let read = boto3(&account, &["check", "5", "1"]);
    assert!(read.contains("6 records"), "{read}");

    // Three failed documents are retried: one of the former system, one that was discarded, and one in quarantine.
    let (former, records) = ("doc_20250131_abc123", account.run("reader", &["status", "--all", "--json"]).json());
    let poison = records.iter().find(|record| record["status"] == "QUARANTINED").unwrap();
    let poison = poison["document_id"].as_str().unwrap();
    let tried = || {
        let audit_log = account.run("reader", &["audit", poison, "--json"]).code(0).json();
        audit_log.iter().filter(|entry| entry["event_type"] == "DOCUMENT_FAILED").count()
    };
    account.place.write("again.pdf", docweir_testkit::two_pages(77));
    account.aws(account.s3, &["s3", "cp", "docs/again.pdf", &format!("s3://{}/elsewhere/again.pdf", account.name)]);
    boto3(&account, &["put-failed", former, "elsewhere/again.pdf"]);
    account.run("one", &["quarantine", "discard", poison]).code(0);
    assert_eq!((status(&account, former), status(&account, poison)), ("FAILED".into(), "FAILED".into()));
    let service = account.spawn("two", &["serve", "--json", "--progress", "none"]);
    boto3(&account, &["recover", former]);
    boto3(&account, &["recover", poison]);
    eventually("the document of the former system is complete", || status(&account, former) == "COMPLETED");
    eventually("the discarded document was retried", || status(&account, poison) == "QUARANTINED");
    assert_eq!(tried(), 2);
    boto3(&account, &["recover", poison]);
    eventually("the quarantined document was retried", || tried() == 3);
    service.signal(Signal::TERM);
    service.finish().code(143);
    let again = account.item(former);
    let extraction = &again["stage_status"]["M"]["extraction"]["M"];
    assert!(
        extraction["output_sha256"]["S"].is_string(),
        "extraction must run again, although the record lists it as complete: {again}"
    );
    account.run("reader", &["store", "verify"]).code(0);
}

#[test]
fn programs_of_the_former_system_go_on_with_ministack() {
    programs_of_the_former_system_go_on(Account::new(ministack(), ministack(), true));
}

#[test]
fn programs_of_the_former_system_go_on_with_seaweedfs_and_dynoxide() {
    programs_of_the_former_system_go_on(Account::new(seaweedfs(), dynoxide(), false));
}
