//! Runs explorations, prints their size, and compares the broken invariants with the expected ones.

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::model::{Bounds, Guard, Protocol};
use crate::state::{Breach, State, Witness};

type Trace = Path<State, crate::model::Step>;

/// Explores every state within the bounds. Asserts that no invariant is violated and that each event in `wished`
/// occurs.
pub fn holds(name: &str, bounds: Bounds, wished: &[Witness]) {
    let (checker, found) = explore(name, bounds, &[], HasDiscoveries::AnyFailures, 2);
    assert!(found.is_empty(), "{name}: {}", tell(&found));
    for witness in wished {
        assert!(checker.model().has_witnessed(*witness), "{name}: {witness:?} does not occur within the bounds");
    }
}

/// Asserts that the violation `breach` occurs when the protocol runs without the guards in `without`. Uses one thread,
/// so that the printed trace is as short as possible.
pub fn fails(name: &str, bounds: Bounds, without: &[Guard], breach: Breach) {
    let wanted = HasDiscoveries::AllOf(BTreeSet::from([breach.name()]));
    let (_, found) = explore(name, bounds, without, wanted, 1);
    assert!(
        found.iter().any(|(n, _)| *n == breach.name()),
        "{name}: the invariant holds without {without:?}; broken invariants: {}",
        tell(&found)
    );
}

/// Asserts that the violation `breach` does not occur even when the protocol runs without the guards in `without`.
/// Other violations may occur.
pub fn holds_still(name: &str, bounds: Bounds, without: &[Guard], breach: Breach) {
    let wanted = HasDiscoveries::AllOf(BTreeSet::from([breach.name()]));
    let (_, found) = explore(name, bounds, without, wanted, 2);
    assert!(found.iter().all(|(n, _)| *n != breach.name()), "{name}: {}", tell(&found));
}

/// Asserts that, within the bounds, no invariant is violated and the event `unwished` never occurs.
pub fn never(name: &str, bounds: Bounds, unwished: Witness) {
    let (checker, found) = explore(name, bounds, &[], HasDiscoveries::AnyFailures, 2);
    assert!(found.is_empty(), "{name}: {}", tell(&found));
    assert!(!checker.model().has_witnessed(unwished), "{name}: {unwished:?} occurs within the bounds");
}

fn explore(
    name: &str,
    bounds: Bounds,
    without: &[Guard],
    until: HasDiscoveries,
    threads: usize,
) -> (impl Checker<Protocol>, Vec<(&'static str, Trace)>) {
    let begun = Instant::now();
    let builder = Protocol::new(bounds, without).checker().threads(threads).finish_when(until);
    let checker = builder.spawn_bfs().join();
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    found.sort_by_key(|(name, _)| *name);
    let (states, depth, seconds) = (checker.unique_state_count(), checker.max_depth(), begun.elapsed().as_secs_f64());
    println!("{name}: {states} states, {depth} deep, {seconds:.2} s");
    print!("{}", tell(&found));
    (checker, found)
}

/// Formats the violated invariants, each with the sequence of steps that leads to the violation.
fn tell(found: &[(&str, Trace)]) -> String {
    found.iter().map(|(name, trace)| format!("    {name}: {:?}\n", trace.clone().into_actions())).collect()
}
