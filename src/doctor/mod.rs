//! Implements `docweir doctor`, which checks everything that a run needs and says how to fix problems.
//!
//! Each finding names the check, the result and the fix. The checks change no existing data. Write access is tested
//! in one of two ways: an object with a separate key (`doctor/…`) is written and deleted again, or a conditional
//! write is sent whose condition can never be met.
//!
//! - [`machine`] checks the state folder, its disk, file descriptors and memory.
//! - [`provider`] checks the source of the vectors: the files of a local model, or, by one real call, the key, endpoint
//!   and model of a provider (`endpoint`).
//! - `cloud` checks AWS: region, credentials, clock, tables, buckets, queues, Comprehend and CloudWatch. It requires
//!   the feature `aws`.

#[cfg(feature = "aws")]
#[path = "aws/mod.rs"]
mod cloud;
#[cfg(not(feature = "aws"))]
#[path = "without_aws.rs"]
mod cloud;
mod endpoint;
pub mod machine;
pub mod provider;

use docweir_core::clock::SharedClock;
use serde::Serialize;

use crate::config::Config;

/// Describes the result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Fine,
    /// A run works in spite of this finding, but may run into problems later.
    Warning,
    /// A run would fail or do harm.
    Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Kind of the checked resource, such as `state folder`, `table` or `bucket`.
    pub check: &'static str,
    /// Name of the checked resource; empty if there is only one resource of its kind.
    pub subject: String,
    pub verdict: Verdict,
    /// Result in words.
    pub text: String,
    /// Action that fixes the problem; empty if no action is needed.
    pub fix: String,
}

impl Finding {
    pub fn fine(check: &'static str, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { check, subject: subject.into(), verdict: Verdict::Fine, text: text.into(), fix: String::new() }
    }

    pub fn warning(
        check: &'static str,
        subject: impl Into<String>,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Warning, fix: fix.into(), ..Self::fine(check, subject, text) }
    }

    pub fn problem(
        check: &'static str,
        subject: impl Into<String>,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Problem, ..Self::warning(check, subject, text, fix) }
    }
}

/// Checks everything that the settings use. Calls `each` with every finding, as soon as its check is complete.
pub async fn examine(config: &Config, clock: &SharedClock, each: &mut dyn FnMut(Finding)) {
    let settings = &config.settings;
    machine::examine(settings).into_iter().for_each(&mut *each);
    provider::examine(config).await.into_iter().for_each(&mut *each);
    cloud::examine(settings, clock, each).await;
}
