//! How much memory a process has.

/// A value in kilobytes of a `/proc/…/status`, as bytes.
pub fn status_bytes(path: &str, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// This process's anonymous memory in bytes: what mapped files take is the system's to take back and does not count. 0
/// where the system does not tell.
pub fn anonymous_bytes() -> u64 {
    status_bytes("/proc/self/status", "RssAnon:").unwrap_or_default()
}

/// Lets all threads share a few heaps. With one a thread, as glibc has it, what a thread has freed stays with it: 299 MB
/// instead of 231 MB in a run with batches (docs/performance.md). To be called before there is a second thread.
pub fn share_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let heaps = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(1, 32) * 2;
        // SAFETY: sets a number of the allocator's own; no other thread runs yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, i32::try_from(heaps).unwrap_or(4)) };
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_counts() {
        let before = anonymous_bytes();
        let block = vec![1u8; 64 << 20];
        assert!(anonymous_bytes() >= before + (48 << 20), "{} bytes", block.len());
        assert!(status_bytes("/proc/self/status", "VmRSS:").unwrap() > 100_000);
        assert_eq!(status_bytes("/proc/self/status", "VmNothing:"), None);
    }
}
