//! Tests the embedder against servers that answer differently from OpenAI.

use docweir_admission::{Admission, AdmissionOptions};
use docweir_core::error::{ErrorClass, StageError};
use docweir_mock_provider::{Act, Dialect, MockProvider, On, Options, Rule, UNEMBEDDABLE, vector};
use docweir_stages::embed::{Call, EmbedBatch, Embedder};
use docweir_testkit::encrypted::encrypted_server;

use super::{CallError, Client, OpenAiEmbedder, OpenAiOptions};
use crate::prices::PriceOptions;

const TEXTS: [&str; 3] = ["A stale lease is fenced.", "日本語の文", "Backpressure."];

fn mock(change: impl FnOnce(&mut Options)) -> MockProvider {
    let mut options = Options::default();
    change(&mut options);
    MockProvider::start(options).unwrap()
}

fn at(base_url: impl Into<String>) -> OpenAiOptions {
    let limits = AdmissionOptions { backoff_initial_seconds: 0.05, max_wait_seconds: 30.0, ..Default::default() };
    OpenAiOptions { base_url: base_url.into(), request_seconds: 30.0, limits, ..OpenAiOptions::default() }
}

fn embedder(options: OpenAiOptions) -> OpenAiEmbedder {
    let client = Client::new(&options, "test-key".into()).unwrap();
    let admission = Admission::new("the model", options.limits.clone(), fastrand::Rng::with_seed(1));
    OpenAiEmbedder::new(client, admission, options, "chunks", None, PriceOptions::default().text_embedding_3_small)
}

async fn embed(embedder: &OpenAiEmbedder, texts: &[&str]) -> Result<EmbedBatch, StageError> {
    embedder.embed(texts.iter().map(|t| (*t).to_owned()).collect(), Call::for_a_test()).await
}

#[track_caller]
fn assert_vectors(batch: &EmbedBatch, texts: &[&str]) {
    assert_eq!(batch.vectors.len(), texts.len());
    for (made, text) in batch.vectors.iter().zip(texts) {
        let near: f32 = made.as_ref().unwrap().iter().zip(vector(text, 1_536)).map(|(a, b)| a * b).sum();
        assert!((near - 1.0).abs() < 1e-4, "{text}: {near}");
    }
}

#[tokio::test]
async fn every_form_of_answer_is_read() {
    use Dialect::*;
    for dialects in [
        vec![UsageNull],
        vec![UsagePartlyNull],
        vec![UsageFloat],
        vec![UsageAbsent],
        vec![IndexAbsent],
        vec![IndexZero],
        vec![Gzip],
        vec![NoBase64],
        vec![NoBase64, ErrorDetail],
        vec![UsageAbsent, IndexAbsent, Gzip, NoBase64, ErrorText],
    ] {
        let mock = mock(|o| o.dialects = dialects.clone());
        let embedder = embedder(at(mock.base_url()));
        for _ in 0..2 {
            let batch = embed(&embedder, &TEXTS).await.unwrap_or_else(|error| panic!("{dialects:?}: {error}"));
            assert_vectors(&batch, &TEXTS);
            let charges = mock.charges();
            // Without a number from the server, the texts' own tokens are counted.
            assert_eq!(batch.tokens * charges.live.requests, charges.live.tokens, "{dialects:?}");
        }
        let refused = mock.charges().refused.values().sum::<u64>();
        assert_eq!(refused, u64::from(dialects.contains(&NoBase64)), "{dialects:?}: base64 is asked for once");
    }
    let floats = mock(|o| o.floats = true);
    assert_vectors(&embed(&embedder(at(floats.base_url())), &TEXTS).await.unwrap(), &TEXTS);
}

