use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

pub fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

/// Returns a row in OpenAI's form.
fn row(embedding: &str) -> String {
    format!(
        r#"{{"id": "r", "custom_id": "a", "response": {{"status_code": 200, "request_id": "q", "body": {{"object":"list","data":[{{"object":"embedding","index":0,"embedding":{embedding}}}],"model":"m","usage":{{"prompt_tokens":3,"total_tokens":4}}}}}}, "error": null}}"#
    )
}

fn read(line: &str) -> ItemResult {
    outcome(line.as_bytes(), 7, 2)
}

#[test]
fn a_vector_comes_at_unit_length_or_as_what_is_wrong_with_it() {
    let good = |vector: [f32; 2]| ItemResult::Row { custom_id: "a".into(), vector: vector.into(), tokens: 4 };
    let flawed = |why| ItemResult::Unusable { custom_id: "a".into(), why, tokens: 4 };
    let text = |vector: &[f32]| format!("{:?}", base64(vector));
    let table = [
        ("[3, -4e0]".into(), good([0.6, -0.8])),
        (text(&[3.0, -4.0]), good([0.6, -0.8])),
        (text(&[1e30, 0.0]), good([1.0, 0.0])),
        (text(&[3.0]), flawed(Flaw::Dimension(1))),
        ("[1,2,3]".into(), flawed(Flaw::Dimension(3))),
        ("[]".into(), flawed(Flaw::Dimension(0))),
        (text(&[f32::NAN, 1.0]), flawed(Flaw::NotFinite)),
        (text(&[1.0, f32::NEG_INFINITY]), flawed(Flaw::NotFinite)),
        ("[1e39, 1]".into(), flawed(Flaw::NotFinite)),
        ("[0, 0]".into(), flawed(Flaw::NoDirection)),
    ];
    for (embedding, expected) in table {
        assert_eq!(read(&row(&embedding)), expected, "{embedding}");
    }
}

#[test]
fn rows_of_other_servers_are_read_too() {
    let table = [
        r#"{"custom_id":"a","response":{"body":{"data":[{"embedding":[3,4]}]}}}"#,
        r#"{"custom_id":"a","response":{"status_code":200.0,"body":{"data":[{"embedding":[3,4]}],"usage":null,"error":null}}}"#,
        r#"{"new":{"b":[{}]},"custom_id":"a","response":{"status_code":200,"body":{"data":[{"embedding":[3,4],"x":1}],"usage":{"cost":1}}}}"#,
        "\r {\"custom_id\":\"\\u0061\",\"response\":{\"status_code\":200,\"body\":{\"data\":[{\"embedding\":[3,4]}]}},\"error\":null}\r",
    ];
    for line in table {
        assert_eq!(read(line), ItemResult::Row { custom_id: "a".into(), vector: vec![0.6, 0.8], tokens: 0 }, "{line}");
    }
}

