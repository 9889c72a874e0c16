//! Provides the [`Extractor`], which owns at most one child process and sends it one document after the other.
//!
//! A stage worker owns one extractor, so the number of workers limits the number of children. While a child reads a
//! document, the child belongs to the future that waits for the result. Dropping the future kills the child, so the
//! work really ends. A child that has answered is reused until it has read its maximum number of documents or its
//! memory has grown too much.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use docweir_core::cancel::Cancel;
use docweir_core::documents::MediaType;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::{DocumentInfo, ExtractedDocument};

use super::detect::{HEAD_BYTES, detect};
use super::process::{Child, ChildEvent};
use super::protocol::{Reply, Request};
use super::worker::result_too_large;
use super::{ExtractOptions, info};

pub use super::process::ChildProgram;

/// Interval at which cancellation and processor time are checked while a child works.
const LOOK: Duration = Duration::from_millis(50);

/// A child that reaches a wall-clock limit counts as busy if it computed for at least one `BUSY_SHARE`th of the time. On
/// a loaded machine, a busy child does not get a whole core.
const BUSY_SHARE: u32 = 4;

/// Describes known properties of an input file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputHint {
    /// Media type of the file, if it was already detected. If it is `None`, the extractor detects it.
    pub media_type: Option<MediaType>,
    /// Name of the file, used to distinguish Markdown from plain text.
    pub name: Option<String>,
}

/// Counts what an extractor has done since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtractorStats {
    pub children_started: u64,
    /// Number of children that were replaced after their maximum number of documents, or because their memory had
    /// grown.
    pub children_recycled: u64,
    /// Number of children that died while reading a document, or that were killed because of a time limit, an output
    /// limit or an invalid message.
    pub children_lost: u64,
}

/// Extracts documents in a child process that it owns and reuses.
pub struct Extractor {
    options: ExtractOptions,
    program: ChildProgram,
    child: Option<Child>,
    stats: ExtractorStats,
    #[cfg(test)]
    pub(super) fault: Option<super::protocol::Fault>,
}

/// Outcome of reading one document.
enum End {
    /// The document is complete, and the child can read another document.
    Whole(ExtractedDocument),
    Refused(StageError),
    /// All pages arrived, but the document information, which follows the pages, did not. The child must not be used
    /// again.
    WithoutInfo(ExtractedDocument),
    /// No usable result arrived. The child must still be killed.
    Failed(StageError),
    /// The child is dead or dying.
    Died,
}

impl Extractor {
    /// Creates an extractor. The first child is started for the first document.
    pub fn new(options: ExtractOptions, program: ChildProgram) -> Self {
        Self {
            options,
            program,
            child: None,
            stats: ExtractorStats::default(),
            #[cfg(test)]
            fault: None,
        }
    }

    pub fn stats(&self) -> ExtractorStats {
        self.stats
    }

