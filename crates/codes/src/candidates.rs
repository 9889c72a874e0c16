//! The best rows of a scan, without the cost of keeping them in order.

/// A row that a scan thinks near, and how near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The row, as the scan numbered it.
    pub row: u32,
    /// The estimate of the dot product.
    pub estimate: f32,
}

/// The best rows seen so far, at most `limit` of them.
///
/// A buffer of twice the limit takes what is not below the bar; when it is full, the worse half goes and the bar
/// rises to the worst that stays. So a row costs one comparison, a candidate a push, and a cut comes once in `limit`
/// candidates. Equal estimates are ordered by row, the smaller first, so that neither the cuts nor the number of
/// threads nor the order of the scans can change the result.
#[derive(Clone, Debug)]
pub struct Candidates {
    limit: usize,
    /// Estimate and row in one number, the better the smaller: see [`key`].
    keys: Vec<u64>,
    /// Nothing below it can be among the best. Negative infinity until the first cut.
    bar: f32,
}

impl Candidates {
    /// An empty set that keeps `limit` rows.
    pub fn new(limit: usize) -> Self {
        let mut candidates = Self { limit, keys: Vec::with_capacity(limit.saturating_mul(2).min(1 << 14)), bar: 0.0 };
        candidates.clear();
        candidates
    }

    /// Most rows that it keeps.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The least estimate that still has a chance.
    #[inline]
    pub fn bar(&self) -> f32 {
        self.bar
    }

    /// Offers a row. An estimate that is NaN is refused.
    #[inline]
    pub fn offer(&mut self, row: u32, estimate: f32) {
        if estimate >= self.bar {
            self.keys.push(key(row, estimate));
            if self.keys.len() >= self.limit.saturating_mul(2) {
                self.cut();
            }
        }
    }

    /// Takes over what another thread has found.
    pub fn merge(&mut self, other: &Candidates) {
        for &key in &other.keys {
            let Candidate { row, estimate } = candidate(key);
            self.offer(row, estimate);
        }
    }

    /// Forgets every row, for the next query.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.bar = if self.limit == 0 { f32::NAN } else { f32::NEG_INFINITY };
    }

    /// The rows, best first, the smaller row first among equals. They are put in order as they are asked for, so
    /// that one who stops early does not pay for the rest.
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

/// Candidates in their order: what [`Candidates::best_first`] gives.
#[derive(Clone, Debug)]
pub struct BestFirst {
    keys: Vec<u64>,
    /// The best so many are in order.
    ordered: usize,
    next: usize,
}

/// What is put in order first; after that, as many again as are in order already.
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

/// Orders by estimate, the greater first, then by row. -0 becomes 0, which it equals.
#[inline(always)]
pub(crate) fn key(row: u32, estimate: f32) -> u64 {
    let bits = (estimate + 0.0).to_bits();
    let descending = if bits & SIGN == 0 { !(bits | SIGN) } else { bits };
    u64::from(descending) << 32 | u64::from(row)
}

/// What [`key`] was made of.
#[inline(always)]
pub(crate) fn candidate(key: u64) -> Candidate {
    let descending = (key >> 32) as u32;
    let bits = if descending & SIGN == 0 { !descending & !SIGN } else { descending };
    Candidate { row: key as u32, estimate: f32::from_bits(bits) }
}
