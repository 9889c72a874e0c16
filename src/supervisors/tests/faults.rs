//! Tests that a pool survives every fault of its workers. Each job still ends exactly once, and lost workers are
//! replaced.

use super::*;

fn transient() -> Act {
    Act::Fail(StageError::transient("flaky", "try again"))
}

#[test]
fn a_poison_job_is_quarantined_after_three_attempts_with_waits_of_two_and_four_seconds() {
    let log = with_pool(options(1, 10), |pool, log, _| async move {
        let start = tokio::time::Instant::now();
        pool.submit(spec(1, vec![Act::Panic])).await.unwrap();
        pool.submit(spec(2, vec![Act::Work(1)])).await.unwrap();
        until(|| log.count("quarantined") == 1).await;
        let elapsed = start.elapsed().as_secs_f64();
        assert!((6.0..6.01).contains(&elapsed), "2 s + 4 s on the virtual clock, not {elapsed}");
        let stats = pool.observe().await.unwrap();
        assert_eq!((stats.workers, stats.counts.restarts), (1, 0), "a caught panic kills no worker");
    });
    assert_eq!(*log.waits.borrow(), [(1, 2.0, true), (1, 4.0, true)]);
    assert_eq!((log.of(1), log.of(2)), (vec!["quarantined"], vec!["done"]));
}

#[test]
fn a_flaky_job_succeeds_at_its_third_attempt() {
    let log = with_pool(options(2, 10), |pool, log, _| async move {
        pool.submit(spec(1, vec![transient(), Act::Panic, Act::Work(1)])).await.unwrap();
        until(|| log.count("done") == 1).await;
    });
    assert_eq!(log.waits.borrow().len(), 2);
}

#[test]
fn attempts_of_an_earlier_process_count() {
    let log = with_pool(options(1, 10), |pool, log, _| async move {
        pool.submit(JobSpec { failed_attempts: 2, ..spec(1, vec![transient()]) }).await.unwrap();
        until(|| log.count("quarantined") == 1).await;
    });
    assert!(log.waits.borrow().is_empty());
}

#[test]
fn a_permanent_error_is_not_tried_again() {
    let log = with_pool(options(1, 10), |pool, log, _| async move {
        let act = Act::Fail(StageError::permanent("encrypted", "it has a password"));
        pool.submit(spec(1, vec![act])).await.unwrap();
        until(|| log.count("quarantined") == 1).await;
    });
    assert_eq!(log.begun.borrow().len(), 1);
}

#[test]
fn throttling_slows_and_never_counts() {
    let throttled = Act::Fail(StageError::throttled("slow down", Some(Duration::from_secs(7))));
    let log = with_pool(options(1, 10), |pool, log, _| async move {
        let start = tokio::time::Instant::now();
        let mut acts = vec![throttled; 20];
        acts.push(Act::Work(0));
        pool.submit(spec(1, acts)).await.unwrap();
        until(|| log.count("done") == 1).await;
        assert!(start.elapsed() >= Duration::from_secs(140));
    });
    assert!(log.waits.borrow().iter().all(|(_, wait, counts)| *wait == 7.0 && !counts));
}

#[test]
fn a_hanging_job_is_ended_at_its_deadline_and_its_worker_replaced() {
    let log = with_pool(options(1, 10), |pool, log, _| async move {
        pool.submit(spec(1, vec![Act::Hang, Act::Work(1)])).await.unwrap();
        pool.submit(spec(2, vec![Act::Work(1)])).await.unwrap();
        until(|| log.count("done") == 2).await;
        let stats = pool.observe().await.unwrap();
        assert_eq!((stats.workers, stats.counts.hung, stats.counts.abandoned), (1, 1, 1));
    });
    assert_eq!(log.busy(), 0, "the hanging future was dropped");
}

#[test]
fn too_many_threads_left_behind_end_the_process() {
    let restart = RestartOptions { max_abandoned: 2, ..Default::default() };
    with_pool(PoolOptions { restart, ..options(1, 10) }, |pool, _, root| async move {
        pool.submit(spec(1, vec![Act::Hang])).await.unwrap();
        pool.submit(spec(2, vec![Act::Hang])).await.unwrap();
        let failure = root.failed().await;
        assert!(failure.reason.contains("3 attempts exceeded their deadline"), "{failure}");
    });
}

