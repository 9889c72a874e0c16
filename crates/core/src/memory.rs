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

/// Returns the memory that an allocator uses for an allocation of this size, in bytes. Small allocations use much more
/// than their size, because each has a header and a multiple of 16 bytes.
pub fn heap_bytes(size: usize) -> usize {
    const HEADER: usize = 8;
    const SMALLEST: usize = 32;
    if size == 0 { 0 } else { (size + HEADER).next_multiple_of(16).max(SMALLEST) }
}

/// Makes all threads share a few heaps. By default, glibc gives each thread its own heap, and freed memory stays in
/// that heap. A run with the Batch API used 299 MB by default, and 231 MB with shared heaps (docs/performance.md).
/// Call this function before a second thread starts.
pub fn share_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let heaps = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(1, 32) * 2;
        // SAFETY: sets parameters of the allocator; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, i32::try_from(heaps).unwrap_or(4));
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
        }
    }
}

/// Size from which glibc maps a block on its own and unmaps it when it is freed, in bytes. By default, glibc raises this
/// size up to 32 MiB, and freed blocks then stay in the heaps.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: libc::c_int = 1 << 20;

/// Returns free memory of the heaps to the system. glibc does this only at the end of a heap, so the memory of a large
/// document would otherwise stay with the process. While a call runs, further calls return immediately.
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static RUNNING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        if let Ok(_only) = RUNNING.try_lock() {
            // SAFETY: the function has no preconditions.
            unsafe { libc::malloc_trim(0) };
        }
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
