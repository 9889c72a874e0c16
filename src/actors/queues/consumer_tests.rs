//! Tests the consumer with a queue in memory, under a paused clock.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

use docweir_core::clock::{Clock, SharedClock, UnixMicros};
use docweir_core::error::ErrorClass;
use docweir_stores::queues::memory::MemoryQueue;

use super::*;
use crate::actors::outages::Outage;
use crate::messages::event::Event;

const MINUTE: Duration = Duration::from_secs(60);

/// Answers each message as scripted, and with `Done` when the script has ended.
#[derive(Default)]
struct Scripted {
    /// Time that the handler takes for each message.
    takes: Cell<Duration>,
    answers: RefCell<HashMap<String, VecDeque<Result<MessageOutcome, StageError>>>>,
    calls: RefCell<Vec<String>>,
    /// End of an outage, during which no message can be handled.
    outage_until: Cell<Option<Instant>>,
    at_once: Cell<usize>,
    most_at_once: Cell<usize>,
}

impl Scripted {
    fn answer(&self, body: &str, outcomes: impl IntoIterator<Item = MessageOutcome>) {
        self.answers.borrow_mut().insert(body.to_owned(), outcomes.into_iter().map(Ok).collect());
    }

    fn calls(&self, body: &str) -> usize {
        self.calls.borrow().iter().filter(|call| *call == body).count()
    }
}

#[async_trait(?Send)]
impl Handler for Scripted {
    async fn handle(&self, body: &str) -> Result<MessageOutcome, StageError> {
        self.calls.borrow_mut().push(body.to_owned());
        self.at_once.set(self.at_once.get() + 1);
        self.most_at_once.set(self.most_at_once.get().max(self.at_once.get()));
        sleep(self.takes.get()).await;
        self.at_once.set(self.at_once.get() - 1);
        if self.outage_until.get().is_some_and(|until| Instant::now() < until) {
            return Ok(outage());
        }
        let answer = self.answers.borrow_mut().get_mut(body).and_then(VecDeque::pop_front);
        answer.unwrap_or(Ok(MessageOutcome::Done))
    }
}

/// Reads tokio's clock, which is paused.
struct PausedClock(Instant);

#[async_trait]
impl Clock for PausedClock {
    fn now(&self) -> UnixMicros {
        i64::try_from(self.0.elapsed().as_micros()).unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}

/// Permits more work while the value is true.
struct Room(watch::Receiver<bool>);

#[async_trait(?Send)]
impl Backlog for Room {
    async fn wait(&self) {
        let _ = self.0.clone().wait_for(|room| *room).await;
    }
}

struct World {
    queue: Arc<MemoryQueue>,
    handler: Rc<Scripted>,
    room: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    outages: Arc<Outages>,
    _folder: tempfile::TempDir,
    running: tokio::task::JoinHandle<Result<(), StageError>>,
}

impl World {
    fn start(redrive: Option<u32>, options: QueueOptions, at_once: usize) -> Self {
        let (queue, handler) = (Arc::new(MemoryQueue::new(redrive)), Rc::new(Scripted::default()));
        let (room, has_room) = watch::channel(true);
        let (stop, stopped) = watch::channel(false);
        let folder = tempfile::tempdir().unwrap();
        let clock: SharedClock = Arc::new(PausedClock(Instant::now()));
        let outages = Arc::new(Outages::new(Arc::default(), Arc::new(|_: Event| {}), clock, folder.path().into()));
        let consumer = Consumer {
            name: "events",
            queue: queue.clone(),
            handler: handler.clone(),
            options,
            at_once,
            backlog: Some(Rc::new(Room(has_room))),
            outages: outages.clone(),
            stop: stopped,
        };
        let running = tokio::task::spawn_local(async move { consumer.run().await });
        Self { queue, handler, room, stop, outages, running, _folder: folder }
    }