#[test]
fn refusals_name_a_code_and_whether_it_may_go_away() {
    let status = |status: &str, body: &str| {
        format!(r#"{{"custom_id":"a","response":{{"status_code":{status},"body":{body}}},"error":null}}"#)
    };
    let error = |error: &str| format!(r#"{{"custom_id":"a","response":null,"error":{error}}}"#);
    let told = r#"{"error":{"message":"text of it","type":"invalid_request_error","code":null}}"#;
    let table = [
        (status("400", told), "invalid_request_error", false),
        (status("429", r#"{"error":{"code":"rate_limit_exceeded"}}"#), "rate_limit_exceeded", true),
        (status("500", "null"), "500", true),
        (status("404", r#""text of it""#), "404", false),
        (status("302", r#"{"error":"text of it"}"#), "302", false),
        (status("400", r#"{"error":{"code":{"message":"text of it"}}}"#), "400", false),
        (status("503", r#"{"data":[{"embedding":[3,4]}]}"#), "503", true),
        (status("200", r#"{"data":[{"embedding":[3,4]}],"error":{"code":"odd"}}"#), "odd", false),
        (error(r#"{"code":"batch_expired","message":"text of it"}"#), "batch_expired", true),
        (error(r#"{"code":"batch_cancelled"}"#), "batch_cancelled", true),
        (error(r#"{"code":"invalid_request"}"#), "invalid_request", false),
        (error(r#""text of it""#), "unknown", true),
    ];
    for (line, code, retryable) in table {
        assert_eq!(read(&line), ItemResult::Refused { custom_id: "a".into(), code: code.into(), retryable }, "{line}");
    }
}

#[test]
fn lines_that_tell_nothing_say_why() {
    let (json, id) = ("the line is not JSON", "the line has no custom_id");
    let (one, floats) = ("the line does not have exactly one embedding", "the embedding is not a list of floats");
    let good = row("[3,4]");
    let two = good.replace("[{\"object\"", "[{},{\"object\"");
    let table = [
        (&good[..good.len() - 1], "the line is incomplete"),
        (&good[..40], "the line is incomplete"),
        ("{", "the line is incomplete"),
        ("not json", json),
        (&format!("{good}{good}"), json),
        (&row("[NaN,1]"), json),
        (&"[".repeat(100_000), json),
        ("[]", id),
        ("7", id),
        (&good.replace("\"a\"", "\"\""), id),
        (&good.replace("\"a\"", "5"), id),
        (&two, one),
        (r#"{"custom_id":"a"}"#, one),
        (r#"{"custom_id":"a","response":{"status_code":200,"body":{"data":[]}}}"#, one),
        (&row("\"AACA\""), floats),
        (&row("\"?\""), floats),
        (&row("[\"1\",2]"), floats),
    ];
    for (line, why) in table {
        assert_eq!(read(line), ItemResult::Bad { line: 7, why }, "{:.200}", line);
    }
    let unusable = |why| ItemResult::Unusable { custom_id: "a".into(), why, tokens: 4 };
    assert_eq!(read(&row("null")), unusable(Flaw::Dimension(0)));
    assert_eq!(read(&row("[null,1]")), unusable(Flaw::NotFinite));
    assert_eq!(read(&row("[1e999,1]")), unusable(Flaw::NotFinite));
    assert_eq!(outcome(b"\xff\xfe", 7, 2), ItemResult::Bad { line: 7, why: json });
}

/// Generates lines by random changes of a good line. A change inserts bytes at a position and may replace existing
/// bytes.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..4),
        proptest::sample::select(vec!["null", "{}", "[", "\"", ",", "\\u0000", "1e9", "\"error\":{},", "200.0"])
            .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    let embedding = prop_oneof![
        proptest::collection::vec(any::<f32>(), 0..4).prop_map(|vector| format!("{:?}", base64(&vector))),
        proptest::collection::vec(-1e3f32..1e3, 0..4).prop_map(|vector| format!("{vector:?}")),
    ];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, piece), 0..3);
    (embedding, changes).prop_map(|(embedding, changes)| {
        let mut line = row(&embedding).into_bytes();
        for (at, length, piece) in changes {
            let at = at.index(line.len() + 1);
            line.splice(at..line.len().min(at + length), piece);
        }
        line
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Checks that the quick parser gives the same results as the thorough parser.
    #[test]
    fn both_ways_read_the_same(line in mutated()) {
        outcome(&line, 1, 2);
        let thorough = thorough(&line);
        // The quick parser ignores damage in fields that it does not read, and so keeps a paid vector.
        if let Some(quick) = quick(&line).filter(|_| thorough != LineContent::Nothing("the line is not JSON")) {
            // The results are compared as text, in which NaN equals itself.
            prop_assert_eq!(format!("{quick:?}"), format!("{thorough:?}"));
        }
    }

    #[test]
    fn no_bytes_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        outcome(&line, 1, 2);
    }

    /// Checks that a number in a list, in any notation, is read as the nearest float or as a direct neighbour of this
    /// float.
    #[test]
    fn floats_are_read_as_they_were_written(x in any::<f32>().prop_filter("finite", |x| x.is_finite()), form in 0..3) {
        let text = match form {
            0 => format!("{x}"),
            1 => format!("{x:e}"),
            _ => format!("{:.18}", x),
        };
        let Floats(read) = serde_json::from_str(&format!("[{text}]")).unwrap();
        let exact: f32 = text.parse().unwrap();
        prop_assert!(read == [exact] || read == [exact.next_up()] || read == [exact.next_down()], "{text}: {read:?}");
    }
}
