//! Compares the store with a small model under random commands, restarts and clock changes.

use docweir_core::error::StageError;
use proptest::prelude::*;

use super::*;

const DOCUMENTS: usize = 3;

#[derive(Clone, Debug)]
enum Command {
    Register { document: usize, content: u8 },
    Claim { seconds: u64 },
    Act { claim: usize, act: Act },
    Renew { claim: usize },
    Reversion { claim: usize },
    ShellReset { document: usize },
    Reset { document: usize },
    Delete { document: usize },
    Discard { document: usize },
    Resume { event: bool },
    MarkLoaded { document: usize },
    ExpireLeases,
    Wait { seconds: u64 },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Start,
    Complete,
    Retry,
    ParkForEvent,
    ParkForTime,
    Quarantine,
    Finish,
    Release,
}

fn command() -> impl Strategy<Value = Command> {
    use Act::*;
    let document = 0..DOCUMENTS;
    let act = prop::sample::select(vec![
        Start,
        Start,
        Complete,
        Complete,
        Complete,
        Retry,
        ParkForEvent,
        ParkForTime,
        Quarantine,
        Finish,
        Release,
    ]);
    prop_oneof![
        4 => (document.clone(), 0..2u8).prop_map(|(document, content)| Command::Register { document, content }),
        6 => (1..100u64).prop_map(|seconds| Command::Claim { seconds }),
        // Claims are counted from the newest, so that most of them are still valid.
        14 => (0..4usize, act).prop_map(|(claim, act)| Command::Act { claim, act }),
        1 => (0..4usize).prop_map(|claim| Command::Renew { claim }),
        1 => (0..4usize).prop_map(|claim| Command::Reversion { claim }),
        2 => document.clone().prop_map(|document| Command::ShellReset { document }),
        2 => document.clone().prop_map(|document| Command::Reset { document }),
        2 => document.clone().prop_map(|document| Command::Delete { document }),
        1 => document.clone().prop_map(|document| Command::Discard { document }),
        1 => any::<bool>().prop_map(|event| Command::Resume { event }),
        1 => document.prop_map(|document| Command::MarkLoaded { document }),
        1 => Just(Command::ExpireLeases),
        3 => (1..60u64).prop_map(|seconds| Command::Wait { seconds }),
        1 => Just(Command::Reopen),
    ]
}

/// Holds the expected state of one document.
#[derive(Clone, Debug)]
struct Expected {
    id: Option<DocumentId>,
    content: u8,
    status: DocumentStatus,
    deleting: bool,
    version: u64,
    /// Number of completed stages. Once a tombstone is written, all stages count as completed.
    done: usize,
    loaded: Option<u64>,
    /// Index of the only claim that may write.
    holder: Option<usize>,
    lease_end: i64,
    waits_until: Option<i64>,
    configuration: u64,
}

struct Run<'w, W: World> {
    world: &'w mut W,
    documents: Vec<Expected>,
    claims: Vec<(usize, Claim)>,
    now: i64,
}

