//! `docweir doctor`: looks at everything that a run will need, before it needs it, and says what to mend.
//!
//! Each finding names what was looked at, how it is, and what to do. Nothing that is there is changed: what has to be
//! tried is tried on a key of its own (`doctor/…`), which is taken away again, or by a write whose condition can't hold.
//!
//! - [`machine`] the state folder, its disk, descriptors, memory
//! - [`provider`] who makes the vectors: the model's files, or the key, the endpoint and its model
//! - `cloud` AWS: region, credentials, clock, tables, buckets, queues, Comprehend, figures; behind the feature `aws`

#[cfg(feature = "aws")]
#[path = "aws/mod.rs"]
mod cloud;
#[cfg(not(feature = "aws"))]
#[path = "without_aws.rs"]
mod cloud;
pub mod machine;
pub mod provider;

use docweir_core::clock::SharedClock;
use serde::Serialize;

use crate::config::Settings;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Fine,
    /// Worth knowing; a run does without.
    Warning,
    /// A run fails for it, or does harm.
    Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `state folder`, `table`, `bucket`.
    pub check: &'static str,
    /// Which one; empty where there is only one.
    pub subject: String,
    pub verdict: Verdict,
    /// How it is.
    pub text: String,
    /// What to do; empty where nothing is to be done.
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

/// Looks at everything that these settings will use; `each` is told of a finding as it is made.
pub async fn examine(settings: &Settings, clock: &SharedClock, each: &mut dyn FnMut(Finding)) {
    machine::examine(settings).into_iter().for_each(&mut *each);
    provider::examine(settings).await.into_iter().for_each(&mut *each);
    cloud::examine(settings, clock, each).await;
}
