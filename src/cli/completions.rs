//! Implements `docweir completions`, which prints a completion script for the user's shell.

use clap::CommandFactory;

use super::args;
use super::context::Context;
use crate::exit::{Exit, Failure};

pub fn run(context: &Context, args: &args::Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::Cli::command(), "docweir", &mut script);
    context.out.line(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Success)
}
