//! Serves the HTTP pages of a run: `/metrics` in the Prometheus text format, `/supervision` as JSON, `/health`.
//!
//! The server is read-only and parses no request bodies. The number of connections, the size of headers and the
//! duration of a request are limited.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::HttpOptions;

type ResponseFuture = Pin<Box<dyn Future<Output = String>>>;

/// Holds the functions that produce the pages. Every request for a page calls the function of the page.
pub struct Pages {
    pub metrics: Box<dyn Fn() -> String>,
    pub supervision: Box<dyn Fn() -> ResponseFuture>,
}

/// Binds the address of the server. A run binds it before any work starts, so that an address in use is reported early.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves requests on the current thread's local set until the future is dropped.
pub async fn serve(listener: TcpListener, pages: Rc<Pages>, options: HttpOptions) {
    let places = Arc::new(Semaphore::new(options.max_connections));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually the process is out of file descriptors: wait until some are closed instead of spinning.
                tracing::warn!(%error, "connection not accepted; retrying");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = pages.clone();
        let limit = Duration::from_secs(options.request_seconds);
        tokio::task::spawn_local(async move {
            let _place = place;
            let service = service_fn(move |request| answer(request, pages.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limit)
                .keep_alive(false)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = tokio::time::timeout(limit * 3, connection).await {
                tracing::debug!(%error, "connection ended early");
            }
        });
    }
}

async fn answer(request: Request<Incoming>, pages: Rc<Pages>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD are allowed\n".into());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/metrics" => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (pages.metrics)()),
        "/supervision" => text(StatusCode::OK, "application/json", (pages.supervision)().await),
        "/health" => text(StatusCode::OK, "text/plain", "ok\n".into()),
        _ => text(StatusCode::NOT_FOUND, "text/plain", "available: /metrics, /supervision, /health\n".into()),
    })
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
