//! Checks this machine: state folder, disk space, open files and memory.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use docweir_stores::state::{StateError, StateFolder};

use super::Finding;
use crate::config::{Settings, Workers};

/// Number of bytes written to test the disk.
const PROBE_BYTES: usize = 1 << 20;

pub fn examine(settings: &Settings) -> Vec<Finding> {
    let folder = Path::new(&settings.state.folder);
    let mut findings = vec![state(folder)];
    let (at, _) = nearest(folder);
    findings.extend(disk(&at, settings.doctor.min_free_bytes));
    findings.push(descriptors(settings.doctor.min_descriptors));
    findings.push(address_space(settings.extract.options.memory_limit_bytes));
    findings.extend(memory(settings));
    findings
}

/// Checks whether the state folder is a Docweir folder and writable. If the folder does not exist, checks whether it
/// can be created.
fn state(folder: &Path) -> Finding {
    const CHECK: &str = "state folder";
    let subject = folder.display().to_string();
    let is_new = match StateFolder::open_existing(folder) {
        Ok(_) => false,
        Err(StateError::Missing(_)) => true,
        Err(error) => return Finding::problem(CHECK, subject, error.to_string(), "choose another `state.folder`"),
    };
    let (at, _) = nearest(folder);
    match probe(&at) {
        Ok(()) if is_new => Finding::fine(CHECK, subject, "will be created by the first run"),
        Ok(()) => Finding::fine(CHECK, subject, "is writable"),
        Err(error) => {
            let fix = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space, or choose another `state.folder`"
                }
                io::ErrorKind::ReadOnlyFilesystem => "mount the disk writable, or choose another `state.folder`",
                _ => "grant write access to the user that runs docweir, or choose another `state.folder`",
            };
            Finding::problem(CHECK, subject, format!("cannot write to {}: {error}", at.display()), fix)
        }
    }
}

/// Writes a file to the folder, syncs it to the disk and deletes it.
fn probe(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".doctor-").tempfile_in(folder)?;
    file.write_all(&vec![0x5a; PROBE_BYTES])?;
    file.as_file().sync_all()?;
    file.close()
}

/// Returns the folder or, if the folder does not exist, its nearest existing ancestor. The second value is true if the
/// folder exists.
fn nearest(folder: &Path) -> (PathBuf, bool) {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = absolute.ancestors().find(|path| path.is_dir()).unwrap_or(&absolute);
    (there.to_owned(), there == absolute)
}

