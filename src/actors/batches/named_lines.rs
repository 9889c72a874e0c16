//! Finds the items on the lines of a batch's input file that the provider reports as invalid.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use docweir_core::error::StageError;
use docweir_objects::ObjectError;
use docweir_providers::openai::{CallError, TransferError};
use docweir_stores::batches::Batch;
use serde::Deserialize;

use super::context::BatchContext;

/// Maximum length of a line, in bytes. A longer line names no item.
const MAX_LINE_BYTES: u64 = 16 << 20;

#[derive(Deserialize)]
struct RequestLine {
    custom_id: String,
}

/// Returns the keys of the items on the lines that the provider reports as invalid. The keys are read from the file that
/// was sent, because the items of the batch may have changed since. Returns an empty list if the file no longer exists.
pub async fn named_items(context: &BatchContext, batch: &Batch) -> Result<Vec<String>, StageError> {
    let key = BatchContext::input_key(&batch.id);
    let copy = context.folder.join(format!("{}.sent.jsonl", batch.id));
    let local = context.objects.local_path(&key).filter(|path| path.exists());
    let path = match &local {
        Some(path) => path,
        None if fetch(context, batch, &key, &copy).await? => &copy,
        None => return Ok(Vec::new()),
    };
    let broken = |e: &dyn std::fmt::Display| StageError::system("batch_file", format!("{}: {e}", path.display()));
    let (file, lines) = (path.clone(), batch.error_lines.iter().copied().collect());
    let keys = tokio::task::spawn_blocking(move || keys_on(&file, &lines)).await.map_err(|e| broken(&e))?;
    let _ = std::fs::remove_file(&copy);
    keys.map_err(|e| broken(&e))
}

/// Copies the file that was sent from Docweir's store, or else from the provider. Returns whether one of them has it.
async fn fetch(context: &BatchContext, batch: &Batch, key: &str, to: &Path) -> Result<bool, StageError> {
    let broken = |e: &dyn std::fmt::Display| StageError::system("batch_file", format!("{}: {e}", to.display()));
    let file = File::create(to).map_err(|e| broken(&e))?;
    match context.objects.read_into(key, file).await {
        Ok(_) => return Ok(true),
        Err(ObjectError::NotFound(_)) => {}
        Err(error) => return Err(crate::actors::outcomes::storage(error)),
    }
    let _ = std::fs::remove_file(to);
    let Some(file) = &batch.input_file_id else { return Ok(false) };
    match context.client.download(file, to, &context.options.transfer).await {
        Ok(_) => Ok(true),
        // A file that cannot be read back must not keep the other items of the batch from being sent again.
        Err(TransferError::Call(
            error @ (CallError::Missing(_) | CallError::Unknown(_) | CallError::Forbidden(_) | CallError::Refused(_)),
        )) => {
            tracing::warn!(batch = batch.id, %error, "sent file cannot be read back; invalid lines name no items");
            Ok(false)
        }
        Err(error @ TransferError::Local { .. }) => Err(broken(&error)),
        Err(error) => Err(StageError::unavailable("provider_failed", error.to_string())),
    }
}

/// Returns the ids on these lines of a file, counted from 1.
fn keys_on(path: &Path, lines: &HashSet<u64>) -> std::io::Result<Vec<String>> {
    let last = lines.iter().max().copied().unwrap_or_default();
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut keys, mut line) = (Vec::new(), Vec::new());
    for number in 1..=last {
        line.clear();
        if std::io::Read::take(&mut reader, MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if lines.contains(&number)
            && let Ok(RequestLine { custom_id }) = serde_json::from_slice(&line)
        {
            keys.push(custom_id);
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_item_that_was_sent_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input.jsonl");
        let line = |id: &str| format!(r#"{{"custom_id":"{id}","method":"POST","body":{{"input":"x"}}}}"#);
        std::fs::write(&path, [line("a"), line("b"), "not JSON".into(), line("d")].join("\n")).unwrap();
        let on = |lines: &[u64]| keys_on(&path, &lines.iter().copied().collect()).unwrap();
        assert_eq!(on(&[2]), ["b"]);
        assert_eq!(on(&[4, 1, 3, 9]), ["a", "d"]);
        assert_eq!(on(&[]), [""; 0]);
    }
}
