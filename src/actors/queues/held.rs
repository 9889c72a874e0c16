//! Holds the messages that are being handled, and the state that their handlers share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// Maximum number of held messages, including those that wait for a service or for their deletion.
pub const MAX_HELD: usize = 1_000;

/// Describes a message that is being handled.
pub struct ReceivedMessage {
    pub receives: u32,
    pub body: Rc<str>,
}

/// Holds all messages that are being handled, and the state that their handlers share.
pub struct HeldMessages {
    pub held: RefCell<HashMap<String, ReceivedMessage>>,
    /// Number of held messages that wait for a service.
    pub waiting: Cell<usize>,
    /// True if a message failed because of an outage, and no message was handled since.
    pub outage: Cell<bool>,
    /// Time at which a message was last handled.
    last_handled: Cell<Option<Instant>>,
    /// Notification that the number of waiting messages or the outage has changed.
    pub changed: Notify,
    /// Number of receipts after which the queue moves a message to its dead-letter queue. `None` if there is no
    /// dead-letter queue.
    pub redrive: Option<u32>,
    /// Permits for calls of the handler. Messages whose wait has ended need one too.
    pub permits: Semaphore,
}

impl HeldMessages {
    pub fn new(redrive: Option<u32>, at_once: usize) -> Self {
        Self {
            held: RefCell::default(),
            waiting: Cell::new(0),
            outage: Cell::new(false),
            last_handled: Cell::new(None),
            changed: Notify::new(),
            redrive,
            permits: Semaphore::new(at_once.clamp(1, MAX_HELD)),
        }
    }

    /// Records that a message was handled, so that its services are available.
    pub fn handled(&self) {
        self.last_handled.set(Some(Instant::now()));
        self.outage.set(false);
        self.changed.notify_one();
    }

    /// Records that a message waits, and whether this shows an outage. If another message was handled since the first
    /// failure of this one, only this one fails.
    pub fn waits(&self, failing_since: Instant, outage: bool) -> Waits<'_> {
        if outage && self.last_handled.get().is_none_or(|handled| handled < failing_since) {
            self.outage.set(true);
        }
        self.waiting.set(self.waiting.get() + 1);
        self.changed.notify_one();
        Waits(self)
    }
}

/// Counts a message as waiting for a service until this value is dropped.
pub struct Waits<'a>(&'a HeldMessages);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
        self.0.changed.notify_one();
    }
}
