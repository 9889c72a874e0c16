//! Every call that Docweir makes of AWS, by role, and who your credentials belong to. Run it with
//! `cargo run -p docweir-aws --example operations`; the question to AWS needs `--features clients` and `AWS_REGION`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

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
        println!("set AWS_REGION, and AWS_ENDPOINT_URL for another server than AWS's, to ask who you are");
        return Ok(());
    };
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
    let aws = Aws::find(AwsOptions { endpoint, ..AwsOptions::default() }).await;
    match identity::introduce(&aws).await.identity {
        Ok(identity) => println!("in {} you are {}", region.to_string_lossy(), identity.arn),
        // Says whether the call may have been carried out; for this one it does not matter.
        Err(fault) => println!("not answered: {fault}"),
    }
    Ok(())
}

#[cfg(not(feature = "clients"))]
fn who() -> Result<(), Box<dyn std::error::Error>> {
    println!("built without the feature `clients`: no calls");
    Ok(())
}
