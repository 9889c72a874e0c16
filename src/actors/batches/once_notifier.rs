//! OnceNotifier that are given once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::messages::event::{Event, EventSink};

/// Tells people each thing once in a run, however often there is reason to.
pub struct OnceNotifier {
    events: Arc<dyn EventSink>,
    told: RefCell<HashSet<String>>,
}

impl OnceNotifier {
    pub fn new(events: Arc<dyn EventSink>) -> Self {
        Self { events, told: RefCell::default() }
    }

    /// Emits a notice unless it was emitted before; returns whether it was.
    pub fn tell_once(&self, text: String) -> bool {
        let news = self.told.borrow_mut().insert(text.clone());
        if news {
            self.events.emit(Event::Notice { text });
        }
        news
    }
}
