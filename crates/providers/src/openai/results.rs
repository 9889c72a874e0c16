//! Output and error files of a batch: several gigabytes, a line an item, in any order.
//!
//! Each thread takes a block of whole lines, reads them, and hands over what they say; the caller's thread takes it. So
//! memory holds a few blocks, and a line that is of no use costs one item. Lines come in no promised order, and what a
//! file says twice comes twice.

use std::io::{self, Read};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::result_line::outcome;
pub use super::result_line::{Flaw, ItemResult};

/// How result files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Above it a line is of no use. 3,072 floats take up to 70 kB.
    pub max_line_bytes: usize,
    pub threads: usize,
    /// What a thread takes at a time. Longer lines are read whole all the same, up to their limit.
    pub block_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { max_line_bytes: 2 << 20, threads: 2, block_bytes: 1 << 20 }
    }
}

/// Gives the outcome of every line that is not blank to `sink`, in groups, until it refuses one. Blocks; `sink` runs on
/// the caller's thread.
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
        // Ends with this closure, whichever way: that ends the threads.
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

/// Whole lines.
struct Block {
    bytes: Vec<u8>,
    /// The number of the first.
    first: u64,
}

impl Block {
    fn outcomes(&self, dimension: usize, max_line_bytes: usize) -> Vec<ItemResult> {
        let lines = self.bytes.split(|byte| *byte == b'\n').zip(self.first..);
        let read = |(line, number): (&[u8], u64)| match line.len() > max_line_bytes {
            true => ItemResult::Bad { line: number, why: "it is longer than a line may be" },
            false => outcome(line, number, dimension),
        };
        // Of what is too long the rest may not be here, so it is never called blank.
        let held = |(line, _): &(&[u8], u64)| line.len() > max_line_bytes || !line.trim_ascii().is_empty();
        lines.filter(held).map(read).collect()
    }
}

struct Blocks<R> {
    from: R,
    options: ReadOptions,
    /// The beginning of the next line.
    rest: Vec<u8>,
    /// Its number.
    line: u64,
    ended: bool,
}

impl<R: Read> Blocks<R> {
    /// The next lines; `None` behind the last and after an error.
    fn next(&mut self) -> io::Result<Option<Block>> {
        let ReadOptions { max_line_bytes, block_bytes, .. } = self.options;
        let block_bytes = block_bytes.max(1);
        let mut bytes = std::mem::take(&mut self.rest);
        while !self.ended {
            let old = bytes.len();
            // Should reading fail, nobody asks again.
            self.ended = true;
            bytes.reserve(block_bytes);
            let read = self.from.by_ref().take(block_bytes as u64).read_to_end(&mut bytes)?;
            self.ended = read < block_bytes;
            let fresh = bytes.get(old..).unwrap_or_default();
            if let Some(end) = fresh.iter().rposition(|byte| *byte == b'\n') {
                self.rest = bytes.split_off(old + end + 1);
                break;
            }
            // Of a line that is too long enough is kept to see that it is.
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
