//! `docweir erase`: a document out of the index, its past, and everything that was kept of it.

use super::args;
use super::compact::compact;
use super::context::Context;
use super::delete;
use super::documents::find;
use super::exit::{Exit, Failure};
use super::output::plural;
use crate::documents::{DocumentId, Sha256Hex};
use crate::engine::Engine;
use crate::intake::source;
use crate::stores::control::ControlRecord;
use crate::stores::vectors::Reach;
use crate::stores::vectors::compaction::Mode;

pub fn run(context: &Context, args: &args::Erase) -> Result<Exit, Failure> {
    context.with_actors(async {
        let engine = Engine::open(context.config()?).await?;
        let mut records: Vec<ControlRecord> = Vec::new();
        for name in &args.documents {
            records.push(find(engine.control.as_ref(), name, &context.here).await?);
        }
        let vectors = engine.vectors()?;
        // Before they are gone: the cache knows them by their texts alone.
        let ids: Vec<DocumentId> = records.iter().map(|r| r.document_id.clone()).collect();
        let texts = vectors.texts_of(&ids).await?;
        let texts: Vec<Sha256Hex> = texts.iter().map(|text| Sha256Hex::of(text.as_bytes())).collect();
        let left = delete::documents(context, &engine, &records).await?;
        if left > 0 {
            let count = plural(left, "document");
            return Err(Failure::new(Exit::Busy, format!("{count} not deleted yet: erase again when they are")));
        }
        // The rows leave the files, then the files that had them go. Nothing of the past stays reachable.
        let compacted = compact(&engine, Mode::All).await?;
        if compacted.busy {
            let text = "another process is merging files of this collection: erase again when it is done";
            return Err(Failure::new(Exit::Busy, text));
        }
        let collected = vectors.collect(Reach::All).await?;
        let cached = engine.cache().forget(&texts).await.map_err(|e| Failure::system(e.to_string()))?;
        for record in &records {
            context.out.line(format!("erased: {}", source::display(&record.source, &context.here)));
        }
        context.out.line(format!(
            "the index keeps no earlier version any more: {} deleted, {} taken out of the cache",
            plural(collected.deleted.len() as u64, "file"),
            plural(cached, "vector"),
        ));
        if collected.pinned > 0 {
            let count = plural(collected.pinned, "file");
            let text = format!("{count} spared for a reader: run `docweir store gc --all` when it is done");
            return Err(Failure::new(Exit::Busy, text));
        }
        Ok(Exit::Well)
    })
}
