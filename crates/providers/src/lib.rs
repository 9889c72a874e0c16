//! Services that are paid for and shared with others: what is asked of them, how much at a time, and what it costs.
//!
//! - [`account`] the money: set aside before a call, settled after it, within a budget;
//! - [`batched`] an embedder whose texts go by batches;
//! - [`prices`] what is charged;
//! - [`secrets`] keys that open doors: named in the configuration, read where they are kept;
//! - [`comprehend`] Amazon Comprehend, which looks into texts;
//! - [`openai`] any endpoint that speaks OpenAI's protocol.

pub mod account;
pub mod batched;
pub mod comprehend;
pub mod openai;
pub mod prices;
pub mod secrets;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
