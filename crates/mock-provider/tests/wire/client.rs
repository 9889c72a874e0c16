//! Implements a small HTTP client that also returns incomplete replies, so that a test can inspect them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use docweir_mock_provider::{MockProvider, Options};
use serde_json::{Value, json};
use tokio::time::Instant;

pub const SMALL: &str = "text-embedding-3-small";

pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// True if the length of the body equals the value of the header `content-length`.
    pub whole: bool,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns four values of an error reply: its status, and the fields `type`, `code` and `param` of the error in its
    /// body.
    pub fn error(&self) -> (u16, Value, Value, Value) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        (self.status, error["type"].clone(), error["code"].clone(), error["param"].clone())
    }
}

pub struct Client {
    pub port: u16,
    pub key: &'static str,
}

impl Client {
    pub fn of(mock: &MockProvider) -> Self {
        Self { port: mock.port(), key: "test-key" }
    }

    /// Sends a request. Returns `None` if the connection ended without a reply.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Reply> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            head += &format!("authorization: Bearer {}\r\n", self.key);
        }
        head += &format!("content-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        // The mock provider may close the connection during this write.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(b"\r\n"));
        let _ = stream.write_all(body);
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read);
        let end = read.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<_, _> =
            lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_string())).collect();
        let body = read[end + 4..].to_vec();
        let whole = headers["content-length"].parse() == Ok(body.len());
        Some(Reply { status, headers, body, whole })
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes()).unwrap()
    }

    pub fn embed(&self, input: impl Into<Value>) -> Reply {
        self.post("/v1/embeddings", &json!({"model": SMALL, "input": input.into()}))
    }

    pub fn set_faults(&self, rules: Value) -> Reply {
        self.post("/_mock/faults", &rules)
    }

    pub fn try_upload(&self, purpose: &str, content: &[u8]) -> Option<Reply> {
        let mut form = b"--edge\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\n".to_vec();
        form.extend_from_slice(purpose.as_bytes());
        form.extend_from_slice(
            b"\r\n--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n",
        );
        form.extend_from_slice(b"content-type: application/octet-stream\r\n\r\n");
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n--edge--\r\n");
        self.send("POST", "/v1/files", &[("content-type", "multipart/form-data; boundary=edge")], &form)
    }

    pub fn upload(&self, content: &[u8]) -> String {
        let reply = self.try_upload("batch", content).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_string()
    }

    pub fn create(&self, file: &str) -> Reply {
        let body = json!({
            "input_file_id": file,
            "endpoint": "/v1/embeddings",
            "completion_window": "24h",
            "metadata": {"ours": "batch 1"},
        });
        self.post("/v1/batches", &body)
    }

    /// Uploads the rows, creates a batch of them, and returns the batch's id.
    pub fn submit(&self, content: &[u8]) -> String {
        let reply = self.create(&self.upload(content));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_string()
    }

    pub fn batch(&self, id: &str) -> Value {
        self.get(&format!("/v1/batches/{id}")).json()
    }

    /// Polls until the batch has the status, and returns the batch.
    pub fn wait(&self, id: &str, status: &str) -> Value {
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let batch = self.batch(id);
            if batch["status"] == status {
                return batch;
            }
            assert!(Instant::now() < give_up, "waited for {status}: {batch}");
            let over = ["completed", "failed", "expired", "cancelled"];
            assert!(!over.iter().any(|over| batch["status"] == *over), "waited for {status}: {batch}");
            pause(5);
        }
    }

    pub fn content(&self, file: &Value) -> Reply {
        let reply = self.get(&format!("/v1/files/{}/content", file.as_str().unwrap()));
        assert_eq!(reply.status, 200);
        reply
    }
}

#[allow(clippy::disallowed_methods, reason = "tests poll another thread or process in real time")]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

pub fn start(options: Options) -> (MockProvider, Client) {
    let mock = MockProvider::start(options).unwrap();
    let client = Client::of(&mock);
    (mock, client)
}

/// Returns the lines of an input file with the ids `row-0`, `row-1`, … Each line requests a vector of 16 dimensions.
pub fn rows(count: usize) -> Vec<u8> {
    (0..count).map(|n| row(&format!("row-{n}"), &format!("text number {n}"))).collect::<String>().into_bytes()
}

pub fn row(custom_id: &str, input: &str) -> String {
    let body = json!({"model": SMALL, "input": input, "dimensions": 16});
    format!("{}\n", json!({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}))
}

pub fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// Returns the numbers in the ids of the lines, sorted.
pub fn ids(lines: &[Value]) -> Vec<u64> {
    let number = |line: &Value| line["custom_id"].as_str().unwrap()["row-".len()..].parse().unwrap();
    let mut ids: Vec<u64> = lines.iter().map(number).collect();
    ids.sort();
    ids
}
