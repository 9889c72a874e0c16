//! Every interleaving of the vector store's commits, merges, collections, rollbacks and reads, within bounds.
//!
//! The states hold a production `Manifest`, and every change of it goes through the functions that production calls
//! (`validate`, `retention`): a rule that is changed there is tried here. Around them are an object store, a control store
//! that mints versions, and what ought to be seen (see [`state`]). Each actor may stop for ever between any two of its
//! steps; leases end whenever they like; replies get lost and requests come late. There is no clock: the collector puts the
//! horizons anywhere that `may_raise` allows.
//!
//! | invariant | |
//! | --- | --- |
//! | I1 | no file of a version that is live or retained is missing in the object store |
//! | I2 | each retained version shows of each document the highest version that was committed, or nothing where that is a delete; a rollback shows what its target did. So nothing acknowledged is lost, nothing deleted comes back |
//! | I3 | a commit that is acknowledged was applied, no commit is applied twice or live in two files |
//! | I4 | no compaction of an older epoch is installed after one of a newer |
//! | I5 | a reader whose pin is confirmed finds every file of its version, and the manifest tells which they are, until it lets go |
//! | I6 | what is garbage stays garbage, so a collector may stop and go on with what it decided long ago |
//! | I7 | no refusal, and no missing file, that production would report as a damaged store; each manifest reads back |
//!
//! # What is explored
//! The bounds are the constants below; a manifest version is made by each swap, so they bound it too (5 to 8). Not all
//! actors are in one exploration, for the product would be too large: writers, compactors and the collector in `WRITING`,
//! `THREE_COMMITS` and `TWO_DOCUMENTS`; with rollbacks in `GOING_BACK` and `GOING_BACK_UNSURE`; with readers in `READING`
//! and `READING_ANEW`; all of them, with one writer and one lease, in `READING_WHILE_GOING_BACK`.
//!
//! Steps are put together only where that leaves nothing out; [`actors`] says why at each. A swap that meets another
//! manifest than the one that it was judged on changes nothing, so that judging and swapping is one step. Without readers
//! a file is deleted as soon as it is garbage: that is the worst that a collector can do, for nobody is helped by a file
//! that is gone and I6 makes an old decision no worse than a new one.
//!
//! # What is not
//! A pin that runs out while its reader goes on; generations and models; thinned history; more than two of anyone; a
//! compactor's request that arrives after its next merge has begun (two leases do the same). Within the bounds it is a
//! proof, beyond them it is an expectation. All of it takes some ten seconds of two cores; `holds_further_out` minutes.

#![allow(clippy::disallowed_methods, reason = "how long an exploration takes is real time")]
#![allow(clippy::panic, clippy::print_stdout, reason = "clippy takes helpers outside of #[test] for production code")]

mod actors;
mod explore;
mod model;
mod state;

use explore::{fails, holds, holds_still, never};
use model::{Bounds, Guard};
use state::{Breach, Witness};

/// One document that is put in, replaced and deleted by two writers; two leases.
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
/// A third commit, of either writer.
const THREE_COMMITS: Bounds = Bounds { begins: 3, merges: 1, raises: 1, forgets: 0, crashes: 0, ..WRITING };
const TWO_DOCUMENTS: Bounds = Bounds { documents: 2, leases: 1, merges: 2, faults: 0, ..THREE_COMMITS };
/// The administrator goes back, and back again.
const GOING_BACK: Bounds = Bounds { rollbacks: 2, forgets: 0, faults: 0, crashes: 0, ..WRITING };
/// Goes back while replies are lost and writers die.
const GOING_BACK_UNSURE: Bounds = Bounds { raises: 1, rollbacks: 1, ..WRITING };
/// The horizons are raised apart from one another.
const READING: Bounds =
    Bounds { leases: 1, merges: 1, horizons_apart: true, forgets: 0, faults: 0, crashes: 0, reads: 1, ..WRITING };
const READING_ANEW: Bounds = Bounds { raises: 1, forgets: 1, reads: 2, unpinned: true, ..READING };
const READING_WHILE_GOING_BACK: Bounds =
    Bounds { writers: 1, merges: 2, horizons_apart: false, rollbacks: 1, forgets: 1, ..READING };

/// Enough for most mutants.
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
        holds("going back", GOING_BACK, &[RolledBack, UndoneDeleted, TombstoneDropped, StalledRefused]);
        holds("going back, unsure", GOING_BACK_UNSURE, &[RolledBack, UndoneDeleted, LostReplyResolved]);
    }

    #[test]
    fn holds_for_readers() {
        holds("reading", READING, &[PinSpared, PinGivenUp, Deleted]);
        holds("reading anew", READING_ANEW, &[PinSpared, PinGivenUp, Reloaded, Forgotten]);
    }

    #[test]
    fn holds_for_readers_while_somebody_goes_back() {
        holds("reading while going back", READING_WHILE_GOING_BACK, &[PinSpared, Forgotten, UndoneDeleted]);
    }

    #[test]
    #[ignore = "takes minutes and gigabytes"]
    fn holds_further_out() {
        holds("three commits, far", Bounds { versions: 3, merges: 2, forgets: 1, ..THREE_COMMITS }, &[]);
        let far = Bounds { begins: 3, versions: 3, raises: 1, rollbacks: 1, forgets: 1, ..GOING_BACK };
        holds("going back, far", far, &[]);
        holds("reading while going back, far", Bounds { writers: 2, ..READING_WHILE_GOING_BACK }, &[]);
    }

    /// Reply lost, rolled back, looked up: the commit was applied, and nothing of it is there. The writer must not say
    /// that it is done; production did until this model found it.
    #[test]
    fn does_not_acknowledge_what_was_undone_before_the_reply() {
        never(
            "acknowledged, undone",
            Bounds { merges: 0, raises: 0, forgets: 0, ..GOING_BACK_UNSURE },
            AcknowledgedUndone,
        );
    }
}

/// Without one of its guards the protocol breaks: so the guard is needed, and the model would notice its loss.
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

    /// Names that are used once protect the content by themselves; what the sequence adds is that the writer learns that
    /// it has committed, where it would otherwise be told that the store is damaged.
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
        fails("tombstone beside an older", SMALL, &[Guard::NothingOlderOutside], Breach::WrongContent);
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

    /// Removed, brought back by a rollback, and the entry of its removal forgotten by a collector that had looked at the
    /// pins before: a pin names its version, and no list tells any more that the file was part of that.
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
