//! Tests the behaviour that every control store must have. Each backend runs this suite on itself.

mod children;
mod life;
mod model;

use async_trait::async_trait;
use docweir_core::clock::{ManualClock, UnixMicros};

pub use children::*;
pub use life::*;
pub use model::does_what_the_model_does;

use super::*;

pub const NOW: UnixMicros = 1_763_718_000_000_000;
pub const LEASE: Duration = Duration::from_secs(60);

/// Provides a store under test, its clock, and changes from outside the store.
#[async_trait(?Send)]
pub trait World {
    fn store(&self) -> &dyn ControlStore;
    fn clock(&self) -> &ManualClock;
    /// Sets a document's status, and its `retry_count` to 0, as a person with a shell would.
    async fn set_by_hand(&self, id: &DocumentId, status: &str);
    /// Returns today's value of a metric.
    async fn metric(&self, metric: &str) -> f64;
    /// Closes the store and opens it again, as a new process would.
    async fn reopen(&mut self);
}

/// Generates one test per behaviour. `$world` creates a fresh `World`, or returns `None` if its test server is not
/// available.
#[macro_export]
macro_rules! control_conformance {
    ($world:expr, $($behaviour:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $behaviour() {
            if let Some(mut world) = $world.await {
                $crate::control::conformance::$behaviour(&mut world).await;
            }
        })*
    };
    ($world:expr) => {
        $crate::control_conformance!(
            $world,
            a_whole_life_with_its_audit_log_and_its_metrics,
            audit_comes_in_pages_and_never_collides,
            first_in_first_out,
            what_was_begun_and_left_goes_before_what_was_not_begun,
            claims_of_deletions,
            commands_come_before_other_work,
            changed_content_is_registered_only_under_a_valid_claim,
            a_lease_ends_is_renewed_and_is_taken_over,
            a_reset_with_a_shell_is_picked_up_and_fences_the_work_under_way,
            quarantine_retry_discard,
            parked_documents_wait_for_their_event_or_their_time,
            held_documents_wait_for_a_user_or_a_change,
            the_manifest_completes,
            a_new_configuration_replaces_and_reversion_keeps_the_claim,
            lists_filter_and_come_in_pages,
            the_same_file_twice_in_one_batch_is_one_document,
            children_are_registered_kept_and_removed,
            a_fenced_claim_sets_no_children,
            a_deleted_parent_takes_its_children_along,
            a_child_that_was_deleted_stays_so_until_its_parent_changes,
            children_that_can_not_be_are_refused_whole,
            a_hundred_children_at_once,
        );
    };
}

pub async fn register_one(f: &impl World, source: &str) -> DocumentKey {
    match f.store().register(vec![document(source, "one")]).await.unwrap().remove(0) {
        Registered::New(key) => key,
        other => panic!("{other:?}"),
    }
}

pub async fn claim_one(f: &impl World) -> Claim {
    let mut claims = f.store().claim("owner", LEASE, 1, None).await.unwrap();
    assert_eq!(claims.len(), 1);
    claims.remove(0)
}

pub fn document(source: &str, content: &str) -> NewDocument {
    NewDocument {
        source: format!("file:///{source}"),
        content: Sha256Hex::of(content.as_bytes()),
        fingerprint: Sha256Hex::of(b"configuration"),
        bytes: 10,
        media_type: MediaType::Pdf,
        tenant: "default".into(),
        weight: 1,
        tag: None,
        parent: None,
    }
}

pub fn started(stage: Stage) -> Transition {
    Transition::StageStarted { stage }
}

pub fn completed(stage: Stage) -> Transition {
    let output = Some(StageOutput { key: format!("{stage}/x"), sha256: Sha256Hex::of(b"artefact") });
    let metrics = StageMetrics::from([("tokens_processed".into(), 10.0)]);
    Transition::StageCompleted { stage, output, metrics, duration: Duration::from_millis(1500) }
}

pub fn done() -> Transition {
    let metrics = StageMetrics::from([("vectors_uploaded".into(), 3.0)]);
    Transition::Completed { metrics, duration: Duration::from_millis(500) }
}

/// Completes all remaining stages of a claim.
pub async fn finish(store: &dyn ControlStore, claim: &Claim) -> Result<(), ControlError> {
    if claim.intent == Intent::Delete {
        return store.apply(&claim.key, Transition::Deleted).await;
    }
    for stage in Stage::ALL.into_iter().filter(|s| *s >= claim.stage) {
        store.apply(&claim.key, started(stage)).await?;
        store.apply(&claim.key, if stage == Stage::Loading { done() } else { completed(stage) }).await?;
    }
    Ok(())
}
