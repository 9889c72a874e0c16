//! Tests denials of AWS that pass: expired tokens, withdrawn permissions, disabled keys. No document is blamed, no message
//! becomes a dead letter, and the work goes on by itself.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::shared_ministack;
use serde_json::json;

use crate::account::Account;
use crate::kit::{Running, eventually};
use crate::queues::{account, input, intake, messages, put, stop, wait_for_complete, wait_for_empty, with_status};

/// Formats the reply of a service that denies a request, in the protocol of the request.
fn denied(head: &str, status: &str, code: &str) -> Act {
    let lower = head.to_ascii_lowercase();
    let (kind, body) = match lower.contains("x-amz-target:") {
        true => ("application/x-amz-json-1.0", format!(r#"{{"__type":"{code}","message":"denied"}}"#)),
        false => ("application/xml", format!("<Error><Code>{code}</Code><Message>denied</Message></Error>")),
    };
    // Replies to HEAD requests have no body.
    let sent = if head.starts_with("HEAD") { "" } else { &body };
    Act::Reply(format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{sent}",
        body.len()
    ))
}

/// Denies requests for objects of the input folder whose head contains `part`.
fn deny(proxy: &Proxy, part: &'static str, status: &'static str, code: &'static str) {
    proxy.set(move |head| {
        let first = head.lines().next().unwrap_or_default();
        let reads = first.contains("/input/") && !first.starts_with("PUT");
        if reads && head.contains(part) { denied(head, status, code) } else { Act::Pass }
    });
}

/// Creates an account whose requests all go through a proxy. A message moves to the dead letters after one receipt.
fn through_proxy(more: &[(&'static str, &str)]) -> Option<(Arc<Proxy>, Account)> {
    let server = shared_ministack()?;
    let proxy = Arc::new(Proxy::start(server.endpoint().trim_start_matches("http://")).unwrap());
    let endpoint = format!("http://{}", proxy.address());
    let mut all = vec![
        ("DOCWEIR__S3__ENDPOINT", endpoint.as_str()),
        ("DOCWEIR__QUEUES__ENDPOINT", endpoint.as_str()),
        ("DOCWEIR__DYNAMODB__ENDPOINT", endpoint.as_str()),
        ("DOCWEIR__QUEUES__MAX_RECEIVES", "1"),
        ("DOCWEIR__QUEUES__BACKOFF_MAX_SECONDS", "2"),
        ("DOCWEIR__AWS__ATTEMPTS", "1"),
    ];
    all.extend(more);
    Some((proxy, account(&all)?))
}

/// Writes a credentials file, as a tool does that renews a token.
fn credentials(account: &Account, key: &str) -> PathBuf {
    let path = account.place.path().join("credentials");
    let part = account.place.path().join("credentials.part");
    let text = format!("[work]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n");
    std::fs::write(&part, text).unwrap();
    std::fs::rename(&part, &path).unwrap();
    path
}

/// Starts a service that takes its credentials from the profile `work`, and writes its log to a file.
fn serve(account: &Account, more: &[&str]) -> Running {
    let log = std::fs::File::create(account.place.path().join("serve.log")).unwrap();
    let mut command = account.command("one", &[&["serve", "--progress", "none"], more].concat());
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_PROFILE", "work");
    command.env("AWS_SHARED_CREDENTIALS_FILE", account.place.path().join("credentials"));
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    Running::of(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

fn log(account: &Account) -> String {
    std::fs::read_to_string(account.place.path().join("serve.log")).unwrap()
}

fn dead(account: &Account) -> (u64, u64) {
    messages(account, &format!("{}-dead", intake(account)))
}

/// The token of a service expires, first for the source bucket and then for all services. The token is renewed in the
/// credentials file, and the service goes on without a restart.
#[test]
fn an_expired_token_is_renewed_from_the_file_and_no_message_is_lost() {
    // While SQS itself denies access, nobody can extend the time for which a message is hidden.
    let Some((proxy, account)) = through_proxy(&[("DOCWEIR__QUEUES__HIDDEN_SECONDS", "600")]) else { return };
    account.place.generate(4);
    credentials(&account, "OLDKEY");
    let service = serve(&account, &[]);
    put(&account, "docs/0000.pdf", "0000.pdf");
    wait_for_complete(&account, 1);
    deny(&proxy, "Credential=OLDKEY", "400 Bad Request", "ExpiredToken");
    (1..4).for_each(|n| put(&account, &format!("docs/{n:04}.pdf"), &format!("{n:04}.pdf")));
    eventually("a message is held", || messages(&account, &intake(&account)).1 >= 1);
    eventually("the log names the cause", || log(&account).contains("ExpiredToken"));
    proxy.set(|head| match head.contains("Credential=OLDKEY") {
        true => denied(head, "400 Bad Request", "ExpiredTokenException"),
        false => Act::Pass,
    });
    eventually("`status` names the outage", || account.run("one", &["status"]).out.contains("Outage since"));
    assert_eq!((dead(&account), with_status(&account, "QUARANTINED")), ((0, 0), 0));
    credentials(&account, "NEWKEY");
    wait_for_complete(&account, 4);
    wait_for_empty(&account, &intake(&account));
    assert_eq!(dead(&account), (0, 0));
    stop(service);
    account.assert_complete(4);
}

/// A withdrawn permission and a disabled key deny all objects for a while.
#[test]
fn a_denial_of_all_objects_is_waited_out_by_a_run() {
    for (status, code) in [
        ("403 Forbidden", "AccessDenied"),
        ("400 Bad Request", "KMS.DisabledException"),
        ("400 Bad Request", "InvalidToken"),
        ("403 Forbidden", "RequestTimeTooSkewed"),
    ] {
        let Some((proxy, account)) = through_proxy(&[("DOCWEIR__RETRY__ALONE_SECONDS", "1")]) else { return };
        account.place.generate(8);
        account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
        proxy.set(move |head| {
            let first = head.lines().next().unwrap_or_default();
            let reads = first.contains("/input/") && (first.starts_with("GET") || first.starts_with("HEAD"));
            if reads { denied(head, status, code) } else { Act::Pass }
        });
        let run = account.spawn("one", &["ingest", &input(&account), "--json", "--progress", "none"]);
        eventually("`status` names the outage", || {
            let out = account.run("one", &["status"]).out;
            out.contains("Outage since") && out.contains(code)
        });
        proxy.set(|_| Act::Pass);
        let summary = run.finish().code(0).summary();
        assert_eq!((&summary["completed"], &summary["quarantined"]), (&8.into(), &json!([])), "{summary}");
        account.assert_complete(8);
    }
}

/// One object is denied for good, while others can be read. It holds up no other, and is given up after a while.
#[test]
fn an_object_that_alone_is_denied_holds_up_no_other_and_is_given_up() {
    let Some((proxy, account)) = through_proxy(&[("DOCWEIR__RETRY__ALONE_SECONDS", "4")]) else { return };
    account.place.generate(6);
    credentials(&account, "KEY");
    deny(&proxy, "/input/0000.pdf", "403 Forbidden", "AccessDenied");
    let service = serve(&account, &[]);
    account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
    wait_for_complete(&account, 5);
    eventually("the event of the denied object is a dead letter", || dead(&account) == (1, 0));
    assert!(log(&account).contains("while other objects of the bucket can be read"), "{}", log(&account));
    wait_for_empty(&account, &intake(&account));
    let name = format!("{}-dead", intake(&account));
    let status = account.run("one", &["status"]);
    assert!(status.out.contains(&format!("1 failed message in {name}; `docweir queue redrive`")), "{}", status.out);
    let ran = account.run("two", &["ingest", &input(&account), "--json", "--progress", "none"]);
    let summary = ran.code(3).summary();
    let unreadable = summary["unreadable"].as_array().unwrap();
    assert_eq!((&summary["unchanged"], unreadable.len()), (&5.into(), 1), "{summary}");
    assert!(unreadable[0]["source"].as_str().unwrap().ends_with("/0000.pdf"), "{summary}");
    // The permission is granted, and the message is moved back.
    proxy.set(|_| Act::Pass);
    let moved = account.run("one", &["queue", "redrive"]);
    assert!(moved.code(0).out.contains(&format!("{}: 1 message moved back", intake(&account))), "{}", moved.out);
    wait_for_complete(&account, 6);
    assert_eq!(dead(&account), (0, 0));
    stop(service);
}

/// The copies of objects have no room on the local disk. Intake pauses, says why, and goes on.
#[test]
fn a_full_local_disk_pauses_intake() {
    let Some((_proxy, account)) = through_proxy(&[]) else { return };
    account.place.generate(3);
    credentials(&account, "KEY");
    // A file at the place of the folder makes each copy fail as a full disk does.
    let folder = account.place.path().join(".docweir-one");
    let service = serve(&account, &[]);
    eventually("the service has its state folder", || folder.join("lock").exists());
    let _ = std::fs::remove_dir(folder.join("originals"));
    std::fs::write(folder.join("originals"), "").unwrap();
    account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
    eventually("`status` names the disk", || account.run("one", &["status"]).out.contains("local disk unavailable"));
    assert_eq!(dead(&account), (0, 0));
    std::fs::remove_file(folder.join("originals")).unwrap();
    wait_for_complete(&account, 3);
    assert_eq!(dead(&account), (0, 0));
    stop(service);
}
