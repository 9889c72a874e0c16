//! Implements the child process: sets its limits, then reads one document after the other until the parent closes the
//! socket.
//!
//! The child opens no files; it only reads the descriptors that arrive with requests. Standard input is the socket,
//! and standard output is discarded. The parent reads standard error to explain the death of a child. After a panic,
//! the child reports a crash and exits, because the parser's state can no longer be trusted. Starting a new child
//! takes only milliseconds.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use docweir_core::error::StageError;
use docweir_core::isolation::restrict_child;
use docweir_core::model::{DocumentInfo, OutlineEntry, Page};

#[cfg(test)]
use super::protocol::Fault;
use super::protocol::{Reply, Request, WireTail, receive_request, send_reply};
use super::{ExtractOptions, Sink, check_size, extract_into};

/// Maximum number of open descriptors of a child: the three standard ones, one input, and a few for the runtime.
const MAX_FILES: u64 = 24;

/// Beginning of the message of a child that cannot start because of the limits of the machine.
pub(super) const NO_LIMITS: &str = "cannot set the limits of the extractor process";

/// Runs as the child until the parent closes the socket on standard input. This function restricts the calling process
/// permanently, so call it first in `main`, before any thread is started.
pub fn worker_main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // Report the location only: the message of a panic may quote the document.
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let _ = io::Write::write_all(&mut io::stderr(), format!("panic at {place}\n").as_bytes());
    }));
    if let Err(error) = limit() {
        return without_limits(&error);
    }
    let Ok(socket) = rustix::io::dup(rustix::stdio::stdin()).map(UnixStream::from) else {
        return ExitCode::from(3);
    };
    let mut memory_limited = false;
    loop {
        match receive_request(&socket) {
            Ok(Some((request, file))) => {
                if let Err(error) = limit_memory(&mut memory_limited, &request) {
                    return without_limits(&error);
                }
                match serve(&socket, &request, file) {
                    Ok(true) => {}
                    Ok(false) => return ExitCode::from(4),
                    // The parent has exited or closed the socket.
                    Err(_) => return ExitCode::SUCCESS,
                }
            }
            Ok(None) => return ExitCode::SUCCESS,
            Err(error) => {
                let _ = io::Write::write_all(&mut io::stderr(), format!("can't read a request: {error}\n").as_bytes());
                return ExitCode::from(5);
            }
        }
    }
}

/// Reports that this process cannot set its limits, and returns the exit code for that.
fn without_limits(error: &io::Error) -> ExitCode {
    let _ = io::Write::write_all(&mut io::stderr(), format!("{NO_LIMITS}: {error}\n").as_bytes());
    ExitCode::from(3)
}

fn limit() -> io::Result<()> {
    restrict_child()?;
    // The kernel kills the child when its parent dies, busy or not. If the parent died before this call, init is the
    // parent now.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    setrlimit(Resource::Core, fixed(0))?;
    setrlimit(Resource::Fsize, fixed(0))?;
    setrlimit(Resource::Nofile, fixed(MAX_FILES))?;
    Ok(())
}

fn fixed(n: u64) -> Rlimit {
    Rlimit { current: Some(n), maximum: Some(n) }
}

/// Limits the address space of this process (`RLIMIT_AS`). The limit is set only once, when the first request
/// arrives. After that, an attempt to allocate too much memory fails with an error. Without the limit, the kernel
/// would choose a process to kill. The address space includes all mapped memory, used or not. The limit on the
/// address space is therefore the sum of the memory limit in the request and the memory that is already mapped (the
/// program, its libraries, its stack).
fn limit_memory(done: &mut bool, request: &Request) -> io::Result<()> {
    if !std::mem::replace(done, true) {
        let limit = mapped_bytes().saturating_add(request.options.memory_limit_bytes);
        setrlimit(Resource::As, fixed(limit))?;
    }
    Ok(())
}

/// Returns the size of this process's address space in bytes. If the size is unknown, returns a value that is large
/// enough for any program of this kind.
fn mapped_bytes() -> u64 {
    const USUAL: u64 = 256 * 1024 * 1024;
    docweir_core::memory::status_bytes("/proc/self/status", "VmSize:").unwrap_or(USUAL)
}

