//! Starts ministack, which serves DynamoDB, SQS, S3, Secrets Manager and other services on one port and keeps all
//! data in memory.

use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::process::{Server, status};
use super::program;

/// Runs a ministack server. See [`Server`] for its endpoint and keys.
#[derive(Debug)]
pub struct Ministack(Server);

impl Ministack {
    /// Starts a server. Returns `None` if ministack is not installed.
    pub fn start() -> Option<Self> {
        Some(Self::run(&program("ministack")?))
    }

    fn run(program: &Path) -> Self {
        let command = |_: &Path, [port]: [u16; 1]| {
            let mut command = Command::new(program);
            command.env("GATEWAY_PORT", port.to_string()).env("BIND_HOST", "127.0.0.1");
            // These services listen on fixed ports, which a second server could not bind.
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

/// Returns the server that all tests of this program share, or `None` if ministack is not installed.
pub fn shared_ministack() -> Option<&'static Ministack> {
    static SHARED: OnceLock<Ministack> = OnceLock::new();
    let program = program("ministack")?;
    Some(SHARED.get_or_init(|| Ministack::run(&program)))
}
