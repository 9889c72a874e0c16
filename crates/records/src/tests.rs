//! Tests the reading of whole files of records.

use std::collections::HashSet;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn shape() -> Shape {
    Shape::Records { id: "id".into(), text: "text".into() }
}

/// Reads records. Returns the line number of each record, with the key of its item or the beginning of its error
/// message. The small read buffer exposes errors at the boundary of two reads.
fn read(bytes: &[u8], limit: usize) -> Vec<(u64, String)> {
    let options = RecordsOptions { max_record_bytes: limit, ..RecordsOptions::default() };
    let brief = |result: Result<Vec<Item>, RecordError>| match result {
        Ok(items) => items.into_iter().map(|i| i.key).collect(),
        Err(e) => e.to_string().split(':').next().unwrap().to_owned(),
    };
    let source = BufReader::with_capacity(7, Cursor::new(bytes));
    Records::new(source, shape(), options).map(|(n, r)| (n, brief(r))).collect()
}

fn numbered(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
    lines.iter().map(|(n, text)| (*n, (*text).to_owned())).collect()
}

#[test]
fn line_ends_marks_and_blank_lines_are_nobodys_mistake() {
    let plain = numbered(&[(1, "a"), (2, "b")]);
    assert_eq!(read(b"{\"id\":\"a\",\"text\":\"\"}\n{\"id\":\"b\",\"text\":\"\"}\n", 100), plain);
    assert_eq!(read(b"{\"id\":\"a\",\"text\":\"\"}\r\n{\"id\":\"b\",\"text\":\"\"}", 100), plain);
    assert_eq!(read(b"\xef\xbb\xbf{\"id\":\"a\",\"text\":\"\"}\n{\"id\":\"b\",\"text\":\"\"}\r", 100), plain);
    assert_eq!(read(b"\n \r\n{\"id\":\"a\",\"text\":\"\"}\n\n\t\n", 100), numbered(&[(3, "a")]));
    for empty in [&b""[..], b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"] {
        assert_eq!(read(empty, 100), []);
    }
}

#[test]
fn a_bad_record_costs_no_other() {
    let file = b"{\"id\":1,\"text\":\"\"}\n{\"id\":2,\"text\":\"\xff\"}\n{\"id\":3,\n[]\nnull\n{\"id\":4}\n\
        {\"id\":5,\"text\":\"a\"} {}\n{\"id\":6,\"text\":1e999}\n\xef\xbb\xbf{}\n{\"id\":7,\"text\":\"\"}\n";
    let expected = [
        (1, "1"),
        (2, "the record is not UTF-8 from byte 17 on"),
        (3, "the record is not JSON at column 8"),
        (4, "the record is JSON but not an object"),
        (5, "the record is JSON but not an object"),
        (6, "`text` is missing"),
        (7, "the record is not JSON at column 21"),
        (8, "`text` must be a string"),
        (9, "the record is not JSON at column 1"),
        (10, "7"),
    ];
    assert_eq!(read(file, 100), numbered(&expected));
    let deep = format!("{}\n{{\"id\":1,\"text\":\"\"}}", "[".repeat(100_000));
    assert_eq!(read(deep.as_bytes(), 1 << 20).len(), 2, "nesting is limited, the stack with it");
}

#[test]
fn a_line_that_is_too_long_is_passed_over() {
    let record = |bytes: usize| format!("{{\"id\":1,\"text\":\"{}\"}}", "x".repeat(bytes - 18));
    let (fits, over) = (record(1_024), record(1_025));
    assert_eq!((fits.len(), over.len()), (1_024, 1_025));
    let refused = "the record is longer than 1024 bytes";
    for end in ["\n", "\r\n"] {
        for mark in ["", "\u{feff}"] {
            let file = format!("{mark}{fits}{end}{over}{end}{}{end}{fits}", "y".repeat(100_000));
            let (numbers, results): (Vec<_>, Vec<_>) = read(file.as_bytes(), 1_024).into_iter().unzip();
            assert_eq!(numbers, [1, 2, 3, 4]);
            assert_eq!(
                results.iter().map(|r| r == refused).collect::<Vec<_>>(),
                [false, true, true, false],
                "{results:?}"
            );
            let file = format!("{mark}{over}{end}{fits}");
            assert_eq!(read(file.as_bytes(), 1_024)[0], (1, refused.to_owned()));
        }
    }
}

#[test]
fn a_source_that_fails_ends_the_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let source = BufReader::new(Cursor::new(b"{\"id\":1,\"text\":\"\"}\n{\"id\":2,").chain(Broken));
    let mut records = Records::new(source, shape(), RecordsOptions::default());
    assert!(matches!(records.next(), Some((1, Ok(_)))));
    assert!(matches!(records.next(), Some((2, Err(RecordError::Io(_))))));
    assert!(records.next().is_none());
}

