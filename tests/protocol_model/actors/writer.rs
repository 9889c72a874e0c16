//! Models writers. A writer claims a document, loads the manifest, checks the claim, stages a file, and swaps the
//! manifest. If the reply to the swap is lost, the writer determines from the manifest whether its commit was applied.
//!
//! Two pairs of actions are combined into one step each, which hides no failure. Checking the claim and staging the
//! file are one step. If the file is stored earlier than in production, the only effect is that it can be deleted
//! earlier. Checking the manifest and swapping it are one step, because a swap changes nothing if the manifest differs
//! from the checked one.

use std::borrow::Cow;

use docweir_index::manifest::{FileKind, Manifest, ManifestVersion};
use docweir_index::validate::{Append, Refusal, Resolution, may_append, proposed, resolve_unknown};

use crate::model::{Guard, Intent, Protocol, Step};
use crate::state::{Breach, Change, Content, STAMP, State, Witness};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WriterActor {
    /// Number of crashes so far. The writer's id contains this number, so the slot has a new writer id after each
    /// crash.
    life: u8,
    begun: u8,
    work: Work,
    /// Aborted commit whose request may still arrive. `None` as soon as the manifest changes, because the request would
    /// then be refused.
    pub in_flight: Option<Staged>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Claim {
    document: u8,
    version: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Work {
    #[default]
    Idle,
    /// The writer holds the claim. `base` is the loaded version of the manifest, or `None` if a mutant checks the claim
    /// before it loads the manifest.
    Begun {
        claim: Claim,
        base: Option<ManifestVersion>,
    },
    Staged(Staged),
}

/// Describes a staged delta, which is in the object store but not in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Staged {
    claim: Claim,
    base: ManifestVersion,
    /// Value of the writer's `life` when the delta was staged. A request that arrives after a crash still carries the
    /// writer id from before the crash.
    life: u8,
    /// Number that identifies this commit among the commits of all slots.
    commit: u8,
    /// Number that identifies this commit among the commits of its slot.
    number: u8,
}

/// Maximum number of commits of a slot. With two slots, the 16 bits of `State::applied` suffice for one bit per commit.
const COMMITS_OF_A_WRITER: u8 = 8;

fn append_of(writer: u8, staged: &Staged) -> Append {
    let file = format!("d{writer}{}", staged.number);
    Append {
        commit_id: file.clone(),
        file: proposed(file, FileKind::Delta, 1, staged.base),
        model: None,
        writer: format!("w{writer}{}", staged.life),
        sequence: u64::from(staged.number) + 1,
    }
}

impl Protocol {
    pub fn writer_steps(&self, s: &State, writer: u8, steps: &mut Vec<Step>) {
        let me = &s.writers[usize::from(writer)];
        match &me.work {
            // Slots are interchangeable, and so are documents. To avoid symmetric states, the second slot begins only
            // after the first, and the second document only after the first.
            Work::Idle if s.spent.begins < self.bounds.begins && (writer == 0 || s.writers[0].begun > 0) => {
                for document in 0..self.bounds.documents {
                    if document > 0 && s.minted[usize::from(document) - 1] == 0 {
                        break;
                    }
                    let minted = s.minted[usize::from(document)];
                    let mut may = |intent| steps.push(Step::Begin { writer, document, intent });
                    if minted < self.bounds.versions {
                        may(Intent::Upsert);
                        if minted > 0 {
                            may(Intent::Delete);
                        }
                    }
                    if minted > 0 && s.acknowledged[usize::from(document)] & (1 << minted) == 0 {
                        may(Intent::Again);
                    }
                }
            }
            Work::Idle => {}
            Work::Begun { .. } => steps.push(Step::CheckAndStage { writer }),
            Work::Staged(_) => {
                steps.push(Step::Commit { writer, lost: false });
                if s.spent.faults < self.bounds.faults {
                    steps.push(Step::Commit { writer, lost: true });
                    steps.push(Step::GiveUp { writer });
                }
            }
        }
        if me.in_flight.is_some() {
            steps.push(Step::Arrive { writer });
        }
        if me.work != Work::Idle && s.spent.crashes < self.bounds.crashes {
            steps.push(Step::CrashWriter { writer });
        }
    }

    pub fn begin(&self, s: &mut State, writer: u8, document: u8, intent: Intent) -> bool {
        let d = usize::from(document);
        if intent != Intent::Again {
            s.minted[d] += 1;
        }
        if intent == Intent::Delete {
            s.deletes[d] |= 1 << s.minted[d];
        }
        let base = self.has(Guard::ClaimAfterBase).then_some(s.manifest.version);
        let claim = Claim { document, version: s.minted[d] };
        s.writers[usize::from(writer)].work = Work::Begun { claim, base };
        s.writers[usize::from(writer)].begun += 1;
        s.spent.begins += 1;
        true
    }

    pub fn check_and_stage(&self, s: &mut State, writer: u8) -> bool {
        let w = usize::from(writer);
        let Work::Begun { claim, base } = s.writers[w].work else { return false };
        let d = usize::from(claim.document);
        if base.is_some() && claim.version != s.minted[d] {
            self.witness(Witness::ClaimAbandoned);
            s.writers[w].work = Work::Idle;
            return true;
        }
        let WriterActor { life, begun, .. } = s.writers[w];
        let number = begun - 1;
        let commit = writer * COMMITS_OF_A_WRITER + number;
        let staged = Staged { claim, base: base.unwrap_or(s.manifest.version), life, commit, number };
        let Claim { document, version } = claim;
        let change = Change { document, version, tombstone: s.deletes[d] & (1 << version) != 0, commit, added: None };
        let name = append_of(writer, &staged).file.file;
        s.stage(name, Content { base: staged.base, changes: vec![change] });
        s.writers[w].work = Work::Staged(staged);
        true
    }

    /// Makes one attempt to commit. Checks whether an earlier attempt was applied, checks the commit with the
    /// production rules, and swaps the manifest.
    pub fn commit(&self, s: &mut State, writer: u8, lost: bool) -> bool {
        let w = usize::from(writer);
        let Work::Staged(staged) = s.writers[w].work else { return false };
        match self.judge_append(s, writer, &staged) {
            Ok(next) => {
                self.apply(s, &staged, next);
                if lost {
                    s.spent.faults += 1;
                    return true;
                }
                s.acknowledged[usize::from(staged.claim.document)] |= 1 << staged.claim.version;
            }
            Err(_) if lost => return false,
            Err(None) => {
                self.witness(Witness::LostReplyResolved);
                if s.applied & (1 << staged.commit) == 0 {
                    s.breach(Breach::NotOnce);
                }
                let d = usize::from(staged.claim.document);
                if s.truth()[d].is_none_or(|(version, _)| version < staged.claim.version) {
                    self.witness(Witness::AcknowledgedUndone);
                }
                s.acknowledged[d] |= 1 << staged.claim.version;
            }
            // In production, the caller asks the control store before it begins again.
            Err(Some(Refusal::BelowFloor { .. })) => self.witness(Witness::StalledRefused),
            Err(Some(_)) => s.breach(Breach::CalledDamage),
        }
        s.writers[w].work = Work::Idle;
        true
    }

    pub fn give_up(&self, s: &mut State, writer: u8) -> bool {
        let w = usize::from(writer);
        let Work::Staged(staged) = s.writers[w].work else { return false };
        if self.judge_append(s, writer, &staged).is_err() {
            return false;
        }
        s.spent.faults += 1;
        s.writers[w].work = Work::Idle;
        s.writers[w].in_flight = Some(staged);
        true
    }

    pub fn arrive(&self, s: &mut State, writer: u8) -> bool {
        let Some(staged) = s.writers[usize::from(writer)].in_flight else { return false };
        let Ok(next) = self.judge_append(s, writer, &staged) else { return false };
        self.witness(Witness::LateArrival);
        self.apply(s, &staged, next);
        true
    }

    pub fn crash_writer(&self, s: &mut State, writer: u8) -> bool {
        let me = &mut s.writers[usize::from(writer)];
        me.life += 1;
        me.work = Work::Idle;
        s.spent.crashes += 1;
        true
    }

    /// Returns the manifest after the commit. Returns `Err(None)` if the current manifest already contains the commit.
    /// Returns `Err(Some(refusal))` if a rule refuses the commit.
    fn judge_append(&self, s: &State, writer: u8, staged: &Staged) -> Result<Manifest, Option<Refusal>> {
        let append = append_of(writer, staged);
        let mut judged = Cow::Borrowed(&*s.manifest);
        if !self.has(Guard::FloorOnAppend) {
            judged.to_mut().gc_floor = 0;
        }
        if !self.has(Guard::WriterSequence) {
            judged.to_mut().writers.clear();
            judged.to_mut().commit_id.clear();
        }
        if !self.has(Guard::NamesOnce) {
            let judged = judged.to_mut();
            judged.live.retain(|f| f.file != append.file.file);
            judged.removed.retain(|r| r.file.file != append.file.file);
        }
        match resolve_unknown(&judged, &append) {
            Resolution::Committed { .. } => return Err(None),
            Resolution::Overtaken => {
                let (base, floor) = (append.file.base_version, judged.gc_floor);
                return Err(Some(Refusal::BelowFloor { base, floor }));
            }
            Resolution::NotCommitted => {}
        }
        let mut next = may_append(&judged, &append, STAMP).map_err(Some)?;
        next.gc_floor = s.manifest.gc_floor;
        if !self.has(Guard::NamesOnce) {
            let added = next.live.pop();
            next.live = s.manifest.live.iter().cloned().chain(added).collect();
            next.removed = s.manifest.removed.clone();
        }
        Ok(next)
    }

    fn apply(&self, s: &mut State, staged: &Staged, next: Manifest) {
        let Claim { document, version } = staged.claim;
        let mut truth = s.truth();
        let d = usize::from(document);
        truth[d] = truth[d].max(Some((version, s.deletes[d] & (1 << version) != 0)));
        if s.applied & (1 << staged.commit) != 0 {
            s.breach(Breach::NotOnce);
        }
        s.applied |= 1 << staged.commit;
        s.swap(next, truth);
    }
}
