//! Embeds texts through OpenAI's protocol and reserves money before each call. The endpoint is a mock provider on this
//! machine. Run it with `cargo run -p docweir-providers --example openai_embeddings`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::sync::Arc;

use docweir_admission::Admission;
use docweir_core::cancel::Cancel;
use docweir_core::clock::SystemClock;
use docweir_mock_provider::{MockProvider, Options};
use docweir_providers::account::{Account, Alerts, BudgetOptions};
use docweir_providers::openai::{Client, OpenAiEmbedder, OpenAiOptions};
use docweir_providers::prices::PriceOptions;
use docweir_providers::secrets::Key;
use docweir_stages::embed::{Call, Embedder};
use docweir_stores::control::sqlite::SqliteControlOptions;
use docweir_stores::ledger::{GroupBy, Ledger, SqliteLedger};
use docweir_stores::paid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // To call OpenAI itself, keep the default `base_url`, and read the key with `secrets::Secrets`.
    let mock = MockProvider::start(Options::default())?;
    let options = OpenAiOptions { base_url: mock.base_url(), ..OpenAiOptions::default() };
    let price = PriceOptions::default().of(&options.model);

    let folder = tempfile::tempdir()?;
    let paid = paid::open(&folder.path().join("paid.db"), &SqliteControlOptions::default().opening())?;
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::new(paid, Arc::new(SystemClock)));
    let account = Account {
        ledger: ledger.clone(),
        run: "example".into(),
        stage: "embedding",
        model: options.model.clone(),
        collection: "chunks".into(),
        price,
        options: BudgetOptions { run_usd: 0.01, ..BudgetOptions::default() },
        alerts: Alerts::new(Arc::new(|_text| {})),
    };
    let admission = Admission::new(options.model.clone(), options.limits.clone(), fastrand::Rng::new());
    let client = Client::new(&options, Key::from("test-key".to_owned()))?;
    let embedder = OpenAiEmbedder::new(client, admission, options, "chunks", Some(account), price);

    let texts = vec!["a stale lease is fenced".to_owned(), "cats sleep".to_owned()];
    let call = Call { subject: "example", collection: None, cancel: &Cancel::default() };
    let batch = embedder.embed(texts, call).await?;
    println!(
        "{} vectors of {} dimensions for {} tokens",
        batch.vectors.len(),
        embedder.identity().dimension,
        batch.tokens
    );
    for line in ledger.report(GroupBy::Model, "2000-01-01", 10).await? {
        println!("the ledger has {} call of {} for {}", line.settled.calls, line.name, line.settled.cost);
    }
    println!("the provider charged {} nanodollars", mock.charges().live.nanodollars);
    Ok(())
}
