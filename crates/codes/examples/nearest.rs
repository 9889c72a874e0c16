//! Finds the nearest 10 of 20,000 vectors by their one-bit codes, and compares them with an exact scan. Run it with
//! `cargo run -p docweir-codes --example nearest`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use docweir_codes::{Candidates, Codec, CodesError};

const DIMENSION: usize = 128;
const ROWS: usize = 20_000;
const K: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut random = fastrand::Rng::with_seed(1);
    let vectors: Vec<Vec<f32>> = (0..ROWS).map(|_| unit(&mut random)).collect();
    let query = unit(&mut random);

    let codec = Codec::new(DIMENSION, 7)?;
    let mut writer = codec.writer();
    for vector in &vectors {
        writer.push(vector)?;
    }
    let codes = writer.finish();
    println!("{} bytes per row instead of {}", codes.len() / ROWS, 4 * DIMENSION);

    // A bitmap selects the rows that may be found. Here, it selects the even rows.
    let allowed = vec![0x5555_5555_5555_5555_u64; ROWS.div_ceil(64)];
    for (name, allowed) in [("all rows", None), ("even rows", Some(allowed.as_slice()))] {
        let exact = |row: u32| vectors.get(row as usize).map_or(-1.0, |vector| dot(vector, &query));
        let search = |mut candidates: Candidates| {
            let coded = codec.query(&query)?;
            coded.scan(&codes, 0..ROWS, allowed, 0, &mut candidates)?;
            Ok::<_, CodesError>(coded.nearest(K, K, candidates, exact))
        };
        let mut found = search(Candidates::new(codec.candidates(K, ROWS)))?;
        // If the vectors are all similar to the query, the first candidates do not suffice.
        if let Some(missing) = found.missing_from {
            found = search(Candidates::from(missing, ROWS))?;
        }
        let rows: Vec<u32> = found.neighbours.iter().map(|neighbour| neighbour.row).collect();

        let mut scan: Vec<(f32, u32)> =
            (0..ROWS as u32).filter(|row| allowed.is_none() || row % 2 == 0).map(|row| (exact(row), row)).collect();
        scan.sort_by(|a, b| b.0.total_cmp(&a.0));
        let right = scan.iter().take(K).filter(|(_, row)| rows.contains(row)).count();
        println!("{name}: found {right} of the {K} nearest rows");
    }
    Ok(())
}

fn unit(random: &mut fastrand::Rng) -> Vec<f32> {
    let vector: Vec<f32> = (0..DIMENSION).map(|_| random.f32() + random.f32() + random.f32() - 1.5).collect();
    let length = dot(&vector, &vector).sqrt();
    vector.iter().map(|x| x / length).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
