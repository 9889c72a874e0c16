//! Reads lines of JSON as items to embed. Prints which items are noise and which records are refused. Run it with
//! `cargo run -p docweir-records --example receipts`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use docweir_records::{Records, RecordsOptions, Shape, document_id};

/// Returns a valid receipt with one line of three words, and an invalid receipt.
fn receipts() -> String {
    let piece = |id: &str, text: &str, x: f64, more: &str| {
        let bounds = format!(r#"{{"x": {x}, "y": 0.1, "width": 0.2, "height": 0.05}}"#);
        format!(r#"{{"{id}": 1{more}, "text": "{text}", "bounding_box": {bounds}}}"#)
    };
    let word = |id: u32, text: &str| piece("word_id", text, 0.1, "").replacen(": 1", &format!(": {id}"), 1);
    let words = [word(1, "TOTAL"), word(2, ":"), word(3, "9.99")].join(", ");
    let line = piece("line_id", "TOTAL : 9.99", 0.1, &format!(r#", "words": [{words}]"#));
    let image = "3f52804b-2fad-4e00-92c8-b593da3a8ed3";
    let good = format!(r#"{{"image_id": "{image}", "receipt_id": 1, "lines": [{line}]}}"#);
    format!("{good}\n\n{}\n", good.replace(image, "no UUID"))
}

const PRODUCTS: &str = r#"{"sku": "A 1", "description": "a warm jacket", "price": 20}
not JSON
{"sku": "A 2", "description": "a hat", "price": 9.5}
"#;

fn main() {
    println!("receipts:");
    show(&receipts(), Shape::Receipts);
    println!("products:");
    show(PRODUCTS, Shape::Records { id: "sku".into(), text: "description".into() });
}

fn show(file: &str, shape: Shape) {
    for (line, record) in Records::new(file.as_bytes(), shape, RecordsOptions::default()) {
        match record {
            Ok(items) => {
                for item in items {
                    let noise = if item.noise { " (noise: not embedded)" } else { "" };
                    println!(
                        "  line {line}: {} {:?} as {}{noise}",
                        item.kind.name(),
                        item.input,
                        document_id(&item.key)
                    );
                }
            }
            // The error names the invalid field and never repeats the value of that field.
            Err(error) => println!("  line {line}: refused: {error}"),
        }
    }
}
