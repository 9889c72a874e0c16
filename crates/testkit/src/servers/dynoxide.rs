//! Starts dynoxide, an implementation of DynamoDB on SQLite that keeps all data in memory.

use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::named_by;
use super::process::{Server, status};

/// Environment variable with the path of the program.
const PROGRAM: &str = "DOCWEIR_TEST_DYNOXIDE";

/// Runs a dynoxide server. See [`Server`] for its endpoint and keys.
#[derive(Debug)]
pub struct Dynoxide(Server);

impl Dynoxide {
    /// Starts a server. Returns `None` if dynoxide is not installed.
    pub fn start() -> Option<Self> {
        Some(Self::run(&named_by(PROGRAM)?))
    }

    fn run(program: &Path) -> Self {
        let command = |_: &Path, [port]: [u16; 1]| {
            let mut command = Command::new(program);
            command.args(["serve", "--host", "127.0.0.1", "--port", &port.to_string()]);
            Ok(command)
        };
        Self(Server::start("dynoxide", command, |[port]| status(port, "/") == Some(200)))
    }
}

impl Deref for Dynoxide {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// Returns the server that all tests of this program share, or `None` if dynoxide is not installed.
pub fn shared_dynoxide() -> Option<&'static Dynoxide> {
    static SHARED: OnceLock<Dynoxide> = OnceLock::new();
    let program = named_by(PROGRAM)?;
    Some(SHARED.get_or_init(|| Dynoxide::run(&program)))
}
