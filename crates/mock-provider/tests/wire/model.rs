//! Tests that the mock provider can return the vectors of a real encoder. The model here has random weights.

use docweir_encoder::Encoder;
use docweir_mock_provider::{MockProvider, Model, Options, vector};
use serde_json::json;

use crate::client::{floats, start};

/// Module that writes small models with random weights. The module belongs to the tests of the encoder.
#[path = "../../../encoder/tests/reference/mod.rs"]
#[allow(dead_code, reason = "this test only writes models")]
mod reference;

#[test]
fn the_folder_is_used_for_its_dimension_and_long_texts_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let shape = reference::Shape { layers: 1, hidden: 32, heads: 4, wide: 64 };
    reference::Tiny::random(shape, 3).write(folder.path());
    let models = vec![Model::embedding("tiny", 64, 0.02)];
    let (_mock, client) =
        start(Options { models, model_folder: Some(folder.path().to_path_buf()), ..Options::default() });
    let of = |text: &str, dimensions: usize| {
        let body = json!({"model": "tiny", "input": text, "dimensions": dimensions});
        floats(&client.post("/v1/embeddings", &body).json()["data"][0]["embedding"])
    };
    let encoder = Encoder::load(folder.path()).unwrap();
    assert_eq!(of("hello", 32), encoder.encode(&["hello"]).unwrap()[0]);
    assert_eq!(of("hello", 64), vector("hello", 64));
    let long = of(&"hello ".repeat(3000), 32);
    assert_eq!(long.len(), 32);
    assert_ne!(long, vector(&"hello ".repeat(3000), 32));
}

#[test]
fn a_folder_without_a_model_is_a_mistake() {
    let problem = MockProvider::start(Options { model_folder: Some("/does/not/exist".into()), ..Options::default() });
    assert!(problem.err().unwrap().to_string().contains("/does/not/exist"));
}
