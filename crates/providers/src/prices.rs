//! Configures the prices of providers.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Sets the price of a model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Price {
    /// Price of live calls, in US dollars per million tokens.
    pub live: f64,
    /// Price of calls through the Batch API, in US dollars per million tokens.
    pub batch: f64,
}

/// Sets the prices from which costs are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PriceOptions {
    /// Month in which the prices were looked up. The value is a note and has no effect.
    pub as_of: String,
    /// Sets the price of the model text-embedding-3-small.
    pub text_embedding_3_small: Price,
    /// Sets the price of the model text-embedding-3-large.
    pub text_embedding_3_large: Price,
    /// Sets the price of every other model.
    pub other: Price,
    /// Price of Amazon Comprehend, in US dollars per unit. A unit is a hundred characters, and each text is charged
    /// for at least three units.
    pub comprehend_unit: f64,
}

impl Default for Price {
    fn default() -> Self {
        Self { live: 0.0, batch: 0.0 }
    }
}

impl Default for PriceOptions {
    fn default() -> Self {
        Self {
            as_of: "2026-11".into(),
            text_embedding_3_small: Price { live: 0.02, batch: 0.01 },
            text_embedding_3_large: Price { live: 0.13, batch: 0.065 },
            other: Price::default(),
            comprehend_unit: 0.0001,
        }
    }
}

impl PriceOptions {
    pub fn of(&self, model: &str) -> Price {
        match model {
            "text-embedding-3-small" => self.text_embedding_3_small,
            "text-embedding-3-large" => self.text_embedding_3_large,
            _ => self.other,
        }
    }

    /// Returns each field that is out of range, with the reason.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("text_embedding_3_small.live", self.text_embedding_3_small.live),
            ("text_embedding_3_small.batch", self.text_embedding_3_small.batch),
            ("text_embedding_3_large.live", self.text_embedding_3_large.live),
            ("text_embedding_3_large.batch", self.text_embedding_3_large.batch),
            ("other.live", self.other.live),
            ("other.batch", self.other.batch),
            ("comprehend_unit", self.comprehend_unit),
        ];
        all.into_iter().filter_map(|(field, usd)| out_of_range(field, usd, 0.0, 1e6)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_has_its_price() {
        let prices = PriceOptions::default();
        assert_eq!(prices.problems(), []);
        assert_eq!(prices.of("text-embedding-3-large"), Price { live: 0.13, batch: 0.065 });
        assert_eq!(prices.of("bge-m3"), Price::default());
        let wrong = PriceOptions { other: Price { live: -1.0, batch: f64::NAN }, ..PriceOptions::default() };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["other.live", "other.batch"]);
    }
}
