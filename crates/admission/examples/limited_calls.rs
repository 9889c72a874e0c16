//! Shares a provider's limits fairly between two callers, and shows a refusal. Run it with
//! `cargo run -p docweir-admission --example limited_calls`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::sync::Arc;
use std::time::Duration;

use docweir_admission::{Admission, AdmissionOptions, Ask, CallOutcome, Refused};
use docweir_core::cancel::Cancel;
use tokio::time::Instant;

// The clock is paused and jumps to the next deadline, so the example finishes at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = AdmissionOptions {
        concurrency: 2,
        requests_per_minute: 600, // ten requests a second
        burst_seconds: 0.2,       // at most two of them at once
        max_wait_seconds: 2.0,
        ..AdmissionOptions::default()
    };
    let admission = Admission::new("a model", options, fastrand::Rng::with_seed(7));
    let ask = |lane: &str| Ask { lane: lane.into(), weight: 1, tokens: 100, turn: None };

    // One lane asks for six calls, and another lane asks for one call. The single call does not wait for all six.
    let began = Instant::now();
    let mut calls = Vec::new();
    for lane in ["many", "many", "many", "many", "many", "many", "few"] {
        let (admission, ask) = (admission.clone(), ask(lane));
        calls.push(tokio::task::spawn(async move {
            let permit = admission.enter(ask, &Cancel::default()).await.map_err(|_| "the call would wait too long")?;
            let order = began.elapsed();
            permit.end(&CallOutcome::Answered(None)); // send the request before this line
            Ok::<_, &'static str>((order, lane))
        }));
    }
    let mut turns = Vec::new();
    for call in calls {
        turns.push(call.await??);
    }
    turns.sort_unstable();
    let order: Vec<&str> = turns.iter().map(|(_, lane)| *lane).collect();
    println!("turns: {}", order.join(", "));
    println!("{} calls took more than 0.2 s: {}", turns.len(), began.elapsed() > Duration::from_millis(200));

    // The provider throttles for 30 s. The gate closes for this time and refuses calls that would wait too long.
    let permit = enter(&admission, ask("many")).await?;
    permit.end(&CallOutcome::Throttled(Some(Duration::from_secs(30)), None));
    match admission.enter(ask("few"), &Cancel::default()).await {
        Err(refused @ Refused::Busy(_)) => println!("refused: {}", refused.into_error("a model")),
        _ => println!("let through"),
    }
    Ok(())
}

async fn enter(admission: &Arc<Admission>, ask: Ask) -> Result<docweir_admission::Permit, &'static str> {
    admission.enter(ask, &Cancel::default()).await.map_err(|_| "the call would wait too long")
}
