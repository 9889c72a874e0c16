//! Uses rules to find the kinds of figures that business reports contain: money, percentages, quarters, years and
//! financial metrics.

use super::matches::{Match, Pattern, best_disjoint, stands_alone};

static MONEY: Pattern = Pattern::new(
    r"(?i)(?:US\$|C\$|A\$|[$€£¥₹₩]|\b(?:USD|EUR|GBP|CHF|JPY|CNY|CAD|AUD|INR)\b)\s?\(?\d{1,3}(?:[\d.,' ]{0,20}\d)?\)?(?:\s?(?:thousand|million|billion|trillion|mio|mrd|bn|mn|tn|[mkb])\b)?|\d(?:[\d.,']{0,20}\d)?\s?(?:(?:thousand|million|billion|trillion|mio|mrd|bn|mn)\.?\s)?(?:€|£|(?:USD|EUR|GBP|CHF|JPY|dollars?|euros?|pounds sterling|yen)\b)",
);
static PERCENT: Pattern = Pattern::new(
    r"(?i)[-+−–]?\d{1,12}(?:[.,]\d{1,12})?\s?(?:%|‰|percent\b|per cent\b|percentage points?\b|basis points?\b|bps\b)",
);
static QUARTER: Pattern = Pattern::new(
    r"(?i)\bQ[1-4](?:[\s'/-]{0,2}(?:FY\s?)?(?:20|19)?\d{2}\b)?|\b[1-4]Q(?:[\s'/-]{0,2}(?:20|19)?\d{2})?\b|\b(?:first|second|third|fourth|1st|2nd|3rd|4th) (?:fiscal )?quarters?(?: of (?:fiscal )?(?:year )?(?:20|19)\d{2})?\b",
);
static YEAR: Pattern = Pattern::new(
    r"(?i)\b(?:(?:FY|fiscal(?: year)?) ?'?(?:(?:19|20)\d{2}|\d{2})|(?:19|20)\d{2}(?:[-–/](?:19|20)?\d{2})?)\b",
);
static METRIC: Pattern = Pattern::new(
    r"(?i)\b(?:(?:adjusted|diluted|basic|gross|net|operating|total|recurring|annual recurring|free|pre-?tax) )?(?:revenues?|net sales|EBITDAR?|EBITA?|net income|net loss|net earnings|gross profit|gross margin|operating income|operating profit|operating margin|profit margin|operating expenses|cash flows?|capex|capital expenditures?|earnings per share|EPS|return on (?:equity|assets|invested capital)|ROE|ROA|ROIC|ROI|working capital|total assets|total liabilities|shareholders['’]? equity|stockholders['’]? equity|market capitali[sz]ation|dividends? per share|book value|goodwill|net debt|ARR|MRR|cost of (?:goods sold|sales|revenue)|COGS|SG&A)\b",
);

#[cfg(test)]
const PATTERNS: [&Pattern; 5] = [&MONEY, &PERCENT, &QUARTER, &YEAR, &METRIC];

/// Returns the patterns of `text`, sorted and disjoint.
pub fn find(text: &str) -> Vec<Match> {
    let mut out: Vec<Match> = Vec::new();
    let tidy = |r: std::ops::Range<usize>| {
        let slice = text.get(r.clone()).unwrap_or_default();
        let unopened = slice.ends_with(')') && !slice.contains('(');
        r.start..r.end - usize::from(unopened)
    };
    out.extend(MONEY.find_all(text).map(|r| Match::new("MONEY", tidy(r), 0.95)));
    out.extend(PERCENT.find_all(text).map(|r| Match::new("PERCENTAGE", r, 0.95)));
    out.extend(QUARTER.find_all(text).map(|r| Match::new("QUARTER", r, 0.9)));
    // Four digits are a year only if they are not part of an amount or of a longer number.
    out.extend(YEAR.find_all(text).filter(|r| stands_alone(text, r)).map(|r| Match::new("YEAR", r, 0.8)));
    out.extend(METRIC.find_all(text).map(|r| Match::new("FINANCIAL_METRIC", r, 0.9)));
    best_disjoint(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert!(PATTERNS.iter().all(|p| p.is_valid()));
    }

    #[test]
    fn figures_are_found_as_a_whole() {
        let text = "Revenue rose 12.5% to $1,234.5 million in Q3 2024 (2023: €980 million); adjusted EBITDA was 310 million USD. Diluted EPS fell 20 basis points in the fourth quarter of 2022, FY25.";
        let got: Vec<_> = find(text).into_iter().map(|m| (m.kind, &text[m.range])).collect();
        let want = [
            ("FINANCIAL_METRIC", "Revenue"),
            ("PERCENTAGE", "12.5%"),
            ("MONEY", "$1,234.5 million"),
            ("QUARTER", "Q3 2024"),
            ("YEAR", "2023"),
            ("MONEY", "€980 million"),
            ("FINANCIAL_METRIC", "adjusted EBITDA"),
            ("MONEY", "310 million USD"),
            ("FINANCIAL_METRIC", "Diluted EPS"),
            ("PERCENTAGE", "20 basis points"),
            ("QUARTER", "fourth quarter of 2022"),
            ("YEAR", "FY25"),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in ["item 2,012 of 12.2015", "room 20215", "eq. (3)", "a12%b", "Q5 and quarterback", "x1999y"] {
            let got = find(text);
            assert!(got.iter().all(|m| m.kind == "PERCENTAGE" && text.contains('%')), "{text}: {got:?}");
        }
    }
}
