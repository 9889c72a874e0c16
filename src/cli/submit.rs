//! Implements `docweir submit`, which registers documents without processing them. A running `docweir serve`
//! processes them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::args;
use super::context::Context;
use super::ingest::split;
use super::output::{Out, count, plural, printable};
use crate::actors::intake::{Intake, Request};
use crate::actors::outages::Outages;
use crate::actors::prune::Prune;
use crate::engine::{Engine, counter, fingerprint};
use crate::exit::{Exit, Failure};
use crate::intake::{Walk, source};
use crate::messages::event::{Event, EventSink};

/// Counts the submitted documents by outcome.
#[derive(Default)]
struct SubmitReport {
    registered: u64,
    unchanged: u64,
    unreadable: u64,
}

pub fn run(context: &Context, args: &args::Submit) -> Result<Exit, Failure> {
    context.block_on(submit(context, args))
}

async fn submit(context: &Context, args: &args::Submit) -> Result<Exit, Failure> {
    let config = context.config()?;
    let (objects, paths): (Vec<String>, Vec<PathBuf>) = split(&args.paths);
    let walk = Walk::new(&paths, &config.settings.intake).map_err(|e| Failure::usage(e.to_string()))?;
    let engine = Engine::create(config).await?;
    let settings = &engine.config.settings;
    // The model is part of the fingerprint: a process with another model would process the document again.
    let model = counter(settings).await?.identity().clone();
    let told: Arc<Mutex<SubmitReport>> = Arc::default();
    let (out, here, json, sum) = (Out { colour: context.out.colour }, context.here.clone(), args.json, told.clone());
    let events: Arc<dyn EventSink> = Arc::new(move |event: Event| {
        let mut told = sum.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |uri: &str| printable(&source::display(uri, &here));
        let line = match &event {
            Event::Registered { document, version, source, .. } => {
                told.registered += 1;
                let version = if *version > 1 { format!(" as version {version}") } else { String::new() };
                format!("{} {document}{version}: {}", out.green("registered"), shown(source))
            }
            Event::Unchanged { document, source, quarantined } => {
                told.unchanged += 1;
                let how = if *quarantined { "quarantined" } else { "unchanged" };
                format!("{} {document}: {}", out.dim(how), shown(source))
            }
            Event::Unreadable { source, reason } => {
                told.unreadable += 1;
                format!("{} {}: {reason}", out.red("unreadable"), shown(source))
            }
            Event::Notice { text } => text.clone(),
            _ => return,
        };
        match json {
            true => out.json(&event),
            false => out.line(line),
        }
    });
    let folder = engine.state.root().to_owned();
    let outages = Outages::new(Arc::default(), events.clone(), engine.clock.clone(), folder);
    let intake = Intake {
        control: engine.control.clone(),
        originals: engine.originals.clone(),
        events,
        options: settings.intake.clone(),
        fingerprint: fingerprint(settings, &model),
        retry: settings.retry.clone(),
        wake: Arc::default(),
        outages: Arc::new(outages),
    };
    let done = intake.run(Request { walk, objects, prune: Prune::default() }).await;
    engine.control.flush().await?;
    done.map_err(|e| Failure::system(e.to_string()))?;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if args.json {
        context.out.json(&serde_json::json!({
            "event": "summary",
            "registered": told.registered,
            "unchanged": told.unchanged,
            "unreadable": told.unreadable,
        }));
    } else {
        let taken_up = if told.registered > 0 { format!("; processed {}", engine.picked_up()) } else { String::new() };
        let rest = format!("{} unchanged, {} unreadable", count(told.unchanged), count(told.unreadable));
        context.out.line(format!("{} registered, {rest}{taken_up}", plural(told.registered, "document")));
    }
    Ok(match (told.unreadable, told.registered + told.unchanged) {
        (1.., _) => Exit::Rejected,
        (_, 0) => Exit::Failed,
        _ => Exit::Success,
    })
}
