//! `docweir infra`, in a program that was built without AWS's clients.

use super::args;
use super::context::Context;
use crate::backends::without_aws;
use crate::exit::{Exit, Failure};

pub fn run(_: &Context, _: &args::InfraCommand) -> Result<Exit, Failure> {
    Err(without_aws().into())
}
