//! Shows the progress of a run in three formats: a live display for terminals, plain lines for pipes, and JSON events
//! for programs.
//!
//! Any thread of the pipeline may send an event, and sending must not block the thread. Each event is added to the
//! summary immediately. A bounded queue then passes the event to a separate thread, and only that thread writes and
//! draws.
//!
//! If the reader of standard output is slower than the run, the queue fills up. Further events are then dropped, and
//! the event `{"event":"dropped",…}` reports their number. A slow reader therefore never slows the run, and the
//! summary stays complete.

mod figures;
mod json;
mod live;
mod plain;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use docweir_stages::embed::FetchProgress;

pub use figures::{Figures, Numbers};
pub use live::suspended;

use super::args::Progress;
use crate::actors::run_summary::RunSummary;
use crate::actors::timer::Timer;
use crate::messages::event::{Event, EventSink};
use crate::messages::progress::SharedProgress;

/// Maximum number of events that wait to be shown. The channel allocates memory for this number of pointers when it
/// is created.
const QUEUE: usize = 65_536;
/// Interval between two updates of the figures, which gives ten updates per second.
const TICK: Duration = Duration::from_millis(100);

/// Shows the progress of a run in one format.
trait ProgressDisplay: Send {
    fn event(&mut self, event: &Event);
    fn tick(&mut self, figures: &Figures);
    /// Shows the progress of the model download.
    fn fetch(&mut self, fetch: &Fetch);
    /// Restores the terminal. `dropped` is the number of events that could not be shown.
    fn end(&mut self, dropped: u64);
}

/// Describes the progress of the model download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// File name and source of the download.
    pub what: String,
    pub bytes: u64,
    pub total: Option<u64>,
}

impl Fetch {
    /// Formats the progress: `fetching model.safetensors from hub: 12.3 of 90.9 MB`.
    pub fn line(&self) -> String {
        let mb = |n: u64| n as f64 / 1e6;
        match self.total {
            Some(total) => format!("fetching {}: {:.1} of {:.1} MB", self.what, mb(self.bytes), mb(total)),
            None if self.bytes == 0 => format!("fetching {}", self.what),
            None => format!("fetching {}: {:.1} MB", self.what, mb(self.bytes)),
        }
    }
}

impl From<FetchProgress> for Fetch {
    fn from(fetch: FetchProgress) -> Self {
        Self { what: format!("{} from {}", fetch.file, fetch.source), bytes: fetch.bytes, total: fetch.total }
    }
}

enum Message {
    Event(Event),
    Fetch(Fetch),
    End,
}

/// Selects the formats in which progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub live: bool,
    pub plain: bool,
    pub json: bool,
}

impl Style {
    /// Chooses the formats. `terminal` is true if standard error is a terminal.
    ///
    /// If `json` is true, standard output receives only events. Standard error then shows progress only if `how` asks
    /// for this, because the program that reads the events can show progress itself.
    pub fn of(how: Progress, json: bool, terminal: bool) -> Self {
        let (live, plain) = match how {
            Progress::None => (false, false),
            Progress::Auto if json => (false, false),
            Progress::Auto => (terminal, !terminal),
            Progress::Live => (true, false),
            Progress::Plain => (false, true),
        };
        Self { live, plain, json }
    }
}

/// Holds the totals of a run, and a queue of events. A separate thread takes the events from the queue and shows
/// them.
struct Shared {
    summary: Mutex<RunSummary>,
    removals: AtomicU64,
    dropped: AtomicU64,
    queue: Option<SyncSender<Box<Message>>>,
}

/// Receives the events of a run and shows them until [`Reporter::end`].
pub struct Reporter {
    shared: Arc<Shared>,
    pub progress: Arc<SharedProgress>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Reporter {
    pub fn start(style: Style) -> Self {
        let progress = Arc::new(SharedProgress::default());
        let mut shows: Vec<Box<dyn ProgressDisplay>> = Vec::new();
        if style.live {
            shows.push(Box::new(live::Live::new()));
        }
        if style.plain {
            shows.push(Box::new(plain::Plain::new()));
        }
        if style.json {
            shows.push(Box::new(json::Json::new()));
        }
        let (sender, receiver) = sync_channel(QUEUE);
        let queue = (!shows.is_empty()).then_some(sender);
        let shared = Arc::new(Shared {
            summary: Mutex::default(),
            removals: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            queue,
        });
        let thread = if shows.is_empty() {
            None
        } else {
            let (shared, progress, timer) = (shared.clone(), progress.clone(), Timer::start());
            let show = move || run(&mut shows, &receiver, &shared, &progress, &timer);
            match std::thread::Builder::new().name("progress".into()).spawn(show) {
                Ok(thread) => Some(thread),
                Err(error) => {
                    tracing::warn!(%error, "cannot start the progress thread; progress is not shown");
                    None
                }
            }
        };
        Self { shared, progress, thread }
    }

    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(Sink(self.shared.clone()))
    }

