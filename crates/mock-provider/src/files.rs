//! Serves `/v1/files`: uploads, lists, returns and deletes files. The data folder stores the content of each file
//! under the id of the file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use multer::Multipart;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::unix_millis;
use crate::ledger::Event;
use crate::problem::Problem;
use crate::query;
use crate::reply::{Reply, open_part};
use crate::world::World;

/// Maximum size of an upload in bytes, for any purpose.
const MAX_BYTES: u64 = 512 * 1000 * 1000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredFile {
    pub id: String,
    pub number: u64,
    pub bytes: u64,
    pub created_at: u64,
    pub filename: String,
    pub purpose: String,
}

impl StoredFile {
    fn shown(&self) -> Value {
        json!({
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": null,
            "status": "processed",
            "status_details": null,
        })
    }
}

/// Creates the record of a file that a batch has written to the data folder.
pub fn written_by_batch(world: &World, id: &str, number: u64, filename: String) -> io::Result<StoredFile> {
    let bytes = fs::metadata(world.file_path(id))?.len();
    let (id, created_at) = (id.to_string(), unix_millis() / 1000);
    Ok(StoredFile { id, number, bytes, created_at, filename, purpose: "batch_output".into() })
}

pub async fn upload(world: &World, content_type: Option<&str>, body: Incoming) -> Result<Reply, Problem> {
    let boundary = content_type.and_then(|kind| multer::parse_boundary(kind).ok()).ok_or_else(|| {
        Problem::new(400, "Invalid Content-Type header, expected multipart/form-data with a boundary.")
    })?;
    let number = world.ledger().next_number();
    let id = world.id("file-", &number.to_string());
    let path = world.file_path(&id);
    let stored = receive(Multipart::new(BodyDataStream::new(body), boundary), &path).await.and_then(|parts| {
        let file = check(world, parts, id, number)?;
        world.record(vec![Event::File(file.clone())])?;
        Ok(file)
    });
    if stored.is_err() {
        let _ = fs::remove_file(&path);
    }
    Ok(Reply::json(&stored?.shown()))
}

#[derive(Default)]
struct Parts {
    purpose: Option<String>,
    filename: Option<String>,
    bytes: u64,
}

/// Receives the parts of an upload form: the file and its purpose. The parts may arrive in any order. The file is
/// therefore stored at once and checked later, when the purpose is known.
async fn receive(mut form: Multipart<'_>, path: &Path) -> Result<Parts, Problem> {
    let broken = |error: multer::Error| Problem::new(400, format!("Could not parse multipart form: {error}"));
    let disk = |error: io::Error| Problem::internal("keep a file", error);
    let mut parts = Parts::default();
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        match field.name() {
            Some("purpose") => parts.purpose = Some(field.text().await.map_err(broken)?),
            Some("file") => {
                parts.filename = Some(field.file_name().unwrap_or("file").to_string());
                let mut out = BufWriter::new(File::create(path).map_err(disk)?);
                while let Some(piece) = field.chunk().await.map_err(broken)? {
                    parts.bytes += piece.len() as u64;
                    if parts.bytes > MAX_BYTES {
                        return Err(Problem::new(413, format!("Maximum content size limit ({MAX_BYTES}) exceeded")));
                    }
                    out.write_all(&piece).map_err(disk)?;
                }
                out.flush().map_err(disk)?;
            }
            _ => while field.chunk().await.map_err(broken)?.is_some() {},
        }
    }
    Ok(parts)
}

fn check(world: &World, parts: Parts, id: String, number: u64) -> Result<StoredFile, Problem> {
    let missing = |name: &'static str| {
        Problem::new(400, format!("Missing required parameter: '{name}'."))
            .param(name)
            .code("missing_required_parameter")
    };
    let purpose = parts.purpose.ok_or_else(|| missing("purpose"))?;
    let filename = parts.filename.ok_or_else(|| missing("file"))?;
    if !["assistants", "batch", "evals", "fine-tune", "user_data", "vision"].contains(&purpose.as_str()) {
        let text = format!("'{purpose}' is not one of the purposes that a file may have - 'purpose'");
        return Err(Problem::new(400, text).param("purpose"));
    }
    let most = world.options.limits.batch_file_bytes;
    if purpose == "batch" && parts.bytes > most {
        let text = format!("File is too large for purpose 'batch': {} bytes, the maximum is {most}.", parts.bytes);
        return Err(Problem::new(400, text).param("file").code("file_too_large"));
    }
    if parts.bytes == 0 {
        return Err(Problem::new(400, "File is empty.").param("file"));
    }
    Ok(StoredFile { id, number, bytes: parts.bytes, created_at: unix_millis() / 1000, filename, purpose })
}

fn find(world: &World, id: &str) -> Result<StoredFile, Problem> {
    let unknown = || Problem::new(404, format!("No such File object: {id}")).param("id");
    world.ledger().file(id).cloned().ok_or_else(unknown)
}

pub fn get(world: &World, id: &str) -> Result<Reply, Problem> {
    Ok(Reply::json(&find(world, id)?.shown()))
}

pub fn delete(world: &World, id: &str) -> Result<Reply, Problem> {
    find(world, id)?;
    world.record(vec![Event::FileGone { id: id.into() }])?;
    // A download that is running may finish, because Unix keeps the content until then.
    let _ = fs::remove_file(world.file_path(id));
    Ok(Reply::json(&json!({"id": id, "object": "file", "deleted": true})))
}

pub fn list(world: &World, query: Option<&str>) -> Result<Reply, Problem> {
    let ledger = world.ledger();
    let mut files = ledger.files();
    if let Some(purpose) = query::value(query, "purpose") {
        files.retain(|file| file.purpose == purpose);
    }
    if query::value(query, "order") == Some("asc") {
        files.reverse();
    }
    let items = files.into_iter().map(|file| (file.id.as_str(), file.shown())).collect();
    Ok(Reply::json(&query::page(items, query, 10_000, 10_000)?))
}

pub fn content(world: &World, id: &str, range: Option<&str>) -> Result<Reply, Problem> {
    let file = find(world, id)?;
    let ranges = world.options.ranges;
    let part = match range.filter(|_| ranges) {
        None => None,
        Some(range) => Some(part(range, file.bytes).ok_or_else(|| {
            let mut problem =
                Problem::new(416, format!("The range '{range}' is not within the file's {} bytes.", file.bytes));
            problem.headers.push(("content-range", format!("bytes */{}", file.bytes)));
            problem
        })?),
    };
    let (from, length) = part.unwrap_or((0, file.bytes));
    let content = open_part(&world.file_path(id), from, length)
        .map_err(|error| Problem::internal("open the content of a file", error))?;
    let mut headers = vec![("content-type", "application/octet-stream".to_string())];
    if ranges {
        headers.push(("accept-ranges", "bytes".into()));
    }
    let mut status = 200;
    if part.is_some() {
        status = 206;
        headers.push(("content-range", format!("bytes {from}-{}/{}", from + length - 1, file.bytes)));
    }
    Ok(Reply { status, headers, content })
}

/// Returns the start and the length, in bytes, of a range such as `bytes=100-` or `bytes=100-199`.
fn part(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let end = if to.is_empty() { size } else { to.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    (from < end).then(|| (from, end - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_within_the_file() {
        for (range, expected) in [
            ("bytes=0-", Some((0, 100))),
            ("bytes=40-", Some((40, 60))),
            ("bytes=40-49", Some((40, 10))),
            ("bytes=40-400", Some((40, 60))),
            ("bytes=100-", None),
            ("bytes=-5", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(part(range, 100), expected, "{range}");
        }
    }
}
