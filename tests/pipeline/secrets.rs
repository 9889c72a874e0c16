//! Tests keys in Secrets Manager. A run reads a key, continues after the key is changed, and reports errors.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use docweir_mock_provider::{Act, MockProvider, On, Options, Rule};
use docweir_testkit::proxy::{self, Proxy};
use docweir_testkit::servers::{Server, shared_ministack};

use crate::account::aws;
use crate::kit::{Ran, Running, TestFolder, eventually};

const OLD: &str = "sk-test-old-do-not-log-1a2b";
const NEW: &str = "sk-test-new-do-not-log-3c4d";
const INGEST: [&str; 5] = ["ingest", "docs", "--json", "--progress", "none"];

/// Holds a mock provider and a secret in Secrets Manager, each behind its own proxy. The provider's proxy can revoke an
/// API key. The other proxy can deny access to the secret.
struct Vault {
    place: TestFolder,
    server: &'static Server,
    mock: MockProvider,
    provider: Proxy,
    manager: Proxy,
    secret: String,
    /// Number of requests to Secrets Manager.
    read: Arc<AtomicU64>,
}

impl Vault {
    fn new() -> Option<Self> {
        let server: &Server = shared_ministack()?;
        let options = Options { keys: vec![OLD.into(), NEW.into()], charges_by_text: true, ..Options::default() };
        let mock = MockProvider::start(options).unwrap();
        let provider = Proxy::start(&format!("127.0.0.1:{}", mock.port())).unwrap();
        let manager = Proxy::start(server.endpoint().trim_start_matches("http://")).unwrap();
        let read: Arc<AtomicU64> = Arc::default();
        let counted = read.clone();
        manager.set(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            proxy::Act::Pass
        });
        let secret = format!("docweir/t{:08x}", fastrand::u32(..));
        Some(Self { place: TestFolder::new(), server, mock, provider, manager, secret, read })
    }

    fn put(&self, operation: &str, value: &str) {
        let name = if operation == "create-secret" { "--name" } else { "--secret-id" };
        let args = ["secretsmanager", operation, name, &self.secret, "--secret-string", value];
        aws(self.server, self.place.path(), &args);
    }

    fn command(&self, args: &[&str], field: Option<&str>) -> Command {
        let mut command = self.place.command(args);
        let field = field.map(|field| format!(", field = \"{field}\"")).unwrap_or_default();
        let path = self.mock.base_url();
        let path = path.trim_start_matches("http://").split_once('/').map_or("", |(_, path)| path);
        command
            .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", format!("http://{}/{path}", self.provider.address()))
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__API_KEY", format!("{{ secret = \"{}\"{field} }}", self.secret))
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__LIMITS__CONCURRENCY", "2")
            .env("DOCWEIR__SECRETS__ENDPOINT", format!("http://{}", self.manager.address()))
            .env("DOCWEIR__SECRETS__MIN_REFRESH_SECONDS", "0.2")
            .env("DOCWEIR__AWS__REGION", "eu-central-1")
            .env("DOCWEIR__LOG__LEVEL", "trace")
            .env("AWS_ACCESS_KEY_ID", self.server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.server.secret_key())
            .env_remove("OPENAI_API_KEY");
        command
    }

    fn run(&self, args: &[&str], field: Option<&str>) -> Ran {
        Ran::of(self.command(args, field).output().unwrap())
    }
}

fn assert_silent(ran: &Ran) {
    for secret in [OLD, NEW] {
        let quoting = ran.out.lines().chain(ran.err.lines()).find(|line| line.contains(secret));
        assert_eq!(quoting, None);
    }
}

/// Revokes the old key at the provider in the middle of a run.
#[test]
fn a_key_that_is_changed_while_a_run_goes_on_is_read_again() {
    let Some(vault) = Vault::new() else { return };
    vault.put("create-secret", &format!(r#"{{"key": "{OLD}", "owner": "docs"}}"#));
    vault.place.generate(24);
    vault.mock.set_faults(vec![Rule::new(On::Embeddings, Act::Slow).seconds(0.15)]).unwrap();
    let (revoked, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_revoked, counted) = (revoked.clone(), refused.clone());
    vault.provider.set(move |head| {
        if is_revoked.load(Ordering::Relaxed) && head.contains(OLD) {
            counted.fetch_add(1, Ordering::Relaxed);
            let reply = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            return proxy::Act::Reply(reply.into());
        }
        proxy::Act::Pass
    });
    let mut command = vault.command(&INGEST, Some("key"));
    command.stdout(std::process::Stdio::piped()).stderr(std::fs::File::create(vault.place.path().join("log")).unwrap());
    let mut run = Running::of(command.spawn().unwrap());
    eventually("some calls are answered", || vault.mock.charges().live.requests >= 4);
    vault.put("put-secret-value", &format!(r#"{{"key": "{NEW}", "owner": "docs"}}"#));
    revoked.store(true, Ordering::Relaxed);
    assert!(run.is_running(), "the run must still be running");
    let mut ran = run.finish();
    ran.err = std::fs::read_to_string(vault.place.path().join("log")).unwrap();
    assert_silent(&ran);
    ran.code(0);
    vault.place.assert_complete(24);
    let (refused, read) = (refused.load(Ordering::Relaxed), vault.read.load(Ordering::Relaxed));
    assert!((1..=4).contains(&refused), "{refused} calls used the revoked key");
    assert!((2..=4).contains(&read), "the secret was read {read} times");
    assert_eq!(vault.mock.charges().texts_paid_twice(), Vec::<&str>::new());
    // No key is left on the disk.
    for entry in walkdir::WalkDir::new(vault.place.state()).into_iter().filter_map(Result::ok) {
        if entry.file_type().is_file() {
            let body = std::fs::read(entry.path()).unwrap();
            let holds = |key: &str| body.windows(key.len()).any(|w| w == key.as_bytes());
            assert!(!holds(OLD) && !holds(NEW), "{}", entry.path().display());
        }
    }
}

#[test]
fn what_is_wrong_with_a_secret_is_said_with_its_name_and_the_key_that_names_it() {
    let Some(vault) = Vault::new() else { return };
    vault.place.generate(1);
    let said = |field: Option<&str>, expected: &str| {
        let ran = vault.run(&INGEST, field);
        assert_ne!(ran.status.code(), Some(0));
        let error = ran.err.lines().find(|line| line.contains("error")).unwrap_or_default();
        let error = format!("{error}{}", ran.err.lines().last().unwrap_or_default());
        for part in [expected, &vault.secret, "embed.options.openai.api_key"] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        assert_silent(&ran);
    };
    said(None, "aws secretsmanager create-secret");
    vault.put("create-secret", &format!(r#"{{"key": "{OLD}"}}"#));
    said(Some("kay"), "the field `kay`");
    said(None, "is a JSON object");
    vault.manager.set(|_| {
        let body = r#"{"__type":"AccessDeniedException","Message":"User is not authorized"}"#;
        let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close\r\n";
        proxy::Act::Reply(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    });
    said(Some("key"), "secretsmanager:GetSecretValue");
    assert_eq!(vault.mock.charges().live.requests, 0, "no request may be sent without a key");
    // The failures do not count as attempts. When the key can be read, the document completes. This time, the secret is
    // the key itself and not a JSON object.
    vault.manager.set(|_| proxy::Act::Pass);
    vault.put("put-secret-value", OLD);
    vault.run(&INGEST, None).code(0);
    vault.place.assert_complete(1);
}