proptest! {
    #[test]
    fn whatever_a_file_holds_every_line_is_accounted_for(
        lines in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>().prop_filter("no line end", |b| *b != b'\n'), 0..60),
                "[{}\\[\\]\",:a1 ]{0,40}".prop_map(String::into_bytes),
                "\\{\"id\":\"[a-z]{0,2}\",\"text\":\"[a-z]{0,40}\"\\}\r?".prop_map(String::into_bytes),
            ],
            0..20,
        ),
        receipts in any::<bool>(),
        ended in any::<bool>(),
    ) {
        let mut file = lines.join(&b'\n');
        if ended {
            file.push(b'\n');
        }
        let record = |at: usize, line: &[u8]| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // Random bytes may start with a byte order mark, which is removed only on the first line.
            let line = if at == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
            line.len() > 50 || !std::str::from_utf8(line).is_ok_and(|t| t.trim().is_empty())
        };
        let records = lines.iter().enumerate().filter(|(at, line)| record(*at, line));
        let expected: Vec<u64> = records.map(|(at, _)| at as u64 + 1).collect();
        let shape = if receipts { Shape::Receipts } else { shape() };
        let options = RecordsOptions { max_record_bytes: 50, ..RecordsOptions::default() };
        let source = BufReader::with_capacity(16, Cursor::new(file));
        let found: Vec<u64> = Records::new(source, shape, options)
            .inspect(|(_, result)| assert!(result.as_ref().is_ok_and(|items| items.len() == 1) || result.is_err()))
            .map(|(n, _)| n)
            .collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn the_receipts_of_the_corpus_give_their_lines_and_words() {
    let near = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("DOCWEIR_SHARED").map_or(near, PathBuf::from);
    let path = folder.join("corpus/receipts/receipts.jsonl");
    if !path.exists() {
        println!("skipped: no corpus at {}", path.display());
        return;
    }
    let records = Records::open(&path, Shape::Receipts, RecordsOptions::default()).unwrap();
    let (mut receipts, mut keys, mut ids, mut noise) = (0, HashSet::new(), HashSet::new(), 0);
    let mut count = std::collections::HashMap::new();
    for (number, result) in records {
        receipts += 1;
        for item in result.unwrap_or_else(|e| panic!("line {number}: {e}")) {
            assert!(!item.input.is_empty() && !item.metadata.is_empty());
            *count.entry(item.kind).or_insert(0) += 1;
            noise += usize::from(item.noise);
            assert!(ids.insert(document_id(&item.key)), "{}", item.key);
            assert!(keys.insert(item.key));
        }
    }
    assert_eq!((receipts, count[&ItemKind::Line], count[&ItemKind::Word]), (486, 25_953, 56_147));
    assert_eq!(keys.len(), 82_100);
    // Lone punctuation: 308 lines and 3,384 words, counted by a separate program.
    assert!((3_600..3_800).contains(&noise), "{noise}");
}

/// Damages lines at random. A line may be refused, but the lines after it must still be read.
#[test]
fn damaged_lines_are_refused_one_by_one() {
    let records =
        b"{\"id\":\"a\",\"text\":\"one\",\"n\":1.5}\n\n{\"id\":\"b\",\"text\":\"two\",\"tags\":[\"x\",null]}\r\n";
    let receipt = r#"{"image_id":1,"receipt_id":2,"lines":[{"line_id":1,"text":"Total 3.20","words":[{"word_id":1,
        "text":"Total","confidence":0.9,"bounding_box":{"x":0.1,"y":0.2,"width":0.3,"height":0.1}}]}]}"#;
    let seeds = [records.to_vec(), receipt.replace('\n', "").into_bytes()];
    let words = ["{", "}", "[", "]", "\"id\":", "\"text\":", "\"words\":", "null", "\\u0000", "\\ud800", "\n", "\r\n"];
    let options = RecordsOptions { max_record_bytes: 4_096, ..RecordsOptions::default() };
    docweir_testkit::fuzz::fuzz("records", 20_000, &seeds, &words, |input| {
        for shape in [shape(), Shape::Receipts] {
            let reader = BufReader::with_capacity(7, Cursor::new(input));
            let read = Records::new(reader, shape.clone(), options.clone()).count();
            let lines = input.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
            assert!(read <= lines, "{read} results of {lines} lines");
        }
        // A good line after the damaged input is read.
        let more = [input, b"\n{\"id\":\"last\",\"text\":\"last\"}\n"].concat();
        let last = Records::new(Cursor::new(more), shape(), options.clone()).last();
        assert!(last.is_some_and(|(_, items)| items.is_ok_and(|items| items[0].key == "last")));
    });
}
