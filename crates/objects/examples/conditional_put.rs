//! Demonstrates an object store in a folder: conditional puts, a put that loses a race, listing and a lease. Run it
//! with `cargo run -p docweir-objects --example conditional_put`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use docweir_core::clock::{SharedClock, SystemClock};
use docweir_objects::lease::LeaseRegister;
use docweir_objects::local::{LocalObjectOptions, LocalObjectStore};
use docweir_objects::{Durability, ObjectError, ObjectStore, Precondition};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let clock: SharedClock = Arc::new(SystemClock);
    let store = LocalObjectStore::open(folder.path(), LocalObjectOptions::default(), &clock)?;
    let objects: Arc<dyn ObjectStore> = Arc::new(store);

    let put = |text: &'static str, when| objects.put("counter", Bytes::from(text), when, Durability::Durable);
    put("1", Precondition::Absent).await?;
    let (body, tag) = objects.get("counter").await?;
    println!("read {}", String::from_utf8_lossy(&body));
    put("2", Precondition::Matches(tag.clone())).await?;
    // A writer that read the first state must not overwrite the second one.
    match put("3", Precondition::Matches(tag)).await {
        Err(ObjectError::Conflict(key)) => println!("`{key}` was changed by another writer; read it again"),
        other => println!("unexpected: {other:?}"),
    }

    for name in ["logs/a", "logs/b", "other"] {
        objects.put(name, Bytes::from_static(b"x"), Precondition::None, Durability::Rebuildable).await?;
    }
    let keys: Vec<String> = objects.list("logs/", None, 10).await?.into_iter().map(|object| object.key).collect();
    println!("under logs/: {}", keys.join(", "));

    // A lease is an object that is replaced by conditional puts.
    let register = LeaseRegister::new(objects.clone(), "lease".into(), clock);
    let held = register.acquire("first", Duration::from_secs(60), 0).await?.ok_or("the lease is not free")?;
    let second = register.acquire("second", Duration::from_secs(60), 0).await?;
    println!("epoch {} is held by {}; acquired twice: {}", held.record.epoch, held.record.holder, second.is_some());
    register.release(&held).await?;
    let next = register.acquire("second", Duration::from_secs(60), 0).await?.ok_or("the lease was not released")?;
    println!("epoch {} is held by {}", next.record.epoch, next.record.holder);
    Ok(())
}
