//! Tests how pools are resized, drained and scaled, and how services run.

use super::super::service::{Inbox, start_service};
use super::super::threads::{self, with_actors};
use super::*;

#[test]
fn resizing_under_load_loses_nothing() {
    let log = with_pool(options(1, 100), |pool, log, _| async move {
        for id in 0..40 {
            pool.submit(spec(id, vec![Act::Work(100)])).await.unwrap();
        }
        pool.resize(4, 4);
        until(|| log.busy() == 4).await;
        pool.resize(1, 1);
        until(|| log.busy() == 1).await;
        until(|| log.count("done") == 40).await;
        assert_eq!(pool.observe().await.unwrap().workers, 1);
    });
    assert_eq!(log.most_busy(), 4);
    assert!(log.ends.borrow().values().all(|ends| ends.len() == 1));
}

#[test]
fn a_pool_grows_while_its_queue_is_old_and_shrinks_when_it_is_idle() {
    let options = PoolOptions { max_workers: 4, ..options(1, 1_000) };
    with_pool(options, |pool, log, _| async move {
        for id in 0..200 {
            pool.submit(spec(id, vec![Act::Work(100)])).await.unwrap();
        }
        until(|| log.busy() == 4).await;
        until(|| log.count("done") == 200).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(pool.observe().await.unwrap().workers, 1);
    });
}

#[test]
fn drain_to_the_end_finishes_what_is_there_and_takes_no_more() {
    let log = with_pool(options(2, 100), |pool, _, _| async move {
        for id in 0..20 {
            pool.submit(spec(id, vec![Act::Work(10)])).await.unwrap();
        }
        pool.submit(spec(20, vec![Act::Fail(StageError::transient("x", "x")), Act::Work(1)])).await.unwrap();
        pool.drain(DrainMode::Finish).await;
        assert!(pool.submit(spec(99, vec![])).await.is_err());
        assert!(matches!(pool.try_submit(spec(99, vec![])), Err(TrySubmit::Closed(_))));
        assert!(pool.observe().await.is_none(), "the pool has ended");
    });
    assert_eq!(log.count("done"), 21);
}

#[test]
fn a_pool_whose_last_job_is_fenced_comes_to_its_end() {
    for mode in [DrainMode::Finish, DrainMode::Release] {
        let log = with_pool(options(2, 100), |pool, log, _| async move {
            log.fence_late.borrow_mut().push(1);
            pool.submit(spec(1, vec![Act::Work(1_000)])).await.unwrap();
            until(|| log.busy() == 1).await;
            tokio::time::timeout(Duration::from_secs(60), pool.drain(mode)).await.expect("it ends");
        });
        assert_eq!(log.of(1), [""; 0], "the job is dropped without a verdict");
    }
}

#[test]
fn no_more_outputs_wait_for_the_next_pool_than_workers_can_hold() {
    universe(async {
        let log = Rc::new(TestLog::default());
        let root = RootHandle::start(RestartOptions::default());
        let last = TestSink { log: Rc::default(), next: None };
        let slow = PoolOptions { name: "slow".into(), ..options(1, 1) };
        let slow = start_pool(slow, TestStage(Rc::default()), Rc::new(last), &root);
        let sink = TestSink { log: log.clone(), next: Some(slow.clone()) };
        let fast = start_pool(options(3, 100), TestStage(log.clone()), Rc::new(sink), &root);
        for id in 0..30 {
            fast.submit(spec(id, vec![Act::Work(10_000), Act::Work(1)])).await.unwrap();
        }
        // The first job in the slow pool runs longer than this wait, and the slow pool has room for one job only.
        tokio::time::sleep(Duration::from_secs(15)).await;
        let stats = fast.observe().await.unwrap();
        assert!(stats.forwarding <= 3 + 3, "{stats:?}");
        assert!(stats.queued >= 20, "{stats:?}");
        fast.drain(DrainMode::Finish).await;
        slow.drain(DrainMode::Finish).await;
        assert_eq!(log.count("done"), 30);
        root.stop();
    });
}

