//! Processes the rows of a batch in constant memory. Reads the input file, and writes the output file and the error
//! file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use super::record::{Batch, Progress};
use crate::charges::Charge;
use crate::embeddings::{read, write};
use crate::faults::{Act, Rule};
use crate::problem::Problem;
use crate::vectors::hash;
use crate::world::World;

/// Size of the write buffer, in bytes.
const BUFFER: usize = 1 << 20;

/// Holds the open files of a batch, and the position of each input line.
pub struct Work {
    input: File,
    output: File,
    errors: File,
    /// Row number (from 0), byte offset and length in bytes of each line of the input file, in processing order.
    lines: Vec<(usize, u64, usize)>,
    pub progress: Progress,
    batch: Batch,
}

/// Returns the ids of the output file and the error file of a batch. The ids are known before the files are
/// published.
pub fn file_ids(world: &World, batch: &str) -> (String, String) {
    (world.id("file-", &format!("{batch}.output")), world.id("file-", &format!("{batch}.errors")))
}

impl Work {
    /// Opens the files, and skips the rows that the journal already records as processed.
    pub fn open(world: &World, batch: Batch) -> io::Result<Self> {
        let input = File::open(world.file_path(&batch.input_file_id))?;
        let (output, errors) = file_ids(world, &batch.id);
        let progress = batch.progress;
        let mut lines = index(&input)?;
        if outcome(&batch) == Some(Act::Shuffled) {
            fastrand::Rng::with_seed(hash(batch.id.as_bytes())).shuffle(&mut lines);
        }
        let open = |id: &str, length: u64| -> io::Result<File> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(world.file_path(id))?;
            file.set_len(length)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let (output, errors) = (open(&output, progress.output_bytes)?, open(&errors, progress.error_bytes)?);
        Ok(Self { input, output, errors, lines, progress, batch })
    }

    /// Returns the number of rows to process. If a fault is set to expire, cancel or halt the batch, only a share of
    /// the rows is processed before the fault takes effect. Without such a fault, all rows are processed.
    pub fn target(&self) -> u64 {
        let part = |share: f64| count(share, self.total());
        match self.batch.outcome.as_ref().map(|rule| (rule.act, rule.share)) {
            Some((Act::Expire | Act::Cancel, share)) => part(share.unwrap_or(0.5)),
            Some((Act::Stuck, share)) => part(share.unwrap_or(0.0)),
            _ => self.total(),
        }
    }

