//! Reads the answer to a live call. Servers fill in the fields in different ways.

use serde::Deserialize;
use serde_json::Value;

use super::wire::{Floats, number};

#[derive(Deserialize)]
struct EmbeddingsAnswer {
    data: Vec<Embedding>,
    /// Number of charged tokens. Some servers do not report it.
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct Embedding {
    #[serde(default)]
    index: Value,
    embedding: Floats,
}

/// Holds the vectors of a live call.
#[derive(Debug, PartialEq)]
pub struct Vectors {
    /// Vector of each text, in the order of the texts. It is empty for a text that got no vector.
    pub vectors: Vec<Vec<f32>>,
    /// Number of charged tokens; `None` if the server does not report it.
    pub tokens: Option<u64>,
}

/// Reads the answer for `texts` texts.
///
/// # Errors
/// Fails with the reason if the answer cannot be read, or if it is not certain which vector belongs to which text.
pub fn read(body: &[u8], texts: usize) -> Result<Vectors, String> {
    let answer: EmbeddingsAnswer = parse(body)?;
    let tokens = number(&answer.usage, "prompt_tokens").or_else(|| number(&answer.usage, "total_tokens"));
    Ok(Vectors { vectors: in_order(answer.data, texts)?, tokens: tokens.filter(|tokens| *tokens > 0) })
}

/// Parses JSON. The words for numbers that are not finite, which servers in Python send, are accepted.
fn parse(body: &[u8]) -> Result<EmbeddingsAnswer, String> {
    serde_json::from_slice(body).or_else(|error| {
        let again = nulls_for_words(body).and_then(|body| serde_json::from_slice(&body).ok());
        // serde's message is left out, because it quotes the input.
        again.ok_or_else(|| format!("incomplete or unexpected JSON at column {}", error.column()))
    })
}

/// Replaces the words `NaN` and `Infinity` outside of strings. Returns `None` if there are none.
fn nulls_for_words(body: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let (mut out, mut rest) = (Vec::with_capacity(body.len()), body);
    let (mut in_string, mut found) = (false, false);
    while let Some((&byte, after)) = rest.split_first() {
        let word = WORDS.into_iter().find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            out.extend_from_slice(b"null");
            (found, rest) = (true, rest.get(word.len()..).unwrap_or_default());
            continue;
        }
        out.push(byte);
        rest = after;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                let (escaped, after) = rest.split_at_checked(1)?;
                out.extend_from_slice(escaped);
                rest = after;
            }
            _ => {}
        }
    }
    found.then_some(out)
}

/// Sorts the vectors by their index. If no vector has an index, or every index is 0, the vectors are already in order.
fn in_order(data: Vec<Embedding>, texts: usize) -> Result<Vec<Vec<f32>>, String> {
    if data.len() != texts {
        return Err(format!("{} vectors for {texts} texts", data.len()));
    }
    let index = |one: &Embedding| match &one.index {
        Value::Null => None,
        index => Some(whole(index)),
    };
    let indices: Vec<Option<Option<usize>>> = data.iter().map(index).collect();
    let are_absent = indices.iter().all(Option::is_none);
    if are_absent || indices.iter().all(|index| *index == Some(Some(0))) {
        return Ok(data.into_iter().map(|one| one.embedding.0).collect());
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
    for (index, one) in indices.into_iter().zip(data) {
        let index = index.flatten().ok_or("a vector without a valid index")?;
        let place = vectors.get_mut(index).ok_or("a vector for a text that was not sent")?;
        if place.replace(one.embedding.0).is_some() {
            return Err("two vectors for one text".into());
        }
    }
    Ok(vectors.into_iter().map(Option::unwrap_or_default).collect())
}

fn whole(index: &Value) -> Option<usize> {
    let float = || index.as_f64().filter(|n| n.fract() == 0.0 && (0.0..1e9).contains(n)).map(|n| n as usize);
    index.as_u64().and_then(|n| usize::try_from(n).ok()).or_else(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(items: &str, usage: &str) -> Vec<u8> {
        format!(r#"{{"data":[{items}],"model":"NaN \"Infinity"{usage}}}"#).into_bytes()
    }

    #[test]
    fn usage_has_many_forms() {
        let one = r#"{"embedding":[1]}"#;
        let table = [
            (r#","usage":{"prompt_tokens":7,"total_tokens":8}"#, Some(7)),
            (r#","usage":{"prompt_tokens":null,"total_tokens":8}"#, Some(8)),
            (r#","usage":{"prompt_tokens":7.0}"#, Some(7)),
            (r#","usage":{"prompt_tokens":0,"total_tokens":0}"#, None),
            (r#","usage":{"prompt_tokens":"7"}"#, None),
            (r#","usage":null"#, None),
            (r#","usage":[]"#, None),
            ("", None),
        ];
        for (usage, tokens) in table {
            assert_eq!(read(&body(one, usage), 1).unwrap().tokens, tokens, "{usage}");
        }
    }

    #[test]
    fn vectors_are_matched_by_index_or_by_order() {
        let items = |indices: [&str; 3]| {
            let item = |(n, index): (usize, &&str)| format!(r#"{{{index}"embedding":[{n}]}}"#);
            indices.iter().enumerate().map(item).collect::<Vec<_>>().join(",")
        };
        let table = [
            ([r#""index":0,"#, r#""index":1,"#, r#""index":2,"#], Ok([0.0, 1.0, 2.0])),
            ([r#""index":2,"#, r#""index":1.0,"#, r#""index":0,"#], Ok([2.0, 1.0, 0.0])),
            (["", "", ""], Ok([0.0, 1.0, 2.0])),
            ([r#""index":null,"#; 3], Ok([0.0, 1.0, 2.0])),
            ([r#""index":0,"#; 3], Ok([0.0, 1.0, 2.0])),
            ([r#""index":0,"#, r#""index":1,"#, ""], Err("a vector without a valid index")),
            ([r#""index":0,"#, r#""index":1,"#, r#""index":1,"#], Err("two vectors for one text")),
            ([r#""index":1,"#, r#""index":2,"#, r#""index":3,"#], Err("a vector for a text that was not sent")),
            ([r#""index":0,"#, r#""index":"1","#, r#""index":2,"#], Err("a vector without a valid index")),
        ];
        for (indices, expected) in table {
            let read = read(&body(&items(indices), ""), 3).map(|read| read.vectors.concat());
            assert_eq!(read, expected.map(Vec::from).map_err(str::to_owned), "{indices:?}");
        }
        assert_eq!(read(&body("", ""), 1), Err("0 vectors for 1 texts".into()));
    }

    #[test]
    fn a_missing_vector_does_not_spoil_its_neighbours() {
        let items =
            r#"{"embedding":null},{"embedding":[null,1]},{"embedding":[NaN,-Infinity,Infinity]},{"embedding":[2]}"#;
        let read = read(&body(items, ""), 4).unwrap().vectors;
        assert!(read[0].is_empty() && read[1][0].is_nan() && read[2].iter().all(|x| x.is_nan()));
        assert_eq!(read[3], [2.0]);
        for wrong in [r#"{"index":0}"#, r#"{"embedding":{}}"#, r#"{"embedding":[NaN,]}"#] {
            assert!(super::read(&body(wrong, ""), 1).unwrap_err().starts_with("incomplete or unexpected"), "{wrong}");
        }
    }
}
