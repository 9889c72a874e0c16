//! Tests the protocol of Amazon Comprehend: limits, partial failures, faults and charges.

use docweir_mock_provider::{Act, ComprehendLimits, On, Options, Rule};
use serde_json::{Value, json};

use crate::client::{Client, Reply, start};

const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-central-1/comprehend/aws4_request, Signature=0";

fn call(client: &Client, operation: &str, body: &Value) -> Option<Reply> {
    let target = format!("Comprehend_20171127.{operation}");
    let headers = [("x-amz-target", target.as_str()), ("authorization", SIGNED)];
    client.send("POST", "/", &headers, body.to_string().as_bytes())
}

fn batch(client: &Client, operation: &str, texts: &[&str]) -> Reply {
    call(client, operation, &json!({"LanguageCode": "en", "TextList": texts})).unwrap()
}

fn refused(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["__type"].as_str().unwrap().to_owned())
}

#[test]
fn each_operation_answers_in_its_own_shape() {
    let (mock, client) = start(Options::default());
    let entities = batch(&client, "BatchDetectEntities", &["漢字 Jane Doe", "nothing"]).json();
    let found = &entities["ResultList"][0]["Entities"][0];
    assert_eq!((&found["Type"], &found["BeginOffset"], &found["EndOffset"]), (&json!("PERSON"), &json!(3), &json!(11)));
    assert_eq!((&entities["ResultList"][1]["Index"], &entities["ErrorList"]), (&json!(1), &json!([])));
    let phrases = batch(&client, "BatchDetectKeyPhrases", &["some quarterly revenue"]).json();
    assert_eq!(phrases["ResultList"][0]["KeyPhrases"][0]["Text"], "some quarterly revenue");
    let mood = batch(&client, "BatchDetectSentiment", &["a great day"]).json();
    assert_eq!(mood["ResultList"][0]["Sentiment"], "POSITIVE");
    let tongue = call(&client, "BatchDetectDominantLanguage", &json!({"TextList": ["これは文です"]})).unwrap().json();
    assert_eq!(tongue["ResultList"][0]["Languages"][1]["LanguageCode"], "ja");
    let personal = json!({"LanguageCode": "en", "Text": "by jane@example.com"});
    assert_eq!(call(&client, "DetectPiiEntities", &personal).unwrap().json()["Entities"][0]["Type"], "EMAIL");
    let charges = mock.charges().analysis;
    assert_eq!((charges.all.requests, charges.all.texts, charges.all.units), (5, 6, 18));
    assert_eq!(charges.all.nanodollars, 18 * 100_000);
}

#[test]
fn limits_are_kept_and_what_is_refused_costs_nothing() {
    let (mock, client) = start(Options::default());
    let long = "ä".repeat(2_501);
    let partly = batch(&client, "BatchDetectSentiment", &["fine", &long]);
    assert_eq!((partly.status, &partly.json()["ResultList"][0]["Index"]), (200, &json!(0)));
    assert_eq!(partly.json()["ErrorList"][0]["ErrorCode"], "TEXT_SIZE_LIMIT_EXCEEDED");
    let too_many = batch(&client, "BatchDetectEntities", &["x"; 26]);
    assert_eq!(refused(&too_many), (400, "BatchSizeLimitExceededException".into()));
    assert_eq!(refused(&batch(&client, "BatchDetectEntities", &["x", " "])), (400, "ValidationException".into()));
    assert_eq!(refused(&batch(&client, "BatchDetectEntities", &[])), (400, "ValidationException".into()));
    assert_eq!(refused(&batch(&client, "DetectEverything", &["x"])), (400, "UnknownOperationException".into()));
    let table = [
        (
            "DetectPiiEntities",
            json!({"LanguageCode": "en", "Text": "x".repeat(100_001)}),
            "TextSizeLimitExceededException",
        ),
        ("DetectPiiEntities", json!({"LanguageCode": "de", "Text": "x"}), "UnsupportedLanguageException"),
        ("BatchDetectEntities", json!({"LanguageCode": "pl", "TextList": ["x"]}), "ValidationException"),
    ];
    for (operation, body, kind) in table {
        assert_eq!(refused(&call(&client, operation, &body).unwrap()), (400, kind.into()));
    }
    let target = [("x-amz-target", "Comprehend_20171127.BatchDetectEntities")];
    let unsigned = client.send("POST", "/", &target, br#"{"LanguageCode": "en", "TextList": ["x"]}"#).unwrap();
    assert_eq!(refused(&unsigned), (403, "MissingAuthenticationTokenException".into()));
    let charges = mock.charges().analysis;
    assert_eq!((charges.all.texts, charges.refused.values().sum::<u64>()), (1, 8));
}

#[test]
fn faults_and_rates_are_said_in_its_words() {
    let rules = vec![
        Rule::new(On::DetectSentiment, Act::Throttle).times(1),
        Rule::new(On::Detect, Act::ItemErrors).item("UNSUPPORTED_LANGUAGE").times(1).after(1),
        Rule::new(On::Detect, Act::CutAfter).times(1),
    ];
    let comprehend = ComprehendLimits { requests_per_second: Some(3.0), ..ComprehendLimits::default() };
    let (mock, client) = start(Options { faults: rules, comprehend, ..Options::default() });
    assert_eq!(refused(&batch(&client, "BatchDetectSentiment", &["x"])), (400, "ThrottlingException".into()));
    // The reply is lost, but the request is charged.
    assert!(call(&client, "BatchDetectEntities", &json!({"LanguageCode": "en", "TextList": ["x"]})).is_none());
    let partly = batch(&client, "BatchDetectEntities", &["x", "y"]).json();
    assert_eq!(
        (&partly["ErrorList"][0]["ErrorCode"], &partly["ResultList"][0]["Index"]),
        (&json!("UNSUPPORTED_LANGUAGE"), &json!(1))
    );
    let kinds: Vec<u16> = (0..4).map(|_| batch(&client, "BatchDetectEntities", &["x"]).status).collect();
    assert!(kinds.contains(&400), "{kinds:?}");
    assert!(
        batch(&client, "BatchDetectKeyPhrases", &["x"]).status == 200,
        "each operation must have its own rate limit"
    );
    let charges = mock.charges();
    assert!(charges.analysis.refused["ThrottlingException"] >= 2 && charges.analysis.all.texts >= 4, "{charges:?}");
    assert_eq!(
        (charges.accepted_requests, charges.live.requests),
        (0, 0),
        "calls to Comprehend must not appear in OpenAI's charges"
    );
}

#[test]
fn ledger_are_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { data: Some(folder.path().to_owned()), charges_by_text: true, ..Options::default() };
    let (mock, client) = start(options());
    batch(&client, "BatchDetectEntities", &["x", "x"]);
    let charges = mock.charges().analysis;
    assert_eq!(charges.texts_paid_twice().len(), 1);
    drop(mock);
    let (mock, _) = start(options());
    assert_eq!(mock.charges().analysis, charges);
}
