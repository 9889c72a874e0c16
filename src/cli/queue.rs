//! Implements `docweir queue`, which moves failed messages back to their queues.

use super::args;
use super::context::Context;
use super::output::plural;
use crate::actors::queues::queue_name;
use crate::backends::cloud;
use crate::exit::{Exit, Failure};

pub fn run(context: &Context, command: &args::QueueCommand) -> Result<Exit, Failure> {
    let args::QueueCommand::Redrive(args) = command;
    let config = context.config()?;
    let queues: Vec<&str> = config.settings.queues.addresses().collect();
    if queues.is_empty() {
        return Err(Failure::usage("no queue is configured: set `queues.intake` or `queues.compaction`"));
    }
    context.block_on(async {
        for queue in queues {
            let messages = cloud::redrive(&config.settings, queue).await?;
            let name = queue_name(queue);
            match args.json {
                true => context.out.json(&serde_json::json!({ "queue": name, "messages": messages })),
                false => context.out.line(format!("{name}: {} moved back", plural(messages, "message"))),
            }
        }
        Ok(Exit::Success)
    })
}
