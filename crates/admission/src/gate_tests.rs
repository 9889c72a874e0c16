use super::*;

fn ask(lane: &str, weight: u32, tokens: u64) -> Ask {
    Ask { lane: lane.into(), weight, tokens, turn: None }
}

/// Returns a gate whose endpoint has answered before.
fn gate(options: AdmissionOptions, now: Instant) -> Gate {
    let mut gate = Gate::new(options, fastrand::Rng::with_seed(1), now);
    gate.answered = true;
    gate
}

fn unlimited(concurrency: usize) -> AdmissionOptions {
    AdmissionOptions { requests_per_minute: 0, tokens_per_minute: 0, concurrency, ..AdmissionOptions::default() }
}

const DONE: CallOutcome = CallOutcome::Answered(None);

#[test]
fn lanes_share_by_weight_and_the_small_are_not_held_up() {
    let now = Instant::now();
    let mut gate = gate(unlimited(1), now);
    let mut lanes = HashMap::new();
    // The first lane has many calls in the queue before the other lanes ask.
    for (lane, weight, calls) in [("bulk", 1, 300), ("twice", 2, 300), ("small", 1, 3)] {
        for _ in 0..calls {
            lanes.insert(gate.ask(ask(lane, weight, 1_000), now).0, lane);
        }
    }
    let mut order = Vec::new();
    while let Next::Go(ticket) = gate.next(now) {
        order.push(lanes[&ticket]);
        gate.end(ticket, &DONE, now);
    }
    assert_eq!(order.len(), 603);
    let count = |lane| order[..120].iter().filter(|l| **l == lane).count();
    assert_eq!(count("small"), 3);
    assert!(count("twice").abs_diff(2 * count("bulk")) <= 3, "{} {}", count("twice"), count("bulk"));
    assert!(order[..12].iter().filter(|l| **l == "small").count() >= 2, "{:?}", &order[..12]);
}

#[test]
fn a_lane_that_was_away_is_owed_nothing() {
    let now = Instant::now();
    let mut gate = gate(unlimited(1), now);
    let mut running = Vec::new();
    for _ in 0..100 {
        gate.ask(ask("busy", 1, 10), now);
    }
    for n in 0..150 {
        if n == 50 {
            (0..100).for_each(|_| _ = gate.ask(ask("late", 1, 10), now));
        }
        let Next::Go(ticket) = gate.next(now) else { panic!("{n}") };
        running.push(ticket);
        gate.end(ticket, &DONE, now);
    }
    // Tickets from 100 on belong to the late lane.
    let late = running[50..100].iter().filter(|t| **t >= 100).count();
    assert!((24..=26).contains(&late), "{late}");
}

#[test]
fn a_refusal_closes_the_gate_and_the_refused_comes_first() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs_f64(seconds);
    let mut gate = gate(unlimited(2), start);
    let (first, turn) = gate.ask(ask("a", 1, 100), start);
    gate.ask(ask("a", 1, 100), start);
    gate.ask(ask("a", 1, 100), start);
    assert_eq!(gate.next(start), Next::Go(first));
    let Next::Go(second) = gate.next(start) else { panic!() };
    assert_eq!(gate.next(start), Next::Idle, "two at a time");
    gate.end(first, &CallOutcome::Throttled(Some(Duration::from_secs(7)), None), at(1.0));
    let (again, _) = gate.ask(Ask { turn: Some(turn), ..ask("a", 1, 100) }, at(1.0));
    assert_eq!(gate.next(at(2.0)), Next::Wait(at(8.0)));
    // A call that ends well meanwhile does not open the gate early.
    gate.end(second, &DONE, at(2.0));
    assert_eq!(gate.next(at(2.0)), Next::Wait(at(8.0)));
    assert_eq!(gate.next(at(8.0)), Next::Go(again));
    // Refusals that name no wait cause longer pauses each time, up to the configured limit.
    let mut last = 0.0;
    let mut running = again;
    for n in 0..12 {
        let now = at(100.0 * f64::from(n + 1));
        gate.end(running, &CallOutcome::Throttled(None, None), now);
        gate.ask(ask("a", 1, 1), now);
        let Next::Wait(until) = gate.next(now) else { panic!("{n}") };
        let wait = (until - now).as_secs_f64();
        assert!(wait > last || wait >= 90.0, "{n}: {wait}");
        assert!(wait <= 120.0);
        last = wait;
        let Next::Go(ticket) = gate.next(until) else { panic!("{n}") };
        running = ticket;
    }
}

