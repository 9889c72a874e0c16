//! Services that are paid for and shared with others: what is asked of them, how much at a time, and what it costs.
//!
//! - [`account`] the money: set aside before a call, settled after it, within a budget;
//! - [`admission`] how much may be asked, by whom, and when;
//! - [`prices`] what is charged;
//! - [`comprehend`] Amazon Comprehend, which looks into texts;
//! - [`openai`] any endpoint that speaks OpenAI's protocol.

pub mod account;
pub mod admission;
pub mod comprehend;
pub mod openai;
pub mod prices;