fn disk(folder: &Path, least: u64) -> Option<Finding> {
    const CHECK: &str = "disk";
    let subject = folder.display().to_string();
    let stat = match rustix::fs::statvfs(folder) {
        Ok(stat) => stat,
        Err(error) => return Some(Finding::warning(CHECK, subject, format!("cannot be inspected: {error}"), "")),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // File systems that allocate inodes on demand report zero.
    let no_files = stat.f_files > 0 && stat.f_favail < 1_000;
    Some(match (free < least, no_files) {
        (true, _) => {
            let text = format!("has {} free, less than {} (`doctor.min_free_bytes`)", size(free), size(least));
            Finding::warning(CHECK, subject, text, "free some space, or move `state.folder` to a larger disk")
        }
        (false, true) => {
            let text = format!("has room for only {} more files", stat.f_favail);
            Finding::warning(CHECK, subject, text, "delete files, or move `state.folder` to a disk with more inodes")
        }
        (false, false) => Finding::fine(CHECK, subject, format!("{} free", size(free))),
    })
}

fn descriptors(least: u64) -> Finding {
    const CHECK: &str = "open files";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.current {
        Some(current) if current < least => {
            let text =
                format!("this process may open {current} files at once, fewer than {least} (`doctor.min_descriptors`)");
            Finding::warning(
                CHECK,
                "",
                text,
                format!("raise the limit: `ulimit -n {}`, or LimitNOFILE= of the service", least.max(4_096)),
            )
        }
        Some(current) => Finding::fine(CHECK, "", format!("limit is {current}")),
        None => Finding::fine(CHECK, "", "no limit"),
    }
}

/// Checks the limit on the address space (`ulimit -v`). Each extraction process sets a limit of its own, which may not
/// exceed that of this process.
fn address_space(child_bytes: u64) -> Finding {
    const CHECK: &str = "address space";
    /// Address space that the program maps at its start, in bytes.
    const MAPPED_AT_START: u64 = 256 << 20;
    let limit = rustix::process::getrlimit(rustix::process::Resource::As);
    let needed = child_bytes.saturating_add(MAPPED_AT_START);
    match limit.current {
        Some(current) if current < needed => Finding::problem(
            CHECK,
            "",
            format!("this process may map {current} bytes, and an extraction process needs up to {needed}"),
            "raise the limit: `ulimit -v unlimited`, or lower `extract.options.memory_limit_bytes`",
        ),
        Some(current) => Finding::fine(CHECK, "", format!("limit is {current} bytes")),
        None => Finding::fine(CHECK, "", "no limit"),
    }
}

/// Compares the available memory with the maximum amount that queues and parser processes may use together.
fn memory(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "memory";
    let (extract, chunk, enrich) = (&settings.extract, &settings.chunk, &settings.enrich);
    let queues = extract.queue_bytes + chunk.queue_bytes + enrich.queue_bytes + settings.embed.queue_bytes;
    let queues = (queues + settings.load.queue_bytes) as u64;
    let children = extract.workers.most(Workers::for_computing()) as u64;
    let needed = queues + children * extract.options.memory_limit_bytes;
    let available = available()?;
    Some(match available < needed {
        true => {
            let text = format!(
                "{} available, but full queues and {children} parser processes may use up to {}",
                size(available),
                size(needed)
            );
            let fix =
                "lower `extract.workers.max`, `extract.options.memory_limit_bytes` or the `queue_bytes` of the stages";
            Finding::warning(CHECK, "", text, fix)
        }
        false => Finding::fine(CHECK, "", format!("{} available, {} needed at most", size(available), size(needed))),
    })
}

/// Returns the available memory of the machine or of the container, whichever is less, in bytes.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.saturating_mul(1_024);
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current"));
    Some(limit.map_or(machine, |(most, used)| machine.min(most.saturating_sub(used))))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=1_048_575 => format!("{} KiB", bytes >> 10),
        1_048_576..=1_073_741_823 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_folder_that_can_be_made_is_fine_and_one_of_somebody_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let new = state(&dir.path().join("a/b/.docweir"));
        assert_eq!((new.verdict, new.text.as_str()), (Verdict::Fine, "will be created by the first run"));
        assert!(!dir.path().join("a").exists(), "nothing is made");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        let foreign = dir.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("thesis.tex"), "mine").unwrap();
        assert_eq!(state(&foreign).verdict, Verdict::Problem);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(state(&file).verdict, Verdict::Problem);
    }

    #[test]
    fn too_little_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(disk(dir.path(), 0).unwrap().verdict, Verdict::Fine);
        let full = disk(dir.path(), u64::MAX).unwrap();
        assert!(full.verdict == Verdict::Warning && full.fix.contains("state.folder"), "{full:?}");
        assert_eq!(descriptors(0).verdict, Verdict::Fine);
        assert!(descriptors(u64::MAX - 1).fix.contains("ulimit -n") || descriptors(0).text.contains("no limit"));
        let mut settings = Settings::default();
        settings.load.queue_bytes = usize::MAX >> 2;
        let found = memory(&settings).unwrap();
        assert!(found.verdict == Verdict::Warning && found.fix.contains("queue_bytes"), "{found:?}");
        settings.load.queue_bytes = 1 << 20;
        settings.extract.options.memory_limit_bytes = 1 << 20;
        settings.extract.workers.max = 1;
        for pool in [&mut settings.chunk.queue_bytes, &mut settings.enrich.queue_bytes, &mut settings.embed.queue_bytes]
        {
            *pool = 1 << 20;
        }
        settings.extract.queue_bytes = 1 << 20;
        assert_eq!(memory(&settings).unwrap().verdict, Verdict::Fine);
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([0, 2_048, 5 << 20, 3 << 29].map(size), ["0 KiB", "2 KiB", "5 MiB", "1.5 GiB"]);
    }
}
