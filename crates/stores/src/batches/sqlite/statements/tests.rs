//! Compares each statement with its rule on the same generated items.

use std::time::Duration;

use proptest::prelude::*;

use super::super::state::{self, Given, KNOWN, Known, known};
use super::*;
use crate::batches::rules::{ItemContent, ItemState, ItemStatus, Step, hash_of, records, sending};
use crate::paid;
use crate::sqlite::OpenOptions;

const OPTIONS: OpenOptions = OpenOptions::durable(Duration::from_secs(5), 1_000, 512);
const SPACE: &str = "lines";

/// Holds a generated item, and whether the item is a text.
type Generated = (ItemState, bool);

prop_compose! {
    fn item()(
        (version, attempts, asks) in (1u64..4, 0u64..4, 0u64..3),
        status in prop::sample::select(ItemStatus::ALL.to_vec()),
        // A deleted text is not kept, and a deleted item is not reused.
        (is_text, deleted, reuse, unwanted) in any::<(bool, bool, bool, bool)>()
            .prop_map(|(text, deleted, reuse, unwanted)| (text, deleted && !text, reuse && !deleted, unwanted && text)),
        batch in prop::sample::select(vec![None, Some("b"), Some("c"), Some("live:1")]),
        sent in prop::sample::select(vec![None, Some("text"), Some("other")]),
        error in prop::option::of(Just("500".to_owned())),
        stored in prop::option::of(1u64..4),
        from_table in any::<bool>(),
        told in 0u8..3,
    ) -> Generated {
        let state = ItemState {
            version, status, deleted, unwanted, reuse, attempts, error, stored, from_table, asks,
            hash: hash_of("text"),
            sent: sent.map(hash_of),
            batch: batch.map(str::to_owned),
            told: None,
        };
        let told = match told {
            0 => None,
            1 => state.mark(),
            _ => Some(format!("0 {version} SUCCESS")),
        };
        (ItemState { told, ..state }, is_text)
    }
}

/// Replaces all items in the file by the generated items. Returns the new items in order.
fn fill(tx: &Transaction<'_>, items: &[Generated]) -> Result<Vec<Known>> {
    tx.execute_batch("DELETE FROM items; DELETE FROM waits;")?;
    items.iter().zip(0..).map(|((now, is_text), nth)| one(tx, now, *is_text, nth)).collect()
}

fn one(tx: &Transaction<'_>, now: &ItemState, is_text: bool, nth: usize) -> Result<Known> {
    let shown = if is_text || now.deleted { String::new() } else { "{}".to_owned() };
    let put = state::Put { input: "text".into(), tokens: 4, shown, origin: now.from_table.then(|| "{}".to_owned()) };
    let id = state::insert(tx, SPACE, &nth.to_string(), now, &put, None)?;
    let item = Known { id, is_text, state: now.clone() };
    let step = Step::Write { state: Box::new(now.clone()), content: ItemContent::Same, fate: None };
    state::apply(tx, &item, &step, Given::Nothing)?;
    if is_text && !now.unwanted {
        tx.execute("INSERT INTO waits VALUES ('doc', ?1)", [id])?;
    }
    Ok(item)
}

fn all(tx: &Transaction<'_>) -> Result<Vec<(i64, ItemState)>> {
    let sql = format!("SELECT {KNOWN} FROM items ORDER BY id");
    tx.prepare(&sql)?.query_map([], |row| known(row).map(|item| (item.id, item.state)))?.collect()
}

/// Returns the items after a rule was applied.
fn after(items: &[Known], rule: impl Fn(&Known) -> Step) -> Vec<(i64, ItemState)> {
    let one = |item: &Known| match rule(item) {
        Step::Keep => Some((item.id, item.state.clone())),
        Step::Write { state, content: ItemContent::Same, .. } => Some((item.id, *state)),
        Step::Write { content, .. } => panic!("a statement writes {content:?}"),
        Step::Delete => None,
    };
    items.iter().filter_map(one).collect()
}

