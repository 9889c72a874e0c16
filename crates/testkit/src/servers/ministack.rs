//! ministack: DynamoDB, SQS, S3, Secrets Manager and more behind one port, all in memory.

use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::process::{Server, status};
use super::program;

/// See [`Server`] for what it tells.
#[derive(Debug)]
pub struct Ministack(Server);

impl Ministack {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        Some(Self::run(&program("ministack")?))
    }

    fn run(program: &Path) -> Self {
        let command = |_: &Path, [port]: [u16; 1]| {
            let mut command = Command::new(program);
            command.env("GATEWAY_PORT", port.to_string()).env("BIND_HOST", "127.0.0.1");
            // These listen at fixed ports, which a second server would not get.
            command.env("SFTP_ENABLED", "0").env("IOT_MTLS_ENABLED", "0");
            Ok(command)
        };
        Self(Server::start("ministack", command, |[port]| status(port, "/_ministack/ready") == Some(200)))
    }
}

impl Deref for Ministack {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// The one of this test program.
pub fn shared_ministack() -> Option<&'static Ministack> {
    static SHARED: OnceLock<Ministack> = OnceLock::new();
    let program = program("ministack")?;
    Some(SHARED.get_or_init(|| Ministack::run(&program)))
}
