//! Writes the input file of a batch, one request per line.

use std::io::{self, Write};

use serde::Serialize;

use super::wire::EmbeddingsRequest;

/// API endpoint for the requests of a batch. This endpoint is named in each request line and in the call that creates
/// the batch.
pub const ENDPOINT: &str = "/v1/embeddings";

/// Writes request lines for one model.
#[derive(Clone, Copy, Debug)]
pub struct RequestLines<'m> {
    pub model: &'m str,
    /// Number of dimensions to request, as returned by `OpenAiOptions::asked_dimensions`.
    pub dimensions: Option<u32>,
    /// Form in which vectors are requested, as returned by `Client::encoding`.
    pub encoding: &'static str,
}

#[derive(Serialize)]
struct RequestLine<'r> {
    custom_id: &'r str,
    method: &'static str,
    url: &'static str,
    body: EmbeddingsRequest<'r, &'r str>,
}

impl RequestLines<'_> {
    /// Writes the request line for one text, and returns the size of the line in bytes. Pass a buffered writer, because
    /// the line is written in many small pieces.
    pub fn write(&self, custom_id: &str, text: &str, to: impl Write) -> io::Result<u64> {
        let (model, dimensions) = (self.model, self.dimensions);
        let body = EmbeddingsRequest { model, input: text, encoding_format: self.encoding, dimensions };
        let line = RequestLine { custom_id, method: "POST", url: ENDPOINT, body };
        let mut to = Counted { to, bytes: 0 };
        serde_json::to_writer(&mut to, &line)?;
        to.write_all(b"\n")?;
        Ok(to.bytes)
    }

    /// Returns the size of the line in bytes, including its line break.
    pub fn size(&self, custom_id: &str, text: &str) -> u64 {
        // Writing to a sink cannot fail.
        self.write(custom_id, text, io::sink()).unwrap_or(u64::MAX)
    }
}

struct Counted<W> {
    to: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.to.write(piece)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_the_protocol_says_and_as_long_as_told() {
        let plain = RequestLines { model: "m", dimensions: None, encoding: "base64" };
        let fewer = RequestLines { model: "m", dimensions: Some(256), encoding: "base64" };
        let start = |id: &str| format!(r#"{{"custom_id":"{id}","method":"POST","url":"/v1/embeddings","body":"#);
        let table = [
            (plain, "a", "text", start("a") + r#"{"model":"m","input":"text","encoding_format":"base64"}}"#),
            (
                fewer,
                "b",
                "x\n\"ä",
                start("b") + r#"{"model":"m","input":"x\n\"ä","encoding_format":"base64","dimensions":256}}"#,
            ),
        ];
        for (lines, id, text, expected) in table {
            let mut written = Vec::new();
            let size = lines.write(id, text, &mut written).unwrap();
            assert_eq!(String::from_utf8_lossy(&written), expected + "\n");
            assert_eq!((size, lines.size(id, text)), (written.len() as u64, written.len() as u64));
        }
    }
}
