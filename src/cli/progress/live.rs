//! Draws the live display at the bottom of the terminal. The display consists of a header and one line per stage. It
//! is redrawn at most ten times a second.
//!
//! The display neither hides the cursor nor sets a terminal mode, so at the end only its lines have to be removed.
//! Lines are cut at the terminal's width, never wrapped. Other output to standard error goes through [`suspended`],
//! which removes the lines while the output is written.

use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::figures::Records;
use super::{Fetch, Figures, ProgressDisplay, figures};
use crate::cli::output::printable;
use crate::messages::event::Event;

static DISPLAY: OnceLock<MultiProgress> = OnceLock::new();

/// Runs `write` while the live display, if any, is removed from the terminal.
pub fn suspended<T>(write: impl FnOnce() -> T) -> T {
    match DISPLAY.get() {
        Some(display) => display.suspend(write),
        None => write(),
    }
}

pub struct Live {
    display: MultiProgress,
    header: Option<ProgressBar>,
    stages: Vec<ProgressBar>,
    fetch: Option<ProgressBar>,
}

impl Live {
    pub fn new() -> Self {
        let display = DISPLAY.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { display: display.clone(), header: None, stages: Vec::new(), fetch: None }
    }

    /// Adds a line that shows only its message, cut at the terminal's width.
    fn line(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        self.display.add(ProgressBar::new_spinner().with_style(style))
    }
}

impl ProgressDisplay for Live {
    fn event(&mut self, event: &Event) {
        if let Event::Notice { text } | Event::BudgetSpent { text } = event {
            let _ = self.display.println(printable(text));
        }
    }

    fn tick(&mut self, figures: &Figures) {
        let nothing_yet = figures.progress.stages.is_empty()
            && figures.progress.intake.files == 0
            && figures.numbers.records == Records::default();
        if nothing_yet {
            return;
        }
        if let Some(fetch) = self.fetch.take() {
            fetch.finish_and_clear();
            self.display.remove(&fetch);
        }
        if self.header.is_none() {
            self.header = Some(self.line());
        }
        if let Some(header) = &self.header {
            header.set_message(printable(&figures::header(figures)));
        }
        let lines = figures::stages(&figures.progress);
        while self.stages.len() < lines.len() {
            self.stages.push(self.line());
        }
        for (bar, line) in self.stages.iter().zip(lines) {
            bar.set_message(printable(&line));
        }
    }

    fn fetch(&mut self, fetch: &Fetch) {
        if self.fetch.is_none() {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{bar:24} {wide_msg}");
            self.fetch = Some(self.display.add(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))));
        }
        if let Some(bar) = &self.fetch {
            bar.set_length(fetch.total.unwrap_or_default());
            bar.set_position(fetch.bytes);
            bar.set_message(printable(&fetch.line()));
        }
    }

    fn end(&mut self, _: u64) {
        let _ = self.display.clear();
    }
}
