//! Runs the docweir program, and samples its memory, that of its children, and the processor time of its actors' thread.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Holds peaks of resident memory, in MB, and the processor time of one thread.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Peak of the process, with the parts of files that are mapped into memory.
    pub own: f64,
    /// Peak of the process without mapped files, which the system can drop at any time.
    pub anonymous: f64,
    /// Peak of all children of the process together.
    pub children: f64,
    /// Processor time of the thread that runs the actors, in seconds.
    pub actors_seconds: f64,
}

/// Runs a command that prints a summary as its last line. Returns the summary, the duration in seconds and the usage.
pub fn measured(mut command: Command) -> (Value, f64, Usage) {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let watch = Watch::start(child.id());
    // A run with a million documents prints gigabytes, of which only the last line counts.
    let (mut output, mut line, mut last) = (BufReader::new(child.stdout.take().unwrap()), Vec::new(), Vec::new());
    while output.read_until(b'\n', &mut line).unwrap() > 0 {
        std::mem::swap(&mut line, &mut last);
        line.clear();
    }
    let status = child.wait().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert!(status.success(), "{status}");
    (serde_json::from_slice(&last).unwrap(), seconds, watch.end())
}

/// Watches a process. It is sampled every 10 ms.
struct Watch(std::thread::JoinHandle<Usage>);

impl Watch {
    fn start(pid: u32) -> Self {
        Self(std::thread::spawn(move || {
            let mut peak = Usage::default();
            while let Some(own) = status(pid, "VmHWM:") {
                peak.own = peak.own.max(own);
                peak.anonymous = peak.anonymous.max(status(pid, "RssAnon:").unwrap_or_default());
                // The system lists children by the thread that started them.
                let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
                let listed: String =
                    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect();
                let each = listed.split_whitespace().filter_map(|child| status(child.parse().ok()?, "VmRSS:"));
                peak.children = peak.children.max(each.sum());
                peak.actors_seconds = first_thread_seconds(pid).unwrap_or(peak.actors_seconds);
                std::thread::sleep(Duration::from_millis(10));
            }
            peak
        }))
    }

    fn end(self) -> Usage {
        self.0.join().unwrap()
    }
}

/// Reads one line of `/proc/PID/status` and returns its value in MB. Returns `None` after the process has ended.
fn status(pid: u32, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// Returns the processor time of the first thread of a process, in seconds.
fn first_thread_seconds(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).ok()?;
    // The fields after the name in brackets: the 12th and 13th are user and system time, in hundredths of a second.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}
