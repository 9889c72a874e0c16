//! Opens files of records, and decompresses those that are compressed with gzip.
//!
//! A file counts as compressed if it begins with the two bytes that every gzip file begins with. Its name does not
//! matter, because browsers and servers decompress files without renaming them. A file of several gzip members, as
//! `cat` and parallel compressors make them, is one text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use docweir_core::files::open_regular;
use flate2::bufread::MultiGzDecoder;

use super::error::RecordError;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Size of the buffer for the file and of the buffer for the decompressed text, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// Reads an opened file as text.
pub type OpenedFile = Box<dyn BufRead + Send>;

/// Opens a regular file.
///
/// # Errors
/// Returns the error of the system, or `InvalidInput` if the file is not a regular file.
pub(super) fn open(path: &Path) -> io::Result<OpenedFile> {
    decompressed(BufReader::with_capacity(BUFFER_BYTES, open_regular(path)?))
}

fn decompressed(mut file: BufReader<File>) -> io::Result<OpenedFile> {
    match file.fill_buf()?.starts_with(&GZIP) {
        false => Ok(Box::new(file)),
        true => {
            let marked = Marked(MultiGzDecoder::new(file));
            Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, marked)))
        }
    }
}

/// Marks errors of the decompression, to tell them from errors of the disk.
struct Marked<R>(R);

#[derive(Debug, thiserror::Error)]
#[error("invalid gzip data")]
struct InvalidGzip {
    problem: &'static str,
}

impl<R: Read> Read for Marked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let problem = match error.kind() {
                io::ErrorKind::UnexpectedEof => "end too early",
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => "are damaged",
                _ => return error,
            };
            io::Error::new(error.kind(), InvalidGzip { problem })
        })
    }
}

/// Converts an error of reading the file.
pub(super) fn error(error: io::Error) -> RecordError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<InvalidGzip>()) {
        Some(InvalidGzip { problem }) => RecordError::Compressed { problem },
        None => RecordError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use crate::{Records, RecordsOptions, Shape};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(from: usize, to: usize) -> String {
        // Hashes, so that the text cannot be compressed to almost nothing.
        let text = |n: usize| docweir_core::documents::Sha256Hex::of(&n.to_le_bytes());
        (from..to).map(|n| format!("{{\"id\":{n},\"text\":\"{}\"}}\n", text(n).as_str())).collect()
    }

    /// Returns the number of good records, and the line and the message of each refusal.
    fn read(bytes: &[u8], limit: usize) -> (u64, Vec<(u64, String)>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let shape = Shape::Records { id: "id".into(), text: "text".into() };
        let options = RecordsOptions { max_record_bytes: limit, ..RecordsOptions::default() };
        let (mut good, mut bad) = (0, Vec::new());
        for (line, result) in Records::open(file.path(), shape, options).unwrap() {
            match result {
                Ok(items) => good += items.len() as u64,
                Err(error) => bad.push((line, error.to_string())),
            }
        }
        (good, bad)
    }

    #[test]
    fn compressed_files_are_read_like_others() {
        let text = format!("\u{feff}{}\r\n[]\n{}", lines(0, 500), lines(500, 20_000));
        let (first, rest) = text.as_bytes().split_at(70_000);
        let members = [gzip(first), gzip(b""), gzip(rest)].concat();
        let refused =
            vec![(502, "the record is JSON but not an object: write one whole JSON object on each line".into())];
        for file in [text.as_bytes(), &gzip(text.as_bytes()), &members] {
            assert_eq!(read(file, 1_024), (20_000, refused.clone()));
        }
        assert_eq!(read(&gzip(b""), 1_024), (0, vec![]));
    }

    #[test]
    fn a_file_that_ends_early_or_is_damaged_is_refused_from_there_on() {
        let whole = gzip(lines(0, 20_000).as_bytes());
        let (good, bad) = read(&whole[..whole.len() / 2], 1_024);
        assert!((5_000..15_000).contains(&good), "{good}");
        assert_eq!(bad.len(), 1);
        assert!(bad[0].0 == good + 1 && bad[0].1.starts_with("the compressed data end too early, so"), "{bad:?}");
        // Without its last bytes, the file has all lines but no checksum.
        let (good, bad) = read(&whole[..whole.len() - 3], 1_024);
        assert!(good == 20_000 && bad.len() == 1 && bad[0].1.contains("end too early"), "{good} {bad:?}");
        for at in [whole.len() / 2, whole.len() - 6] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let (good, bad) = read(&damaged, 1_024);
            assert!(
                good <= 20_000 && bad.last().is_some_and(|bad| bad.1.contains("compressed data")),
                "{good} {bad:?}"
            );
        }
        let (good, bad) = read(&[gzip(lines(0, 9).as_bytes()), b"more".to_vec()].concat(), 1_024);
        assert!(good == 9 && bad.len() == 1, "{good} {bad:?}");
        // A file that is not compressed has no such errors, whatever its name says.
        assert_eq!(read(&[0x1f], 1_024).1.len(), 1);
    }

    #[test]
    fn limits_hold_for_the_decompressed_text() {
        // A line of 64 MiB takes 64 kB in the file.
        let long = format!("{}\n{}", " x".repeat(32 << 20), lines(0, 3));
        let (good, bad) = read(&gzip(long.as_bytes()), 2_048);
        assert_eq!((good, bad.len()), (3, 1));
        assert!(bad[0].0 == 1 && bad[0].1.starts_with("the record is longer than 2048 bytes"), "{bad:?}");
    }
}
