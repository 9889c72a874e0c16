//! Writes the merged file, column by column.

use std::collections::HashMap;
use std::io::{self, Write};

use docweir_core::cancel::Cancel;

use super::postings::write_postings;
use super::{Input, Plan};
use crate::columns::{Labels, Strings, StringsBuilder, number};
use crate::options::Stemming;
use crate::search::codes;
use crate::search::tokens;
use crate::segment::Segment;
use crate::snapshot::{FORMAT, Origin, SnapshotHeader, SnapshotWriter, section};

/// Describes a completely written merged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    pub bytes: u64,
    /// CRC-32 of the whole file.
    pub crc32: u32,
}

/// Number of documents between two checks for cancellation.
const POLL_INTERVAL: usize = 1_024;

/// Writes the merged file with the documents of `plan` to `out`.
pub fn write(
    inputs: &[Input],
    plan: &Plan,
    stemming: Stemming,
    origin: Origin,
    out: &mut dyn Write,
    cancelled: &Cancel,
) -> io::Result<Merged> {
    let mut merge = Merge { inputs, plan, cancelled, out: SnapshotWriter::begin(out)? };
    merge.documents()?;
    merge.rows()?;
    merge.vectors(origin.model.dimension as usize)?;
    write_postings(inputs, plan, stemming, &mut merge.out, cancelled)?;
    let header = SnapshotHeader {
        format: FORMAT,
        origin,
        rows: plan.rows,
        documents: plan.documents,
        tombstones: plan.tombstones,
        stemming,
        tokens_version: tokens::VERSION,
        codes_version: codes::VERSION,
    };
    let (bytes, crc32) = merge.out.finish(header)?;
    Ok(Merged { bytes, crc32 })
}

struct Merge<'m, 'o> {
    inputs: &'m [Input],
    plan: &'m Plan,
    cancelled: &'m Cancel,
    out: SnapshotWriter<'o>,
}

/// Function that returns one column of an opened file.
type Column<T> = fn(&Segment) -> &T;

