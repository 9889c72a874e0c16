//! Defines bugs that tests switch on to prove that they would be detected. Outside tests, [`planted`] always returns
//! `false`, so the compiler removes the branches and programs contain none of the bugs.

/// Identifies a planted defect. Each planted defect makes the code skip one rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the variants exist only for tests")]
pub enum SkippedRule {
    /// Planted defect: a commit is accepted although its base version is below `gc_floor`.
    NoFloor,
    /// Planted defect: sequence numbers are ignored. A commit is therefore appended a second time if its reply was
    /// lost.
    NoSequence,
    /// Planted defect: a snapshot is installed although its inputs are no longer live.
    InputsNeedNotBeLive,
    /// Planted defect: the manifest is replaced even if another process has changed it meanwhile.
    BlindSwap,
    /// Planted defect: a merge drops tombstones of any age, although a commit in progress may still need them.
    TombstonesDropped,
    /// Planted defect: a rollback does not raise `gc_floor`. Files that were staged before the rollback can therefore
    /// be committed after the rollback.
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

/// Activates a planted bug on this thread; `None` deactivates the active bug.
#[cfg(test)]
pub fn plant(bug: Option<SkippedRule>) {
    PLANTED.set(bug);
}
