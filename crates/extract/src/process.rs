//! Manages one child process: starts it, exchanges messages with it, monitors it, and explains its death.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::process::{ChildStderr, Command};

use docweir_core::error::StageError;

use super::protocol::{LENGTH_BYTES, MAX_REQUEST_BYTES, Reply, Request, frame, parse, send_with_fd};
use super::worker::NO_LIMITS;

/// Maximum number of bytes of a child's standard error that the parent keeps.
const LAST_WORDS_BYTES: usize = 4096;
/// Number of bytes read from the socket in one call.
const READ_BYTES: usize = 64 * 1024;
/// Maximum time for a child to exit after it has closed its socket.
const REAP: Duration = Duration::from_secs(2);

/// Names the program to start as the child, and the program's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildProgram {
    pub program: PathBuf,
    pub args: Vec<String>,
}

impl ChildProgram {
    /// Returns the running program, with the hidden subcommand that calls [`super::worker_main`].
    pub fn this_program() -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, args: vec!["__extract-worker".into()] })
    }
}

pub(super) struct Child {
    process: tokio::process::Child,
    socket: UnixStream,
    received: BytesMut,
    stderr: Option<ChildStderr>,
    stderr_tail: Vec<u8>,
    /// Number of requests that the child has answered.
    pub documents: u32,
}

/// An event on a child's socket.
pub(super) enum ChildEvent {
    /// A reply and its size in bytes.
    Reply(Box<Reply>, u64),
    /// The child closed its socket: it is dead or dying.
    Closed,
    /// The child sent an invalid message.
    InvalidMessage(String),
}

impl Child {
    /// Starts a child. The child is killed when this value is dropped.
    ///
    /// If the *thread* that called this function ends, the kernel kills the child. The reason is that Linux sends the
    /// parent-death signal when this thread ends, not when the parent process ends. Start a child only on a thread
    /// that outlives the child. A thread of the async runtime does so; a thread of the runtime's blocking pool does
    /// not.
    pub fn start(program: &ChildProgram) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut process = Command::new(&program.program)
            .args(&program.args)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = process.stderr.take();
        let socket = UnixStream::from_std(ours)?;
        Ok(Self { process, socket, received: BytesMut::new(), stderr, stderr_tail: Vec::new(), documents: 0 })
    }

    /// Returns whether the child still runs. This call does not wait, so the result may be true although the child is
    /// about to exit.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    pub async fn send(&mut self, request: &Request, file: &File) -> io::Result<()> {
        let bytes = frame(request, MAX_REQUEST_BYTES as u64)?;
        let socket = &self.socket;
        let first = socket.async_io(Interest::WRITABLE, || send_with_fd(socket, &bytes, file.as_fd())).await?;
        self.socket.write_all(bytes.get(first..).unwrap_or_default()).await
    }

    /// Waits for the next reply. The future may be dropped at any point without losing a byte.
    pub async fn hear(&mut self, max_frame_bytes: u64) -> ChildEvent {
        loop {
            if let Some(prefix) = self.received.first_chunk::<LENGTH_BYTES>() {
                let length = u32::from_le_bytes(*prefix);
                if u64::from(length) > max_frame_bytes {
                    return ChildEvent::InvalidMessage(format!(
                        "a message of {length} bytes; the limit is {max_frame_bytes}"
                    ));
                }
                let whole = LENGTH_BYTES + length as usize;
                if self.received.len() >= whole {
                    let mut bytes = self.received.split_to(whole);
                    bytes.advance(LENGTH_BYTES);
                    return match parse(&bytes) {
                        Ok(reply) => ChildEvent::Reply(Box::new(reply), whole as u64),
                        Err(error) => ChildEvent::InvalidMessage(error.to_string()),
                    };
                }
            }
            self.received.reserve(READ_BYTES);
            let words = async {
                match &mut self.stderr {
                    Some(stderr) => {
                        let mut chunk = [0; 512];
                        let n = stderr.read(&mut chunk).await.unwrap_or(0);
                        (chunk, n)
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = self.socket.read_buf(&mut self.received) => {
                    if !matches!(read, Ok(1..)) {
                        return ChildEvent::Closed;
                    }
                }
                (chunk, n) = words => self.note_words(&chunk[..n]),
            }
        }
    }

    fn note_words(&mut self, words: &[u8]) {
        if words.is_empty() {
            self.stderr = None;
        }
        self.stderr_tail.extend_from_slice(words);
        let surplus = self.stderr_tail.len().saturating_sub(LAST_WORDS_BYTES);
        self.stderr_tail.drain(..surplus);
    }

    /// Returns the process ID, or `None` after the child has ended.
    #[cfg(test)]
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Returns the resident memory in bytes, or `None` if the system does not report it.
    pub fn resident_bytes(&self) -> Option<u64> {
        docweir_core::memory::status_bytes(&format!("/proc/{}/status", self.process.id()?), "VmRSS:")
    }

    /// Returns the processor time used so far, or `None` if the system does not report it.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()?)).ok()?;
        // The fields follow the program's name, which may contain anything. The 12th and 13th field after the name are
        // times in hundredths of a second.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(Duration::from_millis(10 * ticks))
    }

    /// Kills the child and waits until it has exited.
    pub async fn kill(mut self) {
        let _ = tokio::time::timeout(REAP, self.process.kill()).await;
    }

    /// Explains why a child has closed its socket.
    pub async fn post_mortem(mut self) -> StageError {
        let status = match tokio::time::timeout(REAP, self.process.wait()).await {
            Ok(Ok(status)) => Some(status),
            _ => None,
        };
        while let Some(mut stderr) = self.stderr.take() {
            let mut chunk = [0; 512];
            if let Ok(Ok(n @ 1..)) = tokio::time::timeout(REAP, stderr.read(&mut chunk)).await {
                self.note_words(&chunk[..n]);
                self.stderr = Some(stderr);
            }
        }
        let words = last_line(&self.stderr_tail);
        let _ = self.process.start_kill();
        explain(status, &words)
    }
}

