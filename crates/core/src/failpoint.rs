//! Makes the process fail at named points in the code during a test. Failpoints exist in debug builds only, and do
//! nothing unless the environment variable `DOCWEIR_FAILPOINT` is set.
//!
//! The variable has the form `POINT[@TEXT]=[ACTION:]COUNT`:
//! - `embedding.artefact=3` sends SIGKILL to this process when it reaches the failpoint `embedding.artefact` for the
//!   third time.
//! - `chunking.begun@bad.txt=*` sends SIGKILL every time, but only for documents whose source contains `bad.txt`.
//! - `chunking.work@bad.txt=panic:1` causes a panic the first time, instead of sending SIGKILL.
//! - `stop:` in place of `panic:` sends SIGSTOP, which stops the process until it receives SIGCONT.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        place: String,
        about: String,
        does: Does,
        /// Number of the visit that triggers the action, counted from 1. 0 means every visit.
        time: u64,
        seen: AtomicU64,
    }

    #[derive(Clone, Copy)]
    enum Does {
        Kill,
        Stop,
        Panic,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("DOCWEIR_FAILPOINT").ok()?;
        let (place, time) = text.split_once('=')?;
        let (place, about) = place.split_once('@').unwrap_or((place, ""));
        let (does, time) = match time.split_once(':') {
            Some(("panic", time)) => (Does::Panic, time),
            Some(("stop", time)) => (Does::Stop, time),
            _ => (Does::Kill, time),
        };
        let time = if time == "*" { 0 } else { time.parse().ok()? };
        Some(Armed { place: place.into(), about: about.into(), does, time, seen: AtomicU64::new(0) })
    });

    #[expect(clippy::panic, reason = "a test requested this panic")]
    pub fn reach(place: &str, about: &str) {
        let Some(armed) = &*ARMED else { return };
        if armed.place != place || !about.contains(&armed.about) {
            return;
        }
        let seen = armed.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if armed.time == 0 || armed.time == seen {
            let signal = match armed.does {
                Does::Panic => panic!("failpoint {place}"),
                Does::Stop => rustix::process::Signal::STOP,
                Does::Kill => rustix::process::Signal::KILL,
            };
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
    }
}

/// Executes the failpoint `place` if the environment variable selects it. `about` is the source of the document that
/// the process is working on.
#[inline]
pub fn reach(place: &str, about: &str) {
    #[cfg(debug_assertions)]
    armed::reach(place, about);
    #[cfg(not(debug_assertions))]
    let _ = (place, about);
}
