use proptest::prelude::*;
use serde_json::json;

use super::*;

fn fields(text: &str) -> Value {
    Value::Object(read(text).unwrap_or_else(|| panic!("no front matter: {text}")).info.fields)
}

#[test]
fn yaml_keeps_types_and_spelling() {
    let text = "---
title: >-
  Survey of the
  north channel
owner: 'Maren O''Neill'
tags: [depth, \"tide tables\"]
keywords:
  - sonar
  - 12
project:
  code: 007
  lead: {name: Ada, since: 2019}
zip: 02134
size: 1.10
count: 42
ratio: 0.5
serial: 123456789012345678901
near: 9007199254740993
date: 2024-03-09
at: 2024-03-09T10:00:00Z
draft: false
nothing:
also: ~
quoted: \"true\"
text: !!str 12
more: |
  first line
  second line
  # not a comment
base: &base {a: 1, b: two}
copy:
  <<: *base
  b: three
same: *base
1: one
---
# H
";
    let front = read(text).unwrap();
    let expected = json!({
        "title": "Survey of the north channel", "owner": "Maren O'Neill", "tags": ["depth", "tide tables"],
        "keywords": ["sonar", 12], "project": {"code": "007", "lead": {"name": "Ada", "since": 2019}}, "zip": "02134",
        "size": "1.10", "count": 42, "ratio": 0.5, "serial": "123456789012345678901", "near": "9007199254740993",
        "date": "2024-03-09", "at": "2024-03-09T10:00:00Z", "draft": false, "quoted": "true", "text": "12",
        "more": "first line\nsecond line\n# not a comment", "base": {"a": 1, "b": "two"}, "copy": {"a": 1, "b": "three"},
        "same": {"a": 1, "b": "two"}, "1": "one"
    });
    assert_eq!(Value::Object(front.info.fields.clone()), expected);
    assert_eq!(&text[front.end..], "# H\n");
    assert_eq!(front.notes, Vec::<String>::new());
    let lines: Vec<&str> = front.text.lines().collect();
    assert_eq!(lines[0], "Survey of the north channel");
    for line in [
        "owner: Maren O'Neill",
        "tags: depth, tide tables",
        "project.code: 007",
        "project.lead.name: Ada",
        "zip: 02134",
        "more: first line second line # not a comment",
        "draft: false",
    ] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    assert!(!front.text.contains("nothing") && !front.text.contains("title:"), "{}", front.text);
    let info = front.info;
    assert_eq!(info.title.as_deref(), Some("Survey of the north channel"));
    assert_eq!((info.keywords.as_deref(), info.created.as_deref()), (Some("sonar, 12"), Some("2024-03-09")));
}

#[test]
fn the_other_languages_give_the_same_fields() {
    let expected = json!({
        "title": "Dock log", "code": "007", "n": 5, "big": "12345678901234567890", "version": "1.10", "on": true,
        "day": "2023-01-02", "list": ["a", "b"], "of": {"deep": {"x": "y"}}
    });
    let toml = "title = \"Dock log\"\ncode = \"007\"\nn = 5\nbig = \"12345678901234567890\"\nversion = 1.10\non = true\n\
                day = 2023-01-02\nlist = [\n  \"a\",\n  'b',\n]\n[of.deep]\nx = \"y\"\n";
    let json = "{\n  \"title\": \"Dock log\", \"code\": \"007\",\n  \"n\": 5, \"big\": 12345678901234567890,\n\t\"version\": 1.10, \"on\": true,\n  \"day\": \"2023-01-02\", \"list\": [\"a\", \"b\"],\n  \"of\": {\"deep\": {\"x\": \"y\"}}, \"no\": null\n}";
    for text in [
        format!("+++\n{toml}+++\nBody"),
        format!("---toml\n{toml}---\nBody"),
        format!("---json\n{json}\n---\nBody"),
        format!(";;;\n{json}\n;;;\nBody"),
        format!("{json}\nBody"),
    ] {
        assert_eq!(fields(&text), expected, "{text}");
        assert_eq!(&text[read(&text).unwrap().end..], "Body");
    }
    assert_eq!(fields("---\r\na: b\n...\nBody".replace('\r', "").as_str()), json!({"a": "b"}));
    assert_eq!(fields("{\"a\\u00e9\": \"x\\/y \\ud83d\\ude00\"}"), json!({"aé": "x/y 😀"}));
}

#[test]
fn what_is_no_front_matter_stays_markdown() {
    for text in [
        "",
        "---",
        "---\n",
        "--- \ntext",
        "# H\n---\na: b\n---\n",
        "\n---\na: b\n---\n",
        "---\nA paragraph.\n---\n",
        "---\n- a\n- b\n---\n",
        "{% include x %}\ntext",
        "{.class}",
        "{ not json }\n",
        "{}text",
        "{\"a\": 1} and more",
        "++\na = 1\n++\n",
        "---\nNote this\n\nfoo: bar\n---\n",
    ] {
        assert_eq!(read(text), None, "{text:?}");
    }
    assert_eq!(read("---\n---\nx").unwrap(), FrontMatter { end: 8, ..Default::default() });
    assert_eq!(read("---\n# a comment\n---\n").unwrap().info, DocumentInfo::default());
}

#[test]
fn broken_front_matter_is_kept_as_text_with_the_line() {
    for (text, says, title) in [
        ("---\ntitle: Tides\nnotes: [a, b\nx: y\n---\nBody", "is not valid YAML (line ", Some("Tides")),
        ("---\nowner: x\ntitle: Tides: a history\n---\nBody", "is not valid YAML (line 3)", Some("Tides: a history")),
        ("+++\na = 1\nb = = 2\n+++\nBody", "is not valid TOML (line 3)", None),
        ("---json\n{\"a\": 1,}\n---\nBody", "is not valid JSON (line 2)", None),
        (";;;\n[1]\n;;;\nBody", "is not valid JSON", None),
        ("{\n \"a\": 1,\n \"b\": oops\n}\nBody", "is not valid JSON (line 3)", None),
    ] {
        let front = read(text).unwrap_or_else(|| panic!("{text}"));
        assert!(front.notes[0].contains(says), "{text}: {:?}", front.notes);
        assert_eq!(&text[front.end..], "Body");
        assert!(text.contains(&front.text) && !front.text.is_empty());
        assert_eq!((front.info.title.as_deref(), front.info.fields.len()), (title, 0));
    }
}

#[test]
fn names_of_the_pipeline_and_excess_are_left_out_with_a_note() {
    let front = read("---\ntenant: other\nmedia_type: x\nteam: a\n---\n").unwrap();
    assert_eq!(Value::Object(front.info.fields), json!({"team": "a"}));
    assert_eq!(front.notes.len(), 2);
    assert!(front.notes.iter().any(|n| n.contains("`tenant`")), "{:?}", front.notes);
    let deep = format!("---\na: {}1{}\nb: 2\n---\n", "{x: ".repeat(40), "}".repeat(40));
    let front = read(&deep).unwrap();
    assert_eq!(front.info.fields["b"], 2);
    assert!(front.notes[0].contains("left out: "), "{:?}", front.notes);
    let large = format!("---\na: {}\n---\nBody", "word ".repeat(20_000));
    let front = read(&large).unwrap();
    assert!(front.notes[0].contains("larger than") && front.text.contains("word word"));
}

#[test]
fn aliases_grow_within_the_limits() {
    let mut text = "---\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        text.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
    }
    text.push_str("last: here\n---\n");
    let front = read(&text).unwrap();
    let size = Value::Object(front.info.fields).to_string().len();
    assert!(size < 20_000 && front.notes.len() == 1, "{size} {:?}", front.notes);
    let long = format!("---\na: &a {}\nb: [{}]\n---\n", "long".repeat(2000), vec!["*a"; 900].join(", "));
    let front = read(&long).unwrap();
    assert!(Value::Object(front.info.fields).to_string().len() < 2 * MAX_BYTES);
}

