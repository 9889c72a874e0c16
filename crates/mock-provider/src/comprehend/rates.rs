//! Limits the requests per second of each operation.

use std::collections::HashMap;
use std::time::Duration;

/// Holds a budget of requests for each operation. Unused budget is saved up to the budget of one second.
pub struct CallRates {
    per_second: Option<f64>,
    left: HashMap<&'static str, (f64, Duration)>,
}

impl CallRates {
    pub fn new(per_second: Option<f64>) -> Self {
        Self { per_second, left: HashMap::new() }
    }

    pub fn takes(&mut self, operation: &'static str, now: Duration) -> bool {
        let Some(per_second) = self.per_second else { return true };
        let most = per_second.max(1.0);
        let (left, since) = self.left.entry(operation).or_insert((most, now));
        *left = (*left + now.saturating_sub(*since).as_secs_f64() * per_second).min(most);
        *since = now;
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_own_budget() {
        let mut rates = CallRates::new(Some(2.0));
        let at = Duration::from_millis;
        let drawn =
            [rates.takes("a", at(0)), rates.takes("a", at(0)), rates.takes("a", at(0)), rates.takes("b", at(0))];
        assert_eq!(drawn, [true, true, false, true]);
        assert!(!rates.takes("a", at(400)) && rates.takes("a", at(500)) && !rates.takes("a", at(600)));
        assert!((0..100).all(|_| CallRates::new(None).takes("a", at(0))));
    }
}
