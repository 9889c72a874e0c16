//! Tests batches against a mock provider that implements the real protocol and records its charges.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use docweir_mock_provider::{Act, MockProvider, On, Options, Pace, Rule, vector};

use super::super::options::OpenAiOptions;
use super::super::request_lines::RequestLines;
use super::super::results::{Flaw, ItemResult, ReadOptions, read_results};
use super::super::transfer::{TransferError, TransferOptions};
use super::*;

const DIMENSIONS: u32 = 16;

/// Combines a mock provider, its client, and a folder.
struct BatchFixture {
    mock: MockProvider,
    client: Client,
    limits: TransferOptions,
    folder: tempfile::TempDir,
}

fn bench(change: impl FnOnce(&mut Options)) -> BatchFixture {
    let mut options = Options::default();
    change(&mut options);
    let mock = MockProvider::start(options).unwrap();
    let options = OpenAiOptions { base_url: mock.base_url(), request_seconds: 5.0, ..OpenAiOptions::default() };
    let client = Client::new(&options, "test-key".into()).unwrap();
    let limits = TransferOptions { stall_seconds: 5.0, ..TransferOptions::default() };
    BatchFixture { mock, client, limits, folder: tempfile::tempdir().unwrap() }
}

fn text(n: usize) -> String {
    format!("text \"number\" {n}\n")
}

fn metadata(run: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("docweir".into(), run.into())])
}

