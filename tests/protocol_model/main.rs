//! Explores the vector store's protocol: every order, within bounds, in which the steps of several processes can
//! happen. The processes commit, merge, delete garbage, roll back and read.
//!
//! Each state holds a production `Manifest`. Every change of the manifest goes through the production functions in
//! `validate` and `retention`. If a rule in these functions changes, the tests explore the changed rule. The model adds
//! an object store, a control store that assigns versions, and the expected content (see [`state`]).
//!
//! Each actor may stop for ever between any two of its steps. Leases may end at any time. Replies may be lost, and
//! requests may arrive late. There is no clock: the collector may raise the horizons, the oldest versions that commits
//! and readers may use, to any version that `may_raise` allows.
//!
//! | invariant | |
//! | --- | --- |
//! | I1 | no file of a live or retained version is missing from the object store |
//! | I2 | each retained version shows the highest committed version of each document, or nothing if that version is a delete; a rollback shows the content of its target; therefore no acknowledged change is lost, and no deleted document reappears |
//! | I3 | an acknowledged commit was applied; no commit is applied twice or is live in two files |
//! | I4 | no compaction of an older epoch is installed after one of a newer epoch |
//! | I5 | until a reader removes its confirmed pin, every file of the pinned version exists, and the manifest lists these files |
//! | I6 | garbage stays garbage, so a stopped collector may resume later and carry out an old decision |
//! | I7 | no actor meets a refusal or a missing file that production would report as a damaged store; each manifest can be read back |
//!
//! # What is explored
//! The constants below limit each exploration. Each swap makes a manifest version, so the constants also limit the
//! number of versions (5 to 8). One exploration of all actors would be too large:
//!
//! - Writers, compactors and the collector run in `WRITING`, `THREE_COMMITS` and `TWO_DOCUMENTS`.
//! - `GOING_BACK` and `GOING_BACK_UNSURE` add rollbacks.
//! - `READING` and `READING_ANEW` add readers.
//! - All actors run in `READING_WHILE_GOING_BACK`, with one writer and one lease.
//!
//! Steps are combined only where this hides no failure; the modules of [`actors`] give the reasons.
//!
//! # What is not explored
//! The model leaves out these cases:
//!
//! - a pin that expires while its reader continues
//! - changes of the embedding model, which begin a new generation
//! - a manifest whose history has been shortened
//! - more than two actors of one kind
//! - a compactor's request that arrives after its next merge has begun; two leases have the same effect
//!
//! Within its bounds, an exploration is a proof. Beyond the bounds, it is only evidence. The tests take about ten
//! seconds on two cores; `holds_further_out` takes minutes.

#![allow(clippy::disallowed_methods, reason = "explorations are timed with the real clock")]
#![allow(clippy::panic, clippy::print_stdout, reason = "clippy treats helpers outside of #[test] as production code")]

mod actors;
mod explore;
mod model;
mod state;

use explore::{fails, holds, holds_still, never};
use model::{Bounds, Guard};
use state::{Breach, Witness};

/// Bounds for two writers that insert, replace and delete one document, and for two leases.
const WRITING: Bounds = Bounds {
    documents: 1,
    versions: 2,
    writers: 2,
    begins: 2,
    leases: 2,
    merges: 2,
    raises: 2,
    horizons_apart: false,
    rollbacks: 0,
    forgets: 1,
    faults: 1,
    crashes: 1,
    reads: 0,
    unpinned: false,
};
/// Bounds for three commits by two writers.
const THREE_COMMITS: Bounds = Bounds { begins: 3, merges: 1, raises: 1, forgets: 0, crashes: 0, ..WRITING };
const TWO_DOCUMENTS: Bounds = Bounds { documents: 2, leases: 1, merges: 2, faults: 0, ..THREE_COMMITS };
/// Bounds for an administrator who rolls back twice.
const GOING_BACK: Bounds = Bounds { rollbacks: 2, forgets: 0, faults: 0, crashes: 0, ..WRITING };
/// Bounds for a rollback while replies are lost and writers crash.
const GOING_BACK_UNSURE: Bounds = Bounds { raises: 1, rollbacks: 1, ..WRITING };
/// Bounds for one reader while the two horizons are raised independently of each other.
const READING: Bounds =
    Bounds { leases: 1, merges: 1, horizons_apart: true, forgets: 0, faults: 0, crashes: 0, reads: 1, ..WRITING };
const READING_ANEW: Bounds = Bounds { raises: 1, forgets: 1, reads: 2, unpinned: true, ..READING };
const READING_WHILE_GOING_BACK: Bounds =
    Bounds { writers: 1, merges: 2, horizons_apart: false, rollbacks: 1, forgets: 1, ..READING };

/// Bounds that are large enough for most mutants.
const SMALL: Bounds = Bounds { raises: 1, forgets: 0, crashes: 0, ..WRITING };
const SMALL_READING: Bounds = Bounds { raises: 1, horizons_apart: false, ..READING };

mod protocol {
    use super::Witness::*;
    use super::*;

    #[test]
    fn holds_for_two_writers_and_two_compactors() {
        let seen = [TombstoneDropped, SnapshotOfNothing, Deleted, Forgotten];
        let unsure = [LostReplyResolved, LostInstallResolved, LateArrival];
        let refused = [StalledRefused, ClaimAbandoned, InstallRefused];
        holds("writing", WRITING, &[&seen[..], &unsure, &refused].concat());
    }

    #[test]
    fn holds_for_three_commits() {
        holds("three commits", THREE_COMMITS, &[TombstoneDropped, LostReplyResolved, LateArrival, StalledRefused]);
    }

