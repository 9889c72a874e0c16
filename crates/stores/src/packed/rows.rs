//! Reads and writes the rows of the file, within one transaction.

use std::cell::RefCell;
use std::io::{Read, Write};

use bytes::Bytes;
use docweir_core::clock::UnixMicros;
use docweir_objects::ObjectMeta;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use rusqlite::types::Type;
use rusqlite::{Error, OptionalExtension, Transaction, params};

use crate::sqlite::Schema;

/// `bytes` is the length of the object. `body` is compressed (DEFLATE) if it is shorter than `bytes`.
pub const SCHEMA: Schema = Schema {
    application_id: 0x6477_6f62, // "dwob"
    version: 1,
    tables: "CREATE TABLE objects (
        key TEXT NOT NULL PRIMARY KEY,
        modified INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        body BLOB NOT NULL
    );",
    upgrades: &[],
};

/// Holds an object that is stored as a row.
pub struct Row {
    pub body: Bytes,
    /// Time of the last write, in Unix microseconds.
    pub modified: UnixMicros,
}

/// Gives access to the rows within one transaction.
pub struct Rows<'t>(pub &'t Transaction<'t>);

type Result<T> = std::result::Result<T, Error>;

impl Rows<'_> {
    pub fn get(&self, key: &str) -> Result<Option<Row>> {
        let mut statement = self.0.prepare_cached("SELECT bytes, modified, body FROM objects WHERE key = ?1")?;
        let row = statement.query_row([key], |row| {
            let (bytes, modified): (i64, i64) = (row.get(0)?, row.get(1)?);
            let bytes = u64::try_from(bytes).map_err(|_| damaged())?;
            let body = unpack(row.get_ref(2)?.as_blob()?, bytes).ok_or_else(damaged)?;
            Ok(Row { body, modified })
        });
        row.optional()
    }

    pub fn put(&self, key: &str, body: &Packed, now: UnixMicros) -> Result<()> {
        let sql = "INSERT INTO objects (key, modified, bytes, body) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (key) DO UPDATE SET modified = ?2, bytes = ?3, body = ?4";
        self.0.prepare_cached(sql)?.execute(params![key, now, body.bytes as i64, &*body.stored])?;
        Ok(())
    }

    pub fn delete(&self, key: &str) -> Result<()> {
        self.0.prepare_cached("DELETE FROM objects WHERE key = ?1")?.execute([key])?;
        Ok(())
    }

    /// Lists at most `limit` rows in byte order of their keys.
    pub fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        // All keys with the prefix are below the prefix with the highest character appended.
        let sql = "SELECT key, bytes, modified FROM objects
            WHERE key >= ?1 AND key < ?1 || char(1114111) AND key > ?2 ORDER BY key LIMIT ?3";
        let mut statement = self.0.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![prefix, after.unwrap_or_default(), limit], |row| {
            let bytes: i64 = row.get(1)?;
            Ok(ObjectMeta { key: row.get(0)?, bytes: bytes.unsigned_abs(), modified: row.get(2)? })
        })?;
        rows.collect()
    }
}

/// Holds a body as it is stored.
pub struct Packed {
    /// Length of the body.
    bytes: usize,
    /// The compressed body, or the body itself if compression does not make it shorter.
    stored: Bytes,
}

impl Packed {
    pub fn of(body: Bytes) -> Self {
        Self { bytes: body.len(), stored: pack(&body).map_or_else(|| body.clone(), Bytes::from) }
    }
}

/// Compresses a body. Returns `None` if the result would not be shorter.
fn pack(body: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        // A compressor has tables of 300 kB. Making them costs more than compressing a small body.
        static ENCODER: RefCell<DeflateEncoder<Vec<u8>>> =
            RefCell::new(DeflateEncoder::new(Vec::new(), Compression::fast()));
    }
    ENCODER.with_borrow_mut(|encoder| {
        let written = encoder.write_all(body);
        // Ends the stream and begins the next one, also after an error.
        let packed = encoder.reset(Vec::new());
        written.and(packed).ok().filter(|packed| packed.len() < body.len())
    })
}

/// Restores a body of `bytes` bytes. Returns `None` if the row is damaged. Never yields more than `bytes` bytes.
fn unpack(stored: &[u8], bytes: u64) -> Option<Bytes> {
    if stored.len() as u64 == bytes {
        return Some(Bytes::copy_from_slice(stored));
    }
    let mut body = Vec::new();
    DeflateDecoder::new(stored).take(bytes).read_to_end(&mut body).ok()?;
    (body.len() as u64 == bytes).then(|| body.into())
}

fn damaged() -> Error {
    Error::FromSqlConversionFailure(3, Type::Blob, "the object's bytes are damaged".into())
}

#[cfg(test)]
mod row_tests {
    use super::{pack, unpack};

    #[test]
    fn a_body_comes_back_whether_or_not_it_can_be_compressed() {
        let mut random = fastrand::Rng::with_seed(7);
        let noise: Vec<u8> = (0..5_000).map(|_| random.u8(..)).collect();
        for body in [&b""[..], b"a", b"abc", &[0; 70_000], &noise] {
            let packed = pack(body);
            let stored = packed.as_deref().unwrap_or(body);
            assert!(stored.len() <= body.len());
            assert_eq!(unpack(stored, body.len() as u64).unwrap(), body);
        }
        assert!(pack(&[0; 70_000]).unwrap().len() < 1_000);
        assert_eq!(pack(&noise), None);
    }

    #[test]
    fn a_damaged_body_is_never_taken_for_whole() {
        let body = "many words, ".repeat(100);
        let packed = pack(body.as_bytes()).unwrap();
        assert_eq!(unpack(&packed[..packed.len() / 2], body.len() as u64), None);
        assert_eq!(unpack(b"nonsense", body.len() as u64), None);
        assert_eq!(unpack(&packed, body.len() as u64 + 1), None);
    }
}
