//! What files may take on their way up and down: more than a live call, and not for ever.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{CallError, failed};

/// Limits of an upload or a download.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransferOptions {
    /// Time without a byte after which a transfer is given up, in seconds. Default 60.
    pub stall_seconds: f64,
    /// Time for one file, in seconds. Default 3,600.
    pub transfer_seconds: f64,
    /// Size of a file above which it is not fetched, in bytes. Default 4 GiB.
    pub max_file_bytes: u64,
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self { stall_seconds: 60.0, transfer_seconds: 3_600.0, max_file_bytes: 4 << 30 }
    }
}

impl TransferOptions {
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let table = [
            ("stall_seconds", self.stall_seconds, 0.01, 3_600.0),
            ("transfer_seconds", self.transfer_seconds, self.stall_seconds, 86_400.0),
            ("max_file_bytes", self.max_file_bytes as f64, 65_536.0, 1.1e12),
        ];
        let outside = table.into_iter().filter(|(_, value, low, high)| !(low..=high).contains(&value));
        outside
            .map(|(field, value, low, high)| (field, format!("must lie between {low} and {high}, not {value}")))
            .collect()
    }

    pub(super) fn overall(&self) -> Duration {
        Duration::from_secs_f64(self.transfer_seconds)
    }

    pub(super) fn stall(&self) -> Duration {
        Duration::from_secs_f64(self.stall_seconds)
    }

    pub(super) fn stalled(&self) -> CallError {
        CallError::Lost(format!("no byte in {} seconds", self.stall_seconds))
    }

    /// The next bytes, or the beginning of an answer.
    pub(super) async fn in_time<T>(&self, next: impl Future<Output = reqwest::Result<T>>) -> Result<T, CallError> {
        match tokio::time::timeout(self.stall(), next).await {
            Ok(next) => next.map_err(|e| failed(&e)),
            Err(_) => Err(self.stalled()),
        }
    }
}

/// Why a file did not get there.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// The file on this side.
    #[error("can't {what} {}", path.display())]
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
        assert_eq!(wrong("stall_seconds = 0.0"), ["stall_seconds"]);
        assert_eq!(wrong("stall_seconds = 100.0\ntransfer_seconds = 99.0"), ["transfer_seconds"]);
        assert_eq!(
            wrong("stall_seconds = nan\nmax_file_bytes = 5"),
            ["stall_seconds", "transfer_seconds", "max_file_bytes"]
        );
    }
}
