//! Serves the HTTP pages of a run: `/metrics` in the Prometheus text format, `/supervision` as JSON, `/health`, which says
//! whether the process runs, and `/ready`, which says whether it can work or waits for the end of an outage.
//!
//! The server is read-only and parses no request bodies. The number of connections, the size of headers and the
//! duration of a request are limited. If too many connections are open, idle connections are closed in favour of new
//! ones; see `connections`.
//!
//! A server on a loopback address refuses a request if its `Host` header is neither an IP address nor `localhost`.
//! This prevents DNS rebinding: a malicious web page lets its own host name resolve to the loopback address, and then
//! reads the pages of the run through the browser.

mod connections;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use self::connections::Connections;
use crate::config::HttpOptions;

type ResponseFuture = Pin<Box<dyn Future<Output = String>>>;

/// Holds one function for each page. Every request for a page calls its function, which returns the content.
pub struct Pages {
    pub metrics: Box<dyn Fn() -> String>,
    pub supervision: Box<dyn Fn() -> ResponseFuture>,
    /// Returns why the process is not ready for work, or `None` if it is ready.
    pub not_ready: Box<dyn Fn() -> Option<String>>,
}

/// Binds the address of the server. A run calls this function before any work starts, so that an address that is
/// already in use is reported early.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves requests on the current thread's local set until the future is dropped.
pub async fn serve(listener: TcpListener, pages: Rc<Pages>, options: HttpOptions) {
    let connections = Connections::default();
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually the process is out of file descriptors: wait until some are closed instead of spinning.
                tracing::warn!(%error, "connection not accepted; retrying");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Dropping the stream closes it. The client may try again when the requests before it are answered.
        let Some(place) = connections.enter(options.max_connections).map(Rc::new) else { continue };
        let pages = pages.clone();
        let limit = Duration::from_secs(options.request_seconds);
        tokio::task::spawn_local(async move {
            let answered = place.clone();
            let service = service_fn(move |request| {
                answered.has_request();
                answer(request, pages.clone(), is_local)
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limit)
                .keep_alive(false)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = tokio::time::timeout(limit * 3, connection) => {
                    if let Ok(Err(error)) = ended {
                        tracing::debug!(%error, "connection ended early");
                    }
                }
                () = place.closed() => tracing::debug!("idle connection closed; all places were taken"),
            }
        });
    }
}

/// Returns whether a `Host` header is an IP address or `localhost`. Returns true for a request without this header,
/// because such a request uses HTTP/1.0 and cannot come from a browser.
fn names_this_machine(host: Option<&str>) -> bool {
    let Some(host) = host else { return true };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

async fn answer(
    request: Request<Incoming>,
    pages: Rc<Pages>,
    is_local: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let host = request.headers().get(HOST).map(|value| value.to_str().unwrap_or("?"));
    if is_local && !names_this_machine(host) {
        let body = "this address serves requests for localhost and for IP addresses only\n".to_owned();
        return Ok(text(StatusCode::MISDIRECTED_REQUEST, "text/plain", body));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD are allowed\n".into());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/metrics" => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (pages.metrics)()),
        "/supervision" => text(StatusCode::OK, "application/json", (pages.supervision)().await),
        "/health" => text(StatusCode::OK, "text/plain", "ok\n".into()),
        "/ready" => match (pages.not_ready)() {
            None => text(StatusCode::OK, "text/plain", "ready\n".into()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("not ready: {why}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "text/plain", "available: /metrics, /supervision, /health, /ready\n".into()),
    })
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::LocalSet;

    use super::*;

    #[test]
    fn a_host_that_is_no_name_of_this_machine_is_told_apart() {
        for host in
            ["localhost", "LOCALHOST:9464", "127.0.0.1", "127.0.0.1:9464", "[::1]:9464", "[::1]", "192.168.0.2:1"]
        {
            assert!(names_this_machine(Some(host)), "{host}");
        }
        for host in
            ["attacker.example", "attacker.example:9464", "localhost.attacker.example", "", "?", "127.0.0.1.nip.io:1"]
        {
            assert!(!names_this_machine(Some(host)), "{host}");
        }
        assert!(names_this_machine(None));
    }

    async fn get(address: SocketAddr, host: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn with_server<F: Future<Output = ()>>(body: impl FnOnce(SocketAddr) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let address = listener.local_addr().unwrap();
            let pages = Pages {
                metrics: Box::new(String::new),
                supervision: Box::new(|| Box::pin(async { "{}".into() })),
                not_ready: Box::new(|| None),
            };
            tokio::select! {
                () = serve(listener, Rc::new(pages), HttpOptions::default()) => {}
                () = body(address) => {}
            }
        });
    }

    /// Attacks the server with many connections, each of which sends only half a request.
    #[test]
    fn half_open_connections_do_not_keep_health_checks_out() {
        with_server(|address| async move {
            let mut half_open = Vec::new();
            for _ in 0..300 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(b"GET /hea").await.unwrap();
                half_open.push(stream);
            }
            assert!(get(address, "127.0.0.1").await.ends_with("ok\n"));
            // The oldest ones had to make way: reading finds their end, without waiting for a time limit.
            let mut end = [0; 1];
            assert!(matches!(half_open[0].read(&mut end).await, Ok(0) | Err(_)));
        });
    }

    /// Sends the request of a malicious web page. The host name of the page resolves to the loopback address.
    #[test]
    fn a_page_of_another_host_is_not_answered() {
        with_server(|address| async move {
            let answer = get(address, "attacker.example:80").await;
            assert!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("ok\n"), "{answer}");
        });
    }
}
