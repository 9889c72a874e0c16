//! Implements the command line. Each command has a file, which does little more than call the library.
//!
//! Results go to standard output; progress, errors and the log go to standard error. A pipe therefore receives only
//! results. Every error is one line that says what to do next. `docweir --help` lists the exit codes.

pub mod args;
mod artefact_view;
mod audit;
mod batch;
mod compact;
mod completions;
mod config;
mod context;
mod cost;
mod delete;
mod doctor;
mod documents;
mod drive;
mod erase;
mod erase_report;
mod estimate;
mod extract;
mod gone_sources;
mod hits;
#[cfg(feature = "aws")]
mod infra;
#[cfg(not(feature = "aws"))]
#[path = "without_aws.rs"]
mod infra;
mod ingest;
mod logging;
mod output;
mod progress;
mod quarantine;
mod queries;
mod queue;
mod retry;
mod rollback;
mod search;
mod serve;
mod stage;
mod status;
mod store;
mod submit;
mod summary;
mod table;
mod unknown_collection;

use std::process::ExitCode;

use clap::Parser;
use docweir_extract::worker_main;

use self::args::{Cli, Command};
use self::context::Context;
use crate::exit::{Exit, Failure};

/// Name of the hidden command that parses documents in a child process.
const WORKER: &str = "__extract-worker";

pub fn main() -> ExitCode {
    docweir_core::memory::share_heaps();
    // A child sets its limits before it starts a thread or a runtime or reads any input.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == WORKER) {
        return worker_main();
    }
    if let Err(error) = docweir_core::isolation::hide_from_children() {
        output::print_error(format!("warning: this process is not protected from its children: {error}"));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    logging::log_panics();
    let exit = match run(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            failure.lines.iter().for_each(output::print_error);
            failure.exit
        }
    };
    match output::write_failure() {
        Some(error) => {
            output::print_error(format!("the output is incomplete: cannot write to standard output: {error}"));
            if exit == Exit::Success { Exit::System } else { exit }
        }
        None => exit,
    }
    .into()
}

/// Prints the help, the version, or an error of the command line. An error quotes the arguments.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.render();
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match error.use_stderr() {
        false => drop(error.print()),
        true if output::wants_colours(terminal) => {
            output::write_error_line(text.ansi().to_string().trim_end());
        }
        true => output::write_error_line(&output::printable(text.to_string().trim_end())),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let context = Context::new(cli.global)?;
    match &cli.command {
        Command::Ingest(args) => ingest::run(&context, args),
        Command::Serve(args) => serve::run(&context, args),
        Command::Submit(args) => submit::run(&context, args),
        Command::Search(args) => search::run(&context, args),
        Command::Status(args) => status::run(&context, args),
        Command::Audit(args) => audit::run(&context, args),
        Command::Quarantine(command) => quarantine::run(&context, command),
        Command::Retry(args) => retry::run(&context, args),
        Command::Delete(args) => delete::run(&context, args),
        Command::Erase(args) => erase::run(&context, args),
        Command::Compact(args) => compact::run(&context, args),
        Command::Batch(command) => batch::run(&context, command),
        Command::Estimate(args) => estimate::run(&context, args),
        Command::Cost(args) => cost::run(&context, args),
        Command::Infra(command) => infra::run(&context, command),
        Command::Queue(command) => queue::run(&context, command),
        Command::Doctor(args) => doctor::run(&context, args),
        Command::Store(command) => store::run(&context, command),
        Command::Extract(args) => extract::run(&context, args),
        Command::Stage(args) => stage::run(&context, args),
        Command::Config(command) => config::run(&context, command),
        Command::Completions(args) => completions::run(&context, args),
        Command::ExtractWorker { .. } => {
            Err(Failure::usage(format!("`{WORKER}` must be the first argument; only docweir itself runs this command")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_examples_of_the_help_texts_are_understood() {
        let mut command = Cli::command();
        command.build();
        let mut texts = vec![command.get_after_help().map(ToString::to_string).unwrap_or_default()];
        texts.extend(command.get_subcommands().filter_map(|c| c.get_after_help()).map(ToString::to_string));
        let mut examples = 0;
        for line in texts.iter().flat_map(|t| t.lines()).filter_map(|l| l.trim_start().strip_prefix("docweir ")) {
            let line = line.split(['|', '>']).next().filter(|_| !line.contains('\'')).unwrap_or(line);
            let words = words(line);
            let parsed = Cli::try_parse_from(std::iter::once("docweir").chain(words.iter().map(String::as_str)));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
            examples += 1;
        }
        assert!(examples >= 10, "only {examples} examples found");
    }

    /// Splits an example command from a help text into words, as a shell does. Quotes group words. The command ends
    /// at a pipe, at a redirection, or at three spaces, which precede an explanation in help texts.
    fn words(line: &str) -> Vec<String> {
        let line = line.split("   ").next().unwrap_or(line);
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in line.chars().chain([' ']) {
            match (quote, c) {
                (None, '|' | '>') => break,
                (None, '"' | '\'') => quote = Some(c),
                (Some(q), c) if q == c => quote = None,
                (None, ' ') if word.is_empty() => {}
                (None, ' ') => words.push(std::mem::take(&mut word)),
                (_, c) => word.push(c),
            }
        }
        words
    }
}