impl<'m> Merge<'m, '_> {
    fn documents(&mut self) -> io::Result<()> {
        self.document_texts(section::DOCUMENT_IDS, |s| &s.documents().ids)?;
        self.document_texts(section::DOCUMENT_SOURCES, |s| &s.documents().sources)?;
        if self.plan.each(self.inputs).any(|(s, document)| !s.documents().parents.raw(document).is_empty()) {
            self.document_texts(section::DOCUMENT_PARENTS, |s| &s.documents().parents)?;
        }
        self.document_texts(section::DOCUMENT_FACTS, |s| &s.documents().facts)?;
        let (plan, inputs) = (self.plan, self.inputs);
        let versions = plan.each(inputs).map(|(s, document)| s.documents().version(document));
        self.out.u64s(section::DOCUMENT_VERSIONS, versions)?;
        let mut row = 0;
        let starts = plan.stretches(inputs).map(|(_, rows)| {
            row += rows.len() as u32;
            row
        });
        self.out.u32s(section::DOCUMENT_STARTS, std::iter::once(0).chain(starts))?;
        let mut flags = plan.each(inputs).map(|(s, document)| u8::from(s.documents().is_tombstone(document)));
        self.out.section(section::DOCUMENT_TOMBSTONES, |w| flags.try_for_each(|flag| w.write_all(&[flag])))?;
        match plan.tombstones {
            0 => Ok(()),
            _ => self.out.u64s(section::TOMBSTONES_ADDED, plan.tombstones_added(inputs)),
        }
    }

    fn document_texts(&mut self, [offsets, texts]: [&str; 2], column: Column<Strings>) -> io::Result<()> {
        let (plan, inputs) = (self.plan, self.inputs);
        let mut end = 0;
        let ends = plan.each(inputs).map(|(s, document)| {
            end += column(s).raw(document).len() as u64;
            end
        });
        self.out.u64s(offsets, std::iter::once(0).chain(ends))?;
        let mut each = plan.each(inputs);
        self.out.section(texts, |w| each.try_for_each(|(s, document)| w.write_all(column(s).raw(document))))
    }

    fn rows(&mut self) -> io::Result<()> {
        self.texts(section::CHUNK_IDS, |s| &s.columns().chunk_ids)?;
        self.texts(section::TEXTS, |s| &s.columns().texts)?;
        self.texts(section::METADATA, |s| &s.columns().metadata)?;
        self.labels(section::KINDS, |s| &s.columns().kinds)?;
        self.labels(section::LANGUAGES, |s| &s.columns().languages)?;
        self.labels(section::HEADINGS, |s| &s.columns().headings)?;
        self.u32s(section::ORDINALS, |s, row| number(&s.columns().ordinals, row))?;
        self.u32s(section::PAGE_FIRST, |s, row| number(&s.columns().page_first, row))?;
        self.u32s(section::PAGE_LAST, |s, row| number(&s.columns().page_last, row))?;
        self.u32s(section::TOKENS, |s, row| number(&s.columns().tokens, row))?;
        let spans = self.each_row().flat_map(|(s, row)| (0..4).map(move |i| number(&s.columns().spans, 4 * row + i)));
        self.out.u64s(section::SPANS, spans)?;
        let mut end = 0;
        let ends = self.each_row().map(|(s, row)| {
            end += boxes(s, row).len() as u64;
            end
        });
        self.out.u64s(section::BOX_STARTS, std::iter::once(0).chain(ends))?;
        let pages = self.each_row().flat_map(|(s, row)| boxes(s, row).map(move |b| number(&s.columns().box_pages, b)));
        self.out.u32s(section::BOX_PAGES, pages)?;
        let sides = self.each_row().flat_map(|(s, row)| {
            boxes(s, row).flat_map(move |b| (0..4).map(move |i| number(&s.columns().box_sides, 4 * b + i).to_bits()))
        });
        self.out.u32s(section::BOX_SIDES, sides)
    }

    /// Iterates over the rows of the winners, one by one.
    fn each_row(&self) -> impl Iterator<Item = (&'m Segment, usize)> + use<'m> {
        self.plan.stretches(self.inputs).flat_map(|(segment, rows)| rows.map(move |row| (segment, row)))
    }

    fn texts(&mut self, [offsets, texts]: [&str; 2], column: Column<Strings>) -> io::Result<()> {
        self.look()?;
        let mut end = 0;
        let ends = self.each_row().map(|(s, row)| {
            end += column(s).raw(row).len() as u64;
            end
        });
        self.out.u64s(offsets, std::iter::once(0).chain(ends))?;
        let mut each = self.each_row();
        self.out.section(texts, |w| each.try_for_each(|(s, row)| w.write_all(column(s).raw(row))))
    }

    fn u32s(&mut self, name: &str, value: fn(&Segment, usize) -> u32) -> io::Result<()> {
        let values = self.each_row().map(|(s, row)| value(s, row));
        self.out.u32s(name, values)
    }

    /// Writes a column of labels. Only the labels that are used are written, in the order of their first use.
    fn labels(&mut self, [codes, offsets, bytes]: [&str; 3], column: Column<Labels>) -> io::Result<()> {
        self.look()?;
        let mut known: HashMap<&'m [u8], u32> = HashMap::new();
        let mut values = StringsBuilder::default();
        // New code of each label, by input and old code; `u32::MAX` for a label that was not met yet.
        let mut renumbered: Vec<Vec<u32>> =
            self.inputs.iter().map(|i| vec![u32::MAX; column(&i.segment).values.len()]).collect();
        let (inputs, plan) = (self.inputs, self.plan);
        self.out.section(codes, |w| {
            for winner in &plan.winners {
                let Some(segment) = inputs.get(winner.input as usize).map(|i| &*i.segment) else { continue };
                let labels = column(segment);
                for row in segment.documents().rows(winner.document as usize) {
                    let old = number(&labels.codes, row) as usize;
                    let new = renumbered.get_mut(winner.input as usize).and_then(|codes| codes.get_mut(old));
                    let code = match new {
                        Some(code) if *code != u32::MAX => *code,
                        met => {
                            let code = *known.entry(labels.values.raw(old)).or_insert_with(|| {
                                values.push(labels.values.get(old));
                                values.count() as u32 - 1
                            });
                            if let Some(place) = met {
                                *place = code;
                            }
                            code
                        }
                    };
                    w.write_all(&code.to_le_bytes())?;
                }
            }
            Ok(())
        })?;
        self.out.strings([offsets, bytes], &values.finish())
    }

    /// Copies the vectors and their codes. If an input has no codes, computes the codes from its vectors.
    fn vectors(&mut self, dimension: usize) -> io::Result<()> {
        let (plan, inputs, cancelled) = (self.plan, self.inputs, self.cancelled);
        self.out.section(section::VECTORS, |w| {
            for (n, (segment, rows)) in plan.stretches(inputs).enumerate() {
                if n % POLL_INTERVAL == 0 && cancelled.is_cancelled() {
                    return Err(super::interrupted());
                }
                let vectors = segment.vectors().get(rows.start * dimension..rows.end * dimension).unwrap_or_default();
                w.write_all(arrow_buffer::ToByteSlice::to_byte_slice(vectors))?;
            }
            Ok(())
        })?;
        self.out.section(section::CODES, |w| {
            let failed = |e: docweir_codes::CodesError| io::Error::other(e.to_string());
            let codec = codes::codec(dimension).map_err(failed)?;
            let mut blocks = codec.writer();
            for (n, (segment, rows)) in plan.stretches(inputs).enumerate() {
                if n % POLL_INTERVAL == 0 && cancelled.is_cancelled() {
                    return Err(super::interrupted());
                }
                if !rows.is_empty() {
                    blocks.copy(segment.codes(&codec), rows).map_err(failed)?;
                }
                if blocks.rows() >= POLL_INTERVAL {
                    w.write_all(&blocks.take_full())?;
                }
            }
            w.write_all(&blocks.finish())
        })
    }

    fn look(&self) -> io::Result<()> {
        if self.cancelled.is_cancelled() { Err(super::interrupted()) } else { Ok(()) }
    }
}

/// Returns the range of the boxes of a row. In a damaged file the range may be wrong, so it is limited to the
/// existing boxes.
fn boxes(segment: &Segment, row: usize) -> std::ops::Range<usize> {
    let starts = &segment.columns().box_starts;
    let most = segment.columns().box_pages.len();
    let (from, to) = (number(starts, row) as usize, (number(starts, row + 1) as usize).min(most));
    from.min(to)..to
}
