//! Limits uploads and downloads, which may take longer than live calls.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

use super::call_error::{CallError, failed};

/// Configures the limits of uploads and downloads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransferOptions {
    /// Maximum time without any data, in seconds. After this time, the transfer is aborted.
    #[serde(skip)]
    pub stall_seconds: f64,
    /// Maximum time to transfer one file, in seconds.
    pub transfer_seconds: f64,
    /// Maximum size of a file, in bytes. A larger file is not downloaded.
    #[serde(skip)]
    pub max_file_bytes: u64,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self { stall_seconds: 60.0, transfer_seconds: 3_600.0, max_file_bytes: 4 << 30 }
    }
}

impl TransferOptions {
    /// Returns each field that is out of range, with the reason.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let seconds = out_of_range("transfer_seconds", self.transfer_seconds, self.stall_seconds, 86_400.0);
        seconds.into_iter().collect()
    }

    pub(super) fn overall(&self) -> Duration {
        Duration::from_secs_f64(self.transfer_seconds)
    }

    pub(super) fn stall(&self) -> Duration {
        Duration::from_secs_f64(self.stall_seconds)
    }

    pub(super) fn stalled(&self) -> CallError {
        CallError::Lost(format!("no data for {} seconds", self.stall_seconds))
    }

    /// Waits for the next bytes, or for the beginning of an answer, but not longer than the maximum time without
    /// data.
    pub(super) async fn in_time<T>(&self, next: impl Future<Output = reqwest::Result<T>>) -> Result<T, CallError> {
        match tokio::time::timeout(self.stall(), next).await {
            Ok(next) => next.map_err(|e| failed(&e)),
            Err(_) => Err(self.stalled()),
        }
    }
}

/// Explains why a file was not transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// The local file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Local { what: &'static str, path: PathBuf, source: io::Error },
}

pub(super) fn local<'p>(what: &'static str, path: &'p Path) -> impl Fn(io::Error) -> TransferError + 'p {
    move |source| TransferError::Local { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| {
            let options: TransferOptions = toml::from_str(text).unwrap();
            options.problems().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(wrong(""), [""; 0]);
        assert_eq!(wrong("transfer_seconds = 59.0"), ["transfer_seconds"], "shorter than the time without a byte");
        assert_eq!(wrong("transfer_seconds = nan"), ["transfer_seconds"]);
    }
}
