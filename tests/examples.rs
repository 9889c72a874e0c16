//! Runs the crates' examples that need neither network nor arguments, and checks their output.
//!
//! `cargo test` builds the examples of the whole workspace before it runs a test. If only this test is selected, some
//! examples may not be built. The test then prints a message and skips these examples.

use std::path::Path;
use std::process::Command;

/// Lists the examples. Each has texts that its output must contain, in this order.
const EXAMPLES: [(&str, &[&str]); 13] = [
    ("vocabulary", &["doc_20260131_120005_00abc123 is done at 2026-01-31T12:01:35", "cancelled: "]),
    ("limited_calls", &["turns: many, many, many, few, many", "7 calls took more than 0.2 s: true", "refused: "]),
    ("conditional_put", &["`counter` was changed by another writer", "logs/a, logs/b", "epoch 2 is held by second"]),
    (
        "collection",
        &["version 3: 1 rows of moles", "nearest to the sea:", "whales sing", "merged 4 files: 2 of 5 rows left"],
    ),
    (
        "limits",
        &[
            "kept: 1 write, version 2",
            "one version: true",
            "another dimension: cannot store document `gulls`",
            "too many documents: ",
        ],
    ),
    ("first_page", &["children started: 1", "# Annual Report 2025", "in this process: text/markdown"]),
    ("passages", &["personal data redacted: 1", "vectors of 64 dimensions"]),
    ("claims", &["the first has 1 claim, the second 0", "epochs: 1 and then 2", "its write is refused"]),
    ("openai_embeddings", &["2 vectors of 1536 dimensions", "the ledger has 1 call", "the provider charged"]),
    ("receipts", &["(noise: not embedded)", "line 3: refused: `image_id`", "line 2: refused: the record is not JSON"]),
    ("nearest", &["bytes per row instead of 512", "all rows: found 10 of the 10", "even rows: found 10 of the 10"]),
    ("faults", &["attempt 1: HTTP/1.1 503", "attempt 2: HTTP/1.1 200", "charged: "]),
    ("corpus", &["the same seed gives the same bytes: true", "hostile files"]),
];

#[test]
fn examples_say_what_their_readers_are_told() {
    let folder = Path::new(env!("CARGO_BIN_EXE_docweir")).with_file_name("examples");
    for (name, expected) in EXAMPLES {
        let program = folder.join(name);
        if !program.exists() {
            eprintln!("skipped: {name} was not built");
            continue;
        }
        let ran = Command::new(program).output().unwrap();
        let out = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{name}: {out}{}", String::from_utf8_lossy(&ran.stderr));
        let mut rest = out.as_str();
        for part in expected {
            let at = rest.find(part).unwrap_or_else(|| panic!("the output of {name} lacks {part:?}:\n{out}"));
            rest = &rest[at..];
        }
    }
}
