//! Prints how many AWS operations and IAM actions each role needs, and the identity of your credentials.
//!
//! Run it with `cargo run -p docweir-aws --example operations`. To print the identity, add `--features clients` and set
//! `AWS_REGION`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::collections::BTreeSet;

use docweir_aws::operations::{OPERATIONS, Role};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for role in [Role::Serve, Role::Infra, Role::Reader] {
        let of_role = || OPERATIONS.iter().filter(|operation| operation.roles.contains(&role));
        let actions: BTreeSet<&str> = of_role().flat_map(|operation| operation.actions).copied().collect();
        println!("{role:?}: {} operations, {} actions", of_role().count(), actions.len());
        if role == Role::Reader {
            println!("  {}", actions.into_iter().collect::<Vec<_>>().join(", "));
        }
    }
    who()
}

#[cfg(feature = "clients")]
#[tokio::main(flavor = "current_thread")]
async fn who() -> Result<(), Box<dyn std::error::Error>> {
    use docweir_aws::{Aws, AwsOptions, identity};

    let Some(region) = std::env::var_os("AWS_REGION") else {
        println!("set AWS_REGION to print your identity; AWS_ENDPOINT_URL selects a server other than AWS");
        return Ok(());
    };
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
    let aws = Aws::find(AwsOptions { endpoint, ..AwsOptions::default() }).await;
    match identity::caller_identity(&aws).await.identity {
        Ok(identity) => println!("your identity in {} is {}", region.to_string_lossy(), identity.arn),
        // A fault also says whether the call may have taken effect. This does not matter for a read.
        Err(fault) => println!("the call failed: {fault}"),
    }
    Ok(())
}

#[cfg(not(feature = "clients"))]
fn who() -> Result<(), Box<dyn std::error::Error>> {
    println!("built without the feature `clients`; no call was made");
    Ok(())
}
