//! Tests that every call and every batch row is charged exactly once.

use docweir_mock_provider::{Charges, Options, text_hash};
use serde_json::json;

use crate::client::{SMALL, row, rows, start};

#[test]
fn live_and_batch_are_apart_and_a_batch_is_half_the_price() {
    let (mock, client) = start(Options::default());
    client.embed(json!(["text number 0", "text number 1"]));
    client.wait(&client.submit(&rows(2)), "completed");
    let charges = mock.charges();
    assert_eq!(
        (charges.live.requests, charges.live.inputs, charges.live.tokens, charges.live.nanodollars),
        (1, 2, 8, 160)
    );
    assert_eq!(
        (charges.batch.requests, charges.batch.inputs, charges.batch.tokens, charges.batch.nanodollars),
        (2, 2, 8, 80)
    );
    assert_eq!(charges.nanodollars(), 240);
    assert_eq!((&charges.by_model[SMALL].live, &charges.by_key["test-key"].batch), (&charges.live, &charges.batch));
    assert_eq!(charges.by_text.len(), 0, "charges by text must be recorded only if the option is set");
    let batch = &charges.batches[0];
    assert_eq!((&batch.status[..], batch.total, batch.completed, batch.charged_tokens), ("completed", 2, 2, 8));
    assert_eq!(batch.metadata, json!({"ours": "batch 1"}));

    let told: Charges = serde_json::from_value(client.get("/_mock/charges").json()).unwrap();
    assert_eq!(told, charges);
    let short: Charges = serde_json::from_value(client.get("/_mock/charges?short=1").json()).unwrap();
    assert_eq!((short.by_custom_id.len(), &short.batch), (0, &charges.batch));
}

#[test]
fn what_was_paid_twice_is_found() {
    let (mock, client) = start(Options { charges_by_text: true, ..Options::default() });
    client.embed(json!(["same", "other"]));
    client.wait(&client.submit((row("row-0", "same") + &row("row-1", "more")).as_bytes()), "completed");
    client.wait(&client.submit(row("row-1", "fourth").as_bytes()), "completed");
    let charges = mock.charges();
    assert_eq!(charges.custom_ids_paid_twice(), ["row-1"]);
    assert_eq!(charges.texts_paid_twice(), [text_hash("same")]);
    let same = &charges.by_text[&text_hash("same")];
    assert_eq!((same.live, same.batch), (1, 1));
    assert_eq!(text_hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