impl BatchFixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fault(&self, rule: Rule) {
        self.mock.set_faults(vec![rule]).unwrap();
    }

    async fn upload(&self, texts: usize) -> String {
        let path = self.path("in.jsonl");
        let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
        let lines = RequestLines { model: "text-embedding-3-small", dimensions: Some(DIMENSIONS), encoding: "base64" };
        let size: u64 = (0..texts).map(|n| lines.write(&format!("id {n}"), &text(n), &mut file).unwrap()).sum();
        file.flush().unwrap();
        assert_eq!(path.metadata().unwrap().len(), size);
        self.client.upload(&path, "in.jsonl", &self.limits).await.unwrap()
    }

    async fn submit(&self, texts: usize) -> BatchObject {
        self.client.create_batch(&self.upload(texts).await, &metadata("run 1")).await.unwrap()
    }

    async fn until(&self, id: &str, wanted: impl Fn(&RemoteBatchStatus) -> bool) -> BatchObject {
        for _ in 0..2_000 {
            let batch = self.client.get_batch(id).await.unwrap();
            if wanted(&batch.status) {
                return batch;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{id} takes too long");
    }

    async fn end(&self, id: &str) -> BatchObject {
        self.until(id, RemoteBatchStatus::is_terminal).await
    }

    async fn outcomes(&self, file: &Option<String>) -> Vec<ItemResult> {
        let Some(id) = file else { return Vec::new() };
        let path = self.path(id);
        let bytes = self.client.download(id, &path, &self.limits).await.unwrap();
        assert_eq!(path.metadata().unwrap().len(), bytes);
        let mut all = Vec::new();
        let file = std::fs::File::open(&path).unwrap();
        let options = ReadOptions { block_bytes: 1_000, ..ReadOptions::default() };
        read_results(file, DIMENSIONS as usize, options, |group| {
            all.extend(group);
            Ok::<_, std::io::Error>(())
        })
        .unwrap();
        all
    }
}

#[tokio::test]
async fn a_batch_goes_up_and_its_vectors_come_down() {
    let bench = bench(|_| {});
    let created = bench.submit(300).await;
    assert_eq!((&created.status, created.metadata), (&RemoteBatchStatus::Validating, metadata("run 1")));
    assert_eq!(created.expires_at, created.created_at.map(|at| at + 24 * 3_600));
    let batch = bench.end(&created.id).await;
    assert_eq!(batch.status, RemoteBatchStatus::Completed);
    assert_eq!(batch.request_counts, RequestCounts { total: 300, completed: 300, failed: 0 });
    let mut charged = 0;
    let mut seen = vec![false; 300];
    for outcome in bench.outcomes(&batch.output_file_id).await {
        let ItemResult::Row { custom_id, vector: made, tokens } = outcome else { panic!("{outcome:?}") };
        let n: usize = custom_id.strip_prefix("id ").unwrap().parse().unwrap();
        let near: f32 = made.iter().zip(vector(&text(n), DIMENSIONS as usize)).map(|(a, b)| a * b).sum();
        assert!((near - 1.0).abs() < 1e-5, "{custom_id}: {near}");
        seen[n] = true;
        charged += tokens;
    }
    assert!(seen.iter().all(|seen| *seen));
    assert_eq!((Some(charged), charged), (batch.tokens, bench.mock.charges().batch.tokens));
}

#[tokio::test]
async fn a_bad_line_costs_one_item_and_a_paid_row_is_never_lost() {
    use Act::*;
    let on = |act| Rule::new(On::BatchOutcome, act);
    // Expected numbers of rows, unusable vectors, refusals and bad lines, over both files.
    let table = [
        (on(Shuffled), "completed", [10, 0, 0, 0]),
        (on(BadLine), "completed", [9, 0, 0, 1]),
        (on(Truncated), "completed", [9, 0, 0, 1]),
        (on(DuplicateLines).share(0.2), "completed", [12, 0, 0, 0]),
        (on(MissingLines).share(0.2), "completed", [8, 0, 0, 0]),
        (on(WrongDimension).share(0.5), "completed", [5, 5, 0, 0]),
        (on(Nan), "completed", [9, 1, 0, 0]),
        (on(ErrorLines).share(0.4), "completed", [6, 0, 4, 0]),
        (on(Expire).share(0.3), "expired", [3, 0, 7, 0]),
        (on(Cancel), "cancelled", [5, 0, 0, 0]),
        (on(Fail), "failed", [0, 0, 0, 0]),
    ];
    let bench = bench(|_| {});
    for (rule, status, expected) in table {
        bench.fault(rule.clone());
        let batch = bench.end(&bench.submit(10).await.id).await;
        assert_eq!(batch.status.as_str(), status, "{rule:?}");
        let mut counts = [0; 4];
        let mut all = bench.outcomes(&batch.output_file_id).await;
        all.extend(bench.outcomes(&batch.error_file_id).await);
        for outcome in all {
            let kind = match outcome {
                ItemResult::Row { .. } => 0,
                ItemResult::Unusable { why, tokens, .. } => {
                    assert!(matches!(why, Flaw::Dimension(15) | Flaw::NotFinite) && tokens > 0);
                    1
                }
                ItemResult::Refused { code, retryable, .. } => {
                    assert_eq!(retryable, code != "invalid_request_error", "{code}");
                    assert_eq!(code == "batch_expired", status == "expired", "{code}");
                    2
                }
                ItemResult::Bad { .. } => 3,
            };
            counts[kind] += 1;
        }
        assert_eq!(counts, expected, "{rule:?}");
        let code = batch.errors.first().map(|error| error.code.as_str());
        assert_eq!(code, (status == "failed").then_some("server_error"));
    }
}

#[tokio::test]
async fn an_input_file_that_is_wrong_is_told_by_code_and_line() {
    let bench = bench(|_| {});
    let path = bench.path("bad.jsonl");
    let lines = RequestLines { model: "text-embedding-3-small", dimensions: None, encoding: "base64" };
    let mut content = Vec::new();
    lines.write("a", "secret words", &mut content).unwrap();
    lines.write("a", "secret words", &mut content).unwrap();
    std::fs::write(&path, content).unwrap();
    let file = bench.client.upload(&path, "bad \"name\"\r\n.jsonl", &bench.limits).await.unwrap();
    let batch = bench.client.create_batch(&file, &BTreeMap::new()).await.unwrap();
    let batch = bench.end(&batch.id).await;
    assert_eq!(batch.errors, [BatchProblem { code: "duplicate_custom_id".into(), line: Some(2) }]);
    assert!(!format!("{batch:?}").contains("secret"));
}

#[tokio::test]
async fn what_is_cancelled_keeps_what_was_paid() {
    let pace = Pace { items_per_second: Some(100.0), finalize: Duration::from_millis(200), ..Pace::default() };
    let bench = bench(|o| o.pace = pace);
    let id = bench.submit(1_000).await.id;
    while bench.client.get_batch(&id).await.unwrap().request_counts.completed == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.client.cancel_batch(&id).await.unwrap().status, RemoteBatchStatus::Cancelling);
    let batch = bench.end(&id).await;
    assert_eq!(batch.status, RemoteBatchStatus::Cancelled);
    let rows = bench.outcomes(&batch.output_file_id).await.len() as u64;
    assert_eq!((rows, batch.tokens), (bench.mock.charges().batch.requests, Some(bench.mock.charges().batch.tokens)));
    assert!(matches!(bench.client.cancel_batch(&id).await, Err(CallError::Failed(_))));
}

