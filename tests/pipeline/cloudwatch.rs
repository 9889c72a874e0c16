//! Tests the metrics that a run sends to CloudWatch. AWS's own client reads the metrics back. They must equal the run's
//! results, even if some calls to CloudWatch fail.

use std::process::Command;
use std::sync::{Arc, Mutex};

use docweir_mock_provider::{self as mock, MockProvider, On, Options, Rule};
use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::{Server, program, shared_ministack};
use serde_json::Value;

use crate::account::aws;
use crate::kit::{Ran, TestFolder};

/// Holds a finished run of 20 documents, two of which cannot be processed. Its methods read the metrics of that run.
struct Watched {
    place: TestFolder,
    server: &'static Server,
    environment: String,
    proxy: Proxy,
    /// Bodies of the requests that the proxy did not refuse, as the run sent them.
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    ran: Ran,
    mock: MockProvider,
}

impl Watched {
    /// Runs the binary with a proxy in front of CloudWatch. `fate` returns the proxy's action for the nth request.
    /// Returns `None` if the server is not installed.
    fn run(fate: fn(usize) -> Act) -> Option<Self> {
        let server: &Server = shared_ministack()?;
        let proxy = Proxy::start(server.endpoint().trim_start_matches("http://")).unwrap();
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (mut calls, kept) = (0, bodies.clone());
        proxy.set_by_all(move |_, body| {
            calls += 1;
            let act = fate(calls - 1);
            if !matches!(act, Act::Reply(_)) {
                kept.lock().unwrap().push(body.to_vec());
            }
            act
        });
        let place = TestFolder::new();
        place.generate(18);
        place.write("broken.pdf", "%PDF-1.7\nno document");
        place.write("scan.pdf", docweir_testkit::hostile::no_text());
        let environment = format!("t{:08x}", fastrand::u32(..));
        // A slow provider makes the run long enough to send its metrics in many requests.
        let faults = vec![Rule::new(On::Embeddings, mock::Act::Slow).seconds(0.15)];
        let mock = MockProvider::start(Options { keys: vec!["sk-test".into()], faults, ..Options::default() }).unwrap();
        let mut command = place.command(["ingest", "docs", "--json", "--progress", "none"]);
        command
            .env("DOCWEIR__CLOUDWATCH__MODE", "api")
            .env("DOCWEIR__CLOUDWATCH__ENDPOINT", format!("http://{}", proxy.address()))
            .env("DOCWEIR__CLOUDWATCH__ENVIRONMENT", &environment)
            .env("DOCWEIR__CLOUDWATCH__INTERVAL_SECONDS", "0.1")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__LIMITS__CONCURRENCY", "2")
            .env("DOCWEIR__AWS__REGION", "eu-central-1")
            .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", mock.base_url())
            .env("OPENAI_API_KEY", "sk-test")
            .env("AWS_ACCESS_KEY_ID", server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", server.secret_key());
        let ran = Ran::of(command.output().unwrap());
        ran.code(3);
        Some(Self { place, server, environment, proxy, bodies, ran, mock })
    }

    fn ask(&self, args: &[&str]) -> Value {
        serde_json::from_str(&aws(self.server, self.place.path(), args)).unwrap()
    }

    /// Returns `statistic` (`Sum` or `SampleCount`) over all stored values of a metric.
    fn statistic(&self, name: &str, stage: &str, statistic: &str) -> f64 {
        let (environment, stage) =
            (format!("Name=environment,Value={}", self.environment), format!("Name=stage,Value={stage}"));
        let found = self.ask(&[
            "cloudwatch",
            "get-metric-statistics",
            "--namespace",
            "Docweir",
            "--metric-name",
            name,
            "--dimensions",
            &environment,
            &stage,
            "--start-time",
            "2020-01-01T00:00:00Z",
            "--end-time",
            "2100-01-01T00:00:00Z",
            "--period",
            "60",
            "--statistics",
            statistic,
        ]);
        found["Datapoints"].as_array().unwrap().iter().filter_map(|p| p[statistic].as_f64()).sum()
    }

    /// Returns the number and the sum of a metric's samples, which are read from the bodies of the requests. The server
    /// cannot return the sum, because ministack keeps only the mean of a set of samples.
    fn samples(&self, name: &str) -> (f64, f64) {
        const READ: &str = "import cbor2, json, sys; print(json.dumps([d for f in sys.argv[1:] for d in \
            cbor2.loads(open(f, 'rb').read())['MetricData']], default=str))";
        let mut command = Command::new(program("python").unwrap());
        command.args(["-c", READ]);
        for (n, body) in self.bodies.lock().unwrap().iter().enumerate() {
            let path = self.place.path().join(format!("{n}.cbor"));
            std::fs::write(&path, body).unwrap();
            command.arg(path);
        }
        let read = Ran::of(command.output().unwrap());
        let data: Vec<Value> = serde_json::from_str(&read.code(0).out).unwrap();
        let sets = data.iter().filter(|d| d["MetricName"] == name).map(|d| &d["StatisticValues"]);
        sets.fold((0.0, 0.0), |(count, sum), set| {
            (count + set["SampleCount"].as_f64().unwrap(), sum + set["Sum"].as_f64().unwrap())
        })
    }

    #[track_caller]
    fn assert_exact(&self) {
        let summary = self.ran.summary();
        assert_eq!(summary["completed"], 18, "{summary}");
        for (stage, failed) in [("extraction", 2.0), ("chunking", 0.0), ("embedding", 0.0), ("loading", 0.0)] {
            assert_eq!(self.statistic("DocumentsProcessed", stage, "Sum"), 18.0, "{stage}");
            assert_eq!(self.statistic("DocumentsFailed", stage, "Sum"), failed, "{stage}");
            assert_eq!(self.statistic("PoolJobsDone", stage, "Sum"), 18.0, "{stage}");
        }
        let events = self.ran.json();
        let extractions = events.iter().filter(|e| e["event"] == "stage_completed" && e["stage"] == "extraction");
        let seconds: f64 = extractions.filter_map(|e| e["seconds"].as_f64()).sum();
        let (count, sum) = self.samples("ExtractionDuration");
        assert!(count == 18.0 && (sum - seconds).abs() < 1e-6, "{count} {sum} {seconds}");
        let cost = self.statistic("EmbeddingCost", "embedding", "Sum");
        let charges = self.mock.charges().live.nanodollars as f64 / 1e9;
        assert!(cost > 0.0 && (cost - charges).abs() < 1e-12, "{cost} {charges}");
    }
}

#[test]
fn figures_in_cloudwatch_are_those_of_the_run() {
    let Some(watched) = Watched::run(|_| Act::Pass) else { return };
    watched.assert_exact();
    assert!(!watched.ran.out.contains("CloudWatch metrics"), "{}", watched.ran.out);
    let listed = watched.ask(&["cloudwatch", "list-metrics", "--namespace", "Docweir"]);
    let ours = |m: &&Value| {
        let dimensions = m["Dimensions"].as_array().unwrap();
        dimensions.iter().any(|d| d["Value"] == watched.environment.as_str())
    };
    let metrics: Vec<&Value> = listed["Metrics"].as_array().unwrap().iter().filter(ours).collect();
    let mut names: Vec<&str> = metrics.iter().filter_map(|m| m["MetricName"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in [
        "DocumentsFailed",
        "DocumentsProcessed",
        "EmbeddingCost",
        "ExtractionDuration",
        "PoolJobSeconds",
        "PoolWorkers",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

/// Drops some replies and refuses some requests. Every value must still be stored exactly once.
#[test]
fn figures_stay_exact_when_replies_are_lost_and_calls_refused() {
    let fate = |n: usize| match n % 4 {
        0 => Act::Reply("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into()),
        1 | 3 => Act::Pass,
        _ => Act::LoseReply,
    };
    let Some(watched) = Watched::run(fate) else { return };
    let calls = watched.bodies.lock().unwrap().len();
    assert!(calls >= 3, "only {calls} requests were sent, too few for this test");
    watched.proxy.set(|_| Act::Pass);
    watched.assert_exact();
    let told = watched.ran.out.lines().find(|line| line.contains("CloudWatch metrics of this run"));
    assert!(told.is_some_and(|line| line.contains(" 0 lost, ")), "{told:?}");
}
