//! Reports that `docweir infra` is unavailable in a program built without the AWS clients.

use super::args;
use super::context::Context;
use crate::backends::without_aws;
use crate::exit::{Exit, Failure};

pub fn run(_: &Context, _: &args::InfraCommand) -> Result<Exit, Failure> {
    Err(without_aws().into())
}
