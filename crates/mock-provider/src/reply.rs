//! Sends replies from memory or from disk. A reply can also be cut off in the middle, as a fault.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::problem::Problem;

/// Number of bytes that a download reads from disk at a time.
const PIECE: usize = 256 * 1024;
/// Pause before a connection is cut on purpose. During the pause, bytes that were written before the cut still reach
/// the client.
const BEFORE_CUT: Duration = Duration::from_millis(20);

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub content: Content,
}

pub enum Content {
    Bytes(Bytes),
    /// Content of an open file. The file is read piece by piece while the reply is sent.
    File {
        file: File,
        length: u64,
    },
}

impl Content {
    fn length(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { length, .. } => *length,
        }
    }
}

impl Reply {
    pub fn json(value: &Value) -> Self {
        Self::bytes(value.to_string().into_bytes())
    }

    pub fn bytes(bytes: Vec<u8>) -> Self {
        let headers = vec![("content-type", "application/json".to_string())];
        Self { status: 200, headers, content: Content::Bytes(bytes.into()) }
    }

    /// Sends the reply. If `cut` is true, sends only the first half and then ends the connection.
    pub fn send(self, cut: bool) -> Response<Outgoing> {
        let length = self.content.length();
        let sent = if cut { length / 2 } else { length };
        let body = match self.content {
            Content::Bytes(bytes) if !cut => Outgoing::Whole(Some(bytes)),
            Content::Bytes(bytes) => {
                let (sender, pieces) = mpsc::channel(2);
                let half = bytes.slice(..bytes.len() / 2);
                tokio::spawn(async move {
                    let _ = sender.send(Ok(half)).await;
                    end_early(&sender).await;
                });
                Outgoing::Pieces { pieces, length }
            }
            Content::File { file, .. } => {
                let (sender, pieces) = mpsc::channel(2);
                tokio::spawn(async move {
                    let reader = sender.clone();
                    let _ = tokio::task::spawn_blocking(move || read(file, sent, &reader)).await;
                    if cut {
                        end_early(&sender).await;
                    }
                });
                Outgoing::Pieces { pieces, length }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = hyper::StatusCode::from_u16(self.status).unwrap_or_default();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let mut reply = Self::json(&problem.body());
        reply.status = problem.status;
        if let Some(wait) = problem.retry_after {
            let ms = wait.as_nanos().div_ceil(1_000_000);
            reply.headers.push(("retry-after", ms.div_ceil(1000).max(1).to_string()));
            reply.headers.push(("retry-after-ms", ms.to_string()));
        }
        reply.headers.extend(problem.headers);
        reply
    }
}

async fn end_early(sender: &mpsc::Sender<io::Result<Bytes>>) {
    tokio::time::sleep(BEFORE_CUT).await;
    let _ = sender.send(Err(io::Error::other("cut on purpose"))).await;
}

/// Reads the file in pieces on its own thread. Ends when the receiver is dropped.
fn read(mut file: File, length: u64, to: &mpsc::Sender<io::Result<Bytes>>) {
    let mut left = length;
    while left > 0 {
        let mut buffer = vec![0; usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))];
        left -= buffer.len() as u64;
        // A file that has become shorter ends the reply early, with an error.
        let piece = file.read_exact(&mut buffer).map(|()| Bytes::from(buffer));
        let broken = piece.is_err();
        if to.blocking_send(piece).is_err() || broken {
            return;
        }
    }
}

/// Opens a part of a file for a reply.
pub fn open_part(path: &std::path::Path, from: u64, length: u64) -> io::Result<Content> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    Ok(Content::File { file, length })
}

/// Implements the body of a response for hyper.
pub enum Outgoing {
    Whole(Option<Bytes>),
    Pieces { pieces: mpsc::Receiver<io::Result<Bytes>>, length: u64 },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Outgoing::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Outgoing::Pieces { pieces, length } => {
                let next = std::task::ready!(pieces.poll_recv(cx));
                if let Some(Ok(bytes)) = &next {
                    *length = length.saturating_sub(bytes.len() as u64);
                }
                Poll::Ready(next.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    /// Returns the full length of the reply, so that a client can detect a cut.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Outgoing::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Outgoing::Pieces { length, .. } => *length,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Outgoing::Whole(None))
    }
}