#[test]
fn usual_names_fill_the_document_information() {
    let info =
        read("---\nTitle: T\nauthors:\n  - name: Ada\n    mail: a\n  - Bo\ndescription: D\nlastmod: 2024\n---\n")
            .unwrap()
            .info;
    assert_eq!(
        (info.title.as_deref(), info.author.as_deref(), info.subject.as_deref(), info.modified.as_deref()),
        (Some("T"), Some("Ada, Bo"), Some("D"), Some("2024"))
    );
}

proptest! {
    #[test]
    fn any_front_matter_is_taken(
        open in proptest::sample::select(vec!["---\n", "+++\n", ";;;\n", "---json\n", "---toml\n", "{"]),
        body in "([a-z]{1,3}: |[\\-\\[\\]{}&*!|>'\"%@`#,?:=\\.~<]{0,4}|[a-z0-9 \t]{0,6}|\n|é){0,60}",
        close in proptest::sample::select(vec!["\n---\n", "\n+++\n", "\n;;;\n", "\n}\n", ""]),
    ) {
        let text = format!("{open}{body}{close}rest");
        if let Some(front) = read(&text) {
            prop_assert!(front.end <= text.len() && text.is_char_boundary(front.end));
            prop_assert!(text[front.end..].ends_with("rest") || front.end == text.len());
        }
    }
}