impl<W: World> Run<'_, W> {
    fn expected_of(&self, claim: usize) -> Option<(usize, usize, ClaimKey, bool)> {
        let index = self.claims.len().checked_sub(1 + claim)?;
        let (document, claim) = &self.claims[index];
        Some((index, *document, claim.key.clone(), self.documents[*document].holder == Some(index)))
    }

    async fn step(&mut self, command: Command) {
        let store = self.world.store();
        match command {
            Command::Register { document, content } => {
                let d = &mut self.documents[document];
                let new = NewDocument {
                    fingerprint: fingerprint(d.configuration),
                    ..super::document(&document.to_string(), &content.to_string())
                };
                let answer = store.register(vec![new]).await.unwrap().remove(0);
                let same = d.content == content && !d.deleting && d.status != DocumentStatus::Deleted;
                match answer {
                    Registered::New(key) if d.id.is_none() => {
                        *d = Expected {
                            id: Some(key.id),
                            content,
                            status: DocumentStatus::Pending,
                            version: 1,
                            ..d.clone()
                        };
                    }
                    Registered::Unchanged(key, status) => {
                        assert!(same && d.id.is_some());
                        assert_eq!((key.version, status), (d.version, d.status));
                    }
                    Registered::New(key) | Registered::Replaces(key) => {
                        assert!(!same);
                        assert_eq!((Some(&key.id), key.version), (d.id.as_ref(), d.version + 1));
                        d.start_anew();
                        (d.content, d.status, d.holder) = (content, DocumentStatus::Pending, None);
                    }
                }
            }
            Command::Claim { seconds } => {
                let lease = Duration::from_secs(seconds);
                let claims = store.claim("owner", lease, 10, None).await.unwrap();
                let mut claimed = Vec::new();
                for claim in claims {
                    let document = self.documents.iter().position(|d| d.id.as_ref() == Some(&claim.key.id)).unwrap();
                    claimed.push(document);
                    let d = &mut self.documents[document];
                    let pending = d.status == DocumentStatus::Pending;
                    assert!(pending || (d.status == DocumentStatus::InProgress && d.lease_end <= self.now), "{d:?}");
                    if pending && (d.done == 5 || (!d.deleting && d.loaded >= Some(d.version))) {
                        d.start_anew();
                    }
                    d.done = d.done.min(4);
                    let stage = if d.deleting { Stage::Loading } else { Stage::ALL[d.done] };
                    assert_eq!((claim.key.version, claim.stage, claim.loaded_version), (d.version, stage, d.loaded));
                    assert_eq!(claim.intent == Intent::Delete, d.deleting);
                    let again =
                        self.claims.iter().any(|(_, c)| c.key.id == claim.key.id && c.key.epoch >= claim.key.epoch);
                    assert!(!again, "an epoch was granted twice");
                    d.status = DocumentStatus::InProgress;
                    d.holder = Some(self.claims.len());
                    d.lease_end = self.now + 1_000_000 * seconds as i64;
                    self.claims.push((document, claim));
                }
                for (document, d) in self.documents.iter().enumerate().filter(|(i, _)| !claimed.contains(i)) {
                    let left = d.id.is_some() && d.status == DocumentStatus::Pending;
                    assert!(!left, "document {document} was not claimed: {d:?}");
                }
            }
            Command::Act { claim, act } => {
                let Some((_, document, key, valid)) = self.expected_of(claim) else { return };
                let d = &mut self.documents[document];
                let stage = if d.deleting { Stage::Loading } else { Stage::ALL[d.done.min(4)] };
                let error = StageError::transient("cut", "cut");
                let mut after = d.clone();
                let transition = match act {
                    Act::Start => started(stage),
                    Act::Complete if d.deleting || d.done >= 4 => return,
                    Act::Complete => {
                        after.done += 1;
                        completed(stage)
                    }
                    Act::Retry => Transition::StageRetry { stage, error, wait: LEASE, consumes_attempt: document == 0 },
                    Act::ParkForEvent | Act::ParkForTime => {
                        let time = matches!(act, Act::ParkForTime).then_some(self.now + 30_000_000);
                        (after.status, after.waits_until) = (DocumentStatus::Parked, time);
                        let resume = time.map_or(Resume::On("event".into()), Resume::At);
                        Transition::Parked { stage, reason: "a batch".into(), resume }
                    }
                    Act::Quarantine => {
                        after.status = DocumentStatus::Quarantined;
                        Transition::Quarantined { stage, error, artefact: None, original: None }
                    }
                    Act::Finish => {
                        after.done = 5;
                        after.deleting = false;
                        after.loaded = (!d.deleting).then_some(d.version);
                        after.status = if d.deleting { DocumentStatus::Deleted } else { DocumentStatus::Completed };
                        if d.deleting { Transition::Deleted } else { done() }
                    }
                    Act::Release => {
                        after.status = DocumentStatus::Pending;
                        Transition::Released { stage }
                    }
                };
                if after.status != DocumentStatus::InProgress {
                    after.holder = None;
                }
                match store.apply(&key, transition).await {
                    Ok(()) => {
                        assert!(valid, "a stale claim wrote");
                        *d = after;
                    }
                    Err(ControlError::Fenced(fenced)) => assert!(!valid && fenced == key, "{d:?}"),
                    Err(e) => panic!("{e}"),
                }
            }
            Command::Renew { claim } => {
                let Some((_, document, key, valid)) = self.expected_of(claim) else { return };
                let lost = store.renew(std::slice::from_ref(&key), LEASE).await.unwrap();
                assert_eq!(lost.is_empty(), valid);
                if valid {
                    self.documents[document].lease_end = self.now + 60_000_000;
                }
            }
            Command::Reversion { claim } => {
                let Some((index, document, key, valid)) = self.expected_of(claim) else { return };
                let d = &mut self.documents[document];
                match store.reversion(&key, &fingerprint(d.configuration + 1)).await {
                    Ok(claim) => {
                        assert!(valid && !d.deleting);
                        d.start_anew();
                        d.configuration += 1;
                        d.holder = Some(self.claims.len());
                        assert!(claim.key.epoch > self.claims[index].1.key.epoch);
                        self.claims.push((document, claim));
                    }
                    Err(ControlError::Fenced(_)) => assert!(!valid),
                    Err(ControlError::Refused(_)) => assert!(d.deleting),
                    Err(e) => panic!("{e}"),
                }
            }
            Command::ShellReset { document } => {
                let d = &mut self.documents[document];
                let Some(id) = &d.id else { return };
                self.world.set_by_hand(id, "PENDING").await;
                (d.status, d.holder) = (DocumentStatus::Pending, None);
            }
            Command::Reset { document } => {
                let d = &mut self.documents[document];
                let Some(id) = &d.id else { return };
                let allowed =
                    !matches!(d.status, DocumentStatus::Pending | DocumentStatus::InProgress | DocumentStatus::Deleted);
                let answer = store.reset(id, None).await;
                assert_eq!(answer.is_ok(), allowed, "{answer:?}");
                if allowed {
                    if d.status == DocumentStatus::Completed {
                        d.version += 1;
                        d.done = 0;
                    }
                    d.status = DocumentStatus::Pending;
                    assert_eq!(answer.unwrap().version, d.version);
                }
            }
            Command::Delete { document } => {
                let d = &mut self.documents[document];
                let Some(id) = &d.id else { return };
                match store.request_delete(id).await {
                    Ok(key) => {
                        assert!(d.status != DocumentStatus::Deleted);
                        let asked = matches!(d.status, DocumentStatus::Pending | DocumentStatus::InProgress);
                        if !(d.deleting && asked) {
                            d.start_anew();
                            (d.deleting, d.status, d.holder) = (true, DocumentStatus::Pending, None);
                        }
                        assert_eq!(key.version, d.version);
                    }
                    Err(ControlError::Refused(_)) => assert_eq!(d.status, DocumentStatus::Deleted),
                    Err(e) => panic!("{e}"),
                }
            }
            Command::Discard { document } => {
                let d = &mut self.documents[document];
                let Some(id) = &d.id else { return };
                assert_eq!(store.discard(id).await.is_ok(), d.status == DocumentStatus::Quarantined);
                if d.status == DocumentStatus::Quarantined {
                    d.status = DocumentStatus::Failed;
                }
            }
            Command::Resume { event } => {
                let resumed = store.resume(event.then_some("event")).await.unwrap();
                let mut expected = 0;
                for d in self.documents.iter_mut().filter(|d| d.status == DocumentStatus::Parked) {
                    if d.waits_until.map_or(event, |until| until <= self.now) {
                        expected += 1;
                        d.status = DocumentStatus::Pending;
                    }
                }
                assert_eq!(resumed, expected);
            }
            Command::MarkLoaded { document } => {
                let d = &mut self.documents[document];
                let Some(id) = &d.id else { return };
                let key = DocumentKey { id: id.clone(), version: d.version };
                let news = d.loaded < Some(d.version) && !d.deleting && d.status != DocumentStatus::Deleted;
                assert_eq!(store.mark_loaded(&[key]).await.unwrap(), u64::from(news));
                if news {
                    (d.status, d.done, d.loaded, d.holder) = (DocumentStatus::Completed, 5, Some(d.version), None);
                }
            }
            Command::ExpireLeases => {
                // If the store cannot prove that the others are gone, no lease ends.
                if store.expire_leases_of_others("nobody").await.unwrap() > 0 {
                    self.documents.iter_mut().for_each(|d| d.lease_end = i64::MIN);
                }
            }
            Command::Wait { seconds } => {
                self.world.clock().advance(Duration::from_secs(seconds));
                self.now += 1_000_000 * seconds as i64;
            }
            Command::Reopen => {
                self.world.reopen().await;
            }
        }
        self.check().await;
    }

    async fn check(&self) {
        for d in &self.documents {
            let Some(id) = &d.id else { continue };
            let r = self.world.store().record(id).await.unwrap();
            assert_eq!((r.status, r.version, r.loaded_version), (d.status, d.version, d.loaded), "{d:?}");
            assert_eq!(r.intent == Intent::Delete, d.deleting);
            let done = r.stage_status.values().filter(|e| e.status == DocumentStatus::Completed).count();
            assert_eq!(done, d.done, "{r:?}");
            // A reset with a shell does not change the lease.
            let may_be_leased = matches!(r.status, DocumentStatus::InProgress | DocumentStatus::Pending);
            assert!(r.lease_owner.is_none() || may_be_leased, "{r:?}");
        }
    }
}

