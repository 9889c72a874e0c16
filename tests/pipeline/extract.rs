//! Tests `docweir extract` on the project's example documents.

use std::io::Write as _;
use std::process::Stdio;

use crate::kit::{Ran, TestFolder};

fn example(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/examples/documents/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn place() -> TestFolder {
    let place = TestFolder::new();
    place.write("report.pdf", example("annual-report-2025.pdf"));
    place
}

fn extract(place: &TestFolder, more: &[&str]) -> Ran {
    place.run([&["extract", "docs/report.pdf"], more].concat())
}

#[test]
fn a_document_becomes_markdown_text_html_and_json() {
    let place = place();
    let markdown = extract(&place, &[]);
    markdown.code(0);
    assert!(markdown.out.contains("# Annual Report 2025\n"), "{}", markdown.out);
    let head = "<tr><td rowspan=\"2\">Quarter</td><td colspan=\"3\">Documents</td><td rowspan=\"2\">Pages</td></tr>";
    assert!(markdown.out.contains(head), "{}", markdown.out);
    let text = extract(&place, &["--format", "text"]);
    assert!(text.code(0).out.contains("First\t18,204\t17,961\t243\t262,140\n"), "{}", text.out);
    let html = extract(&place, &["--format", "html"]);
    assert!(html.code(0).out.contains("<th colspan=\"3\">Documents</th>"), "{}", html.out);
    let json = extract(&place, &["--format", "json"]).json().remove(0);
    let page = json["pages"].as_array().unwrap().iter().find(|page| !page["cells"].is_null()).unwrap();
    let cell = &page["cells"][0];
    let (start, end) = (cell["range"]["start"].as_u64().unwrap(), cell["range"]["end"].as_u64().unwrap());
    assert_eq!(&page["text"].as_str().unwrap()[start as usize..end as usize], "Quarter");
    assert_eq!((&cell["rows"], &cell["columns"]), (&2.into(), &1.into()));
    let docling = extract(&place, &["--format", "docling"]).json().remove(0);
    assert_eq!((&docling["schema_name"], &docling["name"]), (&"DoclingDocument".into(), &"report".into()));
    assert!(!place.state().exists(), "the command needs no state");
}

#[test]
fn pages_are_chosen_and_what_does_not_exist_is_named() {
    let place = place();
    let pages = |wanted: &str| {
        let json = extract(&place, &["--format", "json", "--pages", wanted]).json().remove(0);
        let pages = json["pages"].as_array().unwrap().iter().map(|page| page["number"].as_u64().unwrap());
        pages.collect::<Vec<_>>()
    };
    assert_eq!(pages("2"), [2]);
    assert_eq!(pages("3-,1"), [1, 3, 4]);
    let none = extract(&place, &["--pages", "9"]);
    assert!(none.code(1).err.contains("has 4 pages; `--pages` names none of them"), "{}", none.err);
    let wrong = extract(&place, &["--pages", "4-2"]);
    assert!(wrong.code(2).err.contains("examples: 3, 3-7"), "{}", wrong.err);
    let missing = place.run(["extract", "docs/none.pdf"]);
    assert!(missing.code(1).err.contains("cannot open docs/none.pdf"), "{}", missing.err);
}

#[test]
fn standard_input_is_read_and_what_is_no_document_is_refused_by_name() {
    let place = place();
    let from_input = |content: &[u8]| {
        let mut command = place.command(["extract", "-", "--format", "text"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        child.wait_with_output().unwrap()
    };
    let text = from_input(&example("glossary.txt"));
    assert!(text.status.success());
    assert!(!text.stdout.is_empty());
    let image = from_input(b"\x89PNG\r\n\x1a\n....");
    let error = String::from_utf8(image.stderr).unwrap();
    let expected = error.contains("cannot extract standard input: unknown_type") && error.contains("a PNG image");
    assert!(!image.status.success() && expected, "{error}");
}
