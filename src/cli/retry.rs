//! Implements `docweir retry`, which marks documents as pending, so that they are processed again.

use docweir_stores::control::rules::RELEASED;

use super::args;
use super::context::Context;
use super::documents::find;
use super::output::plural;
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::intake::source;

pub fn run(context: &Context, args: &args::Retry) -> Result<Exit, Failure> {
    context.block_on(async {
        let engine = Engine::open(context.config()?).await?;
        let Some(document) = &args.document else {
            let released = engine.control.resume(Some(RELEASED)).await?;
            let documents = plural(released, "held document");
            context.out.line(match released {
                0 => "no document is held".to_owned(),
                _ => format!("{documents} pending again; they are processed {}", engine.picked_up()),
            });
            return Ok(Exit::Success);
        };
        let record = find(engine.control.as_ref(), document, &context.here).await?;
        let key = engine.control.reset(&record.document_id, args.from).await?;
        let shown = source::display(&record.source, &context.here);
        let from = args.from.map(|stage| format!(" from {}", stage.verb())).unwrap_or_default();
        let version =
            if key.version == record.version { String::new() } else { format!(" as version {}", key.version) };
        context.out.line(format!("pending again{from}{version}: {shown}; it is processed {}", engine.picked_up()));
        Ok(Exit::Success)
    })
}
