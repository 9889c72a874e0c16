//! Starts a server, waits until the server is ready, and ends it.
//!
//! A server must not outlive its test or leave files behind, even if the test process is killed. Servers in statics
//! are never dropped, so dropping is not enough. Each server therefore has a guardian, which is a shell that waits
//! for the end of its own standard input. Only the test process holds the other end of this pipe, and the kernel
//! closes that end however the process ends. A kernel death signal (`PR_SET_PDEATHSIG`) bound to the test process
//! would come too early. The kernel sends this signal when the *thread* that started the child ends, and test threads
//! are short-lived.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::ports;

pub(super) const ACCESS_KEY: &str = "docweir-test-key";
pub(super) const SECRET_KEY: &str = "docweir-test-secret";

/// Maximum time until a server is ready. The time is sufficient for a slow machine that also compiles.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Number of attempts to start a server, each with other ports. Further attempts help only if a port was busy. If the
/// cause is another one, the server exits at each attempt.
const ATTEMPTS: usize = 5;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const LOG: &str = "log";
const LINES_OF_LOG: usize = 40;

/// Name of a file in the folder of a server. The file may list files of the server that are outside this folder, one
/// path per line. The listed files are removed together with the folder.
pub(super) const LEFTOVERS: &str = "leftovers";

/// Shell script of the guardian, run as `sh -c GUARDIAN sh FOLDER PROGRAM ARGUMENT…`. The script starts the program
/// in the folder and prints the process id of the program. When standard input ends, the script kills the program and
/// removes the folder. If the guardian itself is killed, a death signal kills the program.
const GUARDIAN: &str = r#"
cd "$1" || exit
folder=$PWD
shift
setpriv --pdeathsig KILL "$@" >log 2>&1 </dev/null &
echo $!
read -r _
kill -KILL $!
wait
test -e leftovers && xargs rm -f <leftovers
cd /
rm -rf "$folder"
"#;

/// Runs a server. Dropping this value kills the server and removes its files.
#[derive(Debug)]
pub struct Server {
    guardian: Child,
    pid: u32,
    folder: PathBuf,
    endpoint: String,
}

impl Server {
    /// Returns the endpoint of the server, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    pub fn secret_key(&self) -> &str {
        SECRET_KEY
    }

    /// Returns the process id of the server itself, for tests that stop or kill the server.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Starts a server and waits until `ready` returns true. `command` builds the command from a folder and free
    /// ports. The first port is the port of the endpoint.
    ///
    /// # Panics
    /// Panics with the end of the server's log if the server does not become ready.
    #[expect(clippy::panic, reason = "an installed server that does not start fails the test")]
    pub(super) fn start<const N: usize>(
        name: &str,
        command: impl Fn(&Path, [u16; N]) -> io::Result<Command>,
        ready: impl Fn([u16; N]) -> bool,
    ) -> Self {
        let deadline = Deadline::new();
        let mut problem = String::new();
        for _ in 0..ATTEMPTS {
            let launched = ports::free().and_then(|ports| Ok((Self::launch(ports, &command)?, ports)));
            let (server, ports) = launched.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
            match server.wait_until(&ready, ports, &deadline) {
                Ok(()) => return server,
                Err(Unready::Ended) => problem = format!("{name} exited before it was ready{}", server.end_of_log()),
                Err(Unready::Late) => panic!("{name} is not ready after {READY_TIMEOUT:?}{}", server.end_of_log()),
            }
        }
        panic!("{problem}")
    }

    fn launch<const N: usize>(
        ports: [u16; N],
        command: impl Fn(&Path, [u16; N]) -> io::Result<Command>,
    ) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("docweir-server-").tempdir()?;
        let command = command(folder.path(), ports)?;
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "sh"])
            .arg(folder.path())
            .arg(command.get_program())
            .args(command.get_args())
            // The environment contains nothing of the developer's: no keys, no settings, no proxy.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            // The guardian is in its own process group: an interrupt from the terminal ends the test, but the
            // guardian must still clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        // From here on, the guardian removes the folder.
        let folder = folder.keep();
        let mut pid = String::new();
        if let Some(said) = guardian.stdout.take() {
            BufReader::new(said).read_line(&mut pid)?;
        }
        let pid = pid.trim().parse().map_err(|_| io::Error::other("the server's guardian printed no process id"))?;
        let endpoint = ports.first().map(|port| format!("http://127.0.0.1:{port}")).unwrap_or_default();
        Ok(Self { guardian, pid, folder, endpoint })
    }

    fn wait_until<const N: usize>(
        &self,
        ready: impl Fn([u16; N]) -> bool,
        ports: [u16; N],
        deadline: &Deadline,
    ) -> Result<(), Unready> {
        loop {
            if ports.iter().all(|port| ports::belongs_to(self.pid, *port)) && ready(ports) {
                return Ok(());
            }
            if !self.runs() {
                return Err(Unready::Ended);
            }
            if deadline.has_passed() {
                return Err(Unready::Late);
            }
            pause();
        }
    }

    /// Returns whether the server is still running. It is not enough that the process id exists: a server that has
    /// exited keeps its id until the guardian collects it. Only a running process has a link to its program.
    fn runs(&self) -> bool {
        fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok()
    }

    fn end_of_log(&self) -> String {
        let log = fs::read(self.folder.join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        format!("; its log ends with\n{}", lines[lines.len().saturating_sub(LINES_OF_LOG)..].join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Waiting closes the guardian's standard input first.
        let _ = self.guardian.wait();
    }
}

#[derive(Debug)]
enum Unready {
    Ended,
    Late,
}

/// Returns the status of the server's answer to `GET path`, or `None` if the server does not answer.
pub(super) fn status(port: u16, path: &str) -> Option<u16> {
    const WAIT: Duration = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), WAIT).ok()?;
    stream.set_read_timeout(Some(WAIT)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    line.split(' ').nth(1)?.parse().ok()
}