    /// Returns the process ID of the running child, or `None` if no child runs.
    #[cfg(test)]
    pub(super) fn child_id(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// Stops the child, if there is one.
    pub fn shut_down(&mut self) {
        self.child = None;
    }

    /// Extracts one file. Reading begins at the start of the file, whatever the current position of the descriptor.
    /// Dropping the future kills the child.
    ///
    /// # Errors
    /// Returns the errors of [`super::detect()`] and [`super::extract_in_process`]; the permanent errors `extractor_cpu`,
    /// `extractor_deadline` and `extractor_stalled`, or the latter two as timeouts if the child computed for little of
    /// the time; the timeout `cancelled`; the crashes `extractor_died`, `extractor_memory`,
    /// `extractor_panic` and `extractor_protocol`; the system error `extractor_spawn`; and the permanent error
    /// `result_too_large`.
    pub async fn extract(
        &mut self,
        file: File,
        hint: InputHint,
        cancel: &Cancel,
    ) -> Result<ExtractedDocument, StageError> {
        cancel.check()?;
        let media_type = match hint.media_type {
            Some(known) => known,
            None => detect(&head(&file)?, hint.name.as_deref())?,
        };
        let request = Request {
            media_type,
            options: self.options.clone(),
            #[cfg(test)]
            fault: self.fault,
        };
        let mut child = self.ask(&request, &file).await?;
        match self.listen(&mut child, media_type, cancel).await {
            End::Whole(document) => {
                self.keep(child);
                Ok(document)
            }
            End::Refused(refusal) => {
                self.keep(child);
                Err(refusal)
            }
            End::WithoutInfo(mut document) => {
                self.stats.children_lost += 1;
                child.kill().await;
                document.notes.push(info::LOST.into());
                Ok(document)
            }
            End::Failed(error) => {
                self.stats.children_lost += 1;
                child.kill().await;
                Err(error)
            }
            End::Died => {
                self.stats.children_lost += 1;
                Err(child.post_mortem().await)
            }
        }
    }

    /// Sends the request to a child and returns that child. A child that died while idle is replaced silently.
    async fn ask(&mut self, request: &Request, file: &File) -> Result<Child, StageError> {
        let failed = |e: std::io::Error| {
            let message = "can't start the extractor process; check the limits on processes, descriptors and memory";
            StageError::system("extractor_spawn", message).caused_by(&e)
        };
        if let Some(mut child) = self.child.take()
            && child.runs()
            && child.send(request, file).await.is_ok()
        {
            return Ok(child);
        }
        let mut child = Child::start(&self.program).map_err(failed)?;
        self.stats.children_started += 1;
        if child.send(request, file).await.is_err() {
            self.stats.children_lost += 1;
            let death = child.post_mortem().await;
            return Err(
                StageError::system("extractor_spawn", "the extractor process exited during start-up").caused_by(&death)
            );
        }
        Ok(child)
    }

    fn keep(&mut self, mut child: Child) {
        child.documents += 1;
        let grown = child.resident_bytes().is_some_and(|r| r > self.options.recycle_above_bytes);
        if grown || child.documents >= self.options.max_documents_per_child {
            self.stats.children_recycled += 1;
        } else {
            self.child = Some(child);
        }
    }

    async fn listen(&self, child: &mut Child, media_type: MediaType, cancel: &Cancel) -> End {
        let o = &self.options;
        let start = Instant::now();
        let deadline = start + Duration::from_secs(o.deadline_seconds);
        let stall = Duration::from_secs(o.stall_seconds);
        let (cpu_at_start, cpu_limit) = (child.cpu_time().unwrap_or_default(), Duration::from_secs(o.cpu_seconds));
        // Read at the first look after a reply. Reading it at each reply would cost more than a short page does.
        let mut cpu_at_reply = Some(cpu_at_start);
        let mut look = interval_at(start + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_deadline = deadline.min(start + stall);
        let mut answer = PartialDocument::new(media_type);
        loop {
            let heard = tokio::select! {
                heard = child.hear(o.max_frame_bytes) => heard,
                _ = look.tick() => {
                    if let Err(error) = cancel.check() {
                        return End::Failed(error);
                    }
                    let cpu = child.cpu_time().unwrap_or_default();
                    cpu_at_reply.get_or_insert(cpu);
                    if cpu.saturating_sub(cpu_at_start) > cpu_limit {
                        let message = format!(
                            "the document took more than {} s of processor time; raise `extract.options.cpu_seconds` to allow more",
                            o.cpu_seconds
                        );
                        // Another attempt would need as much.
                        return answer.or(StageError::permanent("extractor_cpu", message));
                    }
                    continue;
                }
                () = sleep_until(next_deadline) => {
                    let cpu = child.cpu_time().unwrap_or_default();
                    // A child that computes for long has been looked at since its last reply.
                    let (limit, seconds, cpu_before) = match next_deadline < deadline {
                        true => (TimeLimit::Stall, o.stall_seconds, cpu_at_reply.unwrap_or(cpu)),
                        false => (TimeLimit::Deadline, o.deadline_seconds, cpu_at_start),
                    };
                    let used = cpu.saturating_sub(cpu_before);
                    return answer.or(limit.error(seconds, used));
                }
            };
            let (reply, bytes) = match heard {
                ChildEvent::Reply(reply, bytes) => (reply, bytes),
                ChildEvent::Closed if answer.pages_done => return answer.without_info(),
                ChildEvent::Closed => return End::Died,
                ChildEvent::InvalidMessage(what) => return answer.or(nonsense(&what)),
            };
            answer.bytes += bytes;
            if answer.bytes > o.max_result_bytes {
                return End::Failed(result_too_large(o.max_result_bytes));
            }
            if let Some(end) = answer.take(*reply, o.limits.pages) {
                return end;
            }
            let wait = if answer.pages_done { stall.min(Duration::from_secs(o.info_seconds)) } else { stall };
            next_deadline = deadline.min(Instant::now() + wait);
            cpu_at_reply = None;
        }
    }
}

/// Holds the results received for a document so far.
struct PartialDocument {
    document: ExtractedDocument,
    pages_done: bool,
    bytes: u64,
}

impl PartialDocument {
    fn new(media_type: MediaType) -> Self {
        let document = ExtractedDocument {
            media_type,
            pages: Vec::new(),
            info: DocumentInfo::default(),
            outline: Vec::new(),
            notes: Vec::new(),
        };
        Self { document, pages_done: false, bytes: 0 }
    }

    fn document(&mut self) -> ExtractedDocument {
        std::mem::replace(&mut self.document, PartialDocument::new(MediaType::Text).document)
    }

    fn without_info(&mut self) -> End {
        End::WithoutInfo(self.document())
    }

    /// Returns the outcome of a document after an error. If the error occurs before all pages have arrived, the
    /// document fails. If all pages have arrived, the document is kept, but lacks its document information and
    /// outline.
    fn or(&mut self, error: StageError) -> End {
        if self.pages_done { self.without_info() } else { End::Failed(error) }
    }

    /// Stores one reply. Returns the outcome if this was the last reply.
    fn take(&mut self, reply: Reply, max_pages: u32) -> Option<End> {
        match reply {
            Reply::Progress(_) => {}
            Reply::Page(page) => {
                let expected = self.document.pages.len() as u64 + 1;
                match page.checked().filter(|p| u64::from(p.number) == expected && expected <= u64::from(max_pages)) {
                    Some(page) if !self.pages_done => self.document.pages.push(page),
                    _ => return Some(self.or(nonsense("an invalid page"))),
                }
            }
            Reply::PagesDone(notes) if !self.document.pages.is_empty() => {
                self.pages_done = true;
                self.document.notes = notes;
            }
            Reply::Tail(tail) => {
                let (info, outline, notes) = tail.parts();
                (self.document.info, self.document.outline) = (info, outline);
                self.document.notes.extend(notes);
            }
            Reply::End if self.pages_done => return Some(End::Whole(self.document())),
            Reply::Refused(error) => {
                let error = StageError::from(error);
                // A child that reports a crash is about to exit, so it must not get another document.
                let crashed = error.class == ErrorClass::Crash;
                return Some(if crashed { self.or(error) } else { End::Refused(error) });
            }
            Reply::End | Reply::PagesDone(_) => return Some(End::Failed(nonsense("the document ended without pages"))),
        }
        None
    }
}

fn nonsense(what: &str) -> StageError {
    StageError::crash(
        "extractor_protocol",
        format!("the extractor process sent an invalid message and was killed: {what}"),
    )
}

/// Names a wall-clock limit that a child has reached.
#[derive(Clone, Copy, Debug)]
enum TimeLimit {
    /// The time between two pages.
    Stall,
    /// The time for the whole document.
    Deadline,
}

impl TimeLimit {
    /// Returns the error of the document. `used` is the processor time of the child during the limit. A child that
    /// computed for much of the time would do the same again, so its document is not retried. A child that computed
    /// little was held up, by a slow disk or by other processes.
    fn error(self, seconds: u64, used: Duration) -> StageError {
        let (code, key, what) = match self {
            Self::Stall => ("extractor_stalled", "stall_seconds", "the extractor read no further page for"),
            Self::Deadline => ("extractor_deadline", "deadline_seconds", "the document took more than"),
        };
        let message = format!(
            "{what} {seconds} s ({:.1} s of processor time); raise `extract.options.{key}` to allow more",
            used.as_secs_f64()
        );
        if used >= Duration::from_secs(seconds) / BUSY_SHARE {
            StageError::permanent(code, message)
        } else {
            StageError::timeout(code, message)
        }
    }
}

/// Reads the beginning of a file, whatever the current position of the descriptor.
fn head(file: &File) -> Result<Vec<u8>, StageError> {
    let failed =
        |e: std::io::Error| StageError::transient("input_unreadable", "the input could not be read").caused_by(&e);
    let mut head = vec![0; HEAD_BYTES];
    let mut filled = 0;
    while filled < head.len() {
        match file.read_at(&mut head[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    head.truncate(filled);
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_computed_is_not_asked_again_and_one_that_was_held_up_is() {
        let limits = [
            (TimeLimit::Stall, "stall_seconds", "extractor_stalled"),
            (TimeLimit::Deadline, "deadline_seconds", "extractor_deadline"),
        ];
        for (limit, key, code) in limits {
            for (used, class) in [(60, ErrorClass::Permanent), (15, ErrorClass::Permanent), (14, ErrorClass::Timeout)] {
                let error = limit.error(60, Duration::from_secs(used));
                assert_eq!((error.code.as_str(), error.class), (code, class), "{used} s: {error}");
                assert!(error.message.contains(key) && error.message.contains(" 60 s"), "{error}");
            }
        }
    }
}