#[test]
fn a_panic_outside_the_work_kills_the_worker_but_not_the_job() {
    let log = with_pool(options(2, 10), |pool, log, _| async move {
        pool.submit(spec(1, vec![Act::PanicInDrop, Act::Work(1)])).await.unwrap();
        until(|| log.count("done") == 1).await;
        until(|| log.workers_started.get() >= 3).await;
        let stats = pool.observe().await.unwrap();
        assert_eq!((stats.workers, stats.counts.restarts), (2, 1), "the pool has two workers again");
        for id in 10..14 {
            pool.submit(spec(id, vec![Act::Work(1)])).await.unwrap();
        }
        until(|| log.count("done") == 5).await;
    });
    assert_eq!(log.of(1), ["done"]);
}

#[test]
fn a_worker_that_cannot_start_is_tried_again() {
    for panics in [false, true] {
        with_pool(options(1, 10), |pool, log, _| async move {
            if panics {
                log.start_panics.set(3)
            } else {
                log.start_errors.set(3)
            }
            pool.resize(2, 2);
            pool.submit(spec(1, vec![Act::Work(1)])).await.unwrap();
            until(|| log.count("done") == 1).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(pool.observe().await.unwrap().workers, 2);
        });
    }
}

#[test]
fn workers_that_die_too_often_escalate_and_the_root_gives_a_few_more_chances() {
    let restart = RestartOptions { max_restarts: 2, max_escalations: 1, ..Default::default() };
    let log = with_pool(PoolOptions { restart, ..options(1, 10) }, |pool, log, root| async move {
        log.start_errors.set(u32::MAX);
        pool.submit(spec(1, vec![Act::Work(1)])).await.unwrap();
        pool.resize(2, 2);
        let failure = root.failed().await;
        assert!(failure.to_string().contains("died too often"), "{failure}");
        assert_eq!(root.failure(), Some(failure));
    });
    assert!(log.workers_started.get() >= 4, "the root restarts the pool once, so workers start at least four times");
}

#[test]
fn an_escalated_pool_that_recovers_goes_on_with_its_jobs() {
    let restart = RestartOptions { max_restarts: 1, max_escalations: 3, ..Default::default() };
    with_pool(PoolOptions { restart, ..options(1, 10) }, |pool, log, root| async move {
        log.start_errors.set(3);
        pool.resize(3, 3);
        pool.submit(spec(1, vec![Act::PanicInDrop, Act::Work(1)])).await.unwrap();
        until(|| log.count("done") == 1).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let stats = pool.observe().await.unwrap();
        assert_eq!((stats.state, stats.workers), (PoolState::Running, 3));
        assert_eq!(root.failure(), None);
    });
}

#[test]
fn a_settle_that_fails_is_tried_again_and_nothing_is_lost() {
    let log = with_pool(options(1, 10), |pool, log, root| async move {
        log.persist_failures.set(3);
        pool.submit(spec(1, vec![Act::Work(1)])).await.unwrap();
        until(|| log.count("done") == 1).await;
        assert_eq!(root.failure(), None);
    });
    assert_eq!(log.of(1), ["done"]);
    assert_eq!(log.begun.borrow().len(), 1, "the work is not done again");
}

#[test]
fn a_store_that_stays_broken_ends_the_process() {
    with_pool(options(1, 10), |pool, log, root| async move {
        log.persist_failures.set(u32::MAX);
        pool.submit(spec(1, vec![Act::Work(1)])).await.unwrap();
        let failure = root.failed().await;
        assert!(failure.to_string().contains("no space left"), "{failure}");
    });
}

#[test]
fn a_system_failure_in_the_work_is_not_held_against_the_job() {
    let log = with_pool(options(1, 10), |pool, log, root| async move {
        let system = Act::Fail(StageError::system("disk_full", "no space left"));
        pool.submit(spec(1, vec![system.clone(), system.clone(), system, Act::Work(1)])).await.unwrap();
        until(|| log.count("done") == 1).await;
        assert_eq!(root.failure(), None);
    });
    assert!(log.waits.borrow().iter().all(|(_, _, counts)| !counts));
}

