//! Injects random faults into many jobs. Tests that each job ends exactly once and leaves nothing behind.

use proptest::prelude::*;

use super::*;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0u64..20).prop_map(Act::Work),
        2 => Just(Act::Fail(StageError::transient("flaky", "x"))),
        1 => Just(Act::Fail(StageError::throttled("slow", None))),
        1 => Just(Act::Fail(StageError::permanent("bad", "x"))),
        2 => Just(Act::Panic),
        1 => Just(Act::PanicInDrop),
        1 => Just(Act::Hang),
        1 => Just(Act::Park),
    ]
}

/// Generates the behaviour of a job in each attempt. In the last attempt, the job always succeeds, so every job ends.
fn job() -> impl Strategy<Value = Vec<Act>> {
    proptest::collection::vec(act(), 0..4).prop_map(|mut acts| {
        acts.push(Act::Work(1));
        acts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_exactly_once(jobs in proptest::collection::vec(job(), 1..200), workers in 1usize..5, bound in 1usize..20) {
        let count = jobs.len();
        let restart = RestartOptions { max_restarts: 10_000, max_abandoned: 10_000, ..Default::default() };
        let log = with_pool(PoolOptions { restart, ..options(workers, bound) }, |pool, _, root| async move {
            for (id, acts) in jobs.into_iter().enumerate() {
                pool.submit(spec(id as u32, acts)).await.unwrap();
                assert!(pool.observe().await.unwrap().in_flight <= bound);
            }
            pool.drain(DrainMode::Finish).await;
            assert_eq!(root.failure(), None);
            assert!(root.in_flight_table().is_empty());
        });
        prop_assert_eq!(log.ends.borrow().len(), count);
        prop_assert!(log.ends.borrow().values().all(|ends| ends.len() == 1));
        prop_assert_eq!(log.busy(), 0);
    }
}