struct Deadline(Instant);

#[expect(clippy::disallowed_methods, reason = "waits for another process, in real time")]
impl Deadline {
    fn new() -> Self {
        Self(Instant::now() + READY_TIMEOUT)
    }

    fn has_passed(&self) -> bool {
        Instant::now() > self.0
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for another process, in real time")]
fn pause() {
    std::thread::sleep(POLL_INTERVAL);
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::net::TcpListener;

    use super::*;

    /// Returns the command for a simple HTTP server, which is part of every Python installation.
    fn python(port: u16) -> Command {
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
        command
    }

    fn start() -> Server {
        Server::start("python", |_, [port]| Ok(python(port)), answers)
    }

    fn answers([port]: [u16; 1]) -> bool {
        status(port, "/") == Some(200)
    }

    #[test]
    fn a_server_whose_port_is_taken_gets_another() {
        let taken = RefCell::new(None);
        let command = |_: &Path, [port]: [u16; 1]| {
            if taken.borrow().is_none() {
                taken.replace(Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?));
            }
            Ok(python(port))
        };
        let server = Server::start("python", command, answers);
        let taken = taken.into_inner().unwrap().local_addr().unwrap();
        assert_ne!(server.endpoint(), format!("http://{taken}"));
    }

    #[test]
    fn the_server_of_another_is_not_mistaken_for_ours() {
        let first = start();
        let port_of_first = first.endpoint().rsplit(':').next().unwrap().parse().unwrap();
        let times = Cell::new(0);
        let command = |_: &Path, [port]: [u16; 1]| {
            times.set(times.get() + 1);
            Ok(python(if times.get() == 1 { port_of_first } else { port }))
        };
        // The first attempt gets an answer, but from another port than its own.
        let second = Server::start("python", command, |_: [u16; 1]| answers([port_of_first]));
        assert_eq!(times.get(), 2);
        assert_ne!(first.endpoint(), second.endpoint());
    }

    #[test]
    #[should_panic(expected = "no such thing")]
    fn a_server_that_ends_is_told_with_its_log() {
        let command = |_: &Path, _| {
            let mut command = Command::new("sh");
            command.args(["-c", "echo no such thing; exit 1"]);
            Ok(command)
        };
        Server::start("sh", command, answers);
    }

    #[test]
    fn what_was_started_is_gone_after_drop() {
        let server = start();
        let (folder, process) = (server.folder.clone(), PathBuf::from(format!("/proc/{}", server.pid())));
        assert!(folder.join(LOG).exists() && process.exists());
        drop(server);
        assert!(!folder.exists() && !process.exists());
    }
}
