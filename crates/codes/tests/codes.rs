//! Tests encoding and scans through the public interface of the crate.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use docweir_codes::{BLOCK_ROWS, Candidate, Candidates, Codec, CodesError, Kernel, Neighbour};
use fastrand::Rng;

const SEED: u64 = 7;
const SHAPES: [usize; 12] = [1, 2, 3, 5, 16, 17, 31, 100, 384, 511, 768, 1536];

fn unit(mut v: Vec<f32>) -> Vec<f32> {
    let length = v.iter().map(|x| x * x).sum::<f32>().sqrt();
    v.iter_mut().for_each(|x| *x /= length);
    v
}

fn normal(rng: &mut Rng) -> f32 {
    (-2.0 * (1.0 - rng.f32()).ln()).sqrt() * (rng.f32() * std::f32::consts::TAU).cos()
}

fn random(rng: &mut Rng, dimension: usize) -> Vec<f32> {
    unit((0..dimension).map(|_| normal(rng)).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns a function that counts how many of the rows that a search found are among the `k` nearest.
fn hits_among(rows: &[Vec<f32>], query: &[f32], k: usize) -> impl Fn(&[Neighbour]) -> usize {
    let mut exact = Candidates::new(k);
    rows.iter().enumerate().for_each(|(r, row)| exact.offer(r as u32, dot(row, query)));
    let nearest: Vec<u32> = exact.best_first().map(|c| c.row).collect();
    move |found| found.iter().filter(|f| nearest.contains(&f.row)).count()
}

fn encode(codec: &Codec, rows: &[Vec<f32>]) -> Vec<u8> {
    let mut writer = codec.writer();
    rows.iter().for_each(|row| writer.push(row).unwrap());
    writer.finish()
}

/// Returns the estimated score of each row, in row order.
fn estimates(codec: &Codec, codes: &[u8], rows: usize, query: &[f32]) -> Vec<f32> {
    let mut candidates = Candidates::new(rows);
    codec.query(query).unwrap().scan(codes, 0..rows, None, 0, &mut candidates).unwrap();
    let mut found: Vec<_> = candidates.best_first().collect();
    found.sort_by_key(|c| c.row);
    assert_eq!(found.iter().map(|c| c.row as usize).collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
    found.into_iter().map(|c| c.estimate).collect()
}

fn bits(estimates: &[f32]) -> Vec<u32> {
    estimates.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn kernels_agree_bit_for_bit() {
    for dimension in SHAPES {
        let mut rng = Rng::with_seed(dimension as u64);
        let rows: Vec<_> = (0..75).map(|_| random(&mut rng, dimension)).collect();
        let query = random(&mut rng, dimension);
        let reference = Codec::with_kernel(dimension, SEED, Kernel::Portable).unwrap();
        let codes = encode(&reference, &rows);
        let expected = estimates(&reference, &codes, rows.len(), &query);
        for kernel in Kernel::ALL.into_iter().filter(|k| k.is_available()) {
            let codec = Codec::with_kernel(dimension, SEED, kernel).unwrap();
            assert_eq!(codec.kernel(), kernel);
            assert!(encode(&codec, &rows) == codes, "{kernel:?} computes other codes for dimension {dimension}");
            let got = estimates(&codec, &codes, rows.len(), &query);
            assert_eq!(bits(&got), bits(&expected), "{kernel:?} computes other estimates for dimension {dimension}");
            // The codes need no alignment.
            let shifted: Vec<u8> = [&[0; 3], &codes[..]].concat();
            assert_eq!(bits(&estimates(&codec, &shifted[3..], rows.len(), &query)), bits(&expected));
        }
    }
}

/// Checks the hash of the encoded bytes. If the format changed by one byte, all existing files of codes would be
/// unreadable.
#[test]
fn bytes_are_pinned() {
    let codec = Codec::new(24, SEED).unwrap();
    let rows: Vec<Vec<f32>> =
        (0..40).map(|r| (0..24).map(|i| ((r * 7 + i * 5) % 23) as f32 - 11.0).collect()).collect();
    let codes = encode(&codec, &rows);
    let hash = codes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!((codes.len(), hash), (PINNED_LENGTH, PINNED_HASH));
}
const PINNED_LENGTH: usize = 512;
const PINNED_HASH: u64 = 11_071_033_518_100_408_537;

#[test]
fn copies_are_the_same_in_any_order_and_place() {
    for dimension in [3, 17, 384] {
        let mut rng = Rng::with_seed(11);
        let codec = Codec::new(dimension, SEED).unwrap();
        let rows: Vec<_> = (0..200).map(|_| random(&mut rng, dimension)).collect();
        let codes = encode(&codec, &rows);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        rng.shuffle(&mut order);
        order.truncate(150);
        // Rows are appended one by one, some as vectors and some as codes, and full blocks are removed now and then.
        let (mut writer, mut bytes) = (codec.writer(), Vec::new());
        for (i, &row) in order.iter().enumerate() {
            match i % 3 {
                0 => writer.push(&rows[row]).unwrap(),
                _ => writer.copy(&codes, row..row + 1).unwrap(),
            }
            if i % 70 == 0 {
                bytes.extend(writer.take_full());
                assert!(writer.rows() < BLOCK_ROWS);
            }
        }
        bytes.extend(writer.finish());
        let direct = encode(&codec, &order.iter().map(|&row| rows[row].clone()).collect::<Vec<_>>());
        assert!(bytes == direct);
        assert_eq!(bytes.len(), codec.bytes(order.len()));
        // Ranges of codes are copied, some of which begin on a block boundary.
        let mut writer = codec.writer();
        for range in [0..96, 96..100, 100..100, 64..200, 5..70] {
            writer.copy(&codes, range).unwrap();
        }
        let list: Vec<_> = (0..100).chain(64..200).chain(5..70).map(|row| rows[row].clone()).collect();
        assert!(writer.finish() == encode(&codec, &list));
    }
}

#[test]
fn a_filter_gives_exactly_the_allowed_rows_of_the_range() {
    let mut rng = Rng::with_seed(3);
    let codec = Codec::new(40, SEED).unwrap();
    let rows: Vec<_> = (0..1000).map(|_| random(&mut rng, 40)).collect();
    let codes = encode(&codec, &rows);
    let query = random(&mut rng, 40);
    let all = estimates(&codec, &codes, rows.len(), &query);
    for (share, words) in [(0.0, 16), (0.01, 16), (0.3, 16), (1.0, 16), (0.5, 3), (1.0, 0)] {
        let bitmap: Vec<u64> =
            (0..words).map(|_| (0..64).fold(0, |w, i| w | u64::from(rng.f64() < share) << i)).collect();
        for range in [0..1000, 0..0, 5..6, 31..33, 32..64, 100..999, 999..1000] {
            let query = codec.query(&query).unwrap();
            let mut found = Candidates::new(2000);
            query.scan(&codes, range.clone(), Some(&bitmap), 500, &mut found).unwrap();
            let mut found: Vec<_> = found.best_first().collect();
            found.sort_by_key(|c| c.row);
            let allowed = |r: &usize| bitmap.get(r / 64).is_some_and(|w| w >> (r % 64) & 1 == 1);
            let expected: Vec<_> =
                range.filter(allowed).map(|r| Candidate { row: 500 + r as u32, estimate: all[r] }).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn threads_and_limits_do_not_change_the_best() {
    let mut rng = Rng::with_seed(4);
    let codec = Codec::new(5, SEED).unwrap();
    // There are only nine different rows, so many estimates are equal.
    let kinds: Vec<_> = (0..9).map(|_| random(&mut rng, 5)).collect();
    let rows: Vec<_> = (0..3000).map(|_| kinds[rng.usize(..9)].clone()).collect();
    let codes = encode(&codec, &rows);
    let query = codec.query(&random(&mut rng, 5)).unwrap();
    let mut all = Candidates::new(3000);
    query.scan(&codes, 0..3000, None, 0, &mut all).unwrap();
    let all: Vec<_> = all.best_first().collect();
    assert!(all.windows(2).all(|w| (-w[0].estimate, w[0].row) < (-w[1].estimate, w[1].row)));
    for limit in [0, 1, 2, 10, 333, 2999] {
        for split in [0, 32, 1600, 3000] {
            let (mut a, mut b) = (Candidates::new(limit), Candidates::new(limit));
            query.scan(&codes, split..3000, None, 0, &mut a).unwrap();
            query.scan(&codes, 0..split, None, 0, &mut b).unwrap();
            a.merge(&b);
            assert!(a.best_first().eq(all[..limit].iter().copied()));
        }
    }
}

/// Compares the errors of the estimates with the theory. Over random rotations, the errors have mean zero and the
/// standard deviation √((1 - c²) / c² / (d - 1)) · √(1 - s²). Here c is the cosine between a vector and its code, s is
/// the true dot product of row and query, and d is the dimension.
#[test]
fn estimates_have_no_bias_and_the_deviation_of_the_theory() {
    for (dimension, dot_wanted) in [(64, 0.0), (384, 0.8), (384, 0.3), (1000, 0.6)] {
        let mut rng = Rng::with_seed(9);
        let (mut sum, mut squares, mut count, mut worst) = (0.0, 0.0, 0.0, 0.0f64);
        for seed in 0..40 {
            let codec = Codec::new(dimension, seed).unwrap();
            let query = random(&mut rng, dimension);
            let rows: Vec<Vec<f32>> = (0..64)
                .map(|_| {
                    let other = random(&mut rng, dimension);
                    let along = dot(&other, &query);
                    let beside = unit(other.iter().zip(&query).map(|(o, q)| o - along * q).collect());
                    let (c, s) = (dot_wanted, (1.0f32 - dot_wanted * dot_wanted).sqrt());
                    query.iter().zip(beside).map(|(q, b)| c * q + s * b).collect()
                })
                .collect();
            for (row, estimate) in rows.iter().zip(estimates(&codec, &encode(&codec, &rows), 64, &query)) {
                let error = f64::from(estimate - dot(row, &query));
                (sum, squares, count, worst) =
                    (sum + error, squares + error * error, count + 1.0, worst.max(error.abs()));
            }
        }
        let beside = f64::from(1.0 - dot_wanted * dot_wanted).sqrt();
        let expected = (SQUARED_LOSS / (1.0 - SQUARED_LOSS) / (dimension - 1) as f64).sqrt() * beside;
        let (mean, deviation) = (sum / count, (squares / count).sqrt());
        assert!(
            mean.abs() < 4.0 * expected / f64::sqrt(count),
            "mean error {mean} for dimension {dimension} and dot product {dot_wanted}"
        );
        assert!(
            (0.85..1.15).contains(&(deviation / expected)),
            "deviation {deviation} instead of {expected} for dimension {dimension}"
        );
        assert!(worst < 5.5 * expected, "largest error {worst} at deviation {expected} for dimension {dimension}");
    }
}
/// Value of 1 - c² for vectors with normally distributed coordinates. The codes have one bit per coordinate.
const SQUARED_LOSS: f64 = 1.0 - std::f64::consts::FRAC_2_PI;

#[test]
fn the_nearest_survive_in_clusters() {
    let (dimension, count, k) = (384, 6000, 10);
    let mut rng = Rng::with_seed(12);
    // As real embeddings do, the clusters share a common direction, and a few coordinates have large values.
    let centres: Vec<Vec<f32>> = (0..60)
        .map(|_| (0..dimension).map(|i| normal(&mut rng) * if i < 20 { 3.0 } else { 1.0 } + 0.3).collect())
        .collect();
    let draw = |rng: &mut Rng| {
        let centre = &centres[rng.usize(..60)];
        unit(centre.iter().map(|x| x + 0.8 * normal(rng)).collect())
    };
    let rows: Vec<_> = (0..count).map(|_| draw(&mut rng)).collect();
    let codec = Codec::new(dimension, SEED).unwrap();
    let codes = encode(&codec, &rows);
    let (mut hits, mut looked) = (0, 0);
    for _ in 0..40 {
        let query = draw(&mut rng);
        let mut candidates = Candidates::new(codec.candidates(k, count));
        let coded = codec.query(&query).unwrap();
        coded.scan(&codes, 0..count, None, 0, &mut candidates).unwrap();
        let found = coded
            .nearest(k, k, candidates, |row| {
                looked += 1;
                dot(&rows[row as usize], &query)
            })
            .neighbours;
        assert!(found.windows(2).all(|w| w[0].score >= w[1].score) && found.len() == k);
        hits += hits_among(&rows, &query, k)(&found);
    }
    assert!(hits >= 390, "recall {}", hits as f32 / 400.0);
    assert!(looked < 40 * codec.candidates(k, count), "every search scored all candidates exactly");
}

/// Checks that `nearest` returns the rows in the order of their exact scores. Every row is a candidate in this test.
#[test]
fn reranking_gives_the_exact_order() {
    let mut rng = Rng::with_seed(21);
    let codec = Codec::new(8, SEED).unwrap();
    let mut rows: Vec<_> = (0..300).map(|_| random(&mut rng, 8)).collect();
    rows[200] = rows[20].clone();
    let codes = encode(&codec, &rows);
    let vector = rows[20].clone();
    let query = codec.query(&vector).unwrap();
    let mut all = Candidates::new(300);
    query.scan(&codes, 0..300, None, 0, &mut all).unwrap();
    let mut exact: Vec<(f32, u32)> = (0..300).map(|r| (dot(&rows[r], &vector), r as u32)).collect();
    exact.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let score = |row: u32| dot(&rows[row as usize], &vector);
    for k in [0, 1, 2, 5, 300, 1000] {
        let found = query.nearest(k, k, all.clone(), score).neighbours;
        assert_eq!(found.len(), k.min(300));
        if k >= 300 || k <= 2 {
            let found: Vec<_> = found.iter().map(|f| (f.score, f.row)).collect();
            assert_eq!(found, exact[..k.min(300)]);
        }
    }
    // A row whose exact score is NaN is skipped.
    let found = query.nearest(3, 3, all, |row| if row == 20 { f32::NAN } else { score(row) }).neighbours;
    assert_eq!((found[0].row, found.len()), (200, 3));
}

/// Checks that a search over vectors in a narrow cone says which rows are missing, and finds the nearest with them.
#[test]
fn a_search_that_runs_out_of_candidates_says_what_is_missing() {
    let (dimension, count, k) = (384, 4000, 10);
    let mut rng = Rng::with_seed(31);
    let axis = random(&mut rng, dimension);
    let draw = |rng: &mut Rng| {
        let beside = random(rng, dimension);
        unit(axis.iter().zip(beside).map(|(a, b)| 2.4 * a + b).collect())
    };
    let rows: Vec<_> = (0..count).map(|_| draw(&mut rng)).collect();
    let codec = Codec::new(dimension, SEED).unwrap();
    let codes = encode(&codec, &rows);
    let (mut before, mut after) = (0, 0);
    for _ in 0..20 {
        let query = draw(&mut rng);
        let hits = hits_among(&rows, &query, k);
        let coded = codec.query(&query).unwrap();
        let score = |row: u32| dot(&rows[row as usize], &query);
        let search = |mut candidates: Candidates| {
            coded.scan(&codes, 0..count, None, 0, &mut candidates).unwrap();
            coded.nearest(k, k, candidates, score)
        };
        let first = search(Candidates::new(codec.candidates(k, count)));
        let second = search(Candidates::from(first.missing_from.expect("the candidates suffice"), count));
        assert_eq!(second.missing_from, None);
        before += hits(&first.neighbours);
        after += hits(&second.neighbours);
    }
    assert!(before < 160 && after >= 194, "recall {} before and {} after", before as f32 / 200.0, after as f32 / 200.0);
}

#[test]
fn only_a_search_that_may_miss_rows_says_so() {
    let mut rng = Rng::with_seed(8);
    let codec = Codec::new(64, SEED).unwrap();
    let rows: Vec<_> = (0..200).map(|_| random(&mut rng, 64)).collect();
    let codes = encode(&codec, &rows);
    let query = codec.query(&rows[3]).unwrap();
    let search_certain = |k, certain, mut candidates: Candidates| {
        query.scan(&codes, 0..200, None, 0, &mut candidates).unwrap();
        query.nearest(k, certain, candidates, |row| dot(&rows[row as usize], &rows[3])).missing_from
    };
    let search = |k, candidates| search_certain(k, k, candidates);
    assert_eq!(search(0, Candidates::new(0)), None);
    assert_eq!(search(200, Candidates::new(200)), None);
    assert_eq!(search(300, Candidates::new(200)), None);
    // The second row that was found is far behind the first, which is the query itself.
    assert_eq!(search(1, Candidates::new(20)), None);
    assert_eq!(search(50, Candidates::new(20)), Some(f32::NEG_INFINITY));
    assert!(search(20, Candidates::new(20)).is_some_and(f32::is_finite));
    assert_eq!(search(20, Candidates::from(2.0, 20)), None, "no estimate reaches 2");
    // Of the twenty rows that were asked for, only the first is certain.
    assert_eq!(search_certain(20, 1, Candidates::new(20)), None);
    assert_eq!(search_certain(20, 0, Candidates::new(20)), None);
    assert_eq!(search_certain(20, 99, Candidates::new(20)), search(20, Candidates::new(20)));
}

#[test]
fn more_rows_more_candidates() {
    let codec = Codec::new(384, SEED).unwrap();
    assert_eq!(codec.candidates(0, 1000), 0);
    assert_eq!(codec.candidates(10, 0), 0);
    assert_eq!(codec.candidates(10, 50), 50);
    assert_eq!(codec.candidates(usize::MAX, 50), 50);
    assert_eq!(codec.candidates(1, 9), 9);
    let counts = [10_000, 100_000, 1_000_000].map(|rows| codec.candidates(10, rows));
    assert_eq!(counts, [320, 400, 480]);
    assert!(Codec::new(96, SEED).unwrap().candidates(10, 10_000) > counts[0]);
}

#[test]
fn nothing_and_wrong_input_are_answered() {
    let codec = Codec::new(6, SEED).unwrap();
    assert!(codec.writer().finish().is_empty());
    let query = codec.query(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
    let mut found = Candidates::new(5);
    query.scan(&[], 0..0, None, 0, &mut found).unwrap();
    assert_eq!(found.clone().best_first().count(), 0);
    assert_eq!(query.scan(&[], 0..1, None, 0, &mut found), Err(CodesError::Rows { end: 1, rows: 0 }));
    let last = query.scan(&[0; 1 << 10], 0..3, None, u32::MAX - 2, &mut found);
    assert_eq!(last, Err(CodesError::Rows { end: 3, rows: 2 }));
    assert_eq!(codec.writer().copy(&[0; 100], 0..1), Err(CodesError::Rows { end: 1, rows: 0 }));
    assert_eq!(Codec::new(0, SEED).err(), Some(CodesError::Dimension(0)));
    assert!(Codec::new(1 << 20, SEED).is_err());
    assert_eq!(codec.writer().push(&[1.0]), Err(CodesError::VectorLength { given: 1, dimension: 6 }));
    assert_eq!(codec.writer().push(&[f32::NAN; 6]), Err(CodesError::NotFinite));
    assert_eq!(codec.query(&[f32::INFINITY; 6]).err(), Some(CodesError::NotFinite));
    // If the row or the query is the zero vector, the estimated score is zero.
    let codes = encode(&codec, &[vec![0.0; 6], vec![0.5; 6]]);
    assert_eq!(estimates(&codec, &codes, 2, &[0.3; 6])[0], 0.0);
    assert_eq!(estimates(&codec, &codes, 2, &[0.0; 6]), [0.0, 0.0]);
}
