//! Samples the memory of a process and of its children.

use std::time::Duration;

/// Finds two peaks of resident memory, in MB: that of a process, and that of all its children together. The memory is
/// sampled every 10 ms.
pub struct Peaks(std::thread::JoinHandle<(f64, f64)>);

impl Peaks {
    pub fn watch(pid: u32) -> Self {
        Self(std::thread::spawn(move || {
            let (mut own, mut children) = (0.0f64, 0.0f64);
            while let Some(peak) = status(pid, "VmHWM:") {
                own = own.max(peak);
                let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
                let each = listed.split_whitespace().filter_map(|child| status(child.parse().ok()?, "VmRSS:"));
                children = children.max(each.sum());
                std::thread::sleep(Duration::from_millis(10));
            }
            (own, children)
        }))
    }

    pub fn end(self) -> (f64, f64) {
        self.0.join().unwrap()
    }
}

/// Reads one line of `/proc/PID/status` and returns its value in MB. Returns `None` after the process has ended.
fn status(pid: u32, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
