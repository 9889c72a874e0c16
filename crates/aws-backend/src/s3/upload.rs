//! Uploads a large object to S3 while it is being written.
//!
//! ```text
//! write ─▶ buffer of one part ─▶ channel ─▶ task: a few parts in transfer ─▶ complete
//! ```
//! An object that is smaller than one part is written in one put. Otherwise, a task starts a multipart upload when the
//! first part is full. The task always ends the upload. The task completes the upload on request, and aborts the
//! upload if a part fails or the writer is dropped. Memory holds one part that is being filled, one part in the
//! channel, and the parts in transfer. A write blocks while all of these are full. Writes must come from a thread that
//! may block; otherwise the runtime panics.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use docweir_aws::s3::{Bucket, Multipart, Part, When};
use docweir_aws::{Fault, FaultKind};
use docweir_objects::{ObjectError, Upload};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::failure::not_written;

pub(super) struct S3Upload {
    bucket: Bucket,
    key: String,
    /// Key of the object in the bucket, including the store's prefix.
    full: String,
    buffer: Vec<u8>,
    crc32: crc32fast::Hasher,
    runtime: Handle,
    parts: Option<Parts>,
}

/// Connects the writer to the upload task.
struct Parts {
    to: mpsc::Sender<Step>,
    task: JoinHandle<Result<(), Fault>>,
    failed: Arc<Mutex<Option<Fault>>>,
}

enum Step {
    Part(Bytes),
    /// Requests the completion of the upload. Holds the CRC-32 of the whole object.
    End(u32),
}

impl S3Upload {
    pub(super) fn begin(bucket: &Bucket, key: &str, full: String) -> Result<Self, ObjectError> {
        let no_runtime =
            |e| ObjectError::Transient { what: "write", key: key.to_owned(), reason: format!("no runtime: {e}") };
        Ok(Self {
            bucket: bucket.clone(),
            key: key.to_owned(),
            full,
            buffer: Vec::new(),
            crc32: crc32fast::Hasher::new(),
            runtime: Handle::try_current().map_err(no_runtime)?,
            parts: None,
        })
    }

    fn part_bytes(&self) -> usize {
        usize::try_from(self.bucket.options().part_bytes).unwrap_or(usize::MAX)
    }

    /// Sends the buffer to the upload task as one part. The first part starts the task. Blocks while the maximum
    /// number of parts is in transfer.
    fn send(&mut self) -> io::Result<()> {
        let (bucket, full) = (self.bucket.clone(), self.full.clone());
        let parts = self.parts.get_or_insert_with(|| {
            let (to, from) = mpsc::channel(1);
            let failed = Arc::new(Mutex::new(None));
            let task = self.runtime.spawn(run(bucket, full, from, failed.clone()));
            Parts { to, task, failed }
        });
        let empty = Vec::with_capacity(self.buffer.capacity());
        let part = Bytes::from(mem::replace(&mut self.buffer, empty));
        let sent = parts.to.blocking_send(Step::Part(part));
        sent.map_err(|_| io::Error::other(not_written(&self.key, parts.reason(), false)))
    }
}

impl Parts {
    /// Returns the fault that stopped the upload task.
    fn reason(&self) -> Fault {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failed.unwrap_or_else(|| Fault::new(FaultKind::Unreachable, "stopped", "the upload task has ended"))
    }
}

impl io::Write for S3Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= self.part_bytes() {
            self.send()?;
        }
        let taken = bytes.get(..self.part_bytes() - self.buffer.len()).unwrap_or(bytes);
        self.crc32.update(taken);
        self.buffer.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn finish(self: Box<Self>) -> Result<(), ObjectError> {
        let Self { bucket, key, full, buffer, crc32, parts, .. } = *self;
        let failed = |fault| not_written(&key, fault, false);
        let Some(parts) = parts else {
            return bucket.put(&full, buffer.into(), &When::Always).await.map(drop).map_err(failed);
        };
        let rest = (!buffer.is_empty()).then(|| Step::Part(buffer.into()));
        for step in rest.into_iter().chain([Step::End(crc32.finalize())]) {
            // A failed task receives nothing more; it returns its error below.
            let _ = parts.to.send(step).await;
        }
        let stopped = |e| Err(Fault::new(FaultKind::Unknown, "stopped", format!("the upload task failed: {e}")));
        parts.task.await.unwrap_or_else(stopped).map_err(failed)
    }
}

async fn run(
    bucket: Bucket,
    key: String,
    from: mpsc::Receiver<Step>,
    failed: Arc<Mutex<Option<Fault>>>,
) -> Result<(), Fault> {
    match bucket.begin(&key).await {
        Ok(multipart) => {
            let result = send_all(&multipart, from, bucket.options().parallel_parts, &failed).await;
            if !matches!(result, Ok(true))
                && let Err(fault) = multipart.abort().await
            {
                tracing::warn!(key, id = multipart.id(), %fault, "failed upload not aborted; its parts remain stored");
            }
            result.map(drop)
        }
        Err(fault) => {
            note(&failed, &fault);
            Err(fault)
        }
    }
}

/// Sends all parts and completes the object. Returns false if the writer was dropped before the end of the object.
async fn send_all(
    multipart: &Multipart,
    mut from: mpsc::Receiver<Step>,
    parallel: usize,
    failed: &Mutex<Option<Fault>>,
) -> Result<bool, Fault> {
    let mut under_way: JoinSet<Result<Part, Fault>> = JoinSet::new();
    let mut sent = Vec::new();
    let mut number = 0;
    let (mut fault, mut end) = (None, None);
    while let Some(step) = from.recv().await {
        match step {
            Step::Part(body) => {
                number += 1;
                let (multipart, number) = (multipart.clone(), number);
                under_way.spawn(async move { multipart.part(number, body).await });
            }
            Step::End(crc32) => end = Some(crc32),
        }
        while under_way.len() >= parallel || (end.is_some() && !under_way.is_empty()) {
            match arrived(under_way.join_next().await) {
                Ok(part) => sent.extend(part),
                Err(e) => fault = fault.or(Some(e)),
            }
        }
        if fault.is_some() || end.is_some() {
            break;
        }
    }
    // The fault is stored before the channel closes, so that a writer that finds it closed also finds the reason.
    if let Some(fault) = &fault {
        note(failed, fault);
    }
    drop(from);
    // A part that arrives after the abort would be stored forever.
    while let Some(part) = under_way.join_next().await {
        drop(part);
    }
    match (fault, end) {
        (Some(fault), _) => Err(fault),
        (None, Some(crc32)) => multipart.complete(sent, Some(crc32), &When::Always).await.map(|_| true),
        (None, None) => Ok(false),
    }
}

fn arrived(part: Option<Result<Result<Part, Fault>, tokio::task::JoinError>>) -> Result<Option<Part>, Fault> {
    match part {
        Some(Ok(part)) => part.map(Some),
        Some(Err(e)) => Err(Fault::new(FaultKind::Unreachable, "stopped", e.to_string())),
        None => Ok(None),
    }
}

fn note(failed: &Mutex<Option<Fault>>, fault: &Fault) {
    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.clone());
}
