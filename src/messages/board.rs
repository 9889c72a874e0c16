//! How a run stands at this moment: the pipeline writes it a few times a second, progress reads it.
//!
//! Figures for people. Nothing is decided by them, so a reader may see a state that is a moment old.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::documents::Stage;

/// Shared between the pipeline and whoever shows it.
#[derive(Debug, Default)]
pub struct Board(Mutex<BoardState>);

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BoardState {
    pub intake: IntakeRow,
    /// In the order of the stages; empty until the pools are up.
    pub stages: Vec<StageRow>,
    /// No new work is taken; what runs comes to its end.
    pub draining: bool,
}

/// How far the look at the files has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntakeRow {
    /// Files looked at so far.
    pub files: u64,
    /// All of them were.
    pub finished: bool,
}

/// One stage's pool. Counts of documents; `done`, `retried` and `quarantined` since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StageRow {
    pub stage: Stage,
    /// For a worker, for the time of a retry, for a place in the next stage.
    pub waiting: u64,
    pub in_flight: u64,
    pub done: u64,
    pub retried: u64,
    pub quarantined: u64,
    /// Workers now.
    pub workers: u64,
}

impl StageRow {
    pub fn new(stage: Stage) -> Self {
        Self { stage, waiting: 0, in_flight: 0, done: 0, retried: 0, quarantined: 0, workers: 0 }
    }
}

impl Board {
    pub fn update(&self, change: impl FnOnce(&mut BoardState)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn snapshot(&self) -> BoardState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
