//! Emits each message to the user only once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::messages::event::{Event, EventSink};

/// Emits each message to the user once per run, however often it is requested.
pub struct OnceNotifier {
    events: Arc<dyn EventSink>,
    told: RefCell<HashSet<String>>,
}

impl OnceNotifier {
    pub fn new(events: Arc<dyn EventSink>) -> Self {
        Self { events, told: RefCell::default() }
    }

    /// Emits a message unless it was already emitted. Returns whether it is emitted now.
    pub fn tell_once(&self, text: String) -> bool {
        self.emit_once(&text, || Event::Notice { text: text.clone() })
    }

    /// Reports that work waits for the budget, unless the same was already reported.
    pub fn tell_budget_spent(&self, text: String) {
        self.emit_once(&text, || Event::BudgetSpent { text: text.clone() });
    }

    fn emit_once(&self, text: &str, event: impl FnOnce() -> Event) -> bool {
        let news = self.told.borrow_mut().insert(text.to_owned());
        if news {
            self.events.emit(event());
        }
        news
    }
}
