//! Stores the values of all rows at one metadata path. The distinct values are kept in a list, and each row holds the
//! indexes of its values in this list. A filter therefore tests each distinct value only once.

use std::collections::HashMap;

use super::bits::Bits;
use super::scalar::{Scalar, scalars_at};
use crate::columns::{Documents, Labels, Rows, object};

pub struct Facet {
    /// Distinct values of all rows.
    values: Vec<Scalar>,
    codes: Codes,
}

enum Codes {
    /// Index of each row's value in the list of distinct values. Used if no row has more than one value. A row without
    /// a value has an index beyond the end of the list.
    One(Vec<u32>),
    /// Two lists, used if a row has several values. The second list holds the values of all rows, row after row, as
    /// indexes into the list of distinct values. The first list holds the position in the second list at which each
    /// row's values begin.
    Many(Vec<u32>, Vec<u32>),
}

impl Facet {
    /// Collects the values at a metadata path. If a row has no value there, it gets the values of its document.
    pub fn of_metadata(documents: &Documents, rows: &Rows, path: &str) -> Self {
        let mut facet = Builder::default();
        for document in 0..documents.len() {
            let own = scalars_at(&documents.metadata(document), path);
            for row in documents.rows(document) {
                let values = scalars_at(&object(rows.metadata.get(row)), path);
                facet.push(if values.is_empty() { &own } else { &values });
            }
        }
        facet.finish()
    }

    /// Removes from `rows` all rows without a value for which `test` returns true.
    pub fn restrict(&self, rows: &mut Bits, test: impl Fn(&Scalar) -> bool) {
        let mut passes: Vec<bool> = self.values.iter().map(test).collect();
        passes.push(false);
        match &self.codes {
            Codes::One(codes) => keep_codes(codes, &passes, rows),
            Codes::Many(starts, codes) => rows.retain(|row| {
                let range = starts.get(row).zip(starts.get(row + 1));
                let codes = range.and_then(|(&from, &to)| codes.get(from as usize..to as usize)).unwrap_or_default();
                codes.iter().any(|&code| passes.get(code as usize).is_some_and(|&p| p))
            }),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::One(codes) => codes.len(),
            Codes::Many(starts, codes) => starts.len() + codes.len(),
        };
        4 * codes + self.values.iter().map(Scalar::memory_bytes).sum::<usize>()
    }
}

/// Keeps in `rows` only the rows whose text in the column `labels` passes `test`.
pub fn restrict_labels(labels: &Labels, rows: &mut Bits, test: impl Fn(&str) -> bool) {
    let passes: Vec<bool> = (0..labels.values.len()).map(|i| test(labels.values.get(i))).collect();
    keep_codes(&labels.codes, &passes, rows);
}

/// Keeps in `rows` only the rows whose value passes the filter. `passes` says for each distinct value whether it
/// passes. `codes` holds, for each row, the index of its value in `passes`. Processes 64 rows at a time without
/// branches, so that filtering takes no longer than scanning the rows that it excludes.
fn keep_codes(codes: &[u32], passes: &[bool], rows: &mut Bits) {
    rows.and_words(|word| {
        let from = word * 64;
        let some = codes.get(from..codes.len().min(from + 64)).unwrap_or_default();
        some.iter()
            .enumerate()
            .fold(0, |bits, (i, &code)| bits | u64::from(passes.get(code as usize).is_some_and(|&p| p)) << i)
    });
}

#[derive(Default)]
struct Builder {
    known: HashMap<Scalar, u32>,
    values: Vec<Scalar>,
    starts: Vec<u32>,
    codes: Vec<u32>,
}

impl Builder {
    fn push(&mut self, values: &[Scalar]) {
        self.starts.push(self.codes.len() as u32);
        for value in values {
            let code = match self.known.get(value) {
                Some(&code) => code,
                None => {
                    let code = self.values.len() as u32;
                    self.known.insert(value.clone(), code);
                    self.values.push(value.clone());
                    code
                }
            };
            self.codes.push(code);
        }
    }

    fn finish(mut self) -> Facet {
        self.starts.push(self.codes.len() as u32);
        let none = self.values.len() as u32;
        let code = |w: &[u32]| match w {
            [from, to] if to - from <= 1 => {
                Some(if from == to { none } else { self.codes.get(*from as usize).copied()? })
            }
            _ => None,
        };
        let one: Option<Vec<u32>> = self.starts.windows(2).map(code).collect();
        let codes = match one {
            Some(codes) => Codes::One(codes),
            None => Codes::Many(self.starts, self.codes),
        };
        Facet { values: self.values, codes }
    }
}
