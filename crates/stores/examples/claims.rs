//! Demonstrates how processes share work. A document is registered once and claimed under a lease, and an epoch
//! fences a process that stalled. Run it with `cargo run -p docweir-stores --example claims`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::sync::Arc;
use std::time::Duration;

use docweir_core::clock::{ManualClock, SharedClock};
use docweir_core::documents::{MediaType, Sha256Hex, Stage};
use docweir_stores::control::sqlite::{SqliteControlOptions, SqliteControlStore};
use docweir_stores::control::{ControlError, ControlStore, NewDocument, Transition};

const LEASE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(1_767_225_600_000_000));
    let shared: SharedClock = clock.clone();
    let store =
        SqliteControlStore::open(&folder.path().join("control.db"), SqliteControlOptions::default(), shared).await?;

    let document = NewDocument {
        source: "file:///papers/leases.pdf".into(),
        content: Sha256Hex::of(b"its bytes"),
        fingerprint: Sha256Hex::of(b"the configuration"),
        bytes: 9,
        media_type: MediaType::Pdf,
        tenant: "default".into(),
        weight: 1,
        tag: None,
        parent: None,
    };
    store.register(vec![document.clone()]).await?;
    let again = store.register(vec![document]).await?;
    println!("registered twice: {}", format!("{:?}", again.first()).split('(').nth(1).unwrap_or_default());

    let first = store.claim("first", LEASE, 10, None).await?;
    println!("the first has {} claim, the second {}", first.len(), store.claim("second", LEASE, 10, None).await?.len());
    // The first process stalls and its lease expires, so the second process takes over the document.
    clock.advance(LEASE * 2);
    let second = store.claim("second", LEASE, 10, None).await?;
    let (Some(first), Some(second)) = (first.first(), second.first()) else { return Err("nothing to claim".into()) };
    println!("epochs: {} and then {}", first.key.epoch, second.key.epoch);

    let started = Transition::StageStarted { stage: Stage::Extraction };
    match store.apply(&first.key, started.clone()).await {
        Err(ControlError::Fenced(_)) => println!("the first process wakes up, and its write is refused"),
        other => println!("unexpected: {other:?}"),
    }
    store.apply(&second.key, started).await?;
    let record = store.record(&second.key.id).await?;
    println!("{:?} at {}, held by {}", record.status, record.current_stage, record.lease_owner.unwrap_or_default());
    for event in store.audit(&second.key.id, None, 10).await? {
        println!("  {} {}", event.timestamp.split('#').next().unwrap_or_default(), event.event_type);
    }
    Ok(())
}
