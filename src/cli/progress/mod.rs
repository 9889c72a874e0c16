//! Progress of a run: live on a terminal, plain lines in a pipe, JSON events for programs.
//!
//! Events come from any thread of the pipeline and must not hold it up: they are added to the summary at once and go
//! through a bounded queue to a thread of their own, which alone writes and draws. Where a reader of standard output
//! is slower than the run, events beyond the queue are dropped and counted (`{"event":"dropped",…}`): a slow pipe
//! never slows the work, and the summary, which comes from the summary, is right all the same.

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

/// Events that wait to be shown, at most. The channel has room for all from its start: a pointer for each.
const QUEUE: usize = 65_536;
/// How often figures are looked at: ten times a second.
const TICK: Duration = Duration::from_millis(100);

/// One way of showing a run.
trait Show: Send {
    fn event(&mut self, event: &Event);
    fn tick(&mut self, figures: &Figures);
    /// How far the fetch of the model is.
    fn fetch(&mut self, fetch: &Fetch);
    /// Leaves the terminal as it was. `dropped` events could not be shown.
    fn end(&mut self, dropped: u64);
}

/// The model is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The file, and where it comes from.
    pub what: String,
    pub bytes: u64,
    pub total: Option<u64>,
}

impl Fetch {
    /// `fetching model.safetensors from hub: 12.3 of 90.9 MB`
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

/// What progress is to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub live: bool,
    pub plain: bool,
    pub json: bool,
}

impl Style {
    /// `terminal`: whether standard error is one. JSON events have standard output to themselves, and whoever reads
    /// them shows what they like: nothing else is shown unless it was asked for.
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

/// What is known of a run, and the way of events to whoever shows them.
struct Shared {
    summary: Mutex<RunSummary>,
    removals: AtomicU64,
    dropped: AtomicU64,
    queue: Option<SyncSender<Box<Message>>>,
}

/// Takes the events of a run and shows it, until [`Reporter::end`].
pub struct Reporter {
    shared: Arc<Shared>,
    pub progress: Arc<SharedProgress>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Reporter {
    pub fn start(style: Style) -> Self {
        let progress = Arc::new(SharedProgress::default());
        let mut shows: Vec<Box<dyn Show>> = Vec::new();
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
                    tracing::warn!(%error, "can't start the thread that shows progress");
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
            // One that finds no place is followed by a newer one.
            let _ = queue.try_send(Box::new(Message::Fetch(fetch)));
        }
    }

    /// Shows what is left to be shown, leaves the terminal as it was, and gives the sums.
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

/// A command that ends early (an error, an unwinding panic) leaves no bars behind.
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
    shows: &mut [Box<dyn Show>],
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
            sink.emit(Event::IntakeFinished { files: 1 });
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
