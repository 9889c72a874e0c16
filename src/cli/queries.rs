//! Reads queries from a file. Each line is plain text or a JSON object with the field `question`.

use std::io::BufRead;

use crate::exit::Failure;

/// Maximum length of a line, in bytes. The limit keeps a file without line breaks from filling the memory.
const MAX_LINE: u64 = 1 << 20;

/// Reads one query per line and skips blank lines. `name` is the name of the input in errors.
pub fn read(input: impl BufRead, name: &str) -> Result<Vec<String>, Failure> {
    let mut input = input;
    let mut queries = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = std::io::Read::take(&mut input, MAX_LINE + 1).read_until(b'\n', &mut line);
        let bytes = read.map_err(|e| Failure::system(format!("cannot read {name}: {e}")))?;
        if bytes == 0 {
            break;
        }
        let wrong = |what: String| Failure::usage(format!("{name}:{number}: {what}"));
        if bytes as u64 > MAX_LINE {
            return Err(wrong(format!("the line is longer than {MAX_LINE} bytes; write one query per line")));
        }
        let text = std::str::from_utf8(&line).map_err(|_| wrong("the line is not UTF-8".into()))?;
        // Some editors write a byte order mark at the start of a file.
        let text = text.trim_start_matches('\u{feff}').trim();
        if let Some(query) = query(text).map_err(wrong)? {
            queries.push(query);
        }
    }
    if queries.is_empty() {
        return Err(Failure::usage(format!("{name} contains no queries: write one per line")));
    }
    Ok(queries)
}

fn query(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        return Ok(Some(text.to_owned()));
    }
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| format!("the line is not valid JSON: {e}"))?;
    match value.get("question").and_then(|q| q.as_str()) {
        Some(question) if !question.trim().is_empty() => Ok(Some(question.to_owned())),
        Some(_) => Err("`question` is empty".into()),
        None => Err("`question` is missing or not a string".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Vec<String>, String> {
        read(text, "q.txt").map_err(|f| f.lines.join("\n"))
    }

    #[test]
    fn plain_and_json_lines() {
        let text = "\u{feff}what is a lease?\r\n\n{\"question\": \"who  holds it?\", \"id\": 7}\n  why  ";
        let expected = ["what is a lease?", "who  holds it?", "why"].map(String::from).to_vec();
        assert_eq!(parse(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn errors_name_the_line() {
        let long = vec![b'x'; 2 << 20];
        let table: [(&[u8], &str); 6] = [
            (b"a\n{\"question\": 3}", "q.txt:2: `question` is missing"),
            (b"{\"question\": \" \"}", "q.txt:1: `question` is empty"),
            (b"\n\n{oops", "q.txt:3: the line is not valid JSON"),
            (b"a\n\xff\n", "q.txt:2: the line is not UTF-8"),
            (b"\n\n", "q.txt contains no queries"),
            (&long, "q.txt:1: the line is longer than"),
        ];
        for (text, expected) in table {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