type Found = Vec<(i64, ItemState)>;
/// Holds the name of a comparison, then the items that the SQL statement gives, then the items that the rule gives.
type Comparison = (&'static str, Found, Found);

/// Returns the items that the SQL condition finds, and the items that the rule selects.
fn found(
    tx: &Transaction<'_>,
    name: &'static str,
    condition: &str,
    items: &[Known],
    rule: fn(&ItemState) -> bool,
) -> Result<Comparison> {
    let sql = format!("SELECT id FROM items i WHERE {condition} ORDER BY id");
    // Conditions on a batch have the batch's name as parameter.
    let batch: Vec<&str> = if condition.contains("?1") { vec!["b"] } else { Vec::new() };
    let ids: Vec<i64> =
        tx.prepare(&sql)?.query_map(rusqlite::params_from_iter(batch), |r| r.get(0))?.collect::<Result<_>>()?;
    let states = |wanted: &dyn Fn(&Known) -> bool| {
        items.iter().filter(|item| wanted(item)).map(|item| (item.id, item.state.clone())).collect::<Found>()
    };
    Ok((name, states(&|item| ids.contains(&item.id)), states(&|item| rule(&item.state))))
}

fn conditions(tx: &Transaction<'_>, generated: &[Generated]) -> Result<Vec<Comparison>> {
    let items = fill(tx, generated)?;
    let as_they_are = all(tx)?;
    let mut outcomes = vec![("items are read as written", as_they_are, after(&items, |_| Step::Keep))];
    outcomes.push(found(tx, "WAITING", WAITING, &items, ItemState::is_waiting)?);
    outcomes.push(found(tx, "LEAVES", LEAVES, &items, ItemState::leaves)?);
    outcomes.push(found(tx, "REFRESHES", REFRESHES, &items, ItemState::refreshes)?);
    outcomes.push(found(tx, "OWES", OWES, &items, ItemState::owes)?);
    outcomes.push(found(tx, "OPEN", OPEN, &items, ItemState::is_open)?);
    outcomes.push(found(tx, "IN_BATCH", IN_BATCH, &items, |state| state.is_in("b"))?);
    outcomes.push(found(tx, "FRESH", FRESH, &items, |state| state.is_fresh_in("b"))?);
    Ok(outcomes)
}

fn changes(tx: &Transaction<'_>, generated: &[Generated]) -> Result<Vec<Comparison>> {
    let mut outcomes = Vec::new();
    let items = fill(tx, generated)?;
    let last = items.get(items.len() / 2).map_or(0, |item| item.id);
    claim(tx, SPACE, "b", last)?;
    let claimed = |item: &Known| match item.id <= last {
        true => sending::claim(&item.state, "b", &item.state.hash).unwrap_or(Step::Keep),
        false => Step::Keep,
    };
    outcomes.push(("claim", all(tx)?, after(&items, claimed)));
    for batch in [None, Some("b")] {
        let items = fill(tx, generated)?;
        retry(tx, batch)?;
        outcomes.push(("retry", all(tx)?, after(&items, |item| records::retry(&item.state, batch))));
    }
    // Live calls are only for records.
    let records: Vec<Generated> = generated.iter().filter(|(_, is_text)| !is_text).cloned().collect();
    let items = fill(tx, &records)?;
    unclaim(tx, "live:1")?;
    outcomes.push(("unclaim", all(tx)?, after(&items, |item| sending::unclaim(&item.state, "live:1"))));
    let items = fill(tx, &records)?;
    abandon_live(tx)?;
    outcomes.push(("abandon_live", all(tx)?, after(&items, |item| sending::abandon_live(&item.state))));
    Ok(outcomes)
}

#[test]
fn every_statement_does_what_its_rule_says() {
    let folder = tempfile::tempdir().unwrap();
    let database = paid::open(&folder.path().join("paid.db"), &OPTIONS).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let configuration = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let run = |items: Vec<Generated>| {
        let outcomes = runtime.block_on(database.write(move |tx| {
            let mut outcomes = conditions(tx, &items)?;
            outcomes.extend(changes(tx, &items)?);
            Ok(outcomes)
        }));
        for (name, statement, rule) in outcomes.unwrap() {
            prop_assert_eq!(statement, rule, "{}", name);
        }
        Ok(())
    };
    proptest::test_runner::TestRunner::new(configuration).run(&prop::collection::vec(item(), 1..12), run).unwrap();
}