#[test]
fn an_outage_of_ten_minutes_consumes_no_attempt_and_work_resumes_after_it() {
    let log = with_pool(options(2, 20), |pool, log, root| async move {
        // Two jobs are in their work when the outage begins, so their outcomes cannot be stored. The others cannot begin.
        for id in 0..10 {
            pool.submit(JobSpec { failed_attempts: 2, ..spec(id, vec![Act::Work(1_000)]) }).await.unwrap();
        }
        until(|| log.busy() == 2).await;
        let begins = tokio::time::Instant::now();
        log.outage_until.set(Some(begins + Duration::from_secs(600)));
        tokio::time::sleep(Duration::from_secs(590)).await;
        assert_eq!(log.count("done"), 0);
        until(|| log.count("done") == 10).await;
        let took = begins.elapsed().as_secs();
        assert!((600..650).contains(&took), "work resumes at most 30 s after the outage: {took}");
        assert_eq!(root.failure(), None);
    });
    assert!(log.waits.borrow().iter().all(|(_, _, counts)| !counts));
    assert_eq!(log.count("quarantined"), 0);
    let (lasts, over) = log.outage_reports.get();
    assert!(lasts > 10 && over >= 10, "{lasts} {over}");
}

#[test]
fn an_outage_that_one_job_alone_sees_becomes_its_own_failure_after_a_stated_time() {
    let log = with_pool(options(2, 20), |pool, log, root| async move {
        let begins = tokio::time::Instant::now();
        let denied = Act::Fail(StageError::unavailable("source_bucket", "no answer"));
        pool.submit(spec(1_000, vec![denied])).await.unwrap();
        for id in 0.. {
            if log.count("quarantined") > 0 {
                break;
            }
            pool.submit(spec(id, vec![Act::Work(1)])).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let took = begins.elapsed().as_secs();
        assert!((600..720).contains(&took), "{took}");
        assert_eq!(root.failure(), None);
    });
    assert_eq!(log.of(1_000), ["quarantined"]);
}

#[test]
fn an_outage_beyond_its_limit_ends_the_process_and_blames_no_job() {
    let mut options = options(1, 10);
    options.retry.outage_seconds = 300;
    let log = with_pool(options, |pool, log, root| async move {
        let begins = tokio::time::Instant::now();
        log.outage_until.set(Some(begins + Duration::from_secs(100_000)));
        pool.submit(spec(1, vec![Act::Work(1)])).await.unwrap();
        until(|| root.failure().is_some()).await;
        let took = begins.elapsed().as_secs();
        assert!((300..340).contains(&took), "{took}");
        assert!(root.failure().unwrap().reason.contains("connection refused"));
    });
    assert_eq!(log.count("quarantined"), 0);
}

#[test]
fn a_job_that_somebody_else_owns_is_dropped_in_silence() {
    let log = with_pool(options(1, 10), |pool, log, _| async move {
        log.fence.borrow_mut().push(1);
        pool.submit(spec(1, vec![Act::Work(1)])).await.unwrap();
        pool.submit(spec(2, vec![Act::Work(1)])).await.unwrap();
        until(|| log.count("done") == 1).await;
        let stats = pool.observe().await.unwrap();
        assert_eq!((stats.counts.fenced, stats.in_flight), (1, 0));
    });
    assert!(log.of(1).is_empty());
}

#[test]
fn a_parked_job_holds_no_place() {
    let log = with_pool(options(1, 1), |pool, log, _| async move {
        for id in 0..5 {
            pool.submit(spec(id, vec![Act::Park])).await.unwrap();
        }
        until(|| log.count("parked") == 5).await;
        assert_eq!(pool.observe().await.unwrap().in_flight, 0);
    });
    assert_eq!(log.count("parked"), 5);
}

#[test]
fn what_a_panic_quotes_is_not_repeated() {
    let error = super::super::worker::panicked(&"byte index 3 is not a char boundary; it is inside `secret`");
    assert_eq!(error.message, "the worker panicked: byte index 3 is not a char boundary; it is inside");
}
