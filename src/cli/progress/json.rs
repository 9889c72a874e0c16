//! Writes events as JSON lines to standard output.

use docweir_core::display::to_json;

use super::{Fetch, Figures, ProgressDisplay};
use crate::cli::output::write_line;
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
        let Ok(line) = to_json(value) else { return };
        self.closed = !write_line(line);
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