    #[test]
    fn holds_for_two_documents() {
        holds("two documents", TWO_DOCUMENTS, &[OneSnapshotOfBoth, TombstoneDropped]);
    }

    #[test]
    fn holds_while_somebody_goes_back() {
        holds("rolling back", GOING_BACK, &[RolledBack, UndoneDeleted, TombstoneDropped, StalledRefused]);
        holds("rolling back, unsure", GOING_BACK_UNSURE, &[RolledBack, UndoneDeleted, LostReplyResolved]);
    }

    #[test]
    fn holds_for_readers() {
        holds("reading", READING, &[PinSpared, PinGivenUp, Deleted]);
        holds("reading again", READING_ANEW, &[PinSpared, PinGivenUp, Reloaded, Forgotten]);
    }

    #[test]
    fn holds_for_readers_while_somebody_goes_back() {
        holds("reading while rolling back", READING_WHILE_GOING_BACK, &[PinSpared, Forgotten, UndoneDeleted]);
    }

    #[test]
    #[ignore = "takes minutes and gigabytes"]
    fn holds_further_out() {
        holds("three commits, far", Bounds { versions: 3, merges: 2, forgets: 1, ..THREE_COMMITS }, &[]);
        let far = Bounds { begins: 3, versions: 3, raises: 1, rollbacks: 1, forgets: 1, ..GOING_BACK };
        holds("rolling back, far", far, &[]);
        holds("reading while rolling back, far", Bounds { writers: 2, ..READING_WHILE_GOING_BACK }, &[]);
    }

    /// Checks this case: a commit was applied, the reply to it was lost, and a rollback then undid the commit. When the
    /// writer determines whether its commit was applied, it must not report success. Production code reported success
    /// until this model found the error.
    #[test]
    fn does_not_acknowledge_what_was_undone_before_the_reply() {
        never(
            "acknowledged, undone",
            Bounds { merges: 0, raises: 0, forgets: 0, ..GOING_BACK_UNSURE },
            AcknowledgedUndone,
        );
    }
}

/// Removes guards and checks that the protocol breaks. This shows that each guard is needed, and that the model would
/// detect a missing guard.
mod mutant {
    use super::*;

    #[test]
    fn blind_overwrite_under_the_lease() {
        fails("blind overwrite", Bounds { raises: 0, ..THREE_COMMITS }, &[Guard::CompareAndSwap], Breach::WrongContent);
    }

    #[test]
    fn append_below_the_floor() {
        fails("append below the floor", SMALL, &[Guard::FloorOnAppend], Breach::Missing);
    }

    #[test]
    fn snapshot_below_the_floor() {
        fails("snapshot below the floor", SMALL, &[Guard::FloorOnInstall], Breach::Missing);
    }

    /// Removes the sequence number of writers. A writer then cannot recognise its own commit after a lost reply, and
    /// reports a damaged store. The content is still correct, because unique file names prevent a commit from being
    /// applied twice.
    #[test]
    fn no_writer_sequence() {
        fails("no sequence", SMALL, &[Guard::WriterSequence], Breach::CalledDamage);
        holds_still("no sequence, content", WRITING, &[Guard::WriterSequence], Breach::NotOnce);
        fails("no sequence, no names", SMALL, &[Guard::WriterSequence, Guard::NamesOnce], Breach::NotOnce);
    }

    #[test]
    fn inputs_that_are_not_live() {
        fails("inputs not live", SMALL, &[Guard::InputsLive], Breach::NotOnce);
    }

    #[test]
    fn no_epoch() {
        fails("no epoch", SMALL, &[Guard::Epoch], Breach::StaleEpoch);
    }

    #[test]
    fn tombstone_dropped_above_the_floor() {
        fails("tombstone above the floor", SMALL, &[Guard::TombstoneFloor], Breach::WrongContent);
    }

    #[test]
    fn tombstone_dropped_beside_an_older_version() {
        fails("tombstone above an older version", SMALL, &[Guard::NothingOlderOutside], Breach::WrongContent);
    }

    #[test]
    fn claim_checked_before_the_base_is_loaded() {
        fails("claim before base", SMALL, &[Guard::ClaimAfterBase], Breach::WrongContent);
    }

    #[test]
    fn rollback_that_leaves_the_floor() {
        fails("rollback leaves the floor", GOING_BACK, &[Guard::RollbackRaisesFloor], Breach::WrongContent);
    }

    #[test]
    fn collector_that_ignores_pins() {
        fails("pins ignored", SMALL_READING, &[Guard::Pins], Breach::TornRead);
    }

    #[test]
    fn pins_read_before_the_horizons_are_raised() {
        fails("pins too early", SMALL_READING, &[Guard::PinsAfterHorizons], Breach::TornRead);
    }

    /// Lets a collector forget a file that was removed and that a rollback has made live again. The collector has read
    /// the pins before the rollback. A pin names only a version, so it does not list the file. Once the file's entry in
    /// the list of removed files is gone, nothing shows that the file was part of the pinned version.
    #[test]
    fn forgetting_what_is_live_again() {
        let bounds = Bounds { merges: 1, ..READING_WHILE_GOING_BACK };
        fails("live again forgotten", bounds, &[Guard::ForgetsOnlyDeleted], Breach::TornRead);
    }

    #[test]
    fn pin_without_a_second_look() {
        fails("no second look", SMALL_READING, &[Guard::SecondLook], Breach::TornRead);
    }

    #[test]
    fn collector_that_ignores_what_is_retained() {
        let bounds = Bounds { rollbacks: 1, horizons_apart: true, ..SMALL };
        fails("retained ignored", bounds, &[Guard::RetainedFrom], Breach::Missing);
    }
}
