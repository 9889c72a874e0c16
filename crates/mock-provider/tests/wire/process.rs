//! Tests the mock provider as a program that runs in its own process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use crate::client::{Client, rows};

fn spawn(arguments: &[&str]) -> (Child, Client) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_docweir-mock-provider"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://127.0.0.1:").unwrap();
    let port = address.strip_suffix("/v1").unwrap().parse().unwrap();
    (child, Client { port, key: "test-key" })
}

#[test]
fn it_says_where_it_listens_and_ends_with_its_input() {
    let (mut child, client) = spawn(&["--port", "0", "--model", "tiny=8"]);
    assert_eq!(client.embed("a").status, 200);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_killed_process_is_taken_up_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--data", folder.path().to_str().unwrap(), "--process-items-per-second", "300"];
    let (mut child, client) = spawn(&arguments);
    let id = client.submit(&rows(300));
    while client.batch(&id)["request_counts"]["completed"].as_u64().unwrap() < 50 {}
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, client) = spawn(&arguments);
    let batch = client.wait(&id, "completed");
    assert_eq!(client.content(&batch["output_file_id"]).lines().len(), 300);
    assert_eq!(client.get("/_mock/charges").json()["batch"]["requests"], 300);
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_mistake_on_the_command_line_is_said_at_once() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_docweir-mock-provider"))
        .args(["--prot", "80"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(said.contains("unknown option --prot"), "{said}");
}
