//! Bugs that a test plants, to see whether it would find them. Nothing of this is in a program: outside tests
//! [`planted`] is `false` and the compiler takes the branch out.

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "named by production code, made by tests alone")]
pub enum Bug {
    /// What was staged below the floor commits.
    NoFloor,
    /// A commit whose reply was lost is appended again.
    NoSequence,
    /// A snapshot is installed though its inputs are gone.
    InputsNeedNotBeLive,
    /// The manifest is replaced whatever it is by now.
    BlindSwap,
    /// A merge leaves out every tombstone.
    TombstonesDropped,
    /// A rollback lets what was staged before it come in.
    RollbackKeepsFloor,
    /// The collector looks at nobody's mark.
    PinsIgnored,
}

#[cfg(not(test))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug on this thread, or takes it out again.
#[cfg(test)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}
