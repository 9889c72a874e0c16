//! Tests the calls to Amazon Comprehend against a mock provider. The mock implements the protocol, enforces
//! Comprehend's limits and records charges.

use std::sync::Arc;
use std::time::Duration;

use docweir_aws::{Aws, AwsOptions};
use docweir_core::cache::{CacheOptions, NoCache};
use docweir_core::cancel::Cancel;
use docweir_core::clock::SystemClock;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::SentimentLabel;
use docweir_mock_provider::{Act, MockProvider, On, Options, Rule};
use docweir_providers::account::{Account, Alerts, BUDGET_SPENT, BudgetOptions};
use docweir_providers::comprehend::{Counting, Service, metered_apis, model, price};
use docweir_stages::enrich::Call;
use docweir_stages::enrich::comprehend::{Analyses, Analysis, Analyst, Api, ComprehendOptions, Refusal};
use docweir_stores::cache::SqliteFindingsCache;
use docweir_stores::ledger::{Amount, CostLine, GroupBy, Ledger, SqliteLedger};
use docweir_stores::paid;
use docweir_stores::sqlite::OpenOptions;
use tokio::time::Instant;

use crate::comprehend::AwsComprehend;

/// Holds a mock provider, and a folder for the cache and the ledger.
struct Place {
    folder: tempfile::TempDir,
    mock: MockProvider,
    options: ComprehendOptions,
}

impl Place {
    fn new(change: impl FnOnce(&mut Options)) -> Self {
        let mut mock = Options { charges_by_text: true, ..Options::default() };
        change(&mut mock);
        let mock = MockProvider::start(mock).unwrap();
        let options = ComprehendOptions {
            endpoint: mock.comprehend_url(),
            requests_per_second: 1_000.0,
            backoff_initial_seconds: 0.05,
            max_wait_seconds: 5.0,
            request_seconds: 5.0,
            ..ComprehendOptions::default()
        };
        Self { folder: tempfile::tempdir().unwrap(), mock, options }
    }

    fn with(faults: Vec<Rule>) -> Self {
        Self::new(|o| o.faults = faults)
    }

    fn ledger(&self) -> SqliteLedger {
        let options = OpenOptions::durable(Duration::from_secs(5), 1_000, 512);
        let database = paid::open(&self.folder.path().join("paid.db"), &options).unwrap();
        SqliteLedger::new(database, Arc::new(SystemClock))
    }

    fn accounts(&self, run_usd: f64) -> Vec<(Api, Account)> {
        let account = |api| Account {
            ledger: Arc::new(self.ledger()),
            run: "a run".into(),
            stage: "enrichment",
            model: model(api),
            collection: "chunks".into(),
            price: price(0.0001),
            options: BudgetOptions { run_usd, ..BudgetOptions::default() },
            alerts: Alerts::new(Arc::new(|_| {})),
        };
        Api::ALL.into_iter().map(|api| (api, account(api))).collect()
    }

    /// Opens the service as a new process does.
    async fn service(&self) -> Service {
        self.paying(0.0).await
    }

    async fn paying(&self, run_usd: f64) -> Service {
        let aws = AwsOptions { region: "eu-central-1".into(), ..AwsOptions::default() };
        let aws = Aws::find(aws).await.with_keys("key", "secret");
        let remote = Arc::new(AwsComprehend::new(&aws, &self.options));
        let metered_apis = metered_apis(&self.options, 0.0001, self.accounts(run_usd));
        let path = self.folder.path().join("findings.db");
        let cache = SqliteFindingsCache::open(&path, CacheOptions::for_findings());
        Service::new(remote, metered_apis, Arc::new(cache), self.options.clone())
    }

