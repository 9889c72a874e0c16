//! Reads output and error files of a batch. Such files can have several gigabytes, with one item on each line, in any
//! order.
//!
//! Each of several threads takes a block of whole lines, parses the lines, and sends the results to the caller's
//! thread. Memory therefore holds only a few blocks, and a bad line affects only one item. The order of the results
//! is not guaranteed, and duplicate lines yield duplicate results.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use flate2::read::MultiGzDecoder;

use super::client::GZIP;
use super::result_line::outcome;
pub use super::result_line::{Flaw, ItemResult, NO_BASE64};

/// Configures the reading of result files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Maximum length of a line, in bytes. A longer line is unusable. A vector of 3,072 floats takes up to 70 kB.
    pub max_line_bytes: usize,
    pub threads: usize,
    /// Size of the blocks that the threads take from the file, in bytes. If a single line is longer than a block, the
    /// line is still read as a whole, up to `max_line_bytes`.
    pub block_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { max_line_bytes: 2 << 20, threads: 2, block_bytes: 1 << 20 }
    }
}

/// Opens a result file. A compressed file is decompressed while it is read.
pub fn open_results(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    let mut first = Vec::new();
    (&mut file).take(GZIP.len() as u64).read_to_end(&mut first)?;
    file.rewind()?;
    Ok(if first == GZIP { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) })
}

/// Reads all lines that are not blank, and passes their results to `sink` in groups. Stops early if `sink` returns an
/// error. This function blocks, and `sink` runs on the caller's thread.
pub fn read_results<E: From<io::Error>>(
    from: impl Read + Send,
    dimension: usize,
    options: ReadOptions,
    mut sink: impl FnMut(Vec<ItemResult>) -> Result<(), E>,
) -> Result<(), E> {
    let blocks = Mutex::new(Blocks { from, options, rest: Vec::new(), line: 1, ended: false });
    let blocks = &blocks;
    thread::scope(|scope| {
        let threads = options.threads.max(1);
        // The channel closes when this closure ends in any way, which ends the threads.
        let (give, take) = sync_channel(threads);
        for _ in 0..threads {
            let give = give.clone();
            let read = move || read_blocks(blocks, dimension, options.max_line_bytes, &give);
            thread::Builder::new().name("results".into()).spawn_scoped(scope, read)?;
        }
        drop(give);
        take.into_iter().try_for_each(|group| sink(group?))
    })
}

fn read_blocks<R: Read>(
    blocks: &Mutex<Blocks<R>>,
    dimension: usize,
    max_line_bytes: usize,
    give: &SyncSender<io::Result<Vec<ItemResult>>>,
) {
    loop {
        let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let group = match next.transpose() {
            None => return,
            Some(block) => block.map(|block| block.outcomes(dimension, max_line_bytes)),
        };
        if give.send(group).is_err() {
            return;
        }
    }
}

/// Holds some whole lines of a file.
struct Block {
    bytes: Vec<u8>,
    /// Number of the first line in the block.
    first: u64,
}

impl Block {
    fn outcomes(&self, dimension: usize, max_line_bytes: usize) -> Vec<ItemResult> {
        let lines = self.bytes.split(|byte| *byte == b'\n').zip(self.first..);
        let read = |(line, number): (&[u8], u64)| match line.len() > max_line_bytes {
            true => ItemResult::Bad { line: number, why: "the line exceeds the length limit" },
            false => outcome(line, number, dimension),
        };
        // A line that is too long may be incomplete here, so it is never treated as blank.
        let held = |(line, _): &(&[u8], u64)| line.len() > max_line_bytes || !line.trim_ascii().is_empty();
        lines.filter(held).map(read).collect()
    }
}

struct Blocks<R> {
    from: R,
    options: ReadOptions,
    /// Bytes that are already read and belong to the next block.
    rest: Vec<u8>,
    /// Number of the first line in the next block.
    line: u64,
    ended: bool,
}

impl<R: Read> Blocks<R> {
    /// Returns the next block of lines, or `None` after the last line and after an error.
    fn next(&mut self) -> io::Result<Option<Block>> {
        let ReadOptions { max_line_bytes, block_bytes, .. } = self.options;
        let block_bytes = block_bytes.max(1);
        let mut bytes = std::mem::take(&mut self.rest);
        while !self.ended {
            let old = bytes.len();
            // If the read fails, `ended` stays true and no further read is tried.
            self.ended = true;
            bytes.reserve(block_bytes);
            let read = self.from.by_ref().take(block_bytes as u64).read_to_end(&mut bytes)?;
            self.ended = read < block_bytes;
            let fresh = bytes.get(old..).unwrap_or_default();
            if let Some(end) = fresh.iter().rposition(|byte| *byte == b'\n') {
                self.rest = bytes.split_off(old + end + 1);
                break;
            }
            // Keep just enough of a line that is too long to detect its length.
            bytes.truncate(max_line_bytes.saturating_add(1));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let first = self.line;
        self.line += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(Some(Block { bytes, first }))
    }
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;
