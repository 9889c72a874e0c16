//! Defines the errors that prevent a mock provider from starting.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum MockProviderError {
    #[error("cannot use the data folder {path}: {source}")]
    Data { path: PathBuf, source: io::Error },
    #[error("cannot read line {line} of the journal {path}: {source}; delete the data folder to start empty")]
    Journal { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Listen { port: u16, source: io::Error },
    #[error("cannot start the server's thread: {0}")]
    Thread(io::Error),
    #[error("cannot load the model in {path}: {source}")]
    Model { path: PathBuf, source: docweir_encoder::EncoderError },
    #[error("cannot use the fault rules: {0}")]
    Faults(String),
}
