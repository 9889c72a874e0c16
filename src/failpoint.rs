//! Places where a test can make the process fail: compiled into debug builds only, and idle without
//! `DOCWEIR_FAILPOINT`.
//!
//! `DOCWEIR_FAILPOINT="embedding.artefact=3"` sends SIGKILL to this very process when the place is reached for the
//! third time; `chunking.begun@bad.txt=*` every time, for the document whose source holds `bad.txt`;
//! `chunking.work@bad.txt=panic:1` panics instead.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        place: String,
        about: String,
        panics: bool,
        /// 0: every time.
        time: u64,
        seen: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("DOCWEIR_FAILPOINT").ok()?;
        let (place, time) = text.split_once('=')?;
        let (place, about) = place.split_once('@').unwrap_or((place, ""));
        let (panics, time) = time.strip_prefix("panic:").map_or((false, time), |time| (true, time));
        let time = if time == "*" { 0 } else { time.parse().ok()? };
        Some(Armed { place: place.into(), about: about.into(), panics, time, seen: AtomicU64::new(0) })
    });

    #[expect(clippy::panic, reason = "a test asked for it")]
    pub fn reach(place: &str, about: &str) {
        let Some(armed) = &*ARMED else { return };
        if armed.place != place || !about.contains(&armed.about) {
            return;
        }
        let seen = armed.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if armed.time == 0 || armed.time == seen {
            if armed.panics {
                panic!("failpoint {place}");
            }
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

/// The process comes by `place` on behalf of `about`.
#[inline]
pub fn reach(place: &str, about: &str) {
    #[cfg(debug_assertions)]
    armed::reach(place, about);
    #[cfg(not(debug_assertions))]
    let _ = (place, about);
}
