//! Reads and limits the memory use of this process.

/// Returns the value of `key` in a file such as `/proc/self/status`. The file states the value in kilobytes; the
/// result is in bytes.
pub fn status_bytes(path: &str, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Returns the resident memory of this process, in bytes, without the memory of mapped files. Mapped files do not
/// count, because the system can reclaim their memory. Returns 0 if the system does not report the number.
pub fn anonymous_bytes() -> u64 {
    status_bytes("/proc/self/status", "RssAnon:").unwrap_or_default()
}

/// Makes all threads share a few heaps. By default, glibc gives each thread its own heap, and freed memory stays in
/// that heap. A run with the Batch API used 299 MB by default, and 231 MB with shared heaps (docs/performance.md).
/// Call this function before a second thread starts.
pub fn share_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let heaps = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(1, 32) * 2;
        // SAFETY: sets a parameter of the allocator; no other thread runs yet.
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
