//! Isolates processes from each other: a process from its children, and a child from everything it inherits.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Denies other processes of the same user the memory and the environment of this process, which may hold keys.
///
/// A child that parses untrusted documents runs as the same user. Without this, a document that takes over a child could
/// read `/proc/PARENT/environ`. It also disables core dumps and debuggers.
///
/// # Errors
/// The kernel refuses the call.
pub fn hide_from_children() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Restricts a child for good: no inherited descriptor but the three standard ones, and no privileges by running a
/// program. Call it first, while the process has one thread and has opened nothing.
///
/// # Errors
/// The kernel refuses the call.
pub fn restrict_child() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    close_inherited()
}

#[cfg(target_os = "linux")]
fn close_inherited() -> io::Result<()> {
    // SAFETY: no value of this process owns a descriptor above the standard ones yet.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => {
            let error = io::Error::last_os_error();
            // Kernels before 5.9 do not have the call.
            if error.raw_os_error() == Some(libc::ENOSYS) { Ok(()) } else { Err(error) }
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn close_inherited() -> io::Result<()> {
    Ok(())
}