    /// Returns the amounts that are settled, reserved and in doubt, in nanodollars.
    async fn sums(&self) -> (u64, u64, u64) {
        let lines = self.ledger().report(GroupBy::Stage, "", 10).await.unwrap();
        assert!(lines.iter().all(|l| l.name == "enrichment"), "{lines:?}");
        let sum = |of: fn(&CostLine) -> Amount| lines.iter().map(|l| of(l).cost.0).sum();
        (sum(|l| l.settled), sum(|l| l.reserved), sum(|l| l.in_doubt))
    }
}

async fn ask(service: &Service, api: Api, texts: &[&str]) -> Result<Analyses, StageError> {
    let language = if api == Api::Language { "" } else { "en" };
    service.ask(api, language, texts, Call::new("a test", &Cancel::default())).await
}

fn kinds(answer: &Result<Analysis, Refusal>) -> Vec<(&str, usize, usize)> {
    match answer {
        Ok(Analysis::Spots(spots)) => spots.iter().map(|s| (s.kind.as_str(), s.start, s.end)).collect(),
        other => panic!("no spots: {other:?}"),
    }
}

const NAMES: &str = "👨‍👩‍👧 漢字: Jane Doe of Acme Widget Inc. wrote";

#[tokio::test]
async fn every_api_answers_and_the_ledger_are_the_services() {
    let place = Place::new(|_| {});
    let service = place.service().await;
    let entities = ask(&service, Api::Entities, &[NAMES, "nothing here"]).await.unwrap();
    assert_eq!(kinds(&entities.answers[0])[..2], [("PERSON", 10, 18), ("ORGANIZATION", 22, 37)]);
    assert_eq!((kinds(&entities.answers[1]), entities.usage.calls, entities.usage.units), (vec![], 1, 6));
    let personal = ask(&service, Api::PersonalData, &[NAMES]).await.unwrap();
    assert_eq!(kinds(&personal.answers[0]), [("NAME", 10, 18)]);
    let phrases = ask(&service, Api::KeyPhrases, &["some quarterly revenue"]).await.unwrap();
    assert_eq!(kinds(&phrases.answers[0]), [("", 0, 22)]);
    let mood = ask(&service, Api::Sentiment, &["a terrible loss"]).await.unwrap();
    assert!(matches!(&mood.answers[0], Ok(Analysis::Sentiment(s)) if s.label == SentimentLabel::Negative));
    let tongues = ask(&service, Api::Language, &["Der Vertrag ist nicht das"]).await.unwrap();
    assert!(matches!(&tongues.answers[0], Ok(Analysis::Languages(l)) if l[0].code == "de"));
    let charges = place.mock.charges().analysis;
    assert_eq!(place.sums().await, (charges.all.nanodollars, 0, 0));
    assert_eq!((charges.all.requests, charges.all.units, charges.by_operation.len()), (5, 18, 5));
}

#[tokio::test]
async fn requests_are_within_the_limits_and_nothing_is_paid_twice() {
    let place = Place::new(|o| (o.comprehend.texts_per_request, o.comprehend.bytes_per_text) = (7, 300));
    let place = Place { options: ComprehendOptions { max_texts: 7, ..place.options.clone() }, ..place };
    let texts: Vec<String> = (0..60).map(|n| format!("Number {} of the Great Numbers", n % 40)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let service = Arc::new(place.service().await);
    // Two concurrent requests contain each text twice.
    let (one, other) = tokio::join!(ask(&service, Api::Entities, &texts), ask(&service, Api::Entities, &texts));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.answers, other.answers);
    let charges = place.mock.charges().analysis;
    assert_eq!((charges.all.texts, charges.texts_paid_twice().len(), charges.refused.len()), (40, 0, 0));
    assert_eq!(one.usage.units + other.usage.units, charges.all.units);
    // Another API or another language needs calls of its own. The next process finds the answers in the cache.
    let again = place.service().await;
    assert_eq!(ask(&again, Api::Entities, &texts).await.unwrap().usage.calls, 0);
    assert_eq!(place.mock.charges().analysis, charges);
    let german = again.ask(Api::Entities, "de", &texts[..1], Call::new("x", &Cancel::default())).await.unwrap();
    assert_eq!((german.usage.calls, ask(&again, Api::KeyPhrases, &texts[..1]).await.unwrap().usage.calls), (1, 1));
}