fn explain(status: Option<ExitStatus>, words: &str) -> StageError {
    if words.starts_with("memory allocation of ") {
        let message = "the extractor exceeded its memory limit on the document; raise `extract.options.memory_limit_bytes` to \
                       allow more";
        return StageError::crash("extractor_memory", format!("{message} ({words})"));
    }
    if words.starts_with(NO_LIMITS) {
        let message = format!(
            "{words}; the limits of the parent process are too low: raise the limit on its address space (`ulimit -v \
             unlimited`), or lower `extract.options.memory_limit_bytes`"
        );
        return StageError::system("extractor_spawn", message);
    }
    let end = match status.map(|s| (s.signal(), s.code())) {
        Some((Some(signal), _)) => format!("was killed by {}", signal_name(signal)),
        Some((None, Some(code))) => format!("exited with status {code}"),
        _ => "closed its connection".into(),
    };
    let words = if words.is_empty() { String::new() } else { format!("; last message of the process: {words}") };
    StageError::crash("extractor_died", format!("the extractor process {end} while reading the document{words}"))
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        9 => "SIGKILL (perhaps the machine is out of memory)",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        n => return format!("signal {n}"),
    };
    name.into()
}

/// Returns the last line of a child's standard error, as printable ASCII of limited length. Only the runtime and the
/// child's panic hook write such lines, so they contain no text of the document.
fn last_line(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    // The runtime appends a hint to its message.
    let line = text.lines().rev().map(str::trim).find(|l| !l.is_empty() && !l.starts_with("note:")).unwrap_or_default();
    line.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_explained_by_what_is_known() {
        let by = |raw: i32| Some(ExitStatus::from_raw(raw));
        let table = [
            (by(3 << 8), "cannot set the limits of the extractor process: EPERM", "extractor_spawn", "ulimit -v"),
            (by(6), "memory allocation of 99 bytes failed", "extractor_memory", "memory_limit_bytes"),
            (by(11), "", "extractor_died", "SIGSEGV"),
            (by(9), "", "extractor_died", "SIGKILL"),
            (by(7 << 8), "panic at x.rs:1", "extractor_died", "status 7"),
            (by(7 << 8), "panic at x.rs:1", "extractor_died", "panic at x.rs:1"),
            (None, "", "extractor_died", "closed its connection"),
        ];
        for (status, words, code, says) in table {
            let error = explain(status, words);
            assert_eq!(error.code, code);
            assert!(error.message.contains(says), "{}", error.message);
        }
    }

    #[test]
    fn the_last_line_is_cut_and_printable() {
        assert_eq!(last_line(b"first\nsecond\x1b[31m line\n\n"), "second[31m line");
        assert_eq!(
            last_line(b"memory allocation of 9 bytes failed\nnote: a hint\n"),
            "memory allocation of 9 bytes failed"
        );
        assert_eq!(last_line("ä".repeat(10).as_bytes()), "");
        assert_eq!(last_line(&[b'x'; 4000]).len(), 200);
    }
}
