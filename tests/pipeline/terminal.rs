//! Tests that no input drives the terminal: names, arguments, configuration keys and stored ids are printed without
//! control characters and direction marks, and JSON escapes them.

use std::process::Stdio;

use crate::kit::{Ran, TestFolder};

/// Clears the screen, sets the title of the window, and reverses the direction of the text.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}y";

/// Asserts that a text contains nothing that a terminal obeys, except colours.
fn assert_harmless(text: &str, what: &str) {
    let mut rest = text.to_owned();
    for code in ["0", "1", "2", "31", "32", "33", "34", "35", "3", "4", "1;33"] {
        rest = rest.replace(&format!("\u{1b}[{code}m"), "");
    }
    let bad =
        rest.chars().find(|c| (c.is_control() && *c != '\n' && *c != '\t') || matches!(c, '\u{202a}'..='\u{202e}'));
    assert_eq!(bad, None, "{what}: {text:?}");
}

fn check(ran: &Ran, what: &str) {
    assert_harmless(&ran.out, what);
    assert_harmless(&ran.err, what);
}

#[test]
fn names_and_arguments_do_not_drive_the_terminal() {
    let place = TestFolder::new();
    place.write(format!("{HOSTILE}.txt"), "Harmless text about a lease.\n");
    place.write(format!("{HOSTILE}.pdf"), "not a pdf");
    let name = format!("docs/{HOSTILE}.txt");
    for colour in ["always", "never"] {
        let run = |arguments: &[&str], what: &str| {
            let ran = place.run([&["--color", colour][..], arguments].concat());
            check(&ran, what);
            ran
        };
        run(&["ingest", "docs", "--progress", "plain"], "ingest");
        run(&["search", "lease"], "search");
        run(&["search", HOSTILE, "lease"], "a hostile question");
        run(&["status"], "status");
        run(&["status", &name], "status of a document");
        run(&["audit", &name], "audit");
        run(&["quarantine", "list"], "quarantine list");
        run(&["quarantine", "show", &format!("docs/{HOSTILE}.pdf")], "quarantine show");
        run(&["retry", &format!("docs/{HOSTILE}.pdf")], "retry");
        run(&["delete", &format!("docs/{HOSTILE}-missing.pdf")], "delete a missing document");
        run(&["ingest", &format!("docs/{HOSTILE}-missing")], "ingest a missing folder");
        run(&["search", "--collection", HOSTILE, "lease"], "an unknown collection");
        run(&["batch", "show", HOSTILE], "an unknown batch");
        run(&["--set", &format!("{HOSTILE}=1"), "status"], "an unknown key");
        run(&["--set", &format!("embed.options.openai.model={HOSTILE}"), "config", "print", "--all"], "a model id");
        run(&["--set", &format!("embed.options.provider={HOSTILE}"), "status"], "a bad value");
        run(&[&format!("--{HOSTILE}")], "an unknown option").code(2);
        run(&[HOSTILE], "an unknown command").code(2);
        run(&["stage", "extract", &name], "stage");
        run(&["estimate", "docs"], "estimate");
    }
    let json = place.run(["status", &name, "--json"]);
    json.code(0);
    check(&json, "JSON");
    let source = json.json()[0]["source"].as_str().unwrap().to_owned();
    assert!(source.ends_with("y.txt"), "{source}");
    check(&place.run(["search", "lease", "--json"]), "JSON of a search");
    check(&place.run(["quarantine", "list", "--json"]), "JSON of the quarantine");
}

#[test]
fn a_configuration_cannot_drive_the_terminal() {
    let place = TestFolder::new();
    for text in [
        "\"\\u001b[2J\\u202e\" = 1\n".to_owned(),
        "[enrich.options]\nprovider = \"\\u001b[2J\\u009b31m\"\n".to_owned(),
        format!("# {HOSTILE}\n[[["),
    ] {
        let path = place.path().join("hostile.toml");
        std::fs::write(&path, &text).unwrap();
        let ran = place.run(["--config", path.to_str().unwrap(), "status"]);
        check(&ran, &text);
        ran.code(4);
    }
}

/// Writes the output to `/dev/full`, which behaves like a full disk.
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let place = TestFolder::new();
    place.write("a.txt", "One.\n");
    place.ingest(&[]).code(0);
    for arguments in [
        &["search", "one", "--json"][..],
        &["search", "one"],
        &["status"],
        &["status", "--json"],
        &["cost"],
        &["config", "print"],
        &["ingest", "docs", "--json"],
        &["completions", "bash"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = place.command(arguments);
        let ran = Ran::of(command.stdout(full).stderr(Stdio::piped()).output().unwrap());
        ran.code(70);
        assert!(ran.err.contains("cannot write to standard output"), "{arguments:?}: {}", ran.err);
        // A reader that has seen enough is no failure.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = Ran::of(place.command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap());
        ran.code(0);
    }
}

/// Runs a command in a terminal of this kind, by the program `script`.
fn in_terminal(place: &TestFolder, term: &str) -> String {
    let program = env!("CARGO_BIN_EXE_docweir");
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &format!("{program} status"), "/dev/null"]).current_dir(place.path());
    command.env("TERM", term).env_remove("NO_COLOR").stdin(Stdio::null());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_dumb_terminal_gets_no_colours() {
    let place = TestFolder::new();
    place.write("a.txt", "Harmless text about a lease.\n");
    place.ingest(&[]).code(0);
    for (term, coloured) in [("xterm", true), ("dumb", false)] {
        let shown = in_terminal(&place, term);
        assert!(shown.contains("completed"), "{shown}");
        assert_eq!(shown.contains('\u{1b}'), coloured, "{term}: {shown:?}");
    }
}
