//! Isolates processes from each other. A process hides its memory and environment from its children. A child closes
//! inherited file descriptors and gives up the ability to gain privileges.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Prevents other processes of the same user from reading this process's memory and environment, which may contain
/// keys.
///
/// A child that parses untrusted documents runs as the same user. Without this protection, a document that takes over
/// a child could read `/proc/PARENT/environ`. The protection also disables core dumps and debuggers.
///
/// # Errors
/// Fails if the kernel refuses the call.
pub fn hide_from_children() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Restricts this child process permanently. The function closes all inherited descriptors except standard input,
/// output and error. It also prevents the child from gaining privileges when the child runs a program. Kernels before
/// 5.9 leave the descriptors open, and the function still succeeds.
///
/// Call this function first, while the child has one thread and has opened nothing.
///
/// # Errors
/// Fails if the kernel refuses a call.
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
            // Kernels before 5.9 do not have the call, and the filters of some container engines refuse it.
            if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) { Ok(()) } else { Err(error) }
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn close_inherited() -> io::Result<()> {
    Ok(())
}