#[test]
fn what_fails_again_and_again_is_shut_and_one_looks() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs_f64(seconds);
    let mut gate = gate(AdmissionOptions { failures: 3, down_seconds: 10.0, ..unlimited(8) }, start);
    let go = |gate: &mut Gate, now| {
        gate.ask(ask("a", 1, 1), now);
        gate.next(now)
    };
    for n in 0..3 {
        assert_eq!(gate.shut(start), None, "{n}");
        let Next::Go(ticket) = go(&mut gate, start) else { panic!("{n}") };
        gate.end(ticket, &CallOutcome::Failed, start);
    }
    let (why, left) = gate.shut(start).unwrap();
    assert!(why == Shut::Down && (7.5..=10.0).contains(&left.as_secs_f64()), "{left:?}");
    assert!(matches!(go(&mut gate, start), Next::Wait(_)));
    let Next::Go(probe) = gate.next(at(10.0)) else { panic!() };
    assert_eq!(go(&mut gate, at(10.0)), Next::Idle, "one alone");
    gate.end(probe, &CallOutcome::Failed, at(11.0));
    let (_, left) = gate.shut(at(11.0)).unwrap();
    assert!(left > Duration::from_secs(14), "longer each time: {left:?}");
    let Next::Go(probe) = gate.next(at(31.0)) else { panic!() };
    gate.end(probe, &DONE, at(31.0));
    assert!(matches!(go(&mut gate, at(31.0)), Next::Go(_)));
    assert!(matches!(go(&mut gate, at(31.0)), Next::Go(_)), "all places again");
}

#[test]
fn one_unreadable_answer_does_not_change_why_the_gate_is_shut() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs_f64(seconds);
    let options = AdmissionOptions { failures: 1, unreadable_answers: 2, down_seconds: 10.0, ..unlimited(8) };
    let mut gate = gate(options, start);
    let table = [
        (CallOutcome::Failed, Shut::Down),
        (CallOutcome::Unreadable, Shut::Down),
        (CallOutcome::Unreadable, Shut::Unreadable),
    ];
    for (n, (outcome, expected)) in table.into_iter().enumerate() {
        let now = at(n as f64 * 1_000.0);
        gate.ask(ask("a", 1, 1), now);
        let Next::Go(ticket) = gate.next(now) else { panic!("{n}") };
        gate.end(ticket, &outcome, now);
        assert_eq!(gate.shut(now).map(|(why, _)| why), Some(expected), "{n}");
    }
}

/// Checks that concurrent failures are counted once. Sixteen concurrent calls fail at nearly the same time, and the
/// gate counts only one failure of the endpoint.
#[test]
fn calls_that_end_together_strike_once() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs_f64(seconds);
    for (outcome, most) in
        [(CallOutcome::Failed, 10.0), (CallOutcome::QuotaSpent, 60.0), (CallOutcome::Throttled(None, None), 1.0)]
    {
        let mut gate = gate(unlimited(16), start);
        (0..17).for_each(|_| _ = gate.ask(ask("a", 1, 1), start));
        let tickets: Vec<Ticket> =
            (0..16).map(|_| if let Next::Go(t) = gate.next(start) { t } else { panic!() }).collect();
        for (n, ticket) in tickets.into_iter().enumerate() {
            gate.end(ticket, &outcome, at(0.001 * n as f64));
        }
        let Next::Wait(until) = gate.next(at(0.1)) else { panic!("{outcome:?}") };
        assert!((until - start).as_secs_f64() <= most + 0.1, "{outcome:?}: {:?}", until - start);
    }
}

