//! Commits documents to a collection in a folder, searches by vector and by words, deletes and compacts. Run it with
//! `cargo run -p docweir-index --example collection`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use docweir_index::{
    DocumentId, DocumentRows, Filter, Hit, Mode, ModelIdentity, Row, SearchRequest, VectorStore, Write,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let store = VectorStore::open_folder(folder.path(), "animals")?;
    // You provide the vectors. Here, the three components say how much a text is about sea, air and land.
    let model = ModelIdentity::new("sea-air-land", "1", 3);
    let id = |name: &str| DocumentId::parse(name).ok_or("an id may contain only letters, digits, `_`, `-` and `.`");

    let whales = vec![
        Row::new("whales-0", "whales sing under water", vec![0.9, 0.1, 0.0]).with_language("eng"),
        Row::new("whales-1", "a whale breathes air", vec![0.6, 0.5, 0.0]).with_language("eng"),
    ];
    let gulls = vec![Row::new("gulls-0", "gulls glide over the water", vec![0.3, 0.9, 0.1]).with_language("eng")];
    let moles = vec![Row::new("moles-0", "maulwürfe graben gänge", vec![0.0, 0.0, 1.0]).with_language("deu")];
    let documents = [("whales", whales, 1851), ("gulls", gulls, 1970), ("moles", moles, 1912)];
    let mut writer = store.writer();
    for (name, rows, year) in documents {
        let document = DocumentRows::new(id(name)?, 1, format!("https://example.org/{name}"), rows);
        let document = document.with_metadata("year", year);
        // One commit may contain any number of documents; all become visible in one step.
        let committed = writer.commit(vec![document.into()], &model).await?;
        println!("version {}: {} rows of {name}", committed.version, committed.rows);
    }

    let view = store.view().await?;
    let sea = SearchRequest { mode: Mode::Vector, ..SearchRequest::new("sea", Some(vec![1.0, 0.0, 0.0]), 2) };
    show("nearest to the sea", &view.search(&sea)?);
    let filter = Filter::all([Filter::eq("language", "eng"), Filter::at_least("year", 1900.0)]);
    let water = SearchRequest { filter, ..SearchRequest::new("water", None, 10) };
    show("`water`, English, since 1900", &view.search(&water)?);

    // A newer version replaces the document; a deletion removes it.
    let second = vec![Row::new("gulls-0-v2", "gulls sleep on water", vec![0.7, 0.3, 0.0])];
    let second = DocumentRows::new(id("gulls")?, 2, "https://example.org/gulls", second);
    writer.commit(vec![second.into(), Write::Delete { document_id: id("whales")?, version: 2 }], &model).await?;
    if let Some(report) = store.compact().await? {
        println!("merged {} files: {} of {} rows left", report.input_files, report.output_rows, report.input_rows);
    }
    let water = SearchRequest::new("water", None, 10);
    show("`water`, now", &store.view().await?.search(&water)?);
    show("`water`, in the earlier view", &view.search(&water)?);
    Ok(())
}

fn show(title: &str, hits: &[Hit]) {
    println!("{title}:");
    for hit in hits {
        println!("  {:.3}  {} v{}  {}", hit.score, hit.document, hit.version, hit.text);
    }
}
