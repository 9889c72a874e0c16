//! Writes events as JSON lines to standard output.

use std::io::Write;

use super::{Fetch, Figures, ProgressDisplay};
use crate::messages::event::Event;

pub struct Json {
    /// True after a write to standard output has failed. The run then continues without writing events.
    closed: bool,
}

impl Json {
    pub fn new() -> Self {
        Self { closed: false }
    }

    fn write(&mut self, value: &impl serde::Serialize) {
        if self.closed {
            return;
        }
        let Ok(mut line) = serde_json::to_vec(value) else { return };
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        self.closed = out.write_all(&line).and_then(|()| out.flush()).is_err();
    }
}

impl ProgressDisplay for Json {
    fn event(&mut self, event: &Event) {
        self.write(event);
    }

    fn tick(&mut self, _: &Figures) {}

    fn fetch(&mut self, _: &Fetch) {}

    fn end(&mut self, dropped: u64) {
        if dropped > 0 {
            self.write(&serde_json::json!({"event": "dropped", "events": dropped}));
        }
    }
}