    pub fn fetch(&self, fetch: Fetch) {
        if let Some(queue) = &self.shared.queue {
            // A dropped update is followed by a newer one.
            let _ = queue.try_send(Box::new(Message::Fetch(fetch)));
        }
    }

    /// Shows the remaining events, restores the terminal and returns the summary.
    pub fn end(mut self) -> RunSummary {
        self.stop();
        self.shared.summary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            if let Some(queue) = &self.shared.queue {
                let _ = queue.send(Box::new(Message::End));
            }
            let _ = thread.join();
        }
    }
}

/// Removes the progress lines if a command ends early because of an error or an unwinding panic.
impl Drop for Reporter {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Sink(Arc<Shared>);

impl EventSink for Sink {
    fn emit(&self, event: Event) {
        if matches!(event, Event::RemovalRequested { .. }) {
            self.0.removals.fetch_add(1, Ordering::Relaxed);
        }
        self.0.summary.lock().unwrap_or_else(PoisonError::into_inner).add(&event);
        if let Some(queue) = &self.0.queue
            && queue.try_send(Box::new(Message::Event(event))).is_err()
        {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn run(
    shows: &mut [Box<dyn ProgressDisplay>],
    queue: &Receiver<Box<Message>>,
    shared: &Shared,
    progress: &SharedProgress,
    timer: &Timer,
) {
    let mut recent = figures::Recent::default();
    let mut drawn = Duration::ZERO;
    loop {
        let message = queue.recv_timeout(TICK.saturating_sub(timer.elapsed().saturating_sub(drawn)));
        match message.map(|boxed| *boxed) {
            Ok(Message::Event(event)) => shows.iter_mut().for_each(|s| s.event(&event)),
            Ok(Message::Fetch(fetch)) => shows.iter_mut().for_each(|s| s.fetch(&fetch)),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => {
                let dropped = shared.dropped.load(Ordering::Relaxed);
                shows.iter_mut().for_each(|s| s.end(dropped));
                return;
            }
        }
        let elapsed = timer.elapsed();
        if elapsed.saturating_sub(drawn) >= TICK {
            drawn = elapsed;
            let removals = shared.removals.load(Ordering::Relaxed);
            let numbers = Numbers::of(&shared.summary.lock().unwrap_or_else(PoisonError::into_inner), removals);
            let figures = recent.figures(elapsed, numbers, progress.snapshot());
            shows.iter_mut().for_each(|s| s.tick(&figures));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_decides_what_auto_means() {
        let style = |how, json, terminal| {
            let s = Style::of(how, json, terminal);
            (s.live, s.plain, s.json)
        };
        assert_eq!(style(Progress::Auto, false, true), (true, false, false));
        assert_eq!(style(Progress::Auto, false, false), (false, true, false));
        assert_eq!(style(Progress::Auto, true, true), (false, false, true));
        assert_eq!(style(Progress::Plain, true, true), (false, true, true));
        assert_eq!(style(Progress::None, false, true), (false, false, false));
    }

    #[test]
    fn every_event_is_counted_even_when_nothing_is_shown() {
        let reporter = Reporter::start(Style::of(Progress::None, false, false));
        let sink = reporter.sink();
        for _ in 0..QUEUE + 10 {
            sink.emit(Event::IntakeFinished { files: 1, left_alone: Default::default() });
        }
        assert_eq!(reporter.end().files, QUEUE as u64 + 10);
    }

    #[test]
    fn a_fetch_is_told_in_megabytes() {
        let fetch = |total| Fetch { what: "m.safetensors from a.example".into(), bytes: 12_340_000, total };
        assert_eq!(fetch(Some(90_900_000)).line(), "fetching m.safetensors from a.example: 12.3 of 90.9 MB");
        assert_eq!(fetch(None).line(), "fetching m.safetensors from a.example: 12.3 MB");
    }
}
