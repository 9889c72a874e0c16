//! Sends two requests to a mock provider that refuses the first one, and prints the charges. Run it with
//! `cargo run -p docweir-mock-provider --example faults`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::io::{Read, Write};
use std::net::TcpStream;

use docweir_mock_provider::{Act, MockProvider, On, Options, Rule};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mock = MockProvider::start(Options::default())?;
    mock.set_faults(vec![Rule::new(On::Embeddings, Act::Status).code(503).times(1)])?;
    let body = r#"{"model": "text-embedding-3-small", "input": ["a stale lease is fenced"], "dimensions": 8}"#;
    for attempt in 1..=2 {
        println!("attempt {attempt}: {}", post(&mock, "/v1/embeddings", body)?);
    }
    let charges = mock.charges();
    println!("charged: {} tokens, {} nanodollars", charges.live.tokens, charges.live.nanodollars);
    println!("refused: {:?}", charges.refused);
    println!("faults:  {:?}", charges.faults);
    Ok(())
}

/// Sends a request over a plain connection, and returns the status line of the reply.
fn post(mock: &MockProvider, path: &str, body: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut connection = TcpStream::connect(("127.0.0.1", mock.port()))?;
    let length = body.len();
    write!(
        connection,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer test-key\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