impl<W: World> Run<'_, W> {
    /// Compares the counts with all records.
    async fn check_counts(&self) {
        let (mut statuses, mut waiting) = (StatusCounts::new(), WaitCounts::default());
        for record in self.world.store().list(&RecordFilter::default(), None, 99).await.unwrap() {
            *statuses.entry(rules::name(record.status).to_owned()).or_default() += 1;
            waiting.add_record(&record);
        }
        assert_eq!(self.world.store().counts().await.unwrap(), statuses);
        assert_eq!(self.world.store().waiting().await.unwrap(), waiting);
    }
}

impl Expected {
    fn start_anew(&mut self) {
        self.version += 1;
        self.done = 0;
        self.deleting = false;
    }
}

fn fingerprint(configuration: u64) -> Sha256Hex {
    Sha256Hex::of(&configuration.to_le_bytes())
}

/// Runs `cases` cases of random commands, each on a fresh world that `world` creates.
pub fn does_what_the_model_does<W: World>(cases: u32, world: impl AsyncFn() -> W) {
    let configuration = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    proptest::test_runner::TestRunner::new(configuration)
        .run(&prop::collection::vec(command(), 1..60), |commands| {
            runtime.block_on(async {
                let nothing = Expected {
                    id: None,
                    content: 0,
                    status: DocumentStatus::Pending,
                    deleting: false,
                    version: 0,
                    done: 0,
                    loaded: None,
                    holder: None,
                    lease_end: 0,
                    waits_until: None,
                    configuration: 0,
                };
                let mut world = world().await;
                let documents = vec![nothing; DOCUMENTS];
                let mut run = Run { world: &mut world, documents, claims: Vec::new(), now: NOW };
                for command in commands {
                    run.step(command).await;
                }
                run.check_counts().await;
            });
            Ok(())
        })
        .unwrap();
}
