//! Tests that the limits of a pool are exact, that backpressure reaches the first pool, and that commands do not
//! wait.

use super::*;

/// Starts a pool that forwards to `next`. Returns the pool and its log.
fn pool(options: PoolOptions, next: Option<PoolHandle<Task>>, root: &RootHandle) -> (PoolHandle<Task>, Rc<TestLog>) {
    let log = Rc::new(TestLog::default());
    let sink = Rc::new(TestSink { log: log.clone(), next });
    (start_pool(options, TestStage(log.clone()), sink, root), log)
}

#[test]
fn the_bound_counts_everything_that_the_pool_holds_whoever_submits() {
    with_pool(options(2, 6), |pool, log, _| async move {
        let mut accepted = 0;
        for id in 0..1_000 {
            accepted += usize::from(pool.clone().try_submit(spec(id, vec![Act::Work(50)])).is_ok());
        }
        assert_eq!(accepted, 6, "two running and four waiting jobs, from a thousand clones of the handle");
        until(|| log.count("done") == 6).await;
        assert_eq!(log.most_busy(), 2);
        until(|| pool.try_submit(spec(7, vec![Act::Work(0)])).is_ok()).await;
    });
}

#[test]
fn bytes_are_bounded_too_and_a_giant_passes_alone() {
    let options = PoolOptions { max_bytes: 10 * 1024, ..options(4, 100) };
    with_pool(options, |pool, log, _| async move {
        let sized = |id, bytes| JobSpec { bytes, ..spec(id, vec![Act::Work(10)]) };
        assert!(pool.try_submit(sized(1, 4 * 1024)).is_ok());
        assert!(pool.try_submit(sized(2, 4 * 1024)).is_ok());
        assert!(pool.try_submit(sized(3, 4 * 1024)).is_err(), "12 KiB exceed the limit");
        let giant = tokio::task::spawn_local({
            let pool = pool.clone();
            async move { pool.submit(sized(4, 1 << 30)).await }
        });
        until(|| log.count("done") == 3).await;
        giant.await.unwrap().unwrap();
        assert!(pool.try_submit(sized(5, 10 * 1024)).is_ok(), "all byte permits were returned");
        until(|| log.count("done") == 4).await;
    });
}

#[test]
fn results_that_wait_for_the_next_pool_count_and_stop_further_work() {
    universe(async {
        let root = RootHandle::start(RestartOptions::default());
        let (last, last_log) = pool(PoolOptions { name: "last".into(), ..options(1, 1) }, None, &root);
        let first = PoolOptions { name: "first".into(), max_bytes: 10 * 1024, ..options(4, 100) };
        let (first, first_log) = pool(first, Some(last.clone()), &root);
        // Each job of 1 KiB becomes 8 KiB, and the last pool takes a job per second.
        first_log.fence_late.borrow_mut().push(1);
        for id in 0..8 {
            let job = spec(id, vec![Act::Work(1_000)]);
            let payload = Arc::new(Task { finished_bytes: 8 * 1024, ..Arc::into_inner(job.payload).unwrap() });
            first.submit(JobSpec { payload, bytes: 1024, ..job }).await.unwrap();
        }
        let begun = || first_log.begun.borrow().len();
        // Of the first four jobs, one is dropped, one runs in the last pool, and two wait: 16 KiB.
        until(|| last_log.begun.borrow().len() == 1).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((begun(), first.observe().await.unwrap().bytes), (4, 20 * 1024), "and four queued jobs");
        until(|| last_log.count("done") == 7).await;
        assert_eq!((begun(), first.observe().await.unwrap().bytes), (8, 0), "everything is repaid");
        first.halt();
        last.halt();
        root.stop();
    });
}