#[tokio::test]
async fn the_ledger_agree_with_the_services_however_a_call_ends() {
    let on = |act| Rule::new(On::Detect, act).times(1);
    // A failure that was certainly not charged costs nothing; one that may have been charged is in doubt.
    let table = [
        (None, false),
        (Some(on(Act::Throttle)), false),
        (Some(on(Act::Status).code(500)), false),
        (Some(on(Act::Status).code(503)), false),
        (Some(on(Act::Status).code(400)), false),
        (Some(on(Act::Status).code(403)), false),
        (Some(on(Act::ItemErrors)), false),
        (Some(on(Act::ItemErrors).share(1.0).item("UNSUPPORTED_LANGUAGE")), false),
        (Some(on(Act::CutBefore)), true),
        (Some(on(Act::CutAfter)), true),
        (Some(on(Act::CutMiddle)), true),
        (Some(on(Act::Garbage)), true),
    ];
    for (rule, doubtful) in table {
        let place = Place::with(rule.clone().into_iter().collect());
        let service = place.service().await;
        let _ = ask(&service, Api::Sentiment, &["a stale lease", "is fenced"]).await;
        let charged = place.mock.charges().analysis.all.nanodollars;
        let (settled, reserved, doubt) = place.sums().await;
        assert_eq!((reserved, doubt > 0), (0, doubtful), "{rule:?}");
        assert!(settled <= charged && charged <= settled + doubt, "{rule:?}: {settled} {charged} {doubt}");
        assert!(doubtful || settled == charged, "{rule:?}: {settled} {charged}");
        // After any fault the same texts are answered, and texts that were answered are not charged again.
        let answered = ask(&service, Api::Sentiment, &["a stale lease", "is fenced"]).await;
        assert!(answered.unwrap().answers.iter().all(Result::is_ok) || rule.is_some(), "{rule:?}");
    }
}

#[tokio::test]
async fn a_text_that_fails_alone_is_asked_about_alone() {
    let place = Place::with(vec![Rule::new(On::DetectEntities, Act::ItemErrors).share(0.4).times(1)]);
    let texts: Vec<String> = (0..20).map(|n| format!("Passage {n} of Acme Widget Inc")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let service = place.service().await;
    let answers = ask(&service, Api::Entities, &texts).await.unwrap();
    for (answer, text) in answers.answers.iter().zip(&texts) {
        let at = text.find("Acme").unwrap();
        assert!(kinds(answer).contains(&("ORGANIZATION", at, text.len())), "{text}: {answer:?}");
    }
    let charges = place.mock.charges().analysis;
    let failed = charges.all.requests - 1;
    assert!(failed > 2 && failed < 20, "{failed} requests failed");
    assert_eq!((charges.all.texts, charges.texts_paid_twice().len()), (20, 0));
    assert_eq!(place.sums().await, (charges.all.nanodollars, 0, 0));
}

#[tokio::test]
async fn a_text_that_keeps_failing_fails_the_attempt_and_its_neighbours_are_kept() {
    let place = Place::with(vec![Rule::new(On::Detect, Act::ItemErrors)]);
    let service = place.service().await;
    let error = ask(&service, Api::Entities, &["a", "b", "c"]).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Transient, "comprehend_item_failed"));
    let charges = place.mock.charges();
    assert_eq!(
        (charges.analysis.all.texts, charges.faults["detect:item_errors"]),
        (2, 3),
        "three attempts of the first"
    );
    place.mock.set_faults(Vec::new()).unwrap();
    assert_eq!(ask(&service, Api::Entities, &["a", "b", "c"]).await.unwrap().usage.units, 3);
}

