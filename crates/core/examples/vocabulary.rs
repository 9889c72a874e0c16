//! Shows document ids, timestamps, exact amounts of money, classified failures and cancellation. Run it with
//! `cargo run -p docweir-core --example vocabulary`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::clock::{Clock, ManualClock, parse_timestamp, timestamp};
use docweir_core::documents::{DocumentId, Stage};
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::money::Nanodollars;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // All time comes from a clock, so a test can control it.
    let clock = ManualClock::at(parse_timestamp("2026-01-31T12:00:05Z").ok_or("not a timestamp")?);
    let id = DocumentId::mint(clock.now(), 0xabc123);
    clock.advance(Duration::from_secs(90));
    println!("{id} is done at {}", timestamp(clock.now()));

    let stages: Vec<&str> =
        std::iter::successors(Some(Stage::Extraction), |stage| stage.next()).map(Stage::verb).collect();
    println!("stages: {}", stages.join(", "));

    // Amounts are billionths of a dollar, so sums of millions of calls are exact.
    let call = Nanodollars::of_tokens(350, 0.02);
    let all: Nanodollars = std::iter::repeat_n(call, 1_000_000).sum();
    println!("one call costs {} nanodollars, a million of them {all}", call.0);

    // A stage reports the class of a failure; the supervisor decides whether to retry.
    let failure = StageError::throttled("the endpoint throttles requests", Some(Duration::from_secs(20)));
    println!("{failure}: retried without using up an attempt: {}", failure.class == ErrorClass::Throttled);

    let cancel = Cancel::default();
    let seen_by_the_worker = cancel.clone();
    cancel.cancel();
    if let Err(ended) = seen_by_the_worker.check() {
        println!("{}: {ended}", ended.code);
    }
    Ok(())
}