#[test]
fn back_pressure_travels_from_the_slowest_pool_to_the_first() {
    universe(async {
        let root = RootHandle::start(RestartOptions::default());
        let (mut pools, mut logs) = (Vec::new(), Vec::new());
        for i in (0..3).rev() {
            let options = PoolOptions { name: format!("p{i}"), ..options(1, 2) };
            let (pool, log) = pool(options, pools.first().cloned(), &root);
            pools.insert(0, pool);
            logs.insert(0, log);
        }
        let first = pools[0].clone();
        // Each task sleeps for 5 s in each pool: a new task is made for each pool, and its first act is used.
        let mut accepted = 0;
        for id in 0..50 {
            let job = spec(id, vec![Act::Work(5_000)]);
            if tokio::time::timeout(Duration::from_millis(1), first.submit(job)).await.is_ok() {
                accepted += 1;
            }
        }
        assert_eq!(accepted, 2, "the first pool accepts no more than its limit while all pools are busy");
        until(|| logs[2].count("done") == 2).await;
        for pool in &pools {
            assert_eq!(pool.observe().await.unwrap().in_flight, 0);
        }
        let blocked = pools[0].observe().await.unwrap().counts;
        assert_eq!(blocked.done, 2);
        pools.iter().for_each(PoolHandle::halt);
        root.stop();
    });
}

#[test]
fn the_time_blocked_on_the_next_pool_is_measured() {
    universe(async {
        let root = RootHandle::start(RestartOptions::default());
        let (last, slow) = pool(PoolOptions { name: "slow".into(), ..options(1, 1) }, None, &root);
        let (first, _) = pool(PoolOptions { name: "fast".into(), ..options(4, 4) }, Some(last.clone()), &root);
        for id in 0..4 {
            first.submit(spec(id, vec![Act::Work(1_000)])).await.unwrap();
        }
        until(|| slow.count("done") == 4).await;
        // All four jobs are done after 1 s. The last pool then accepts them one by one, so they wait 0 + 1 + 2 + 3
        // seconds.
        let blocked = first.observe().await.unwrap().counts.blocked_seconds;
        assert!((5.9..6.2).contains(&blocked), "{blocked}");
        first.halt();
        last.halt();
        root.stop();
    });
}

#[test]
fn observe_answers_at_once_over_a_full_queue_and_busy_workers() {
    with_pool(options(2, 10_000), |pool, log, root| async move {
        for id in 0..10_000 {
            pool.submit(spec(id, vec![Act::Work(60_000)])).await.unwrap();
        }
        until(|| log.busy() == 2).await;
        let before = tokio::time::Instant::now();
        let stats = pool.observe().await.unwrap();
        assert_eq!(before.elapsed(), Duration::ZERO, "no virtual time should pass");
        assert_eq!((stats.queued, stats.busy, stats.in_flight), (9_998, 2, 10_000));
        let tree = root.tree().await;
        assert_eq!((tree.pools.len(), tree.jobs.len()), (1, 10_000));
        assert_eq!(tree.jobs.iter().filter(|j| j.phase == Phase::Running).count(), 2);
    });
}

#[test]
fn urgent_overtakes_and_tenants_share_by_weight() {
    let log = with_pool(options(1, 100), |pool, log, _| async move {
        pool.submit(spec(0, vec![Act::Work(10)])).await.unwrap();
        until(|| log.busy() == 1).await;
        for id in 1..=6 {
            let tenant = if id % 2 == 0 { "even" } else { "odd" };
            let weight = if id % 2 == 0 { 2 } else { 1 };
            let job = spec(id, vec![Act::Work(1)]);
            pool.submit(JobSpec { tenant: tenant.into(), weight, ..job }).await.unwrap();
        }
        pool.submit(JobSpec { lane: Lane::Urgent, ..spec(9, vec![Act::Work(1)]) }).await.unwrap();
        until(|| log.count("done") == 8).await;
    });
    let order = log.begun.borrow().clone();
    assert_eq!(order[..2], [0, 9]);
    let evens_early = order[2..6].iter().filter(|id| **id % 2 == 0).count();
    assert!(evens_early >= 2, "the heavier tenant is served earlier: {order:?}");
}
