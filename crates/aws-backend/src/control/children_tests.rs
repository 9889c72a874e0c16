//! Tests how children are declared if a step is interrupted or arrives late.

use docweir_aws::FaultKind;
use docweir_aws::dynamo::Write;
use docweir_core::member::member_source;

use super::super::decide::{Command, ControlReply};
use super::super::new_token;
use super::super::writer::Subject;
use super::super::{fence, items};
use super::*;

impl Fixture {
    async fn ask(&self, subject: Subject, command: Command) -> Result<ControlReply, ControlError> {
        self.store.writer.ask(subject, command).await
    }

    async fn list(&self, parent: &Claim) -> Vec<DocumentId> {
        self.store.record(&parent.key.id).await.unwrap().children
    }
}

fn late_child(parent: &Claim, name: &str, id: DocumentId) -> (Subject, Command) {
    let child = child(parent, name, "1");
    let under = parent.key.clone();
    (Subject::Source(child.source.clone()), Command::RegisterChild { child, id, stays_deleted: false, under })
}

/// Pauses a process after it found its claim valid, and checks that its late writes are refused.
async fn what_comes_late_is_refused(f: Fixture) {
    register_one(&f, "mail").await;
    let stalled = claim_one(&f).await;
    f.clock.advance(2 * LEASE);
    let successor = f.store.claim("other", LEASE, 1, None).await.unwrap().remove(0);
    let changes = f.store.set_children(&successor.key, vec![child(&successor, "a", "1")]).await.unwrap();
    let a = changes.registered[0].key().id.clone();

    let (subject, command) = late_child(&stalled, "late", DocumentId::mint(NOW, 1));
    assert!(matches!(f.ask(subject, command).await, Err(ControlError::Fenced(key)) if key == stalled.key));
    let removal = Command::RemoveChild { under: stalled.key.clone() };
    assert!(matches!(f.ask(Subject::Id(a.clone()), removal).await, Err(ControlError::Fenced(_))));
    for list in [vec![], vec![a.clone()]] {
        let announced = Command::AnnounceChildren { claim: stalled.key.clone(), children: list };
        assert!(f.ask(Subject::Id(stalled.key.id.clone()), announced).await.is_err());
    }
    assert_eq!(f.store.by_source(&member_source(&stalled.source, "late").unwrap()).await.unwrap(), None);
    assert_eq!(f.store.record(&a).await.unwrap().intent, Intent::Process);
    assert_eq!(f.list(&successor).await, [a]);

    // The check in the transaction, which is the last one, refuses them as well.
    for (claim, holds) in [(&stalled, false), (&successor, true)] {
        let (table, id) = (&f.options.control_table, DocumentId::mint(NOW, 2));
        let put = Write::Put { table: table.clone(), item: items::key(&id), condition: None };
        let outcome = f.dynamo.transact(&new_token(), vec![put, fence::check(table, &claim.key)]).await;
        match outcome {
            Ok(()) => assert!(holds),
            Err(cancelled) => assert!(!holds && cancelled.fault.kind == FaultKind::Condition, "{}", cancelled.fault),
        }
        let written = f.dynamo.get(table, items::key(&id), true).await.unwrap();
        assert_eq!(written.is_some(), holds);
    }
}

/// Interrupts the declaration of children after each step, and checks that a repetition completes it.
async fn what_is_cut_off_is_completed_by_the_repeat(f: Fixture) {
    register_one(&f, "mail").await;
    let parent = claim_one(&f).await;
    let dangling = [DocumentId::mint(NOW, 1), DocumentId::mint(NOW, 2)];
    let announced = Command::AnnounceChildren { claim: parent.key.clone(), children: dangling.to_vec() };
    f.ask(Subject::Id(parent.key.id.clone()), announced).await.unwrap();
    assert_eq!(f.list(&parent).await, dangling);
    assert_eq!(f.store.record(&parent.key.id).await.unwrap().children_content, None);
    let (subject, command) = late_child(&parent, "a", dangling[0].clone());
    f.ask(subject, command).await.unwrap();

    let both = || vec![child(&parent, "a", "1"), child(&parent, "b", "1")];
    let changes = f.store.set_children(&parent.key, both()).await.unwrap();
    let [Registered::Unchanged(a, DocumentStatus::Pending), Registered::New(b)] = &changes.registered[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(a.id, dangling[0]);
    assert_eq!(f.list(&parent).await, [a.id.clone(), b.id.clone()]);
    assert!(matches!(f.store.record(&dangling[1]).await, Err(ControlError::NotFound(_))));

    // The removal is written, and nothing after it.
    let removal = Command::RemoveChild { under: parent.key.clone() };
    f.ask(Subject::Id(b.id.clone()), removal).await.unwrap();
    let changes = f.store.set_children(&parent.key, vec![child(&parent, "a", "1")]).await.unwrap();
    assert_eq!((changes.removed.len(), f.list(&parent).await), (0, vec![a.id.clone()]));
    assert_eq!(f.store.record(&b.id).await.unwrap().intent, Intent::Delete);
    assert_eq!(f.store.set_children(&parent.key, both()).await.unwrap().registered.len(), 2);
    assert_eq!(f.store.record(&b.id).await.unwrap().intent, Intent::Process, "the removal is revoked");
}

macro_rules! on_both_servers {
    ($($behaviour:ident),*) => {$(
        mod $behaviour {
            use super::*;

            #[tokio::test]
            async fn ministack() {
                let Some(server) = shared_ministack() else { return };
                super::$behaviour(Fixture::new(server.endpoint()).await).await;
            }

            #[tokio::test]
            async fn dynoxide() {
                let Some(server) = shared_dynoxide() else { return };
                super::$behaviour(Fixture::new(server.endpoint()).await).await;
            }
        }
    )*};
}

on_both_servers!(what_comes_late_is_refused, what_is_cut_off_is_completed_by_the_repeat);
