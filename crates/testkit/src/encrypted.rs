//! Serves encrypted connections with a certificate of a private authority, which no machine trusts.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Returns the path of a PEM file: `authority.pem`, `server.pem` or `server.key`.
pub fn certificate(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/certificates")).join(name)
}

/// Starts a server on loopback that answers each request with 404, until the test process ends. Returns its port.
pub fn encrypted_server() -> io::Result<u16> {
    let server = CertificateDer::from_pem_file(certificate("server.pem")).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(certificate("server.key")).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(vec![server], key).map_err(io::Error::other)?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that does not trust the certificate ends the connection.
            let _ = answer(stream, config.clone());
        }
    });
    Ok(port)
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    if stream.read(&mut [0; 4096])? > 0 {
        stream.write_all(NOT_FOUND)?;
    }
    stream.conn.send_close_notify();
    stream.flush()
}
