//! Tests the calls to SQS and the events that a bucket sends to a queue, against ministack if it is installed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use bytes::Bytes;
use docweir_aws::s3::{QueueNotification, S3, When};
use docweir_aws::sqs::{Queue, QueueSpec, Redrive, Sqs};
use docweir_aws::{Aws, AwsOptions, FaultKind, S3Options};
use docweir_testkit::servers::shared_ministack;

const NOT_AT_ALL: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);

async fn account() -> Option<Aws> {
    let server = shared_ministack()?;
    let options =
        AwsOptions { region: "eu-central-1".into(), endpoint: server.endpoint().into(), ..AwsOptions::default() };
    Some(Aws::find(options).await.with_keys("test", "test"))
}

fn spec(redrive: Option<Redrive>) -> QueueSpec {
    let name = format!("q{:08x}", fastrand::u32(..));
    QueueSpec { name, hidden: MINUTE, kept: MINUTE * 60, redrive }
}

async fn one(queue: &Queue) -> docweir_aws::sqs::Message {
    let received = queue.receive(1, Duration::from_secs(5), MINUTE).await.unwrap();
    received.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_message_comes_until_it_is_deleted_and_is_hidden_meanwhile() {
    let Some(aws) = account().await else { return };
    let sqs = Sqs::new(&aws, "");
    let spec = spec(None);
    assert_eq!(sqs.find(&spec.name).await.unwrap().map(|q| q.url().to_owned()), None);
    let queue = sqs.create(&spec).await.unwrap();
    assert_eq!(
        sqs.create(&spec).await.unwrap().name(),
        spec.name,
        "a queue that exists must be created without an error"
    );
    let found = sqs.find(&spec.name).await.unwrap().unwrap();
    found.send("{\"a\": \"ü\"}", NOT_AT_ALL).await.unwrap();
    let first = one(&queue).await;
    assert_eq!((first.body.as_str(), first.receives), ("{\"a\": \"ü\"}", 1));
    assert_eq!(queue.receive(10, NOT_AT_ALL, MINUTE).await.unwrap(), [], "hidden");
    queue.hide(&first.receipt, NOT_AT_ALL).await.unwrap();
    let again = one(&queue).await;
    assert_eq!((again.id.as_str(), again.receives), (first.id.as_str(), 2));
    let lost = queue.hide(&first.receipt, MINUTE).await.unwrap_err();
    assert_eq!(lost.kind, FaultKind::Condition, "{lost}");
    let state = queue.state().await.unwrap().unwrap();
    assert_eq!((state.waiting, state.hidden), (0, 1));

    queue.send("other", NOT_AT_ALL).await.unwrap();
    let other = one(&queue).await;
    let receipts = [other.receipt.clone(), "nobody's".to_owned(), again.receipt.clone()];
    let failed = queue.delete(&receipts).await.unwrap();
    assert_eq!(
        failed.iter().map(|(r, f)| (r.as_str(), f.kind)).collect::<Vec<_>>(),
        [("nobody's", FaultKind::Condition)]
    );
    let state = queue.state().await.unwrap().unwrap();
    assert_eq!((state.waiting, state.hidden), (0, 0));
    assert_eq!(queue.delete(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_message_that_is_received_too_often_goes_to_the_dead_letters() {
    let Some(aws) = account().await else { return };
    let sqs = Sqs::new(&aws, "");
    let dead = sqs.create(&spec(None)).await.unwrap();
    let redrive = Redrive { dead_letters: dead.state().await.unwrap().unwrap().arn, receives: 2 };
    let queue = sqs.create(&spec(Some(redrive.clone()))).await.unwrap();
    assert_eq!(queue.state().await.unwrap().unwrap().redrive, Some(redrive.clone()));
    queue.send("poison", NOT_AT_ALL).await.unwrap();
    for receives in 1..=2 {
        let message = one(&queue).await;
        assert_eq!(message.receives, receives);
        queue.hide(&message.receipt, NOT_AT_ALL).await.unwrap();
    }
    assert_eq!(queue.receive(1, NOT_AT_ALL, MINUTE).await.unwrap(), []);
    assert_eq!(one(&dead).await.body, "poison");
    queue.set_redrive(&Redrive { receives: 7, ..redrive }).await.unwrap();
    queue.set_policy("{}").await.unwrap();
    let state = queue.state().await.unwrap().unwrap();
    assert_eq!((state.redrive.map(|r| r.receives), state.policy.as_deref()), (Some(7), Some("{}")));
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_said_to_be() {
    let Some(aws) = account().await else { return };
    let sqs = Sqs::new(&aws, "");
    let queue = sqs.create(&spec(None)).await.unwrap();
    let none = sqs.at(&format!("{}x", queue.url()));
    assert_eq!(none.state().await.unwrap(), None);
    assert_eq!(none.receive(1, NOT_AT_ALL, MINUTE).await.unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(none.send("x", NOT_AT_ALL).await.unwrap_err().kind, FaultKind::NotFound);
}

#[tokio::test]
async fn a_bucket_tells_a_queue_and_goes_on_telling_others() {
    let Some(aws) = account().await else { return };
    let sqs = Sqs::new(&aws, "");
    let bucket = S3::new(&aws, &S3Options { path_style: true, ..S3Options::default() });
    let bucket = bucket.bucket(&format!("b{:08x}", fastrand::u32(..)));
    bucket.create().await.unwrap();
    assert_eq!(bucket.queue_notifications().await.unwrap(), []);
    let [ours, theirs] = [sqs.create(&spec(None)).await.unwrap(), sqs.create(&spec(None)).await.unwrap()];
    let notification = |id: &str, queue: String, prefix: &str| QueueNotification {
        id: id.into(),
        queue,
        prefix: prefix.into(),
        suffix: String::new(),
        events: vec!["s3:ObjectCreated:*".into(), "s3:ObjectRemoved:*".into()],
    };
    let foreign = notification("theirs", theirs.state().await.unwrap().unwrap().arn, "other/");
    let foreign = QueueNotification { suffix: ".csv".into(), ..foreign };
    bucket.put_queue_notification(&foreign).await.unwrap();
    let arn = ours.state().await.unwrap().unwrap().arn;
    bucket.put_queue_notification(&notification("ours", arn.clone(), "in/")).await.unwrap();
    let wanted = notification("ours", arn, "input/");
    bucket.put_queue_notification(&wanted).await.unwrap();
    assert_eq!(bucket.queue_notifications().await.unwrap(), [foreign, wanted]);
    bucket.put("input/a.pdf", Bytes::from_static(b"x"), &When::Always).await.unwrap();
    bucket.put("elsewhere/a.pdf", Bytes::from_static(b"x"), &When::Always).await.unwrap();
    let mut bodies = Vec::new();
    while bodies.iter().all(|body: &String| !body.contains("ObjectCreated")) {
        bodies.push(one(&ours).await.body);
    }
    assert!(bodies.iter().any(|body| body.contains("s3:TestEvent")), "{bodies:?}");
    assert!(bodies.iter().any(|body| body.contains("input/a.pdf")), "{bodies:?}");
    assert_eq!(ours.receive(10, Duration::from_secs(1), MINUTE).await.unwrap(), []);
}