#[tokio::test]
async fn a_batch_whose_creation_was_lost_is_found_by_its_metadata() {
    let bench = bench(|_| {});
    let file = bench.upload(3).await;
    let listed = async || bench.client.list_batches(None, 100).await.unwrap().items;
    // A client cannot tell whether the request was executed.
    let table = [
        (Rule::new(On::Batches, Act::Status).code(500), false, 0),
        (Rule::new(On::Batches, Act::Status).code(429), false, 0),
        (Rule::new(On::Batches, Act::CutBefore), true, 0),
        (Rule::new(On::Batches, Act::CutAfter), true, 1),
        (Rule::new(On::Batches, Act::CutMiddle), true, 1),
        (Rule::new(On::Batches, Act::Garbage), true, 1),
    ];
    for (n, (rule, may_be_charged, made)) in table.into_iter().enumerate() {
        bench.fault(rule.clone());
        let run = metadata(&format!("run {n}"));
        let error = bench.client.create_batch(&file, &run).await.unwrap_err();
        assert_eq!(error.may_be_charged(), may_be_charged, "{rule:?}: {error}");
        let found = listed().await.into_iter().filter(|batch| batch.metadata == run).count();
        assert_eq!(found, made, "{rule:?}");
    }
}

#[tokio::test]
async fn what_reached_nobody_was_not_charged() {
    // Port 1 is reserved, so nothing listens on it.
    let options = OpenAiOptions { base_url: "http://127.0.0.1:1/v1".into(), ..OpenAiOptions::default() };
    for key in ["test-key", "no\nheader"] {
        let client = Client::new(&options, key.into()).unwrap();
        let error = client.create_batch("file", &BTreeMap::new()).await.unwrap_err();
        assert!(matches!(error, CallError::Failed(_) | CallError::Unkeyed(_)) && !error.may_be_charged(), "{error}");
        assert!(!error.to_string().contains(key), "{error}");
    }
}

#[tokio::test]
async fn lists_are_read_page_by_page_and_files_go_away() {
    let bench = bench(|_| {});
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, bench.submit(1).await.id);
    }
    let client = &bench.client;
    let first = client.list_batches(None, 2).await.unwrap();
    let second = client.list_batches(first.next.as_deref(), 2).await.unwrap();
    let read: Vec<_> = first.items.into_iter().chain(second.items).map(|batch| batch.id).collect();
    assert_eq!((read, second.next), (ids, None));
    let gone = &bench.upload(1).await;
    client.delete_file(gone).await.unwrap();
    assert!(matches!(client.delete_file(gone).await, Err(CallError::Missing(_))));
    assert!(matches!(client.get_batch("../files").await, Err(CallError::Missing(_))));
}

#[tokio::test]
async fn an_upload_finds_the_address_with_the_version() {
    let bench = bench(|_| {});
    let base_url = format!("http://127.0.0.1:{}", bench.mock.port());
    let client = Client::new(&OpenAiOptions { base_url, ..OpenAiOptions::default() }, "test-key".into()).unwrap();
    std::fs::write(bench.path("in"), "{}\n").unwrap();
    client.upload(&bench.path("in"), "in", &bench.limits).await.unwrap();
}

#[tokio::test]
async fn a_refused_file_or_batch_is_not_quoted() {
    let bench = bench(|_| {});
    std::fs::write(bench.path("in"), "{}\n").unwrap();
    let rule = |on| Rule::new(on, Act::Status).code(400);
    bench.mock.set_faults(vec![rule(On::Files), rule(On::Batches)]).unwrap();
    let error = bench.client.upload(&bench.path("in"), "in", &bench.limits).await.unwrap_err().to_string();
    assert!(error.contains("400 Bad Request") && !error.contains("The server had"), "{error}");
    let error = bench.client.create_batch("file", &BTreeMap::new()).await.unwrap_err().to_string();
    assert!(error.contains("400 Bad Request") && !error.contains("The server had"), "{error}");
}

/// Returns a long content that is transferred in several pieces. The content is not a valid batch file; the mock
/// provider accepts it, because an upload is checked only when a batch uses it.
fn long() -> Vec<u8> {
    (0..700_000u32).flat_map(|n| [(n % 251) as u8, b'\n']).collect()
}

