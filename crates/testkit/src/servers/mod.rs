//! Runs real servers of AWS's protocols on loopback for tests.
//!
//! | server | serves | purpose |
//! | --- | --- | --- |
//! | [`Ministack`] | DynamoDB, SQS, S3 and more | has all services at one endpoint; accepts any signature and checksum |
//! | [`Seaweedfs`] | S3 | checks signatures, checksums and conditional writes strictly |
//! | [`Dynoxide`] | DynamoDB | is a second implementation of DynamoDB; starts in milliseconds |
//!
//! `scripts/test` installs the servers and sets environment variables with their paths. If the variable of a server
//! is not set, `start` prints a message and returns `None`, and the test is skipped. If a server is installed but
//! does not start, the test fails.
//!
//! Tests that stop or kill a server start their own server (`Ministack::start()`). Other tests share one server per
//! test program ([`shared_ministack`]) and use different names of buckets and tables. In both cases, the server is
//! killed and the server's files are removed. This happens when the [`Server`] is dropped or the test process ends,
//! even if the test process is killed.

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

/// Environment variable that contains the path of a folder. The folder holds the programs that are installed from
/// tests/servers/requirements.txt.
const PROGRAMS: &str = "DOCWEIR_TEST_SERVERS";

/// Returns the installed S3 servers with their names. All tests of this program share these servers.
pub fn of_s3() -> Vec<(&'static str, &'static Server)> {
    let seaweedfs = shared_seaweedfs().map(|server| ("seaweedfs", &**server));
    let ministack = shared_ministack().map(|server| ("ministack", &**server));
    seaweedfs.into_iter().chain(ministack).collect()
}

/// Returns the path of a program in the servers' environment, such as `aws`, or `python` with boto3. Returns `None`
/// if the environment is not installed.
pub fn program(name: &str) -> Option<PathBuf> {
    Some(named_by(PROGRAMS)?.join(name))
}

/// Returns the path that an environment variable contains. Prints a message if the variable is not set.
#[expect(clippy::print_stderr, reason = "tells the user why a test is skipped")]
fn named_by(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} is not set; scripts/test installs the servers and sets it");
    }
    path
}
