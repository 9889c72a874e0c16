//! Calls paid external services within their rate limits and the budget.
//!
//! - [`account`] reserves money before a call and settles it afterwards, within a budget;
//! - [`batched`] embeds texts through batches;
//! - [`prices`] holds the prices of the services;
//! - [`secrets`] reads the secrets that the configuration names;
//! - [`comprehend`] calls Amazon Comprehend, which analyses texts;
//! - [`openai`] calls endpoints with OpenAI's protocol.

pub mod account;
pub mod batched;
pub mod comprehend;
pub mod openai;
pub mod prices;
pub mod secrets;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
