//! Provides a bitmap of rows.

use std::ops::Range;

/// Holds a set of rows as one bit per row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    pub fn all(len: usize) -> Self {
        let mut all = Self::none(len);
        all.set_range(0..len);
        all
    }

    /// Returns the number of rows that the bitmap covers, including the rows that are not in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|w| w >> (row % 64) & 1 == 1)
    }

    /// Adds the rows of `range`. Rows beyond the length are ignored.
    pub fn set_range(&mut self, range: Range<usize>) {
        self.each_word(range, |word, mask| *word |= mask);
    }

    pub fn clear_range(&mut self, range: Range<usize>) {
        self.each_word(range, |word, mask| *word &= !mask);
    }

    /// Calls `f` for each word of the bitmap that contains rows of `range`. The second argument of `f` is a mask of
    /// the bits of these rows.
    fn each_word(&mut self, range: Range<usize>, f: impl Fn(&mut u64, u64)) {
        let mut at = range.start;
        let end = range.end.min(self.len);
        while at < end {
            let next = (at / 64 + 1) * 64;
            let upper = if end < next { (1 << (end % 64)) - 1 } else { u64::MAX };
            if let Some(word) = self.words.get_mut(at / 64) {
                f(word, upper & (u64::MAX << (at % 64)));
            }
            at = next;
        }
    }

    /// Returns the words of the bitmap: 64 rows per word, beginning with the lowest bit.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Intersects each word of the bitmap with a mask. `mask` returns the mask for the index of a word. It is not
    /// called for empty words.
    pub fn and_words(&mut self, mask: impl Fn(usize) -> u64) {
        for (i, word) in self.words.iter_mut().enumerate().filter(|(_, w)| **w != 0) {
            *word &= mask(i);
        }
    }

    /// Keeps the rows for which `keep` returns true. Calls `keep` only for rows in the set.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (i, word) in self.words.iter_mut().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                if !keep(i * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    /// Iterates over the rows of the set that lie in `range`. Yields the longest possible ranges of adjacent rows, in
    /// order.
    pub fn runs(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        let end = range.end.min(self.len);
        let mut at = range.start;
        std::iter::from_fn(move || {
            let start = self.next(at, end, false)?;
            at = self.next(start, end, true).unwrap_or(end);
            Some(start..at)
        })
    }

    /// Returns the first row of the set at or after `from`. If `inverted` is true, returns the first row at or after
    /// `from` that is not in the set.
    fn next(&self, from: usize, end: usize, inverted: bool) -> Option<usize> {
        let flip = if inverted { u64::MAX } else { 0 };
        let mut index = from / 64;
        let mut word = (self.words.get(index)? ^ flip) & (u64::MAX << (from % 64));
        loop {
            if word != 0 {
                let row = index * 64 + word.trailing_zeros() as usize;
                return (row < end).then_some(row);
            }
            index += 1;
            if index * 64 >= end {
                return None;
            }
            word = self.words.get(index)? ^ flip;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_list_of_flags(flags in proptest::collection::vec(any::<bool>(), 0..300), a in 0..300usize, b in 0..300usize) {
            let mut bits = Bits::none(flags.len());
            for (i, _) in flags.iter().enumerate().filter(|(_, f)| **f) {
                bits.set_range(i..i + 1);
            }
            prop_assert_eq!(bits.count(), flags.iter().filter(|f| **f).count());
            let (from, to) = (a.min(b), a.max(b));
            let rows: Vec<usize> = bits.runs(from..to).flatten().collect();
            let expected: Vec<usize> = (from..to.min(flags.len())).filter(|&i| flags[i]).collect();
            prop_assert_eq!(rows, expected);
            let runs: Vec<_> = bits.runs(0..flags.len()).collect();
            prop_assert!(runs.windows(2).all(|w| w[0].end < w[1].start), "runs are maximal");
            let mut cut = bits.clone();
            cut.clear_range(from..to);
            let left: Vec<usize> = cut.runs(0..flags.len()).flatten().collect();
            let expected: Vec<usize> = (0..flags.len()).filter(|&i| flags[i] && !(from..to).contains(&i)).collect();
            prop_assert_eq!(left, expected);
            prop_assert_eq!(Bits::all(flags.len()).count(), flags.len());
            bits.retain(|row| row % 3 == 0);
            prop_assert!((0..300).all(|i| bits.contains(i) == (flags.get(i) == Some(&true) && i % 3 == 0)));
        }
    }
}
