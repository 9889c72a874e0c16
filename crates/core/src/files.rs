//! Opens files safely in folders that other users or programs can write to.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading. Other kinds of files are refused, because opening a pipe would block until the
/// pipe has a writer, and a device may have no end.
///
/// # Errors
/// Returns the error of the system, or `InvalidInput` if the file is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    only_regular(open_without_waiting(path, OFlags::empty())?)
}

/// Opens a regular file like [`open_regular`], but refuses a path with a symbolic link in any of its parts. Use this
/// function for a path that was resolved earlier: another user may since have replaced a folder of the path by a link
/// to files outside.
///
/// # Errors
/// Returns the error of the system, or `InvalidInput` if the file is not a regular file or its path contains a link.
pub fn open_resolved(path: &Path) -> io::Result<File> {
    only_regular(open_without_links(path)?)
}

fn open_without_waiting(path: &Path, more: OFlags) -> io::Result<File> {
    File::options().read(true).custom_flags((OFlags::NONBLOCK | more).bits() as i32).open(path)
}

fn only_regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

fn has_link() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "its path now leads through a symbolic link")
}

#[cfg(target_os = "linux")]
fn open_without_links(path: &Path) -> io::Result<File> {
    use rustix::fs::{CWD, Mode, ResolveFlags, openat2};
    use rustix::io::Errno;

    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(file) => Ok(file.into()),
        Err(Errno::LOOP) => Err(has_link()),
        // Kernels before 5.6 do not have the call, and the filters of some container engines refuse it.
        Err(Errno::NOSYS | Errno::PERM) => open_and_compare(path),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file, then asks the kernel for the path of the opened file. The answer differs from `path` if a link was
/// followed.
#[cfg(target_os = "linux")]
fn open_and_compare(path: &Path) -> io::Result<File> {
    use std::os::fd::AsRawFd;

    let file = open_without_waiting(path, OFlags::empty())?;
    let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if opened == path { Ok(file) } else { Err(has_link()) }
}

/// Opens a file whose last part is not a link, and compares the path with its resolved form. A folder that is replaced
/// between the two calls is not noticed.
#[cfg(not(target_os = "linux"))]
fn open_without_links(path: &Path) -> io::Result<File> {
    let file = open_without_waiting(path, OFlags::NOFOLLOW)?;
    if std::fs::canonicalize(path)? == path { Ok(file) } else { Err(has_link()) }
}

/// Returns whether a file belongs to the user of this process.
pub fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    type Opener = fn(&Path) -> io::Result<File>;

    #[test]
    fn a_link_in_any_part_of_a_resolved_path_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/a.txt"), "text").unwrap();
        symlink(root.join("real"), root.join("folder")).unwrap();
        symlink(root.join("real/a.txt"), root.join("file.txt")).unwrap();
        let openers: &[Opener] = &[
            open_resolved,
            #[cfg(target_os = "linux")]
            open_and_compare,
        ];
        for open in openers {
            assert!(open(&root.join("real/a.txt")).is_ok());
            assert_eq!(open(&root.join("real/b.txt")).unwrap_err().kind(), io::ErrorKind::NotFound);
            for linked in ["folder/a.txt", "file.txt"] {
                let error = open(&root.join(linked)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{linked}: {error}");
            }
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let pipe = root.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        for (open, name) in [(open_regular as Opener, "regular"), (open_resolved, "resolved")] {
            for path in [&pipe, &root] {
                assert_eq!(open(path).unwrap_err().to_string(), "not a regular file", "{name} {}", path.display());
            }
        }
    }
}
