//! Defines bugs that tests switch on to prove that they would be detected. Outside tests, [`planted`] always returns
//! `false`, so the compiler removes the branches and programs contain none of the bugs.

/// Identifies a rule of the protocol that a test makes the code skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the variants exist only for tests")]
pub enum SkippedRule {
    /// A commit that was staged below the floor is accepted.
    NoFloor,
    /// A commit whose reply was lost is appended again.
    NoSequence,
    /// A snapshot is installed although its inputs are no longer live.
    InputsNeedNotBeLive,
    /// The manifest is replaced without comparing its current state.
    BlindSwap,
    /// A merge drops every tombstone.
    TombstonesDropped,
    /// A rollback accepts files that were staged before it.
    RollbackKeepsFloor,
    /// The collector ignores the pins of readers.
    PinsIgnored,
}

#[cfg(not(test))]
#[inline(always)]
pub const fn planted(_: SkippedRule) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<SkippedRule>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub fn planted(bug: SkippedRule) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug on this thread; `None` removes it.
#[cfg(test)]
pub fn plant(bug: Option<SkippedRule>) {
    PLANTED.set(bug);
}
