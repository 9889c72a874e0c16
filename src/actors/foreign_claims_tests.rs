use std::sync::Arc;
use std::time::Duration;

use docweir_core::clock::{ManualClock, SharedClock};
use docweir_stores::control::conformance::document;
use docweir_stores::control::sqlite::SqliteControlStore;
use docweir_stores::control::{Claim, NewDocument, Transition};

use super::*;

const LEASE: Duration = Duration::from_secs(60);

struct Fixture {
    _dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    control: SqliteControlStore,
    foreign_claims: ForeignClaims,
}

impl Fixture {
    async fn with(documents: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_763_718_000_000_000));
        let shared: SharedClock = clock.clone();
        let control =
            SqliteControlStore::open(&dir.path().join("control.db"), Default::default(), shared).await.unwrap();
        let new = |n: usize| NewDocument { source: format!("file:///{n}.pdf"), ..document("", "content") };
        control.register((0..documents).map(new).collect()).await.unwrap();
        Self { _dir: dir, clock, control, foreign_claims: ForeignClaims::default() }
    }

    async fn claim(&self, owner: &str) -> Claim {
        self.control.claim(owner, LEASE, 1, None).await.unwrap().remove(0)
    }

    async fn release(&self, claim: &Claim) {
        self.control.apply(&claim.key, Transition::Released { stage: claim.stage }).await.unwrap();
    }

    async fn left(&mut self) -> usize {
        self.foreign_claims.left(&self.control, "me", &RetryOptions::default(), &|_: Event| {}).await.unwrap()
    }
}

#[tokio::test]
async fn what_others_have_in_hand_is_awaited_and_what_they_begin_later_is_not() {
    let mut f = Fixture::with(4).await;
    let (theirs, _mine) = (f.claim("other").await, f.claim("me").await);
    assert_eq!(f.left().await, 1, "the claims of this process are not counted");
    let later = f.claim("other").await;
    assert_eq!(f.left().await, 1, "a claim made after the first check is not awaited");
    f.release(&theirs).await;
    assert_eq!(f.left().await, 0);
    f.release(&later).await;
}

#[tokio::test]
async fn what_a_third_takes_over_is_still_awaited_and_what_i_take_over_is_mine() {
    let mut f = Fixture::with(2).await;
    let (_dead, _dead_too) = (f.claim("dead").await, f.claim("dead").await);
    assert_eq!(f.left().await, 2);
    f.clock.advance(2 * LEASE);
    let _third = f.claim("third").await;
    assert_eq!(f.left().await, 2);
    let _mine = f.claim("me").await;
    assert_eq!(f.left().await, 1);
}

#[tokio::test]
async fn nothing_is_awaited_where_nobody_else_is() {
    let mut f = Fixture::with(1).await;
    assert_eq!(f.left().await, 0);
    let _later = f.claim("other").await;
    assert_eq!(f.left().await, 0);
}
