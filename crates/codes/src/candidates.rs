//! Collects the best rows of a scan without keeping them in order.

/// Describes one row that a scan has found: its number, and an estimate of its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Row number that the scan assigned.
    pub row: u32,
    /// Estimate of the row's dot product with the query.
    pub estimate: f32,
}

/// Keeps the `limit` best rows of all rows that were offered.
///
/// A row is accepted if its estimate reaches a threshold ([`Candidates::bar`]). Accepted rows are pushed to a buffer
/// for `2 * limit` rows. When the buffer is full, the worse half of its rows is removed, and the threshold rises to
/// the worst remaining estimate. A rejected row therefore costs one comparison, an accepted row costs one push, and
/// the buffer is halved once per `limit` accepted rows. If two rows have equal estimates, the row with the smaller
/// number is better. The result therefore does not depend on when the buffer is halved, on the number of threads or
/// on the order of the scans.
#[derive(Clone, Debug)]
pub struct Candidates {
    limit: usize,
    /// Lowest estimate that a row needs at the start, before the buffer has been full.
    floor: f32,
    /// Sort keys of the collected rows. [`key`] packs a row's number and its estimate into one sort key. A smaller
    /// key is better.
    keys: Vec<u64>,
    /// Lowest estimate that a row needs to be accepted. Equals `floor` until the buffer has been full once.
    bar: f32,
}

impl Candidates {
    /// Creates an empty set that keeps the best `limit` rows.
    pub fn new(limit: usize) -> Self {
        Self::from(f32::NEG_INFINITY, limit)
    }

    /// Creates an empty set that keeps the best `limit` of the rows whose estimate is at least `floor`.
    pub fn from(floor: f32, limit: usize) -> Self {
        let keys = Vec::with_capacity(limit.saturating_mul(2).min(1 << 14));
        let mut candidates = Self { limit, floor, keys, bar: floor };
        candidates.clear();
        candidates
    }

    /// Returns the maximum number of rows to keep.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the lowest estimate that a row needs to be accepted.
    #[inline]
    pub fn bar(&self) -> f32 {
        self.bar
    }

    /// Adds a row, unless its estimate is too low or NaN.
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
        self.bar = if self.limit == 0 { f32::NAN } else { self.floor };
    }

    /// Returns whether the set may have reached its limit: a row with a sufficient estimate may be missing.
    pub(crate) fn is_cut(&self) -> bool {
        self.keys.len() > self.limit || self.bar != self.floor
    }

    /// Returns the rows, best first. Rows with equal estimates are ordered by row number. Rows are sorted on demand,
    /// so a caller that stops early does not pay for sorting the rest.
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

/// Iterates over candidates, best first. [`Candidates::best_first`] returns this iterator.
#[derive(Clone, Debug)]
pub struct BestFirst {
    keys: Vec<u64>,
    /// Number of sorted keys. The sorted keys are at the beginning of `keys`.
    ordered: usize,
    next: usize,
}

/// Number of keys that are sorted before the first candidate is returned. Once all sorted keys were returned, twice
/// as many keys are sorted.
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

/// Packs a row and its estimate into a sort key. Keys sort by estimate in descending order, and then by row number.
/// Converts -0 to 0, so that both sort equally.
#[inline(always)]
pub(crate) fn key(row: u32, estimate: f32) -> u64 {
    let bits = (estimate + 0.0).to_bits();
    let descending = if bits & SIGN == 0 { !(bits | SIGN) } else { bits };
    u64::from(descending) << 32 | u64::from(row)
}

/// Returns the row and the estimate that [`key`] packed into a sort key.
#[inline(always)]
pub(crate) fn candidate(key: u64) -> Candidate {
    let descending = (key >> 32) as u32;
    let bits = if descending & SIGN == 0 { !descending & !SIGN } else { descending };
    Candidate { row: key as u32, estimate: f32::from_bits(bits) }
}
