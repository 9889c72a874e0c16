//! Runs real servers of AWS's protocols on loopback for tests.
//!
//! | server | serves | purpose |
//! | --- | --- | --- |
//! | [`Ministack`] | DynamoDB, SQS, S3 and more | all services at one endpoint; accepts any signature and checksum |
//! | [`Seaweedfs`] | S3 | strict checks of signatures, checksums and conditional writes |
//! | [`Dynoxide`] | DynamoDB | a second implementation; starts in milliseconds |
//!
//! `scripts/test` installs the servers and names them in the environment. If a server is not named, `start` prints a
//! message and returns `None`, and the test skips. If a named server does not start, the test fails.
//!
//! Tests that stop or kill a server start their own (`Ministack::start()`). Other tests share one server per test
//! program ([`shared_ministack`]) and use different names of buckets and tables. In both cases the server is killed
//! and its files are removed when its value is dropped or the process ends, however it ends.

mod dynoxide;
mod ministack;
mod ports;
mod process;
mod seaweedfs;

use std::path::PathBuf;

pub use dynoxide::{Dynoxide, shared_dynoxide};
pub use ministack::{Ministack, shared_ministack};
pub use process::Server;
pub use seaweedfs::{Seaweedfs, shared_seaweedfs};

/// Environment variable with the folder of the programs that tests/servers/requirements.txt installs.
const PROGRAMS: &str = "DOCWEIR_TEST_SERVERS";

/// Returns all installed S3 servers by name. The servers are shared.
pub fn of_s3() -> Vec<(&'static str, &'static Server)> {
    let seaweedfs = shared_seaweedfs().map(|server| ("seaweedfs", &**server));
    let ministack = shared_ministack().map(|server| ("ministack", &**server));
    seaweedfs.into_iter().chain(ministack).collect()
}

/// Returns the path of a program in the servers' environment: `aws`, or `python`, which has boto3. Returns `None` if
/// the environment is not installed.
pub fn program(name: &str) -> Option<PathBuf> {
    Some(named_by(PROGRAMS)?.join(name))
}

/// Returns the path in an environment variable. Prints a message if it is not set.
#[expect(clippy::print_stderr, reason = "the test that asks skips, and its reader should know")]
fn named_by(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} is not set; scripts/test installs the servers and sets it");
    }
    path
}
