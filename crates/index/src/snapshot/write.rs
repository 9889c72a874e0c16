//! Writes a snapshot sequentially. Only the directory is kept in memory.

use std::io::{self, Write};

use super::{ALIGNMENT, Directory, MAGIC, SectionEntry, SnapshotHeader};
use crate::columns::Strings;

pub struct SnapshotWriter<'o> {
    out: &'o mut dyn Write,
    at: u64,
    whole: crc32fast::Hasher,
    sections: Vec<SectionEntry>,
    /// Checksum of the section that is being written.
    crc: crc32fast::Hasher,
    /// Buffer for small writes, because a dynamic call for each number would be slower than the write itself.
    buffer: Vec<u8>,
}

const BUFFER: usize = 64 << 10;

impl<'o> SnapshotWriter<'o> {
    pub fn begin(out: &'o mut dyn Write) -> io::Result<Self> {
        let mut this = Self {
            out,
            at: 0,
            whole: crc32fast::Hasher::new(),
            sections: Vec::new(),
            crc: crc32fast::Hasher::new(),
            buffer: Vec::with_capacity(BUFFER),
        };
        this.write_all(MAGIC)?;
        this.align()?;
        Ok(this)
    }

    /// Writes one section. `fill` writes the content of the section.
    pub fn section(&mut self, name: &str, fill: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.flush_buffer()?;
        let offset = self.at;
        self.crc = crc32fast::Hasher::new();
        fill(self)?;
        self.flush_buffer()?;
        let crc32 = std::mem::take(&mut self.crc).finalize();
        self.sections.push(SectionEntry { name: name.to_owned(), offset, bytes: self.at - offset, crc32 });
        self.align()
    }

    /// Writes the two sections of a column of texts.
    pub fn strings(&mut self, names: [&str; 2], strings: &Strings) -> io::Result<()> {
        let [offsets, bytes] = names;
        self.section(offsets, |w| {
            let mut at = 0u64;
            w.write_all(&at.to_le_bytes())?;
            (0..strings.len()).try_for_each(|i| {
                at += strings.raw(i).len() as u64;
                w.write_all(&at.to_le_bytes())
            })
        })?;
        self.section(bytes, |w| (0..strings.len()).try_for_each(|i| w.write_all(strings.raw(i))))
    }

    pub fn u32s(&mut self, name: &str, numbers: impl Iterator<Item = u32>) -> io::Result<()> {
        self.section(name, |w| {
            let mut numbers = numbers;
            numbers.try_for_each(|n| w.write_all(&n.to_le_bytes()))
        })
    }

    pub fn u64s(&mut self, name: &str, numbers: impl Iterator<Item = u64>) -> io::Result<()> {
        self.section(name, |w| {
            let mut numbers = numbers;
            numbers.try_for_each(|n| w.write_all(&n.to_le_bytes()))
        })
    }

    /// Writes the directory and the trailer. Returns the size and the CRC-32 of the whole file.
    pub fn finish(mut self, header: SnapshotHeader) -> io::Result<(u64, u32)> {
        let directory = Directory { header, sections: std::mem::take(&mut self.sections) };
        let directory = serde_json::to_vec(&directory)?;
        let crc = crc32fast::hash(&directory);
        self.write_all(&directory)?;
        self.write_all(&(directory.len() as u64).to_le_bytes())?;
        self.write_all(&crc.to_le_bytes())?;
        self.write_all(&[0; 4])?;
        self.write_all(MAGIC)?;
        self.flush_buffer()?;
        self.out.flush()?;
        Ok((self.at, self.whole.finalize()))
    }

    fn align(&mut self) -> io::Result<()> {
        self.flush_buffer()?;
        let padding = (ALIGNMENT - self.at % ALIGNMENT) % ALIGNMENT;
        self.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
        self.flush_buffer()
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.put(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.whole.update(bytes);
        self.crc.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl Write for SnapshotWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush_buffer()?;
        }
        if bytes.len() >= BUFFER {
            self.put(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()
    }
}
