//! Opens files safely in folders that other users or programs can write to.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Opens a regular file for reading. Other kinds of files are refused, because opening a pipe would block until the
/// pipe has a writer, and a device may have no end.
///
/// # Errors
/// Returns the error of the system, or `InvalidInput` if the file is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    only_regular(open_without_waiting(path, OFlags::empty())?)
}

/// Resolves all symbolic links in a path, except for a link to a file that [`is_name_of_hidden`] accepts. Such a link
/// keeps its own name, because the name of the hidden file may change while the link stays.
///
/// # Errors
/// Returns the error of the system if the file does not exist or cannot be inspected.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let resolved = std::fs::canonicalize(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(resolved) };
    if resolved.is_dir() {
        return Ok(resolved);
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let named = std::fs::canonicalize(folder)?.join(name);
    Ok(if is_name_of_hidden(&named, &resolved) { named } else { resolved })
}

/// Returns whether `link` names a hidden file in its own folder or below, as the files of a Kubernetes ConfigMap do:
/// `a.txt` is a link to `..data/a.txt`. `resolved` is the file that the link leads to. Both paths must be absolute, and
/// neither the folder of `link` nor `resolved` may contain a link.
pub fn is_name_of_hidden(link: &Path, resolved: &Path) -> bool {
    let Some(below) = link.parent().and_then(|folder| resolved.strip_prefix(folder).ok()) else { return false };
    link != resolved && has_hidden_part(below)
}

/// Returns whether a part of a path is hidden, which means that its name begins with a dot.
pub fn has_hidden_part(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

/// Opens a regular file like [`open_regular`], but refuses a path with a symbolic link in any of its parts, unless the
/// last part is a link that [`is_name_of_hidden`] accepts. Use this function for a path that was resolved earlier:
/// another user may since have replaced a folder of the path by a link to files outside.
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
        // Kernels before 5.6 do not have the call, and the filters of some container engines refuse it.
        Err(Errno::LOOP | Errno::NOSYS | Errno::PERM) => open_and_compare(path),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file, then asks the kernel for the path of the opened file. The answer differs from `path` if a link was
/// followed. The answer is where the opened file really is, so nobody can move the file in between.
#[cfg(target_os = "linux")]
fn open_and_compare(path: &Path) -> io::Result<File> {
    use std::os::fd::AsRawFd;

    let file = open_without_waiting(path, OFlags::empty())?;
    let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if opened == path || is_name_of_hidden(path, &opened) { Ok(file) } else { Err(has_link()) }
}

/// Opens a file, and compares the path with its resolved form. A folder that is replaced between the two calls is not
/// noticed.
#[cfg(not(target_os = "linux"))]
fn open_without_links(path: &Path) -> io::Result<File> {
    let file = open_without_waiting(path, OFlags::empty())?;
    let opened = std::fs::canonicalize(path)?;
    if opened == path || is_name_of_hidden(path, &opened) { Ok(file) } else { Err(has_link()) }
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
    fn a_link_to_a_hidden_file_of_its_folder_is_a_name_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(root.join("map/..2026_01")).unwrap();
        std::fs::create_dir(root.join("other")).unwrap();
        for file in ["map/..2026_01/a.txt", "map/plain.txt", ".hidden.txt"] {
            std::fs::write(root.join(file), file).unwrap();
        }
        // The link, its target, the resolved form, and whether the link can be opened under its own name.
        let table = [
            ("map/..data", "..2026_01", "map/..2026_01", false),
            ("map/a.txt", "..data/a.txt", "map/a.txt", true),
            ("map/b.txt", "plain.txt", "map/plain.txt", false),
            ("map/c.txt", "../.hidden.txt", ".hidden.txt", false),
            ("map/d.txt", "/etc/hostname", "/etc/hostname", false),
            ("other/e.txt", "../map/a.txt", "map/..2026_01/a.txt", false),
        ];
        for (link, target, resolved, opens) in table {
            symlink(target, root.join(link)).unwrap();
            assert_eq!(resolve(&root.join(link)).unwrap(), root.join(resolved), "{link}");
            assert_eq!(open_resolved(&root.join(link)).is_ok(), opens, "{link}");
        }
        // A folder of the path that becomes a link is still refused.
        symlink(root.join("map"), root.join("moved")).unwrap();
        assert!(open_resolved(&root.join("moved/a.txt")).is_err());
        assert_eq!(resolve(&root.join("moved/a.txt")).unwrap(), root.join("map/a.txt"));
        assert_eq!(resolve(&root.join("map/gone.txt")).unwrap_err().kind(), io::ErrorKind::NotFound);
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