#[tokio::test]
async fn every_form_of_error_is_understood_and_quoted() {
    use Dialect::*;
    for dialects in [vec![], vec![ErrorText], vec![ErrorDetail], vec![ErrorIn200], vec![ErrorText, Gzip]] {
        let mock = mock(|o| o.dialects = dialects.clone());
        let embedder = embedder(at(mock.base_url()));
        // A throttled call is repeated.
        mock.set_faults(vec![Rule::new(On::Embeddings, Act::Status).code(429).times(1)]).unwrap();
        assert_vectors(&embed(&embedder, &TEXTS).await.unwrap(), &TEXTS);
        for (code, class) in [(500, ErrorClass::Unavailable), (401, ErrorClass::System)] {
            mock.set_faults(vec![Rule::new(On::Embeddings, Act::Status).code(code).times(1)]).unwrap();
            let error = embed(&embedder, &TEXTS).await.unwrap_err();
            assert_eq!(error.class, class, "{dialects:?}: {error}");
            assert!(error.message.contains("Sorry about that!"), "{dialects:?}: {error}");
            assert!(!error.message.contains("test-key"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_text_without_a_vector_fails_and_its_neighbours_do_not() {
    for dialect in [Dialect::NullVector, Dialect::ZeroVector] {
        let mock = mock(|o| o.dialects = vec![dialect]);
        let texts = ["one", UNEMBEDDABLE, "three"];
        let batch = embed(&embedder(at(mock.base_url())), &texts).await.unwrap();
        let codes: Vec<_> = batch.vectors.iter().map(|v| v.as_ref().map_or_else(|e| e.code.as_str(), |_| "")).collect();
        assert_eq!(codes, ["", "bad_vector", ""], "{dialect:?}");
        assert_eq!(mock.charges().live.requests, 1);
    }
    let python = mock(|o| {
        (o.floats, o.faults) = (true, vec![Rule::new(On::Embeddings, Act::Nan)]);
    });
    let batch = embed(&embedder(at(python.base_url())), &["one", "two"]).await.unwrap();
    assert_eq!(batch.vectors.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn a_text_that_makes_the_server_fail_is_found_and_its_neighbours_are_embedded() {
    let mock = mock(|o| (o.dialects, o.charges_by_text) = (vec![Dialect::CrashOnText], true));
    let embedder = embedder(at(mock.base_url()));
    let texts = ["one", "two", UNEMBEDDABLE, "four", "five"];
    for _ in 0..4 {
        assert_eq!(embed(&embedder, &texts).await.unwrap_err().class, ErrorClass::Unavailable);
    }
    let batch = embed(&embedder, &texts).await.unwrap();
    let classes: Vec<_> = batch.vectors.iter().map(|v| v.as_ref().err().map(|e| e.class)).collect();
    assert_eq!(classes, [None, None, Some(ErrorClass::Transient), None, None]);
    // The text alone is charged with the failure again.
    let batch = embed(&embedder, &[UNEMBEDDABLE]).await.unwrap();
    assert_eq!(batch.vectors[0].as_ref().unwrap_err().class, ErrorClass::Transient);
    let twice = mock.charges().by_text.values().filter(|times| times.live > 1).count();
    assert_eq!(twice, 1, "only the text that tries the endpoint is paid again");
}

#[tokio::test]
async fn a_wait_may_be_a_date() {
    let mock = mock(|o| {
        o.dialects = vec![Dialect::RetryAfterDate];
        o.faults = vec![Rule::new(On::Embeddings, Act::Status).code(429).retry_after(1.0).times(1)];
    });
    let began = tokio::time::Instant::now();
    let limits = AdmissionOptions { backoff_initial_seconds: 0.01, ..at("").limits };
    let embedder = embedder(OpenAiOptions { limits, ..at(mock.base_url()) });
    assert_vectors(&embed(&embedder, &TEXTS).await.unwrap(), &TEXTS);
    assert!(began.elapsed().as_secs_f64() >= 0.9, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_smaller_limit_on_texts_is_learned() {
    use Dialect::*;
    for dialects in [vec![], vec![Limit413], vec![Limit422], vec![ErrorDetail]] {
        let mock = mock(|o| (o.limits.inputs_per_request, o.dialects) = (32, dialects.clone()));
        let embedder = embedder(at(mock.base_url()));
        let texts: Vec<String> = (0..200).map(|n| format!("passage {n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_vectors(&embed(&embedder, &texts).await.unwrap(), &texts);
        assert_eq!(embedder.most().0, 25, "{dialects:?}");
        let refused = mock.charges().refused.values().sum::<u64>();
        assert_vectors(&embed(&embedder, &texts).await.unwrap(), &texts);
        assert_eq!(mock.charges().refused.values().sum::<u64>(), refused, "{dialects:?}: nothing is refused again");
    }
}

#[tokio::test]
async fn the_version_in_the_address_may_be_missing_or_needless() {
    for (root, bases) in [
        ("/v1", vec!["", "/", "/v1", "/v1/", "/v1/embeddings"]),
        ("", vec!["", "/v1"]),
        ("/openai/v1", vec!["/openai/v1", "/openai/v1/", "/openai"]),
    ] {
        let mock = mock(|o| o.root = root.into());
        for base in bases {
            let embedder = embedder(at(format!("http://127.0.0.1:{}{base}", mock.port())));
            for _ in 0..2 {
                let before = mock.charges().refused.values().sum::<u64>();
                let batch = embed(&embedder, &TEXTS).await.unwrap_or_else(|error| panic!("{root} {base}: {error}"));
                assert_vectors(&batch, &TEXTS);
                assert!(mock.charges().refused.values().sum::<u64>() <= before + 1);
            }
        }
        let wrong = embedder(at(format!("http://127.0.0.1:{}/wrong", mock.port())));
        let error = embed(&wrong, &TEXTS).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::System, "provider_path"), "{error}");
    }
}

#[tokio::test]
async fn a_redirection_is_followed_and_the_key_stays_at_home() {
    let moved = mock(|o| o.redirect = Some("/moved/v1".into()));
    assert_vectors(&embed(&embedder(at(moved.base_url())), &TEXTS).await.unwrap(), &TEXTS);

    // Another port is another server, which gets no key.
    let other = mock(|_| {});
    let elsewhere = mock(|o| o.redirect = Some(other.base_url()));
    let error = embed(&embedder(at(elsewhere.base_url())), &TEXTS).await.unwrap_err();
    assert!(error.message.contains("You didn't provide an API key"), "{error}");

    // Another host without encryption would get the texts.
    let foreign = mock(|o| o.redirect = Some("http://localhost.example/v1".into()));
    let error = embed(&embedder(at(foreign.base_url())), &TEXTS).await.unwrap_err();
    assert!(error.message.contains("moved to http://localhost.example/v1/embeddings"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_described_and_not_tried_again() {
    let options = at(format!("https://127.0.0.1:{}/v1", encrypted_server().unwrap()));
    let client = Client::new(&options, "test-key".into()).unwrap();
    let error = client.has_model("m").await.unwrap_err();
    assert!(matches!(&error, CallError::Untrusted(_)), "{error:?}");
    let error = embed(&embedder(options), &TEXTS).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::System, "provider_certificate"));
    for part in ["127.0.0.1 is not trusted", "`Example Private Authority, Example Company`", "SSL_CERT_FILE"] {
        assert!(error.message.contains(part), "{error}");
    }
}
