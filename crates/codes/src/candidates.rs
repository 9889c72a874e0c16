//! Collects the best rows of a scan without keeping them in order.

/// Describes a row that a scan found and the estimate of its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Number of the row, as assigned by the scan.
    pub row: u32,
    /// Estimate of the row's dot product with the query.
    pub estimate: f32,
}

/// Collects the best rows seen so far, at most `limit` of them.
///
/// A buffer of twice the limit receives rows whose estimate is at least the bar. When the buffer is full, the worse
/// half is removed and the bar rises to the worst estimate that remains. So a row costs one comparison, a candidate
/// costs one push, and there is one cut per `limit` candidates. Equal estimates are ordered by row, the smaller
/// first. So the result depends neither on the cuts nor on the number of threads nor on the order of the scans.
#[derive(Clone, Debug)]
pub struct Candidates {
    limit: usize,
    /// Estimate and row packed into one number; smaller is better: see [`key`].
    keys: Vec<u64>,
    /// Lowest estimate that can still be among the best. Negative infinity until the first cut.
    bar: f32,
}

impl Candidates {
    /// Creates an empty set that keeps the best `limit` rows.
    pub fn new(limit: usize) -> Self {
        let mut candidates = Self { limit, keys: Vec::with_capacity(limit.saturating_mul(2).min(1 << 14)), bar: 0.0 };
        candidates.clear();
        candidates
    }

    /// Returns the maximum number of rows to keep.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the lowest estimate that can still be among the best.
    #[inline]
    pub fn bar(&self) -> f32 {
        self.bar
    }

    /// Offers a row. An estimate that is NaN is ignored.
    #[inline]
    pub fn offer(&mut self, row: u32, estimate: f32) {
        if estimate >= self.bar {
            self.keys.push(key(row, estimate));
            if self.keys.len() >= self.limit.saturating_mul(2) {
                self.cut();
            }
        }
    }

    /// Adds the rows that another thread collected.
    pub fn merge(&mut self, other: &Candidates) {
        for &key in &other.keys {
            let Candidate { row, estimate } = candidate(key);
            self.offer(row, estimate);
        }
    }

    /// Removes every row, to prepare for the next query.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.bar = if self.limit == 0 { f32::NAN } else { f32::NEG_INFINITY };
    }

    /// Returns the rows, best first; of equal estimates the smaller row is first. Rows are sorted on demand, so a
    /// caller that stops early does not pay for the others.
    pub fn best_first(mut self) -> BestFirst {
        self.cut();
        BestFirst { keys: self.keys, ordered: 0, next: 0 }
    }

    #[cold]
    fn cut(&mut self) {
        if self.limit > 0 && self.keys.len() > self.limit {
            let (_, worst, _) = self.keys.select_nth_unstable(self.limit - 1);
            self.bar = candidate(*worst).estimate;
            self.keys.truncate(self.limit);
        }
    }
}

/// Iterates over candidates, best first: see [`Candidates::best_first`].
#[derive(Clone, Debug)]
pub struct BestFirst {
    keys: Vec<u64>,
    /// Number of keys at the front that are sorted.
    ordered: usize,
    next: usize,
}

/// Number of keys that are sorted first. Each later step sorts as many keys as are already sorted.
const FIRST_ORDERED: usize = 64;

impl Iterator for BestFirst {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        if self.next == self.ordered {
            let rest = self.keys.get_mut(self.ordered..)?;
            let more = self.ordered.max(FIRST_ORDERED).min(rest.len());
            if more < rest.len() {
                rest.select_nth_unstable(more);
            }
            rest.get_mut(..more)?.sort_unstable();
            self.ordered += more;
        }
        let key = *self.keys.get(self.next)?;
        self.next += 1;
        Some(candidate(key))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.keys.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for BestFirst {}

const SIGN: u32 = 1 << 31;

/// Packs a row and its estimate into a sort key: by estimate, greatest first, then by row. Converts -0 to 0, so that
/// both sort equally.
#[inline(always)]
pub(crate) fn key(row: u32, estimate: f32) -> u64 {
    let bits = (estimate + 0.0).to_bits();
    let descending = if bits & SIGN == 0 { !(bits | SIGN) } else { bits };
    u64::from(descending) << 32 | u64::from(row)
}

/// Returns the row and estimate that [`key`] packed.
#[inline(always)]
pub(crate) fn candidate(key: u64) -> Candidate {
    let descending = (key >> 32) as u32;
    let bits = if descending & SIGN == 0 { !descending & !SIGN } else { descending };
    Candidate { row: key as u32, estimate: f32::from_bits(bits) }
}
