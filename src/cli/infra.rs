//! Implements `docweir infra`, which plans, creates and checks AWS resources and prints IAM policies.

use docweir_aws::operations::Role;

use super::args;
use super::context::Context;
use super::table::{Cell, Paint, Table, left};
use crate::config::Settings;
use crate::exit::{Exit, Failure};
use crate::infra::policy::policy;
use crate::infra::{Infra, RequiredResource, State};

pub fn run(context: &Context, command: &args::InfraCommand) -> Result<Exit, Failure> {
    let config = context.config()?;
    if let args::InfraCommand::Policy(policy) = command {
        return print_policy(context, &config.settings, policy);
    }
    if config.settings.state.is_local() {
        let text = "`docweir infra` needs AWS: set `state.backend` to `aws`, and set `buckets.artefacts`";
        return Err(Failure::usage(text));
    }
    context.block_on(async {
        let infra = Infra::of(&config.settings).await;
        let failed = |e| Failure::system(format!("cannot inspect the AWS resources: {e}"));
        let before = infra.look().await.map_err(failed)?;
        let things = match command {
            args::InfraCommand::Apply(_) => {
                infra
                    .apply()
                    .await
                    .map_err(|e| Failure::system(format!("cannot create the missing resources: {e}")))?;
                infra.look().await.map_err(failed)?
            }
            _ => before.clone(),
        };
        let json = command.json();
        for (thing, before) in things.iter().zip(&before).filter(|_| json) {
            let made = thing.state == State::Correct && before.state != State::Correct;
            context.out.json(&serde_json::json!({ "made": made, "thing": thing }));
        }
        if !json {
            let mut table = Table::new();
            things.iter().zip(&before).for_each(|(thing, before)| table.row(row(thing, before)));
            table.lines(&context.out).iter().for_each(|line| context.out.line(line));
        }
        Ok(match command {
            args::InfraCommand::Plan(_) => Exit::Success,
            _ if things.iter().all(|thing| thing.state == State::Correct) => Exit::Success,
            _ => Exit::Failed,
        })
    })
}

fn print_policy(context: &Context, settings: &Settings, args: &args::PolicyArgs) -> Result<Exit, Failure> {
    let role = match args.role {
        args::PolicyRole::Serve => Role::Serve,
        args::PolicyRole::Infra => Role::Infra,
        args::PolicyRole::Reader => Role::Reader,
    };
    let policy = policy(role, settings, &args.documents).map_err(Failure::usage)?;
    let text = serde_json::to_string_pretty(&policy).map_err(|e| Failure::system(e.to_string()))?;
    context.out.line(text);
    Ok(Exit::Success)
}

fn row(thing: &RequiredResource, before: &RequiredResource) -> [Cell; 3] {
    let (paint, text) = match (&thing.state, &before.state) {
        (State::Correct, State::Correct) => (Paint::Dim, "exists".to_owned()),
        (State::Correct, State::Missing(what)) => (Paint::Green, format!("applied: {what}")),
        (State::Correct, State::Differs(_)) => (Paint::Green, "corrected".to_owned()),
        (State::Missing(what), _) => (Paint::Yellow, format!("to do: {what}")),
        (State::Differs(what), _) => (Paint::Red, what.clone()),
    };
    let text = thing.note.iter().fold(text, |text, note| format!("{text}; {note}"));
    [left(thing.kind), left(&thing.name), left(text).painted(paint)]
}