/// Answers one request. Returns false if this process must exit.
fn serve(socket: &UnixStream, request: &Request, file: OwnedFd) -> io::Result<bool> {
    #[cfg(test)]
    if let Some(fault) = request.fault {
        fault.strike(socket);
    }
    let options = &request.options;
    let mut sink = SocketSink { socket, options, sent: 0, broken: None };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let bytes = read(&File::from(file), options)?;
        extract_into(bytes, request.media_type, options, &mut sink)
    }));
    if let Some(error) = sink.broken {
        return Err(error);
    }
    let (reply, goes_on) = match outcome {
        Ok(Ok(())) => (Reply::End, true),
        Ok(Err(refusal)) => (Reply::Refused(refusal.into()), true),
        Err(_) => {
            let message = "the extractor panicked on the document; please report it";
            (Reply::Refused(StageError::crash("extractor_panic", message).into()), false)
        }
    };
    send_reply(socket, &reply, options.max_frame_bytes)?;
    Ok(goes_on)
}

/// Reads a whole file, whatever the current position of the descriptor.
fn read(file: &File, options: &ExtractOptions) -> Result<Vec<u8>, StageError> {
    let failed = |e: io::Error| StageError::transient("input_unreadable", "the input could not be read").caused_by(&e);
    let length = file.metadata().map_err(failed)?.len();
    check_size(length, options)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}

struct SocketSink<'s> {
    socket: &'s UnixStream,
    options: &'s ExtractOptions,
    sent: u64,
    /// Error of the socket, if one has occurred. After such an error, no reply can reach the parent.
    broken: Option<io::Error>,
}

impl SocketSink<'_> {
    fn send(&mut self, reply: &Reply) -> Result<(), StageError> {
        let (frame, total) = (self.options.max_frame_bytes, self.options.max_result_bytes);
        match send_reply(self.socket, reply, frame) {
            Ok(bytes) => self.sent += bytes,
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                let message = format!(
                    "one page of the result is larger than {frame} bytes: raise `extract.options.max_frame_bytes` or remove the page"
                );
                return Err(StageError::permanent("page_too_large", message));
            }
            Err(e) => {
                self.broken = Some(e);
                return Err(StageError::transient("extractor_socket", "the parent process has closed the socket"));
            }
        }
        if self.sent > total {
            return Err(result_too_large(total));
        }
        Ok(())
    }
}

pub(super) fn result_too_large(limit: u64) -> StageError {
    let message = format!(
        "the extracted text and its boxes are larger than {limit} bytes: raise `extract.options.max_result_bytes` or split the document"
    );
    StageError::permanent("result_too_large", message)
}

impl Sink for SocketSink<'_> {
    fn page(&mut self, page: Page) -> Result<(), StageError> {
        self.send(&Reply::Page(page.into()))
    }

    fn progress(&mut self, page: u32) -> Result<(), StageError> {
        self.send(&Reply::Progress(page))
    }

    fn pages_done(&mut self, notes: Vec<String>) -> Result<(), StageError> {
        self.send(&Reply::PagesDone(notes))
    }

    fn tail(&mut self, info: DocumentInfo, outline: Vec<OutlineEntry>, notes: Vec<String>) -> Result<(), StageError> {
        self.send(&Reply::Tail(WireTail::new(info, outline, notes)))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a fault makes the child hang or exit on purpose")]
impl Fault {
    fn strike(self, socket: &UnixStream) {
        use std::io::Write;
        let one_page = || {
            let page = super::text::page(
                1,
                "kept".into(),
                vec![super::text::block(docweir_core::model::BlockKind::Paragraph, 0, 4)],
            );
            send_reply(socket, &Reply::Page(page.into()), 1 << 20).unwrap();
        };
        let pages = || {
            one_page();
            send_reply(socket, &Reply::PagesDone(vec![]), 1 << 20).unwrap();
        };
        let hang = || loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        };
        match self {
            Fault::Panic => {
                let caught = catch_unwind(|| panic!("secret text of the document"));
                let crash = StageError::crash("extractor_panic", "the extractor panicked");
                assert!(caught.is_err());
                send_reply(socket, &Reply::Refused(crash.into()), 1 << 20).unwrap();
                std::process::exit(4);
            }
            Fault::Abort => std::process::abort(),
            Fault::Exit => std::process::exit(7),
            Fault::Spin => loop {
                std::hint::spin_loop();
            },
            Fault::Sleep => hang(),
            Fault::EatMemory => {
                let mut kept: Vec<Vec<u8>> = Vec::new();
                loop {
                    kept.push(vec![1; 16 << 20]);
                }
            }
            Fault::DieInInfo => {
                pages();
                std::process::abort();
            }
            Fault::HangInInfo => {
                pages();
                hang();
            }
            Fault::HugeFrame => {
                (&*socket).write_all(&u32::MAX.to_le_bytes()).unwrap();
                hang();
            }
            Fault::Garbage => {
                (&*socket).write_all(&[3, 0, 0, 0, 250, 250, 250]).unwrap();
                hang();
            }
            Fault::Flood => loop {
                one_page();
            },
        }
    }
}
