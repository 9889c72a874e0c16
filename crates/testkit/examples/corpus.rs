//! Writes three documents that are generated from seeds, and one hostile file of each kind. Run it with
//! `cargo run -p docweir-testkit --example corpus`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use docweir_testkit::{hostile, markdown, marker, two_pages};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    for seed in 0..3 {
        std::fs::write(folder.path().join(format!("{seed}.pdf")), two_pages(seed))?;
        println!("{seed}.pdf: {} bytes, only page 1 contains the word {}", two_pages(seed).len(), marker(seed, 0));
    }
    println!("the same seed gives the same bytes: {}", two_pages(1) == two_pages(1));
    println!("markdown begins {:?}", markdown(7, 2).lines().next().unwrap_or_default());

    let bad = hostile::all();
    for file in &bad {
        std::fs::write(folder.path().join(file.name), &file.bytes)?;
    }
    let names: Vec<&str> = bad.iter().map(|file| file.name).take(3).collect();
    println!("{} hostile files, such as {}", bad.len(), names.join(", "));
    Ok(())
}