#[test]
fn drain_with_release_finishes_the_running_and_gives_the_rest_back() {
    let log = with_pool(options(2, 100), |pool, log, _| async move {
        for id in 0..20 {
            pool.submit(spec(id, vec![Act::Work(1_000)])).await.unwrap();
        }
        pool.submit(JobSpec { lane: Lane::Urgent, ..spec(50, vec![Act::Fail(StageError::transient("x", "x"))]) })
            .await
            .unwrap();
        until(|| log.busy() == 2).await;
        pool.drain(DrainMode::Release).await;
    });
    let (done, released) = (log.count("done"), log.count("released"));
    assert_eq!(done + released, 21);
    assert!((1..=3).contains(&done), "{done}");
    assert!(log.ends.borrow().values().all(|ends| ends.len() == 1));
}

#[test]
fn halt_drops_running_work_at_once() {
    let log = with_pool(options(2, 10), |pool, log, _| async move {
        for id in 0..4 {
            pool.submit(spec(id, vec![Act::Hang])).await.unwrap();
        }
        until(|| log.busy() == 2).await;
        pool.halt();
        until(|| log.busy() == 0).await;
    });
    assert_eq!(log.ends.borrow().len(), 0);
}

#[test]
fn a_service_that_panics_is_started_again_with_its_inbox() {
    universe(async {
        let root = RootHandle::start(RestartOptions::default());
        let seen: Rc<RefCell<Vec<u32>>> = Rc::default();
        let log = seen.clone();
        let (handle, mut running) =
            start_service("echo", 10, RestartOptions::default(), &root, move |inbox: Rc<Inbox<u32>>| {
                let log = log.clone();
                async move {
                    while let Some(n) = inbox.receive().await {
                        if n == 2 {
                            panic!("two");
                        }
                        log.borrow_mut().push(n);
                    }
                    Ok(())
                }
            });
        for n in 0..5 {
            handle.send(n).await.unwrap();
        }
        until(|| seen.borrow().len() == 4).await;
        assert_eq!(root.tree().await.services["echo"].restarts, 1);
        drop(handle);
        running.ended().await;
        assert!(root.tree().await.services.is_empty());
        root.stop();
        assert_eq!(*seen.borrow(), [0, 1, 3, 4]);
    });
}

#[test]
fn a_service_that_fails_again_and_again_fails_the_root() {
    universe(async {
        let root = RootHandle::start(RestartOptions::default());
        let runs = Rc::new(Cell::new(0));
        let counted = runs.clone();
        let run = move |_: Rc<Inbox<()>>| {
            counted.set(counted.get() + 1);
            async { Err(StageError::system("control_store", "the disk is full")) }
        };
        let (_handle, _running) = start_service("claims", 1, RestartOptions::default(), &root, run);
        let failure = root.failed().await;
        assert_eq!(failure.to_string(), "claims: the disk is full; restarted 3 times in vain");
        assert_eq!(runs.get(), 4);
        root.stop();
    });
}

#[test]
fn work_that_computes_delays_no_actor() {
    let outcome = with_actors(async {
        let log = Rc::new(TestLog::default());
        let root = RootHandle::start(RestartOptions::default());
        let sink = Rc::new(TestSink { log: log.clone(), next: None });
        let pool = start_pool(options(1, 10), TestStage(log.clone()), sink, &root);
        let (release, released) = mpsc::channel();
        pool.submit(spec(1, vec![Act::Compute(Arc::new(Mutex::new(released)))])).await.unwrap();
        until(|| log.busy() == 1).await;
        // The supervisor answers while the work occupies its thread.
        assert_eq!(pool.observe().await.unwrap().busy, 1);
        release.send(()).unwrap();
        pool.drain(DrainMode::Finish).await;
        log.of(1)
    });
    assert_eq!(outcome.unwrap(), ["done"]);
}

/// Tests what the module `threads` explains: a runtime of several threads could lose the actors' wake-ups. The race itself is
/// too rare for a test.
#[test]
fn the_runtime_of_the_actors_has_one_thread_and_that_of_attempts_several() {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let flavor = || Handle::current().runtime_flavor();
    let flavors = with_actors(async { (flavor(), threads::spawn(async move { flavor() }).await.unwrap()) });
    assert_eq!(flavors.unwrap(), (RuntimeFlavor::CurrentThread, RuntimeFlavor::MultiThread));
    let elsewhere = testing::universe(async { threads::spawn(async move { flavor() }).await.unwrap() });
    assert_eq!(elsewhere, RuntimeFlavor::CurrentThread);
}
