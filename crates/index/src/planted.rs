//! Defines bugs that tests switch on to prove that they would be detected. Outside tests, [`planted`] always returns
//! `false`, so the compiler removes the branches and programs contain none of the bugs.

/// Identifies a planted defect: a rule of the protocol that a test makes the code skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the variants exist only for tests")]
pub enum SkippedRule {
    /// Planted defect: a commit is accepted although its base version is below `gc_floor`.
    NoFloor,
    /// Planted defect: sequence numbers are ignored, so a commit whose reply was lost is appended a second time.
    NoSequence,
    /// Planted defect: a snapshot is installed although its inputs are no longer live.
    InputsNeedNotBeLive,
    /// Planted defect: the manifest is replaced even if another process has changed it meanwhile.
    BlindSwap,
    /// Planted defect: a merge drops tombstones of any age, although a commit in progress may still need them.
    TombstonesDropped,
    /// Planted defect: a rollback does not raise `gc_floor`, so files that were staged before the rollback are
    /// accepted after it.
    RollbackKeepsFloor,
    /// Planted defect: the collector deletes files although readers have pinned them.
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
