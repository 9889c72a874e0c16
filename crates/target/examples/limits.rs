//! Shows which write a target keeps if there are several writes to one document, and which writes a target refuses.
//! Run the example with `cargo run -p docweir-target --example limits`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use docweir_core::documents::DocumentId;
use docweir_core::model::ModelIdentity;
use docweir_target::{Capabilities, DocumentRows, Row, Write, gather};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = ModelIdentity::new("sea-air-land", "1", 2);
    let target = Capabilities { max_documents: 2, ..Capabilities::default() };
    let id = |name: &str| DocumentId::parse(name).ok_or("not an id");
    let gulls = |version, vector: Vec<f32>| -> Result<Write, Box<dyn std::error::Error>> {
        let row = Row { vector, ..Row::new("gulls-0", "gulls glide over the water", Vec::new()) };
        Ok(DocumentRows::new(id("gulls")?, version, "https://example.org/gulls", vec![row]).into())
    };

    let writes = gather(vec![gulls(2, vec![0.6, 0.8])?, gulls(1, vec![1.0, 0.0])?], &model, &target)?;
    println!("kept: {} write, version {}", writes.len(), writes.iter().map(Write::version).max().unwrap_or(0));

    let removed = Write::Delete { document_id: id("gulls")?, version: 2 };
    let writes = gather(vec![gulls(2, vec![0.6, 0.8])?, removed], &model, &target)?;
    println!("a deletion wins at one version: {}", writes.iter().all(Write::is_delete));

    for (what, writes) in [
        ("not a unit vector", vec![gulls(1, vec![3.0, 4.0])?]),
        ("another dimension", vec![gulls(1, vec![0.6, 0.8, 0.0])?]),
        ("too many documents", vec![gulls(1, vec![0.6, 0.8])?; 3]),
        ("no write", Vec::new()),
    ] {
        if let Err(refused) = gather(writes, &model, &target) {
            println!("{what}: {refused}");
        }
    }
    Ok(())
}
