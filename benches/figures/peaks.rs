//! Runs the docweir program, and samples its memory and that of its children.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Holds peaks of resident memory, in MB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Peak of the process, with the parts of files that are mapped into memory.
    pub own: f64,
    /// Peak of the process without mapped files, which the system can drop at any time.
    pub anonymous: f64,
    /// Peak of all children of the process together.
    pub children: f64,
}

/// Runs a command that prints a summary as its last line. Returns the summary, the duration in seconds and the peaks.
pub fn measured(mut command: Command) -> (Value, f64, Memory) {
    let began = Instant::now();
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let peaks = Peaks::watch(child.id());
    let output = child.wait_with_output().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", output.status);
    let last = output.stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
    (serde_json::from_slice(last).unwrap(), seconds, peaks.end())
}

/// Finds the peaks of a process. The memory is sampled every 10 ms.
struct Peaks(std::thread::JoinHandle<Memory>);

impl Peaks {
    fn watch(pid: u32) -> Self {
        Self(std::thread::spawn(move || {
            let mut peak = Memory::default();
            while let Some(own) = status(pid, "VmHWM:") {
                peak.own = peak.own.max(own);
                peak.anonymous = peak.anonymous.max(status(pid, "RssAnon:").unwrap_or_default());
                let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
                let each = listed.split_whitespace().filter_map(|child| status(child.parse().ok()?, "VmRSS:"));
                peak.children = peak.children.max(each.sum());
                std::thread::sleep(Duration::from_millis(10));
            }
            peak
        }))
    }

    fn end(self) -> Memory {
        self.0.join().unwrap()
    }
}

/// Reads one line of `/proc/PID/status` and returns its value in MB. Returns `None` after the process has ended.
fn status(pid: u32, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