#[test]
fn who_gives_up_owes_nothing() {
    let now = Instant::now();
    let mut gate = gate(unlimited(1), now);
    let held = gate.ask(ask("other", 1, 10), now).0;
    assert_eq!(gate.next(now), Next::Go(held));
    for _ in 0..100 {
        let (ticket, _) = gate.ask(ask("impatient", 1, 1_000_000), now);
        gate.leave(ticket);
    }
    let (impatient, _) = gate.ask(ask("impatient", 1, 10), now);
    gate.ask(ask("other", 1, 10), now);
    gate.end(held, &DONE, now);
    assert_eq!(gate.next(now), Next::Go(impatient));
}

#[test]
fn an_account_without_money_is_shut_at_once() {
    let start = Instant::now();
    let mut gate = gate(unlimited(8), start);
    let (ticket, _) = gate.ask(ask("a", 1, 1), start);
    assert_eq!(gate.next(start), Next::Go(ticket));
    gate.end(ticket, &CallOutcome::QuotaSpent, start);
    let (why, left) = gate.shut(start).unwrap();
    assert!(why == Shut::QuotaSpent && left > Duration::from_secs(44), "{left:?}");
}

#[test]
fn a_report_counts_less_what_it_may_not_have_seen() {
    let now = Instant::now();
    let mut gate = gate(AdmissionOptions { requests_per_minute: 0, burst_seconds: 60.0, ..Default::default() }, now);
    let tickets: Vec<Ticket> = (0..3).map(|_| gate.ask(ask("a", 1, 1_000), now).0).collect();
    for ticket in &tickets {
        assert_eq!(gate.next(now), Next::Go(*ticket));
    }
    let report = |left| CallOutcome::Answered(Some(Observed { tokens_left: Some(left), ..Observed::default() }));
    let left = |gate: &Gate| gate.status(now).tokens.unwrap().left;
    // The second call answers first. Its report may or may not include the first and the third call.
    gate.end(tickets[1], &report(500_000.0), now);
    assert_eq!(left(&gate), 498_000.0);
    // The report of the first call may be older than that of the second.
    gate.end(tickets[0], &report(501_000.0), now);
    assert_eq!(left(&gate), 499_000.0);
    gate.end(tickets[2], &report(499_000.0), now);
    assert_eq!(left(&gate), 499_000.0);
}

#[test]
fn the_first_call_goes_at_once_and_alone() {
    let start = Instant::now();
    let mut gate = gate(AdmissionOptions { tokens_per_minute: 60_000, ..AdmissionOptions::default() }, start);
    gate.answered = false;
    let (first, _) = gate.ask(ask("a", 1, 30_000), start);
    let (second, _) = gate.ask(ask("a", 1, 1_000), start);
    assert_eq!(gate.next(start), Next::Go(first));
    assert_eq!(gate.next(start), Next::Idle, "alone, until it is known how much is allowed");
    let left = Observed { tokens_left: Some(30_000.0), ..Observed::default() };
    gate.end(first, &CallOutcome::Answered(Some(left)), start);
    assert_eq!(gate.next(start), Next::Go(second));
}

#[test]
fn the_status_tells_who_waits_and_how_long() {
    let start = Instant::now();
    let mut gate = gate(unlimited(1), start);
    gate.ask(ask("papers", 1, 1), start);
    assert!(matches!(gate.next(start), Next::Go(_)));
    gate.ask(ask("papers", 1, 1), start);
    gate.ask(ask("receipts", 1, 1), start + Duration::from_secs(2));
    let status = gate.status(start + Duration::from_secs(5));
    let expected = [("papers".into(), (1, Duration::from_secs(5))), ("receipts".into(), (1, Duration::from_secs(3)))];
    assert_eq!((status.running, status.waiting), (1, BTreeMap::from(expected)));
    assert_eq!((status.tokens, status.shut), (None, None));
}
