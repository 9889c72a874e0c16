//! Selects the items of a batch or of a live call, the oldest first.

use docweir_core::money::Nanodollars;

use crate::batches::Order;
use crate::ledger::{Mode, Spend};

/// Selects items for a batch one after another, within all limits of the [`Order`].
pub struct Selection {
    most_requests: u64,
    most_bytes: u64,
    most_tokens: u64,
    affordable: u64,
    pub items: u64,
    pub bytes: u64,
    pub tokens: u64,
}

/// Reports whether an item fits into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Taken,
    /// The item no longer fits, so the batch is complete.
    Complete,
    /// The item does not even fit into an empty batch.
    Full,
}

impl Selection {
    /// Begins an empty selection. `room` is the amount of money that the budget still allows; `None` means no limit.
    pub fn new(order: &Order, room: Option<Nanodollars>) -> Self {
        Self {
            most_requests: order.most_requests as u64,
            most_bytes: order.most_bytes,
            most_tokens: order.most_tokens,
            affordable: room.map_or(u64::MAX, |room| room.tokens_at(order.usd_per_million_tokens)),
            items: 0,
            bytes: 0,
            tokens: 0,
        }
    }

    /// Returns whether the batch has its maximum number of requests.
    pub fn is_complete(&self) -> bool {
        self.items >= self.most_requests
    }

    /// Offers the next item, given the size of its line in bytes and its number of tokens. The budget does not limit
    /// the first item. If the first item alone exceeds the budget, the later reservation of the money fails.
    pub fn offer(&mut self, bytes: u64, tokens: u64) -> Offer {
        let over = self.bytes + bytes > self.most_bytes || self.tokens + tokens > self.most_tokens;
        match self.items {
            0 if over => return Offer::Full,
            0 => {}
            _ if over || self.tokens + tokens > self.affordable || self.is_complete() => return Offer::Complete,
            _ => {}
        }
        (self.items, self.bytes, self.tokens) = (self.items + 1, self.bytes + bytes, self.tokens + tokens);
        Offer::Taken
    }
}

/// Selects records for a live call. The first record is always selected, and further records as long as the limits
/// allow.
pub struct LiveSelection {
    most_tokens: u64,
    most_bytes: usize,
    items: u64,
    tokens: u64,
    bytes: usize,
}

impl LiveSelection {
    pub fn new(most_tokens: u64, most_bytes: usize) -> Self {
        Self { most_tokens, most_bytes, items: 0, tokens: 0, bytes: 0 }
    }

    /// Returns whether the next record is selected. The caller must stop after the first record that is not selected.
    pub fn offer(&mut self, tokens: u64, bytes: usize) -> bool {
        (self.tokens, self.bytes) = (self.tokens + tokens, self.bytes + bytes);
        let fits = self.items == 0 || (self.tokens <= self.most_tokens && self.bytes <= self.most_bytes);
        self.items += u64::from(fits);
        fits
    }
}

/// Returns the expense to reserve for a batch of `tokens` tokens.
pub fn spend(order: &Order, tokens: u64) -> Spend {
    let cost = Nanodollars::of_tokens(tokens, order.usd_per_million_tokens);
    Spend { mode: Mode::Batch, subject: order.id.clone(), tokens, cost, ..order.spend.clone() }
}
