//! Tests text and Markdown files from ingest to search: front matter, encodings, embedded images and character
//! references.

use crate::kit::{TestFolder, file_name, results};

fn names(place: &TestFolder, args: &[&str]) -> Vec<String> {
    let ran = place.run([&["search", "--json", "-k", "50"], args].concat());
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{}", ran.err);
    let mut names: Vec<String> = ran.json().iter().flat_map(results).map(|hit| file_name(&hit["source"])).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn front_matter_is_found_by_words_and_by_filters() {
    let place = TestFolder::new();
    let body = "# Silt\n\nThe basin is measured each spring.\n";
    let yaml = "---\ntitle: >-\n  Sounding of the\n  Alder basin\nsurveyor: Oda Brennmark\ntags:\n  - soundings\n  - silt\n\
                zip: 02134\npages: 12\nproject:\n  code: QX-7\ntenant: someone-else\n---\n";
    place.write("basin.md", format!("{yaml}{body}"));
    place.write("other.md", format!("+++\ntitle = \"Crane log\"\npages = 3\ntags = [\"cranes\"]\n+++\n{body}"));
    place.write("broken.md", format!("---\nowner: Pim\nlist: [a, b\nremark: kelpwork\n---\n{body}"));
    let ran = place.ingest(&[]);
    ran.code(0);
    let notes = ran.summary()["notes"].to_string();
    assert!(notes.contains("front matter is not valid YAML") && notes.contains("`tenant`"), "{notes}");
    assert_eq!(place.found("Brennmark"), ["basin.md"]);
    assert_eq!(place.found("kelpwork"), ["broken.md"]);
    for (filter, expected) in [
        ("metadata.tags=soundings", &["basin.md"][..]),
        ("metadata.tags=silt,cranes", &["basin.md", "other.md"]),
        ("metadata.surveyor=Oda Brennmark", &["basin.md"]),
        ("metadata.project.code=QX-7", &["basin.md"]),
        ("metadata.zip=02134", &["basin.md"]),
        ("metadata.zip^=02", &["basin.md"]),
        ("metadata.pages>=10", &["basin.md"]),
        ("metadata.title=Crane log", &["other.md"]),
        ("tenant=someone-else", &[]),
    ] {
        assert_eq!(names(&place, &["--filter", filter, "basin"]), expected, "{filter}");
    }
    // The front matter is a passage of its own, and no heading of another one.
    let ran = place.run(["search", "--json", "-k", "50", "--mode", "full-text", "Brennmark"]);
    let hit = results(&ran.json()[0])[0].clone();
    assert!(hit["text"].as_str().unwrap().starts_with("Sounding of the Alder basin\npages: 12\n"), "{hit}");
    assert_eq!(hit["heading_path"], serde_json::json!([]), "{hit}");
    // A document keeps its metadata when a later stage runs alone.
    place.run(["retry", "docs/basin.md", "--from", "embed"]).code(0);
    place.ingest(&[]).code(0);
    assert_eq!(names(&place, &["--filter", "metadata.tags=soundings", "basin"]), ["basin.md"]);
}

#[test]
fn redaction_covers_front_matter() {
    let place = TestFolder::new();
    place.write("a.md", "---\ncontact: oda@basin.example\nteam: silt\n---\n# Silt\n\nThe basin is measured.\n");
    place.ingest(&["--set", "enrich.options.redact=true"]).code(0);
    assert_eq!(names(&place, &["--filter", "metadata.team=silt", "basin"]), ["a.md"]);
    let ran = place.run(["search", "--json", "-k", "50", "basin", "silt", "contact"]);
    ran.code(0);
    assert!(ran.out.contains("[REDACTED_EMAIL]") && !ran.out.contains("oda@basin"), "{}", ran.out);
}

#[test]
fn texts_in_other_encodings_are_read_with_a_note_or_refused() {
    let place = TestFolder::new();
    let russian: Vec<u8> = "Паром отходит от причала в семь утра, билеты продаёт кассир."
        .chars()
        .map(|c| match c {
            'ё' => 0xb8,
            'А'..='я' => (u32::from(c) - 0x410 + 0xc0) as u8,
            c => c as u8,
        })
        .collect();
    place.write("ferry.txt", russian);
    place.write("stray.txt", ["Été : la bouée a dérivé.\nDeuxième été.\n".as_bytes(), b"C\xf4te"].concat());
    place.write("utf16.txt", "Die Fähre fährt.".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    place.write(
        "noise.txt",
        (0..900u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect::<Vec<_>>(),
    );
    let ran = place.run(["ingest", "docs", "--progress", "none"]);
    ran.code(3);
    for part in
        ["encoding was guessed as windows-1251", "guessed as UTF-16LE", "invalid bytes in UTF-8 text", "noise.txt"]
    {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert_eq!(place.found("кассир"), ["ferry.txt"]);
    assert_eq!(place.found("dérivé"), ["stray.txt"]);
    assert_eq!(place.found("Fähre"), ["utf16.txt"]);
    let shown = place.run(["stage", "extract", "docs/stray.txt"]);
    assert!(shown.code(0).out.contains("1 bytes, the first one is byte 49 on line 3"), "{}", shown.out);
}

#[test]
fn embedded_images_and_references_leave_only_text() {
    let place = TestFolder::new();
    let payload = "Qm9vbWVyYW5n".repeat(4000);
    let lines = payload.as_bytes().chunks(76).map(|l| std::str::from_utf8(l).unwrap()).collect::<Vec<_>>().join("\n");
    place.write(
        "valve.md",
        format!(
            "# Valves\n\n## Caf&eacute; pump\n\n![Gate valve](data:image/png;base64,{payload})\n\nTurn the red wheel &ndash; R&amp;D.\n\n\
             <img alt=\"Side\" src=\"data:image/png;base64,{lines}\">\n\n## Last\n\nDone.\n"
        ),
    );
    place.write("valve.txt", format!("See data:image/png;base64,{payload} for the wheel.\n"));
    let ran = place.ingest(&[]);
    ran.code(0);
    assert!(ran.summary()["notes"].to_string().contains("embedded images left out of the text"), "{}", ran.out);
    let ran = place.run(["search", "--json", "-k", "50", "red wheel valve"]);
    let hits = results(&ran.json()[0]);
    assert!(hits.len() < 8 && !ran.out.contains("Qm9v"), "{}", ran.out);
    let text = |part: &str| hits.iter().find(|h| h["text"].as_str().unwrap().contains(part)).cloned().unwrap();
    let path = text("Turn the red wheel – R&D.")["heading_path"].clone();
    assert_eq!(path.as_array().unwrap().last().unwrap(), "Café pump", "{path}");
    assert_eq!(text("![Gate valve](data:image/png)")["kind"], "figure");
    assert_eq!(place.found("Café"), ["valve.md"]);
}