#[tokio::test]
async fn a_cut_download_goes_on_where_parts_are_served_and_else_begins_again() {
    for ranges in [false, true] {
        let bench = bench(|o| o.ranges = ranges);
        let content = long();
        std::fs::write(bench.path("in"), &content).unwrap();
        let id = bench.client.upload(&bench.path("in"), "in", &bench.limits).await.unwrap();
        let (to, part) = (bench.path("out"), bench.path("out.part"));
        let fetch = async || bench.client.download(&id, &to, &bench.limits).await;
        bench.fault(Rule::new(On::Content, Act::CutMiddle).times(1));
        assert!(matches!(fetch().await, Err(TransferError::Call(CallError::Lost(_)))));
        let kept = std::fs::read(&part).unwrap();
        assert!(!to.exists() && !kept.is_empty() && content.starts_with(&kept), "{}", kept.len());
        // The changed first byte shows whether it was downloaded again.
        std::fs::write(&part, [b"#", &kept[1..]].concat()).unwrap();
        assert_eq!(fetch().await.unwrap(), content.len() as u64);
        let got = std::fs::read(&to).unwrap();
        assert_eq!((got[0], got[1..] == content[1..]), (if ranges { b'#' } else { content[0] }, true));
        assert!(!part.exists());

        // The download was complete, but not renamed.
        std::fs::rename(&to, &part).unwrap();
        assert_eq!(fetch().await.unwrap(), content.len() as u64);
        // A partial file that is longer than the content is not its beginning.
        std::fs::write(&part, [&content[..], b"more"].concat()).unwrap();
        if ranges {
            assert!(matches!(fetch().await, Err(TransferError::Call(CallError::Failed(_)))));
        }
        fetch().await.unwrap();
        assert!(std::fs::read(&to).unwrap() == content);
    }
}

#[tokio::test]
async fn transfers_have_limits_of_their_own() {
    let bench = bench(|_| {});
    std::fs::write(bench.path("in"), long()).unwrap();
    let options = OpenAiOptions { base_url: bench.mock.base_url(), request_seconds: 0.1, ..OpenAiOptions::default() };
    let client = Client::new(&options, "test-key".into()).unwrap();
    let slow = |on| Rule::new(on, Act::Slow).seconds(0.4);
    let lost = |result: Result<String, TransferError>, what: &str| {
        let error = result.unwrap_err();
        assert!(matches!(&error, TransferError::Call(CallError::Lost(text)) if text.contains(what)), "{error}");
    };
    let up = async |limits: &TransferOptions| client.upload(&bench.path("in"), "in", limits).await;
    let down = async |id: &str, limits: &TransferOptions| {
        client.download(id, &bench.path("out"), limits).await.map(|bytes| bytes.to_string())
    };
    let limits = |stall_seconds, transfer_seconds| TransferOptions {
        stall_seconds,
        transfer_seconds,
        ..TransferOptions::default()
    };
    bench.fault(slow(On::Files));
    lost(up(&limits(0.1, 5.0)).await, "no data for 0.1 seconds");
    lost(up(&limits(5.0, 0.1)).await, "no answer in time");
    let id = up(&limits(5.0, 5.0)).await.unwrap();
    bench.fault(slow(On::Content));
    lost(down(&id, &limits(0.1, 5.0)).await, "no data for 0.1 seconds");
    lost(down(&id, &limits(5.0, 0.1)).await, "no answer in time");
    assert_eq!(down(&id, &limits(5.0, 5.0)).await.unwrap(), "1400000");

    let small = TransferOptions { max_file_bytes: 1_399_999, ..TransferOptions::default() };
    assert!(matches!(down(&id, &small).await, Err(TransferError::Call(CallError::Refused(_)))));
    assert!(matches!(down("none", &small).await, Err(TransferError::Call(CallError::Missing(_)))));
    let nowhere = client.upload(&bench.path("nothing"), "in", &small).await.unwrap_err();
    assert!(matches!(&nowhere, TransferError::Local { .. }) && nowhere.to_string().contains("nothing"), "{nowhere}");
    let nowhere = client.download(&id, &bench.path("no/folder"), &small).await.unwrap_err();
    assert!(matches!(&nowhere, TransferError::Local { .. }), "{nowhere}");
}
