//! Starts SeaweedFS, an S3 server that checks requests as strictly as the real service. Its program is `weed`. One
//! process runs four servers (master, volume, filer and the S3 gateway), each with one port for HTTP and one port for
//! gRPC.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::process::{ACCESS_KEY, LEFTOVERS, SECRET_KEY, Server, status};
use super::program;

/// Command-line options for the ports. The port of the endpoint comes first.
const PORTS: [&str; 8] = [
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
];

/// Runs a SeaweedFS server. See [`Server`] for its endpoint and keys.
#[derive(Debug)]
pub struct Seaweedfs(Server);

impl Seaweedfs {
    /// Starts a server. Returns `None` if weed is not installed.
    pub fn start() -> Option<Self> {
        Some(Self::run(&program("weed")?))
    }

    fn run(program: &Path) -> Self {
        let command = |folder: &Path, ports: [u16; 8]| {
            fs::create_dir(folder.join("data"))?;
            fs::write(folder.join("identities.json"), identities())?;
            fs::write(folder.join(LEFTOVERS), sockets(ports))?;
            let mut command = Command::new(program);
            command.args(["server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
            command.args(["-s3", "-s3.config=identities.json"]);
            command.args(PORTS.iter().zip(ports).map(|(name, port)| format!("-{name}={port}")));
            // Disable unused services and telemetry, and keep sockets out of a common folder.
            command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
            command.args(["-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock", "-master.telemetry=false"]);
            // Allow many small volumes: a bucket takes at least one, and by default seven.
            command.args(["-volume.max=200", "-master.volumeSizeLimitMB=64"]);
            command.env("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1");
            Ok(command)
        };
        // The gateway answers before objects can be stored; the master reports when a volume can be assigned.
        let ready = |[s3, _, master, ..]: [u16; 8]| {
            status(s3, "/healthz") == Some(200) && status(master, "/dir/assign") == Some(200)
        };
        Self(Server::start("weed", command, ready))
    }
}

/// Returns the paths of the sockets that weed creates in `/tmp`, one per line. Each path contains a gRPC port.
fn sockets([_, s3, _, master, _, volume, _, filer]: [u16; 8]) -> String {
    let parts = [("s3", s3), ("master", master), ("volume", volume), ("filer", filer)];
    parts.map(|(part, port)| format!("/tmp/seaweedfs-{part}-grpc-{port}.sock\n")).concat()
}

/// Returns the configuration of one user with all permissions.
fn identities() -> String {
    format!(
        r#"{{"identities": [{{"name": "test", "actions": ["Admin"],
            "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}]}}]}}"#
    )
}

impl Deref for Seaweedfs {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// Returns the server that all tests of this program share, or `None` if weed is not installed.
pub fn shared_seaweedfs() -> Option<&'static Seaweedfs> {
    static SHARED: OnceLock<Seaweedfs> = OnceLock::new();
    let program = program("weed")?;
    Some(SHARED.get_or_init(|| Seaweedfs::run(&program)))
}