    fn total(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Processes the next rows, and returns their charges.
    pub fn rows(&mut self, world: &World, count: u64) -> io::Result<Vec<Charge>> {
        let (mut output, mut errors, mut charges) = (Vec::new(), Vec::new(), Vec::new());
        let target = self.target();
        for _ in 0..count.min(target.saturating_sub(self.progress.done)) {
            let (number, row) = self.line()?;
            self.progress.done += 1;
            let bent = self.bent(number);
            if bent == Some(Act::MissingLines) {
                continue;
            }
            match self.answer(world, number, &row, bent) {
                Ok((mut line, charge)) => {
                    let last = self.progress.done == target;
                    match bent {
                        Some(Act::BadLine) => line.truncate(line.len() / 2),
                        Some(Act::DuplicateLines) => line.extend_from_within(..),
                        Some(Act::Truncated) if last => line.truncate(line.len() / 2),
                        _ => {}
                    }
                    if bent == Some(Act::BadLine) {
                        line.push(b'\n');
                    }
                    output.extend_from_slice(&line);
                    charges.push(charge);
                    self.progress.completed += 1;
                }
                Err(problem) => {
                    let response = self.response(number, problem.status, &problem.body());
                    self.error_line(number, &row, &response, &Value::Null, &mut errors);
                }
            }
            if output.len() > BUFFER {
                self.output.write_all(&output)?;
                self.progress.output_bytes += output.len() as u64;
                output.clear();
            }
        }
        self.output.write_all(&output)?;
        self.errors.write_all(&errors)?;
        self.progress.output_bytes += output.len() as u64;
        self.progress.error_bytes += errors.len() as u64;
        Ok(charges)
    }

    /// Writes an expiry error for each row that is not processed.
    pub fn expire(&mut self) -> io::Result<()> {
        let error = json!({
            "code": "batch_expired",
            "message": "This request could not be executed before the completion window expired.",
        });
        let mut errors = Vec::new();
        while self.progress.done < self.total() {
            let (number, row) = self.line()?;
            self.progress.done += 1;
            self.error_line(number, &row, &Value::Null, &error, &mut errors);
        }
        self.errors.write_all(&errors)?;
        self.progress.error_bytes += errors.len() as u64;
        Ok(())
    }

    fn line(&self) -> io::Result<(usize, Value)> {
        let at = usize::try_from(self.progress.done).unwrap_or(usize::MAX);
        let Some(&(number, offset, length)) = self.lines.get(at) else {
            return Err(io::Error::other("the input file has fewer lines than before"));
        };
        let mut line = vec![0; length];
        self.input.read_exact_at(&mut line, offset)?;
        Ok((number, serde_json::from_slice(&line)?))
    }

    /// Returns the fault that affects this row, if any.
    fn bent(&self, number: usize) -> Option<Act> {
        let rule = self.batch.outcome.as_ref()?;
        match rule.act {
            Act::Truncated => Some(rule.act),
            act => chosen(rule, number as u64, self.total()).then_some(act),
        }
    }

    fn answer(
        &self,
        world: &World,
        number: usize,
        row: &Value,
        bent: Option<Act>,
    ) -> Result<(Vec<u8>, Charge), Problem> {
        let custom_id = row["custom_id"].as_str().unwrap_or_default();
        if bent == Some(Act::ErrorLines) {
            let code = self.batch.outcome.as_ref().and_then(|rule| rule.code);
            let status = code.unwrap_or(if number.is_multiple_of(2) { 400 } else { 500 });
            return Err(Problem::new(status, "The server had an error while processing your request."));
        }
        let asked = read(world, &row["body"])?;
        let (id, request) = self.names(number);
        let mut line = format!(
            r#"{{"id": "{id}", "custom_id": {}, "response": {{"status_code": 200, "request_id": "{request}", "body": "#,
            json!(custom_id)
        )
        .into_bytes();
        write(world, &asked, bent, &mut line).map_err(|error| Problem::internal("write a row", error))?;
        line.extend_from_slice(b"}, \"error\": null}\n");
        let charge = world.charge(&self.batch.key, asked.model, &asked.inputs, asked.tokens, Some(custom_id));
        Ok((line, charge))
    }

    fn names(&self, number: usize) -> (String, String) {
        let name = hash(format!("{}/{number}", self.batch.id).as_bytes());
        (format!("batch_req_{name:016x}"), format!("req_{:016x}", name.rotate_left(32)))
    }

    fn response(&self, number: usize, status: u16, body: &Value) -> Value {
        json!({"status_code": status, "request_id": self.names(number).1, "body": body})
    }

    fn error_line(&mut self, number: usize, row: &Value, response: &Value, error: &Value, out: &mut Vec<u8>) {
        let id = self.names(number).0;
        let line = json!({"id": id, "custom_id": row["custom_id"], "response": response, "error": error});
        out.extend_from_slice(line.to_string().as_bytes());
        out.push(b'\n');
        self.progress.failed += 1;
    }
}

fn outcome(batch: &Batch) -> Option<Act> {
    batch.outcome.as_ref().map(|rule| rule.act)
}

/// Returns the row number (from 0), byte offset and length in bytes of each line that is not blank.
fn index(input: &File) -> io::Result<Vec<(usize, u64, usize)>> {
    let mut reader = BufReader::new(input);
    let (mut lines, mut offset, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(lines);
        }
        if !line.trim_ascii().is_empty() {
            lines.push((lines.len(), offset, length));
        }
        offset += length as u64;
        line.clear();
    }
}

/// Converts a share of the rows to a number of rows, rounded up. A small correction compensates for inexact floats,
/// so that 0.1 of 30 rows is 3 rows and not 4.
fn count(share: f64, total: u64) -> u64 {
    ((share * total as f64 - 1e-9).ceil() as u64).min(total)
}

/// Returns whether the fault rule affects the row `number`. The field `share` of the rule states which share of the
/// rows is affected; these rows are spread evenly over the batch. Without `share`, one row is affected.
fn chosen(rule: &Rule, number: u64, total: u64) -> bool {
    let count = rule.share.map_or(1, |share| count(share, total));
    (number + 1) * count / total.max(1) > number * count / total.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::On;

    #[test]
    fn a_share_is_exact_and_spread_out() {
        let rows = |share: Option<f64>, total| {
            let mut rule = Rule::new(On::BatchOutcome, Act::MissingLines);
            rule.share = share;
            (0..total).filter(|&number| chosen(&rule, number, total)).collect::<Vec<_>>()
        };
        assert_eq!(rows(None, 10), [9]);
        assert_eq!(rows(Some(0.1), 30), [9, 19, 29]);
        assert_eq!(rows(Some(0.5), 5), [1, 3, 4]);
        assert_eq!(rows(Some(0.01), 3), [2]);
        assert_eq!(rows(Some(1.0), 3), [0, 1, 2]);
        assert_eq!(rows(Some(0.0), 3), [0; 0]);
    }
}
