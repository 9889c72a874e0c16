//! Services that are paid for and shared with others: what is asked of them, how much at a time, and what it costs.
//!
//! - [`admission`] how much may be asked, by whom, and when;
//! - [`openai`] any endpoint that speaks OpenAI's protocol.

pub mod admission;
pub mod openai;
