//! Reports spending from the daily sums, or from the single entries if the report is grouped by document.

use std::collections::BTreeMap;

use docweir_aws::Fault;
use docweir_aws::dynamo::{Dynamo, Expression, Item, Query};
use docweir_stores::ledger::rules::{Group, State};
use docweir_stores::ledger::{Amount, CostLine, GroupBy};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{SHARDS, items};

/// Maximum number of concurrent queries.
const AT_ONCE: usize = 16;

pub struct Report<'a> {
    pub dynamo: &'a Dynamo,
    pub table: &'a str,
    pub now_seconds: i64,
}

impl Report<'_> {
    /// Selects the `limit` lines with the highest cost, and returns the selected lines sorted by name.
    pub async fn lines(&self, by: GroupBy, since: &str, limit: usize) -> Result<Vec<CostLine>, Fault> {
        let days = self.days(since).await?;
        let lines = match by {
            GroupBy::Subject => self.by_subject(&days).await?,
            _ => self.by_group(by, &days).await?,
        };
        let mut lines: Vec<CostLine> = lines.into_values().collect();
        let cost = |line: &CostLine| line.settled.cost + line.reserved.cost + line.in_doubt.cost;
        lines.sort_by(|a, b| cost(b).cmp(&cost(a)).then_with(|| a.name.cmp(&b.name)));
        lines.truncate(limit);
        lines.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(lines)
    }

    /// Returns the days with spending, beginning at `since`.
    async fn days(&self, since: &str) -> Result<Vec<String>, Fault> {
        let key = match since {
            "" => Expression::new("pk = :pk"),
            since => Expression::new("pk = :pk AND sk >= :since").string(":since", since),
        };
        let days = self.all(key.string(":pk", items::DAYS), |item| Some(items::text(&item, "sk").to_owned()));
        days.await
    }

    async fn by_group(&self, by: GroupBy, days: &[String]) -> Result<BTreeMap<String, CostLine>, Fault> {
        let queries: Vec<_> = days
            .iter()
            .map(|day| Expression::new("pk = :pk").string(":pk", items::sums(day)))
            .map(|key| self.all(key, |item| items::sums_of(&item)))
            .collect();
        let mut sums = stream::iter(queries).buffered(AT_ONCE);
        let mut lines = BTreeMap::new();
        while let Some(found) = sums.try_next().await? {
            for (group, [settled, reserved, in_doubt]) in found {
                let line = line(&mut lines, name(by, &group));
                for (sum, more) in
                    [(&mut line.settled, settled), (&mut line.reserved, reserved), (&mut line.in_doubt, in_doubt)]
                {
                    add(sum, more);
                }
            }
        }
        Ok(lines)
    }

    async fn by_subject(&self, days: &[String]) -> Result<BTreeMap<String, CostLine>, Fault> {
        let now = self.now_seconds;
        let mut queries = Vec::new();
        for day in days {
            for shard in 0..SHARDS {
                let key = Expression::new("pk = :pk").string(":pk", items::entries(day, shard));
                queries.push(self.all(key, move |item| {
                    let over = item.contains_key(items::FORGET_AT) && items::integer(&item, items::FORGET_AT) <= now;
                    items::entry(&item).filter(|_| !over)
                }));
            }
        }
        let mut entries = stream::iter(queries).buffered(AT_ONCE);
        let mut lines = BTreeMap::new();
        while let Some(found) = entries.try_next().await? {
            for entry in found {
                let line = line(&mut lines, entry.subject);
                let sum = match entry.state {
                    State::Settled => &mut line.settled,
                    State::Reserved => &mut line.reserved,
                    State::InDoubt => &mut line.in_doubt,
                    State::Void => continue,
                };
                add(sum, Amount { calls: 1, ..entry.amount });
            }
        }
        lines.retain(|_, line: &mut CostLine| line.settled.calls + line.reserved.calls + line.in_doubt.calls > 0);
        Ok(lines)
    }

    async fn all<T>(&self, key: Expression, of: impl Fn(Item) -> Option<T>) -> Result<Vec<T>, Fault> {
        let mut query = Query { table: self.table.to_owned(), key, consistent: true, ..Query::default() };
        let mut found = Vec::new();
        loop {
            let page = self.dynamo.query(&query).await?;
            found.extend(page.items.into_iter().filter_map(&of));
            query.start = page.next;
            if query.start.is_none() {
                return Ok(found);
            }
        }
    }
}

fn name(by: GroupBy, group: &Group) -> String {
    match by {
        GroupBy::Day => &group.day,
        GroupBy::Run => &group.run,
        GroupBy::Mode => &group.mode,
        GroupBy::Stage => &group.stage,
        GroupBy::Model => &group.model,
        GroupBy::Collection | GroupBy::Subject => &group.collection,
    }
    .clone()
}

fn line(lines: &mut BTreeMap<String, CostLine>, name: String) -> &mut CostLine {
    lines.entry(name.clone()).or_insert_with(|| CostLine { name, ..CostLine::default() })
}

fn add(sum: &mut Amount, more: Amount) {
    sum.calls += more.calls;
    sum.tokens += more.tokens;
    sum.cost += more.cost;
}
