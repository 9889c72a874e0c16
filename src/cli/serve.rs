//! Implements `docweir serve`, which processes registered documents until it is stopped.

use docweir_records::Shape;

use super::args;
use super::context::Context;
use super::drive::drive;
use crate::actors::records_intake::RecordsRequest;
use crate::config::Argument;
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::pipeline::IngestRequest;

pub fn run(context: &Context, args: &args::Serve) -> Result<Exit, Failure> {
    let address = args.metrics_addr.map(|a| Argument::new("--metrics-addr", "http.metrics_address", a.to_string()));
    let mut config = context.config_with(address.into_iter().collect())?;
    // A service waits until the outage of a store is over, however long that takes.
    config.settings.retry.outage_seconds = u64::MAX;
    config.settings.embed.options.openai.waits_if_unreadable = true;
    context.with_actors(async {
        let table = &config.settings.records.table;
        // The configuration does not make this check, because `search --collection` sets `state.collection` to any
        // collection, including one that holds records.
        let takes_records = !table.name.is_empty() && matches!(table.served(), Shape::Records { .. });
        if takes_records && table.collection == config.settings.state.collection {
            let text = "`records.table.collection` must name a collection that holds no documents";
            return Err(Failure::new(Exit::Configuration, text));
        }
        let records = (!table.name.is_empty()).then(|| RecordsRequest {
            files: Vec::new(),
            tables: vec![table.name.clone()],
            shape: table.served(),
            collection: table.collection.clone(),
        });
        let engine = Engine::create(config).await?;
        let request = IngestRequest { serves: true, records, ..IngestRequest::default() };
        drive(context, &engine, request, "docweir serve".into(), &args.run).await
    })
}
