//! Many queries from one file: plain lines, or JSON lines with a `question`.

use std::io::BufRead;

use crate::exit::Failure;

/// Longest line, in bytes: a file that is no list of queries is refused before it fills the memory.
const MAX_LINE: u64 = 1 << 20;

/// Reads one query a line; blank lines are passed over. `name` stands in errors.
pub fn read(input: impl BufRead, name: &str) -> Result<Vec<String>, Failure> {
    let mut input = input;
    let mut queries = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = std::io::Read::take(&mut input, MAX_LINE + 1).read_until(b'\n', &mut line);
        let bytes = read.map_err(|e| Failure::system(format!("can't read {name}: {e}")))?;
        if bytes == 0 {
            break;
        }
        let wrong = |what: String| Failure::usage(format!("{name}:{number}: {what}"));
        if bytes as u64 > MAX_LINE {
            return Err(wrong(format!("a line of more than {MAX_LINE} bytes is no query")));
        }
        let text = std::str::from_utf8(&line).map_err(|_| wrong("is not UTF-8".into()))?;
        // A byte order mark is how some editors begin a file.
        let text = text.trim_start_matches('\u{feff}').trim();
        if let Some(query) = query(text).map_err(wrong)? {
            queries.push(query);
        }
    }
    if queries.is_empty() {
        return Err(Failure::usage(format!("{name} holds no queries: write one a line")));
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
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))?;
    match value.get("question").and_then(|q| q.as_str()) {
        Some(question) if !question.trim().is_empty() => Ok(Some(question.to_owned())),
        Some(_) => Err("its `question` is empty".into()),
        None => Err("has no `question` that is a text".into()),
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
            (b"a\n{\"question\": 3}", "q.txt:2: has no `question`"),
            (b"{\"question\": \" \"}", "q.txt:1: its `question` is empty"),
            (b"\n\n{oops", "q.txt:3: is not JSON"),
            (b"a\n\xff\n", "q.txt:2: is not UTF-8"),
            (b"\n\n", "q.txt holds no queries"),
            (&long, "q.txt:1: a line of more than"),
        ];
        for (text, expected) in table {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
