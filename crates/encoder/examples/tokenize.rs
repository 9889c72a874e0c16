//! Prints the token ids of texts: `tokenize tokenizer.json < texts > ids`. Each input line is a text as a JSON string;
//! each output line is a JSON array with the token ids of that text. `scripts/check-tokenizer` compares the ids with
//! those of the reference library.

#![allow(clippy::print_stdout, reason = "the program prints its results")]

use std::io::{BufRead, BufWriter, Write};
use std::path::PathBuf;

use docweir_encoder::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: tokenize tokenizer.json < texts")?;
    let tokenizer = Tokenizer::load(&path)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        serde_json::to_writer(&mut out, &tokenizer.tokenize(&text))?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