#[tokio::test]
async fn what_never_has_an_answer_is_told_apart_and_asked_about_once() {
    for (code, refusal) in [("UNSUPPORTED_LANGUAGE", Refusal::Language), ("TEXT_SIZE_LIMIT_EXCEEDED", Refusal::TooLong)]
    {
        let place = Place::with(vec![Rule::new(On::Detect, Act::ItemErrors).item(code)]);
        let answers = ask(&place.service().await, Api::KeyPhrases, &["a", "b"]).await.unwrap();
        assert_eq!((&answers.answers[0], answers.answers[1].is_ok()), (&Err(refusal), true));
        assert_eq!(place.mock.charges().faults["detect:item_errors"], 1);
    }
    // Personal data in an unsupported language is refused, and so is a text that is too long.
    let place = Place::new(|o| o.comprehend.bytes_of_personal_text = 50);
    let service = place.service().await;
    let german = service.ask(Api::PersonalData, "de", &["Jane Doe"], Call::new("x", &Cancel::default())).await;
    assert_eq!(german.unwrap().answers, [Err(Refusal::Language)]);
    let long = "Jane Doe ".repeat(10);
    let answers = ask(&service, Api::PersonalData, &[&long, "Jane Doe"]).await.unwrap().answers;
    assert_eq!((&answers[0], answers[1].is_ok()), (&Err(Refusal::TooLong), true));
}

#[tokio::test]
async fn a_text_that_is_refused_is_found_by_halves_and_never_told() {
    let place = Place::new(|_| {});
    let service = place.service().await;
    let mut texts = vec!["a secret passage"; 1];
    let others: Vec<String> = (0..15).map(|n| format!("passage {n}")).collect();
    texts.extend(others.iter().map(String::as_str));
    // The service rejects a text of white space only, and quotes it in the message.
    texts.insert(7, "   ");
    let error = ask(&service, Api::Entities, &texts).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "comprehend_refused"));
    assert!(error.message.contains("ValidationException") && !error.message.contains("value"), "{error}");
    let charges = place.mock.charges().analysis;
    assert_eq!((charges.all.texts, charges.texts_paid_twice().len()), (16, 0), "the others were answered");
    assert_eq!(place.sums().await, (charges.all.nanodollars, 0, 0));
}

