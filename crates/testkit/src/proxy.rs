//! Forwards requests on loopback and simulates network failures. A test can also use the proxy to count requests.
//!
//! The proxy supports the part of HTTP/1.1 that clients of object stores use: requests with a `Content-Length`, one
//! per connection. The proxy decides on a request after it has received the whole request. A test can therefore, for
//! example, lose the reply to the second PUT.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Names how the proxy treats a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Pass,
    /// The connection ends before the server receives the request.
    LoseRequest,
    /// The server executes the request, but the connection ends before the client receives a reply.
    LoseReply,
    /// The client receives this number of bytes of the reply. After that, the connection ends.
    CutReply(usize),
    /// The client gets this reply; the server never receives the request.
    Reply(String),
    /// The request is forwarded as with [`Act::Pass`], but only after this time.
    Delay(Duration),
    /// The client gets no reply for this time. After that, the connection ends. The server never receives the
    /// request.
    Hang(Duration),
}

type Rule = Box<dyn FnMut(&str, &[u8]) -> Act + Send>;

/// Forwards requests until the test process ends.
pub struct Proxy {
    address: SocketAddr,
    rule: Arc<Mutex<Rule>>,
}

impl Proxy {
    /// Starts a proxy in front of `upstream`, such as `127.0.0.1:8333`. The proxy forwards all requests until
    /// [`Proxy::set`] is called.
    pub fn start(upstream: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_, _| Act::Pass)));
        let (upstream, shared) = (upstream.to_owned(), rule.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, rule) = (upstream.clone(), shared.clone());
                thread::spawn(move || {
                    let _ = serve(&client, &upstream, &rule);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Ok(Self { address, rule })
    }

    /// Returns the address of the proxy, such as `127.0.0.1:34567`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Replaces the rule that selects the [`Act`] for each request. The new rule receives the head of the request,
    /// which is the request line (`PUT /bucket/key HTTP/1.1`) and the headers.
    pub fn set(&self, mut rule: impl FnMut(&str) -> Act + Send + 'static) {
        self.set_by_all(move |head, _| rule(head));
    }

    /// Replaces the rule that selects the [`Act`] for each request. The new rule receives the head and the body of
    /// the request.
    pub fn set_by_all(&self, rule: impl FnMut(&str, &[u8]) -> Act + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }
}

#[allow(clippy::disallowed_methods, reason = "each connection has its own thread, which may sleep")]
fn serve(client: &TcpStream, upstream: &str, rule: &Mutex<Rule>) -> io::Result<()> {
    let mut from = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let act = rule.lock().unwrap_or_else(PoisonError::into_inner)(&head, &body);
    match act {
        Act::LoseRequest => return Ok(()),
        Act::Reply(reply) => return (&*client).write_all(reply.as_bytes()),
        Act::Hang(wait) => {
            thread::sleep(wait);
            return Ok(());
        }
        Act::Delay(wait) => thread::sleep(wait),
        Act::Pass | Act::LoseReply | Act::CutReply(_) => {}
    }
    let mut server = TcpStream::connect(upstream)?;
    server.write_all(head.as_bytes())?;
    server.write_all(b"Connection: close\r\n\r\n")?;
    server.write_all(&body)?;
    match act {
        Act::LoseReply => io::copy(&mut server, &mut io::sink()).map(drop),
        Act::CutReply(bytes) => io::copy(&mut server.take(bytes as u64), &mut &*client).map(drop),
        _ => io::copy(&mut server, &mut &*client).map(drop),
    }
}
