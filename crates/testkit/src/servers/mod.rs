//! Real servers of AWS's protocols, on loopback, for tests.
//!
//! | server | serves | good for |
//! | --- | --- | --- |
//! | [`Ministack`] | DynamoDB, SQS, S3 and more | everything at one endpoint; believes any signature and checksum |
//! | [`Seaweedfs`] | S3 | the strict one: signatures, checksums, conditional writes |
//! | [`Dynoxide`] | DynamoDB | a second opinion; ready in milliseconds |
//!
//! `scripts/test` installs them and names them in the environment. Where it did not, `start` says so and gives `None`,
//! and the test returns. A server that is named and does not come up is a failed test.
//!
//! A server of its own (`Ministack::start()`) is for tests that stop or kill it. Others share one for each test program
//! ([`shared_ministack`]) and keep apart by the names of their buckets and tables. Either way it dies, and its files go,
//! with the value or with the process, whichever ends first and however it ends.

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

/// Names the folder of programs that tests/servers/requirements.txt installs.
const PROGRAMS: &str = "DOCWEIR_TEST_SERVERS";

/// All servers of S3 that are installed, by name, shared.
pub fn of_s3() -> Vec<(&'static str, &'static Server)> {
    let seaweedfs = shared_seaweedfs().map(|server| ("seaweedfs", &**server));
    let ministack = shared_ministack().map(|server| ("ministack", &**server));
    seaweedfs.into_iter().chain(ministack).collect()
}

/// A program that is installed beside the servers: `aws`, or `python`, which has boto3. `None` where they are not.
pub fn program(name: &str) -> Option<PathBuf> {
    Some(named_by(PROGRAMS)?.join(name))
}

/// The path in an environment variable; without one, a word about it.
#[expect(clippy::print_stderr, reason = "the test that asks skips, and its reader should know")]
fn named_by(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} names no servers; scripts/test installs them and does");
    }
    path
}
