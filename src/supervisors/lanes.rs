//! Orders waiting jobs: urgent jobs run before normal jobs, and within a lane the tenants get fair shares.
//!
//! The order within a lane follows start-time fair queueing. Every job gets a virtual start time. This is the later
//! of two times: the time of the lane's clock, and the virtual end of the tenant's previous job. The job with the
//! smallest start time runs first. A tenant without waiting jobs gathers no credit. A tenant with weight 2 runs twice
//! as many jobs as a tenant with weight 1. The jobs of a single tenant run in order of arrival.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

/// Selects the lane in which a job waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    Urgent,
    #[default]
    Normal,
}

/// Virtual duration of one job of a tenant with weight 1.
const TURN: u64 = 1 << 20;

/// Holds the waiting jobs of a pool, in an urgent and a normal lane.
#[derive(Debug)]
pub struct Lanes<T> {
    urgent: FairQueue<T>,
    normal: FairQueue<T>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { urgent: FairQueue::default(), normal: FairQueue::default() }
    }
}

impl<T> Lanes<T> {
    pub fn push(&mut self, lane: Lane, tenant: Arc<str>, weight: u32, item: T) {
        match lane {
            Lane::Urgent => self.urgent.push(tenant, weight, item),
            Lane::Normal => self.normal.push(tenant, weight, item),
        }
    }

    pub fn pop(&mut self) -> Option<T> {
        self.urgent.pop().or_else(|| self.normal.pop())
    }

    pub fn len(&self) -> usize {
        self.urgent.len() + self.normal.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn urgent_len(&self) -> usize {
        self.urgent.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.urgent.heap.iter().chain(self.normal.heap.iter()).map(|entry| &entry.0.item)
    }
}

#[derive(Debug)]
struct FairQueue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    last_finish: HashMap<Arc<str>, u64>,
    clock: u64,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry<T> {
    start: u64,
    arrival: u64,
    item: T,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), last_finish: HashMap::new(), clock: 0, arrivals: 0 }
    }
}

impl<T> FairQueue<T> {
    fn push(&mut self, tenant: Arc<str>, weight: u32, item: T) {
        let last = self.last_finish.get(&tenant).copied().unwrap_or_default();
        let start = last.max(self.clock);
        self.last_finish.insert(tenant, start + TURN / u64::from(weight.max(1)));
        self.arrivals += 1;
        self.heap.push(Reverse(Entry { start, arrival: self.arrivals, item }));
    }

    fn pop(&mut self) -> Option<T> {
        let Reverse(entry) = self.heap.pop()?;
        self.clock = entry.start;
        if self.heap.is_empty() {
            // No job waits, so no tenant has a claim to run earlier than others. The tenants are forgotten, because
            // there may be many.
            self.last_finish.clear();
            self.clock = 0;
        }
        Some(entry.item)
    }

    fn len(&self) -> usize {
        self.heap.len()
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.arrival) == (other.start, other.arrival)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.start, self.arrival).cmp(&(other.start, other.arrival))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain<T>(lanes: &mut Lanes<T>) -> Vec<T> {
        std::iter::from_fn(|| lanes.pop()).collect()
    }

    #[test]
    fn one_tenant_is_first_in_first_out_and_urgent_overtakes() {
        let mut lanes = Lanes::default();
        for i in 0..4 {
            lanes.push(Lane::Normal, "a".into(), 1, i);
        }
        lanes.push(Lane::Urgent, "a".into(), 1, 9);
        assert_eq!((lanes.len(), lanes.urgent_len()), (5, 1));
        assert_eq!(drain(&mut lanes), [9, 0, 1, 2, 3]);
    }

    #[test]
    fn weights_are_shares() {
        let mut lanes = Lanes::default();
        for _ in 0..30 {
            lanes.push(Lane::Normal, "heavy".into(), 2, 'h');
        }
        for _ in 0..30 {
            lanes.push(Lane::Normal, "light".into(), 1, 'l');
        }
        let order = drain(&mut lanes);
        let heavy = order.iter().take(30).filter(|c| **c == 'h').count();
        assert_eq!(heavy, 20, "two heavy jobs run for each light job while both tenants wait");
    }

    #[test]
    fn a_tenant_that_comes_late_does_not_wait_behind_a_long_queue_nor_gets_turns_saved_up() {
        let mut lanes = Lanes::default();
        for _ in 0..100 {
            lanes.push(Lane::Normal, "many".into(), 1, 'm');
        }
        for _ in 0..50 {
            lanes.pop();
        }
        for _ in 0..10 {
            lanes.push(Lane::Normal, "late".into(), 1, 'l');
        }
        let order: String = drain(&mut lanes).into_iter().take(20).collect();
        let late = order.chars().filter(|c| *c == 'l').count();
        assert!((9..=10).contains(&late), "both tenants alternate: {order}");
        assert!(!order.starts_with("llll"), "{order}");
    }
}