#[tokio::test]
async fn throttling_slows_and_fails_nothing() {
    let place = Place::new(|o| {
        o.comprehend.requests_per_second = Some(8.0);
        o.faults = vec![Rule::new(On::Detect, Act::Throttle).probability(0.2)];
    });
    let place =
        Place { options: ComprehendOptions { max_texts: 1, max_wait_seconds: 60.0, ..place.options.clone() }, ..place };
    let service = place.service().await;
    let texts: Vec<String> = (0..24).map(|n| format!("Passage number {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let answers = ask(&service, Api::Entities, &texts).await.unwrap();
    assert_eq!(answers.answers.len(), 24);
    let charges = place.mock.charges().analysis;
    assert!(charges.refused["ThrottlingException"] > 0, "{charges:?}");
    assert_eq!((charges.all.texts, place.sums().await), (24, (charges.all.nanodollars, 0, 0)));
}

#[tokio::test]
async fn a_service_that_is_slow_for_long_sends_the_document_back_without_an_attempt() {
    let place = Place::with(vec![Rule::new(On::Detect, Act::Slow).seconds(0.2)]);
    let options =
        ComprehendOptions { max_texts: 1, concurrency: 1, max_document_seconds: 0.5, ..place.options.clone() };
    let place = Place { options, ..place };
    let service = place.service().await;
    let texts: Vec<String> = (0..8).map(|n| format!("Passage number {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut tries = 0;
    // Answered texts are cached, so repeated requests make progress and end.
    while let Err(error) = ask(&service, Api::Entities, &texts).await {
        assert_eq!(error.class, ErrorClass::Throttled, "{error}");
        tries += 1;
        assert!(tries < 8, "no progress");
    }
    let charges = place.mock.charges().analysis;
    assert!(tries > 0);
    assert_eq!((charges.all.texts, charges.texts_paid_twice().len()), (8, 0));
}

#[tokio::test]
async fn a_service_that_is_down_is_held_against_no_document() {
    let place = Place::with(vec![Rule::new(On::Detect, Act::Status).code(500)]);
    let place = Place { options: ComprehendOptions { failures: 2, ..place.options.clone() }, ..place };
    let service = place.service().await;
    assert_eq!(ask(&service, Api::Entities, &["a"]).await.unwrap_err().class, ErrorClass::Transient);
    let error = ask(&service, Api::Entities, &["a"]).await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Unavailable, "provider_down"));
}

#[tokio::test]
async fn a_missing_permission_is_held_against_no_document_and_said() {
    let place = Place::with(vec![Rule::new(On::Detect, Act::Status).code(403)]);
    let error = ask(&place.service().await, Api::Entities, &["a"]).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unavailable);
    assert!(error.message.contains("AccessDenied") && error.message.contains("comprehend/entities"), "{error}");
}

#[tokio::test]
async fn a_stop_ends_a_call_that_hangs() {
    let place = Place::with(vec![Rule::new(On::Detect, Act::Slow).seconds(30.0)]);
    let options = ComprehendOptions { request_seconds: 60.0, ..place.options.clone() };
    let place = Place { options, ..place };
    let (service, cancel) = (place.service().await, Cancel::default());
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    };
    let began = Instant::now();
    let (asked, ()) = tokio::join!(service.ask(Api::Entities, "en", &["a"], Call::new("x", &cancel)), stop);
    assert_eq!(asked.unwrap_err().class, ErrorClass::Timeout);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let (settled, reserved, doubt) = place.sums().await;
    assert!(settled == 0 && reserved == 0 && doubt > 0, "the charge is unknown, so it is in doubt");
}

#[tokio::test]
async fn a_budget_stops_before_it_is_passed() {
    let place = Place::new(|_| {});
    let place = Place { options: ComprehendOptions { max_texts: 1, ..place.options.clone() }, ..place };
    // The budget covers ten texts of three units each.
    let service = place.paying(0.003).await;
    let texts: Vec<String> = (0..20).map(|n| format!("Passage number {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let error = ask(&service, Api::Entities, &texts).await.unwrap_err();
    assert_eq!(error.code, BUDGET_SPENT);
    let charged = place.mock.charges().analysis.all.nanodollars;
    assert_eq!((charged, place.sums().await), (3_000_000, (3_000_000, 0, 0)));
    // With a larger budget the remaining texts are processed.
    let service = place.paying(1.0).await;
    assert_eq!(ask(&service, Api::Entities, &texts).await.unwrap().usage.units, 30);
}

#[tokio::test]
async fn what_is_counted_is_what_is_charged() {
    let place = Place::new(|_| {});
    let service = place.service().await;
    let texts = ["a short one", "漢字 of Acme Widget Inc and more ", "a short one"];
    let long = "Acme Widget Inc ".repeat(60);
    let mut texts = texts.to_vec();
    texts.push(&long);
    ask(&service, Api::Entities, &texts[..1]).await.unwrap();
    let path = place.folder.path().join("findings.db");
    let cache = Arc::new(SqliteFindingsCache::open(&path, CacheOptions::for_findings()));
    let cancel = Cancel::default();
    let call = Call::new("x", &cancel);
    let counted = Counting::new(cache, 0.0001).ask(Api::Entities, "en", &texts, call).await.unwrap().usage;
    let paid = ask(&service, Api::Entities, &texts).await.unwrap().usage;
    assert_eq!((counted.units, counted.cost), (paid.units, paid.cost));
    let all = Counting::new(Arc::new(NoCache), 0.0001).ask(Api::Entities, "en", &texts, call).await.unwrap().usage;
    assert_eq!(all.units, place.mock.charges().analysis.all.units);
}