    async fn end(self) -> Result<(), StageError> {
        self.stop.send_replace(true);
        self.running.await.unwrap()
    }
}

async fn locally<T>(work: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(work).await
}

fn outage() -> MessageOutcome {
    MessageOutcome::Outage("S3 asks for less".into())
}

fn refused() -> MessageOutcome {
    MessageOutcome::Refused("it makes no sense".into())
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_deleted_and_no_more_than_may_be_is_in_hand() {
    locally(async {
        let world = World::start(Some(5), QueueOptions::default(), 7);
        world.handler.takes.set(Duration::from_millis(100));
        (0..100).for_each(|n| world.queue.put(n.to_string()));
        sleep(MINUTE).await;
        assert_eq!(world.queue.left(), [""; 0]);
        assert_eq!(world.handler.calls.borrow().len(), 100);
        assert_eq!(world.handler.most_at_once.get(), 7);
        world.end().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_received_while_there_is_no_room() {
    locally(async {
        let world = World::start(Some(5), QueueOptions { wait_seconds: 1, ..QueueOptions::default() }, 10);
        world.room.send_replace(false);
        sleep(MINUTE).await;
        let asked = world.queue.asked();
        world.queue.put("a");
        sleep(60 * MINUTE).await;
        assert_eq!((world.queue.asked(), world.queue.receives()), (asked, vec![0]), "the handler was not called");
        world.room.send_replace(true);
        sleep(MINUTE).await;
        assert_eq!(world.queue.left(), [""; 0]);
        world.end().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_stays_hidden_from_others() {
    locally(async {
        let world = World::start(Some(5), QueueOptions { hidden_seconds: 30, ..QueueOptions::default() }, 10);
        world.handler.takes.set(60 * MINUTE);
        world.queue.put("a");
        for _ in 0..59 {
            sleep(MINUTE).await;
            assert_eq!((world.queue.visible(), world.queue.receives()), (0, vec![1]));
        }
        sleep(2 * MINUTE).await;
        assert_eq!(world.queue.left(), [""; 0]);
        world.end().await.unwrap();
    })
    .await;
}

/// Guards against a defect of the former system, in which throttling moved messages to the dead-letter queue.
#[tokio::test(start_paused = true)]
async fn an_outage_counts_against_no_message_and_hardly_any_other_is_taken_meanwhile() {
    locally(async {
        let world = World::start(Some(2), QueueOptions { wait_seconds: 1, ..QueueOptions::default() }, 10);
        // The outage lasts about an hour, with a minute between two attempts.
        world.handler.outage_until.set(Some(Instant::now() + 60 * MINUTE));
        (0..500).for_each(|n| world.queue.put(n.to_string()));
        sleep(58 * MINUTE).await;
        let received = world.queue.receives().iter().filter(|receives| **receives > 0).count();
        assert!((11..100).contains(&received), "{received} messages are held");
        assert!(world.queue.receives().iter().all(|receives| *receives <= 1));
        sleep(10 * MINUTE).await;
        assert_eq!((world.queue.left(), world.queue.dead()), (vec![], vec![]));
        world.end().await.unwrap();
    })
    .await;
}

/// Guards against a defect: nobody was woken when the last waiting message was retried, so that one unreadable object
/// stopped the process for as long as a message is held.
#[tokio::test(start_paused = true)]
async fn one_message_that_fails_holds_up_no_other() {
    for alone in [true, false] {
        locally(async {
            let world = World::start(Some(2), QueueOptions { wait_seconds: 1, ..QueueOptions::default() }, 10);
            let fails = || match alone {
                true => MessageOutcome::Alone("denied".into()),
                false => outage(),
            };
            world.handler.answer("bad", (0..10_000).map(|_| fails()));
            world.queue.put("bad");
            sleep(MINUTE).await;
            for n in 0..200 {
                world.queue.put(n.to_string());
                sleep(Duration::from_secs(2)).await;
            }
            sleep(2 * MINUTE).await;
            assert_eq!(world.queue.left(), ["bad"], "all other messages are handled");
            assert_eq!((world.queue.receives(), world.queue.visible()), (vec![1], 0), "it is held, and received once");
            world.end().await.unwrap();
        })
        .await;
    }
}

/// Many messages that wait must not fill the places of those that can be handled.
#[tokio::test(start_paused = true)]
async fn messages_that_wait_leave_room_for_others() {
    locally(async {
        let world = World::start(Some(2), QueueOptions { wait_seconds: 1, ..QueueOptions::default() }, 5);
        for n in 0..50 {
            let bad = format!("bad {n}");
            world.handler.answer(&bad, (0..10_000).map(|_| MessageOutcome::Alone("denied".into())));
            world.queue.put(bad);
        }
        world.queue.put("good");
        sleep(5 * MINUTE).await;
        assert_eq!((world.queue.left().len(), world.handler.calls("good")), (50, 1));
        world.end().await.unwrap();
    })
    .await;
}

/// Guards against a defect: messages whose wait ended called the handler at the same time.
#[tokio::test(start_paused = true)]
async fn messages_that_waited_are_not_handled_at_once() {
    locally(async {
        let world = World::start(Some(2), QueueOptions { wait_seconds: 1, ..QueueOptions::default() }, 1);
        world.handler.takes.set(Duration::from_secs(1));
        for n in 0..20 {
            let slow = format!("slow {n}");
            world.handler.answer(&slow, (0..5).map(|_| MessageOutcome::Alone("denied".into())));
            world.queue.put(slow);
        }
        sleep(60 * MINUTE).await;
        assert_eq!((world.queue.left(), world.handler.most_at_once.get()), (vec![], 1));
        world.end().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_the_bad_part_of_a_message_goes_to_the_dead_letters() {
    locally(async {
        let world = World::start(Some(2), QueueOptions::default(), 10);
        let bodies = vec!["part 1".to_owned(), "part 2".to_owned()];
        world.handler.answer("several", [MessageOutcome::Split { bodies, reason: "bad".into() }]);
        world.handler.answer("part 1", (0..10).map(|_| refused()));
        world.queue.put("several");
        sleep(20 * MINUTE).await;
        assert_eq!((world.queue.left(), world.queue.dead()), (vec![], vec!["part 1".to_owned()]));
        assert_eq!((world.handler.calls("several"), world.handler.calls("part 2")), (1, 1));
        world.end().await.unwrap();
    })
    .await;
}

/// A queue that denies access is waited for, because the credentials may be renewed.
#[tokio::test(start_paused = true)]
async fn a_queue_that_denies_access_is_waited_for() {
    locally(async {
        let denied = || QueueError::Denied { queue: "q".into(), reason: "ExpiredToken".into(), hint: "renew it" };
        let world = World::start(Some(5), QueueOptions::default(), 10);
        world.queue.fail((0..50).map(|_| denied()));
        world.queue.put("a");
        sleep(120 * MINUTE).await;
        assert_eq!(world.queue.left(), [""; 0]);
        world.end().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_held_for_too_long_goes_back_with_nothing_counted_against_it() {
    locally(async {
        let world = World::start(Some(1), QueueOptions { hold_seconds: 600, ..QueueOptions::default() }, 10);
        world.handler.answer("a", (0..100).map(|_| outage()));
        world.queue.put("a");
        sleep(12 * 60 * MINUTE).await;
        assert_eq!((world.queue.left(), world.queue.dead()), (vec![], vec![]), "both messages are handled in the end");
        assert_eq!(world.handler.calls("a"), 101);
        world.end().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_done_comes_again_and_goes_to_the_dead_letters() {
    locally(async {
        let world = World::start(Some(3), QueueOptions::default(), 10);
        world.handler.answer("poison", (0..100).map(|_| refused()));
        world.handler.answer("late", [refused(), refused(), MessageOutcome::Done]);
        world.queue.put("poison");
        world.queue.put("late");
        world.queue.put("good");
        sleep(10 * MINUTE).await;
        assert_eq!((world.queue.left(), world.queue.dead()), (vec![], vec!["poison".to_owned()]));
        assert_eq!((world.handler.calls("poison"), world.handler.calls("late")), (3, 3));
        world.end().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_dead_letters_it_is_deleted_in_the_end() {
    locally(async {
        let world = World::start(None, QueueOptions { max_receives: 4, ..QueueOptions::default() }, 10);
        world.handler.answer("poison", (0..100).map(|_| refused()));
        world.queue.put("poison");
        sleep(10 * MINUTE).await;
        assert_eq!((world.queue.left(), world.handler.calls("poison")), (vec![], 4));
        world.end().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_work_is_waited_for_as_often_as_it_takes() {
    locally(async {
        let world = World::start(Some(2), QueueOptions::default(), 1);
        world.handler.answer("merge", (0..20).map(|_| MessageOutcome::Later(MINUTE)));
        world.queue.put("merge");
        sleep(30 * MINUTE).await;
        assert_eq!((world.queue.left(), world.queue.dead()), (vec![], vec![]));
        assert_eq!(world.handler.calls("merge"), 21);
        world.end().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_what_is_short_end_and_gives_the_rest_back_at_once() {
    locally(async {
        let world = World::start(Some(1), QueueOptions::default(), 10);
        world.handler.takes.set(Duration::from_secs(3));
        world.queue.put("short");
        sleep(Duration::from_secs(1)).await;
        world.handler.takes.set(60 * MINUTE);
        world.queue.put("long");
        sleep(Duration::from_secs(1)).await;
        let (queue, begun) = (world.queue.clone(), Instant::now());
        world.end().await.unwrap();
        assert!(begun.elapsed() <= GRACE + Duration::from_secs(1), "{:?}", begun.elapsed());
        // The message is a copy, because the original had used up its permitted receipts.
        assert_eq!((queue.left(), queue.visible(), queue.receives()), (vec!["long".to_owned()], 1, vec![0]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_not_to_be_had_is_waited_for_and_one_that_is_not_there_is_not() {
    locally(async {
        let busy = || QueueError::Busy { queue: "q".into(), reason: "throttled".into() };
        let broken = || QueueError::Broken { queue: "q".into(), reason: "none".into(), hint: "make it" };
        let world = World::start(Some(5), QueueOptions::default(), 10);
        world.queue.fail((0..50).map(|_| busy()));
        world.queue.fail((0..5).map(|_| broken()));
        world.queue.put("a");
        sleep(120 * MINUTE).await;
        assert_eq!(world.queue.left(), [""; 0]);
        world.queue.fail((0..100).map(|_| broken()));
        world.room.send_replace(false);
        world.room.send_replace(true);
        let failed = world.running.await.unwrap().unwrap_err();
        assert_eq!((failed.class, failed.code.as_str()), (ErrorClass::System, "queue"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_when_the_system_fails_is_given_back() {
    locally(async {
        let world = World::start(Some(5), QueueOptions::default(), 10);
        let broken = StageError::system("control_store", "the table is gone");
        world.handler.answers.borrow_mut().insert("a".into(), [Err(broken.clone())].into());
        world.queue.put("a");
        let queue = world.queue.clone();
        assert_eq!(world.running.await.unwrap(), Err(broken));
        assert_eq!((queue.left(), queue.visible()), (vec!["a".to_owned()], 1));
    })
    .await;
}

/// Guards against a defect: a message whose deletion failed was delivered again, and could become a dead letter although
/// it was handled.
#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_is_retried_until_the_message_is_gone() {
    let busy = || QueueError::Busy { queue: "q".into(), reason: "throttled".into() };
    let denied = || QueueError::Denied { queue: "q".into(), reason: "ExpiredToken".into(), hint: "renew it" };
    let scripts: [Vec<QueueError>; 2] = [vec![busy()], (0..3).map(|_| denied()).collect()];
    for failures in scripts {
        locally(async {
            let world = World::start(Some(1), QueueOptions { wait_seconds: 1, ..QueueOptions::default() }, 10);
            world.handler.takes.set(Duration::from_secs(1));
            world.queue.put("a");
            sleep(Duration::from_millis(500)).await;
            world.room.send_replace(false);
            world.queue.fail(failures);
            sleep(MINUTE).await;
            assert_eq!((world.queue.left(), world.queue.dead(), world.handler.calls("a")), (vec![], vec![], 1));
            world.end().await.unwrap();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_stays_unavailable_is_reported_until_it_answers() {
    locally(async {
        let denied = || QueueError::Denied { queue: "q".into(), reason: "ExpiredToken".into(), hint: "renew it" };
        let world = World::start(Some(5), QueueOptions { wait_seconds: 1, ..QueueOptions::default() }, 10);
        world.queue.fail((0..20).map(|_| denied()));
        sleep(MINUTE).await;
        let lines: Vec<_> = world.outages.list().iter().map(Outage::line).collect();
        assert_eq!(lines, ["message queue unavailable: access to queue q is denied: ExpiredToken; renew it"]);
        sleep(60 * MINUTE).await;
        assert_eq!(world.outages.list(), []);
        world.end().await.unwrap();
    })
    .await;
}
