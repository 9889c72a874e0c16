//! Implements `docweir cost`, which reports the money spent, grouped by a key.

use docweir_core::clock::timestamp;
use docweir_core::money::Nanodollars;
use docweir_stores::ledger::{Amount, CostLine, GroupBy};
use serde::Serialize;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Duration};

use super::args::{self, CostBy};
use super::context::Context;
use super::output::{count, printable};
use super::table::{Paint, Table, left, right};
use crate::engine::Engine;
use crate::exit::{Exit, Failure};

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

/// Describes the costs of one group as a line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    by: &'static str,
    name: &'a str,
    calls: u64,
    tokens: u64,
    usd: f64,
    reserved_usd: f64,
    in_doubt_usd: f64,
    in_doubt_calls: u64,
}

pub fn run(context: &Context, args: &args::Cost) -> Result<Exit, Failure> {
    context.block_on(async {
        let engine = Engine::open_to_read(context.config()?).await?;
        let now = timestamp(engine.clock.now());
        let since = since(args.since.as_deref(), now.get(..10).unwrap_or_default())?;
        let (by, name) = by(args.by);
        // No call was ever charged if there is no ledger.
        let lines = match engine.has_ledger() {
            true => engine.ledger()?.report(by, &since, args.top).await.map_err(|e| Failure::system(e.to_string()))?,
            false => Vec::new(),
        };
        if args.json {
            lines.iter().for_each(|line| context.out.json(&row(name, line)));
            return Ok(Exit::Success);
        }
        if lines.is_empty() {
            let when = if since.is_empty() { String::new() } else { format!(" since {since}") };
            context.out.line(format!("Nothing was spent{when}"));
            return Ok(Exit::Success);
        }
        table(name, &lines, lines.len() < args.top).print(&context.out);
        let doubt: Nanodollars = lines.iter().map(|l| l.in_doubt.cost).sum();
        if doubt > Nanodollars::ZERO {
            context.out.line("");
            context.out.line(format!(
                "{doubt} in doubt: answers to calls were lost, so only the provider knows whether it charged the calls"
            ));
        }
        Ok(Exit::Success)
    })
}

fn by(by: CostBy) -> (GroupBy, &'static str) {
    match by {
        CostBy::Day => (GroupBy::Day, "day"),
        CostBy::Run => (GroupBy::Run, "run"),
        CostBy::Mode => (GroupBy::Mode, "mode"),
        CostBy::Stage => (GroupBy::Stage, "stage"),
        CostBy::Model => (GroupBy::Model, "model"),
        CostBy::Collection => (GroupBy::Collection, "collection"),
        CostBy::Document => (GroupBy::Subject, "document"),
    }
}

/// Parses `--since`, which is a day (`2026-11-01`) or a number of days before today (`7d`). Without `--since`, the
/// report includes all days.
fn since(text: Option<&str>, today: &str) -> Result<String, Failure> {
    let Some(text) = text else { return Ok(String::new()) };
    let wrong =
        || Failure::usage(format!("--since `{}`: write a day (2026-11-01) or a number of days (7d)", printable(text)));
    if let Some(days) = text.strip_suffix('d') {
        let days: i64 = days.parse().ok().filter(|d| (0..=36_500).contains(d)).ok_or_else(wrong)?;
        let today = Date::parse(today, DAY).map_err(|_| wrong())?;
        let day = today.checked_sub(Duration::days(days)).ok_or_else(wrong)?;
        return day.format(DAY).map_err(|_| wrong());
    }
    Date::parse(text, DAY).map(|_| text.to_owned()).map_err(|_| wrong())
}

fn row<'a>(by: &'static str, line: &'a CostLine) -> Row<'a> {
    Row {
        by,
        name: &line.name,
        calls: line.settled.calls,
        tokens: line.settled.tokens,
        usd: line.settled.cost.usd(),
        reserved_usd: line.reserved.cost.usd(),
        in_doubt_usd: line.in_doubt.cost.usd(),
        in_doubt_calls: line.in_doubt.calls,
    }
}

/// Builds the table of costs. The column "reserved" appears only if costs are reserved. The column "in doubt" appears
/// only if calls are in doubt.
fn table(by: &'static str, lines: &[CostLine], all: bool) -> Table {
    let sum = |of: fn(&CostLine) -> Amount| {
        lines.iter().map(of).fold(Amount::default(), |sum, a| Amount {
            calls: sum.calls + a.calls,
            tokens: sum.tokens + a.tokens,
            cost: sum.cost + a.cost,
        })
    };
    let (settled, reserved, doubt) = (sum(|l| l.settled), sum(|l| l.reserved), sum(|l| l.in_doubt));
    let mut head = vec![by, "calls", "tokens", "cost"];
    let (open, unsure) = (reserved.calls > 0, doubt.calls > 0);
    head.extend(open.then_some("reserved"));
    head.extend(unsure.then_some("in doubt"));
    let mut table = Table::new().head(&head);
    let mut row = |name: &str, settled: Amount, reserved: Amount, doubt: Amount, paint: Paint| {
        let mut cells = vec![
            left(printable(name)).painted(paint),
            right(count(settled.calls)),
            right(count(settled.tokens)),
            right(settled.cost.to_string()),
        ];
        cells.extend(open.then(|| right(reserved.cost.to_string())));
        cells.extend(unsure.then(|| right(doubt.cost.to_string()).painted(Paint::Yellow)));
        table.row(cells);
    };
    for line in lines {
        row(&line.name, line.settled, line.reserved, line.in_doubt, Paint::Plain);
    }
    if lines.len() > 1 {
        row(if all { "total" } else { "of these" }, settled, reserved, doubt, Paint::Dim);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named_or_counted() {
        let of = |text: &str| since(Some(text), "2026-11-22").map_err(|f| f.exit);
        assert_eq!(since(None, "2026-11-22").unwrap(), "");
        assert_eq!(
            (of("2026-11-01"), of("7d"), of("0d")),
            (Ok("2026-11-01".into()), Ok("2026-11-15".into()), Ok("2026-11-22".into()))
        );
        for wrong in ["yesterday", "2026-13-01", "2026-11-1", "-1d", "99999d", "d", ""] {
            assert_eq!(of(wrong), Err(Exit::Usage), "{wrong}");
        }
    }
}
