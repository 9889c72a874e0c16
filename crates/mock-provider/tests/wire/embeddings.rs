//! Tests the requests for embeddings, models and chat: the forms of their replies, and their limits.

use base64::Engine;
use docweir_mock_provider::{Limits, Model, Options, vector};
use serde_json::{Value, json};

use crate::client::{Client, SMALL, floats, start};

#[test]
fn a_reply_has_the_vectors_the_order_and_the_tokens() {
    let (_mock, client) = start(Options::default());
    let reply = client.embed(json!(["hello world", "harbour"]));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(reply.headers["x-request-id"].starts_with("req_"));
    let body = reply.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!(SMALL)));
    for (at, text) in ["hello world", "harbour"].into_iter().enumerate() {
        let data = &body["data"][at];
        assert_eq!((&data["object"], &data["index"]), (&json!("embedding"), &json!(at)));
        assert_eq!(floats(&data["embedding"]), vector(text, 1536));
    }
    assert_eq!(body["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
}

#[test]
fn one_string_fewer_dimensions_and_base64() {
    let (_mock, client) = start(Options::default());
    let body = json!({"model": SMALL, "input": "harbour", "dimensions": 256, "encoding_format": "base64"});
    let reply = client.post("/v1/embeddings", &body).json();
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(reply["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let values: Vec<f32> = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(values, vector("harbour", 256));

    let large = json!({"model": "text-embedding-3-large", "input": ["x"], "encoding_format": "float"});
    let large = client.post("/v1/embeddings", &large).json();
    assert_eq!(floats(&large["data"][0]["embedding"]).len(), 3072);
}

#[test]
fn what_breaks_a_limit_is_refused_and_costs_nothing() {
    let limits = Limits { tokens_per_request: 10_000, ..Limits::default() };
    let (mock, client) = start(Options { limits, ..Options::default() });
    let long = "word ".repeat(8193);
    let invalid = json!("invalid_request_error");
    let of = |input: Value| client.embed(input).error();
    assert_eq!(of(json!("")), (400, invalid.clone(), Value::Null, Value::Null));
    assert_eq!(of(json!(["a", ""])).0, 400);
    assert_eq!(of(json!([])).0, 400);
    assert_eq!(of(json!([[1, 2, 3]])).0, 400);
    assert_eq!(of(json!(7)).0, 400);
    let too_many = (400, invalid.clone(), json!("array_above_max_length"), json!("input"));
    assert_eq!(of(json!(vec!["a"; 2049])), too_many);
    assert_eq!(of(json!(long)), (400, invalid.clone(), Value::Null, Value::Null));
    assert!(client.embed(json!(["a", long])).text().contains("input[1]"));
    let code = json!("max_tokens_per_request");
    assert_eq!(of(json!(vec!["word ".repeat(5000); 3])), (400, code.clone(), code, Value::Null));

    let of = |body: Value| client.post("/v1/embeddings", &body).error();
    let unknown = (404, invalid.clone(), json!("model_not_found"), Value::Null);
    assert_eq!(of(json!({"model": "text-embedding-9", "input": "a"})), unknown);
    assert_eq!(
        of(json!({"model": SMALL})),
        (400, invalid.clone(), json!("missing_required_parameter"), json!("input"))
    );
    assert_eq!(of(json!({"input": "a"})).0, 400);
    for (name, value) in [("dimensions", json!(1537)), ("dimensions", json!(0)), ("encoding_format", json!("hex"))] {
        assert_eq!(of(json!({"model": SMALL, "input": "a", name: value})).3, json!(name));
    }
    let broken = client.send("POST", "/v1/embeddings", &[], b"{\"model\":").unwrap();
    assert_eq!(broken.error().0, 400);

    let charges = mock.charges();
    assert_eq!((charges.live.tokens, charges.accepted_requests), (0, 0));
    assert_eq!((charges.refused[&400], charges.refused[&404]), (15, 1));
    assert_eq!(client.embed(json!(vec!["a"; 2048])).status, 200);
}

#[test]
fn without_a_key_nothing_is_served() {
    let (mock, client) = start(Options { keys: vec!["one".into(), "two".into()], ..Options::default() });
    let wrong = client.embed("a");
    assert_eq!(wrong.error(), (401, json!("invalid_request_error"), json!("invalid_api_key"), Value::Null));
    assert!(!wrong.text().contains("test-key"), "an error must not repeat the key, because errors are logged");
    for key in ["one", "two"] {
        assert_eq!(Client { port: mock.port(), key }.embed("a").status, 200);
    }
    let charges = mock.charges();
    assert_eq!((charges.by_key["one"].live.tokens, charges.by_key["two"].live.tokens), (1, 1));
}

#[test]
fn a_model_by_option_is_listed_and_priced() {
    let mut options = Options::default();
    options.models.push(Model::embedding("tiny", 8, 0.5));
    let (mock, client) = start(options);
    let models = client.get("/v1/models").json();
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["id"] == "tiny"));
    let reply = client.post("/v1/embeddings", &json!({"model": "tiny", "input": "hello world"})).json();
    assert_eq!(floats(&reply["data"][0]["embedding"]), vector("hello world", 8));
    assert_eq!(mock.charges().by_model["tiny"].live.nanodollars, 1000);
}

#[test]
fn chat_describes_pictures() {
    let (mock, client) = start(Options::default());
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAECAw=="}});
    let content = json!([{"type": "text", "text": "describe this"}, picture]);
    let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}]});
    let reply = client.post("/v1/chat/completions", &body).json();
    assert_eq!(reply["choices"][0]["message"]["content"], "A picture of 4 bytes.");
    let usage = &reply["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(87), &json!(7)));
    assert_eq!(mock.charges().live.nanodollars, 87 * 150 + 7 * 600);
    let wrong = client.post("/v1/chat/completions", &json!({"model": SMALL, "messages": []}));
    assert_eq!(wrong.status, 404);
}

#[test]
fn unknown_addresses_are_404() {
    let (_mock, client) = start(Options::default());
    for (method, path) in
        [("GET", "/v1/embeddings"), ("POST", "/v1/nothing"), ("GET", "/v2/models"), ("PUT", "/v1/files")]
    {
        assert_eq!(client.send(method, path, &[], b"").unwrap().error().0, 404, "{method} {path}");
    }
}
